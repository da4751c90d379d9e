//! One round that is to raise the floor of a place, at the replica that leads: how far it has come.

use std::collections::{BTreeSet, VecDeque};

use kv_core::NodeId;
use kv_core::hlc::Stamp;
use kv_core::time::Millis;

use super::measure::Measure;
use super::site::Site;
use crate::comparison::FloorStep;
use crate::machine::{Action, Environment, Release};
use crate::message::Message;

/// How many times a replica is asked for the same.
const ASKED_MAX: u32 = 6;

/// One round.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) site: Site,
    pub(super) replicas: Vec<NodeId>,
    pub(super) up_to: Stamp,
    pub(super) attempts: u32,
    pub(super) stage: Stage,
}

/// How far it has come.
#[derive(Debug)]
pub(super) enum Stage {
    Looking(Measure),
    Asking(Asking),
    Comparing {
        left: VecDeque<NodeId>,
        /// With the first of them, at this moment.
        running: bool,
        failures: u32,
        lives: u64,
    },
    Ended(Ended),
}

/// A step that every replica is asked for.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) tag: u64,
    pub(super) step: FloorStep,
    pub(super) waits: BTreeSet<NodeId>,
    pub(super) lives: Option<u64>,
    /// What all can promise, where that is less than what was asked for, and who cannot promise more.
    pub(super) able: Stamp,
    pub(super) unable: BTreeSet<NodeId>,
    pub(super) clocks: Stamp,
    pub(super) times: u32,
    pub(super) wait: Millis,
    pub(super) again_at: Millis,
}

/// What became of a round.
#[derive(Debug)]
pub(super) enum Ended {
    /// There was nothing to do, or it is done: look again after a while.
    Done(Millis),
    /// Somebody is not ready yet: look again soon.
    Soon,
    /// These cannot take part.
    Held(BTreeSet<NodeId>),
}

impl Round {
    /// All of its replicas.
    pub(super) fn taking_part(&self, env: &Environment<'_>) -> impl Iterator<Item = NodeId> {
        let may =
            move |node: &NodeId| *node == env.me.node || env.peers.is_reachable(*node) || !sabotaged!(PurgeUnconfirmed);
        self.replicas.iter().copied().filter(may)
    }

    /// Asks those who have not answered. What a raise says must not be taken back by a crash here.
    ///
    /// All of a round is asked in the epoch in which it began: a storage that takes the place of another one meanwhile has promised
    /// nothing.
    pub(super) fn ask(&self, out: &mut Vec<Action>) {
        let Stage::Asking(Asking { tag, step, waits, .. }) = &self.stage else { return };
        let Site { place, epoch, .. } = self.site;
        let release = match step {
            FloorStep::Promise { .. } => Release::Now,
            FloorStep::Raise(_) => Release::Settled,
        };
        out.extend(waits.iter().map(|to| Action::Send {
            to: *to,
            message: Message::FloorAsk { tag: *tag, epoch, place, step: *step },
            release,
        }));
    }
}

impl Asking {
    /// Whether to ask again now, if the time has come: not when it was asked too often.
    pub(super) fn overdue(&mut self, now: Millis) -> Option<bool> {
        if self.again_at > now {
            return None;
        }
        self.times += 1;
        self.wait = self.wait.saturating_add(self.wait);
        self.again_at = now.saturating_add(self.wait);
        Some(self.times <= ASKED_MAX)
    }
}
