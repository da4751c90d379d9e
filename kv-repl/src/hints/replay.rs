//! Walks through hints: when they begin, what they do in one slice, and how they end.

use std::ops::ControlFlow;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::key::RecordKey;
use kv_core::store::{Batch, Direction, Space};
use kv_core::time::Millis;

use super::fallback::{is_last_resort, stands_in};
use super::format::{Hint, Range, hint_key, read_hint_key};
use super::walk::{Flying, Overdue, Walk};
use super::{DOUBLINGS_MAX, Hints, NOWHERE, place_of};
use crate::comparison::Place;
use crate::machine::{Action, Environment, Notice, Release, Stripe};
use crate::message::{Message, Refusal};
use crate::status::Standing;
use crate::throttle::ENVELOPE_BYTES;

/// Most hints looked at in one slice, for which requests wait.
const SLICE_HINTS: usize = 128;
/// Most bytes of hints read at a time.
const SLICE_BYTES: usize = 256 << 10;
/// How long after a slice the next one may come, so that requests go first.
const SLICE_PAUSE: Millis = Millis(5);
/// How often in its longest life a hint is looked at for its age.
const LOOKS: u64 = 16;
const TEND_EVERY_MIN: Millis = Millis(1_000);
const TEND_EVERY_MAX: Millis = Millis(60_000);

/// A hint as the store holds it: its key and its value.
type Stored = (Vec<u8>, Vec<u8>);

impl Hints {
    /// When something is next to be done.
    pub(super) fn next_due(&self) -> Option<Millis> {
        let goes = self.walks.values().any(Walk::can_go).then(|| self.throttle.clear_at().max(self.rest_until));
        let again = self.walks.values().filter_map(Walk::again_at).min();
        let tend = (self.index.bytes() > 0 || self.owed.iter().next().is_some()).then_some(self.tend_at);
        [goes, again, self.plans.values().min().copied(), tend].into_iter().flatten().min()
    }

    pub(super) fn due(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        let now = env.now.monotonic;
        if env.catalog.is_none() || env.standing != Standing::Serving {
            self.asleep_until = now.saturating_add(self.idle);
            return;
        }
        if !self.trusts(env, out) {
            return;
        }
        self.send_again(env, out);
        self.begin(env);
        if self.tend_at <= now {
            self.tend(env, out);
        }
        if self.throttle.clear_at().max(self.rest_until) <= now {
            self.slice(env, out);
        }
        self.end(env);
    }

    /// Begins the walks that were planned.
    fn begin(&mut self, env: &Environment<'_>) {
        let now = env.now.monotonic;
        let due: Vec<NodeId> = self.plans.iter().filter(|(_, at)| **at <= now).map(|(target, _)| *target).collect();
        for target in due {
            self.plans.remove(&target);
            // One that cannot be reached will be planned for when it answers a greeting.
            if env.peers.is_reachable(target) && self.index.holds(target) {
                self.walks.insert(target, Walk::new(true));
            }
        }
    }

    /// Looks for what is too old, for hints whose records have moved away, and for marks of places that are not shared any more.
    fn tend(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        let every = Millis(self.bounds.age_max.0 / LOOKS).max(TEND_EVERY_MIN).min(TEND_EVERY_MAX);
        self.tend_at = env.now.monotonic.saturating_add(every);
        let epoch = env.catalog.map_or(0, |catalog| catalog.founding().epoch);
        let moved = std::mem::replace(&mut self.tended_in, epoch) != epoch;
        let grew_old = |target: &NodeId| {
            let mut held = self.index.of(*target);
            held.any(|(place, held)| self.is_old(env, held.oldest) && !is_last_resort(env, *place))
        };
        let stale = |target: &NodeId| moved || grew_old(target);
        let targets: Vec<NodeId> =
            self.index.targets().filter(|target| !self.walks.contains_key(target)).filter(stale).collect();
        for target in targets {
            self.walks.insert(target, Walk::new(false));
        }
        let moot: Vec<_> = self.owed.iter().filter(|(target, place, _)| !shares(env, *target, *place)).collect();
        for (target, place, _) in moot {
            let mut batch = Batch::new();
            self.owed.forget(target, place, &mut batch);
            out.push(Action::Store { stripe: Stripe::HINTS, batch });
            if !sabotaged!(RememberMootDebts) {
                out.push(Action::Notify(Notice::Moot { peer: target, place }));
            }
        }
    }

