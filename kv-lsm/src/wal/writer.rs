//! Appending to the log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{
    BLOCK_BYTES, CHUNK_HEADER_BYTES, ChunkKind, HEADER_BYTES, RECORD_HEADER_BYTES, SegmentEnd, SegmentHeader, chain,
    chunk_header, marker_at, next_chunk,
};
use super::spare::Spare;
use crate::disk::{Disk, File, OpenMode};
use crate::error::Error;
use crate::files;

/// Zeros are written ahead while no more than this was appended since the last sync.
const ZEROS_WITHIN_BYTES: u64 = 32 << 10;
/// How many at a time, and no more than there is already: a small log stays small, and a very small one is left as it is.
const ZEROS_BYTES_MAX: u64 = 256 << 10;
/// Blocks of file systems are no larger, or it does not matter.
const FILE_BLOCK_BYTES: u64 = 4096;
/// How much room is reserved ahead for records that are stored, and no more than there is already.
const ROOM_BYTES_MAX: u64 = 1 << 20;

/// Writes one segment after the other. Each append is one `write_at` or, while nobody syncs, one `store_at`, so that what it returned from
/// has reached the disk's cache and survives the death of the process.
pub(crate) struct LogWriter {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    path: PathBuf,
    file: Arc<dyn File>,
    number: u64,
    start: u64,
    offset: u64,
    chain: u32,
    /// Up to here the file holds what it held as another segment.
    stale_bytes: u64,
    /// Up to here zeros were written behind what was appended.
    zeroed_bytes: u64,
    /// Up to here room was reserved.
    room_bytes: u64,
    limits: Ahead,
    buffer: Vec<u8>,
    /// A write failed here. What it left behind must not be taken for part of a later record, so the next record goes to a
    /// new segment, whose header states where this one ends.
    ended: bool,
}

/// What a segment holds ahead of what was appended to it, and of those that follow it.
#[derive(Copy, Clone)]
pub(crate) struct Ahead {
    /// Zeros and room end here at the latest: the size of a segment.
    pub(crate) bytes_max: u64,
    /// Records are stored, into room that was reserved, when so many bytes before them are not synced: where syncs are
    /// frequent, each would make the system give out every page anew.
    pub(crate) store_behind_bytes: u64,
}

impl Ahead {
    /// Nothing.
    const NONE: Self = Self { bytes_max: 0, store_behind_bytes: u64::MAX };
}

/// A write that failed.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// It was rolled back: the log is as before.
    RolledBack(Error),
    /// The tail of the log is in an unknown state, and nothing may follow it.
    Broken(Error),
}

