//! Passes a write on to a replica of its key, and keeps such a write from happening twice.
//!
//! 1. Choose the first replica that can be reached, rather one that nobody doubts, and rather one in this node's zone. It coordinates
//!    the write; its answer is the answer.
//! 2. Ask the same replica again after a pause, within a budget: the frame may be lost. Never ask another one, nor another life of the same
//!    one: the first may have minted the write, sent it to others, and forgotten it in a crash. When its life has ended,
//!    or the deadline has passed, the outcome is ambiguous (rule P10). Only when it says that it has too much to do, and so has
//!    done nothing, another one is asked.
//! 3. The replica takes each tag once. It remembers tags from the lowest that the asker has under way with it, so a copy that
//!    arrives late is dropped, and its memory is bounded by what the asker has passed on to it since it passed on the oldest
//!    that is not settled.
//!
//! A replica that restarted remembers no tags; but then frames to its earlier life are dropped too.

use std::collections::BTreeMap;

use kv_core::NodeId;
use kv_core::time::Millis;

use super::asked::Asked;
use super::budget::{Budget, Extra};
use super::fallbacks::within_reach;
use super::retry::{Agenda, Patience};
use super::{busy, placed, requirement, zone};
use crate::config::Settings;
use crate::identity::Boot;
use crate::machine::{Action, Environment, Event, Machine, Notice, Origin, Outcome, Release, Request};
use crate::message::Message;
use crate::peers::DropReason;
use crate::request::{Attempt, Modify, Write, WriteError, Written};
use crate::status::ExtraMessages;

/// The machine of writes passed on.
#[derive(Debug)]
pub(crate) struct Forwards {
    retry_after: Millis,
    under_way: BTreeMap<u64, UnderWay>,
    agenda: Agenda,
    budget: Budget,
    next_tag: u64,
    taken: BTreeMap<NodeId, Taken>,
    asked: Asked,
}

#[derive(Debug)]
struct UnderWay {
    origin: Origin,
    write: Write,
    began: Millis,
    to: NodeId,
    /// Who has said that nothing was done.
    busy: Vec<NodeId>,
    /// The life that was asked.
    boot: Option<Boot>,
    required: usize,
    patience: Patience,
}

/// The tags of one life of one asker.
#[derive(Debug)]
struct Taken {
    boot: Boot,
    settled_below: u64,
    /// Tags at or above, with their outcome once there is one.
    tags: BTreeMap<u64, Option<Result<Written, WriteError>>>,
}

impl Forwards {
    pub(crate) fn new(settings: &Settings, boot: Boot) -> Self {
        Self {
            retry_after: settings.retry_after,
            under_way: BTreeMap::new(),
            agenda: Agenda::new(),
            budget: Budget::new(),
            next_tag: boot.first_tag(),
            taken: BTreeMap::new(),
            asked: Asked::default(),
        }
    }

    /// Messages beyond those that writes passed on need.
    pub(crate) const fn extra(&self) -> ExtraMessages {
        self.budget.count
    }

    fn begin(
        &mut self,
        env: &Environment<'_>,
        origin: Origin,
        deadline: Millis,
        mut write: Write,
        out: &mut Vec<Action>,
    ) -> Result<(), WriteError> {
        let (table, replicas) = placed(env, write.key()).ok_or(WriteError::UnknownTable)?;
        let requirement = requirement(env, table, replicas, write.consistency())?;
        let (reachable, required) = (within_reach(env, table, replicas, &write, &requirement), requirement.required());
        let to = choose(env, &write, &[]);
        let to = self.asked_before(env, &mut write).or(to);
        let Some(to) = to.filter(|_| reachable >= required) else {
            return Err(WriteError::Unavailable { reachable, required });
        };
        if env.now.monotonic >= deadline && !sabotaged!(BeginTooLate) {
            return Err(WriteError::DeadlinePassed);
        }
        let patience = Patience::new(env.now.monotonic, self.retry_after, deadline);
        let tag = self.next_tag;
        self.next_tag += 1;
        self.agenda.add(patience.at, tag);
        let boot = boot_of(env, to);
        let (began, busy) = (env.now.monotonic, Vec::new());
        self.under_way.insert(tag, UnderWay { origin, write, began, to, busy, boot, required, patience });
        self.budget.earn(1);
        self.send(env, tag, out);
        Ok(())
    }

