//! The bytes of the log. Written by `writer`, read by `reader`, documented in `docs/format.md`.
//!
//! ```text
//! segment := header  chunk*                             chunks never cross a multiple of BLOCK_BYTES; too little room for
//!                                                       a chunk header before one is filled with zeros
//! header  := magic:8  version:u32  features:u32  segment:u64  start:u64
//!            previous_segment:u64  previous_length:u64  previous_chain:u32  synced:u64  crc:u32       (HEADER_BYTES)
//! chunk   := crc:u32  synced:u64  length:u16  kind:u8  payload                                 (CHUNK_HEADER_BYTES +)
//! record  := first_sequence:u64  batch                  one full chunk, or first, middle*, last
//! ```
//!
//! A *position* is a place in the log as a whole: the start of the segment plus the offset in its file. `synced` says up to
//! which position the log was known to be durable when the chunk was written. The checksum of a chunk (CRC-32) covers the
//! segment's number and the chunk's offset, so that a block of an older segment is never taken for one of this.

use kv_core::checksum::crc32;
use kv_core::codec::{DecodeError, Reader};

use crate::file_format::FileFormat;

pub(crate) const MAGIC: [u8; 8] = *b"KVLSMlog";
/// What this version reads and writes.
pub(crate) const KNOWN: FileFormat = FileFormat { version: 1, features: 0 };
pub(crate) const BLOCK_BYTES: usize = 32 * 1024;
pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const CHUNK_HEADER_BYTES: usize = 15;
/// Those of a chunk's header that its checksum covers: all but itself.
const COVERED_BYTES: usize = CHUNK_HEADER_BYTES - 4;
/// In front of the batch in each record.
pub(crate) const RECORD_HEADER_BYTES: usize = 8;

// A chunk's length has sixteen bits, and a block must have room for a chunk behind the segment's header.
const _: () = assert!(BLOCK_BYTES - CHUNK_HEADER_BYTES <= u16::MAX as usize);
const _: () = assert!(HEADER_BYTES + CHUNK_HEADER_BYTES < BLOCK_BYTES);

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum ChunkKind {
    Full,
    First,
    Middle,
    Last,
    /// Carries nothing but the synced position; written when the log falls idle.
    Marker,
}

impl ChunkKind {
    pub(crate) const fn to_u8(self) -> u8 {
        match self {
            Self::Full => 1,
            Self::First => 2,
            Self::Middle => 3,
            Self::Last => 4,
            Self::Marker => 5,
        }
    }

    const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Full),
            2 => Some(Self::First),
            3 => Some(Self::Middle),
            4 => Some(Self::Last),
            5 => Some(Self::Marker),
            _ => None,
        }
    }
}

/// How a segment ended, as its successor states it.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct SegmentEnd {
    /// Number of the segment; zero when there is none before.
    pub(crate) number: u64,
    /// Its length in bytes.
    pub(crate) length: u64,
    /// See [`chain`].
    pub(crate) chain: u32,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) number: u64,
    /// Position of the first byte of the file.
    pub(crate) start: u64,
    pub(crate) previous: SegmentEnd,
    pub(crate) synced: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&MAGIC);
        KNOWN.encode(out);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.start.to_le_bytes());
        out.extend_from_slice(&self.previous.number.to_le_bytes());
        out.extend_from_slice(&self.previous.length.to_le_bytes());
        out.extend_from_slice(&self.previous.chain.to_le_bytes());
        out.extend_from_slice(&self.synced.to_le_bytes());
        let crc = crc32(&[&out[begin..]]);
        out.extend_from_slice(&crc.to_le_bytes());
        debug_assert_eq!(out.len() - begin, HEADER_BYTES);
    }

    /// The format is checked by the caller, who knows the file's name: it is returned beside the header.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, FileFormat), DecodeError> {
        let mut reader = Reader::new(bytes);
        let covered = reader.clone().bytes(HEADER_BYTES - 4)?;
        if reader.array()? != MAGIC {
            return Err(DecodeError { offset: 0, what: "not a log segment" });
        }
        let format = FileFormat::decode(&mut reader)?;
        let header = Self {
            number: reader.u64()?,
            start: reader.u64()?,
            previous: SegmentEnd { number: reader.u64()?, length: reader.u64()?, chain: reader.u32()? },
            synced: reader.u64()?,
        };
        if reader.u32()? != crc32(&[covered]) {
            return Err(DecodeError { offset: HEADER_BYTES - 4, what: "checksum of the segment header" });
        }
        Ok((header, format))
    }
}

