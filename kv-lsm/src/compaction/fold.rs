//! What a flush or compaction keeps of one key. A pure function.
//!
//! *Boundaries* are the sequence numbers that somebody reads at. Versions between two boundaries form an *interval*: whoever
//! sees one of them sees all of them, so of each interval only what it comes to is kept.
//!
//! 1. Cut the versions, newest first, into intervals.
//! 2. Within an interval, the newest deleted range that covers the key hides what is older, and is the end of it.
//! 3. The newest put or delete hides what is older. Merge operands above it fold onto it.
//! 4. Operands without a base fold completely when nothing older exists anywhere, else into one operand at the highest of
//!    their numbers (rule E10): never across a boundary, never across a deleted range.
//! 5. Deletes that nothing older lies under, in the input or deeper, say nothing and are dropped.

use std::ops::Range;
use std::sync::Arc;

use kv_core::store::{Fold, Folded, MergeOperator};
use kv_core::time::Millis;

use crate::internal_key::{Kind, Trailer};

/// The versions of one key, newest first.
#[derive(Default)]
pub(crate) struct KeyVersions {
    bytes: Vec<u8>,
    parts: Vec<(Trailer, Range<usize>)>,
}

impl KeyVersions {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.parts.clear();
    }

    pub(crate) fn push(&mut self, trailer: Trailer, value: &[u8]) {
        debug_assert!(self.parts.last().is_none_or(|last| last.0 > trailer), "newest first");
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.parts.push((trailer, start..self.bytes.len()));
    }

    fn value(&self, index: usize) -> &[u8] {
        &self.bytes[self.parts[index].1.clone()]
    }
}

/// What is the same for all keys of one job.
pub(crate) struct FoldRules {
    /// Ascending; no version is above the last.
    pub(crate) boundaries: Vec<u64>,
    pub(crate) operator: Option<Arc<dyn MergeOperator>>,
    pub(crate) as_of: Millis,
}

impl FoldRules {
    /// Which interval a number lies in.
    pub(crate) fn interval(&self, sequence: u64) -> usize {
        let interval = self.boundaries.partition_point(|&boundary| boundary < sequence);
        assert!(interval < self.boundaries.len(), "what is visible is a boundary, and nothing newer is rewritten");
        interval
    }
}

enum Kept {
    As(usize),
    Folded(Trailer, Vec<u8>),
}

/// Below a run of merge operands.
enum Base {
    Put(usize),
    Deleted(usize),
    /// Nothing: it was deleted with a range, or there never was anything.
    Nothing,
    /// Something older may exist elsewhere.
    Unknown,
}

/// Takes what is kept, newest first.
pub(crate) type Keep<'a, E> = dyn FnMut(Trailer, &[u8]) -> Result<(), E> + 'a;

/// Calls `keep` with what is kept of the versions of `key`, newest first. `covering` are the numbers of the deleted ranges
/// of the input that cover the key, newest first; `bottom` says that nothing of the key is older than the input.
pub(crate) fn fold_key<E>(
    key: &[u8],
    versions: &KeyVersions,
    covering: &[u64],
    rules: &FoldRules,
    bottom: bool,
    keep: &mut Keep<'_, E>,
) -> Result<(), E> {
    let parts = &versions.parts;
    let mut kept: Vec<Kept> = Vec::new();
    let mut begin = 0;
    while begin < parts.len() {
        let interval = rules.interval(parts[begin].0.sequence());
        let end = parts[begin..]
            .iter()
            .position(|(trailer, _)| rules.interval(trailer.sequence()) != interval)
            .map_or(parts.len(), |count| begin + count);
        let cut = covering.iter().copied().find(|&delete| rules.interval(delete) == interval).unwrap_or(0);
        let last_interval = end == parts.len();
        let mut operands = Vec::new();
        let mut base = if cut > 0 || (bottom && last_interval) { Base::Nothing } else { Base::Unknown };
        for (index, (trailer, _)) in parts.iter().enumerate().take(end).skip(begin) {
            if trailer.sequence() < cut {
                break;
            }
            match trailer.kind() {
                Kind::Merge => {
                    operands.push(index);
                    continue;
                }
                Kind::Put => base = Base::Put(index),
                Kind::Delete => base = Base::Deleted(index),
            }
            break;
        }
        keep_interval(key, versions, &operands, &base, rules, &mut kept);
        begin = end;
    }
    if bottom {
        let says_something = |kept: &Kept| match kept {
            Kept::As(index) => parts[*index].0.kind() != Kind::Delete,
            Kept::Folded(trailer, _) => trailer.kind() != Kind::Delete,
        };
        let count = kept.iter().rposition(says_something).map_or(0, |last| last + 1);
        kept.truncate(count);
    }
    for kept in &kept {
        match kept {
            Kept::As(index) => keep(parts[*index].0, versions.value(*index))?,
            Kept::Folded(trailer, value) => keep(*trailer, value)?,
        }
    }
    Ok(())
}

fn keep_interval(
    key: &[u8],
    versions: &KeyVersions,
    operands: &[usize],
    base: &Base,
    rules: &FoldRules,
    kept: &mut Vec<Kept>,
) {
    if let (Some(&newest), Some(operator)) = (operands.first(), &rules.operator)
        && (operands.len() > 1 || !matches!(base, Base::Unknown))
    {
        let (how, base_value) = match base {
            Base::Put(index) => (Fold::Complete { as_of: rules.as_of }, Some(versions.value(*index))),
            Base::Deleted(_) | Base::Nothing => (Fold::Complete { as_of: rules.as_of }, None),
            Base::Unknown => (Fold::Partial, None),
        };
        let oldest_first: Vec<&[u8]> = operands.iter().rev().map(|&index| versions.value(index)).collect();
        let mut out = Vec::new();
        let trailer = versions.parts[newest].0;
        match (operator.fold(key, base_value, &oldest_first, how, &mut out), how) {
            (Ok(Folded::Value), Fold::Complete { .. }) => {
                return kept.push(Kept::Folded(trailer.with_kind(Kind::Put), out));
            }
            (Ok(Folded::Value), Fold::Partial) => return kept.push(Kept::Folded(trailer, out)),
            (Ok(Folded::Absent), Fold::Complete { .. }) => {
                return kept.push(Kept::Folded(trailer.with_kind(Kind::Delete), Vec::new()));
            }
            // What the operator does not understand is kept as it is: the reads that meet it report it, and nothing is lost.
            (Ok(Folded::Absent), Fold::Partial) | (Err(_), _) => {}
        }
    }
    kept.extend(operands.iter().map(|&index| Kept::As(index)));
    if let Base::Put(index) | Base::Deleted(index) = base {
        kept.push(Kept::As(*index));
    }
}

#[cfg(test)]
mod tests;