    /// The replica that was asked for the same before, if this is a retry and the replica can tell whether it has done it. It is
    /// told that nobody else was asked.
    fn asked_before(&self, env: &Environment<'_>, write: &mut Write) -> Option<NodeId> {
        let Write::Modify(modify) = write else { return None };
        let Modify { attempt: Attempt::Again { asked }, operation, .. } = &mut **modify else { return None };
        *asked = self.asked.find(env.now.monotonic, *operation);
        let (node, boot) = (*asked)?;
        (env.peers.is_reachable(node) && boot_of(env, node) == Some(boot)).then_some(node)
    }

    fn send(&self, env: &Environment<'_>, tag: u64, out: &mut Vec<Action>) {
        let forward = &self.under_way[&tag];
        // Nothing was passed on to that replica that is older; what others have not answered is nothing that it must remember.
        let oldest = self.under_way.iter().find(|(_, other)| other.to == forward.to);
        let settled_below = oldest.map_or(tag, |(tag, _)| *tag);
        let time_left = forward.patience.deadline.saturating_sub(env.now.monotonic);
        let message = match forward.write.clone() {
            Write::Put(put) => Message::Forward { tag, settled_below, time_left, put },
            Write::Modify(modify) => Message::ForwardUpdate { tag, settled_below, time_left, modify },
        };
        out.push(Action::Send { to: forward.to, message, release: Release::Now });
    }

    /// A replica has too much to do, or a storage that lacks something, and has done nothing: passes the write on to another one, if there is one and the budget
    /// allows it. Not a retry that only one replica can tell from a first attempt.
    fn elsewhere(&mut self, env: &Environment<'_>, tag: u64, out: &mut Vec<Action>) -> bool {
        let Some(forward) = self.under_way.get_mut(&tag) else { return false };
        let is_bound = matches!(&forward.write, Write::Modify(modify) if modify.attempt != Attempt::First);
        if is_bound || sabotaged!(StayWithTheBusy) {
            return false;
        }
        forward.busy.push(forward.to);
        let Some(to) = choose(env, &forward.write, &forward.busy) else { return false };
        if env.peers.is_busy(to, env.now.monotonic) || !self.budget.spend(env.now.monotonic, Extra::Retry) {
            return false;
        }
        (forward.to, forward.boot) = (to, boot_of(env, to));
        self.send(env, tag, out);
        true
    }

    fn finish(&mut self, tag: u64, outcome: Result<Written, WriteError>, out: &mut Vec<Action>) {
        if let Some(forward) = self.under_way.remove(&tag) {
            self.agenda.remove(forward.patience.at, tag);
            if let (Err(WriteError::Ambiguous { .. }), Write::Modify(modify), Some(boot)) =
                (&outcome, &forward.write, forward.boot)
                && modify.attempt == Attempt::First
            {
                self.asked.add(forward.began, modify.operation, forward.to, boot);
            }
            out.push(reply(forward.origin, outcome));
        }
    }

    fn due(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        while let Some(tag) = self.agenda.pop(env.now.monotonic) {
            let forward = self.under_way.get_mut(&tag).expect("the agenda lists writes under way");
            if env.now.monotonic >= forward.patience.deadline
                || (forward.boot != boot_of(env, forward.to) && !sabotaged!(ForwardToNextLife))
            {
                let (operation, required) = (forward.write.operation(), forward.required);
                let error = WriteError::Ambiguous { operation, acknowledged: 0, fallbacks: 0, required };
                self.finish(tag, Err(error), out);
                continue;
            }
            forward.patience.again(env.now.monotonic);
            self.agenda.add(forward.patience.at, tag);
            if self.budget.spend(env.now.monotonic, Extra::Retry) {
                self.send(env, tag, out);
            }
        }
    }

