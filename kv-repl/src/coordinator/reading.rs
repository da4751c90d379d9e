//! One read that is under way: whom it has asked, what has come back, and what it waits for.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::record::Record;
use kv_core::time::Millis;

use super::answers::Answers;
use super::budget::{Budget, Extra};
use super::latency::Latencies;
use super::retry::Patience;
use super::{placed, requirement};
use crate::machine::{Action, Environment, Origin, Release};
use crate::message::Message;
use crate::quorum::Consistency;
use crate::quorum::requirement::Requirement;
use crate::request::{Get, ReadError};
use crate::seen::Floor;

#[derive(Debug)]
pub(super) struct Reading {
    pub(super) tag: u64,
    pub(super) origin: Origin,
    pub(super) get: Get,
    pub(super) epoch: u64,
    /// In the order in which they are asked.
    pub(super) replicas: Vec<NodeId>,
    pub(super) requirement: Requirement,
    pub(super) asked: BTreeMap<NodeId, Asked>,
    /// Whose record was fetched because its digest was of no record.
    pub(super) fetched: BTreeSet<NodeId>,
    pub(super) stage: Stage,
    pub(super) patience: Patience,
    /// When it is looked at again.
    pub(super) look_at: Millis,
}

/// A replica that was asked.
#[derive(Debug)]
pub(super) struct Asked {
    at: Millis,
    /// When another one is asked in its place.
    overdue_at: Option<Millis>,
    /// Nothing can be told from when it answers, or it has been told.
    measured: bool,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// What has been answered so far.
    Asking {
        answers: Answers,
        /// Enough have answered, and what they hold is older than what the session has seen.
        behind: bool,
    },
    /// The join, who holds it durably, and who has been told.
    Repairing { joined: Record, bytes: Bytes, holders: BTreeSet<NodeId>, told: BTreeSet<NodeId> },
}

/// What to ask for.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum For {
    Record,
    Digest,
}

impl Reading {
    /// Asks the first ones: the very first for its record, the others for digests.
    pub(super) fn begin(&mut self, now: Millis, first: &[NodeId], latencies: &Latencies, out: &mut Vec<Action>) {
        for (at, node) in first.iter().enumerate() {
            let what = if at == 0 || sabotaged!(FetchEveryRecord) { For::Record } else { For::Digest };
            self.ask_first(now, *node, what, latencies, out);
        }
        self.look_at = self.next_look();
    }

    fn ask_first(&mut self, now: Millis, node: NodeId, what: For, latencies: &Latencies, out: &mut Vec<Action>) {
        let usual = latencies.expected(now, node).unwrap_or(self.patience.unmeasured());
        let overdue_at = Some(now.saturating_add(usual)).filter(|_| !sabotaged!(NeverHedge));
        self.asked.insert(node, Asked { at: now, overdue_at, measured: false });
        out.push(self.question(node, what));
    }

    /// Asks for records. Nobody is asked in the place of these.
    pub(super) fn ask(&mut self, now: Millis, nodes: impl IntoIterator<Item = NodeId>, out: &mut Vec<Action>) {
        for node in nodes {
            let asked = self.asked.entry(node).and_modify(|asked| asked.measured = true);
            asked.or_insert(Asked { at: now, overdue_at: None, measured: false });
            out.push(self.question(node, For::Record));
        }
    }

    fn question(&self, to: NodeId, what: For) -> Action {
        let (epoch, key) = (self.epoch, self.get.key.clone());
        let message = Message::Read { tag: self.tag, epoch, key, digest: what == For::Digest };
        Action::Send { to, message, release: Release::Now }
    }

    /// Those that were not asked yet.
    pub(super) fn others(&self) -> Vec<NodeId> {
        self.replicas.iter().copied().filter(|node| !self.asked.contains_key(node)).collect()
    }

    /// Whether the answer of a replica that was asked is still missing.
    pub(super) fn waits_for(&self, node: NodeId) -> bool {
        match &self.stage {
            Stage::Asking { answers, .. } => self.asked.contains_key(&node) && !answers.has(node),
            Stage::Repairing { .. } => false,
        }
    }

    /// How long a replica took, the first time it answers and if it was asked once.
    pub(super) fn took(&mut self, now: Millis, from: NodeId) -> Option<Millis> {
        let asked = self.asked.get_mut(&from).filter(|asked| !asked.measured)?;
        asked.measured = true;
        Some(now.saturating_sub(asked.at))
    }

    /// Who was asked and has not answered, and for how long.
    pub(super) fn silent(&self, now: Millis) -> impl Iterator<Item = (NodeId, Millis)> {
        let silent = self.asked.iter().filter(|(node, _)| self.waits_for(**node));
        silent.map(move |(node, asked)| (*node, now.saturating_sub(asked.at)))
    }

