//! One write under way: who has acknowledged it, who is said to have missed it, who else keeps it, and whether that is enough.

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::hlc::Stamp;
use kv_core::key::RecordKey;
use kv_core::record::OperationId;
use kv_core::store::{Batch, Space};

use super::budget::{Budget, Extra};
use super::fallbacks::Fallbacks;
use super::retry::Patience;
use super::{placed, reachable};
use crate::by_replica::{NodeSet, Nodes};
use crate::machine::{Action, Environment, Notice, Origin, Release, Stripe};
use crate::message::Message;
use crate::quorum::requirement::Requirement;
use crate::request::Written;

/// A write that was minted, until every replica has acknowledged it or nobody waits any longer.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) origin: Origin,
    pub(super) operation: OperationId,
    pub(super) key: RecordKey,
    pub(super) change: Bytes,
    /// Of the write itself.
    pub(super) birth: Stamp,
    pub(super) epoch: u64,
    /// Replicas that have not acknowledged.
    pub(super) missing: NodeSet,
    /// Those among them that were said to have missed it.
    pub(super) missed: NodeSet,
    /// Those that hold it and have acknowledged nothing, because their storage is new.
    pub(super) importing: NodeSet,
    /// A turn was not stored that may have stored it here: it is stored again.
    pub(super) refused_here: bool,
    pub(super) acknowledged: usize,
    pub(super) requirement: Requirement,
    /// Who else may count, in a sloppy table.
    pub(super) fallbacks: Option<Fallbacks>,
    /// The answer, until it is given.
    pub(super) written: Option<Written>,
    pub(super) patience: Patience,
}

impl UnderWay {
    /// Says that these have missed the change, unless it was said before.
    pub(super) fn miss(&mut self, me: NodeId, nodes: impl Iterator<Item = NodeId>, out: &mut Vec<Action>) {
        for target in nodes.filter(|node| *node != me && self.missing.contains(*node)) {
            if !sabotaged!(NeverHint) && self.missed.insert(target) {
                let (key, change) = (self.key.clone(), self.change.clone());
                out.push(Action::Notify(Notice::Missed { target, key, change }));
            }
        }
    }

    /// Stores the change here, if that may have been refused before. Others may hold it by now: it is joined to what is here.
    pub(super) fn store_again(&mut self, env: &Environment<'_>, tag: u64, out: &mut Vec<Action>) {
        if !self.missing.contains(env.me.node) || !std::mem::take(&mut self.refused_here) {
            return;
        }
        if !env.caches.are_of(self.key.table()) {
            let mut batch = Batch::new();
            batch.merge(Space::DATA, self.key.as_bytes(), &self.change);
            out.push(Action::Store { stripe: Stripe::of(self.key.token()), batch });
        }
        out.push(stored_here(env, &self.key, tag));
    }

    /// Has others acknowledge it again when a storage was replaced since it began: what the one before has acknowledged does not
    /// count together with what those say who know the new one (rule P13).
    pub(super) fn renew(&mut self, env: &Environment<'_>) {
        let epoch = env.catalog.map_or(0, |catalog| catalog.epoch_of_key(&self.key));
        if epoch == self.epoch {
            return;
        }
        self.epoch = epoch;
        let is_here = !self.missing.contains(env.me.node);
        let replicas = placed(env, &self.key).map_or(&[][..], |(_, replicas)| replicas);
        self.missing.extend(replicas.iter().copied().filter(|node| !is_here || *node != env.me.node));
        self.acknowledged = usize::from(is_here);
    }

    /// Whether it can be answered.
    pub(super) fn is_met(&self, me: NodeId) -> bool {
        if sabotaged!(CountAcksTwice) {
            return self.acknowledged >= self.requirement.required();
        }
        let has = |node: NodeId| !self.missing.contains(node);
        let keeps = |node: NodeId| self.fallbacks.as_ref().is_some_and(|fallbacks| fallbacks.keeps(node));
        let is_held = has(me) || sabotaged!(AnswerWithoutHolding);
        self.requirement.is_met(has) || (is_held && self.requirement.is_met(|node| has(node) || keeps(node)))
    }

    /// How many replicas have acknowledged, and how many fallbacks it takes besides: as many as keep it for those that have not, if
    /// these are too few.
    pub(super) fn counts(&self) -> (usize, usize) {
        let is_alone = self.requirement.is_met(|node| !self.missing.contains(node));
        let fallbacks = self.fallbacks.as_ref().filter(|_| !is_alone);
        // Several may keep it for one replica.
        let fallbacks =
            fallbacks.map_or(0, |fallbacks| self.missing.iter().filter(|node| fallbacks.keeps(*node)).count());
        if sabotaged!(TellFallbacksAsReplicas) {
            return (self.acknowledged + fallbacks, 0);
        }
        (self.acknowledged, fallbacks)
    }

    /// Asks other nodes to keep the change for these replicas, as far as they may be asked.
    pub(super) fn fall_back(
        &mut self,
        env: &Environment<'_>,
        tag: u64,
        targets: Vec<NodeId>,
        budget: &mut Budget,
        out: &mut Vec<Action>,
    ) {
        let (Some(fallbacks), Some((table, _))) = (&mut self.fallbacks, placed(env, &self.key)) else { return };
        let now = env.now.monotonic;
        for target in targets.into_iter().filter(|target| self.requirement.concerns(*target)) {
            let next = fallbacks.next(env, table, &self.key, target);
            let Some(to) = next.filter(|node| !env.peers.is_busy(*node, now)) else { continue };
            if fallbacks.is_first(target) && !reachable(env, target) {
                budget.earn(1);
            } else if !budget.spend(now, Extra::Retry) {
                continue;
            }
            fallbacks.asked(to, target);
            let (epoch, key, record) = (self.epoch, self.key.clone(), self.change.clone());
            let message = Message::Keep { tag, epoch, target, key, record };
            out.push(Action::Send { to, message, release: Release::Durable(Stripe::META) });
        }
    }

    /// The peers that have not acknowledged.
    pub(super) fn others(&self, me: NodeId) -> impl Iterator<Item = NodeId> {
        self.missing.iter().filter(move |node| *node != me)
    }

    /// Sends the change to peers. It may leave before it is durable here, but not before the mark of the clock and the epoch of
    /// the actor are.
    pub(super) fn send(&self, to: Nodes, tag: u64, out: &mut Vec<Action>) {
        out.extend(to.into_iter().map(|to| Action::Send {
            to,
            message: Message::Write { tag, epoch: self.epoch, key: self.key.clone(), record: self.change.clone() },
            release: Release::Durable(Stripe::META),
        }));
    }
}

/// This node's own acknowledgement, once the change is durable here.
pub(super) fn stored_here(env: &Environment<'_>, key: &RecordKey, tag: u64) -> Action {
    let stripe = if env.caches.are_of(key.table()) { Stripe::META } else { Stripe::of(key.token()) };
    let message = Message::WriteReply { tag, refused: None };
    Action::Send { to: env.me.node, message, release: Release::Durable(stripe) }
}
