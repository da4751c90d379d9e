//! Anti-entropy: replicas compare what they hold, whether anybody reads it or not, and give each other what is missing.
//!
//! [`tree`] keeps the hashes, [`exchange`] is one comparison at the replica that begins it, [`serving`] the answers of the other one,
//! [`schedule`] says when, [`jobs`] is what operators ask for, [`noting`] spares a node that starts again from reading everything.
//!
//! On them rests the floor of each place, below which what is deleted is forgotten (rule P7): [`leading`] raises it, [`promise`] is what
//! each replica has to say to that, and [`sweep`] drops what lies below.
//!
//! The work is done in slices, when the node says that it is time: so many records read per slice, so many bytes per
//! second, so many comparisons at a time.

mod chance;
mod exchange;
mod forgetting;
mod jobs;
mod joining;
mod leading;
mod listing;
mod measure;
mod notes;
mod noting;
mod owed;
mod print;
mod promise;
mod round;
mod schedule;
mod serving;
mod site;
mod span;
mod sweep;
mod tree;
mod trees;

pub(crate) use self::notes::is_note;
pub(crate) use self::promise::{Pending, Step};

use std::collections::BTreeMap;

use kv_core::NodeId;
use kv_core::store::Batch;
use kv_core::time::Millis;

use self::exchange::Exchange;
use self::jobs::Jobs;
use self::leading::Rounds;
use self::owed::Owed;
use self::print::Printer;
use self::schedule::Schedule;
use self::serving::{Asking, Serving};
use self::site::Site;
use self::sweep::{Dropped, Sweep};
use self::tree::Reading;
use self::trees::Trees;
use crate::comparison::{Answer, Place, Question};
use crate::config::Settings;
use crate::identity::{ClusterId, Identity};
use crate::imports::Imports;
use crate::machine::{Action, Environment, Event, Machine, Notice, Release, Request};
use crate::message::{Message, Refusal};
use crate::repair_request::{RepairError, RepairStatus, RepairTraffic, UnfinishedReason};
use crate::status::Standing;
use crate::throttle::{ENVELOPE_BYTES, Throttle};

/// Most comparisons that this node has begun and not ended.
const EXCHANGES_MAX: usize = 4;
/// Most records read in one slice: about a millisecond, for which requests wait.
const SLICE_RECORDS: usize = 1000;
/// How long after a slice the next one may come: a fifth of the time, at most, goes to reading.
const SLICE_PAUSE: Millis = Millis(5);

/// The machine of anti-entropy.
#[derive(Debug)]
pub(crate) struct Repairs {
    retry_after: Millis,
    /// How long to wait for the node to serve.
    idle: Millis,
    records_bytes_max: usize,
    trees: Trees,
    schedule: Schedule,
    jobs: Jobs,
    owed: Owed,
    rounds: Rounds,
    sweeps: Vec<Sweep>,
    /// Some place may have risen and is not being swept.
    look_for_sweeps: bool,
    dropped: Dropped,
    exchanges: Vec<Running>,
    serving: Serving,
    throttle: Throttle,
    next_tag: u64,
    rest_until: Millis,
    asleep_until: Millis,
    counters: RepairStatus,
    /// Leaves were read that may not be noted.
    has_read: bool,
    /// When comparisons that this node began have last ended with both replicas equal.
    compared: BTreeMap<(Place, NodeId), Millis>,
}

#[derive(Debug)]
struct Running {
    exchange: Exchange,
    cause: Cause,
    /// Under which number it was owed when it began, whatever the cause.
    owed: Option<u64>,
}

/// Why a comparison is made.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Cause {
    /// Somebody has asked for it.
    Job(u64),
    /// The other one has missed something.
    Owed,
    /// A floor is to rise.
    Floor,
    /// It was time.
    Schedule,
}

impl Repairs {
    pub(crate) fn new(settings: &Settings, me: &Identity) -> Self {
        Self {
            retry_after: settings.retry_after,
            idle: settings.hello_every,
            records_bytes_max: settings.record_bytes_max,
            trees: Trees::default(),
            schedule: Schedule::new(settings.repair_every, me.nonce),
            jobs: Jobs::default(),
            owed: Owed::new(settings.hello_every, me.nonce),
            rounds: Rounds::new(settings.purge_after, settings.retry_after, me.nonce, me.boot.first_tag()),
            sweeps: Vec::new(),
            look_for_sweeps: true,
            dropped: Dropped::default(),
            exchanges: Vec::new(),
            serving: Serving::new(settings.record_bytes_max),
            throttle: Throttle::new(settings.repair_bytes_per_second),
            next_tag: me.boot.first_tag(),
            rest_until: Millis::ZERO,
            asleep_until: Millis::ZERO,
            counters: RepairStatus::default(),
            compared: BTreeMap::new(),
            has_read: false,
        }
    }

