//! Hinted handoff: what a replica has missed is kept for it and handed over when it is back.
//!
//! 1. A coordinator that knows that a replica has missed a write (it cannot be reached, has refused, or has not answered by
//!    the first retry) keeps the change as a hint, in one batch with whatever else the turn decides. Hints of one record join, so a
//!    record that is written often costs one hint. A late acknowledgement takes the hint back.
//! 2. When the node answers a greeting again, a walk begins after a pause that is drawn by chance, so that not everybody comes at
//!    once. It goes through all that is kept for that node ([`walk`]) in slices, so many bytes per second.
//! 3. Each hint is looked at as of now: one that is too old is shed; one whose record lies elsewhere by now is kept for those that
//!    hold it. The rest is sent as a write, which the other side joins blindly, any number of times.
//! 4. A hint goes when the other side has acknowledged it, which means that it is durable there, and nothing was joined to it
//!    meanwhile.
//! 5. Hints are bounded by bytes ([`index`]) and by age. What does not fit is shed: a mark ([`owed`]) says, from the same
//!    batch on, that the partition owes a comparison with that node, and anti-entropy takes it from there. A write never fails or
//!    waits because of hints (lesson 17).
//! 6. What would have been kept in a turn that the store refuses is owed as well. Its mark is written as soon as the store takes
//!    anything; until then memory holds it.
//!
//! 7. What a coordinator had under way when it crashed, before it knew that anybody had missed it, has no hint. So a node that starts
//!    after a crash owes a comparison to everybody with whom it shares a place. (What it did not come to hold itself comes back to it
//!    in these, and to third ones in those at intervals, or when it is read.)
//! 8. What a coordinator of a sloppy table asks a node to keep for a replica that is away is a hint like any other ([`fallback`]),
//!    but that it may be all there is of an acknowledged write: it does not go before the replica has it, however old it grows.
//!
//! Source: DeCandia and others, "Dynamo: Amazon's highly available key-value store" (SOSP 2007), section 4.6; there a fallback
//! node keeps the hint, here the coordinator, which holds the record itself, and a fallback node where the table asks for it.

mod fallback;
mod format;
mod index;
mod keeping;
mod owed;
mod replay;
#[cfg(test)]
pub(crate) mod scenarios;
mod walk;

#[cfg(any(test, feature = "sim"))]
pub(crate) use self::format::{is_marked, keeps};
pub(crate) use self::format::{read_anything, read_mark};
#[cfg(any(test, feature = "sim"))]
pub(crate) use self::keeping::Shed;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use kv_core::hlc::Stamp;
use kv_core::key::RecordKey;
use kv_core::store::{Batch, Direction, KeyRange, Operation, Space, StoreError};
use kv_core::time::Millis;
use kv_core::{NodeId, View};
use kv_ring::PartitionId;

use self::format::{Hint, read_hint_key, target_of};
use self::index::Index;
use self::owed::Owed;
use self::walk::Walk;
use crate::catalog::Catalog;
use crate::comparison::Place;
use crate::config::Settings;
use crate::hint_status::{HintStatus, TargetHints};
use crate::identity::Identity;
use crate::machine::{Action, Environment, Event, Machine, Notice, Stripe};
use crate::message::Message;
use crate::sight::KeptHint;
use crate::throttle::Throttle;

/// Tags of hints have this bit, which those of writes and reads have not.
const TAG_BIT: u64 = 1 << 62;
/// How many times a pause doubles when what comes after it keeps failing.
const DOUBLINGS_MAX: u32 = 6;

/// The machine of hints.
#[derive(Debug)]
pub(crate) struct Hints {
    bounds: Bounds,
    /// Whether the store has a space for hints.
    has_space: bool,
    retry_after: Millis,
    /// How long to wait for the node to serve, and the measure of pauses.
    idle: Millis,
    record_bytes_max: u64,
    seed: u64,
    index: Index,
    /// What was there when the bounds were set: nothing is thrown away because they have shrunk.
    #[cfg(any(test, feature = "sim"))]
    bytes_at_start: u64,
    owed: Owed,
    /// What is under way, by the node that it is for.
    walks: BTreeMap<NodeId, Walk>,
    /// When walks are to begin.
    plans: BTreeMap<NodeId, Millis>,
    /// Who has not taken all that was sent: how often in a row, and from when on it is asked again.
    resting: BTreeMap<NodeId, (u32, Millis)>,
    throttle: Throttle,
    /// Who had something of the last slice, the last of them.
    served_last: Option<NodeId>,
    next_tag: u64,
    rest_until: Millis,
    asleep_until: Millis,
    /// When to look for what is too old.
    tend_at: Millis,
    /// By which layout that was done last.
    tended_in: u64,
    /// The store did not take what was decided: what is in memory is in doubt until the store is read again.
    in_doubt: bool,
    /// When it may be read again, and how often in a row it was: a disk that is full stays so for a while.
    reload_at: Millis,
    reloads: u32,
    counters: HintStatus,
    shed: BTreeMap<NodeId, u64>,
    /// What was shed, if somebody wants to know.
    #[cfg(any(test, feature = "sim"))]
    told: Option<Vec<Shed>>,
}

