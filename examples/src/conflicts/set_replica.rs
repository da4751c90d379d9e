//! Replicas of an observed-remove set, and a link between them that carries bytes and can be cut.

use kv_core::NodeId;
use kv_core::codec::Reader;
use kv_core::crdt::{Dotted, OrSet};
use kv_core::version::{Actor, Incarnation};

use super::{Cart, Failure};

pub(super) struct SetReplica {
    actor: Actor,
    state: Dotted<OrSet<String>>,
}

impl SetReplica {
    pub(super) fn new(node: u64) -> Self {
        let actor = Actor { node: NodeId(node), incarnation: Incarnation(node), epoch: 0 };
        Self { actor, state: Dotted::default() }
    }

    /// Puts an item in, and returns the change for the others.
    pub(super) fn insert(&mut self, item: &str) -> Vec<u8> {
        encode(&self.state.apply(self.actor, |set, dot| set.insert(dot, item.to_owned())))
    }

    /// Takes an item out as this replica has observed it, and returns the change for the others.
    pub(super) fn remove(&mut self, item: &str) -> Vec<u8> {
        let seen = self.state.context().clone();
        encode(&self.state.apply(self.actor, |set, _| set.remove(&item.to_owned(), &seen)))
    }

    fn receive(&mut self, change: &[u8]) -> Result<(), Failure> {
        self.state.absorb(&Dotted::decode(&mut Reader::new(change))?);
        Ok(())
    }

    pub(super) fn cart(&self) -> Cart {
        self.state.value().iter().cloned().collect()
    }

    pub(super) fn encoded(&self) -> Vec<u8> {
        encode(&self.state)
    }
}

fn encode(state: &Dotted<OrSet<String>>) -> Vec<u8> {
    let mut out = Vec::new();
    state.encode(&mut out);
    out
}

/// Carries changes. While it is cut, it keeps what some replicas did not get.
pub(super) struct Link {
    cut: bool,
    lost: Vec<Vec<u8>>,
}

impl Link {
    pub(super) const fn whole() -> Self {
        Self { cut: false, lost: Vec::new() }
    }

    pub(super) const fn cut(&mut self) {
        self.cut = true;
    }

    /// Brings a change to everybody.
    pub(super) fn send(&mut self, change: Vec<u8>, replicas: &mut [SetReplica]) -> Result<(), Failure> {
        self.send_to(change, replicas)
    }

    /// Brings a change to those who can be reached.
    pub(super) fn send_to(&mut self, change: Vec<u8>, reached: &mut [SetReplica]) -> Result<(), Failure> {
        for replica in reached {
            replica.receive(&change)?;
        }
        if self.cut {
            self.lost.push(change);
        }
        Ok(())
    }

    /// Brings everything that was lost to everybody, the last first, and again from the first on. Says how many changes and
    /// bytes that were.
    pub(super) fn heal(&mut self, replicas: &mut [SetReplica]) -> Result<(usize, usize), Failure> {
        self.cut = false;
        let lost = std::mem::take(&mut self.lost);
        for change in lost.iter().rev().chain(&lost) {
            for replica in &mut *replicas {
                replica.receive(change)?;
            }
        }
        Ok((lost.len(), lost.iter().map(Vec::len).sum()))
    }
}