    /// The store did not take what a turn decided: what was read with it is in doubt.
    pub(crate) fn refused(&mut self, refused: &Batch) {
        self.trees.refused(refused);
        self.has_read = false;
        self.serving.forget();
        self.rounds.forget();
        self.sweeps.iter_mut().for_each(Sweep::restart);
        for running in &mut self.exchanges {
            running.exchange.give_up(UnfinishedReason::Store);
        }
    }

    /// A table was added.
    pub(crate) const fn look_again(&mut self) {
        self.schedule.look_again();
        self.rounds.look_again();
    }

    /// A peer has missed something of a place. `ticket` grows with each time.
    pub(crate) fn owe(&mut self, now: Millis, peer: NodeId, place: Place, ticket: u64) {
        self.owed.owe(now, peer, place, ticket);
    }

    /// Nothing is owed to a peer of a place any more that the two do not share.
    pub(crate) fn moot(&mut self, peer: NodeId, place: Place) {
        self.owed.forget(peer, place);
    }

    /// Has those places compared that a new storage lacks.
    pub(crate) fn import(&mut self, now: Millis, imports: &Imports) {
        imports.wanted().for_each(|(peer, place)| self.owed.want(now, peer, place));
    }

    /// A peer has answered a greeting.
    pub(crate) fn greeted(&mut self, peer: NodeId, now: Millis) {
        let Self { owed, exchanges, .. } = self;
        owed.reached(now, peer, |place| exchanges.iter().any(|running| running.exchange.site().place == place));
    }

    /// When this node has last found, or made, a peer equal in a place, in this life.
    pub(crate) fn compared_at(&self, place: Place, peer: NodeId) -> Option<Millis> {
        self.compared.get(&(place, peer)).copied()
    }

    pub(crate) fn status(&self) -> RepairStatus {
        RepairStatus {
            comparisons_running: self.exchanges.len(),
            leaves: self.trees.leaves(),
            leaves_noted: self.trees.noted(),
            requests: self.jobs.progress(),
            ..self.counters.clone()
        }
    }

