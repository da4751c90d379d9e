//! What recovery puts into one table of each keyspace: operations of the log, in the order in which they came, and sorted once,
//! when they are written. A memtable has its versions in order all the time, for readers; recovery has none, and a sort waits
//! for memory far less often than so many insertions into a tree.
//!
//! ```text
//! version := trailer:u64  key_bytes:u32  value_bytes:u32  key  value                                (HEADER_BYTES +)
//! ```

use std::collections::{BTreeMap, btree_map};

use kv_core::store::Batch;

use crate::cursor::{Cursor, Entry};
use crate::error::Error;
use crate::internal_key::{Trailer, compare};
use crate::operation::Numbered;
use crate::prefetch::{LINE_BYTES, prefetch_lines};
use crate::range_delete::{RangeDelete, RangeDeletes};

const HEADER_BYTES: usize = 8 + 4 + 4;
/// Versions that are asked for ahead of the one that is read: each lies somewhere else.
const AHEAD: usize = 8;
/// Of the smaller versions this is all.
const LINES_AHEAD: usize = 3;

/// A batch names it, and there never was one.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct UnknownKeyspace(pub(super) u32);

/// Operations that follow one another.
#[derive(Default)]
pub(super) struct Run {
    spaces: BTreeMap<u32, Unsorted>,
    bytes: u64,
    log_bytes: u64,
    last_sequence: u64,
}

impl Run {
    /// Adds a batch behind all that were added before. Asks of each keyspace once whether it is `known`.
    ///
    /// # Errors
    /// One that is not. The run is then of no use.
    pub(super) fn push(
        &mut self,
        batch: &Batch,
        first_sequence: u64,
        known: impl Fn(u32) -> bool,
    ) -> Result<(), UnknownKeyspace> {
        let mut expiring = Vec::new();
        for (sequence, operation) in (first_sequence..).zip(batch) {
            let space = match self.spaces.entry(operation.space().0) {
                btree_map::Entry::Occupied(space) => space.into_mut(),
                btree_map::Entry::Vacant(space) if known(*space.key()) => space.insert(Unsorted::default()),
                btree_map::Entry::Vacant(space) => return Err(UnknownKeyspace(*space.key())),
            };
            self.bytes += match Numbered::new(operation, sequence, &mut expiring) {
                Numbered::Version { trailer, key, value } => space.push(trailer, key, value),
                Numbered::Range(delete) => space.push_range(delete),
            };
            self.last_sequence = sequence;
        }
        self.log_bytes += batch.as_bytes().len() as u64;
        Ok(())
    }

    /// Memory in use, about.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of its batches in the log.
    pub(super) const fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    /// Number of the last operation.
    pub(super) const fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// By keyspace.
    pub(super) fn into_spaces(self) -> BTreeMap<u32, Unsorted> {
        self.spaces
    }

    /// Those that it has something of, ascending.
    pub(super) fn keyspaces(&self) -> impl Iterator<Item = u32> {
        self.spaces.keys().copied()
    }
}

/// What a run has of one keyspace.
#[derive(Default)]
pub(super) struct Unsorted {
    bytes: Vec<u8>,
    /// Where in `bytes` the versions begin.
    starts: Vec<usize>,
    /// What all keys begin with.
    common: Vec<u8>,
    deletes: Vec<RangeDelete>,
}

impl Unsorted {
    /// Returns how much memory it takes.
    fn push(&mut self, trailer: Trailer, key: &[u8], value: &[u8]) -> u64 {
        let length = |part: &[u8]| u32::try_from(part.len()).expect("keys and values are below 4 GiB").to_le_bytes();
        if self.starts.is_empty() {
            self.common = key.to_vec();
        } else if !key.starts_with(&self.common) {
            let common = self.common.iter().zip(key).take_while(|(a, b)| a == b).count();
            self.common.truncate(common);
        }
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(&trailer.to_u64().to_le_bytes());
        self.bytes.extend_from_slice(&length(key));
        self.bytes.extend_from_slice(&length(value));
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        (HEADER_BYTES + key.len() + value.len() + size_of::<usize>() + size_of::<Place>()) as u64
    }

    fn push_range(&mut self, delete: RangeDelete) -> u64 {
        let bytes = delete.bytes();
        self.deletes.push(delete);
        bytes
    }

    /// Its deleted ranges, and a cursor on its versions.
    pub(super) fn sort(self) -> (RangeDeletes, Sorted) {
        let Self { bytes, starts, common, deletes } = self;
        let place = |start| {
            let mut head = [0; 8];
            let rest = &version(&bytes, start).key[common.len()..];
            let taken = rest.len().min(head.len());
            head[..taken].copy_from_slice(&rest[..taken]);
            Place { head: u64::from_be_bytes(head), start }
        };
        let mut places: Vec<Place> = starts.into_iter().map(place).collect();
        places.sort_unstable_by(|a, b| {
            a.head.cmp(&b.head).then_with(|| {
                let (a, b) = (version(&bytes, a.start), version(&bytes, b.start));
                compare((a.key, a.trailer), (b.key, b.trailer))
            })
        });
        (RangeDeletes::new(deletes), Sorted { bytes, places, at: 0 })
    }
}

/// Where a version begins, and eight bytes of its key behind what all have in common, as a big-endian number and filled up with
/// zeros: where two differ, so do the keys, and in the same way.
struct Place {
    head: u64,
    start: usize,
}

fn version(bytes: &[u8], start: usize) -> Entry<'_> {
    let (header, rest) = bytes[start..].split_first_chunk::<HEADER_BYTES>().expect("a version begins there");
    let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes")) as usize;
    let trailer = u64::from_le_bytes(header[..8].try_into().expect("eight bytes"));
    let (key, rest) = rest.split_at(number(8));
    Entry { key, trailer: Trailer::from_raw(trailer), value: &rest[..number(12)] }
}

/// A cursor on the versions of one keyspace.
pub(super) struct Sorted {
    bytes: Vec<u8>,
    places: Vec<Place>,
    /// Beyond the end also before the first.
    at: usize,
}

impl Sorted {
    fn find(&self, key: &[u8], trailer: Trailer) -> usize {
        self.places.partition_point(|place| {
            let version = version(&self.bytes, place.start);
            compare((version.key, version.trailer), (key, trailer)).is_lt()
        })
    }
}

impl Cursor for Sorted {
    fn entry(&self) -> Option<Entry<'_>> {
        self.places.get(self.at).map(|place| version(&self.bytes, place.start))
    }

    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<(), Error> {
        self.at = self.find(key, trailer);
        Ok(())
    }

    fn seek_before(&mut self, place: Option<(&[u8], Trailer)>) -> Result<(), Error> {
        let end = place.map_or(self.places.len(), |(key, trailer)| self.find(key, trailer));
        self.at = end.wrapping_sub(1);
        Ok(())
    }

    fn next(&mut self) -> Result<(), Error> {
        if let Some(ahead) = self.places.get(self.at + AHEAD) {
            prefetch_lines(self.bytes.as_ptr().wrapping_add(ahead.start / LINE_BYTES * LINE_BYTES), LINES_AHEAD);
        }
        self.at += 1;
        Ok(())
    }

    fn previous(&mut self) -> Result<(), Error> {
        self.at = self.at.wrapping_sub(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
