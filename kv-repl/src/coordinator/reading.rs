//! One read that is under way: whom it has asked, what has come back, and what it waits for.

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::record::Record;
use kv_core::time::Millis;

use super::answers::Answers;
use super::budget::{Budget, Extra};
use super::latency::Latencies;
use super::retry::Patience;
use super::{placed, requirement};
use crate::by_replica::{ByReplica, NodeSet, Nodes};
use crate::machine::{Action, Environment, Origin, Release};
use crate::message::Message;
use crate::quorum::Consistency;
use crate::quorum::requirement::Requirement;
use crate::request::{Get, ReadError};
use crate::seen::Floor;

/// That of replicas that all have their first storages.
const FIRST_EPOCH: u64 = 1;

/// What decides when a read asks more than it has to, and is shared by all reads.
#[derive(Debug)]
pub(super) struct Means {
    pub(super) latencies: Latencies,
    pub(super) budget: Budget,
}

#[derive(Debug)]
pub(super) struct Reading {
    pub(super) tag: u64,
    pub(super) origin: Origin,
    pub(super) get: Get,
    pub(super) epoch: u64,
    /// In the order in which they are asked.
    pub(super) replicas: Nodes,
    pub(super) requirement: Requirement,
    pub(super) asked: ByReplica<Asked>,
    pub(super) stage: Stage,
    pub(super) patience: Patience,
    /// When it is looked at again.
    pub(super) look_at: Millis,
}

/// A replica that was asked.
#[derive(Debug)]
pub(super) struct Asked {
    at: Millis,
    /// For what it was asked last.
    what: For,
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
    Repairing { joined: Record, bytes: Bytes, holders: NodeSet, told: NodeSet },
}

/// What to ask for.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum For {
    Record,
    Digest,
}

impl Reading {
    /// Asks the first ones: the very first for its record, the others for digests.
    pub(super) fn begin(&mut self, env: &Environment<'_>, first: &[NodeId], means: &mut Means, out: &mut Vec<Action>) {
        means.budget.earn(peers(env, first));
        for (at, node) in first.iter().enumerate() {
            let what = if at == 0 || sabotaged!(FetchEveryRecord) { For::Record } else { For::Digest };
            self.ask(env.now.monotonic, *node, what, &means.latencies, out);
        }
        self.look_at = self.next_look();
    }

    /// Asks for records because of what others have answered.
    pub(super) fn fetch(&mut self, env: &Environment<'_>, nodes: &[NodeId], means: &mut Means, out: &mut Vec<Action>) {
        means.budget.earn(peers(env, nodes));
        nodes.iter().for_each(|node| self.ask(env.now.monotonic, *node, For::Record, &means.latencies, out));
    }

    /// Asks a replica. When it takes longer than it usually does, another one is asked in its place.
    fn ask(&mut self, now: Millis, node: NodeId, what: For, latencies: &Latencies, out: &mut Vec<Action>) {
        let usual = latencies.expected(now, node).unwrap_or(self.patience.unmeasured());
        let overdue_at = Some(now.saturating_add(usual)).filter(|_| !sabotaged!(NeverHedge));
        // Of one that is asked twice nobody can tell which question it answers.
        let measured = self.asked.contains(node);
        self.asked.insert(node, Asked { at: now, what, overdue_at, measured });
        out.push(self.question(node, what));
    }

    fn question(&self, to: NodeId, what: For) -> Action {
        let (epoch, key) = (self.epoch, self.get.key.clone());
        let message = Message::Read { tag: self.tag, epoch, key, digest: what == For::Digest };
        Action::Send { to, message, release: Release::Now }
    }