    /// Reads every leaf again that is taken for clean, and says what is wrong with one.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn check(&self, view: &dyn kv_core::View, cluster: ClusterId) -> Option<String> {
        let printer = Printer::new(cluster, Millis::ZERO);
        let in_memory = self.trees.iter().map(|tree| tree.check(view, printer));
        let in_the_store = std::iter::once_with(|| tree::check_notes(view, printer));
        in_memory.chain(in_the_store).find_map(|found| found.unwrap_or_else(|error| Some(error.to_string())))
    }

    /// Whether no comparison of that place is under way.
    fn is_free(&self, place: Place) -> bool {
        self.exchanges.iter().all(|running| running.exchange.site().place != place)
    }

    fn is_busy(&self) -> bool {
        self.serving.is_busy()
            || self.rounds.is_looking()
            || !self.sweeps.is_empty()
            || self.exchanges.iter().any(|running| running.exchange.is_busy())
    }

    fn due(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        let now = env.now.monotonic;
        let Some(catalog) = env.catalog.filter(|_| env.standing == Standing::Serving) else {
            self.asleep_until = now.saturating_add(self.idle);
            self.jobs.refuse(&RepairError::NotServing(env.standing), out);
            return;
        };
        self.schedule.learn(now, env.me.node, catalog);
        self.rounds.learn(now, env.me.node, catalog);
        self.find_sweeps(env);
        for running in &mut self.exchanges {
            if let Some((tag, question)) = running.exchange.overdue(now) {
                send(&mut self.throttle, now, running, tag, question, out);
            }
        }
        self.reap(now, out);
        self.start(env);
        if self.throttle.clear_at().max(self.rest_until) <= now {
            self.work(env, out);
        }
        self.reap(now, out);
        self.rounds.due(env, &mut self.trees, out);
        self.jobs.settle(now, out);
    }

    /// Begins comparisons that are due, those that somebody waits for first.
    fn start(&mut self, env: &Environment<'_>) {
        let now = env.now.monotonic;
        while self.exchanges.len() < EXCHANGES_MAX {
            // Two comparisons of one place at a time would bring the same records twice.
            let taken: Vec<Place> = self.exchanges.iter().map(|running| running.exchange.site().place).collect();
            let is_free = |place| !taken.contains(&place);
            let reaches = |peer| env.peers.is_reachable(peer);
            let (cause, place, peer) = if let Some((job, place, peer)) = self.jobs.pop(is_free) {
                (Cause::Job(job), place, peer)
            } else if let Some((place, peer)) = self.rounds.pop(is_free) {
                (Cause::Floor, place, peer)
            } else if let Some((place, peer)) = self.owed.pop(now, is_free, reaches) {
                (Cause::Owed, place, peer)
            } else {
                match self.schedule.pop(now) {
                    Some((place, peer)) if is_free(place) => (Cause::Schedule, place, peer),
                    Some((place, peer)) => {
                        self.schedule.soon(now, place, peer);
                        continue;
                    }
                    None => return,
                }
            };
            self.counters.comparisons_begun += 1;
            let begun = match Site::find(env, place, peer) {
                _ if !env.peers.is_reachable(peer) => Err(UnfinishedReason::Unreachable),
                _ if cause == Cause::Schedule && sabotaged!(NeverCompare) => Err(UnfinishedReason::Unreachable),
                Ok(site) => Ok(Exchange::begin(site, peer)),
                Err(_) => Err(UnfinishedReason::Refused),
            };
            match begun {
                Ok(exchange) => {
                    let owed = self.owed.ticket(peer, place);
                    self.exchanges.push(Running { exchange, cause, owed });
                }
                Err(why) => {
                    self.owed.ended(now, peer, place, None, false);
                    self.ended(now, place, peer, cause, Err(why), &RepairTraffic::default());
                }
            }
        }
    }

    /// One slice of reading, for others first: they wait.
    fn work(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        let now = env.now.monotonic;
        let mut reading = reading(env, SLICE_RECORDS);
        while let Some(reply) = self.serving.step(&mut self.trees, &mut reading) {
            self.answer(now, reply.to, reply.tag, reply.answer, out);
        }
        for running in &mut self.exchanges {
            if !running.exchange.is_busy() {
                continue;
            }
            let tree = self.trees.tree(running.exchange.site().span);
            if let Some(question) = running.exchange.advance(tree, &mut reading, self.records_bytes_max) {
                let tag = self.next_tag;
                self.next_tag += 1;
                running.exchange.ask(now, self.retry_after, tag, question.clone());
                send(&mut self.throttle, now, running, tag, question, out);
            }
        }
        self.rounds.look_on(env, &mut self.trees, &mut reading, out);
        self.sweep(env, &mut reading, out);
        self.counters.records_hashed += (SLICE_RECORDS - reading.budget) as u64;
        self.has_read |= reading.budget < SLICE_RECORDS;
        if reading.budget == 0 {
            self.rest_until = now.saturating_add(SLICE_PAUSE);
            // Whoever had nothing left of this slice is the first in the next one.
            let turn = usize::from(!self.exchanges.is_empty());
            self.exchanges.rotate_left(turn);
        }
    }

    /// Takes note of comparisons that have ended.
    fn reap(&mut self, now: Millis, out: &mut Vec<Action>) {
        let (ended, running) =
            std::mem::take(&mut self.exchanges).into_iter().partition(|running| running.exchange.outcome().is_some());
        self.exchanges = running;
        for Running { exchange, cause, owed } in ended {
            let outcome = exchange.outcome().unwrap_or(Ok(()));
            let (place, peer) = (exchange.site().place, exchange.peer());
            self.counters.comparisons_idle += u64::from(outcome.is_ok() && !exchange.differed());
            self.counters.records_unfit += exchange.records_unfit();
            self.counters.traffic.add(exchange.traffic());
            if outcome.is_ok() && !sabotaged!(ForgetComparisons) {
                self.compared.insert((place, peer), now);
            }
            self.owed.ended(now, peer, place, owed, outcome.is_ok());
            if let (Ok(()), Some(ticket)) = (outcome, owed) {
                out.push(Action::Notify(Notice::Compared { peer, place, ticket }));
            }
            self.ended(now, place, peer, cause, outcome, exchange.traffic());
        }
    }

    fn ended(
        &mut self,
        now: Millis,
        place: Place,
        peer: NodeId,
        cause: Cause,
        outcome: Result<(), UnfinishedReason>,
        traffic: &RepairTraffic,
    ) {
        self.count(outcome);
        match (cause, outcome) {
            (Cause::Job(job), outcome) => self.jobs.ended(job, place, peer, outcome, traffic),
            // What is written all the time is not equal sooner for being compared more often.
            (Cause::Schedule, Ok(()) | Err(UnfinishedReason::StillDifferent)) => {
                self.schedule.again(now, place, peer);
            }
            (Cause::Schedule, Err(_)) => self.schedule.soon(now, place, peer),
            (Cause::Floor, outcome) => self.rounds.compared(place, peer, outcome),
            (Cause::Owed, _) => {}
        }
    }

    const fn count(&mut self, outcome: Result<(), UnfinishedReason>) {
        match outcome {
            Ok(()) => self.counters.comparisons_equal += 1,
            Err(_) => self.counters.comparisons_unfinished += 1,
        }
    }

    fn asked(&mut self, env: &Environment<'_>, asking: Asking, out: &mut Vec<Action>) {
        let now = env.now.monotonic;
        self.throttle.spend(now, asking.question.bytes() + ENVELOPE_BYTES);
        let (to, tag) = (asking.from, asking.tag);
        let (reading, unfit) = (reading(env, 0), &mut self.counters.records_unfit);
        let answer = self.serving.take(env, &mut self.trees, &reading, asking, unfit, out);
        if let Some(answer) = answer {
            self.answer(now, to, tag, answer, out);
        }
    }

    /// Sends an answer once all that it may speak of is durable.
    fn answer(&mut self, now: Millis, to: NodeId, tag: u64, answer: Result<Answer, Refusal>, out: &mut Vec<Action>) {
        self.counters.questions_answered += 1;
        self.throttle.spend(now, answer.as_ref().map_or(0, Answer::bytes) + ENVELOPE_BYTES);
        out.push(Action::Send { to, message: Message::RepairAnswer { tag, answer }, release: Release::Settled });
    }

    fn answered(
        &mut self,
        env: &Environment<'_>,
        from: NodeId,
        tag: u64,
        answer: Result<Answer, Refusal>,
        out: &mut Vec<Action>,
    ) {
        let Some(running) = self.exchanges.iter_mut().find(|running| running.exchange.waits_for(from, tag)) else {
            return;
        };
        if let Ok(Answer::Differ { settled, .. }) = &answer {
            self.rounds.compare_level(env, running.exchange.site().place, *settled);
        }
        let bytes = answer.as_ref().map_or(0, Answer::bytes) + ENVELOPE_BYTES;
        self.throttle.spend(env.now.monotonic, bytes);
        running.exchange.traffic_mut().bytes_received += bytes as u64;
        running.exchange.answered(env, &reading(env, 0), answer, out);
    }
}

