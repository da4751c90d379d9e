//! What was written while somebody was validating, kept under the log's lock, so that the last look that a transaction takes
//! under that lock is at a few keys in memory and not at tables.

use kv_core::store::{Batch, Operation};

use super::read_set::ReadSet;

/// Beyond this the writes are forgotten, and who watches must validate once more.
const BYTES_MAX: usize = 1 << 20;
/// What an entry costs beside its keys.
const ENTRY_BYTES: usize = 64;

struct Written {
    sequence: u64,
    keyspace: u32,
    key: Box<[u8]>,
    /// For a deleted range.
    end: Option<Box<[u8]>>,
}

/// The keys that were written since the first of those who watch began to.
#[derive(Default)]
pub(crate) struct RecentWrites {
    watchers: usize,
    /// In the order of their numbers.
    written: Vec<Written>,
    bytes: usize,
    /// Writes up to this number may be missing.
    forgotten_through: u64,
}

impl RecentWrites {
    pub(crate) const fn watch(&mut self, visible: u64) {
        if self.watchers == 0 {
            self.forgotten_through = visible;
        }
        self.watchers += 1;
    }

    pub(crate) fn unwatch(&mut self) {
        self.watchers -= 1;
        if self.watchers == 0 {
            self.forget();
        }
    }

    #[cfg(test)]
    pub(crate) const fn is_watched(&self) -> bool {
        self.watchers > 0
    }

    fn forget(&mut self) {
        self.written = Vec::new();
        self.bytes = 0;
    }

    /// Notes a batch whose first operation has the number `first`.
    pub(crate) fn note(&mut self, batch: &Batch, first: u64) {
        if self.watchers == 0 {
            return;
        }
        for (sequence, operation) in (first..).zip(batch) {
            let (key, end) = match operation {
                Operation::Put { key, .. }
                | Operation::PutExpiring { key, .. }
                | Operation::Merge { key, .. }
                | Operation::Delete { key, .. } => (key, None),
                Operation::DeleteRange { start, end, .. } => (start, Some(end)),
            };
            self.bytes += ENTRY_BYTES + key.len() + end.map_or(0, <[u8]>::len);
            if self.bytes > BYTES_MAX {
                self.forget();
                self.forgotten_through = first + batch.len() as u64 - 1;
                return;
            }
            let keyspace = operation.space().0;
            self.written.push(Written { sequence, keyspace, key: key.into(), end: end.map(Into::into) });
        }
    }

    /// Whether everything that was written behind `sequence` is here.
    pub(crate) const fn reaches_back_to(&self, sequence: u64) -> bool {
        self.forgotten_through <= sequence
    }

    /// The keyspace in which something that was read has been written behind `sequence`.
    pub(crate) fn conflict(&self, reads: &ReadSet, sequence: u64) -> Option<u32> {
        let first = self.written.partition_point(|written| written.sequence <= sequence);
        let hit = self.written[first..].iter().find(|written| match &written.end {
            None => reads.holds_key(written.keyspace, &written.key),
            Some(end) => reads.holds_any(written.keyspace, &written.key, end),
        });
        hit.map(|written| written.keyspace)
    }
}

#[cfg(test)]
mod tests {
    use kv_core::store::Space;

    use super::super::read_set::Reads;
    use super::*;

    #[test]
    fn what_was_written_while_watched_is_found_and_what_was_forgotten_is_known_to_be() {
        let mut reads = Reads::new(1 << 20);
        reads.add_key(1, b"k").unwrap();
        let reads = reads.into_set();
        let mut put = Batch::new();
        put.put(Space(1), b"other", b"");
        put.put(Space(1), b"k", b"");
        let mut recent = RecentWrites::default();
        recent.note(&put, 5);
        assert_eq!(recent.conflict(&reads, 0), None, "nobody watched");
        recent.watch(6);
        assert!(recent.reaches_back_to(6) && !recent.reaches_back_to(5));
        recent.note(&put, 7);
        assert_eq!(recent.conflict(&reads, 6), Some(1));
        assert_eq!(recent.conflict(&reads, 7), Some(1), "the second operation has the number 8");
        assert_eq!(recent.conflict(&reads, 8), None);
        let mut range = Batch::new();
        range.delete_range(Space(1), b"a", b"z");
        recent.note(&range, 9);
        assert_eq!(recent.conflict(&reads, 8), Some(1));
        let mut large = Batch::new();
        for _ in 0..BYTES_MAX / ENTRY_BYTES {
            large.put(Space(2), b"x", b"");
        }
        recent.note(&large, 10);
        let last = 9 + large.len() as u64;
        assert!(!recent.reaches_back_to(9) && !recent.reaches_back_to(last - 1) && recent.reaches_back_to(last));
        recent.unwatch();
        recent.watch(last);
        recent.note(&put, last + 1);
        assert_eq!(recent.conflict(&reads, last), Some(1));
    }
}