    /// When it has to be looked at again.
    pub(super) fn next_look(&self) -> Millis {
        let hedges = !self.others().is_empty();
        let overdue = self.asked.iter().filter(|(node, _)| hedges && self.waits_for(**node));
        overdue.filter_map(|(_, asked)| asked.overdue_at).chain([self.patience.at]).min().unwrap_or(self.patience.at)
    }

    /// Asks one more replica in the place of each that takes longer than usual, as far as the budget goes.
    pub(super) fn hedge(
        &mut self,
        env: &Environment<'_>,
        latencies: &Latencies,
        budget: &mut Budget,
        out: &mut Vec<Action>,
    ) {
        let now = env.now.monotonic;
        let overdue: Vec<NodeId> = self.asked.keys().copied().filter(|node| self.waits_for(*node)).collect();
        for node in overdue {
            let asked = self.asked.get_mut(&node).expect("it was asked");
            if asked.overdue_at.is_none_or(|at| at > now) {
                continue;
            }
            asked.overdue_at = None;
            let instead = self.others().into_iter().find(|node| super::reachable(env, *node));
            if let Some(instead) = instead
                && budget.spend(now, Extra::Hedge)
            {
                self.ask_first(now, instead, For::Record, latencies, out);
            }
        }
    }

    /// Asks all that have not answered, or tells all that do not hold the join, as far as the budget goes.
    pub(super) fn retry(&mut self, env: &Environment<'_>, budget: &mut Budget, out: &mut Vec<Action>) {
        let now = env.now.monotonic;
        let mut may = |node: &NodeId| *node == env.me.node || budget.spend(now, Extra::Retry);
        match &mut self.stage {
            Stage::Asking { answers, behind } => {
                let unread = answers.unread();
                let waits = |node: &NodeId| *behind || !answers.has(*node) || unread.contains(node);
                let again: Vec<NodeId> = self.replicas.iter().copied().filter(waits).filter(|node| may(node)).collect();
                self.ask(now, again, out);
            }
            Stage::Repairing { told, holders, .. } => {
                // Any replica can make up the number.
                let lacking = self.replicas.iter().copied().filter(|node| !holders.contains(node));
                let again: Vec<NodeId> = lacking.filter(|node| may(node)).collect();
                told.extend(again.iter().copied());
                self.tell(again, out);
            }
        }
    }

    /// Writes the join to these replicas.
    pub(super) fn tell(&self, nodes: impl IntoIterator<Item = NodeId>, out: &mut Vec<Action>) {
        if let Stage::Repairing { bytes, .. } = &self.stage {
            let (tag, epoch) = (self.tag, self.epoch);
            out.extend(nodes.into_iter().map(|to| Action::Send {
                to,
                message: Message::Write { tag, epoch, key: self.get.key.clone(), record: bytes.clone() },
                release: Release::Now,
            }));
        }
    }

    /// Whether an answer is as new as what the session has seen, and asks further replicas when it is not.
    pub(super) fn satisfies_session(
        &mut self,
        env: &Environment<'_>,
        joined: Option<&Record>,
        out: &mut Vec<Action>,
    ) -> bool {
        let now = env.now.monotonic;
        let Some(floor) = &self.get.floor else { return true };
        if !floor.is_in(joined) && !sabotaged!(AnswerBelowSession) {
            if let Stage::Asking { behind, .. } = &mut self.stage {
                *behind = true;
            }
            self.ask(now, self.others(), out);
            return false;
        }
        if Floor::can_remember(joined) || self.get.consistency.is_quorum_of(self.replicas.len()) {
            return true;
        }
        self.get.consistency = Consistency::Quorum;
        if let Some((table, replicas)) = placed(env, &self.get.key)
            && let Ok(quorum) = requirement(env, table, replicas, Consistency::Quorum)
        {
            self.requirement = quorum;
        }
        self.ask(now, self.others(), out);
        let Stage::Asking { answers, .. } = &self.stage else { return false };
        self.requirement.is_met(|node| answers.has(node))
    }

    /// What to answer at the deadline.
    pub(super) fn timeout(&self) -> ReadError {
        let answered = |node| match &self.stage {
            Stage::Asking { answers, .. } => answers.has(node),
            Stage::Repairing { holders, .. } => holders.contains(&node),
        };
        match &self.stage {
            Stage::Asking { answers, behind: true } => ReadError::BehindSession { answered: answers.len() },
            _ => ReadError::Timeout {
                answered: self.requirement.progress(answered),
                required: self.requirement.required(),
            },
        }
    }
}
