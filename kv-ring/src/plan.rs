//! What a change would move, before anything does.
//!
//! 1. The change is applied to the members and classes; the next layout is built from the present one.
//! 2. Row by row, who is in the new set and not in the old is a *move*. It takes the place of somebody who leaves, if
//!    anybody does.
//! 3. The data of a move come from a node of the old set that stays a member; among those from the one that has the
//!    least to send, so that no node is drained by all the others. (When data are moved, protocols read from a majority of the
//!    old set; the source is where the bulk comes from.)

use std::collections::{BTreeMap, BTreeSet};

use kv_core::NodeId;
use thiserror::Error;

use crate::{
    assignment::Assignment,
    change::{Change, ChangeError, Outcome},
    class::ClassId,
    epoch::Epoch,
    layout::Layout,
    node::{Weight, Zone},
    partition::PartitionId,
    report::Warning,
};

mod table;

/// One replica that one node has to get.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Move {
    /// The class whose replica it is.
    pub class: ClassId,
    /// The partition.
    pub partition: PartitionId,
    /// A node that holds it.
    pub source: NodeId,
    /// The node that is to hold it.
    pub target: NodeId,
    /// The node that gives its replica up for that, if any.
    pub replaces: Option<NodeId>,
    /// How much there is to copy, when sizes are known ([`Plan::sized`]).
    pub bytes: Option<u64>,
}

/// What one node holds before and after, in all classes together.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct LoadChange {
    /// The node.
    pub node: NodeId,
    /// Its zone, the new one if that changes.
    pub zone: Zone,
    /// Its weight; `None` before it joins.
    pub weight_before: Option<Weight>,
    /// Its weight; `None` after it has left.
    pub weight_after: Option<Weight>,
    /// Replicas held.
    pub slots_before: u32,
    /// Replicas to be held.
    pub slots_after: u32,
    /// Replicas that it gets.
    pub received: u32,
    /// Replicas that are copied from it.
    pub sent: u32,
    /// Bytes held, when sizes are known.
    pub bytes_before: Option<u64>,
    /// Bytes to be held, when sizes are known.
    pub bytes_after: Option<u64>,
}

/// What to know before a plan is carried out.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum PlanWarning {
    /// A wish that the members to be cannot fulfil.
    Layout {
        /// In which class.
        class: ClassId,
        /// Which wish.
        warning: Warning,
    },
    /// Partitions of which no majority of the present nodes remains a member. The nodes that leave must be up until
    /// their replicas have been copied; when they are not, this plan cannot be carried out.
    MajorityLeaves {
        /// In which class.
        class: ClassId,
        /// How many partitions.
        partitions: u32,
    },
}

/// The plan was made from another layout than this. Nothing was changed; plan again.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
#[error("the plan was made from {planned} {planned_hash:016x}, this is {found} {found_hash:016x}")]
pub struct StalePlan {
    /// The epoch that was planned from.
    pub planned: Epoch,
    /// Its hash.
    pub planned_hash: u64,
    /// The epoch there is.
    pub found: Epoch,
    /// Its hash.
    pub found_hash: u64,
}

/// The next layout, and what has to move to get there; from [`Layout::plan`]. Displayed as a table; with `{:#}`, move by move.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Plan {
    base: Layout,
    next: Layout,
    moves: Vec<Move>,
    loads: Vec<LoadChange>,
    warnings: Vec<PlanWarning>,
    moves_min: u64,
}

