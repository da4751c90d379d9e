//! What was written and is not yet in a table: one memtable for all keyspaces, so that a memtable and the segments of the
//! log that it came from live and die together, and no cold keyspace can pin the log.

mod arena;
mod cursor;
mod key_filter;
mod range_log;
mod sync;
mod tree;

pub(crate) use arena::ChunkPool;
pub(crate) use cursor::MemtableCursor;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_core::store::Batch;

use crate::internal_key::Trailer;
use crate::operation::Numbered;
use crate::range_delete::RangeDeletes;
use crate::table::filter;
use arena::Record;
use key_filter::KeyFilter;
use range_log::RangeLog;
use tree::{Place, Tree};

/// A memtable. Batches are applied by one writer at a time; readers bound what they see by a sequence number that is
/// published after a batch was applied.
pub(crate) struct Memtable {
    versions: Arc<Tree>,
    keys: KeyFilter,
    ranges: RangeLog,
    /// Of the deleted ranges.
    range_bytes: AtomicU64,
    last_sequence: AtomicU64,
    /// The first segment of the log that holds batches of this memtable, and its position.
    log_segment: u64,
    log_position: u64,
}

impl Memtable {
    pub(crate) fn new(log_segment: u64, log_position: u64, pool: &Arc<ChunkPool>) -> Self {
        Self {
            versions: Arc::new(Tree::new(Arc::clone(pool))),
            keys: KeyFilter::new(pool.bytes_max()),
            ranges: RangeLog::default(),
            range_bytes: AtomicU64::new(0),
            last_sequence: AtomicU64::new(0),
            log_segment,
            log_position,
        }
    }

    /// Applies a batch whose first operation has the number `first_sequence`. Returns the number of the last one.
    pub(crate) fn apply(&self, batch: &Batch, first_sequence: u64) -> u64 {
        let mut writer = self.versions.writer();
        let mut expiring = Vec::new();
        let mut sequence = first_sequence;
        for operation in batch {
            let space = operation.space().0;
            match Numbered::new(operation, sequence, &mut expiring) {
                Numbered::Version { trailer, key, value } => {
                    self.keys.add(space, filter::hash(key));
                    writer.insert(Record { trailer, space, key, value });
                }
                Numbered::Range(delete) => {
                    self.range_bytes.fetch_add(delete.bytes(), Ordering::Relaxed);
                    self.ranges.push(space, delete);
                }
            }
            sequence += 1;
        }
        drop(writer);
        self.last_sequence.store(sequence - 1, Ordering::Release);
        sequence - 1
    }

    /// Memory in use.
    pub(crate) fn bytes(&self) -> u64 {
        self.versions.bytes() + self.keys.bytes() + self.range_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.last_sequence() == 0
    }

    /// Number of the last operation applied; zero when there is none.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.last_sequence.load(Ordering::Acquire)
    }

    pub(crate) const fn log_position(&self) -> u64 {
        self.log_position
    }

    pub(crate) const fn log_segment(&self) -> u64 {
        self.log_segment
    }

    /// The deleted ranges of a space: each part answers for some of them.
    pub(crate) fn range_deletes(&self, space: u32) -> Vec<Arc<RangeDeletes>> {
        self.ranges.of_space(space)
    }

    /// Calls `each` with the versions of a key that a read at `sequence` may see, newest first, until it breaks. The key's
    /// `hash` is that of [`filter::hash`].
    pub(crate) fn of_key(
        &self,
        space: u32,
        key: &[u8],
        hash: u64,
        sequence: u64,
        each: &mut dyn FnMut(Trailer, &[u8]) -> ControlFlow<()>,
    ) {
        if !self.keys.may_contain(space, hash) {
            return;
        }
        self.versions.of_key(Place { space, key, trailer: Trailer::at(sequence) }, each);
    }

    /// The spaces that have versions or deleted ranges, ascending.
    pub(crate) fn spaces(&self) -> Vec<u32> {
        let mut spaces = self.versions.spaces();
        spaces.extend(self.ranges.spaces());
        spaces.sort_unstable();
        spaces.dedup();
        spaces
    }
}
