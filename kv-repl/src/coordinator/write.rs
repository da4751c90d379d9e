//! Coordinates the writes of keys that this node holds.
//!
//! 1. Mint the write: read the record here, give it a dot and a stamp, store the change.
//! 2. Send the change to every other replica at once; none waits for the sync here.
//! 3. Each replica, this one included, acknowledges when the change is durable at it.
//! 4. Answer when the replicas that the level asks for have acknowledged; at the deadline, answer that it is ambiguous.
//! 5. Ask those who have not acknowledged again, with growing pauses, until the deadline and within a budget. A change may arrive
//!    any number of times.
//! 6. Say of a replica that cannot be reached, refuses, or has not acknowledged by the first retry, that it has missed the
//!    change; and if it acknowledges after all, that as well. Nothing here waits for what becomes of that.
//! 7. In a sloppy table, have others keep the change for replicas that are missing, when the replicas alone do not meet the level
//!    ([`Fallbacks`]). Answer when replicas and fallbacks together meet it and this node holds the change itself.
//! 8. An answered write that lacks acknowledgements takes memory. There is room for so many of them; for the oldest of more
//!    nobody waits any longer, so that a slow replica slows nobody else.

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::crdt::UpdateRefused;
use kv_core::hlc::Stamp;
#[cfg(any(test, feature = "sim"))]
use kv_core::key::RecordKey;
use kv_core::record::Record;
use kv_core::store::{Batch, Space};
use kv_core::time::Millis;

use super::budget::{Budget, Extra};
use super::catch_up::{CatchUp, CatchUps};
use super::fallbacks::{Fallbacks, within_reach};
use super::retry::{Agenda, Patience};
use super::stragglers::Stragglers;
use super::writing::{UnderWay, stored_here};
use super::{busy, minting, placed, reachable, requirement};
#[cfg(any(test, feature = "sim"))]
use crate::admission::Limits;
use crate::by_number::ByNumber;
use crate::by_replica::{NodeSet, Nodes};
use crate::catalog::Catalog;
use crate::comparison::Place;
use crate::config::Settings;
use crate::identity::Boot;
use crate::machine::{Action, Environment, Event, Machine, Notice, Origin, Outcome, Release, Request, Stripe};
use crate::message::{Message, Refusal};
use crate::mint::Minter;
use crate::request::{Write, WriteError, Written};
use crate::status::ExtraMessages;

/// The machine of writes.
#[derive(Debug)]
pub(crate) struct Writes {
    minter: Minter,
    catch_ups: CatchUps,
    retry_after: Millis,
    /// By tag; each by itself, so that the table moves nothing large.
    under_way: ByNumber<Box<UnderWay>>,
    agenda: Agenda,
    budget: Budget,
    stragglers: Stragglers,
    next_tag: u64,
    /// What was acknowledged, if somebody wants to know.
    #[cfg(any(test, feature = "sim"))]
    told: Option<Vec<Acknowledged>>,
}

/// A change that was acknowledged, for whoever follows what becomes of it.
#[cfg(any(test, feature = "sim"))]
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) key: RecordKey,
    pub(crate) change: Bytes,
    /// Whether this node holds it durably.
    pub(crate) held: bool,
    /// Who keeps it, and for whom.
    pub(crate) kept: Vec<(NodeId, NodeId)>,
}

impl Writes {
    pub(crate) fn new(settings: &Settings, boot: Boot, minter: Minter) -> Self {
        Self {
            minter,
            catch_ups: CatchUps::new(),
            retry_after: settings.retry_after,
            under_way: ByNumber::new(),
            agenda: Agenda::new(),
            budget: Budget::new(),
            stragglers: Stragglers::new(settings.requests_max, settings.request_bytes_max),
            next_tag: boot.first_tag(),
            #[cfg(any(test, feature = "sim"))]
            told: None,
        }
    }