impl Layout {
    /// Plans a change: which layout comes next, what has to move for it, and what to beware of. Nothing is changed by planning.
    ///
    /// ```
    /// use kv_ring::{Change, Layout, NodeId, Weight, Zone};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let layout = (1..=5)
    ///     .fold(Layout::builder(3), |builder, id| builder.node(NodeId(id), Weight(1), Zone::default()))
    ///     .build()?;
    /// let plan = layout.plan(&Change::new().add(NodeId(6), Weight(1), Zone::default()))?;
    ///
    /// // A sixth of 1,024 × 3 replicas goes to the new node, and no other replica moves.
    /// assert_eq!(plan.moves().len(), 512);
    /// assert!(plan.moves().iter().all(|step| step.target == NodeId(6)));
    /// println!("{plan}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the change names what is not there, or leads to members and classes without a layout.
    pub fn plan(&self, change: &Change) -> Result<Plan, ChangeError> {
        let Outcome { builder, replaced } = change.applied_to(self)?;
        let next = builder.build()?;
        let mut moves = Vec::new();
        let mut warnings = Vec::new();
        let mut moves_min = 0;
        let mut book = Book::new(self, &next);
        let pairs = next.classes().zip(next.assignments());
        for (class, now) in pairs {
            let report = next.report_of(class).expect("a class of its own");
            warnings.extend(report.warnings.into_iter().map(|warning| PlanWarning::Layout { class, warning }));
            // A class that was not there before has nothing to move.
            let Some(before) = self.assignment(class) else {
                book.enter(None, now);
                continue;
            };
            let partitions = moves_of(class, (before, now), &replaced, &mut book, &mut moves);
            if partitions > 0 {
                warnings.push(PlanWarning::MajorityLeaves { class, partitions });
            }
            moves_min += book.enter(Some(before), now);
        }
        let loads = book.loads(self, &next, &moves);
        Ok(Plan { base: self.clone(), next, moves, loads, warnings, moves_min })
    }
}

impl Plan {
    /// The layout that was planned from.
    #[must_use]
    pub fn base(&self) -> &Layout {
        &self.base
    }

    /// The layout that the plan leads to, of the next epoch.
    #[must_use]
    pub fn next(&self) -> &Layout {
        &self.next
    }

    /// What moves, class by class and in the order of partitions.
    #[must_use]
    pub fn moves(&self) -> &[Move] {
        &self.moves
    }

    /// What every node holds before and after, in the order of ids; nodes that join or leave are among them.
    #[must_use]
    pub fn loads(&self) -> &[LoadChange] {
        &self.loads
    }

    /// What to beware of.
    #[must_use]
    pub fn warnings(&self) -> &[PlanWarning] {
        &self.warnings
    }

    /// A bound that no plan to the same loads goes below: what nodes hold more than before, added up.
    #[must_use]
    pub fn moves_min(&self) -> u64 {
        self.moves_min
    }

    /// How much there is to copy in all; `None` when sizes are not known.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.moves.iter().try_fold(0_u64, |sum, step| Some(sum.saturating_add(step.bytes?)))
    }

    /// The same plan with sizes: `bytes_of` says how large one replica of a partition is.
    #[must_use]
    pub fn sized(mut self, bytes_of: impl Fn(ClassId, PartitionId) -> u64) -> Self {
        for step in &mut self.moves {
            step.bytes = Some(bytes_of(step.class, step.partition));
        }
        let held = |layout: &Layout| {
            let mut held = BTreeMap::<NodeId, u64>::new();
            for (class, assignment) in layout.classes().zip(layout.assignments()) {
                for (partition, row) in assignment.rows() {
                    let bytes = bytes_of(class, partition);
                    for &node in row {
                        let sum = held.entry(node).or_default();
                        *sum = sum.saturating_add(bytes);
                    }
                }
            }
            held
        };
        let (before, after) = (held(&self.base), held(&self.next));
        for load in &mut self.loads {
            load.bytes_before = Some(before.get(&load.node).copied().unwrap_or(0));
            load.bytes_after = Some(after.get(&load.node).copied().unwrap_or(0));
        }
        self
    }

    /// Whether the plan was made from this very layout.
    ///
    /// # Errors
    /// When it was made from another: of another epoch, or of the same with another hash.
    pub fn check(&self, layout: &Layout) -> Result<(), StalePlan> {
        let [(planned, planned_hash), (found, found_hash)] =
            [&self.base, layout].map(|layout| (layout.epoch(), layout.hash()));
        if (planned, planned_hash) == (found, found_hash) {
            return Ok(());
        }
        Err(StalePlan { planned, planned_hash, found, found_hash })
    }
}

