//! Where one partition stands while its replicas move, and whose answers count meanwhile.

use std::fmt;

use kv_core::NodeId;

use crate::epoch::Epoch;

/// How far the move of one partition has come.
///
/// ```text
/// Stable ──▶ Joint ──▶ Streaming ──▶ Imported ──▶ Switched ──▶ Cleanup ──▶ Done
///   ▲          └───────────┼────────────┘
///   └────── Reverting ◀────┘
/// ```
///
/// Each arrow is one decision of the cluster, so that no two nodes are further apart than one arrow: any two quorums of
/// neighbouring stages have a node in common.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum Stage {
    /// The old set holds it; nothing has begun, or nothing is to be done.
    Stable,
    /// Both sets get all writes. The new nodes do not have the old data yet, and copy nothing before every old node has heard
    /// of this.
    Joint,
    /// The new nodes copy from a majority of the old set.
    Streaming,
    /// All data are on both sets, joint for the second time: the new nodes now answer in their own right.
    Imported,
    /// Stable again: the new set holds it alone. The nodes that leave are fenced, and keep what they have for now.
    Switched,
    /// The nodes that leave delete what they have.
    Cleanup,
    /// The new set holds it, and nobody else has anything.
    Done,
    /// The move was given up before the switch: the old set holds it alone, and the new nodes delete what they have copied.
    Reverting,
}

impl Stage {
    /// All of them, in their order.
    pub const ALL: [Self; 8] = [
        Self::Stable,
        Self::Joint,
        Self::Streaming,
        Self::Imported,
        Self::Switched,
        Self::Cleanup,
        Self::Done,
        Self::Reverting,
    ];

    /// Whether one decision can lead from this stage to `next`.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Stable, Self::Joint)
                | (Self::Joint, Self::Streaming | Self::Reverting)
                | (Self::Streaming, Self::Imported | Self::Reverting)
                | (Self::Imported, Self::Switched | Self::Reverting)
                | (Self::Switched, Self::Cleanup)
                | (Self::Cleanup, Self::Done)
                | (Self::Reverting, Self::Stable)
        )
    }

    /// Whether the old set must agree to what is done.
    #[must_use]
    pub const fn needs_old(self) -> bool {
        matches!(self, Self::Stable | Self::Joint | Self::Streaming | Self::Imported | Self::Reverting)
    }

    /// Whether the new set must agree to what is done.
    #[must_use]
    pub const fn needs_new(self) -> bool {
        matches!(self, Self::Joint | Self::Streaming | Self::Imported | Self::Switched | Self::Cleanup | Self::Done)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stable => "stable",
            Self::Joint => "joint",
            Self::Streaming => "streaming",
            Self::Imported => "imported",
            Self::Switched => "switched",
            Self::Cleanup => "cleanup",
            Self::Done => "done",
            Self::Reverting => "reverting",
        })
    }
}

/// Who holds one partition; from [`crate::Topology::placement`]. The two sets are equal unless it moves.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Placement<'a> {
    /// Those who held it before the move, in order of preference.
    pub old: &'a [NodeId],
    /// Those who hold it after the move, in order of preference.
    pub new: &'a [NodeId],
    /// How far the move has come.
    pub stage: Stage,
    /// When this partition last changed. A request of an earlier epoch was routed by an older placement, and is refused.
    pub since: Epoch,
}

impl<'a> Placement<'a> {
    /// The sets that must each reach what a request asks for: one of them, or during a move both.
    pub fn sets(&self) -> impl Iterator<Item = &'a [NodeId]> + use<'a> {
        let old = self.stage.needs_old().then_some(self.old);
        // Where nothing moves the two are one.
        let new = (self.stage.needs_new() && !(old.is_some() && self.old == self.new)).then_some(self.new);
        old.into_iter().chain(new)
    }

    /// Whether as many nodes have answered as `required` says for a set of its size, in each set by itself. A node of both
    /// sets counts in both.
    pub fn is_met(&self, required: impl Fn(usize) -> usize, answered: impl Fn(NodeId) -> bool) -> bool {
        self.sets().all(|set| set.iter().filter(|&&node| answered(node)).count() >= required(set.len()))
    }

    /// Whether a majority of each set has answered.
    pub fn is_quorum(&self, answered: impl Fn(NodeId) -> bool) -> bool {
        self.is_met(|nodes| nodes / 2 + 1, answered)
    }