    /// The records and changes that were acknowledged since the last call; nothing the first time, from which on it is remembered.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn take_acknowledged(&mut self) -> Vec<Acknowledged> {
        self.told.replace(Vec::new()).unwrap_or_default()
    }

    /// Whether a write of a record is under way.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn is_under_way(&self, key: &RecordKey) -> bool {
        self.under_way.in_any_order().any(|write| write.key == *key)
    }

    /// No write that is under way in a place was born before; `None` when none is.
    pub(crate) fn oldest_birth(&self, catalog: Option<&Catalog>, place: Place) -> Option<Stamp> {
        let table = catalog?.table(place.table)?;
        let births = self.under_way.in_any_order().filter_map(|write| {
            let is_there =
                write.key.table() == place.table && table.layout.partition_of(write.key.token()) == place.partition;
            is_there.then_some(write.birth)
        });
        births.min()
    }

    /// How many writes were answered and wait for stragglers.
    pub(crate) fn stragglers(&self) -> usize {
        self.stragglers.len()
    }

    /// Other bounds from now on.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) const fn bound(&mut self, limits: Limits) {
        self.stragglers.bound(limits.requests_max, limits.request_bytes_max);
    }

    /// Messages beyond those that writes need.
    pub(crate) const fn extra(&self) -> ExtraMessages {
        self.budget.count
    }

    /// No stamp above it was ever minted here.
    pub(crate) const fn clock(&self) -> Stamp {
        self.minter.last()
    }

    pub(crate) const fn minter(&mut self) -> &mut Minter {
        &mut self.minter
    }

    /// The store of this node did not take what a turn decided.
    pub(crate) fn store_failed(&mut self, me: NodeId) {
        for write in self.under_way.in_any_order_mut() {
            write.refused_here |= write.missing.contains(me) && !sabotaged!(StoreOnce);
        }
    }

    fn begin(
        &mut self,
        env: &Environment<'_>,
        origin: Origin,
        deadline: Millis,
        write: &Write,
        news: Option<&Record>,
        out: &mut Vec<Action>,
    ) -> Result<(), WriteError> {
        let key = write.key();
        let (table, replicas) = placed(env, key).ok_or(WriteError::UnknownTable)?;
        assert!(replicas.contains(&env.me.node), "a write is coordinated by a replica of its key");
        let requirement = requirement(env, table, replicas, write.consistency())?;
        let (within_reach, required) =
            (within_reach(env, table, replicas, write, &requirement), requirement.required());
        if within_reach < required {
            return Err(WriteError::Unavailable { reachable: within_reach, required });
        }
        if env.now.monotonic >= deadline && !sabotaged!(BeginTooLate) {
            return Err(WriteError::DeadlinePassed);
        }
        let minted = match write {
            Write::Put(put) => match table.options.cache_options() {
                Some(cache) => minting::cached(&mut self.minter, env, table, cache, put, out)?,
                None => minting::put(&mut self.minter, env, table, put)?,
            },
            Write::Modify(modify) => minting::update(&mut self.minter, env, table, modify, news, required)?,
        };
        if !minted.meta.is_empty() {
            out.push(Action::Store { stripe: Stripe::META, batch: minted.meta });
        }
        if let Some(epoch) = minted.epoch {
            out.push(Action::Notify(Notice::ActorEpoch(epoch)));
        }
        let is_cached = env.caches.are_of(key.table());
        if is_cached {
            if let Some(change) = minted.record.as_ref().and_then(|record| Record::decode(record).ok()) {
                out.push(Action::Cache { key: key.clone(), change });
            }
        } else if let Some(record) = &minted.record {
            let mut batch = Batch::new();
            batch.put(Space::DATA, key.as_bytes(), record);
            out.push(Action::Store { stripe: Stripe::of(key.token()), batch });
        }
        let fallbacks = Fallbacks::of(table, write.consistency(), write.is_strict());
        let tag = self.next_tag;
        self.next_tag += 1;
        out.push(stored_here(env, key, tag));
        let mut write = Box::new(UnderWay {
            origin,
            operation: write.operation(),
            key: key.clone(),
            change: minted.change,
            birth: minted.written.birth,
            epoch: env.catalog.map_or(0, |catalog| catalog.epoch_of(replicas)),
            missing: replicas.iter().copied().collect(),
            missed: NodeSet::default(),
            importing: NodeSet::default(),
            refused_here: false,
            acknowledged: 0,
            requirement,
            fallbacks,
            written: Some(minted.written),
            patience: Patience::new(env.now.monotonic, self.retry_after, deadline),
        });
        // Those that have too much to do are spared when the others are enough; they are asked when the pause is over.
        let is_busy = |node: NodeId| env.peers.is_busy(node, env.now.monotonic);
        let spares = write.requirement.is_met(|node| !is_busy(node) && reachable(env, node));
        let (spared, others): (Nodes, Nodes) = write.others(env.me.node).partition(|node| spares && is_busy(*node));
        self.budget.earn(others.len());
        write.send(others, tag, out);
        let away = replicas.iter().copied().filter(|node| !env.peers.is_reachable(*node));
        write.miss(env.me.node, away.chain(spared), out);
        if !write.requirement.is_met(|node| reachable(env, node)) {
            let away: Vec<NodeId> = replicas.iter().copied().filter(|node| !reachable(env, *node)).collect();
            write.fall_back(env, tag, away, &mut self.budget, out);
        }
        self.agenda.add(write.patience.at, tag);
        self.under_way.insert(tag, write);
        Ok(())
    }

    /// Coordinates a write, or asks the other replicas first for what its client has seen and this one has not.
    fn request(
        &mut self,
        env: &Environment<'_>,
        (origin, deadline): (Origin, Millis),
        write: Write,
        out: &mut Vec<Action>,
    ) {
        match self.begin(env, origin, deadline, &write, None, out) {
            Err(WriteError::Update(UpdateRefused::ContextAhead)) => {
                let replicas = placed(env, write.key()).map_or(&[][..], |(_, replicas)| replicas);
                let tag = self.next_tag;
                self.next_tag += 1;
                let asked = self.catch_ups.begin(env, tag, self.retry_after, (origin, deadline, write), replicas, out);
                self.budget.earn(asked);
            }
            Err(error) => out.push(reply(origin, Err(error))),
            Ok(()) => {}
        }
    }

    /// Another replica has said what it holds of a record that this one is behind with.
    fn caught_up(
        &mut self,
        env: &Environment<'_>,
        from: NodeId,
        tag: u64,
        record: Option<&Bytes>,
        out: &mut Vec<Action>,
    ) {
        let Ok(record) = record.map(Record::decode).transpose() else { return };
        let Some(waiting) = self.catch_ups.answered(from, tag, record) else { return };
        let CatchUp { origin, deadline, write, news, .. } = &waiting;
        let Err(error) = self.begin(env, *origin, *deadline, write, news.as_ref(), out) else { return };
        let waiting = match error {
            WriteError::Update(UpdateRefused::ContextAhead) => self.catch_ups.back(tag, waiting),
            _ => Some(waiting),
        };
        if let Some(waiting) = waiting {
            out.push(reply(waiting.origin, Err(error)));
        }
    }

    fn acknowledged(&mut self, env: &Environment<'_>, from: NodeId, tag: u64, out: &mut Vec<Action>) {
        let Some(write) = self.under_way.get_mut(tag) else { return };
        if !write.missing.remove(from) && !sabotaged!(CountAcksTwice) {
            return;
        }
        if write.missed.remove(from) {
            let (key, change) = (write.key.clone(), write.change.clone());
            out.push(Action::Notify(Notice::Caught { target: from, key, change }));
        }
        write.acknowledged += 1;
        let is_everywhere = write.missing.is_empty();
        self.answer(env.me.node, tag, out);
        if is_everywhere {
            self.forget(tag);
        }
        self.relieve(env, out);
    }

    /// A node that was asked to stand in for a replica has said whether it does.
    fn kept(
        &mut self,
        env: &Environment<'_>,
        from: NodeId,
        (tag, target): (u64, NodeId),
        refused: Option<Refusal>,
        out: &mut Vec<Action>,
    ) {
        if let Some(Refusal::Overloaded { retry_after }) = refused {
            out.push(busy(env, from, retry_after));
        }
        let fallbacks = self.under_way.get_mut(tag).and_then(|write| write.fallbacks.as_mut());
        if fallbacks.is_some_and(|fallbacks| fallbacks.answered(from, target, refused.is_none())) {
            self.answer(env.me.node, tag, out);
            self.relieve(env, out);
        }
    }

    /// Answers a write whose level is met, unless that was done.
    fn answer(&mut self, me: NodeId, tag: u64, out: &mut Vec<Action>) {
        let Some(write) = self.under_way.get_mut(tag) else { return };
        if write.is_met(me)
            && let Some(mut written) = write.written.take()
        {
            (written.acknowledged, written.fallbacks) = write.counts();
            #[cfg(any(test, feature = "sim"))]
            if let Some(told) = &mut self.told {
                let (key, change, held) = (write.key.clone(), write.change.clone(), !write.missing.contains(me));
                let kept = write.fallbacks.iter().flat_map(Fallbacks::kept).collect();
                told.push(Acknowledged { key, change, held, kept });
            }
            out.push(reply(write.origin, Ok(written)));
            if !write.missing.is_empty() {
                self.stragglers.add(tag, write.change.len());
            }
        }
    }

    /// Keeps what was answered and lacks acknowledgements within its bounds.
    fn relieve(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        while let Some(tag) = self.stragglers.over() {
            self.give_up(env, tag, out);
        }
    }

    /// Waits no longer for the acknowledgements that an answered write lacks: what has missed it is kept, or owed.
    fn give_up(&mut self, env: &Environment<'_>, tag: u64, out: &mut Vec<Action>) {
        if let Some(write) = self.under_way.get_mut(tag) {
            let missing: Nodes = write.missing.iter().collect();
            write.miss(env.me.node, missing.into_iter(), out);
            write.store_again(env, tag, out);
        }
        self.forget(tag);
    }

    fn forget(&mut self, tag: u64) {
        if let Some(write) = self.under_way.remove(tag) {
            self.agenda.remove(write.patience.at, tag);
            self.stragglers.remove(tag, write.change.len());
        }
    }

    fn due(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        while let Some(tag) = self.agenda.pop(env.now.monotonic) {
            let write = self.under_way.get_mut(tag).expect("the agenda lists writes under way");
            write.renew(env);
            let silent: Nodes = write.missing.iter().filter(|node| !write.importing.contains(*node)).collect();
            write.miss(env.me.node, silent.into_iter(), out);
            // Stragglers of an answered write are asked again only while they can be reached.
            let reachable = |node| env.peers.is_reachable(node) || (node == env.me.node && write.refused_here);
            let hopeless = write.written.is_none() && !write.missing.iter().any(reachable);
            if env.now.monotonic >= write.patience.deadline || hopeless {
                if write.written.is_some() {
                    let (operation, required) = (write.operation, write.requirement.required());
                    let (acknowledged, fallbacks) = write.counts();
                    let error = WriteError::Ambiguous { operation, acknowledged, fallbacks, required };
                    out.push(reply(write.origin, Err(error)));
                }
                self.forget(tag);
                continue;
            }
            let now = env.now.monotonic;
            let may = |node: &NodeId| !env.peers.is_busy(*node, now) && self.budget.spend(now, Extra::Retry);
            let again = write.others(env.me.node).filter(may);
            write.send(again.collect(), tag, out);
            if write.written.is_some() {
                let missing = write.others(env.me.node).collect();
                write.fall_back(env, tag, missing, &mut self.budget, out);
            }
            write.store_again(env, tag, out);
            write.patience.again(env.now.monotonic);
            self.agenda.add(write.patience.at, tag);
        }
    }
}

