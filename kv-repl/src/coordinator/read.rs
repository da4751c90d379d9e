//! Coordinates reads.
//!
//! 1. Ask as few replicas as meet the level, the nearest and fastest first: one for its record, the others for digests. When
//!    somebody takes longer than usual, ask one more that counts in its place; after a pause ask all that have not answered.
//!    Both within a budget.
//! 2. When the level is met by replicas of which it is known what they hold, and they hold the same, answer. A digest stands
//!    for the record that it is of; while that record is not here it is fetched, and the digest is no answer.
//! 3. When they differ, join them, write the join to those that lack it, and answer once the level is met by replicas that hold
//!    it durably. So a later read never sees less (lesson 09).
//! 4. A read in a session is not answered with less than the session has seen (rule P17): all replicas are asked, over and over,
//!    until what they hold together is as new. A record too large for the session to remember is read at a quorum.
//! 5. At the deadline, give up.
//!
//! Source of hedges: Dean and Barroso, "The tail at scale" (CACM 2013); of digests: Cassandra.

use kv_core::NodeId;
use kv_core::record::Record;
use kv_core::time::Millis;

use super::answers::{Answer, Answers, Together};
use super::budget::{Budget, Extra};
use super::latency::Latencies;
use super::reading::{Means, Reading, Stage, peers};
use super::retry::{Agenda, Patience};
use super::{busy, in_turn, placed, reachable, requirement};
use crate::by_number::ByNumber;
use crate::by_replica::{ByReplica, NodeSet};
use crate::config::Settings;
use crate::identity::Boot;
use crate::machine::{Action, Environment, Event, Machine, Notice, Origin, Outcome, Release, Request};
use crate::message::{Message, Refusal};
use crate::request::{Get, Read, ReadError};
use crate::stats::Histogram;
use crate::status::ExtraMessages;

/// The machine of reads.
#[derive(Debug)]
pub(crate) struct Reads {
    retry_after: Millis,
    /// By tag; each by itself, so that the table moves nothing large.
    under_way: ByNumber<Box<Reading>>,
    agenda: Agenda,
    means: Means,
    /// How long replicas took to answer.
    round_trips: Histogram,
    next_tag: u64,
}

impl Reads {
    pub(crate) fn new(settings: &Settings, boot: Boot) -> Self {
        Self {
            retry_after: settings.retry_after,
            under_way: ByNumber::new(),
            agenda: Agenda::new(),
            means: Means { latencies: Latencies::default(), budget: Budget::new() },
            round_trips: Histogram::default(),
            // Writes and reads are told apart by the top bit of their tags, because both send writes.
            next_tag: 1 << 63 | boot.first_tag(),
        }
    }

    /// Messages beyond those that reads need.
    pub(crate) const fn extra(&self) -> ExtraMessages {
        self.means.budget.count
    }

    /// How long other replicas took to answer.
    pub(crate) const fn round_trips(&self) -> &Histogram {
        &self.round_trips
    }

    /// Whether a tag was given by this machine, and not by that of writes.
    pub(crate) const fn owns(tag: u64) -> bool {
        tag >> 63 == 1
    }

    fn begin(
        &mut self,
        env: &Environment<'_>,
        origin: Origin,
        deadline: Millis,
        get: Get,
        out: &mut Vec<Action>,
    ) -> Result<(), ReadError> {
        let (table, replicas) = placed(env, &get.key).ok_or(ReadError::UnknownTable)?;
        let requirement = requirement(env, table, replicas, get.consistency)?;
        let (reachable, required) = (requirement.progress(|node| reachable(env, node)), requirement.required());
        if reachable < required {
            return Err(ReadError::Unavailable { reachable, required });
        }
        let tag = self.next_tag;
        self.next_tag += 1;
        let is_slow = self.means.latencies.slow(env.now.monotonic, replicas);
        let replicas = in_turn(env, table, replicas, tag, is_slow);
        let first = requirement.choose(&replicas);
        let mut read = Box::new(Reading {
            tag,
            origin,
            get,
            epoch: env.catalog.map_or(0, |catalog| catalog.epoch_of(&replicas)),
            replicas,
            requirement,
            asked: ByReplica::default(),
            stage: Stage::Asking { answers: Answers::default(), behind: false },
            patience: Patience::new(env.now.monotonic, self.retry_after, deadline),
            look_at: Millis::ZERO,
        });
        read.begin(env, &first, &mut self.means, out);
        self.agenda.add(read.look_at, tag);
        self.under_way.insert(tag, read);
        Ok(())
    }

