//! What was written and is not yet in a table: one memtable for all keyspaces, so that a memtable and the segments of the
//! log that it came from live and die together, and no cold keyspace can pin the log.

mod cursor;
mod range_log;
mod skip_list;

pub(crate) use cursor::MemtableCursor;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_core::store::{Batch, Operation};

use crate::internal_key::{EXPIRY_BYTES, Kind, Trailer};
use crate::range_delete::{RangeDelete, RangeDeletes};
use range_log::RangeLog;
use skip_list::SkipList;

/// One version of a key, as a window on the batch it came in.
#[derive(Clone)]
pub(crate) struct Version {
    record: Arc<[u8]>,
    space: u32,
    key_at: u32,
    key_bytes: u32,
    value_at: u32,
    value_bytes: u32,
    trailer: Trailer,
    /// See [`head`]. Beside the window, so that most comparisons touch nothing else.
    head: u64,
}

/// The first eight bytes of a key as a big-endian number, filled up with zeros: keys whose heads differ are ordered as these
/// are.
fn head(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut padded = [0; 8];
            padded[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(padded)
        }
    }
}

impl Version {
    pub(crate) const fn space(&self) -> u32 {
        self.space
    }

    pub(crate) const fn trailer(&self) -> Trailer {
        self.trailer
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.record[self.key_at as usize..][..self.key_bytes as usize]
    }

    pub(crate) fn value(&self) -> &[u8] {
        &self.record[self.value_at as usize..][..self.value_bytes as usize]
    }
}

/// Where an ordered walk begins.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) space: u32,
    pub(crate) key: &'a [u8],
    pub(crate) trailer: Trailer,
}

/// What a memtable needs of the structure that orders its versions: one writer, any number of readers, nothing removed.
pub(crate) trait Versions: Send + Sync {
    /// Adds a version, whose place is free.
    fn insert(&self, version: Version);

    /// Calls `each` with the versions of one key at and behind `place`, newest first, until it breaks.
    fn of_key(&self, place: Place<'_>, each: &mut dyn FnMut(Trailer, &[u8]) -> ControlFlow<()>);

    /// Appends to `out` at most `count` versions of the place's space: those at and behind it, ascending.
    fn from(&self, place: Place<'_>, count: usize, out: &mut Vec<Version>);

    /// Appends to `out` at most `count` versions of `space`: those before `place`, or the last ones, descending.
    fn before(&self, space: u32, place: Option<Place<'_>>, count: usize, out: &mut Vec<Version>);

    /// The spaces that have versions, ascending.
    fn spaces(&self) -> Vec<u32>;
}

/// A memtable. Batches are applied by one writer at a time; readers bound what they see by a sequence number that is
/// published after a batch was applied.
pub(crate) struct Memtable {
    versions: Box<dyn Versions>,
    ranges: RangeLog,
    bytes: AtomicU64,
    last_sequence: AtomicU64,
    /// The first segment of the log that holds batches of this memtable, and its position.
    log_segment: u64,
    log_position: u64,
}

/// What a version costs beside its batch: the node of the list and the window.
const VERSION_BYTES: u64 = 112;

impl Memtable {
    pub(crate) fn new(log_segment: u64, log_position: u64) -> Self {
        Self {
            versions: Box::new(SkipList::new()),
            ranges: RangeLog::default(),
            bytes: AtomicU64::new(0),
            last_sequence: AtomicU64::new(0),
            log_segment,
            log_position,
        }
    }

    /// Applies a batch whose first operation has the number `first_sequence`. Returns the number of the last one.
    pub(crate) fn apply(&self, batch: &Batch, first_sequence: u64) -> u64 {
        let record: Arc<[u8]> = batch.as_bytes().into();
        // Windows are counted from the batch's own bytes, which the record repeats.
        let base = batch.as_bytes().as_ptr().addr();
        let window = |part: &[u8], lead: usize| {
            let at = u32::try_from(part.as_ptr().addr() - base - lead).expect("a batch is below 4 GiB");
            (at, u32::try_from(part.len() + lead).expect("a batch is below 4 GiB"))
        };
        let mut sequence = first_sequence;
        for operation in batch {
            let (trailer, key, value) = match operation {
                Operation::Put { key, value, .. } => (Trailer::new(sequence, Kind::Put), key, value),
                Operation::PutExpiring { key, value, .. } => (Trailer::expiring(sequence), key, value),
                Operation::Merge { key, operand, .. } => (Trailer::new(sequence, Kind::Merge), key, operand),
                Operation::Delete { key, .. } => (Trailer::new(sequence, Kind::Delete), key, &key[..0]),
                Operation::DeleteRange { space, start, end } => {
                    self.ranges.push(space.0, RangeDelete { start: start.into(), end: end.into(), sequence });
                    sequence += 1;
                    continue;
                }
            };
            // The expiry stands before the value in a batch as well, and is kept with it.
            let lead = if trailer.is_expiring() { EXPIRY_BYTES } else { 0 };
            let ((key_at, key_bytes), (value_at, value_bytes)) = (window(key, 0), window(value, lead));
            self.versions.insert(Version {
                record: Arc::clone(&record),
                space: operation.space().0,
                key_at,
                key_bytes,
                value_at,
                value_bytes,
                trailer,
                head: head(key),
            });
            sequence += 1;
        }
        let added = record.len() as u64 + VERSION_BYTES * batch.len() as u64;
        self.bytes.fetch_add(added, Ordering::Relaxed);
        self.last_sequence.store(sequence - 1, Ordering::Release);
        sequence - 1
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
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

    /// The deleted ranges of a space, or `None` when there are none.
    pub(crate) fn range_deletes(&self, space: u32) -> Option<Arc<RangeDeletes>> {
        self.ranges.of_space(space)
    }

    /// Calls `each` with the versions of a key that a read at `sequence` may see, newest first, until it breaks.
    pub(crate) fn of_key(
        &self,
        space: u32,
        key: &[u8],
        sequence: u64,
        each: &mut dyn FnMut(Trailer, &[u8]) -> ControlFlow<()>,
    ) {
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
