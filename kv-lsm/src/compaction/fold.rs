//! What a flush or compaction keeps of one key. A pure function.
//!
//! *Boundaries* are the moments that somebody reads at: a sequence number and a time. Versions between two boundaries form an *interval*: whoever
//! sees one of them sees all of them, so of each interval only what it comes to is kept.
//!
//! 1. Cut the versions, newest first, into intervals.
//! 2. Within an interval, the newest deleted range that covers the key hides what is older, and is the end of it.
//! 3. The newest put or delete hides what is older. Merge operands above it fold onto it.
//! 4. Operands without a base fold completely when nothing older exists anywhere, else into one operand at the highest of
//!    their numbers (rule E10): never across a boundary, never across a deleted range.
//! 5. A put that has expired at the time of its interval's boundary, the earliest at which it is read, is a delete at the
//!    same number (rule E12).
//! 6. Deletes that nothing older lies under, in the input or deeper, say nothing and are dropped.

use std::ops::Range;
use std::sync::Arc;

use kv_core::store::{Fold, Folded, MergeOperator};
use kv_core::time::Millis;

use crate::internal_key::{EXPIRY_BYTES, Kind, Trailer, is_expired, split_expiry};
use crate::time::Moment;

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

    /// Whether a version is older than all that were pushed.
    pub(crate) fn may_follow(&self, trailer: Trailer) -> bool {
        self.parts.last().is_none_or(|last| last.0.sequence() > trailer.sequence())
    }

    pub(crate) fn push(&mut self, trailer: Trailer, value: &[u8]) {
        debug_assert!(self.may_follow(trailer), "newest first");
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.parts.push((trailer, start..self.bytes.len()));
    }

    /// Puts the values themselves where pointers stand for them, if there are operands that may fold onto one (rule E13). `read`
    /// follows a pointer.
    pub(crate) fn resolve<E>(&mut self, read: impl Fn(&[u8]) -> Result<Vec<u8>, E>) -> Result<(), E> {
        let any = |wanted: fn(Trailer) -> bool| self.parts.iter().any(|(trailer, _)| wanted(*trailer));
        if !any(Trailer::is_separated) || !any(|trailer| trailer.kind() == Kind::Merge) {
            return Ok(());
        }
        let before = std::mem::take(self);
        for (index, &(trailer, _)) in before.parts.iter().enumerate() {
            let stored = before.value(index);
            if trailer.is_separated() {
                let expiry_bytes = if trailer.is_expiring() { EXPIRY_BYTES } else { 0 };
                let (expiry, pointer) = stored.split_at(expiry_bytes);
                self.push(trailer.with_separated(false), &[expiry, &read(pointer)?].concat());
            } else {
                self.push(trailer, stored);
            }
        }
        Ok(())
    }

    fn value(&self, index: usize) -> &[u8] {
        &self.bytes[self.parts[index].1.clone()]
    }
}

/// What is the same for all keys of one job.
pub(crate) struct FoldRules {
    /// Ascending, in number and in time; no version is above the last.
    pub(crate) boundaries: Vec<Moment>,
    pub(crate) operator: Option<Arc<dyn MergeOperator>>,
}

impl FoldRules {
    /// The earliest time that a version of an interval is read at: later intervals have later times.
    fn as_of(&self, interval: usize) -> Millis {
        self.boundaries[interval].as_of
    }

    /// Which interval a number lies in.
    pub(crate) fn interval(&self, sequence: u64) -> usize {
        if sabotaged!(FoldAcrossSnapshot) {
            return self.boundaries.len() - 1;
        }
        let interval = self.boundaries.partition_point(|boundary| boundary.sequence < sequence);
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
    /// A put that has expired for everybody who sees it.
    Expired(usize),
    /// Nothing: it was deleted with a range, or there never was anything.
    Nothing,
    /// Something older may exist elsewhere.
    Unknown,
}

/// Takes what is kept, newest first.
pub(crate) type Keep<'a, E> = dyn FnMut(Trailer, &[u8]) -> Result<(), E> + 'a;

/// Calls `keep` with what is kept of the versions of `key`, newest first. `covering` are the numbers of the deleted ranges
/// of the input that cover the key, newest first; `bottom` tells whether nothing of the key is older than the input. It is
/// only asked when it matters, which for most keys it does not.
pub(crate) fn fold_key<E>(
    key: &[u8],
    versions: &KeyVersions,
    covering: &[u64],
    rules: &FoldRules,
    bottom: &dyn Fn() -> bool,
    keep: &mut Keep<'_, E>,
) -> Result<(), E> {
    let parts = &versions.parts;
    if let ([(trailer, _)], []) = (parts.as_slice(), covering)
        && trailer.kind() == Kind::Put
        && !trailer.is_expiring()
    {
        // Nothing hides or changes it.
        return keep(*trailer, versions.value(0));
    }
    let bottom = bottom();
    let mut kept: Vec<Kept> = Vec::new();
    let mut begin = 0;
    while begin < parts.len() {
        let interval = rules.interval(parts[begin].0.sequence());
        let end = parts[begin..]
            .iter()
            .position(|(trailer, _)| rules.interval(trailer.sequence()) != interval)
            .map_or(parts.len(), |count| begin + count);
        let covering = if sabotaged!(FoldAcrossRangeDelete) { &[] } else { covering };
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
                Kind::Put => {
                    let (expiry, _) = split_expiry(*trailer, versions.value(index));
                    let expired = expiry.is_some_and(|expire_at| is_expired(expire_at, rules.as_of(interval)));
                    base = if expired { Base::Expired(index) } else { Base::Put(index) };
                }
                Kind::Delete => base = Base::Deleted(index),
            }
            break;
        }
        let before = kept.len();
        keep_interval(key, versions, &operands, &base, interval, rules, &mut kept);
        let newest = parts[begin].0.sequence();
        let speaks_for_newest = |kept: &Kept| match kept {
            Kept::As(index) => *index == begin,
            Kept::Folded(trailer, _) => trailer.sequence() == newest,
        };
        assert!(
            newest < cut || kept.get(before).is_some_and(speaks_for_newest),
            "the newest version of each interval stays, or what became of it (rule E10)"
        );
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
    interval: usize,
    rules: &FoldRules,
    kept: &mut Vec<Kept>,
) {
    if let (Some(&newest), Some(operator)) = (operands.first(), &rules.operator)
        && (operands.len() > 1 || !matches!(base, Base::Unknown))
    {
        let complete = Fold::Complete { as_of: rules.as_of(interval) };
        let (how, base_value) = match base {
            Base::Put(index) => (complete, Some(split_expiry(versions.parts[*index].0, versions.value(*index)).1)),
            Base::Deleted(_) | Base::Expired(_) | Base::Nothing => (complete, None),
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
    match base {
        Base::Put(index) | Base::Deleted(index) => kept.push(Kept::As(*index)),
        // A delete at the same number, so that it hides what is older as the value did.
        Base::Expired(index) => {
            kept.push(Kept::Folded(versions.parts[*index].0.with_kind(Kind::Delete), Vec::new()));
        }
        Base::Nothing | Base::Unknown => {}
    }
}

#[cfg(test)]
mod tests;