impl Machine for Repairs {
    fn handle(&mut self, env: &Environment<'_>, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Request { origin, deadline, request: Request::Repair(scope) } => {
                if let Err(error) = self.jobs.begin(env, origin, deadline, scope) {
                    out.push(jobs::reply(origin, Err(error)));
                } else {
                    self.jobs.settle(env.now.monotonic, out);
                }
            }
            Event::Message { from, message: Message::RepairAsk { tag, epoch, place, question } } => {
                self.asked(env, Asking { from, tag, epoch, place, question }, out);
            }
            Event::Message { from, message: Message::RepairAnswer { tag, answer } } => {
                self.answered(env, from, tag, answer, out);
            }
            Event::Message { from, message: Message::FloorTold { tag, answer } } => {
                self.rounds.told(env, from, tag, answer, out);
                self.look_for_sweeps = true;
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
        let work = self.is_busy().then(|| self.throttle.clear_at().max(self.rest_until));
        let has_room = self.exchanges.len() < EXCHANGES_MAX;
        let begin = has_room.then(|| {
            if self.jobs.is_queued(|place| self.is_free(place)) || self.rounds.is_queued(|place| self.is_free(place)) {
                Some(Millis::ZERO)
            } else {
                [self.schedule.next(), self.owed.next()].into_iter().flatten().min()
            }
        });
        let again = self.exchanges.iter().filter_map(|running| running.exchange.again_at()).min();
        let ended = self.exchanges.iter().any(|running| running.exchange.outcome().is_some()).then_some(Millis::ZERO);
        let sweep = self.look_for_sweeps.then_some(Millis::ZERO);
        let note = self.has_read.then_some(self.rest_until);
        let next = [work, begin.flatten(), again, ended, self.jobs.next_deadline(), self.rounds.next(), sweep, note];
        let next = next.into_iter().flatten().min();
        next.map(|at| at.max(self.asleep_until))
    }
}

fn reading<'a>(env: &Environment<'a>, budget: usize) -> Reading<'a> {
    let cluster = env.catalog.map_or(ClusterId::NONE, |catalog| catalog.founding().cluster);
    Reading { view: env.view, printer: Printer::new(cluster, env.now.wall), budget }
}

fn send(
    throttle: &mut Throttle,
    now: Millis,
    running: &mut Running,
    tag: u64,
    question: Question,
    out: &mut Vec<Action>,
) {
    let bytes = question.bytes() + ENVELOPE_BYTES;
    throttle.spend(now, bytes);
    running.exchange.traffic_mut().bytes_sent += bytes as u64;
    let Site { place, epoch, .. } = *running.exchange.site();
    let message = Message::RepairAsk { tag, epoch, place, question };
    out.push(Action::Send { to: running.exchange.peer(), message, release: Release::Now });
}

#[cfg(test)]
mod tests;