/// Appends the moves of one class, and counts the partitions that lose the majority of their nodes as members.
fn moves_of(
    class: ClassId,
    (before, now): (&Assignment, &Assignment),
    replaced: &BTreeMap<NodeId, NodeId>,
    book: &mut Book,
    moves: &mut Vec<Move>,
) -> u32 {
    let mut at_risk = 0;
    for ((partition, old), (_, new)) in before.rows().zip(now.rows()) {
        let staying = old.iter().filter(|node| book.stays(**node)).count();
        at_risk += u32::from(staying <= old.len() / 2);
        let mut leavers: Vec<NodeId> = old.iter().copied().filter(|node| !new.contains(node)).collect();
        for &target in new.iter().filter(|node| !old.contains(node)) {
            // Its predecessor's place if it has one here, else a place that waits for nobody else, else any.
            let waits_for = |leaver: &NodeId| replaced.get(leaver).filter(|&successor| new.contains(successor));
            let place = leavers
                .iter()
                .position(|leaver| waits_for(leaver) == Some(&target))
                .or_else(|| leavers.iter().position(|leaver| waits_for(leaver).is_none()))
                .or(if leavers.is_empty() { None } else { Some(0) });
            let replaces = place.map(|place| leavers.remove(place));
            let source = book.source(old);
            moves.push(Move { class, partition, source, target, replaces, bytes: None });
        }
    }
    at_risk
}

/// Counts what nodes hold and send while moves are written down.
struct Book {
    staying: BTreeSet<NodeId>,
    slots_before: BTreeMap<NodeId, u32>,
    slots_after: BTreeMap<NodeId, u32>,
    sent: BTreeMap<NodeId, u32>,
}

impl Book {
    fn new(before: &Layout, after: &Layout) -> Self {
        let is_member = |node: NodeId| after.member(node).is_some();
        Self {
            staying: before.nodes().iter().map(|member| member.id).filter(|&node| is_member(node)).collect(),
            slots_before: BTreeMap::new(),
            slots_after: BTreeMap::new(),
            sent: BTreeMap::new(),
        }
    }

    fn stays(&self, node: NodeId) -> bool {
        self.staying.contains(&node)
    }

    /// Who sends a replica that these hold: a node that stays, if there is one, and of those the one that sends least.
    fn source(&mut self, holders: &[NodeId]) -> NodeId {
        let sent = |node: NodeId| self.sent.get(&node).copied().unwrap_or(0);
        let chosen = holders.iter().copied().min_by_key(|&node| (!self.stays(node), sent(node)));
        let chosen = chosen.expect("a partition has replicas");
        *self.sent.entry(chosen).or_default() += 1;
        chosen
    }

    /// Counts the slots of a class, and what its nodes hold more than before.
    fn enter(&mut self, before: Option<&Assignment>, after: &Assignment) -> u64 {
        let count = |assignment: &Assignment| {
            let mut slots = BTreeMap::<NodeId, u32>::new();
            for &node in assignment.holders() {
                *slots.entry(node).or_default() += 1;
            }
            slots
        };
        let (before, after) = (before.map(count).unwrap_or_default(), count(after));
        for (total, slots) in [(&mut self.slots_before, &before), (&mut self.slots_after, &after)] {
            for (&node, slots) in slots {
                *total.entry(node).or_default() += slots;
            }
        }
        let gained = |(node, &slots): (&NodeId, &u32)| slots.saturating_sub(before.get(node).copied().unwrap_or(0));
        after.iter().map(gained).map(u64::from).sum()
    }

    fn loads(&self, before: &Layout, after: &Layout, moves: &[Move]) -> Vec<LoadChange> {
        let mut received = BTreeMap::<NodeId, u32>::new();
        for step in moves {
            *received.entry(step.target).or_default() += 1;
        }
        let of = |counts: &BTreeMap<NodeId, u32>, node| counts.get(&node).copied().unwrap_or(0);
        let nodes: BTreeSet<NodeId> = before.nodes().iter().chain(after.nodes()).map(|member| member.id).collect();
        let load = |node: NodeId| {
            let (was, is) = (before.member(node), after.member(node));
            LoadChange {
                node,
                zone: is.or(was).expect("a member of one of them").zone.clone(),
                weight_before: was.map(|member| member.weight),
                weight_after: is.map(|member| member.weight),
                slots_before: of(&self.slots_before, node),
                slots_after: of(&self.slots_after, node),
                received: of(&received, node),
                sent: of(&self.sent, node),
                bytes_before: None,
                bytes_after: None,
            }
        };
        nodes.into_iter().map(load).collect()
    }
}

#[cfg(test)]
mod tests;
