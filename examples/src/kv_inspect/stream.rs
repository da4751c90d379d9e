//! The format of an export.
//!
//! ```text
//! stream := magic:8  version:u32  features:u32  crc:u32  frame*                 the CRC-32 covers what is before it
//! frame  := crc:u32  length:u32  body                                           it covers offset:u64 length:u32 body
//! body   := 1 name:prefixed options:prefixed                                    a keyspace; its entries follow
//!         | 2 entry*                                                            entries of the last keyspace
//!         | 3 keyspaces:u64 entries:u64                                         the end, and how many there were of each
//! entry  := 0 key:prefixed value:prefixed
//!         | 1 key:prefixed expire_at:u64 value:prefixed                         wall time in milliseconds
//! ```
//!
//! Integers are little-endian; `prefixed` is a varint length and that many bytes; `options` are those of the manifest
//! (`docs/format.md`). The offset of a frame in the stream is part of its checksum, so frames that are missing, doubled or
//! moved are found, and the last frame tells a stream that was cut between two.
//!
//! Frames of bytes, not lines of text: keys and values are any bytes and often large, so text would need an encoding
//! that costs a third more room and makes nothing readable, and checksums all the same.

mod reader;
mod writer;

pub(super) use reader::{Frame, StreamReader};
pub use reader::{StreamError, Wrong, check};
pub(super) use writer::StreamWriter;

use kv_lsm::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

const MAGIC: [u8; 8] = *b"KVLSMexp";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 20;

const KEYSPACE: u8 = 1;
const ENTRIES: u8 = 2;
const END: u8 = 3;

const PLAIN: u8 = 0;
const EXPIRING: u8 = 1;

/// A frame of entries is written when it holds so much.
const FRAME_BYTES: usize = 256 << 10;
/// No frame is longer: a full one, and the largest entry.
const FRAME_BYTES_MAX: usize = FRAME_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX + 64;

fn frame_crc(offset: u64, length: u32, body: &[u8]) -> u32 {
    kv_core::checksum::crc32(&[&offset.to_le_bytes(), &length.to_le_bytes(), body])
}

#[cfg(test)]
mod tests;