/// How much may be kept.
#[derive(Copy, Clone, Debug)]
struct Bounds {
    /// Whether anything is kept or marked at all.
    enabled: bool,
    bytes_max: u64,
    age_max: Millis,
    bytes_per_second: u64,
}

impl Bounds {
    const fn of(settings: &Settings) -> Self {
        Self {
            enabled: settings.hinted_handoff,
            bytes_max: settings.hint_bytes_max,
            age_max: settings.hint_age_max,
            bytes_per_second: settings.hint_bytes_per_second,
        }
    }
}

impl Hints {
    /// The hints and marks that earlier lives have left in the store. Reads all hints once, to know how many there are.
    ///
    /// A store without a space for hints keeps none; what others miss is marked as owed.
    pub(crate) fn restore(
        settings: &Settings,
        me: &Identity,
        catalog: Option<&Catalog>,
        marks: Vec<(NodeId, Place)>,
        view: &dyn View,
    ) -> Result<Self, StoreError> {
        let bounds = Bounds::of(settings);
        let (has_space, index) = match read_index(catalog, view) {
            Err(StoreError::UnknownSpace(_)) => (false, Index::default()),
            index => (true, index?),
        };
        let marks = if sabotaged!(ForgetMarks) { Vec::new() } else { marks };
        Ok(Self {
            bounds,
            has_space,
            retry_after: settings.retry_after,
            idle: settings.hello_every,
            record_bytes_max: settings.record_bytes_max as u64,
            seed: me.nonce,
            #[cfg(any(test, feature = "sim"))]
            bytes_at_start: index.bytes(),
            index,
            owed: Owed::restore(marks),
            walks: BTreeMap::new(),
            plans: BTreeMap::new(),
            resting: BTreeMap::new(),
            throttle: Throttle::new(bounds.bytes_per_second),
            served_last: None,
            next_tag: TAG_BIT | me.boot.first_tag(),
            rest_until: Millis::ZERO,
            asleep_until: Millis::ZERO,
            tend_at: Millis::ZERO,
            tended_in: catalog.map_or(0, |catalog| catalog.founding().epoch),
            in_doubt: false,
            reload_at: Millis::ZERO,
            reloads: 0,
            counters: HintStatus::default(),
            shed: BTreeMap::new(),
            #[cfg(any(test, feature = "sim"))]
            told: None,
        })
    }

    /// Whether anything new is kept.
    const fn keeps(&self) -> bool {
        self.bounds.enabled && self.has_space
    }

    /// Whether a tag was given by this machine.
    pub(crate) const fn owns(tag: u64) -> bool {
        tag >> 62 == 1
    }

    /// No version that this node keeps of a partition, for whomever, was born before; `None` when it keeps nothing of it.
    ///
    /// A floor below which nothing is accepted or remembered any more must lie below this, at every node that may keep
    /// something (rule P7, lesson 06). It may be somewhat too early until the next walk through the hints. What is still under
    /// way and has not been missed by anybody yet is not in it.
    ///
    /// Of a table of data types it is the birth of the oldest *change*: a change that travels whole brings dots that were
    /// minted before, whose births no record tells. A floor for those tables cannot rest on it.
    pub(crate) fn oldest_birth(&self, place: Place) -> Option<Stamp> {
        if self.in_doubt { Some(Stamp::ZERO) } else { self.index.oldest_of(place) }
    }