    /// Begins again when a storage was replaced since it began: what the one before has answered does not count together with what
    /// those say who know the new one (rule P13).
    pub(super) fn renew(&mut self, epoch: u64) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.restart();
        }
    }

    /// Forgets what was answered.
    pub(super) fn restart(&mut self) {
        self.stage = Stage::Asking { answers: Answers::default(), behind: false };
    }

    /// Whether it is known what each replica holds.
    fn is_known_of_all(&self) -> bool {
        let Stage::Asking { answers, .. } = &self.stage else { return false };
        self.replicas.iter().all(|node| answers.is_read(*node))
    }

    /// Those that were not asked yet for what they hold, or only for a digest that is of no record.
    pub(super) fn others(&self) -> impl Iterator<Item = NodeId> {
        self.replicas.iter().copied().filter(|node| self.may_be_asked(*node))
    }

    fn may_be_asked(&self, node: NodeId) -> bool {
        match (self.asked.get(node), &self.stage) {
            (None, _) => true,
            (Some(Asked { what: For::Digest, .. }), Stage::Asking { answers, .. }) => {
                answers.has(node) && !answers.is_read(node)
            }
            (Some(_), _) => false,
        }
    }

    /// Whether the answer of a replica that was asked is still missing.
    pub(super) fn waits_for(&self, node: NodeId) -> bool {
        match (self.asked.get(node), &self.stage) {
            (Some(Asked { what: For::Digest, .. }), Stage::Asking { answers, .. }) => !answers.has(node),
            (Some(Asked { what: For::Record, .. }), Stage::Asking { answers, .. }) => !answers.is_read(node),
            (None, _) | (Some(_), Stage::Repairing { .. }) => false,
        }
    }

    /// Whether what is known of the replicas is enough.
    pub(super) fn is_met(&self) -> bool {
        match &self.stage {
            Stage::Asking { answers, .. } if sabotaged!(WaitForUnread) => {
                self.requirement.is_met(|node| answers.has(node)) && answers.unread().is_empty()
            }
            Stage::Asking { answers, .. } => self.requirement.is_met(|node| answers.is_read(node)),
            Stage::Repairing { holders, .. } => self.requirement.is_met(|node| holders.contains(node)),
        }
    }

    /// Whose records have to be fetched before the read can go on, when enough have answered.
    pub(super) fn unread(&self) -> Nodes {
        match &self.stage {
            Stage::Asking { answers, .. } if self.requirement.is_met(|node| answers.has(node)) => {
                answers.unread().into_iter().filter(|node| self.may_be_asked(*node)).collect()
            }
            _ => Nodes::new(),
        }
    }

    /// How long a replica took, the first time it answers and if it was asked once.
    pub(super) fn took(&mut self, now: Millis, from: NodeId) -> Option<Millis> {
        let asked = self.asked.get_mut(from).filter(|asked| !asked.measured)?;
        asked.measured = true;
        Some(now.saturating_sub(asked.at))
    }

    /// Who was asked and has not answered, and for how long.
    pub(super) fn silent(&self, now: Millis) -> impl Iterator<Item = (NodeId, Millis)> {
        let silent = self.asked.iter().filter(|(node, _)| self.waits_for(*node));
        silent.map(move |(node, asked)| (node, now.saturating_sub(asked.at)))
    }

    /// When it has to be looked at again.
    pub(super) fn next_look(&self) -> Millis {
        let hedges = self.others().next().is_some();
        let overdue = self.asked.iter().filter(|(node, _)| hedges && self.waits_for(*node));
        overdue.filter_map(|(_, asked)| asked.overdue_at).chain([self.patience.at]).min().unwrap_or(self.patience.at)
    }

    /// Asks one more replica in the place of each that takes longer than usual, as far as the budget goes.
    pub(super) fn hedge(&mut self, env: &Environment<'_>, means: &mut Means, out: &mut Vec<Action>) {
        let now = env.now.monotonic;
        let waits: Nodes = self.asked.nodes().filter(|node| self.waits_for(*node)).collect();
        for node in waits {
            let asked = self.asked.get_mut(node).expect("it was asked");
            if asked.overdue_at.is_none_or(|at| at > now) {
                continue;
            }
            asked.overdue_at = None;
            if let Some(instead) = self.instead(env)
                && means.budget.spend(now, Extra::Hedge)
            {
                self.ask(now, instead, For::Record, &means.latencies, out);
            }
        }
    }

    /// A replica will not answer: asks another one in its place. Where what was asked of it is lost, or was in vain, that is
    /// nothing `extra`.
    pub(super) fn replace(
        &mut self,
        env: &Environment<'_>,
        node: NodeId,
        extra: Option<Extra>,
        means: &mut Means,
        out: &mut Vec<Action>,
    ) {
        if let Some(asked) = self.asked.get_mut(node) {
            asked.overdue_at = None;
        }
        let Some(instead) = self.instead(env) else { return };
        match extra {
            None => self.fetch(env, &[instead], means, out),
            Some(extra) => {
                if means.budget.spend(env.now.monotonic, extra) {
                    self.ask(env.now.monotonic, instead, For::Record, &means.latencies, out);
                }
            }
        }
    }

    /// The first one that can be reached and brings the level nearer than those that were asked and are in time.
    fn instead(&self, env: &Environment<'_>) -> Option<NodeId> {
        let Stage::Asking { answers, .. } = &self.stage else { return None };
        let in_time = |node| self.asked.get(node).is_some_and(|asked| asked.overdue_at.is_some());
        let hoped = |node| answers.is_read(node) || (self.waits_for(node) && in_time(node));
        let so_far = self.requirement.progress(hoped);
        let nearer = |node: &NodeId| {
            sabotaged!(HedgeAnywhere) || self.requirement.progress(|other| other == *node || hoped(other)) > so_far
        };
        let may = |node: &NodeId| super::reachable(env, *node) && !env.peers.is_busy(*node, env.now.monotonic);
        self.others().find(|node| may(node) && nearer(node))
    }

    /// Asks all of whom it is not known what they hold, or tells all that do not hold the join, as far as the budget goes.
    pub(super) fn retry(&mut self, env: &Environment<'_>, means: &mut Means, out: &mut Vec<Action>) {
        let now = env.now.monotonic;
        let mut may = |node: &NodeId| {
            *node == env.me.node || (!env.peers.is_busy(*node, now) && means.budget.spend(now, Extra::Retry))
        };
        match &mut self.stage {
            Stage::Asking { answers, behind } => {
                let waits = |node: &NodeId| *behind || !answers.is_read(*node);
                let again: Nodes = self.replicas.iter().copied().filter(waits).filter(|node| may(node)).collect();
                again.into_iter().for_each(|node| self.ask(now, node, For::Record, &means.latencies, out));
            }
            Stage::Repairing { told, holders, .. } => {
                // Any replica can make up the number.
                let lacking = self.replicas.iter().copied().filter(|node| !holders.contains(*node));
                let again: Nodes = lacking.filter(|node| may(node)).collect();
                told.extend(again.iter().copied());
                self.tell(&again, out);
            }
        }
    }

    /// Writes the join to these replicas.
    pub(super) fn tell(&self, nodes: &[NodeId], out: &mut Vec<Action>) {
        if let Stage::Repairing { bytes, .. } = &self.stage {
            let (tag, epoch) = (self.tag, self.epoch);
            out.extend(nodes.iter().map(|to| Action::Send {
                to: *to,
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
        means: &mut Means,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(floor) = &self.get.floor else { return true };
        // What no replica holds any more was deleted, and everybody has forgotten it since.
        let forgets = placed(env, &self.get.key).is_some_and(|(table, _)| table.options.is_purged());
        // Or was lost with a disk, which nobody should take for a delete: then the epoch is another one.
        let is_forgotten = forgets && env.floors.enabled && self.epoch == FIRST_EPOCH && self.is_known_of_all();
        if !floor.is_in(joined) && !is_forgotten && !sabotaged!(AnswerBelowSession) {
            if let Stage::Asking { behind, .. } = &mut self.stage {
                *behind = true;
            }
            let others: Nodes = self.others().collect();
            self.fetch(env, &others, means, out);
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
        let others: Nodes = self.others().collect();
        self.fetch(env, &others, means, out);
        self.is_met()
    }

    /// What to answer at the deadline.
    pub(super) fn timeout(&self) -> ReadError {
        let answered = |node| match &self.stage {
            Stage::Asking { answers, .. } => answers.is_read(node),
            Stage::Repairing { holders, .. } => holders.contains(node),
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

/// How many of these are not this node.
pub(super) fn peers(env: &Environment<'_>, nodes: &[NodeId]) -> usize {
    nodes.iter().filter(|node| **node != env.me.node).count()
}
