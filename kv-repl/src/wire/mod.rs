//! Bytes between nodes.
//!
//! ```text
//! frame    := version:u8 (1)  crc32 of the rest:u32  header  message*
//! header   := cluster:u128  from:varint  incarnation:u64  boot:varint  to incarnation:u64  to boot:varint
//! message  := kind:u8  body bytes:varint  body
//! ```
//!
//! A frame carries everything that one turn of a node has to say to one peer, so header and checksum are paid once. The
//! header names the lives at both ends; zero stands for a life that is not known yet. A kind that is not known is skipped
//! and counted, so that later versions can add kinds; fields are added at the end of a body, where older readers ignore
//! them.

mod fields;
mod floor;
mod message;
mod outcome;
mod put;
mod refusal;
mod repair;
mod rumour;
mod scan;
mod sight;
mod together;
mod update;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::checksum::crc32;
use kv_core::codec::{DecodeError, Reader, put_varint};
use kv_core::version::Incarnation;

use crate::identity::{Boot, ClusterId};
use crate::message::Message;

const VERSION: u8 = 1;
const CHECKSUM_AT: usize = 1;
const HEADER_AT: usize = CHECKSUM_AT + 4;

/// Most bytes that a frame adds around one message: version, checksum, header, kind and length.
pub(crate) const OVERHEAD_BYTES_MAX: usize = HEADER_AT + 16 + 10 + 8 + 10 + 8 + 10 + 1 + 10;

/// About how many bytes a message takes that holds no record.
const MESSAGE_BYTES: usize = 64;

/// Who speaks to whom.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Header {
    /// The sender's cluster, or [`ClusterId::NONE`].
    pub cluster: ClusterId,
    /// The sender.
    pub from: NodeId,
    /// Its storage.
    pub from_incarnation: Incarnation,
    /// Its life.
    pub from_boot: Boot,
    /// The storage that the receiver is believed to have, or zero.
    pub to_incarnation: Incarnation,
    /// The life that the receiver is believed to be in, or zero.
    pub to_boot: Boot,
}

/// Builds a frame.
#[derive(Debug)]
pub struct FrameWriter {
    bytes: Vec<u8>,
    empty_bytes: usize,
    scratch: Vec<u8>,
}

impl FrameWriter {
    /// A frame without messages.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        Self::with_room(header, 0)
    }

    /// The same with room for so many messages, if they are small.
    #[must_use]
    pub(crate) fn with_room(header: &Header, messages: usize) -> Self {
        let mut bytes = Vec::with_capacity(OVERHEAD_BYTES_MAX + messages * MESSAGE_BYTES);
        bytes.extend_from_slice(&[VERSION, 0, 0, 0, 0]);
        bytes.extend_from_slice(&header.cluster.0.to_le_bytes());
        put_varint(&mut bytes, header.from.0);
        bytes.extend_from_slice(&header.from_incarnation.0.to_le_bytes());
        put_varint(&mut bytes, header.from_boot.0);
        bytes.extend_from_slice(&header.to_incarnation.0.to_le_bytes());
        put_varint(&mut bytes, header.to_boot.0);
        let empty_bytes = bytes.len();
        Self { bytes, empty_bytes, scratch: Vec::new() }
    }

    /// Appends a message unless the frame would grow over `bytes_max`; then the frame is as before.
    pub fn push(&mut self, message: &Message, bytes_max: usize) -> bool {
        let before = self.bytes.len();
        together::put_message(message, &mut self.scratch, &mut self.bytes);
        let fits = self.bytes.len() <= bytes_max;
        if !fits {
            self.bytes.truncate(before);
        }
        fits
    }

    /// Whether there is no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == self.empty_bytes
    }

    /// The finished frame.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        let checksum = crc32(&[&self.bytes[HEADER_AT..]]);
        self.bytes[CHECKSUM_AT..HEADER_AT].copy_from_slice(&checksum.to_le_bytes());
        self.bytes.into()
    }
}

/// What a frame holds.
#[derive(Debug)]
pub struct Frame {
    /// Who speaks to whom.
    pub header: Header,
    /// The messages, without the ones of unknown kinds.
    pub messages: Vec<Message>,
    /// How many were of unknown kinds.
    pub unknown: usize,
}

/// Reads a frame. Records in it are slices of `bytes`.
///
/// # Errors
/// When any byte of it is not what it should be; no part of such a frame is used.
pub fn decode(bytes: &Bytes) -> Result<Frame, DecodeError> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != VERSION {
        return Err(reader.error("unknown version of frame"));
    }
    let checksum = reader.u32()?;
    if checksum != crc32(&[&bytes[HEADER_AT..]]) {
        return Err(reader.error("checksum of a frame"));
    }
    let header = Header {
        cluster: ClusterId(u128::from_le_bytes(reader.array()?)),
        from: NodeId(reader.varint()?),
        from_incarnation: Incarnation(reader.u64()?),
        from_boot: Boot(reader.varint()?),
        to_incarnation: Incarnation(reader.u64()?),
        to_boot: Boot(reader.varint()?),
    };
    let mut messages = Vec::new();
    let mut unknown = 0;
    while reader.remaining() > 0 {
        match together::next_message(bytes, &mut reader)? {
            Some(message) => messages.push(message),
            None => unknown += 1,
        }
    }
    Ok(Frame { header, messages, unknown })
}

/// The same bytes with the checksum that a frame of them would have.
pub(crate) fn with_right_checksum(bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    if let Some(rest) = bytes.get(HEADER_AT..) {
        let checksum = crc32(&[rest]);
        bytes[CHECKSUM_AT..HEADER_AT].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes.into()
}

#[cfg(test)]
mod tests;
