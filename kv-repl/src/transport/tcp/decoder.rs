//! Received bytes into a preamble and frames. Knows no socket; memory grows only with what has been received.

use bytes::{Bytes, BytesMut};

use super::frame::{FRAME_HEADER_BYTES, FrameHeader, Malformed, Preamble};
use crate::transport::Lane;

/// A buffer that grew beyond this for a large frame is let go once it is empty.
const RETAINED_BYTES: usize = 256 << 10;

/// The receiving end of one connection.
#[derive(Default)]
pub(super) struct Decoder {
    buffer: BytesMut,
    greeted: bool,
    /// Whether a frame over [`RETAINED_BYTES`] went through the buffer.
    grown: bool,
}

/// What a peer sends.
#[derive(Eq, PartialEq, Debug)]
pub(super) enum Received {
    /// First, and once.
    Preamble(Preamble),
    /// Afterwards.
    Frame(Lane, Bytes),
}

impl Decoder {
    /// Takes bytes as they came from the socket.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether every byte that was pushed has been handed out.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// What comes next, or `None` until more is pushed; a frame is at most `frame_bytes_max` long. After an error nothing
    /// that follows can be trusted.
    pub(super) fn next(&mut self, frame_bytes_max: usize) -> Result<Option<Received>, Malformed> {
        if !self.greeted {
            let Some((preamble, bytes)) = Preamble::decode(&self.buffer)? else { return Ok(None) };
            self.greeted = true;
            let _ = self.buffer.split_to(bytes);
            return Ok(Some(Received::Preamble(preamble)));
        }
        let Some(header) = FrameHeader::decode(&self.buffer)? else {
            self.shrink();
            return Ok(None);
        };
        if header.length > frame_bytes_max {
            return Err(Malformed::FrameTooLong(header.length));
        }
        let end = FRAME_HEADER_BYTES + header.length;
        let Some(frame) = self.buffer.get(FRAME_HEADER_BYTES..end) else { return Ok(None) };
        header.check(frame)?;
        self.grown |= header.length > RETAINED_BYTES;
        // The frame shares the buffer's memory: one allocation serves all the frames of a read.
        let frame = self.buffer.split_to(end).freeze().slice(FRAME_HEADER_BYTES..);
        Ok(Some(Received::Frame(header.lane, frame)))
    }

    fn shrink(&mut self) {
        if self.grown && self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.grown = false;
        }
    }
}

#[cfg(test)]
mod tests;
