//! The bytes between two nodes: one preamble in each direction, then frames from the dialer. Documented with a worked
//! example in `docs/protocol.md`, "TCP framing".
//!
//! ```text
//! preamble := magic:8  protocol_min:u16  protocol_max:u16  features:u64  node:u64  extension_bytes:u16  extension  crc:u32
//! frame    := length:u32  lane:u8  crc:u32  bytes
//! ```

use kv_core::NodeId;
use kv_core::checksum::crc32;
use kv_core::codec::{DecodeError, Reader};
use thiserror::Error;

use crate::transport::Lane;

/// How every preamble begins. The line end shows a path that rewrites text, as in PNG.
pub(super) const MAGIC: [u8; 8] = *b"kvrepl\r\n";

/// The versions of the framing that this code speaks.
pub(super) const PROTOCOL_MIN: u16 = 1;
pub(super) const PROTOCOL_MAX: u16 = 1;

/// Feature bits that this code offers. A feature is used where both ends offer it.
pub(super) const FEATURES: u64 = 0;

/// Bytes of a preamble before its extension.
const PREAMBLE_HEAD_BYTES: usize = 8 + 2 + 2 + 8 + 8 + 2;
const CRC_BYTES: usize = 4;

/// Longest preamble, extension included: what a stranger may make a node hold.
pub(super) const PREAMBLE_BYTES_MAX: usize = 4096;
const EXTENSION_BYTES_MAX: usize = PREAMBLE_BYTES_MAX - PREAMBLE_HEAD_BYTES - CRC_BYTES;

/// Bytes before those of a frame.
pub(super) const FRAME_HEADER_BYTES: usize = 4 + 1 + 4;

/// Longest frame, without its header.
pub(super) const FRAME_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(FRAME_BYTES_MAX <= u32::MAX as usize, "a length must fit its field");

/// Why a connection was closed: what came is not what this protocol says.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
pub(super) enum Malformed {
    #[error("not the preamble of this protocol")]
    Magic,
    #[error("an extension of {0} bytes is over the limit")]
    ExtensionTooLong(usize),
    #[error("the preamble's checksum is wrong")]
    PreambleChecksum,
    #[error("a frame of {0} bytes is over the limit")]
    FrameTooLong(usize),
    #[error("unknown lane {0}")]
    Lane(u8),
    #[error("a frame's checksum is wrong")]
    FrameChecksum,
}

/// What a node says of itself before anything else.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Preamble {
    pub(super) protocol_min: u16,
    pub(super) protocol_max: u16,
    pub(super) features: u64,
    pub(super) node: NodeId,
}

impl Preamble {
    /// What this code says for `node`.
    pub(super) const fn of(node: NodeId) -> Self {
        Self { protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX, features: FEATURES, node }
    }

    /// Whether the two ends have a version in common, and the other is somebody.
    pub(super) const fn is_acceptable(&self) -> bool {
        self.protocol_min <= PROTOCOL_MAX && PROTOCOL_MIN <= self.protocol_max && self.node.0 != 0
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PREAMBLE_HEAD_BYTES + CRC_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.protocol_min.to_le_bytes());
        bytes.extend_from_slice(&self.protocol_max.to_le_bytes());
        bytes.extend_from_slice(&self.features.to_le_bytes());
        bytes.extend_from_slice(&self.node.0.to_le_bytes());
        bytes.extend_from_slice(&0_u16.to_le_bytes());
        let crc = crc32(&[&bytes]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The preamble at the start of `bytes` and its length, or `None` while it is not all there. An extension is checked
    /// and skipped.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let common = bytes.len().min(MAGIC.len());
        if bytes[..common] != MAGIC[..common] {
            // Said as early as possible: a stranger's first bytes are enough.
            return Err(Malformed::Magic);
        }
        let Ok((preamble, extension_bytes)) = Self::read_head(&mut Reader::new(bytes)) else { return Ok(None) };
        if extension_bytes > EXTENSION_BYTES_MAX {
            return Err(Malformed::ExtensionTooLong(extension_bytes));
        }
        let covered = PREAMBLE_HEAD_BYTES + extension_bytes;
        let Some(crc) = bytes.get(covered..covered + CRC_BYTES) else { return Ok(None) };
        if crc != crc32(&[&bytes[..covered]]).to_le_bytes() {
            return Err(Malformed::PreambleChecksum);
        }
        Ok(Some((preamble, covered + CRC_BYTES)))
    }

    fn read_head(reader: &mut Reader<'_>) -> Result<(Self, usize), DecodeError> {
        reader.bytes(MAGIC.len())?;
        let preamble = Self {
            protocol_min: reader.u16()?,
            protocol_max: reader.u16()?,
            features: reader.u64()?,
            node: NodeId(reader.u64()?),
        };
        Ok((preamble, usize::from(reader.u16()?)))
    }
}

/// What stands before the bytes of a frame.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct FrameHeader {
    pub(super) length: usize,
    pub(super) lane: Lane,
    crc: u32,
}

impl FrameHeader {
    /// The header of a frame, which must not be longer than [`FRAME_BYTES_MAX`].
    pub(super) fn encode(lane: Lane, frame: &[u8]) -> [u8; FRAME_HEADER_BYTES] {
        assert!(frame.len() <= FRAME_BYTES_MAX, "longer frames are refused before they are encoded");
        let length = u32::try_from(frame.len()).expect("checked when this was compiled");
        let mut header = [0; FRAME_HEADER_BYTES];
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4] = lane_code(lane);
        let crc = crc32(&[&header[..5], frame]);
        header[5..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// The header at the start of `bytes`, or `None` while it is not all there. The length is within the limit.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut reader = Reader::new(bytes);
        let (Ok(length), Ok(lane), Ok(crc)) = (reader.u32(), reader.u8(), reader.u32()) else { return Ok(None) };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(Malformed::FrameTooLong(length));
        }
        Ok(Some(Self { length, lane: lane_of(lane)?, crc }))
    }

    /// Checks that `frame` is what the sender put behind this header.
    pub(super) fn check(&self, frame: &[u8]) -> Result<(), Malformed> {
        if Self::encode(self.lane, frame)[5..] == self.crc.to_le_bytes() {
            Ok(())
        } else {
            Err(Malformed::FrameChecksum)
        }
    }
}

const fn lane_code(lane: Lane) -> u8 {
    match lane {
        Lane::Control => 1,
        Lane::Request => 2,
        Lane::Bulk => 3,
    }
}

const fn lane_of(code: u8) -> Result<Lane, Malformed> {
    match code {
        1 => Ok(Lane::Control),
        2 => Ok(Lane::Request),
        3 => Ok(Lane::Bulk),
        _ => Err(Malformed::Lane(code)),
    }
}

#[cfg(test)]
mod tests;
