//! What a replica stores under a key: the versions of one record, and how two states of it join.
//!
//! A join is commutative, associative and idempotent and does not look at the time, so a replica applies what peers send
//! blindly, in any order, any number of times. It is the merge operator of the store ([`RecordJoin`]).
//!
//! A delete is a version too: a tombstone with a dot of its own. So it has a time of birth, loses nothing that it had not
//! seen, and leaves a trace that an older write cannot cross.

mod format;
mod operator;

pub use crate::operation::OperationId;
pub use operator::RecordJoin;

use bytes::Bytes;
use thiserror::Error;

use crate::expiry::Expiry;
use crate::hlc::Stamp;
use crate::version::{Actor, Dot, DottedVersionSet, VersionVector};

/// What a version says about the key.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub enum Payload {
    /// It has this value.
    Value(Bytes),
    /// It was deleted.
    Tombstone,
}

/// One write, apart from its dot. Never changes after it was minted.
///
/// The order is that of last-write-wins: the later birth wins, and the remaining fields break ties between births alike.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub struct Version {
    /// When it was minted.
    pub birth: Stamp,
    /// Value or tombstone; between equal births the tombstone wins, then the greater bytes.
    pub payload: Payload,
    /// From when on it is hidden.
    pub expiry: Expiry,
    /// The client's name for the operation.
    pub operation: Option<OperationId>,
}

/// How the versions of a key relate. Fixed when a table is created, and written into each of its records.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum Rule {
    /// A write replaces what it had seen; concurrent writes stand side by side.
    Siblings,
    /// The write with the greatest stamp stands alone. Ties: a delete wins, then the actor, then the bytes.
    LastWriteWins,
}

/// Two states that cannot belong to one key.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
#[error("a record of a {0:?} table cannot join one of a {1:?} table")]
pub struct RuleMismatch(pub Rule, pub Rule);

/// The state of one key at one replica, or a change to it: both join alike.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Record {
    rule: Rule,
    set: DottedVersionSet<Version>,
}

impl Record {
    /// The state of a key that was never written.
    #[must_use]
    pub fn empty(rule: Rule) -> Self {
        Self { rule, set: DottedVersionSet::new() }
    }

    /// A siblings state of these versions.
    #[must_use]
    pub const fn of_siblings(set: DottedVersionSet<Version>) -> Self {
        Self { rule: Rule::Siblings, set }
    }

    /// The change that a write makes which had seen `seen` of a siblings record. `self` is the state at the replica that
    /// mints, and supplies the counter; see [`DottedVersionSet::event`].
    ///
    /// # Panics
    /// When the record's rule is not [`Rule::Siblings`].
    #[must_use]
    pub fn sibling(&self, actor: Actor, counter_floor: u64, seen: &VersionVector, version: Version) -> Self {
        assert_eq!(self.rule, Rule::Siblings, "only siblings records are replaced by context");
        Self { rule: self.rule, set: self.set.event(actor, counter_floor, seen, version) }
    }

    /// A last-write-wins state. Its dot counts by stamp: a clock never mints one twice, so no history is needed to know the
    /// next, and the record holds the winner and nothing else.
    #[must_use]
    pub fn last_write(actor: Actor, version: Version) -> Self {
        let dot = Dot { actor, counter: version.birth.0.max(1) };
        let set = DottedVersionSet::from_parts(VersionVector::of(dot), vec![(dot, version)]);
        Self { rule: Rule::LastWriteWins, set: set.expect("the context was made of the dot") }
    }

    /// The rule of the record's table.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        self.rule
    }

    /// Every write that this state knows of, replaced or not. Of a last-write-wins record: the winner.
    #[must_use]
    pub const fn context(&self) -> &VersionVector {
        self.set.context()
    }

    /// Versions that nothing has replaced, tombstones and expired ones included, in the order of dots.
    #[must_use]
    pub fn versions(&self) -> &[(Dot, Version)] {
        self.set.versions()
    }

    /// The highest stamp in the record, or zero.
    #[must_use]
    pub fn birth_max(&self) -> Stamp {
        self.versions().iter().map(|(_, version)| version.birth).max().unwrap_or(Stamp::ZERO)
    }

    /// The least state that knows what both know.
    ///
    /// # Errors
    /// [`RuleMismatch`].
    pub fn join(&self, other: &Self) -> Result<Self, RuleMismatch> {
        if self.rule != other.rule {
            return Err(RuleMismatch(self.rule, other.rule));
        }
        Ok(match self.rule {
            Rule::Siblings => Self { rule: self.rule, set: self.set.join(&other.set) },
            Rule::LastWriteWins if last_write_order(self) >= last_write_order(other) => self.clone(),
            Rule::LastWriteWins => other.clone(),
        })
    }
}

/// What decides between two last-write-wins states; an empty one loses to all.
fn last_write_order(record: &Record) -> Option<(Stamp, bool, Actor, &Version)> {
    let (dot, version) = record.versions().first()?;
    Some((version.birth, version.payload == Payload::Tombstone, dot.actor, version))
}

#[cfg(test)]
mod tests;
