//! What lies in one segment of the log.

use std::path::Path;

use kv_core::store::Batch;

use crate::disk::Disk;
use crate::error::Error;
use crate::wal::format::{KNOWN, SegmentHeader};
use crate::wal::reader::read_file;
use crate::wal::segment::{decode_record, records};

/// A segment of the log.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct LogSegment {
    /// Its number, as the header states it. A file that was renamed and not yet written again states an older one.
    pub number: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Position in the log as a whole of the first byte of the file.
    pub position: u64,
    /// Number of the segment before; zero when there is none.
    pub previous: u64,
    /// Up to which position the log was known to be durable when the segment was begun.
    pub synced: u64,
    /// Where the whole records end.
    pub end: u64,
    /// What was expected there, when there is something else than zeros behind it: a torn tail, damage, or what the file held
    /// when it was another segment.
    pub expected: Option<String>,
}

/// A whole record of the log.
#[derive(Copy, Clone, Debug)]
pub struct LogRecord<'a> {
    /// Where in the file its last chunk begins.
    pub offset: u64,
    /// The same place as a position in the log as a whole.
    pub position: u64,
    /// Number of its first operation; the others have those that follow.
    pub first_sequence: u64,
    /// Its operations.
    pub batch: &'a Batch,
}

pub(super) fn read(disk: &dyn Disk, path: &Path, each: &mut dyn FnMut(&LogRecord<'_>)) -> Result<LogSegment, Error> {
    let content = read_file(disk, path)?;
    let (header, format) = SegmentHeader::decode(&content)
        .map_err(|error| Error::corrupt(path, error.offset as u64, format!("expected {}", error.what)))?;
    format.check(KNOWN, || path.to_path_buf())?;
    let mut batch = Batch::new();
    let walked = records(&content, header.number, content.len(), &mut |offset, record| {
        let offset = offset as u64;
        let first_sequence = decode_record(record, &mut batch).map_err(|what| Error::corrupt(path, offset, what))?;
        each(&LogRecord { offset, position: header.start.saturating_add(offset), first_sequence, batch: &batch });
        Ok(())
    })?;
    let goes_on = content[walked.offset..].iter().any(|&byte| byte != 0);
    Ok(LogSegment {
        number: header.number,
        bytes: content.len() as u64,
        position: header.start,
        previous: header.previous.number,
        synced: header.synced,
        end: walked.offset as u64,
        expected: walked.expected.filter(|_| goes_on).map(str::to_owned),
    })
}
