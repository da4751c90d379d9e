//! What a level asks of the replicas of one key.
//!
//! Each level is one demand, or several at once: so many out of these replicas. All of them, or those of one zone, or those
//! of each zone. Who has answered is a set of nodes, so a replica that answers twice counts once (rule P13).

use std::collections::BTreeMap;

use kv_core::NodeId;
use kv_ring::Zone;
use smallvec::{SmallVec, smallvec};
use thiserror::Error;

use super::{Consistency, majority};
use crate::by_replica::Nodes;

/// A level that the replicas of a key can never meet. Nothing was sent.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
#[error("{consistency} needs {required} replicas, and the key has {replicas} that count")]
pub struct TooFewReplicas {
    /// The level.
    pub consistency: Consistency,
    /// How many replicas the key has: all, or in the zone that the level speaks of.
    pub replicas: usize,
    /// How many the level needs.
    pub required: usize,
}

/// So many out of these.
#[derive(Clone, Eq, PartialEq, Debug)]
struct Demand {
    of: Nodes,
    needed: usize,
}

/// What must have answered before a request is answered.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Requirement {
    demands: SmallVec<[Demand; 1]>,
}

impl Requirement {
    /// What `consistency` asks of `replicas`, each with its zone, for a request that a node in `own` has taken.
    pub(crate) fn of<'a>(
        consistency: Consistency,
        own: &Zone,
        replicas: impl IntoIterator<Item = (NodeId, &'a Zone)>,
    ) -> Result<Self, TooFewReplicas> {
        let replicas = replicas.into_iter();
        let of: Nodes = match consistency {
            Consistency::LocalQuorum if sabotaged!(CountEveryZone) => {
                let all: Vec<_> = replicas.collect();
                let needed = majority(all.iter().filter(|(_, zone)| *zone == own).count());
                let of = all.into_iter().map(|(node, _)| node).collect();
                return Ok(Self { demands: smallvec![Demand { of, needed }] });
            }
            Consistency::LocalOne | Consistency::LocalQuorum => {
                replicas.filter(|(_, zone)| *zone == own).map(|(node, _)| node).collect()
            }
            Consistency::EachQuorum => return Self::of_each(replicas),
            _ => replicas.map(|(node, _)| node).collect(),
        };
        let needed = match consistency {
            Consistency::One | Consistency::LocalOne => 1,
            Consistency::Two => 2,
            Consistency::Three => 3,
            Consistency::All => of.len().max(1),
            Consistency::Quorum | Consistency::LocalQuorum | Consistency::EachQuorum => majority(of.len()),
        };
        if of.len() < needed {
            return Err(TooFewReplicas { consistency, replicas: of.len(), required: needed });
        }
        Ok(Self { demands: smallvec![Demand { of, needed }] })
    }

    fn of_each<'a>(replicas: impl Iterator<Item = (NodeId, &'a Zone)>) -> Result<Self, TooFewReplicas> {
        let mut zones: BTreeMap<&Zone, Nodes> = BTreeMap::new();
        for (node, zone) in replicas {
            zones.entry(zone).or_default().push(node);
        }
        if zones.is_empty() {
            return Err(TooFewReplicas { consistency: Consistency::EachQuorum, replicas: 0, required: 1 });
        }
        Ok(Self { demands: zones.into_values().map(|of| Demand { needed: majority(of.len()), of }).collect() })
    }

    /// Whether an answer of this node ever counts.
    pub(crate) fn concerns(&self, node: NodeId) -> bool {
        self.demands.iter().any(|demand| demand.of.contains(&node))
    }

    /// Whether it is enough that those have answered for whom `answered` holds.
    pub(crate) fn is_met(&self, answered: impl Fn(NodeId) -> bool) -> bool {
        self.demands.iter().all(|demand| demand.count(&answered) >= demand.needed)
    }

    /// How many answers count, of those for whom `answered` holds: at most [`Requirement::required`], and that many only when
    /// it is met. It can still be met when it would be with everybody who might yet answer.
    pub(crate) fn progress(&self, answered: impl Fn(NodeId) -> bool) -> usize {
        self.demands.iter().map(|demand| demand.count(&answered).min(demand.needed)).sum()
    }

    /// How many answers it takes.
    pub(crate) fn required(&self) -> usize {
        self.demands.iter().map(|demand| demand.needed).sum()
    }

    /// As few nodes as meet it, the earlier ones in `order` first. Fewer when those in `order` do not meet it.
    pub(crate) fn choose(&self, order: &[NodeId]) -> Nodes {
        let mut open: SmallVec<[usize; 1]> = self.demands.iter().map(|demand| demand.needed).collect();
        let mut chosen = Nodes::new();
        for node in order {
            let wanted =
                self.demands.iter().zip(&mut open).find(|(demand, left)| **left > 0 && demand.of.contains(node));
            if let Some((_, left)) = wanted {
                *left -= 1;
                chosen.push(*node);
            }
        }
        chosen
    }
}

impl Demand {
    fn count(&self, answered: impl Fn(NodeId) -> bool) -> usize {
        self.of.iter().filter(|node| answered(**node)).count()
    }
}

#[cfg(test)]
mod tests;