    /// Looks at the next hints of whoever is next.
    fn slice(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        let now = env.now.monotonic;
        let mut targets: Vec<NodeId> =
            self.walks.iter().filter(|(_, walk)| walk.can_go()).map(|(target, _)| *target).collect();
        if targets.is_empty() {
            return;
        }
        // Whoever had nothing of the last slice comes first in this one.
        let served = targets.partition_point(|target| self.served_last.is_some_and(|last| *target <= last));
        let first = if sabotaged!(ServeTheFirst) { 0 } else { served % targets.len() };
        targets.rotate_left(first);
        self.rest_until = now.saturating_add(SLICE_PAUSE);
        // A slice may send what ten milliseconds are worth, or one hint that is more; the throttle keeps the rate.
        let mut budget = usize::try_from(self.bounds.bytes_per_second / 100).unwrap_or(usize::MAX).max(1);
        let mut looks = SLICE_HINTS;
        for target in targets {
            let Some(walk) = self.walks.get(&target) else { continue };
            self.served_last = Some(target);
            let (delivers, room) = (walk.delivers, walk.room());
            let limit = if delivers { room.min(looks) } else { looks };
            let Some((found, at_end)) = self.read(env, target, limit, budget) else { continue };
            looks -= found.len().min(looks);
            for stored in found {
                let spent = self.look_at(env, target, delivers, &stored, out);
                if spent > 0 && !sabotaged!(IgnoreHintRate) {
                    self.throttle.spend(now, spent);
                    budget = budget.saturating_sub(spent);
                }
            }
            if let Some(walk) = self.walks.get_mut(&target) {
                walk.at_end |= at_end;
            }
            if budget == 0 || looks == 0 {
                break;
            }
        }
    }

    /// The next hints for a node, and whether they are the last ones.
    fn read(
        &mut self,
        env: &Environment<'_>,
        target: NodeId,
        limit: usize,
        bytes_max: usize,
    ) -> Option<(Vec<Stored>, bool)> {
        let walk = self.walks.get_mut(&target)?;
        let range = Range::of(target, walk.after.as_deref());
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut more = false;
        let scanned = env.view.scan(Space::HINTS, range.as_keys(), Direction::Forward, &mut |key, value| {
            if found.len() >= limit || bytes >= bytes_max.min(SLICE_BYTES) {
                more = true;
                return ControlFlow::Break(());
            }
            bytes += key.len() + value.len();
            found.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        });
        if scanned.is_err() {
            walk.give_up();
            return None;
        }
        if let Some((last, _)) = found.last() {
            walk.after = Some(last.clone());
        }
        Some((found, !more))
    }

    /// Decides about one hint. Returns how many bytes were sent.
    fn look_at(
        &mut self,
        env: &Environment<'_>,
        target: NodeId,
        delivers: bool,
        (name, value): &Stored,
        out: &mut Vec<Action>,
    ) -> usize {
        let bytes = (name.len() + value.len()) as u64;
        let Ok((_, key)) = read_hint_key(name) else {
            self.take_out(target, NOWHERE, name, bytes, out);
            return 0;
        };
        let place = place_of(env.catalog, &key);
        let Some(table) = env.catalog.and_then(|catalog| catalog.table(key.table())) else {
            // Nobody holds a table that is not there.
            self.take_out(target, place, name, bytes, out);
            return 0;
        };
        let hint = Hint::decode(value);
        let replicas = table.replicas_of(key.token());
        if !replicas.contains(&target) && !sabotaged!(ReplayToFormerReplica) {
            let others: Vec<NodeId> = replicas.iter().copied().filter(|node| *node != env.me.node).collect();
            self.take_out(target, place, name, bytes, out);
            // It is written as often as there are others, which takes as much of the slice as sending it.
            let spent = value.len() * others.len();
            for other in others {
                match &hint {
                    Ok(hint) => self.keep(env, other, &key, &hint.record, out),
                    Err(_) => self.shed(other, place, &key, &Bytes::new(), Batch::new(), out),
                }
            }
            self.counters.redirected += 1;
            return if sabotaged!(RedirectForFree) { 0 } else { spent };
        }
        let hint = match hint {
            Ok(hint) if !self.is_old(env, hint.oldest) || is_last_resort(env, place) => hint,
            old => {
                let change = old.map_or_else(|_| Bytes::new(), |hint| hint.record);
                self.let_go(env, target, (place, &key), (name, bytes), &change, out);
                return 0;
            }
        };
        let walk = self.walks.get_mut(&target).expect("it is the walk that looks");
        walk.leaves(place, hint.oldest);
        if !delivers {
            return 0;
        }
        let tag = self.next_tag;
        self.next_tag += 1;
        walk.sent(env.now.monotonic, self.retry_after, tag, key.clone(), place, bytes);
        if sabotaged!(DeleteHintBeforeAck) {
            walk.forget(&key);
            self.take_out(target, place, name, bytes, out);
        }
        let sent = key.as_bytes().len() + hint.record.len() + ENVELOPE_BYTES;
        out.push(send(env, target, tag, key, hint.record));
        sent
    }

