//! A layout on its way to the next: which partitions have come how far.
//!
//! 1. A plan is begun: the topology knows both layouts, and every partition whose set of nodes differs is to move.
//! 2. Partitions are advanced stage by stage, in any order and any number at a time; each decision is an epoch.
//! 3. When all are done the next layout is the layout, and another plan can be begun.
//!
//! A change can be given up at any time: partitions that have not switched go back, those that have stay where they are, and
//! the topology settles on a layout that says so. Everything is a value: a topology that was stored goes on where it was.

use std::collections::BTreeSet;

use kv_core::NodeId;
use thiserror::Error;

use crate::{
    assignment::Assignment,
    class::ClassId,
    codec,
    epoch::Epoch,
    layout::{Contents, Layout},
    node::{Member, Weight},
    partition::PartitionId,
    placement::{Placement, Stage},
    plan::{Plan, StalePlan},
};

mod format;

pub use format::TopologyDecodeError;

/// The layout of a cluster and the change that is under way, if one is: what all nodes agree on, one epoch after the other.
///
/// ```
/// use kv_ring::{Change, ClassId, Layout, NodeId, Stage, Topology, Weight, Zone};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layout = (1..=3)
///     .fold(Layout::builder(3).partitions(8), |builder, id| builder.node(NodeId(id), Weight(1), Zone::default()))
///     .build()?;
/// let mut topology = Topology::new(layout);
/// topology.begin(&topology.layout().plan(&Change::new().replace(NodeId(3), NodeId(4)))?)?;
///
/// let moving: Vec<_> = topology.moving().collect();
/// topology.advance(&moving, Stage::Joint)?;
/// let placement = topology.placement(moving[0].1);
/// // Two of three are no majority of the new set if one of them is the node that leaves.
/// assert!(!placement.is_quorum(|node| [NodeId(1), NodeId(3)].contains(&node)));
/// assert!(placement.is_quorum(|node| [NodeId(1), NodeId(2)].contains(&node)));
///
/// for stage in [Stage::Streaming, Stage::Imported, Stage::Switched, Stage::Cleanup, Stage::Done] {
///     topology.advance(&moving, stage)?;
/// }
/// topology.settle()?;
/// assert!(topology.layout().member(NodeId(3)).is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Topology {
    epoch: Epoch,
    layout: Layout,
    /// When each partition of each class last changed.
    since: Vec<Box<[Epoch]>>,
    transition: Option<Transition>,
}

/// A change under way.
#[derive(Clone, Eq, PartialEq, Debug)]
struct Transition {
    next: Layout,
    aborting: bool,
    /// Of each partition of each class that the present layout has.
    stages: Vec<Box<[Stage]>>,
}

/// Why a topology is not changed. It is as it was.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
pub enum TopologyError {
    /// The plan was made from another layout.
    #[error(transparent)]
    StalePlan(#[from] StalePlan),
    /// One change at a time.
    #[error("a change is under way already")]
    Moving,
    /// There is nothing to advance, abort or settle.
    #[error("no change is under way")]
    Settled,
    /// The layout has no such partition.
    #[error("{1} of {0} does not exist")]
    UnknownPartition(ClassId, PartitionId),
    /// The change leaves the partition where it is.
    #[error("{1} of {0} does not move")]
    DoesNotMove(ClassId, PartitionId),
    /// No arrow leads from the one stage to the other, or it is shut because the change is being given up.
    #[error("{partition} of {class} cannot go from {from} to {to}")]
    Illegal {
        /// Whose stage.
        class: ClassId,
        /// Whose stage.
        partition: PartitionId,
        /// Where it is.
        from: Stage,
        /// Where it was to go.
        to: Stage,
    },
    /// A partition was named twice in one decision.
    #[error("{1} of {0} is named twice")]
    Twice(ClassId, PartitionId),
    /// The partition has not arrived, or has not come back.
    #[error("{partition} of {class} is {stage}")]
    NotArrived {
        /// Whose stage.
        class: ClassId,
        /// Whose stage.
        partition: PartitionId,
        /// Where it is.
        stage: Stage,
    },
    /// A class changes its number of replicas, and partitions have switched to it: no layout holds both kinds. Carry
    /// the change out, then plan the way back.
    #[error("partitions of {0} have another number of replicas already")]
    PointOfNoReturn(ClassId),
    /// The members of before and the new ones that partitions have switched to are more than a layout can say. Carry the
    /// change out, then plan the way back.
    #[error("{members} members if the change is given up now; the most is {}", Layout::MEMBERS_MAX)]
    TooManyMembers {
        /// Those of before, and the new ones that hold something.
        members: usize,
    },
}

impl Topology {
    /// A cluster in which nothing moves.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        let epoch = layout.epoch();
        let since = vec![epoch; layout.partitions() as usize].into_boxed_slice();
        Self { epoch, since: vec![since; layout.assignments().len()], layout, transition: None }
    }