    fn answered(&mut self, env: &Environment<'_>, from: NodeId, tag: u64, answer: Answer, out: &mut Vec<Action>) {
        let now = env.now.monotonic;
        let Some(read) = self.under_way.get_mut(tag) else { return };
        if let Some(span) = read.took(now, from) {
            self.means.latencies.answered(now, from, span);
            if from != env.me.node {
                self.round_trips.record_time(span.as_duration());
            }
        }
        let Stage::Asking { answers, .. } = &mut read.stage else { return };
        if !read.replicas.contains(&from) {
            return;
        }
        answers.add(from, answer);
        if !read.is_met() {
            let unread = read.unread();
            read.fetch(env, &unread, &mut self.means, out);
            return self.look_again(tag);
        }
        let Stage::Asking { answers, .. } = &read.stage else { return };
        match answers.together() {
            Err(why) => {
                if let Some(read) = self.finish(now, tag) {
                    out.push(reply(read.origin, Err(ReadError::Corrupt(why))));
                }
            }
            Ok(together) => {
                if let Some(record) = &together.joined {
                    out.push(Action::Notify(Notice::Observed(record.birth_max())));
                }
                if read.satisfies_session(env, together.joined.as_ref(), &mut self.means, out) {
                    return self.enough(env, tag, together, out);
                }
                self.look_again(tag);
            }
        }
    }

    /// Enough have answered: this is what they hold together.
    fn enough(&mut self, env: &Environment<'_>, tag: u64, together: Together, out: &mut Vec<Action>) {
        let Some(read) = self.under_way.get_mut(tag) else { return };
        let Stage::Asking { answers, .. } = &read.stage else { return };
        let Together { joined, bytes, holders } = together;
        let (Some(joined), Some(bytes)) = (joined, bytes) else { return self.answer(env, tag, None, out) };
        // What is missing in a cache was evicted, and is not brought back (lesson 20).
        let mends = !is_cache(env, &read.get) || sabotaged!(RepairCaches);
        if read.requirement.is_met(|node| holders.contains(node)) || !mends || sabotaged!(AnswerBeforeRepair) {
            return self.answer(env, tag, Some(joined), out);
        }
        let told: NodeSet = answers.nodes().filter(|node| !holders.contains(*node)).collect();
        self.means.budget.earn(peers(env, told.as_slice()));
        read.stage = Stage::Repairing { joined, bytes, holders, told: told.clone() };
        read.tell(told.as_slice(), out);
    }

    fn repaired(&mut self, env: &Environment<'_>, from: NodeId, tag: u64, out: &mut Vec<Action>) {
        let Some(read) = self.under_way.get_mut(tag) else { return };
        let Stage::Repairing { joined, holders, told, .. } = &mut read.stage else { return };
        if told.contains(from) {
            holders.insert(from);
            if read.requirement.is_met(|node| holders.contains(node)) {
                let joined = joined.clone();
                self.answer(env, tag, Some(joined), out);
            }
        }
    }

    /// What was read is so old that a replica knows better: it is read anew.
    fn again(&mut self, env: &Environment<'_>, tag: u64, out: &mut Vec<Action>) {
        if let Some(read) = self.under_way.get_mut(tag)
            && matches!(read.stage, Stage::Repairing { .. })
        {
            read.restart();
            read.retry(env, &mut self.means, out);
            self.look_again(tag);
        }
    }

    /// A peer will not answer: asks others now, rather than when it is overdue.
    fn unreachable(&mut self, env: &Environment<'_>, peer: NodeId, out: &mut Vec<Action>) {
        for tag in self.under_way.numbers(|read| read.waits_for(peer)) {
            self.replace(env, peer, tag, None, out);
        }
    }

    fn replace(&mut self, env: &Environment<'_>, node: NodeId, tag: u64, extra: Option<Extra>, out: &mut Vec<Action>) {
        if let Some(read) = self.under_way.get_mut(tag) {
            read.replace(env, node, extra, &mut self.means, out);
            self.look_again(tag);
        }
    }

