//! How much is kept for whom, and how old it is: all that is in memory of hints. It grows with the partitions of which
//! something is kept, not with the hints.
//!
//! What one node may take up follows from what is free: three times that. So one node that is away gets three quarters of
//! the room, two get three sevenths each, and there is always some left for the next one, without throwing out anything.
//!
//! Source: Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches" (IEEE/ACM Transactions
//! on Networking 6(2), 1998).

use std::collections::BTreeMap;

use kv_core::NodeId;
use kv_core::hlc::Stamp;

use crate::comparison::Place;

/// How many times what is free one node may take up.
const SHARE: u64 = 3;

/// What is kept of one partition for one node.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Held {
    pub(crate) hints: u64,
    /// Of keys and values.
    pub(crate) bytes: u64,
    /// No change in them was born before.
    pub(crate) oldest: Stamp,
}

/// All of it.
#[derive(Clone, Eq, PartialEq, Default, Debug)]
pub(crate) struct Index {
    bytes: u64,
    targets: BTreeMap<NodeId, Target>,
}

#[derive(Clone, Eq, PartialEq, Default, Debug)]
struct Target {
    bytes: u64,
    places: BTreeMap<Place, Held>,
}

impl Index {
    /// Of everything.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether `target` may be kept so many bytes more for.
    pub(super) fn has_room(&self, bytes_max: u64, target: NodeId, added: u64) -> bool {
        if sabotaged!(IgnoreHintBounds) {
            return true;
        }
        let own = self.targets.get(&target).map_or(0, |target| target.bytes).saturating_add(added);
        let free = bytes_max.saturating_sub(self.bytes.saturating_add(added));
        own <= free.saturating_mul(SHARE) && free > 0
    }

    /// A hint of so many bytes was added, or took the place of one of `replaced` bytes.
    pub(super) fn put(&mut self, target: NodeId, place: Place, bytes: u64, replaced: Option<u64>, oldest: Stamp) {
        let entry = self.targets.entry(target).or_default();
        let held = entry.places.entry(place).or_insert(Held { hints: 0, bytes: 0, oldest });
        held.hints += u64::from(replaced.is_none());
        held.oldest = held.oldest.min(oldest);
        let before = replaced.unwrap_or(0);
        for sum in [&mut held.bytes, &mut entry.bytes, &mut self.bytes] {
            *sum = sum.saturating_sub(before).saturating_add(bytes);
        }
    }

    /// A hint is gone.
    pub(super) fn remove(&mut self, target: NodeId, place: Place, bytes: u64) {
        let Some(entry) = self.targets.get_mut(&target) else { return };
        let Some(held) = entry.places.get_mut(&place) else { return };
        held.hints = held.hints.saturating_sub(1);
        for sum in [&mut held.bytes, &mut entry.bytes, &mut self.bytes] {
            *sum = sum.saturating_sub(bytes);
        }
        if held.hints == 0 {
            entry.places.remove(&place);
        }
        if entry.places.is_empty() {
            self.targets.remove(&target);
        }
    }

    /// Everything that is kept for a node was looked at: what is left was born at these times at the earliest. What was known may be
    /// better: what was left behind on the way may have gone since, and others have come.
    pub(super) fn renew(&mut self, target: NodeId, oldest: &BTreeMap<Place, Stamp>) {
        for (place, held) in self.targets.get_mut(&target).into_iter().flat_map(|target| &mut target.places) {
            if let Some(oldest) = oldest.get(place) {
                held.oldest = held.oldest.max(*oldest);
            }
        }
    }

    /// Whether something is kept for a node.
    pub(super) fn holds(&self, target: NodeId) -> bool {
        self.targets.contains_key(&target)
    }

    /// Everybody for whom something is kept.
    pub(super) fn targets(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.targets.keys().copied()
    }

    /// What is kept for a node, by partition.
    pub(crate) fn of(&self, target: NodeId) -> impl Iterator<Item = (&Place, &Held)> {
        self.targets.get(&target).into_iter().flat_map(|target| &target.places)
    }

