//! Runs of bytes at offsets: the unsynced part of a file.

use std::collections::BTreeMap;

/// Runs of bytes that neither touch nor overlap, by their offset.
#[derive(Clone, Default)]
pub(super) struct Extents {
    runs: BTreeMap<u64, Vec<u8>>,
    bytes: u64,
}

impl Extents {
    /// How many bytes there are.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Puts bytes at `offset`, over what is there. Appending to a run, the way of logs and tables, copies only the bytes.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        let tail = self.take_runs_between(offset, end);
        match self.runs.range_mut(..=offset).next_back() {
            Some((&start, run)) if start + run.len() as u64 >= offset => {
                let at = index(offset - start);
                let over = bytes.len().min(run.len() - at);
                run[at..at + over].copy_from_slice(&bytes[..over]);
                run.extend_from_slice(&bytes[over..]);
                run.extend_from_slice(&tail);
                self.bytes += (bytes.len() - over + tail.len()) as u64;
            }
            _ => {
                let mut run = bytes.to_vec();
                run.extend_from_slice(&tail);
                self.bytes += run.len() as u64;
                self.runs.insert(offset, run);
            }
        }
    }

    /// Takes out the runs that begin after `offset` and not after `end`; returns what of the last lies beyond `end`.
    fn take_runs_between(&mut self, offset: u64, end: u64) -> Vec<u8> {
        let mut tail = Vec::new();
        while let Some((&start, _)) = self.runs.range(offset + 1..=end).next() {
            let mut run = self.runs.remove(&start).expect("just found");
            self.bytes -= run.len() as u64;
            let covered = index(end - start);
            if covered < run.len() {
                tail = run.split_off(covered);
            }
        }
        tail
    }

    /// Drops what lies at or beyond `length`.
    pub(super) fn truncate(&mut self, length: u64) {
        let dropped = self.runs.split_off(&length);
        self.bytes -= dropped.values().map(|run| run.len() as u64).sum::<u64>();
        if let Some((&start, run)) = self.runs.range_mut(..length).next_back() {
            let before = run.len();
            run.truncate(index(length - start));
            self.bytes -= (before - run.len()) as u64;
        }
    }

    /// Copies what there is of `offset..` over `buffer`.
    pub(super) fn copy_over(&self, buffer: &mut [u8], offset: u64) {
        let end = offset + buffer.len() as u64;
        let first = self.runs.range(..=offset).next_back().map_or(offset, |(&start, _)| start);
        for (&start, run) in self.runs.range(first..end) {
            let from = start.max(offset);
            let to = (start + run.len() as u64).min(end);
            if from < to {
                let source = &run[index(from - start)..index(to - start)];
                buffer[index(from - offset)..index(to - offset)].copy_from_slice(source);
            }
        }
    }

    /// The runs in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.runs.iter().map(|(&start, run)| (start, run.as_slice()))
    }
}

fn index(distance: u64) -> usize {
    usize::try_from(distance).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn extents_agree_with_an_array(steps in prop::collection::vec((0_u64..200, 0_usize..60, any::<u8>()), 1..60)) {
            let mut extents = Extents::default();
            let mut array: Vec<Option<u8>> = vec![None; 300];
            for (at, count, byte) in steps {
                if byte % 5 == 0 {
                    extents.truncate(at);
                    array[usize::try_from(at).unwrap()..].fill(None);
                } else {
                    extents.write(&vec![byte; count], at);
                    let at = usize::try_from(at).unwrap();
                    array[at..at + count].fill(Some(byte));
                }
                let mut seen = [1_u8; 300];
                extents.copy_over(&mut seen, 0);
                for (seen, wanted) in seen.iter().zip(&array) {
                    prop_assert_eq!(*seen, wanted.unwrap_or(1));
                }
                let mut part = [1_u8; 70];
                extents.copy_over(&mut part, 90);
                prop_assert_eq!(&part[..], &seen[90..160]);
                prop_assert_eq!(extents.bytes(), array.iter().flatten().count() as u64);
                let mut before = None;
                for (start, run) in extents.iter() {
                    prop_assert!(!run.is_empty() && before.is_none_or(|end| end < start), "runs touch");
                    before = Some(start + run.len() as u64);
                }
            }
        }
    }
}
