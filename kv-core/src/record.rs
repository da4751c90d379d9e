//! What a replica stores under a key: the versions of one record, and how two states of it join.
//!
//! A join is commutative, associative and idempotent and does not look at the time, so a replica applies what peers send
//! blindly, in any order, any number of times. It is the merge operator of the store ([`RecordJoin`]).
//!
//! A delete is a version too: a tombstone with a dot of its own. So it has a time of birth, loses nothing that it had not
//! seen, and leaves a trace that an older write cannot cross.

mod format;
mod operator;
mod purge;
mod visible;

pub use crate::operation::OperationId;
pub use operator::RecordJoin;
pub use purge::{Above, Arrival};

use bytes::Bytes;
use thiserror::Error;

use crate::crdt::{Crdt, Dotted, Kind, Mint, Update, UpdateRefused};
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
    /// All writes are changes of one replicated data type, and none is lost.
    Crdt(Kind),
}

/// Two states that cannot belong to one key.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
#[error("a record of a {0:?} table cannot join one of a {1:?} table")]
pub struct RuleMismatch(pub Rule, pub Rule);

/// The state of one key at one replica, or a change to it: both join alike.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Record {
    body: Body,
}

#[derive(Clone, Eq, PartialEq, Debug)]
enum Body {
    Siblings(DottedVersionSet<Version>),
    LastWrite(DottedVersionSet<Version>),
    /// With the birth of the latest change.
    Crdt(Stamp, Dotted<Crdt>),
}

impl Record {
    /// The state of a key that was never written.
    #[must_use]
    pub fn empty(rule: Rule) -> Self {
        let body = match rule {
            Rule::Siblings => Body::Siblings(DottedVersionSet::new()),
            Rule::LastWriteWins => Body::LastWrite(DottedVersionSet::new()),
            Rule::Crdt(kind) => Body::Crdt(Stamp::ZERO, Dotted::of(Crdt::empty(kind), VersionVector::new())),
        };
        Self { body }
    }

    /// A siblings state of these versions.
    #[must_use]
    pub const fn of_siblings(set: DottedVersionSet<Version>) -> Self {
        Self { body: Body::Siblings(set) }
    }

    /// The change that a write makes which had seen `seen` of a siblings record. `self` is the state at the replica that
    /// mints, and supplies the counter; see [`DottedVersionSet::event`].
    ///
    /// # Panics
    /// When the record's rule is not [`Rule::Siblings`].
    #[must_use]
    pub fn sibling(&self, actor: Actor, counter_floor: u64, seen: &VersionVector, version: Version) -> Self {
        let Body::Siblings(set) = &self.body else { panic!("only siblings records are replaced by context") };
        Self { body: Body::Siblings(set.event(actor, counter_floor, seen, version)) }
    }

    /// A last-write-wins state. Its dot counts by stamp: a clock never mints one twice, so no history is needed to know the
    /// next, and the record holds the winner and nothing else.
    #[must_use]
    pub fn last_write(actor: Actor, version: Version) -> Self {
        let dot = Dot { actor, counter: version.birth.0.max(1) };
        let set = DottedVersionSet::from_parts(VersionVector::of(dot), vec![(dot, version)]);
        Self { body: Body::LastWrite(set.expect("the context was made of the dot")) }
    }

    /// The change that a client's update makes to a record of a replicated data type. `self` is the state at the replica that
    /// mints. The dot is `actor`'s next, above `counter_floor`; `birth` must lie above [`Record::birth_max`].
    ///
    /// See [`Dotted::change`]. A retry of a counter's operation gives the earlier change again, under its dot.
    ///
    /// # Errors
    /// [`UpdateRefused`]; nothing was changed.
    ///
    /// # Panics
    /// When the record's rule is not [`Rule::Crdt`].
    pub fn updated(
        &self,
        actor: Actor,
        counter_floor: u64,
        birth: Stamp,
        operation: Option<OperationId>,
        seen: Option<&VersionVector>,
        update: &Update,
    ) -> Result<Self, UpdateRefused> {
        let Body::Crdt(_, state) = &self.body else { panic!("only records of replicated data types are updated") };
        let mint = Mint { dot: state.next_dot(actor, counter_floor), birth, operation };
        Ok(Self { body: Body::Crdt(birth, state.change(mint, seen, update)?) })
    }

    /// The rule of the record's table.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        match &self.body {
            Body::Siblings(_) => Rule::Siblings,
            Body::LastWrite(_) => Rule::LastWriteWins,
            Body::Crdt(_, state) => Rule::Crdt(state.value().kind()),
        }
    }

    /// Every write that this state knows of, replaced or not. Of a last-write-wins record: the winner.
    #[must_use]
    pub const fn context(&self) -> &VersionVector {
        match &self.body {
            Body::Siblings(set) | Body::LastWrite(set) => set.context(),
            Body::Crdt(_, state) => state.context(),
        }
    }

    /// Versions that nothing has replaced, tombstones and expired ones included, in the order of dots. A replicated data
    /// type has none.
    #[must_use]
    pub fn versions(&self) -> &[(Dot, Version)] {
        match &self.body {
            Body::Siblings(set) | Body::LastWrite(set) => set.versions(),
            Body::Crdt(..) => &[],
        }
    }

    /// The replicated data type, of a record that is one.
    #[must_use]
    pub const fn crdt(&self) -> Option<&Crdt> {
        match &self.body {
            Body::Crdt(_, state) => Some(state.value()),
            Body::Siblings(_) | Body::LastWrite(_) => None,
        }
    }

    /// The highest stamp in the record, or zero.
    #[must_use]
    pub fn birth_max(&self) -> Stamp {
        match &self.body {
            Body::Crdt(birth, _) => *birth,
            Body::Siblings(set) | Body::LastWrite(set) => {
                set.versions().iter().map(|(_, version)| version.birth).max().unwrap_or(Stamp::ZERO)
            }
        }
    }

    /// The least state that knows what both know.
    ///
    /// # Errors
    /// [`RuleMismatch`].
    pub fn join(&self, other: &Self) -> Result<Self, RuleMismatch> {
        let body = match (&self.body, &other.body) {
            (Body::Siblings(mine), Body::Siblings(theirs)) => Body::Siblings(mine.join(theirs)),
            (Body::LastWrite(mine), Body::LastWrite(theirs)) => {
                let later = if last_write_order(mine) >= last_write_order(theirs) { mine } else { theirs };
                Body::LastWrite(later.clone())
            }
            (Body::Crdt(birth, mine), Body::Crdt(other_birth, theirs))
                if mine.value().kind() == theirs.value().kind() =>
            {
                Body::Crdt(*birth.max(other_birth), mine.join(theirs))
            }
            _ => return Err(RuleMismatch(self.rule(), other.rule())),
        };
        Ok(Self { body })
    }
}

/// What decides between two last-write-wins states; an empty one loses to all.
fn last_write_order(set: &DottedVersionSet<Version>) -> Option<(Stamp, bool, Actor, &Version)> {
    let (dot, version) = set.versions().first()?;
    Some((version.birth, version.payload == Payload::Tombstone, dot.actor, version))
}

#[cfg(test)]
mod tests;
