//! Replaying the log, and telling a torn tail from corruption.
//!
//! 1. Follow the chain of segments from the one the manifest names: each successor states how long its predecessor was and
//!    the checksum over its chunks, so replay never crosses a gap. A predecessor that goes on behind that length shows that the
//!    successor was never used: beginning it failed, its header reached the disk, and the removal of its name did not.
//! 2. Hand out each whole record. The first chunk that is not whole, at position *p*, ends the log.
//! 3. Look at every byte behind *p*, in this segment and all others, for chunks that are whole and bound to their place. If
//!    one states that the log was synced beyond *p*, what is missing had been durable: that is corruption, an error. If none
//!    does, the tail is torn and is discarded, and the caller keeps it aside.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use kv_core::store::Batch;

use super::format::{
    BLOCK_BYTES, CHUNK_HEADER_BYTES, Chunk, HEADER_BYTES, KNOWN, SegmentEnd, SegmentHeader, next_chunk,
};
use super::segment::{RecordsEnd, decode_record, records};
use crate::disk::{Disk, OpenMode, read_exact_at};
use crate::error::Error;
use crate::files;

/// Where the log begins, as the manifest says.
#[derive(Copy, Clone, Debug)]
pub(crate) struct LogStart {
    /// Number of the first segment.
    pub(crate) segment: u64,
    /// Position of its first byte.
    pub(crate) position: u64,
    /// Number that the first record carries; zero when any will do.
    pub(crate) sequence: u64,
}

/// A part of a segment that recovery does not keep.
#[derive(Debug)]
pub(crate) struct Discarded {
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    /// Not counted beyond the end of the file.
    pub(crate) end: u64,
}

#[derive(Debug)]
pub(crate) struct Replayed {
    /// A position that lies behind everything the log ever held.
    pub(crate) position: u64,
    /// Number of the last operation.
    pub(crate) last_sequence: u64,
    pub(crate) discarded: Vec<Discarded>,
}

/// Where the chain of segments begins that leads to the last one, as the segments themselves tell; `None` when there is none
/// with a header. For a log that no manifest speaks of.
///
/// # Errors
/// [`Error::Unsupported`], and the disk's.
pub(crate) fn chain_start(disk: &dyn Disk, directory: &Path, numbers: &[u64]) -> Result<Option<LogStart>, Error> {
    let mut headers = BTreeMap::new();
    for &number in numbers {
        if let Some(header) = read_header(disk, &files::log(directory, number), number)? {
            headers.insert(number, header);
        }
    }
    let Some(mut first) = headers.last_entry().map(|last| *last.get()) else { return Ok(None) };
    // Numbers only go down, so this ends.
    while let Some(before) = headers.get(&first.previous.number).filter(|before| before.number < first.number) {
        first = *before;
    }
    Ok(Some(LogStart { segment: first.number, position: first.start, sequence: 0 }))
}

/// Where and why the records of one segment end.
struct End {
    segment: u64,
    offset: usize,
    position: u64,
    expected: &'static str,
    behind: Behind,
}

/// A segment, and what it states about the end of the one before.
#[derive(Copy, Clone)]
struct Successor {
    number: u64,
    stated: SegmentEnd,
}

struct Segment {
    path: PathBuf,
    header: Option<SegmentHeader>,
}

/// Hands every whole record of the log to `each`, in order.
///
/// # Errors
/// [`Error::Corrupt`] and [`Error::Unsupported`] as described above, the disk's errors, and those of `each`. Nothing on the
/// disk is changed.
pub(crate) fn replay(
    disk: &dyn Disk,
    directory: &Path,
    numbers: &[u64],
    begin: LogStart,
    each: &mut dyn FnMut(u64, &Batch) -> Result<(), Error>,
) -> Result<Replayed, Error> {
    let mut segments = BTreeMap::new();
    for &number in numbers {
        let path = files::log(directory, number);
        let header = read_header(disk, &path, number)?;
        segments.insert(number, Segment { path, header });
    }
    if !segments.contains_key(&begin.segment) {
        return Err(Error::corrupt(
            &files::log(directory, begin.segment),
            0,
            "the first segment of the log is missing",
        ));
    }
    let mut replay = Replay { segments, next_sequence: begin.sequence, batch: Batch::new() };
    let ends = replay.follow(disk, begin, each)?;
    replay.judge(disk, &ends)
}

struct Replay {
    segments: BTreeMap<u64, Segment>,
    next_sequence: u64,
    /// That of the record at hand.
    batch: Batch,
}

impl Replay {
    /// Returns where each segment of the chain ends.
    fn follow(
        &mut self,
        disk: &dyn Disk,
        begin: LogStart,
        each: &mut dyn FnMut(u64, &Batch) -> Result<(), Error>,
    ) -> Result<Vec<End>, Error> {
        let mut ends = Vec::new();
        // One after the other is read into the same memory: the first touch of fresh memory costs as much as the reading.
        let mut content = Vec::new();
        let mut number = begin.segment;
        let mut start = begin.position;
        let mut before: Option<SegmentEnd> = None;
        loop {
            let (end, successor) = self.walk(disk, (number, start), before, &mut content, each)?;
            ends.push(end);
            let Some(successor) = successor else { return Ok(ends) };
            start += successor.stated.length;
            before = Some(successor.stated);
            number = successor.number;
        }
    }