impl LogWriter {
    /// Creates the segment `number`, beginning at position `start`, in the file of `spare` when there is one. Neither it nor its
    /// name is durable yet.
    ///
    /// # Errors
    /// The disk's; then there is no such segment, or at most one without a valid header.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        directory: &Path,
        number: u64,
        start: u64,
        previous: SegmentEnd,
        synced: u64,
        spare: Option<Spare>,
    ) -> Result<Self, Error> {
        let path = files::log(directory, number);
        let reused = spare.and_then(|spare| take_spare(disk.as_ref(), directory, spare, &path));
        let (file, stale_bytes) = match reused {
            Some(spare) => (spare.file, spare.bytes),
            None => {
                let file = disk.open(&path, OpenMode::CreateNew).map_err(|error| Error::io("create", &path, error))?;
                (file, 0)
            }
        };
        let mut buffer = Vec::new();
        SegmentHeader { number, start, previous, synced }.encode(&mut buffer);
        let mut log = Self {
            disk,
            directory: directory.to_path_buf(),
            path,
            file,
            number,
            start,
            offset: 0,
            chain: 0,
            stale_bytes,
            zeroed_bytes: 0,
            room_bytes: 0,
            limits: Ahead::NONE,
            buffer,
            ended: false,
        };
        log.terminate();
        if let Err(error) = log.file.write_at(&log.buffer, 0) {
            // Best effort: a segment whose header does not fit its checksum or its name is passed over by recovery.
            let _ = log.disk.remove(&log.path);
            return Err(Error::io("write", &log.path, error));
        }
        log.offset = HEADER_BYTES as u64;
        Ok(log)
    }

    /// Has zeros written ahead when syncs follow one another closely, and room reserved when they do not.
    pub(crate) const fn ahead(mut self, limits: Ahead) -> Self {
        self.limits = limits;
        self
    }

    /// Ends this segment and begins the segment `number`, in the file of `spare` when there is one.
    ///
    /// # Errors
    /// The disk's; then this segment goes on. `number` must not be used again.
    pub(crate) fn rotate(&mut self, number: u64, synced: u64, spare: Option<Spare>) -> Result<(), Error> {
        assert!(number > self.number, "segment numbers ascend");
        let end = SegmentEnd { number: self.number, length: self.offset, chain: self.chain };
        let start = self.start + self.offset;
        let next = Self::create(Arc::clone(&self.disk), &self.directory, number, start, end, synced, spare)?;
        *self = next.ahead(self.limits);
        Ok(())
    }

    /// Appends a batch as one record.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub(crate) fn append(&mut self, synced: u64, first_sequence: u64, batch: &[u8]) -> Result<(), AppendError> {
        assert!(!self.ended, "nothing follows a failed write in its segment");
        self.buffer.clear();
        let mut record = Parts { head: first_sequence.to_le_bytes(), at: 0, batch };
        let mut chain_after = self.chain;
        let mut first = true;
        let mut at = usize::try_from(self.offset).expect("a segment fits memory");
        loop {
            let begin = next_chunk(at);
            self.buffer.resize(self.buffer.len() + (begin - at), 0);
            let room = BLOCK_BYTES - begin % BLOCK_BYTES - CHUNK_HEADER_BYTES;
            let left = record.left();
            let kind = match (first, left <= room) {
                (true, true) => ChunkKind::Full,
                (true, false) => ChunkKind::First,
                (false, false) => ChunkKind::Middle,
                (false, true) => ChunkKind::Last,
            };
            let header_at = self.buffer.len();
            self.buffer.resize(header_at + CHUNK_HEADER_BYTES, 0);
            record.take(left.min(room), &mut self.buffer);
            let payload = &self.buffer[header_at + CHUNK_HEADER_BYTES..];
            let header = chunk_header(self.number, begin as u64, synced, kind, payload);
            self.buffer[header_at..header_at + CHUNK_HEADER_BYTES].copy_from_slice(&header);
            chain_after = chain(chain_after, u32::from_le_bytes([header[0], header[1], header[2], header[3]]));
            at = begin + self.buffer.len() - header_at;
            first = false;
            if matches!(kind, ChunkKind::Full | ChunkKind::Last) {
                break;
            }
        }
        let zeros_end = self.zeros_end(synced);
        let stored = zeros_end == self.offset + self.buffer.len() as u64 && self.has_room(synced);
        self.write(chain_after, zeros_end, stored)
    }

    /// Whether the record in the buffer, and the zeros behind it, are to be stored: when syncs are far between, and there is
    /// room, which is reserved here.
    fn has_room(&mut self, synced: u64) -> bool {
        if self.position().saturating_sub(synced) < self.limits.store_behind_bytes {
            return false;
        }
        let end = self.offset + self.buffer.len() as u64;
        let needed = if end < self.stale_bytes { terminated(end) } else { end };
        if needed <= self.room_bytes.max(self.stale_bytes).max(self.zeroed_bytes) {
            return true;
        }
        let ahead = self.offset.clamp(FILE_BLOCK_BYTES, ROOM_BYTES_MAX);
        let room = (needed + ahead).next_multiple_of(FILE_BLOCK_BYTES).min(self.limits.bytes_max);
        if room < needed {
            return false;
        }
        if self.file.allocate(room).is_err() {
            // The record itself may find room; if not, that tells what is wrong.
            self.limits.store_behind_bytes = u64::MAX;
            return false;
        }
        self.room_bytes = room;
        true
    }

    /// Up to where zeros are to be written behind the record in the buffer: a sync of blocks that exist is faster than one of a
    /// file that grows. Not if what is synced at a time is much, for then writing it twice would cost more than it saves.
    fn zeros_end(&self, synced: u64) -> u64 {
        let end = self.offset + self.buffer.len() as u64;
        let grows = end > self.stale_bytes.max(self.zeroed_bytes);
        let first_record = self.start + HEADER_BYTES as u64;
        let is_small = self.offset < FILE_BLOCK_BYTES;
        if !grows || is_small || synced <= first_record || self.position().saturating_sub(synced) > ZEROS_WITHIN_BYTES {
            return end;
        }
        let more = self.offset.min(ZEROS_BYTES_MAX);
        (end + more).next_multiple_of(FILE_BLOCK_BYTES).min(self.limits.bytes_max).max(end)
    }

    /// Appends a marker, which states the synced position.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub(crate) fn mark(&mut self, synced: u64) -> Result<(), AppendError> {
        self.buffer = marker_at(self.number, self.offset, synced);
        let header = &self.buffer[self.buffer.len() - CHUNK_HEADER_BYTES..];
        let crc = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let end = self.offset + self.buffer.len() as u64;
        self.write(chain(self.chain, crc), end, false)
    }

    fn write(&mut self, chain_after: u32, zeros_end: u64, stored: bool) -> Result<(), AppendError> {
        let end = self.offset + self.buffer.len() as u64;
        if zeros_end > end {
            self.buffer.resize(self.buffer.len() + usize::try_from(zeros_end - end).expect("a segment fits memory"), 0);
        } else {
            self.terminate();
        }
        let result = match stored {
            true => self.file.store_at(&self.buffer, self.offset),
            false => self.file.write_at(&self.buffer, self.offset),
        };
        match result {
            Ok(()) => {
                self.offset = end;
                self.chain = chain_after;
                self.zeroed_bytes = self.zeroed_bytes.max(zeros_end);
                if self.buffer.capacity() > 1 << 20 {
                    self.buffer = Vec::new();
                }
                Ok(())
            }
            Err(error) => Err(self.roll_back(error)),
        }
    }

    /// Adds zeros to the buffer where the next chunk will have its header, unless the file ends before. The next record
    /// replaces them.
    fn terminate(&mut self) {
        let end = self.offset + self.buffer.len() as u64;
        if end < self.stale_bytes {
            let zeros = usize::try_from(terminated(end) - end).expect("a segment fits memory");
            self.buffer.resize(self.buffer.len() + zeros, 0);
        }
    }

    /// A failed write may have left any part of its bytes, even all: they must go, durably, or recovery would find a batch that
    /// was refused.
    fn roll_back(&mut self, cause: io::Error) -> AppendError {
        let error = Error::io("append to", &self.path, cause);
        self.ended = true;
        match self.file.truncate(self.offset).and_then(|()| self.file.sync()) {
            Ok(()) => AppendError::RolledBack(error),
            Err(_) => AppendError::Broken(error),
        }
    }

    /// Position behind the last byte.
    pub(crate) const fn position(&self) -> u64 {
        self.start + self.offset
    }

    /// Whether nothing was appended to this segment.
    pub(crate) const fn is_empty(&self) -> bool {
        self.offset == HEADER_BYTES as u64
    }

    /// Whether the next record must go to a new segment, because this one holds `bytes_max` or a write to it failed.
    pub(crate) const fn is_full(&self, bytes_max: u64) -> bool {
        self.ended || self.offset >= bytes_max
    }

    /// Whether the present segment was begun in the file of an earlier one.
    pub(crate) const fn is_recycled(&self) -> bool {
        self.stale_bytes > 0
    }

    /// Position of the first byte of the present segment.
    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) const fn file(&self) -> &Arc<dyn File> {
        &self.file
    }
}