    /// The number of decisions; at least that of the layout.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The layout that the cluster has, or comes from.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The layout that the cluster is on its way to.
    #[must_use]
    pub fn next(&self) -> Option<&Layout> {
        self.transition.as_ref().map(|transition| &transition.next)
    }

    /// Whether a change is being given up.
    #[must_use]
    pub fn is_aborting(&self) -> bool {
        self.transition.as_ref().is_some_and(|transition| transition.aborting)
    }

    /// Who holds a partition of the first class.
    ///
    /// # Panics
    /// When the layout has no such partition.
    #[must_use]
    pub fn placement(&self, partition: PartitionId) -> Placement<'_> {
        self.placement_in(ClassId::FIRST, partition)
    }

    /// Who holds a partition of any class. A class that the next layout adds is there when the change has settled.
    ///
    /// # Panics
    /// When the layout has no such class or partition.
    #[must_use]
    pub fn placement_in(&self, class: ClassId, partition: PartitionId) -> Placement<'_> {
        let number = usize::from(class.0);
        let old = self.layout.assignments()[number].replicas(partition);
        let since = self.since[number][partition.0 as usize];
        let Some(transition) = &self.transition else {
            return Placement { old, new: old, stage: Stage::Stable, since };
        };
        let new = transition.next.assignments()[number].replicas(partition);
        // Another order of the same nodes is no move; it is taken over at the end.
        let new = if is_same_set(old, new) { old } else { new };
        Placement { old, new, stage: transition.stages[number][partition.0 as usize], since }
    }

    /// The partitions that the change under way moves, whatever their stage.
    pub fn moving(&self) -> impl Iterator<Item = (ClassId, PartitionId)> + '_ {
        let classes = self.layout.classes().filter(|_| self.transition.is_some());
        classes.flat_map(|class| self.layout.partition_ids().map(move |partition| (class, partition))).filter(
            |&(class, partition)| {
                let placement = self.placement_in(class, partition);
                placement.old != placement.new
            },
        )
    }

    /// How many of the partitions that move are in each stage.
    #[must_use]
    pub fn progress(&self) -> [(Stage, usize); Stage::ALL.len()] {
        let mut counts = Stage::ALL.map(|stage| (stage, 0));
        for (class, partition) in self.moving() {
            let stage = self.placement_in(class, partition).stage;
            counts.iter_mut().filter(|(of, _)| *of == stage).for_each(|(_, count)| *count += 1);
        }
        counts
    }

    /// Begins to carry out a plan. No partition moves by that alone.
    ///
    /// # Errors
    /// When the plan was made from another layout, or another change is under way.
    pub fn begin(&mut self, plan: &Plan) -> Result<(), TopologyError> {
        if self.transition.is_some() {
            return Err(TopologyError::Moving);
        }
        plan.check(&self.layout)?;
        let stable = vec![Stage::Stable; self.layout.partitions() as usize].into_boxed_slice();
        let stages = vec![stable; self.layout.assignments().len()];
        self.transition = Some(Transition { next: plan.next().clone(), aborting: false, stages });
        self.epoch = self.epoch.next();
        Ok(())
    }

    /// Takes partitions to their next stage, all of them or none.
    ///
    /// # Errors
    /// When one of them cannot go there.
    pub fn advance(&mut self, partitions: &[(ClassId, PartitionId)], to: Stage) -> Result<(), TopologyError> {
        let transition = self.transition.as_ref().ok_or(TopologyError::Settled)?;
        let mut seen = BTreeSet::new();
        for &(class, partition) in partitions {
            if self.layout.assignment(class).is_none() || partition.0 >= self.layout.partitions() {
                return Err(TopologyError::UnknownPartition(class, partition));
            }
            let placement = self.placement_in(class, partition);
            if placement.old == placement.new {
                return Err(TopologyError::DoesNotMove(class, partition));
            }
            if !seen.insert((class, partition)) {
                return Err(TopologyError::Twice(class, partition));
            }
            // On the way back nothing sets out any more, and what cannot go back goes on.
            let from = placement.stage;
            let forwards = to != Stage::Reverting && to != Stage::Stable;
            let shut = if transition.aborting { forwards && from < Stage::Switched } else { to == Stage::Reverting };
            if shut || !from.may_become(to) {
                return Err(TopologyError::Illegal { class, partition, from, to });
            }
        }
        let transition = self.transition.as_mut().expect("looked at above");
        self.epoch = self.epoch.next();
        for &(class, partition) in partitions {
            let place = (usize::from(class.0), partition.0 as usize);
            transition.stages[place.0][place.1] = to;
            self.since[place.0][place.1] = self.epoch;
        }
        Ok(())
    }

    /// Gives the change up: from now on partitions that have not switched only go back. Those that have go on to
    /// the end, because the new set alone has what was written since.
    ///
    /// # Errors
    /// When there is no change, or no way back: see [`TopologyError::PointOfNoReturn`] and
    /// [`TopologyError::TooManyMembers`].
    pub fn abort(&mut self) -> Result<(), TopologyError> {
        self.check_way_back()?;
        self.transition.as_mut().ok_or(TopologyError::Settled)?.aborting = true;
        self.epoch = self.epoch.next();
        Ok(())
    }

    /// Whether a layout can say what is where when no more partitions switch than have switched.
    fn check_way_back(&self) -> Result<(), TopologyError> {
        let transition = self.transition.as_ref().ok_or(TopologyError::Settled)?;
        let mut newcomers = BTreeSet::<NodeId>::new();
        let pairs = self.layout.classes().zip(self.layout.assignments().iter().zip(transition.next.assignments()));
        for (class, (old, new)) in pairs {
            let stages = &transition.stages[usize::from(class.0)];
            for ((_, row), _) in new.rows().zip(stages).filter(|(_, stage)| !stage.needs_old()) {
                if old.class().replicas != new.class().replicas {
                    return Err(TopologyError::PointOfNoReturn(class));
                }
                newcomers.extend(row.iter().filter(|&&node| self.layout.member(node).is_none()));
            }
        }
        let members = self.layout.nodes().len() + newcomers.len();
        if members > Layout::MEMBERS_MAX {
            return Err(TopologyError::TooManyMembers { members });
        }
        Ok(())
    }

    /// Takes the change up again that was being given up; partitions that have gone back set out anew.
    ///
    /// # Errors
    /// When there is no change.
    pub fn resume(&mut self) -> Result<(), TopologyError> {
        self.transition.as_mut().ok_or(TopologyError::Settled)?.aborting = false;
        self.epoch = self.epoch.next();
        Ok(())
    }

    /// Ends the change, when all partitions have arrived; or, if it is being given up, when all have arrived or come back. The layout
    /// is then the next one, or says what is where, and has the epoch of this decision.
    ///
    /// # Errors
    /// When a partition is still on its way.
    pub fn settle(&mut self) -> Result<(), TopologyError> {
        let aborting = self.is_aborting();
        self.transition.as_ref().ok_or(TopologyError::Settled)?;
        for (class, partition) in self.moving() {
            let stage = self.placement_in(class, partition).stage;
            if stage != Stage::Done && !(aborting && stage == Stage::Stable) {
                return Err(TopologyError::NotArrived { class, partition, stage });
            }
        }
        let transition = self.transition.take().expect("looked at above");
        self.epoch = self.epoch.next();
        let contents = if aborting { self.salvaged(&transition) } else { transition.next.contents().clone() };
        self.layout = codec::seal(Contents { epoch: self.epoch, ..contents });
        let since = vec![self.epoch; self.layout.partitions() as usize].into_boxed_slice();
        self.since.resize(self.layout.assignments().len(), since);
        Ok(())
    }

    /// What is where after a change was given up: the present layout, with the rows that have switched. Members are those of
    /// before, and newcomers that hold something.
    fn salvaged(&self, transition: &Transition) -> Contents {
        let before = self.layout.contents();
        let mut holding = BTreeSet::<NodeId>::new();
        let mut assignments = Vec::new();
        for (number, assignment) in self.layout.assignments().iter().enumerate() {
            let mut holders = Vec::with_capacity(assignment.holders().len());
            for (partition, old) in assignment.rows() {
                let is_done = transition.stages[number][partition.0 as usize] == Stage::Done;
                let row = if is_done { transition.next.assignments()[number].replicas(partition) } else { old };
                holders.extend_from_slice(row);
            }
            holding.extend(&holders);
            assignments.push(Assignment::new(assignment.class(), before.partitions, holders.into()));
        }
        let is_held = |member: &Member| holding.contains(&member.id);
        let mut members: Vec<Member> = transition
            .next
            .nodes()
            .iter()
            .filter(|member| is_held(member) && self.layout.member(member.id).is_none_or(|was| was.weight == Weight(0)))
            .cloned()
            .collect();
        let anew: Vec<NodeId> = members.iter().map(|member| member.id).collect();
        members.extend(self.layout.nodes().iter().filter(|member| !anew.contains(&member.id)).cloned());
        members.sort_unstable_by_key(|member| member.id);
        Contents { members: members.into(), assignments: assignments.into(), ..before.clone() }
    }
}

fn is_same_set(one: &[NodeId], other: &[NodeId]) -> bool {
    one.len() == other.len() && one.iter().all(|node| other.contains(node))
}

#[cfg(test)]
mod tests;
