//! Changes by a client that has seen more than the replica that is to make them.
//!
//! The replica cannot tell what of it a removal means, and what a session's change is to come after, so it asks the other replicas for the record, joins each answer, and
//! tries again. Nothing is written until then.

use std::collections::{BTreeMap, BTreeSet};

use kv_core::NodeId;
use kv_core::record::Record;
use kv_core::time::Millis;

use super::budget::{Budget, Extra};
use super::retry::{Agenda, Patience};
use crate::machine::{Action, Environment, Origin, Release};
use crate::message::Message;
use crate::request::Write;

/// All that wait.
#[derive(Debug)]
pub(super) struct CatchUps {
    waiting: BTreeMap<u64, CatchUp>,
    agenda: Agenda,
}

/// One that waits.
#[derive(Debug)]
pub(super) struct CatchUp {
    pub(super) origin: Origin,
    pub(super) deadline: Millis,
    pub(super) write: Write,
    /// What the others hold, as far as they have said.
    pub(super) news: Option<Record>,
    epoch: u64,
    missing: BTreeSet<NodeId>,
    patience: Patience,
}

impl CatchUps {
    pub(super) const fn new() -> Self {
        Self { waiting: BTreeMap::new(), agenda: Agenda::new() }
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.agenda.next()
    }

    /// Asks the other `replicas`. Returns how many that are.
    pub(super) fn begin(
        &mut self,
        env: &Environment<'_>,
        tag: u64,
        retry_after: Millis,
        (origin, deadline, write): (Origin, Millis, Write),
        replicas: &[NodeId],
        out: &mut Vec<Action>,
    ) -> usize {
        let waiting = CatchUp {
            origin,
            deadline,
            write,
            news: None,
            epoch: env.catalog.map_or(0, |catalog| catalog.epoch_of(replicas)),
            missing: replicas.iter().copied().filter(|node| *node != env.me.node).collect(),
            patience: Patience::new(env.now.monotonic, retry_after, deadline),
        };
        let asked = waiting.missing.len();
        waiting.ask(tag, |_| true, out);
        self.agenda.add(waiting.patience.at, tag);
        self.waiting.insert(tag, waiting);
        asked
    }

    /// Takes an answer, which may be that there is no record. Hands out the one that waited for it, to be tried again;
    /// [`CatchUps::back`] takes it back.
    pub(super) fn answered(&mut self, from: NodeId, tag: u64, record: Option<Record>) -> Option<CatchUp> {
        let waiting = self.waiting.get_mut(&tag)?;
        if !waiting.missing.contains(&from) {
            return None;
        }
        if let Some(record) = record {
            let joined = match &waiting.news {
                // One of another rule is no answer, and what the others have said stays.
                Some(news) => news.join(&record).ok()?,
                None => record,
            };
            waiting.news = Some(joined);
        }
        waiting.missing.remove(&from);
        self.agenda.remove(waiting.patience.at, tag);
        self.waiting.remove(&tag)
    }

    /// It has to wait for more. Gives it back when there is no more to come.
    pub(super) fn back(&mut self, tag: u64, waiting: CatchUp) -> Option<CatchUp> {
        if waiting.missing.is_empty() {
            return Some(waiting);
        }
        self.agenda.add(waiting.patience.at, tag);
        self.waiting.insert(tag, waiting);
        None
    }

    /// Asks again those that have not answered, as far as the budget goes, and hands out the ones whose time is over.
    pub(super) fn due(&mut self, now: Millis, budget: &mut Budget, out: &mut Vec<Action>) -> Vec<CatchUp> {
        let mut over = Vec::new();
        while let Some(tag) = self.agenda.pop(now) {
            let Some(mut waiting) = self.waiting.remove(&tag) else { continue };
            if now >= waiting.deadline {
                over.push(waiting);
                continue;
            }
            waiting.ask(tag, |_| budget.spend(now, Extra::Retry), out);
            waiting.patience.again(now);
            self.agenda.add(waiting.patience.at, tag);
            self.waiting.insert(tag, waiting);
        }
        over
    }
}

impl CatchUp {
    fn ask(&self, tag: u64, mut may: impl FnMut(&NodeId) -> bool, out: &mut Vec<Action>) {
        out.extend(self.missing.iter().copied().filter(|node| may(node)).map(|to| Action::Send {
            to,
            message: Message::Read { tag, epoch: self.epoch, key: self.write.key().clone(), digest: false },
            release: Release::Now,
        }));
    }
}