    /// Hands out the records of one segment of the chain. Returns where they end and, when its successor begins there, that.
    fn walk(
        &mut self,
        disk: &dyn Disk,
        (number, start): (u64, u64),
        before: Option<SegmentEnd>,
        content: &mut Vec<u8>,
        each: &mut dyn FnMut(u64, &Batch) -> Result<(), Error>,
    ) -> Result<(End, Option<Successor>), Error> {
        let segment = &self.segments[&number];
        let (path, header) = (segment.path.clone(), segment.header);
        read_into(disk, &path, content)?;
        let stop = |offset: usize, expected| {
            let behind = Behind::look(content, number, header, offset);
            End { segment: number, offset, position: start + offset as u64, expected, behind }
        };
        let Some(header) = header else {
            return Ok((stop(0, "a segment header whose checksum fits"), None));
        };
        if header.start != start {
            return Ok((stop(0, "a segment that begins where the one before ended"), None));
        }
        if before.is_some_and(|before| before != header.previous) {
            return Ok((stop(0, "a predecessor as long, and with the checksum, that was stated"), None));
        }
        let successor = self.successor(number).filter(|next| !goes_on(content, next.stated));
        let stated_length = successor.map(|next| usize::try_from(next.stated.length).unwrap_or(usize::MAX));
        let walked = records(content, number, stated_length.unwrap_or(content.len()), &mut |offset, record| {
            self.hand_out(&path, offset, record, each)
        })?;
        let RecordsEnd { offset, chain, expected: problem } = walked;
        Ok(match (successor, problem) {
            (Some(next), None) if next.stated.length == offset as u64 && next.stated.chain == chain => {
                (stop(offset, "the end that the next segment states"), successor)
            }
            (Some(_), None) => (stop(offset, "the length and checksum that the next segment states"), None),
            (None, None) => (stop(offset, "the end of the log"), None),
            (_, Some(expected)) => (stop(offset, expected), None),
        })
    }

    /// The last segment that says it follows `number`. Whatever stands before it and says so as well was given up.
    fn successor(&self, number: u64) -> Option<Successor> {
        let behind = self.segments.range(number + 1..).rev();
        behind
            .filter_map(|(&next, segment)| Some(Successor { number: next, stated: segment.header?.previous }))
            .find(|next| next.stated.number == number)
    }

    fn hand_out(
        &mut self,
        path: &Path,
        offset: usize,
        record: &[u8],
        each: &mut dyn FnMut(u64, &Batch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let wrong = |what: &str| Error::corrupt(path, offset as u64, what);
        let first = decode_record(record, &mut self.batch).map_err(|what| wrong(&what))?;
        if self.next_sequence == 0 {
            self.next_sequence = first;
        }
        if first != self.next_sequence {
            return Err(wrong("a record whose sequence number does not follow the one before"));
        }
        self.next_sequence += self.batch.len() as u64;
        each(first, &self.batch)
    }

    /// Rule E4: torn or corrupt is decided by what later chunks state. `ends` are those of the chain's segments, in order.
    fn judge(&self, disk: &dyn Disk, ends: &[End]) -> Result<Replayed, Error> {
        let last = ends.last().expect("a chain has a first segment");
        let mut position = last.position;
        let mut discarded = Vec::new();
        for end in ends {
            self.check_stated(end, end.behind.stated)?;
            // A segment of the middle holds, behind its end, what its file held before.
            if end.segment == last.segment || end.behind.has_chunks {
                position = position.max(last.position.saturating_add(end.behind.bytes));
                discarded.extend(end.behind.discarded(&self.segments[&end.segment].path));
            }
        }
        for (&number, segment) in &self.segments {
            if ends.iter().any(|end| end.segment == number) {
                continue;
            }
            let content = read_file(disk, &segment.path)?;
            let behind = Behind::look(&content, number, segment.header, 0);
            self.check_stated(last, behind.stated.max(segment.header.map_or(0, |header| header.synced)))?;
            let start = segment.header.map_or(last.position, |header| header.start.max(last.position));
            position = position.max(start.saturating_add(behind.bytes));
            discarded.extend(behind.discarded(&segment.path));
        }
        Ok(Replayed { position, last_sequence: self.next_sequence.saturating_sub(1), discarded })
    }

    /// That the log was not synced beyond where it ends.
    fn check_stated(&self, end: &End, stated: u64) -> Result<(), Error> {
        if stated <= end.position || sabotaged!(CallCorruptionTorn) {
            return Ok(());
        }
        let (expected, position) = (end.expected, end.position);
        let what = format!("expected {expected}: the log was synced up to position {stated}, this is {position}");
        Err(Error::corrupt(&self.segments[&end.segment].path, end.offset as u64, what))
    }
}

/// Whether a segment was written to behind the end that its successor states.
fn goes_on(content: &[u8], stated: SegmentEnd) -> bool {
    let end = usize::try_from(stated.length).unwrap_or(usize::MAX);
    end < content.len() && Chunk::read(content, stated.number, next_chunk(end)).is_ok()
}

/// What lies behind the end of a segment's records.
struct Behind {
    /// Whether a chunk is whole there.
    has_chunks: bool,
    /// The highest synced position that one of them states.
    stated: u64,
    /// All of it.
    bytes: u64,
    /// The part that is worth keeping aside.
    loss: Option<Range<usize>>,
}

impl Behind {
    fn look(content: &[u8], segment: u64, header: Option<SegmentHeader>, from: usize) -> Self {
        let (mut stated, mut chunks_end) = (0, None);
        let mut at = from;
        while at + CHUNK_HEADER_BYTES <= content.len() {
            if may_be_chunk(content, header, at)
                && let Ok(chunk) = Chunk::read(content, segment, at)
            {
                stated = stated.max(chunk.synced);
                at += chunk.bytes();
                chunks_end = Some(at);
            } else {
                at += 1;
            }
        }
        let loss = end_of_loss(content, chunks_end, header.is_some(), from).map(|end| from..end);
        let bytes = content.len().saturating_sub(from) as u64;
        Self { has_chunks: chunks_end.is_some(), stated, bytes, loss }
    }