    /// What owes a comparison, with whom, and the number that ends it: see [`Hints::compared`].
    pub(crate) fn owed(&self) -> impl Iterator<Item = (NodeId, Place, u64)> + '_ {
        self.owed.iter()
    }

    /// Owes a comparison of every place that this node shares with somebody.
    pub(crate) fn owe_everything(&mut self, me: NodeId, catalog: Option<&Catalog>, batch: &mut Batch) {
        if !self.bounds.enabled || sabotaged!(ForgetCrashes) {
            return;
        }
        let tables = catalog.iter().flat_map(|catalog| catalog.tables());
        for table in tables.filter(|table| table.options.is_replicated_durably()) {
            for partition in table.layout.partitions_of(me) {
                let place = Place { table: table.id, partition };
                for peer in table.layout.replicas(partition).iter().filter(|peer| **peer != me) {
                    self.owed.owe(*peer, place, batch);
                }
            }
        }
    }

    /// The store did not take what a turn decided. What would have been kept with it is owed instead; returns all that is owed
    /// because of it, as [`Hints::owed`] does.
    pub(crate) fn store_failed(
        &mut self,
        now: Millis,
        (me, catalog): (NodeId, Option<&Catalog>),
        refused: &Batch,
    ) -> Vec<(NodeId, Place, u64)> {
        let mut owed = Vec::new();
        for operation in refused {
            match operation {
                Operation::Put { space: Space::HINTS, key, .. } => {
                    self.in_doubt = true;
                    if let Ok((target, key)) = read_hint_key(key)
                        && let place = place_of(catalog, &key)
                        && !fallback::stands_in(me, catalog, place)
                        && !sabotaged!(ForgetRefusedHints)
                    {
                        // The mark is written when the store is read again.
                        owed.push((target, place, self.owed.owe(target, place, &mut Batch::new())));
                        self.count_shed(target);
                    }
                }
                Operation::Delete { space: Space::HINTS, .. } => self.in_doubt = true,
                Operation::Put { space: Space::META, key, .. } | Operation::Delete { space: Space::META, key } => {
                    self.in_doubt |= key.starts_with(format::MARK_PREFIX);
                }
                _ => {}
            }
        }
        self.in_doubt |= sabotaged!(RescanWithoutRest);
        if self.in_doubt {
            self.walks.clear();
        }
        if now >= self.reload_at.saturating_add(self.idle) {
            self.reloads = 0;
        }
        owed
    }

    /// A peer has answered a greeting.
    pub(crate) fn greeted(&mut self, peer: NodeId, now: Millis) {
        if !self.index.holds(peer) || self.walks.get(&peer).is_some_and(|walk| walk.delivers) {
            return;
        }
        let rested = self.resting.get(&peer).map_or(Millis::ZERO, |(_, until)| *until).max(now);
        let bytes = [peer.0.to_le_bytes(), now.0.to_le_bytes()].concat();
        let jitter = Millis(kv_core::hash::seeded(&bytes, self.seed) % self.idle.0.max(1));
        self.plans.entry(peer).or_insert(rested.saturating_add(jitter));
    }

    /// A comparison has found that a peer holds all that this node holds of a place. `ticket` is the number under which it was
    /// owed when the comparison began; whatever was shed later is still owed.
    pub(crate) fn compared(&mut self, peer: NodeId, place: Place, ticket: u64, out: &mut Vec<Action>) {
        let mut batch = Batch::new();
        if self.owed.clear(peer, place, ticket, &mut batch) {
            out.push(Action::Store { stripe: Stripe::HINTS, batch });
        }
    }

    /// What is kept for a node of one record.
    pub(crate) fn kept_for(&self, view: &dyn View, target: NodeId, key: &RecordKey) -> Option<KeptHint> {
        if !self.has_space {
            return None;
        }
        let hint_key = format::hint_key(target, key);
        let mut kept = None;
        let looked = view.get(Space::HINTS, &hint_key, &mut |value| {
            let oldest = Hint::decode(value).map_or(Stamp::ZERO, |hint| hint.oldest);
            kept = Some(KeptHint { bytes: (hint_key.len() + value.len()) as u64, oldest });
        });
        looked.ok().and(kept)
    }

    /// Whether a place owes a comparison with a node.
    pub(crate) fn owes(&self, target: NodeId, place: Place) -> bool {
        self.owed.contains(target, place)
    }

    /// What became of everything in this life.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) const fn counters(&self) -> &HintStatus {
        &self.counters
    }

    /// What is kept, and what became of it.
    pub(crate) fn status(&self) -> HintStatus {
        let mut targets: Vec<NodeId> = self.index.targets().chain(self.shed.keys().copied()).collect();
        targets.extend(self.owed.iter().map(|(target, ..)| target));
        targets.sort_unstable();
        targets.dedup();
        let of = |target| TargetHints {
            target,
            hints: self.index.of(target).map(|(_, held)| held.hints).sum(),
            bytes: self.index.of(target).map(|(_, held)| held.bytes).sum(),
            oldest_birth: self.index.oldest_for(target),
            owed_partitions: self.owed.count(target),
            shed: self.shed.get(&target).copied().unwrap_or(0),
            delivering: self.walks.get(&target).is_some_and(|walk| walk.delivers),
        };
        HintStatus {
            bytes: self.index.bytes(),
            bytes_max: if self.keeps() { self.bounds.bytes_max } else { 0 },
            targets: targets.into_iter().map(of).collect(),
            ..self.counters.clone()
        }
    }

    /// Other bounds than the node was started with.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn bound(&mut self, settings: &Settings) {
        self.bounds = Bounds::of(settings);
        self.throttle = Throttle::new(self.bounds.bytes_per_second);
        self.bytes_at_start = self.index.bytes();
    }

    /// What is wrong with what is believed of the store, between two turns.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn check(&self, catalog: Option<&Catalog>, view: &dyn View) -> Option<String> {
        if self.in_doubt || !self.has_space {
            return None;
        }
        let held = match read_index(catalog, view) {
            Ok(held) => held,
            Err(error) => return Some(error.to_string()),
        };
        if let Some(what) = self.index.differs(&held) {
            return Some(what);
        }
        let bytes_max = self.bounds.bytes_max.max(self.bytes_at_start);
        (held.bytes() > bytes_max).then(|| format!("{} bytes of hints, and {bytes_max} are allowed", held.bytes()))
    }

    /// Reads again what the store holds, if something is in doubt and it is time. Returns whether nothing is in doubt then.
    fn trusts(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) -> bool {
        if self.in_doubt && env.now.monotonic >= self.reload_at {
            let doublings = self.reloads.min(DOUBLINGS_MAX);
            let wait = if sabotaged!(RescanWithoutRest) { Millis::ZERO } else { Millis(self.idle.0 << doublings) };
            self.reload_at = env.now.monotonic.saturating_add(wait);
            self.reloads += 1;
            self.in_doubt = self.reload(env, out).is_err();
        }
        !self.in_doubt
    }

    fn reload(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) -> Result<(), StoreError> {
        if self.has_space {
            self.index = read_index(env.catalog, env.view)?;
        }
        let mut marks = Vec::new();
        let end = kv_core::store::prefix_end(format::MARK_PREFIX).expect("not empty");
        let range = KeyRange::half_open(format::MARK_PREFIX, &end);
        env.view.scan(Space::META, range, Direction::Forward, &mut |key, value| {
            marks.extend(read_mark(key, value).ok().flatten());
            ControlFlow::Continue(())
        })?;
        // A mark that did not reach the store is written again; what was shed is owed whether or not the turn came about.
        let lost: Vec<_> = self.owed.iter().filter(|(target, place, _)| !marks.contains(&(*target, *place))).collect();
        for (target, place, _) in lost {
            let mut batch = Batch::new();
            batch.put(Space::META, &format::mark_key(target, place), &format::mark());
            out.push(Action::Store { stripe: Stripe::HINTS, batch });
        }
        marks.retain(|(target, place)| !self.owed.contains(*target, *place));
        for (target, place) in marks {
            // It was taken away, and that did not reach the store.
            let mut batch = Batch::new();
            let ticket = self.owed.owe(target, place, &mut batch);
            out.push(Action::Notify(Notice::Owed { peer: target, place, ticket }));
        }
        Ok(())
    }
}