    /// Sheds a hint that was kept.
    fn let_go(
        &mut self,
        env: &Environment<'_>,
        target: NodeId,
        (place, key): (Place, &RecordKey),
        (name, bytes): (&[u8], u64),
        change: &Bytes,
        out: &mut Vec<Action>,
    ) {
        let mut batch = Batch::new();
        batch.delete(Space::HINTS, name);
        self.index.remove(target, place, bytes);
        if stands_in(env.me.node, env.catalog, place) {
            // There is nothing here to compare.
            self.count_shed(target);
            return out.push(Action::Store { stripe: Stripe::HINTS, batch });
        }
        self.shed(target, place, key, change, batch, out);
    }

    /// Sends what was not acknowledged in time once more.
    fn send_again(&mut self, env: &Environment<'_>, out: &mut Vec<Action>) {
        let now = env.now.monotonic;
        let mut again = Vec::new();
        for (target, walk) in &mut self.walks {
            for overdue in walk.overdue(now) {
                match overdue {
                    Overdue::Again(tag, key) if env.peers.is_reachable(*target) => again.push((*target, tag, key)),
                    Overdue::Again(..) | Overdue::Gone => walk.give_up(),
                }
            }
        }
        for (target, tag, key) in again {
            let mut hint = None;
            let looked =
                env.view.get(Space::HINTS, &hint_key(target, &key), &mut |value| hint = Hint::decode(value).ok());
            match (looked, hint, self.walks.get_mut(&target)) {
                (Ok(_), Some(hint), Some(_)) => {
                    self.throttle.spend(now, key.as_bytes().len() + hint.record.len() + ENVELOPE_BYTES);
                    out.push(send(env, target, tag, key, hint.record));
                }
                (_, _, Some(walk)) => walk.forget(&key),
                _ => {}
            }
        }
    }

    /// A node has answered to a hint.
    pub(super) fn answered(
        &mut self,
        env: &Environment<'_>,
        from: NodeId,
        tag: u64,
        refused: Option<Refusal>,
        out: &mut Vec<Action>,
    ) {
        let Some(walk) = self.walks.get_mut(&from) else { return };
        let Some(Flying { key, place, bytes, grew, .. }) = walk.land(tag) else { return };
        let name = hint_key(from, &key);
        match refused {
            None if !grew || sabotaged!(DropGrownHint) => {
                self.take_out(from, place, &name, bytes, out);
                self.counters.delivered += 1;
                self.resting.remove(&from);
            }
            // The next walk takes it.
            None => walk.unfinished = true,
            // It was good when it was taken: what the replica holds is not. The others of the walk go on.
            Some(Refusal::Damaged) if is_last_resort(env, place) => walk.unfinished = true,
            // It will not get better; below a floor everybody knows what became of it.
            Some(Refusal::Damaged | Refusal::BelowFloor) => {
                let mut change = Bytes::new();
                let looked = env.view.get(Space::HINTS, &name, &mut |value| {
                    change = Hint::decode(value).map_or_else(|_| Bytes::new(), |hint| hint.record);
                });
                if looked.is_ok() {
                    self.let_go(env, from, (place, &key), (&name, bytes), &change, out);
                }
            }
            Some(
                Refusal::NotServing
                | Refusal::Fenced { .. }
                | Refusal::UnknownTable
                | Refusal::NotReplica
                | Refusal::Full
                | Refusal::Overloaded { .. }

                // It is there. But whoever gave it knows no storage that counts.
                | Refusal::Importing
                | Refusal::Early,
            ) => {
                walk.give_up();
            }
        }
        self.end(env);
    }

    /// Ends the walks that are over.
    pub(super) fn end(&mut self, env: &Environment<'_>) {
        let over: Vec<NodeId> =
            self.walks.iter().filter(|(_, walk)| walk.is_over()).map(|(target, _)| *target).collect();
        for target in over {
            let Some(walk) = self.walks.remove(&target) else { continue };
            if !walk.unfinished {
                self.index.renew(target, walk.left());
                continue;
            }
            if !env.peers.is_reachable(target) {
                // It is asked as soon as it is back.
                self.resting.remove(&target);
                continue;
            }
            let (failures, until) = self.resting.entry(target).or_default();
            *until = env.now.monotonic.saturating_add(Millis(self.idle.0 << (*failures).min(DOUBLINGS_MAX)));
            *failures += 1;
        }
    }
}

fn send(env: &Environment<'_>, to: NodeId, tag: u64, key: RecordKey, record: Bytes) -> Action {
    let epoch = env.catalog.map_or(0, |catalog| catalog.epoch_of_key(&key));
    // As any write: not before the mark of the clock and the epoch of the actor are durable.
    let release = Release::Durable(Stripe::META);
    Action::Send { to, message: Message::Write { tag, epoch, key, record }, release }
}

/// Whether this node and `target` both hold a place.
fn shares(env: &Environment<'_>, target: NodeId, place: Place) -> bool {
    let table = env.catalog.and_then(|catalog| catalog.table(place.table));
    table.filter(|table| place.partition.0 < table.layout.partitions()).is_some_and(|table| {
        let replicas = table.layout.replicas(place.partition);
        [env.me.node, target].iter().all(|node| replicas.contains(node))
    })
}
