//! What a session has seen of one key, and whether a record knows of all that.

use kv_core::codec::{DecodeError, Reader, put_varint};
use kv_core::hlc::Stamp;
use kv_core::record::{Payload, Record, Rule};
use kv_core::version::{Actor, Dot, VersionVector};

/// A state of one key, or all that is needed to tell whether another state is older.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Seen {
    /// The names of the writes that were seen, of a record whose writes have names.
    Writes(VersionVector),
    /// The winner of a last-write-wins record.
    Last(LastWrite),
}

/// What decides between two writes of a last-write-wins record, in this order.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub struct LastWrite {
    /// When it was minted.
    pub birth: Stamp,
    /// Whether it was a delete.
    pub is_tombstone: bool,
    /// Who minted it.
    pub actor: Actor,
}

/// How new the answer to a read in a session must be.
#[derive(Clone, Default, Eq, PartialEq, Debug)]
pub struct Floor {
    /// What the session has seen of the key, if it has or remembers.
    pub seen: Option<Seen>,
}

impl Floor {
    /// What was seen of one key takes at most so many bytes in a session's token: the writes of some thirty replicas. A read that
    /// sees more is not answered below a quorum, so that it need not be remembered.
    pub const SEEN_BYTES_MAX: usize = 512;

    /// Whether a record, or none, is at least as new.
    #[must_use]
    pub fn is_in(&self, record: Option<&Record>) -> bool {
        self.seen.as_ref().is_none_or(|seen| seen.is_in(record))
    }

    /// Whether what there is to see in a record fits into a token.
    #[must_use]
    pub fn can_remember(record: Option<&Record>) -> bool {
        record.and_then(Seen::of).is_none_or(|seen| seen.encoded_bytes() <= Self::SEEN_BYTES_MAX)
    }
}

const WRITES: u8 = 1;
const LAST_VALUE: u8 = 2;
const LAST_TOMBSTONE: u8 = 3;

impl Seen {
    /// All of a record, or `None` when there is nothing in it.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        match record.rule() {
            Rule::LastWriteWins => record.versions().first().map(|(dot, version)| {
                let is_tombstone = version.payload == Payload::Tombstone;
                Self::Last(LastWrite { birth: version.birth, is_tombstone, actor: dot.actor })
            }),
            Rule::Siblings | Rule::Crdt(_) => {
                let dots = Some(record.context()).filter(|context| !context.is_empty());
                dots.cloned().map(Self::Writes)
            }
        }
    }

    /// Whether a record, or none, is at least as new.
    #[must_use]
    pub fn is_in(&self, record: Option<&Record>) -> bool {
        match (self, record) {
            (Self::Writes(dots), None) => dots.is_empty(),
            (Self::Last(_), None) => false,
            (Self::Writes(dots), Some(record)) => record.context().covers(dots),
            (Self::Last(seen), Some(record)) => match Self::of(record) {
                Some(Self::Last(held)) => held >= *seen,
                Some(Self::Writes(_)) | None => false,
            },
        }
    }

    /// The least state that is as new as both. A table never changes its rule, so both are of one kind; were they not,
    /// `other` would be right.
    #[must_use]
    pub(crate) fn join(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Writes(mine), Self::Writes(theirs)) => Self::Writes(mine.join(theirs)),
            (Self::Last(mine), Self::Last(theirs)) => Self::Last(*mine.max(theirs)),
            _ => other.clone(),
        }
    }

    /// As what a writer has seen: the dots of last-write-wins records count by stamp.
    #[must_use]
    pub(crate) fn to_context(&self) -> VersionVector {
        match self {
            Self::Writes(dots) => dots.clone(),
            Self::Last(last) => VersionVector::of(last.dot()),
        }
    }

    /// How many bytes [`Seen::encode`] appends.
    #[must_use]
    pub(crate) fn encoded_bytes(&self) -> usize {
        let mut out = Vec::new();
        self.encode(&mut out);
        out.len()
    }

    /// Appends the encoding.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Writes(dots) => {
                out.push(WRITES);
                dots.encode(out);
            }
            Self::Last(last) => {
                out.push(if last.is_tombstone { LAST_TOMBSTONE } else { LAST_VALUE });
                last.actor.encode(out);
                put_varint(out, last.birth.0);
            }
        }
    }

    /// Reads what [`Seen::encode`] wrote.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            WRITES => Self::Writes(VersionVector::decode(reader)?),
            kind @ (LAST_VALUE | LAST_TOMBSTONE) => {
                let actor = Actor::decode(reader)?;
                Self::Last(LastWrite { birth: Stamp(reader.varint()?), is_tombstone: kind == LAST_TOMBSTONE, actor })
            }
            _ => return Err(reader.error("unknown kind of what was seen")),
        })
    }
}

impl LastWrite {
    /// The name of the write.
    pub(crate) fn dot(&self) -> Dot {
        Dot { actor: self.actor, counter: self.birth.0.max(1) }
    }
}