impl Machine for Writes {
    fn handle(&mut self, env: &Environment<'_>, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Request { origin, deadline, request: Request::Write(write) } => {
                self.request(env, (origin, deadline), write, out);
            }
            Event::Message { from, message: Message::ReadReply { tag, outcome: Ok(record) } } => {
                self.caught_up(env, from, tag, record.as_ref(), out);
            }
            Event::Message { from, message: Message::WriteReply { tag, refused: None } } => {
                self.acknowledged(env, from, tag, out);
            }
            Event::Message { from, message: Message::Kept { tag, target, refused } } => {
                self.kept(env, from, (tag, target), refused, out);
            }
            Event::Deadline => {
                self.due(env, out);
                for waiting in self.catch_ups.due(env.now.monotonic, &mut self.budget, out) {
                    let error = UpdateRefused::ContextAhead.into();
                    out.push(reply(waiting.origin, Err(error)));
                }
            }
            Event::Message { from, message: Message::WriteReply { tag, refused: Some(Refusal::Importing) } } => {
                if let Some(write) = self.under_way.get_mut(tag) {
                    write.importing.insert(from);
                }
            }
            // The replica is asked again all the same: the reason may have gone.
            Event::Message { from, message: Message::WriteReply { tag, refused: Some(refusal) } } => {
                if let Refusal::Overloaded { retry_after } = refusal {
                    out.push(busy(env, from, retry_after));
                }
                if let Some(write) = self.under_way.get_mut(tag) {
                    write.miss(env.me.node, std::iter::once(from), out);
                }
            }
            Event::Message { .. }
            | Event::Request { .. }
            | Event::Introduction { .. }
            | Event::ReadEnded { .. }
            | Event::Unreachable(_) => {}
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        self.agenda.next().into_iter().chain(self.catch_ups.next_deadline()).min()
    }
}

const fn reply(origin: Origin, outcome: Result<Written, WriteError>) -> Action {
    Action::Reply { origin, outcome: Outcome::Put(outcome), release: Release::Now }
}