    fn discarded(&self, path: &Path) -> Option<Discarded> {
        let loss = self.loss.clone()?;
        Some(Discarded { path: path.to_owned(), offset: loss.start as u64, end: loss.end as u64 })
    }
}

/// Up to where what lies at and behind `from` is worth keeping aside, or `None` when nothing is: a file that was another
/// segment before holds that behind its end. The last whole chunk there ends at `chunks_end`.
fn end_of_loss(content: &[u8], chunks_end: Option<usize>, has_header: bool, from: usize) -> Option<usize> {
    let begin = if has_header { from.max(HEADER_BYTES) } else { from };
    let next = next_chunk(begin);
    let is_zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
    let ends_here = if has_header {
        is_zero(&content[begin.min(content.len())..(next + CHUNK_HEADER_BYTES).min(content.len())])
    } else {
        // Empty, or never more than renamed: the header is whole, and that of another segment.
        is_zero(content) || SegmentHeader::decode(content).is_ok()
    };
    match chunks_end {
        None if ends_here => None,
        None if !has_header => Some(content.len()),
        // What is torn lies in the block of the first chunk that is not whole.
        _ => Some(chunks_end.unwrap_or(0).max(next + 1).next_multiple_of(BLOCK_BYTES).min(content.len())),
    }
}

/// Most offsets are no chunk, and what a file held as another segment must not cost a checksum at each. The kind is known,
/// and the position that a chunk states as synced lies between what its segment began with and its own.
fn may_be_chunk(content: &[u8], header: Option<SegmentHeader>, at: usize) -> bool {
    let bytes = &content[at..at + CHUNK_HEADER_BYTES];
    if !matches!(bytes[CHUNK_HEADER_BYTES - 1], 1..=5) {
        return false;
    }
    let synced = u64::from_le_bytes(bytes[4..12].try_into().expect("eight bytes"));
    header.is_none_or(|header| header.synced <= synced && synced <= header.start.saturating_add(at as u64))
}

fn read_header(disk: &dyn Disk, path: &Path, number: u64) -> Result<Option<SegmentHeader>, Error> {
    let file = disk.open(path, OpenMode::Read).map_err(|error| Error::io("open", path, error))?;
    let mut bytes = [0; HEADER_BYTES];
    match read_exact_at(file.as_ref(), &mut bytes, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(Error::io("read", path, error)),
    }
    match SegmentHeader::decode(&bytes) {
        Ok((header, format)) => {
            format.check(KNOWN, || path.to_path_buf())?;
            Ok(Some(header).filter(|header| header.number == number))
        }
        Err(_) => Ok(None),
    }
}

/// The whole content of a file.
///
/// # Errors
/// The disk's.
pub(crate) fn read_file(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    read_into(disk, path, &mut content)?;
    Ok(content)
}

/// The same in memory that was used before.
fn read_into(disk: &dyn Disk, path: &Path, content: &mut Vec<u8>) -> Result<(), Error> {
    let file = disk.open(path, OpenMode::Read).map_err(|error| Error::io("open", path, error))?;
    let mut read = || {
        let length = usize::try_from(file.len()?).map_err(std::io::Error::other)?;
        if length > content.capacity() {
            // Zeroed pages come from the system when they are first touched.
            *content = vec![0; length];
        }
        content.resize(length, 0);
        read_exact_at(file.as_ref(), content, 0)
    };
    read().map_err(|error| Error::io("read", path, error))
}

#[cfg(test)]
mod tests;