    /// Notes when a read has to be looked at, after it has asked somebody.
    fn look_again(&mut self, tag: u64) {
        if let Some(read) = self.under_way.get_mut(tag) {
            let look_at = read.next_look();
            if look_at != read.look_at {
                self.agenda.remove(read.look_at, tag);
                read.look_at = look_at;
                self.agenda.add(look_at, tag);
            }
        }
    }

    fn answer(&mut self, env: &Environment<'_>, tag: u64, record: Option<Record>, out: &mut Vec<Action>) {
        if let Some(read) = self.finish(env.now.monotonic, tag) {
            let mut answer = Read::new(&read.get.key, record, env.now.wall);
            if is_cache(env, &read.get) && answer.values().is_empty() {
                // A node that has started answers with the time of its start, which no later write needs to top.
                answer = Read::new(&read.get.key, None, env.now.wall);
            }
            if let Some((table, _)) = placed(env, &read.get.key) {
                answer = answer.under(table.options.rule);
            }
            out.push(reply(read.origin, Ok(answer)));
        }
    }

    fn finish(&mut self, now: Millis, tag: u64) -> Option<Box<Reading>> {
        let read = self.under_way.remove(tag)?;
        self.agenda.remove(read.look_at, tag);
        for (node, span) in read.silent(now) {
            self.means.latencies.silent(now, node, span, read.patience.unmeasured());
        }
        Some(read)
    }

    fn due(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        let now = env.now.monotonic;
        while let Some(tag) = self.agenda.pop(now) {
            let read = self.under_way.get_mut(tag).expect("the agenda lists reads under way");
            if now >= read.patience.deadline {
                out.push(reply(read.origin, Err(read.timeout())));
                self.finish(now, tag);
                continue;
            }
            read.hedge(env, &mut self.means, out);
            if now >= read.patience.at {
                read.renew(env.catalog.map_or(0, |catalog| catalog.epoch_of_key(&read.get.key)));
                read.retry(env, &mut self.means, out);
                read.patience.again(now);
            }
            read.look_at = read.next_look();
            self.agenda.add(read.look_at, tag);
        }
    }

    fn message(&mut self, env: &Environment<'_>, from: NodeId, message: Message, out: &mut Vec<Action>) {
        let (tag, answer) = match message {
            Message::ReadReply { tag, outcome } => (tag, outcome.map(Answer::Record)),
            Message::DigestReply { tag, outcome } => (tag, outcome.map(Answer::Digest)),
            Message::WriteReply { tag, refused: None } => return self.repaired(env, from, tag, out),
            Message::WriteReply { tag, refused: Some(Refusal::BelowFloor) } => return self.again(env, tag, out),
            _ => return,
        };
        match answer {
            Ok(answer) => self.answered(env, from, tag, answer, out),
            // It will not get better soon; let another one answer now rather than after the pause.
            Err(Refusal::Damaged | Refusal::Importing) => self.replace(env, from, tag, None, out),
            Err(Refusal::Overloaded { retry_after }) => {
                out.push(busy(env, from, retry_after));
                // When all have too much to do, going from one to the other would give them more.
                self.replace(env, from, tag, Some(Extra::Hedge), out);
            }
            // Any other refusal is no answer: the replica is asked again when the reason may have gone.
            Err(_) => {}
        }
    }
}

impl Machine for Reads {
    fn handle(&mut self, env: &Environment<'_>, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Request { origin, deadline, request: Request::Get(get) } => {
                if let Err(error) = self.begin(env, origin, deadline, get, out) {
                    out.push(reply(origin, Err(error)));
                }
            }
            Event::Message { from, message } => self.message(env, from, message, out),
            Event::Unreachable(peer) => self.unreachable(env, peer, out),
            Event::Deadline => self.due(env, out),
            Event::Request { .. } | Event::Introduction { .. } | Event::ReadEnded { .. } => {}
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        self.agenda.next()
    }
}

fn is_cache(env: &Environment<'_>, get: &Get) -> bool {
    placed(env, &get.key).is_some_and(|(table, _)| !table.options.is_replicated_durably())
}

const fn reply(origin: Origin, outcome: Result<Read, ReadError>) -> Action {
    Action::Reply { origin, outcome: Outcome::Get(outcome), release: Release::Now }
}
