//! What is to become of a cluster's members and classes.

use std::collections::BTreeMap;

use kv_core::NodeId;
use thiserror::Error;

use crate::{
    builder::{LayoutBuilder, LayoutError},
    class::{ClassId, PlacementClass},
    layout::Layout,
    node::{Member, Weight, Zone},
};

/// A change of members, weights, zones or classes, or several at once: one plan for all of them moves less than
/// one after the other. For [`Layout::plan`].
///
/// The steps are taken in the order in which they are named; a change is refused as a whole.
///
/// ```
/// use kv_ring::{Change, NodeId, Weight, Zone};
///
/// let change = Change::new()
///     .add(NodeId(7), Weight(2), Zone::new("b"))
///     .drain(NodeId(3))
///     .replace(NodeId(4), NodeId(8));
/// # assert!(!change.is_empty());
/// ```
#[derive(Clone, Eq, PartialEq, Debug, Default)]
#[must_use = "a change does nothing until it is planned"]
pub struct Change {
    steps: Vec<Step>,
}

#[derive(Clone, Eq, PartialEq, Debug)]
enum Step {
    Add(Member),
    Remove(NodeId),
    Reweight(NodeId, Weight),
    Rezone(NodeId, Zone),
    Replace { old: NodeId, new: NodeId },
    SetClass(ClassId, PlacementClass),
    AddClass(PlacementClass),
}

/// Why a change cannot be planned. Nothing was changed.
#[derive(Clone, Eq, PartialEq, Debug, Error)]
pub enum ChangeError {
    /// The change names a node that is no member.
    #[error("{0} is no member")]
    UnknownNode(NodeId),
    /// The change adds a node that is a member already.
    #[error("{0} is a member already")]
    AlreadyMember(NodeId),
    /// The change names a class that the layout does not have.
    #[error("there is no {0}")]
    UnknownClass(ClassId),
    /// The members and classes that the change leads to have no layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl Change {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no step has been named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// A node joins, and takes its share.
    pub fn add(self, node: NodeId, weight: Weight, zone: Zone) -> Self {
        self.step(Step::Add(Member { id: node, weight, zone }))
    }

    /// A node leaves the members. To empty one first that is to stay for a while, [`Change::drain`] it.
    pub fn remove(self, node: NodeId) -> Self {
        self.step(Step::Remove(node))
    }

    /// A node stays a member and gives all it holds to the others: weight 0.
    pub fn drain(self, node: NodeId) -> Self {
        self.reweight(node, Weight(0))
    }

    /// A node gets another share.
    pub fn reweight(self, node: NodeId, weight: Weight) -> Self {
        self.step(Step::Reweight(node, weight))
    }

    /// A node stands in another zone.
    pub fn rezone(self, node: NodeId, zone: Zone) -> Self {
        self.step(Step::Rezone(node, zone))
    }

    /// `new` takes the weight, the zone and all the replicas of `old`, which leaves. A node that has lost its disk is a new
    /// node: this is how it comes back.
    pub fn replace(self, old: NodeId, new: NodeId) -> Self {
        self.step(Step::Replace { old, new })
    }

    /// A class asks for other replicas or another zone rule.
    pub fn set_class(self, id: ClassId, class: PlacementClass) -> Self {
        self.step(Step::SetClass(id, class))
    }

    /// Another class, for tables to come. It is there for good, because tables know their classes by number: one that no table
    /// uses any more has no data, but keeps its part of the layout's bytes and its partitions in plans and moves. One replica
    /// and [`crate::ZoneRule::Ignore`] make these few.
    pub fn add_class(self, class: PlacementClass) -> Self {
        self.step(Step::AddClass(class))
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// What it makes of a layout, to be built.
    pub(crate) fn applied_to(&self, layout: &Layout) -> Result<Outcome, ChangeError> {
        let mut members: BTreeMap<NodeId, Member> =
            layout.nodes().iter().map(|member| (member.id, member.clone())).collect();
        let mut classes: Vec<PlacementClass> =
            layout.assignments().iter().map(|assignment| assignment.class()).collect();
        let mut replaced = BTreeMap::new();
        for step in &self.steps {
            match step {
                Step::Add(member) => add(&mut members, member.clone())?,
                Step::Remove(node) => {
                    remove(&mut members, *node)?;
                    // Whoever comes by its name later has taken nobody's place.
                    replaced.retain(|_, successor| successor != node);
                }
                Step::Reweight(node, weight) => existing(&mut members, *node)?.weight = *weight,
                Step::Rezone(node, zone) => existing(&mut members, *node)?.zone = zone.clone(),
                Step::Replace { old, new } => {
                    let Member { weight, zone, .. } = existing(&mut members, *old)?.clone();
                    add(&mut members, Member { id: *new, weight, zone })?;
                    remove(&mut members, *old)?;
                    for successor in replaced.values_mut().filter(|successor| *successor == old) {
                        *successor = *new;
                    }
                    replaced.insert(*old, *new);
                }
                Step::SetClass(id, class) => {
                    *classes.get_mut(usize::from(id.0)).ok_or(ChangeError::UnknownClass(*id))? = *class;
                }
                Step::AddClass(class) => classes.push(*class),
            }
        }
        // A node that came back after it had been replaced keeps its own, as does one that was a member already.
        replaced.retain(|old, new| !members.contains_key(old) && layout.member(*new).is_none());
        let builder = LayoutBuilder::succeeding(layout, members.into_values().collect(), classes, replaced.clone());
        Ok(Outcome { builder, replaced })
    }
}

/// A change applied: the next layout to be built, and who takes whose place.
pub(crate) struct Outcome {
    pub(crate) builder: LayoutBuilder,
    pub(crate) replaced: BTreeMap<NodeId, NodeId>,
}

fn existing(members: &mut BTreeMap<NodeId, Member>, node: NodeId) -> Result<&mut Member, ChangeError> {
    members.get_mut(&node).ok_or(ChangeError::UnknownNode(node))
}

fn add(members: &mut BTreeMap<NodeId, Member>, member: Member) -> Result<(), ChangeError> {
    let node = member.id;
    if members.contains_key(&node) {
        return Err(ChangeError::AlreadyMember(node));
    }
    members.insert(node, member);
    Ok(())
}

fn remove(members: &mut BTreeMap<NodeId, Member>, node: NodeId) -> Result<Member, ChangeError> {
    members.remove(&node).ok_or(ChangeError::UnknownNode(node))
}
