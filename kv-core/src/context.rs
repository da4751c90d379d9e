//! The causal context that a client carries from a read to its next write, as opaque bytes.
//!
//! ```text
//! context := format:u8 (1)  table:u32  XXH3-64 of the record key, seed 0:u64  version vector  crc32 of all before:u32
//! ```
//!
//! It is tied to the key's table and to the whole key, so that the context of another key is an error and not a silent overwrite.

use bytes::Bytes;
use thiserror::Error;

use crate::checksum::crc32;
use crate::codec::{DecodeError, Reader};
use crate::hash::seeded;
use crate::key::RecordKey;
use crate::version::VersionVector;

const FORMAT: u8 = 1;
const CHECKSUM_BYTES: usize = 4;
/// Room for a context of one actor.
const USUAL_BYTES: usize = 64;

/// What a client had seen of one key. Get it from a read or a write, hand it to the next write of that key.
#[derive(Clone, Eq, PartialEq, Hash, Debug)]
pub struct CausalContext(Bytes);

impl From<&CausalContext> for CausalContext {
    fn from(context: &CausalContext) -> Self {
        context.clone()
    }
}

/// A context that is not the key's, was cut, or was altered. Nothing was written.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
pub enum InvalidContext {
    /// The bytes are not a context.
    #[error("not a causal context: {0}")]
    Malformed(DecodeError),
    /// The checksum does not match.
    #[error("the causal context was altered")]
    Altered,
    /// A context of another table or key.
    #[error("the causal context belongs to another key")]
    OtherKey,
}

impl CausalContext {
    /// Seals what was seen of `key`.
    #[must_use]
    pub fn seal(key: &RecordKey, seen: &VersionVector) -> Self {
        let mut out = Vec::with_capacity(USUAL_BYTES);
        out.push(FORMAT);
        out.extend_from_slice(&key.table().0.to_le_bytes());
        out.extend_from_slice(&seeded(key.as_bytes(), 0).to_le_bytes());
        seen.encode(&mut out);
        let checksum = crc32(&[&out]);
        out.extend_from_slice(&checksum.to_le_bytes());
        Self(out.into())
    }

    /// Takes bytes that a client stored in between. They are checked when they are used.
    #[must_use]
    pub const fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// What was seen, if the context is whole and `key`'s.
    ///
    /// # Errors
    /// [`InvalidContext`].
    pub fn open(&self, key: &RecordKey) -> Result<VersionVector, InvalidContext> {
        let Some(body_bytes) = self.0.len().checked_sub(CHECKSUM_BYTES) else {
            return Err(InvalidContext::Malformed(DecodeError { offset: self.0.len(), what: "too short" }));
        };
        let (body, checksum) = self.0.split_at(body_bytes);
        if crc32(&[body]).to_le_bytes() != checksum {
            return Err(InvalidContext::Altered);
        }
        let mut reader = Reader::new(body);
        let mut parse = || {
            if reader.u8()? != FORMAT {
                return Err(reader.error("unknown format of context"));
            }
            let owner = (reader.u32()?, reader.u64()?);
            Ok((owner, VersionVector::decode(&mut reader)?))
        };
        let (owner, seen) = parse().map_err(InvalidContext::Malformed)?;
        reader.finish().map_err(InvalidContext::Malformed)?;
        if owner == (key.table().0, seeded(key.as_bytes(), 0)) { Ok(seen) } else { Err(InvalidContext::OtherKey) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;
    use crate::key::{Key, TableId};
    use crate::version::{Actor, Dot, Incarnation};

    #[test]
    fn a_context_opens_for_its_own_key_only() {
        let key = RecordKey::new(TableId(1), &Key::from("a")).unwrap();
        let actor = Actor { node: NodeId(1), incarnation: Incarnation(9), epoch: 2 };
        let seen = VersionVector::of(Dot { actor, counter: 3 });
        let context = CausalContext::seal(&key, &seen);
        assert_eq!(context.open(&key), Ok(seen));

        let other_key = RecordKey::new(TableId(1), &Key::from("b")).unwrap();
        let other_sort_key = RecordKey::new(TableId(1), &Key::from(("a", "sort"))).unwrap();
        assert_eq!(context.open(&other_sort_key), Err(InvalidContext::OtherKey));
        let other_table = RecordKey::new(TableId(2), &Key::from("a")).unwrap();
        assert_eq!(context.open(&other_key), Err(InvalidContext::OtherKey));
        assert_eq!(context.open(&other_table), Err(InvalidContext::OtherKey));

        for at in 0..context.as_bytes().len() {
            let mut bytes = context.as_bytes().to_vec();
            bytes[at] ^= 0x10;
            assert_eq!(CausalContext::from_bytes(bytes.into()).open(&key), Err(InvalidContext::Altered));
            let cut = context.as_bytes().slice(..at);
            assert!(CausalContext::from_bytes(cut).open(&key).is_err());
        }
    }
}
