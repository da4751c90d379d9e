//! Writes that were answered while a replica has yet to acknowledge them: how many there may be.

use std::collections::BTreeSet;

/// Their tags, the oldest first, and how many bytes they take.
#[derive(Debug)]
pub(super) struct Stragglers {
    tags: BTreeSet<u64>,
    bytes: usize,
    number_max: usize,
    bytes_max: usize,
}

impl Stragglers {
    pub(super) const fn new(number_max: usize, bytes_max: usize) -> Self {
        Self { tags: BTreeSet::new(), bytes: 0, number_max, bytes_max }
    }

    pub(super) fn len(&self) -> usize {
        self.tags.len()
    }

    pub(super) fn add(&mut self, tag: u64, bytes: usize) {
        if self.tags.insert(tag) {
            self.bytes += bytes;
        }
    }

    pub(super) fn remove(&mut self, tag: u64, bytes: usize) {
        if self.tags.remove(&tag) {
            self.bytes -= bytes;
        }
    }

    /// The oldest, when there are more than there may be.
    pub(super) fn over(&self) -> Option<u64> {
        let is_over = self.tags.len() > self.number_max || self.bytes > self.bytes_max;
        self.tags.first().copied().filter(|_| is_over && !sabotaged!(KeepStragglers))
    }

    /// Other bounds from now on.
    #[cfg(any(test, feature = "sim"))]
    pub(super) const fn bound(&mut self, number_max: usize, bytes_max: usize) {
        (self.number_max, self.bytes_max) = (number_max, bytes_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_there_are_too_many_or_too_large_ones() {
        let mut stragglers = Stragglers::new(2, 100);
        [(7, 10), (5, 20)].into_iter().for_each(|(tag, bytes)| stragglers.add(tag, bytes));
        assert_eq!(stragglers.over(), None);
        stragglers.add(9, 10);
        assert_eq!(stragglers.over(), Some(5));
        stragglers.remove(5, 20);
        stragglers.remove(5, 20);
        assert_eq!((stragglers.over(), stragglers.len(), stragglers.bytes), (None, 2, 20));
        stragglers.remove(7, 10);
        stragglers.add(10, 91);
        assert_eq!(stragglers.over(), Some(9), "a hundred and one bytes");
    }
}