    /// Where it is not what `counted` says. Births may be told too early, never too late.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn differs(&self, counted: &Self) -> Option<String> {
        let mine = self.targets.iter().flat_map(|(target, all)| all.places.iter().map(move |entry| (target, entry)));
        let theirs =
            counted.targets.iter().flat_map(|(target, all)| all.places.iter().map(move |entry| (target, entry)));
        if !mine
            .clone()
            .map(|(target, (place, held))| (target, place, held.hints, held.bytes))
            .eq(theirs.clone().map(|(target, (place, held))| (target, place, held.hints, held.bytes)))
        {
            return Some(format!("the index says {self:?}, and the store holds {counted:?}"));
        }
        let late = mine.zip(theirs).find(|((_, (_, told)), (_, (_, held)))| told.oldest > held.oldest);
        late.map(|late| format!("a hint is older than is told: {late:?}"))
    }

    /// Nothing that is kept for a node was born before.
    pub(super) fn oldest_for(&self, target: NodeId) -> Option<Stamp> {
        self.of(target).map(|(_, held)| held.oldest).min()
    }

    /// Nothing that is kept of a partition, for whomever, was born before.
    pub(super) fn oldest_of(&self, place: Place) -> Option<Stamp> {
        self.targets.values().filter_map(|target| Some(target.places.get(&place)?.oldest)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_core::key::TableId;
    use kv_ring::PartitionId;

    const fn place(partition: u32) -> Place {
        Place { table: TableId(1), partition: PartitionId(partition) }
    }

    fn fill(index: &mut Index, bytes_max: u64, target: u64) -> u64 {
        let before = index.bytes();
        while index.has_room(bytes_max, NodeId(target), 10) {
            index.put(NodeId(target), place(1), 10, None, Stamp(1));
        }
        index.bytes() - before
    }

    #[test]
    fn one_node_that_is_away_leaves_room_for_the_next() {
        let mut index = Index::default();
        let taken: Vec<u64> = (1..=4).map(|target| fill(&mut index, 100_000, target)).collect();
        assert_eq!(taken, [75_000, 18_750, 4_680, 1_170]);
        assert!(index.bytes() <= 100_000);
        // Side by side they get the same.
        let mut index = Index::default();
        for _ in 0..20_000 {
            for target in [1, 2].map(NodeId) {
                if index.has_room(100_000, target, 10) {
                    index.put(target, place(1), 10, None, Stamp(1));
                }
            }
        }
        let bytes = [1, 2].map(|target| index.of(NodeId(target)).map(|(_, held)| held.bytes).sum::<u64>());
        assert!(bytes[0].abs_diff(bytes[1]) <= 10 && bytes[0] > 42_000, "{bytes:?}");
    }

    #[test]
    fn there_is_no_room_where_there_is_none() {
        let index = Index::default();
        assert!(!index.has_room(0, NodeId(1), 0), "a node that keeps nothing");
        assert!(!index.has_room(100, NodeId(1), u64::MAX));
        assert!(index.has_room(100, NodeId(1), 75) && !index.has_room(100, NodeId(1), 76));
    }

    #[test]
    fn sums_and_births_follow_what_is_kept() {
        let mut index = Index::default();
        index.put(NodeId(1), place(1), 10, None, Stamp(5));
        index.put(NodeId(1), place(1), 20, None, Stamp(7));
        index.put(NodeId(1), place(1), 12, Some(10), Stamp(9));
        index.put(NodeId(2), place(1), 7, None, Stamp(3));
        assert_eq!(
            (index.bytes(), index.oldest_for(NodeId(1)), index.oldest_of(place(1))),
            (39, Some(Stamp(5)), Some(Stamp(3)))
        );
        index.renew(NodeId(1), &[(place(1), Stamp(7))].into());
        assert_eq!(index.oldest_for(NodeId(1)), Some(Stamp(7)));
        index.renew(NodeId(1), &[(place(1), Stamp(6))].into());
        assert_eq!(index.oldest_for(NodeId(1)), Some(Stamp(7)), "a floor may have risen above what was there before");
        index.remove(NodeId(2), place(1), 7);
        assert_eq!((index.oldest_of(place(1)), index.holds(NodeId(2))), (Some(Stamp(7)), false));
        index.remove(NodeId(1), place(1), 12);
        index.remove(NodeId(1), place(1), 20);
        assert_eq!(index, Index::default());
    }
}