/// What the checksum of a chunk says about the segment that it belongs to.
fn owner(segment: u64) -> u64 {
    if sabotaged!(BelieveStaleChunks) { 0 } else { segment }
}

/// The checksum of a chunk. What stands before the payload is put together first: short parts take longer one by one.
fn chunk_crc(segment: u64, offset: u64, covered: &[u8; COVERED_BYTES], payload: &[u8]) -> u32 {
    let mut place = [0; 16 + COVERED_BYTES];
    place[..8].copy_from_slice(&owner(segment).to_le_bytes());
    place[8..16].copy_from_slice(&offset.to_le_bytes());
    place[16..].copy_from_slice(covered);
    crc32(&[&place, payload])
}

/// The header of a chunk, without its checksum, and its checksum.
pub(crate) fn chunk_header(
    segment: u64,
    offset: u64,
    synced: u64,
    kind: ChunkKind,
    payload: &[u8],
) -> [u8; CHUNK_HEADER_BYTES] {
    let length = u16::try_from(payload.len()).expect("a chunk fits a block");
    let mut header = [0; CHUNK_HEADER_BYTES];
    header[4..12].copy_from_slice(&synced.to_le_bytes());
    header[12..14].copy_from_slice(&length.to_le_bytes());
    header[14] = kind.to_u8();
    let crc = chunk_crc(segment, offset, header[4..].try_into().expect("all but the checksum"), payload);
    header[..4].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The bytes of a marker that states everything before `synced` durable, for a segment whose last chunk ends at `offset`:
/// zeros up to where the next chunk may begin among them.
pub(crate) fn marker_at(segment: u64, offset: u64, synced: u64) -> Vec<u8> {
    let at = usize::try_from(offset).expect("a segment fits memory");
    let begin = next_chunk(at);
    let mut bytes = vec![0; begin - at];
    bytes.extend_from_slice(&chunk_header(segment, begin as u64, synced, ChunkKind::Marker, &[]));
    bytes
}

/// The checksum that runs over a segment: each chunk's checksum is folded into that of those before it.
pub(crate) fn chain(before: u32, chunk_crc: u32) -> u32 {
    crc32(&[&before.to_le_bytes(), &chunk_crc.to_le_bytes()])
}

/// A chunk that is whole and bound to its place.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Chunk<'a> {
    pub(crate) crc: u32,
    pub(crate) synced: u64,
    pub(crate) kind: ChunkKind,
    pub(crate) payload: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Reads the chunk at `offset` of `file`, the whole content of a segment.
    pub(crate) fn read(file: &'a [u8], segment: u64, offset: usize) -> Result<Self, &'static str> {
        let block_end = (offset / BLOCK_BYTES + 1) * BLOCK_BYTES;
        let bytes = &file[offset.min(file.len())..block_end.min(file.len())];
        let mut reader = Reader::new(bytes);
        let short = |_| "a chunk that ends inside its block";
        let crc = reader.u32().map_err(short)?;
        let covered = reader.clone().array::<COVERED_BYTES>().map_err(short)?;
        let synced = reader.u64().map_err(short)?;
        let length = usize::from(reader.u16().map_err(short)?);
        let kind = ChunkKind::from_u8(reader.u8().map_err(short)?).ok_or("a known kind of chunk")?;
        let payload = reader.bytes(length).map_err(short)?;
        if crc != chunk_crc(segment, offset as u64, &covered, payload) {
            return Err("a chunk whose checksum fits");
        }
        Ok(Self { crc, synced, kind, payload })
    }

    pub(crate) const fn bytes(&self) -> usize {
        CHUNK_HEADER_BYTES + self.payload.len()
    }
}

/// Where the next chunk begins when the last one ended at `offset`: here, or at the next block.
pub(crate) const fn next_chunk(offset: usize) -> usize {
    let room = BLOCK_BYTES - offset % BLOCK_BYTES;
    if room < CHUNK_HEADER_BYTES { offset + room } else { offset }
}
