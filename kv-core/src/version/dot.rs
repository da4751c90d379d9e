//! The name of one write.

use std::fmt;

use crate::NodeId;
use crate::codec::{DecodeError, Reader, put_varint};

/// Drawn at random when a node's storage is created, and kept in it. A node that lost its disk is another incarnation.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Incarnation(pub u64);

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Who mints dots: a node, with the storage it remembers by, in an epoch that changes whenever that memory may have a hole
/// (an unclean stop, an import). Counters of one actor are never used twice, because an actor whose memory is in doubt is
/// never used again.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Actor {
    /// The member.
    pub node: NodeId,
    /// Its storage.
    pub incarnation: Incarnation,
    /// Counts the doubts about that storage.
    pub epoch: u32,
}

impl Actor {
    /// Appends the encoding: node varint, incarnation in eight bytes, epoch varint.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.node.0);
        out.extend_from_slice(&self.incarnation.0.to_le_bytes());
        put_varint(out, u64::from(self.epoch));
    }

    /// Fewest bytes [`Actor::encode`] appends.
    pub const BYTES_MIN: usize = 10;

    /// Reads what [`Actor::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not an actor.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { node: NodeId(reader.varint()?), incarnation: Incarnation(reader.u64()?), epoch: reader.varint32()? })
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:?}/{}", self.node, self.incarnation, self.epoch)
    }
}

/// The name of one write: the actor that minted it and the actor's count.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Dot {
    /// Who minted it.
    pub actor: Actor,
    /// From one upwards. Zero names no write.
    pub counter: u64,
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.actor, self.counter)
    }
}
