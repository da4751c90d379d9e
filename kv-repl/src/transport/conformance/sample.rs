//! Frames that say themselves who sent them to whom, how, and what their bytes must be.
//!
//! ```text
//! sample := number:u64  from:u64  to:u64  bytes of all:u64  lane:u8  wish:u8  filling
//! ```

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::codec::Reader;
use kv_core::hash::seeded;

use crate::transport::Lane;

/// The shortest sample.
pub(super) const SAMPLE_BYTES_MIN: usize = 4 * 8 + 2;

/// What a frame of the suite says of itself. No two of one check have the same number.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Sample {
    pub(super) number: u64,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) lane: Lane,
    /// Whether the receiver is to answer within its turn.
    pub(super) wants_answer: bool,
    pub(super) bytes: usize,
}

impl Sample {
    /// The frame: at least [`SAMPLE_BYTES_MIN`] bytes.
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(self.bytes.max(SAMPLE_BYTES_MIN));
        for word in [self.number, self.from.0, self.to.0, self.bytes as u64] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.push(lane_code(self.lane));
        bytes.push(u8::from(self.wants_answer));
        let mut word = self.number;
        while bytes.len() < self.bytes {
            word = seeded(&word.to_le_bytes(), self.number);
            let filling = word.to_le_bytes();
            bytes.extend_from_slice(&filling[..filling.len().min(self.bytes - bytes.len())]);
        }
        bytes.into()
    }

    /// What was sent, or what is wrong with a frame that was delivered to `at` as one of `from` on `lane`.
    pub(super) fn check(at: NodeId, from: NodeId, lane: Lane, frame: &Bytes) -> Result<Self, String> {
        let sample = Self::decode(frame).ok_or_else(|| {
            format!("{at} was given a frame of {} bytes that nobody sent: it was cut or altered", frame.len())
        })?;
        let number = sample.number;
        if sample.bytes != frame.len() {
            return Err(format!("frame {number} of {} bytes was delivered as {} bytes", sample.bytes, frame.len()));
        }
        if sample.to != at {
            return Err(format!("frame {number} for {} was delivered to {at}", sample.to));
        }
        if sample.from != from {
            return Err(format!("frame {number} of {} was delivered as one of {from}", sample.from));
        }
        if sample.lane != lane {
            return Err(format!("frame {number} was sent on {:?} and delivered on {lane:?}", sample.lane));
        }
        if sample.encode() != *frame {
            return Err(format!("frame {number} was altered on its way"));
        }
        Ok(sample)
    }

    fn decode(frame: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(frame);
        let mut word = || reader.u64().ok();
        let (number, from, to, bytes) = (word()?, word()?, word()?, word()?);
        let lane = match reader.u8().ok()? {
            1 => Lane::Control,
            2 => Lane::Request,
            3 => Lane::Bulk,
            _ => return None,
        };
        let wants_answer = reader.u8().ok()? == 1;
        let bytes = usize::try_from(bytes).ok()?;
        Some(Self { number, from: NodeId(from), to: NodeId(to), lane, wants_answer, bytes })
    }
}

const fn lane_code(lane: Lane) -> u8 {
    match lane {
        Lane::Control => 1,
        Lane::Request => 2,
        Lane::Bulk => 3,
    }
}
