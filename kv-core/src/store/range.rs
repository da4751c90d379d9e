//! Ranges of keys.

use std::ops::Bound;

/// A range of keys, by its two ends.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct KeyRange<'a> {
    /// Where it begins.
    pub start: Bound<&'a [u8]>,
    /// Where it ends.
    pub end: Bound<&'a [u8]>,
}

impl<'a> KeyRange<'a> {
    /// Every key.
    pub const ALL: KeyRange<'static> = KeyRange { start: Bound::Unbounded, end: Bound::Unbounded };

    /// `start` and everything up to, but not including, `end`.
    #[must_use]
    pub const fn half_open(start: &'a [u8], end: &'a [u8]) -> Self {
        Self { start: Bound::Included(start), end: Bound::Excluded(end) }
    }

    /// `start` and everything after it.
    #[must_use]
    pub const fn from(start: &'a [u8]) -> Self {
        Self { start: Bound::Included(start), end: Bound::Unbounded }
    }

    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        (match self.start {
            Bound::Included(start) => start <= key,
            Bound::Excluded(start) => start < key,
            Bound::Unbounded => true,
        }) && (match self.end {
            Bound::Included(end) => key <= end,
            Bound::Excluded(end) => key < end,
            Bound::Unbounded => true,
        })
    }

    /// Whether no key can lie in the range because its ends are the wrong way round or touch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match (self.start, self.end) {
            (Bound::Unbounded, Bound::Excluded(end)) => end.is_empty(),
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end))
            | (Bound::Excluded(start), Bound::Included(end)) => start >= end,
        }
    }
}

/// The first key after every key that starts with `prefix`, or `None` when there is none (the prefix is empty or all 0xff).
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_that_lacks_it() {
        assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(prefix_end(&[1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(prefix_end(&[0xff]), None);
        assert_eq!(prefix_end(b""), None);
    }

    #[test]
    fn empty_ranges_are_known_as_such() {
        assert!(KeyRange::half_open(b"b", b"a").is_empty());
        assert!(KeyRange::half_open(b"a", b"a").is_empty());
        assert!(!KeyRange::half_open(b"a", b"b").is_empty());
        assert!(!KeyRange::ALL.is_empty());
        assert!(KeyRange::half_open(b"a", b"c").contains(b"b"));
        assert!(!KeyRange::half_open(b"a", b"c").contains(b"c"));
    }
}