impl Machine for Hints {
    fn handle(&mut self, env: &Environment<'_>, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Message { from, message: Message::Keep { tag, epoch, target, key, record } } => {
                self.asked_to_keep(env, (from, tag), epoch, (target, &key, &record), out);
            }
            Event::Message { from, message: Message::WriteReply { tag, refused } } => {
                self.answered(env, from, tag, refused, out);
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
        let next = if self.in_doubt { Some(self.reload_at) } else { self.next_due() };
        next.map(|at| at.max(self.asleep_until))
    }
}

/// Where a record lies. Of a table that is not known: nowhere that anybody compares.
fn place_of(catalog: Option<&Catalog>, key: &RecordKey) -> Place {
    let table = catalog.and_then(|catalog| catalog.table(key.table()));
    let partition = table.map_or(PartitionId(u32::MAX), |table| table.layout.partition_of(key.token()));
    Place { table: key.table(), partition }
}

/// Adds up what the store holds.
fn read_index(catalog: Option<&Catalog>, view: &dyn View) -> Result<Index, StoreError> {
    let mut index = Index::default();
    view.scan(Space::HINTS, KeyRange::ALL, Direction::Forward, &mut |key, value| {
        let bytes = (key.len() + value.len()) as u64;
        // What cannot be read counts as old, so that the next walk takes it out.
        let oldest = Hint::decode(value).map_or(Stamp::ZERO, |hint| hint.oldest);
        match (read_hint_key(key), target_of(key)) {
            (Ok((target, key)), _) => index.put(target, place_of(catalog, &key), bytes, None, oldest),
            (Err(_), Some(target)) => index.put(target, NOWHERE, bytes, None, Stamp::ZERO),
            (Err(_), None) => {}
        }
        ControlFlow::Continue(())
    })?;
    Ok(index)
}

/// The place of a hint whose key cannot be read.
const NOWHERE: Place = Place { table: kv_core::key::TableId(u32::MAX), partition: PartitionId(u32::MAX) };
