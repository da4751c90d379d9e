//! Merge operators: how a store joins operands that were written blindly.

use std::sync::Arc;

use super::Corrupt;
use crate::time::Millis;

/// How far a fold may go.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Fold {
    /// Older operands or a base may lie deeper: combine the operands into one operand.
    Partial,
    /// Everything there is of the key is here: produce the value that a read at `as_of` (wall time) sees.
    Complete {
        /// The wall time of the read or compaction.
        as_of: Millis,
    },
}

/// What a fold came to.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Folded {
    /// The bytes written to `out` stand for base and operands (or, after [`Fold::Partial`], for the operands).
    Value,
    /// The key is absent. Only a complete fold may say so.
    Absent,
}

/// Joins merge operands. Registered per space when a store is opened; called by reads, flushes and compactions, in any
/// grouping that keeps the order of age.
///
/// It must be associative: folding the operands in groups and then the results gives the same as folding all at once.
pub trait MergeOperator: Send + Sync {
    /// Folds `oldest_first` onto `base` and appends the result to `out`, which is empty.
    ///
    /// # Errors
    /// [`Corrupt`] when base or operands are not what this operator wrote; the read that asked for it fails with the same.
    fn fold(
        &self,
        key: &[u8],
        base: Option<&[u8]>,
        oldest_first: &[&[u8]],
        how: Fold,
        out: &mut Vec<u8>,
    ) -> Result<Folded, Corrupt>;
}

/// How one space is opened.
#[derive(Clone, Default)]
pub struct SpaceOptions {
    /// The operator of merges; without one, merges are refused.
    pub merge: Option<Arc<dyn MergeOperator>>,
}

impl std::fmt::Debug for SpaceOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpaceOptions").field("merge", &self.merge.is_some()).finish()
    }
}