    /// Whether a forwarded write is new, and is to be coordinated here. A copy of one that has an outcome gets it again.
    pub(crate) fn take(
        &mut self,
        env: &Environment<'_>,
        from: NodeId,
        message: &Message,
        out: &mut Vec<Action>,
    ) -> bool {
        let (
            Message::Forward { tag, settled_below, .. } | Message::ForwardUpdate { tag, settled_below, .. },
            Some(life),
        ) = (message, env.peers.life(from))
        else {
            return false;
        };
        let fresh = || Taken { boot: life.boot, settled_below: 0, tags: BTreeMap::new() };
        let taken = self.taken.entry(from).or_insert_with(fresh);
        if taken.boot != life.boot {
            *taken = fresh();
        }
        if *settled_below > taken.settled_below {
            taken.settled_below = *settled_below;
            taken.tags = taken.tags.split_off(settled_below);
        }
        if sabotaged!(RepeatForwarded) {
            return true;
        }
        if *tag < taken.settled_below {
            out.push(Action::Notify(Notice::Dropped(DropReason::Repeated)));
            return false;
        }
        match taken.tags.get(tag) {
            None => {
                taken.tags.insert(*tag, None);
                true
            }
            Some(outcome) => {
                out.push(Action::Notify(Notice::Dropped(DropReason::Repeated)));
                if let Some(outcome) = outcome.clone() {
                    out.push(forwarded(from, *tag, outcome));
                }
                false
            }
        }
    }

    /// Sends the outcome of a write that was taken from a peer.
    pub(crate) fn settle(&mut self, to: NodeId, tag: u64, outcome: Result<Written, WriteError>, out: &mut Vec<Action>) {
        if let Some(slot) = self.taken.get_mut(&to).and_then(|taken| taken.tags.get_mut(&tag)) {
            *slot = Some(outcome.clone());
        }
        out.push(forwarded(to, tag, outcome));
    }
}

impl Machine for Forwards {
    fn handle(&mut self, env: &Environment<'_>, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Request { origin, deadline, request: Request::Write(write) } => {
                if let Err(error) = self.begin(env, origin, deadline, write, out) {
                    out.push(reply(origin, Err(error)));
                }
            }
            Event::Message { from, message: Message::Forwarded { tag, outcome } } => {
                if self.under_way.get(&tag).is_none_or(|forward| forward.to != from) {
                    return;
                }
                if let Err(WriteError::Overloaded { retry_after }) = outcome {
                    out.push(busy(env, from, retry_after));
                }
                let is_refused = matches!(outcome, Err(WriteError::Overloaded { .. } | WriteError::Importing));
                if is_refused && self.elsewhere(env, tag, out) {
                    return;
                }
                self.finish(tag, outcome, out);
            }
            Event::Deadline => self.due(env, out),
            Event::Message { .. }
            | Event::Request { .. }
            | Event::Introduction { .. }
            | Event::ReadEnded { .. }
            | Event::Unreachable(_) => {}
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        self.agenda.next()
    }
}

/// The replica to pass a write on to: one that can be reached, rather one that nobody doubts, that has not too much to do, and
/// that is near.
fn choose(env: &Environment<'_>, write: &Write, except: &[NodeId]) -> Option<NodeId> {
    let (table, replicas) = placed(env, write.key())?;
    let own = zone(table, env.me.node);
    let far = |node: NodeId| zone(table, node) != own;
    // Whoever coordinates a write at a local level counts the replicas in its own zone, so it is one of this node's.
    let local = write.consistency().is_local();
    let may = |node: &NodeId| env.peers.is_reachable(*node) && !except.contains(node) && !(local && far(*node));
    let wish = |node: &NodeId| (env.peers.liveness(*node), env.peers.is_busy(*node, env.now.monotonic), far(*node));
    replicas.iter().copied().filter(may).min_by_key(wish)
}

fn boot_of(env: &Environment<'_>, node: NodeId) -> Option<Boot> {
    env.peers.life(node).map(|life| life.boot)
}

const fn forwarded(to: NodeId, tag: u64, outcome: Result<Written, WriteError>) -> Action {
    Action::Send { to, message: Message::Forwarded { tag, outcome }, release: Release::Now }
}

const fn reply(origin: Origin, outcome: Result<Written, WriteError>) -> Action {
    Action::Reply { origin, outcome: Outcome::Put(outcome), release: Release::Now }
}
