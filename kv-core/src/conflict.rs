//! The rule of a table: what becomes of writes that have not seen each other.
//!
//! | rule | concurrent writes | what it costs |
//! |---|---|---|
//! | [`Conflict::Siblings`] | all stay, side by side, and the application merges them | the application must |
//! | [`Conflict::Merged`] | as siblings; readers see them merged by a function of the host | the function must be fair to all |
//! | [`Conflict::Crdt`] | merged by the data type itself | values are of that type |
//! | [`Conflict::LastWriteWins`] | the one with the greatest stamp stays; ties go to a delete, then the actor, then the bytes | the others are lost, acknowledged or not |
//!
//! There is no default: who wants to lose writes asks for it by name. (Kingsbury's tests of Riak lost 30 to 70 % of
//! acknowledged writes to last-write-wins, with every quorum at its strictest.)

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::crdt::Kind;
use crate::record::{Record, Rule, RuleMismatch};
use crate::time::Millis;

/// How a table resolves conflicts.
#[derive(Clone)]
pub enum Conflict {
    /// Concurrent values stand side by side until a writer that has seen them replaces them.
    Siblings,
    /// The write with the greatest stamp stands alone.
    LastWriteWins,
    /// Siblings, which this function merges where they are read. Replicas store them as under [`Conflict::Siblings`], so
    /// nothing is lost when the function changes or is wrong.
    Merged(Arc<dyn Merge>),
    /// Values of this replicated data type.
    Crdt(Kind),
}

/// Merges the values of concurrent writes: the application's part in resolving conflicts, as in Dynamo (DeCandia and others, SOSP
/// 2007), where it is the shopping cart.
///
/// A merge is written back with a context that covers what was merged. Two readers may do so at once, and their merges are
/// siblings again; so that this ends, equal values must give equal bytes, whatever their order, and merging a
/// merge with what went into it must give the merge. [`unfair`] finds cases in which they do not.
pub trait Merge: Send + Sync {
    /// One value for all of `values`, of which there are at least two, oldest first.
    fn merge(&self, key: &[u8], values: &[&Bytes]) -> Bytes;
}

impl<F: Fn(&[u8], &[&Bytes]) -> Bytes + Send + Sync> Merge for F {
    fn merge(&self, key: &[u8], values: &[&Bytes]) -> Bytes {
        self(key, values)
    }
}

/// What a reader is given.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Resolved {
    /// The values: at most one, but for [`Conflict::Siblings`].
    pub values: Vec<Bytes>,
    /// Whether the value is a merge that no replica holds yet. Write it with the context of the read, so that the next
    /// reader finds one value.
    pub is_new: bool,
}

impl Conflict {
    /// The rule by which replicas join records.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        match self {
            Self::Siblings | Self::Merged(_) => Rule::Siblings,
            Self::LastWriteWins => Rule::LastWriteWins,
            Self::Crdt(kind) => Rule::Crdt(*kind),
        }
    }

    /// What a reader of `key` sees of its record at `as_of` (wall time). The value of a replicated data type is
    /// [`Record::crdt`], and there is none here.
    #[must_use]
    pub fn resolve(&self, key: &[u8], record: &Record, as_of: Millis) -> Resolved {
        let values = record.values(as_of);
        match self {
            Self::Merged(merge) if values.len() > 1 => {
                Resolved { values: vec![merge.merge(key, &values)], is_new: true }
            }
            _ => Resolved { values: values.into_iter().cloned().collect(), is_new: false },
        }
    }
}

impl fmt::Debug for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Siblings => f.write_str("Siblings"),
            Self::LastWriteWins => f.write_str("LastWriteWins"),
            Self::Merged(_) => f.write_str("Merged"),
            Self::Crdt(kind) => write!(f, "Crdt({kind:?})"),
        }
    }
}

/// How a merge breaks the laws that let readers agree.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Unfair {
    /// The order of the values matters.
    Order,
    /// A merge, merged with what went into it, is another.
    Repetition,
    /// Merging some first and the rest later gives another value.
    Grouping,
}

/// Looks for a law that `merge` breaks on these values. For the tests of whoever writes a merge.
#[must_use]
pub fn unfair(merge: &dyn Merge, key: &[u8], [a, b, c]: [&Bytes; 3]) -> Option<Unfair> {
    let all = |values: &[&Bytes]| merge.merge(key, values);
    let ab = all(&[a, b]);
    if ab != all(&[b, a]) || all(&[a, b, c]) != all(&[c, a, b]) {
        Some(Unfair::Order)
    } else if all(&[&ab, a]) != ab || all(&[&ab, &ab]) != ab {
        Some(Unfair::Repetition)
    } else if all(&[&ab, c]) != all(&[a, &all(&[b, c])]) || all(&[&ab, c]) != all(&[a, b, c]) {
        Some(Unfair::Grouping)
    } else {
        None
    }
}

/// A change that a record does not take. Nothing was changed.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
pub enum NotAdmitted {
    /// The record holds as many concurrent versions as it may. Read it, merge them, write with the context.
    #[error(
        "the record holds {held} concurrent versions of at most {held_max}; read, merge, and write with the context"
    )]
    TooManySiblings {
        /// How many it holds.
        held: usize,
        /// The limit.
        held_max: usize,
    },
    /// The change is not of the record's rule.
    #[error(transparent)]
    RuleMismatch(#[from] RuleMismatch),
}

/// What `stored` becomes with a change that its replica is about to mint, if that leaves it within `siblings_max` versions.
///
/// Only the replica that mints asks. What others minted is joined without asking, because they have acknowledged
/// it: so a record can be over the limit, and then takes writes that leave it no larger. Nothing is ever dropped.
///
/// # Errors
/// [`NotAdmitted`].
pub fn admit(stored: &Record, change: &Record, siblings_max: usize) -> Result<Record, NotAdmitted> {
    let joined = stored.join(change)?;
    let held = stored.versions().len();
    if held >= siblings_max && joined.versions().len() > held {
        return Err(NotAdmitted::TooManySiblings { held, held_max: siblings_max });
    }
    Ok(joined)
}

#[cfg(test)]
mod tests;
