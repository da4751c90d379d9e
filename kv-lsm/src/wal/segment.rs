//! The records of one segment, from its chunks.

use std::borrow::Cow;

use kv_core::store::Batch;

use super::format::{Chunk, ChunkKind, HEADER_BYTES, RECORD_HEADER_BYTES, chain, next_chunk};
use crate::error::Error;

/// Where the whole records of a segment end.
#[derive(Copy, Clone, Debug)]
pub(crate) struct RecordsEnd {
    /// Behind the last whole record or marker.
    pub(crate) offset: usize,
    /// The chain checksum up to there.
    pub(crate) chain: u32,
    /// What was expected there, unless that is where the walk was to stop.
    pub(crate) expected: Option<&'static str>,
}

/// Takes the offset of a record's last chunk, and the record.
pub(crate) type EachRecord<'a> = dyn FnMut(usize, &[u8]) -> Result<(), Error> + 'a;

/// Hands the records of the segment `number`, whose file holds `content`, to `each`, with the offset of their last chunk, up
/// to the first that is not whole, or to `stop`.
///
/// # Errors
/// Those of `each`.
pub(crate) fn records(
    content: &[u8],
    number: u64,
    stop: usize,
    each: &mut EachRecord<'_>,
) -> Result<RecordsEnd, Error> {
    let mut whole = RecordsEnd { offset: HEADER_BYTES, chain: 0, expected: None };
    let (mut at, mut chained) = (whole.offset, whole.chain);
    let mut partial: Option<Vec<u8>> = None;
    let ends = |whole: RecordsEnd, expected| Ok(RecordsEnd { expected: Some(expected), ..whole });
    loop {
        if at == stop && partial.is_none() {
            return Ok(whole);
        }
        let chunk_at = next_chunk(at);
        let chunk = match Chunk::read(content, number, chunk_at) {
            Ok(chunk) => chunk,
            Err(expected) => return ends(whole, expected),
        };
        at = chunk_at + chunk.bytes();
        chained = chain(chained, chunk.crc);
        if at > stop {
            return ends(whole, "nothing beyond the length that the next segment states");
        }
        let record = match (chunk.kind, partial.take()) {
            (ChunkKind::Marker, None) => None,
            (ChunkKind::Full, None) => Some(Cow::Borrowed(chunk.payload)),
            (ChunkKind::First, None) => {
                partial = Some(chunk.payload.to_vec());
                continue;
            }
            (ChunkKind::Middle, Some(mut record)) => {
                record.extend_from_slice(chunk.payload);
                partial = Some(record);
                continue;
            }
            (ChunkKind::Last, Some(mut record)) => {
                record.extend_from_slice(chunk.payload);
                Some(Cow::Owned(record))
            }
            _ => return ends(whole, "the chunks of one record after one another"),
        };
        if let Some(record) = record {
            each(chunk_at, &record)?;
        }
        whole = RecordsEnd { offset: at, chain: chained, expected: None };
    }
}

/// Has `batch` become that of a record, and returns the number of its first operation.
///
/// # Errors
/// What is wrong with the record.
pub(crate) fn decode_record(record: &[u8], batch: &mut Batch) -> Result<u64, String> {
    let (first, operations) =
        record.split_first_chunk::<RECORD_HEADER_BYTES>().ok_or("a record without a sequence number")?;
    batch.read_from(operations).map_err(|error| format!("a batch that cannot be read: {error}"))?;
    Ok(u64::from_le_bytes(*first))
}