    /// Everybody who gets writes: the members of [`Placement::sets`], each once.
    pub fn writers(&self) -> impl Iterator<Item = NodeId> + use<'a> {
        let (old, needs_old) = (self.old, self.stage.needs_old());
        let first = if needs_old { self.old } else { self.new };
        let second = if self.stage.needs_new() { self.new } else { &[] };
        let second = second.iter().filter(move |node| needs_old && !old.contains(node));
        first.iter().chain(second).copied()
    }

    /// Whether a node has all the data, so that its answer may stand alone and it may name new versions. New nodes do
    /// from [`Stage::Imported`] on.
    #[must_use]
    pub fn is_complete(&self, node: NodeId) -> bool {
        (self.stage.needs_old() && self.old.contains(&node))
            || (self.stage >= Stage::Imported && self.stage.needs_new() && self.new.contains(&node))
    }

    /// The nodes that get the partition.
    pub fn joining(&self) -> impl Iterator<Item = NodeId> + use<'a> {
        let old = self.old;
        self.new.iter().copied().filter(move |node| !old.contains(node))
    }

    /// The nodes that give it up.
    pub fn leaving(&self) -> impl Iterator<Item = NodeId> + use<'a> {
        let new = self.new;
        self.old.iter().copied().filter(move |node| !new.contains(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: u64 = 7;

    fn set(nodes: u32) -> Vec<NodeId> {
        (1..=NODES).filter(|node| nodes >> (node - 1) & 1 == 1).map(NodeId).collect()
    }

    /// All pairs of sets of one to five out of seven nodes: `old` is the first so many, without loss of generality.
    fn pairs() -> impl Iterator<Item = (Vec<NodeId>, Vec<NodeId>)> {
        let new = (1..1_u32 << NODES).filter(|nodes| nodes.count_ones() <= 5);
        new.flat_map(|new| (1..=5).map(move |old| (set((1 << old) - 1), set(new))))
    }

    #[test]
    fn quorums_of_neighbouring_stages_have_a_node_in_common() {
        let mut neighbours = 0;
        for (old, new) in pairs() {
            let at = |stage| Placement { old: &old, new: &new, stage, since: Epoch::FIRST };
            for from in Stage::ALL {
                for to in Stage::ALL.into_iter().filter(|&to| to == from || from.may_become(to)) {
                    neighbours += 1;
                    for answered in 0..1_u32 << NODES {
                        let is_in = |node: NodeId| answered >> (node.0 - 1) & 1 == 1;
                        let disjoint = at(from).is_quorum(is_in) && at(to).is_quorum(|node| !is_in(node));
                        assert!(!disjoint, "{from} and {to}: {old:?}, {new:?}, {answered:b}");
                    }
                }
            }
        }
        assert!(neighbours > 5000);
    }

    #[test]
    fn nobody_but_writers_counts_and_only_those_with_all_data_answer_alone() {
        for (old, new) in pairs() {
            for stage in Stage::ALL {
                let placement = Placement { old: &old, new: &new, stage, since: Epoch::FIRST };
                let writers: Vec<NodeId> = placement.writers().collect();
                assert!(placement.is_quorum(|node| writers.contains(&node)));
                for node in (1..=NODES).map(NodeId) {
                    assert!(writers.iter().filter(|&&writer| writer == node).count() <= 1);
                    assert!(!placement.is_complete(node) || writers.contains(&node));
                    assert_eq!(placement.sets().any(|set| set.contains(&node)), writers.contains(&node));
                }
                assert!(writers.iter().any(|&node| placement.is_complete(node)));
            }
        }
    }

    #[test]
    fn a_move_goes_forward_to_its_end_and_back_only_before_the_switch() {
        let mut stage = Stage::Stable;
        for next in [Stage::Joint, Stage::Streaming, Stage::Imported, Stage::Switched, Stage::Cleanup, Stage::Done] {
            assert!(stage.may_become(next));
            assert_eq!(stage.may_become(Stage::Reverting), stage.needs_old() && stage.needs_new());
            stage = next;
        }
        assert!(Stage::Reverting.may_become(Stage::Stable));
        let arrows = Stage::ALL.into_iter().flat_map(|from| Stage::ALL.map(|to| from.may_become(to)));
        assert_eq!(arrows.filter(|&may| may).count(), 10);
    }
}
