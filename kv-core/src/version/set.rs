//! A dotted version set: the live versions of a key, and everything its writers have seen.

use super::{Actor, Dot, VersionVector};

/// A causal context and the versions in it that nothing has replaced yet.
///
/// [`join`](DottedVersionSet::join) makes it a join semilattice: a version goes when the other side has seen its dot and no
/// longer holds it, and for no other reason.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct DottedVersionSet<V> {
    context: VersionVector,
    versions: Vec<(Dot, V)>,
}

impl<V> Default for DottedVersionSet<V> {
    fn default() -> Self {
        Self { context: VersionVector::new(), versions: Vec::new() }
    }
}

impl<V> DottedVersionSet<V> {
    /// The empty set: nothing written, nothing seen.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Builds a set from its parts, or `None` when they do not fit: dots must ascend and lie in the context.
    #[must_use]
    pub fn from_parts(context: VersionVector, versions: Vec<(Dot, V)>) -> Option<Self> {
        let ascending = versions.is_sorted_by(|a, b| a.0 < b.0);
        (ascending && versions.iter().all(|(dot, _)| context.contains(*dot))).then_some(Self { context, versions })
    }

    /// Everything that was seen.
    #[must_use]
    pub const fn context(&self) -> &VersionVector {
        &self.context
    }

    /// What nothing has replaced, in the order of dots.
    #[must_use]
    pub fn versions(&self) -> &[(Dot, V)] {
        &self.versions
    }

    /// The version under `dot`.
    #[must_use]
    pub fn version(&self, dot: Dot) -> Option<&V> {
        self.versions.binary_search_by(|(held, _)| held.cmp(&dot)).ok().map(|at| &self.versions[at].1)
    }

    /// The change that a write makes which had seen `seen`: joined to this set (or to any other) it adds the new version
    /// and removes what `seen` covers. This set only supplies the next free counter, which is above `counter_floor` too.
    ///
    /// The change covers `seen` and its own dot, and not what this set holds besides: a writer replaces what it saw.
    #[must_use]
    pub fn event(&self, actor: Actor, counter_floor: u64, seen: &VersionVector, version: V) -> Self {
        let used = self.context.counter_max(actor).max(seen.counter_max(actor)).max(counter_floor);
        let dot = Dot { actor, counter: used.checked_add(1).expect("64 bits of counter outlast any actor") };
        let mut context = seen.clone();
        context.insert(dot);
        Self { context, versions: vec![(dot, version)] }
    }
}

impl<V: Clone> DottedVersionSet<V> {
    /// The set with the greatest version in `order` alone, of equal ones that with the greatest dot; it has seen what this set
    /// has. Joined to a replica that holds this set, it drops the others there too.
    #[must_use]
    pub fn last_writer(&self, order: impl Fn(&V, &V) -> std::cmp::Ordering) -> Self {
        let last = self.versions.iter().max_by(|a, b| order(&a.1, &b.1).then(a.0.cmp(&b.0)));
        Self { context: self.context.clone(), versions: last.cloned().into_iter().collect() }
    }
}

impl<V: Clone + Ord> DottedVersionSet<V> {
    /// The least set that has seen what both have seen. Commutative, associative and idempotent.
    ///
    /// One dot names one version, so both sides hold equal versions under it. Should a broken peer prove otherwise, the
    /// greater version stays, so that replicas still agree.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        let versions = join_entries((&self.versions, &self.context), (&other.versions, &other.context));
        Self { context: self.context.join(&other.context), versions }
    }
}

/// Joins what two sides hold under dots: an entry stays when both hold it, or when the side that lacks it has not seen its
/// dot. Entries are in the order of dots.
pub(crate) fn join_entries<V: Clone + Ord>(
    (mut left, left_seen): (&[(Dot, V)], &VersionVector),
    (mut right, right_seen): (&[(Dot, V)], &VersionVector),
) -> Vec<(Dot, V)> {
    let mut joined = Vec::with_capacity(left.len().max(right.len()));
    loop {
        let order = match (left.first(), right.first()) {
            (Some(a), Some(b)) => a.0.cmp(&b.0),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => break,
        };
        if order.is_lt() {
            if !right_seen.contains(left[0].0) {
                joined.push(left[0].clone());
            }
            left = &left[1..];
        } else if order.is_gt() {
            if !left_seen.contains(right[0].0) {
                joined.push(right[0].clone());
            }
            right = &right[1..];
        } else {
            joined.push((left[0].0, left[0].1.clone().max(right[0].1.clone())));
            (left, right) = (&left[1..], &right[1..]);
        }
    }
    joined
}

#[cfg(test)]
mod tests;