/// Where the header of a chunk ends that follows one which ends at `end`.
fn terminated(end: u64) -> u64 {
    let end = usize::try_from(end).expect("a segment fits memory");
    (next_chunk(end) + CHUNK_HEADER_BYTES) as u64
}

/// Gives the file of a spare the name of a segment. It is of no use when that fails.
fn take_spare(disk: &dyn Disk, directory: &Path, spare: Spare, path: &Path) -> Option<Spare> {
    let from = files::spare(directory, spare.number);
    match disk.rename(&from, path) {
        Ok(()) => Some(spare),
        Err(_) => {
            spare.discard(disk, directory);
            None
        }
    }
}

/// A record as two runs of bytes, taken from the front.
struct Parts<'a> {
    head: [u8; RECORD_HEADER_BYTES],
    at: usize,
    batch: &'a [u8],
}

impl Parts<'_> {
    const fn left(&self) -> usize {
        RECORD_HEADER_BYTES + self.batch.len() - self.at
    }

    fn take(&mut self, count: usize, out: &mut Vec<u8>) {
        let end = self.at + count;
        if self.at < RECORD_HEADER_BYTES {
            out.extend_from_slice(&self.head[self.at..end.min(RECORD_HEADER_BYTES)]);
        }
        if end > RECORD_HEADER_BYTES {
            out.extend_from_slice(
                &self.batch[self.at.max(RECORD_HEADER_BYTES) - RECORD_HEADER_BYTES..end - RECORD_HEADER_BYTES],
            );
        }
        self.at = end;
    }
}

#[cfg(test)]
mod tests;
