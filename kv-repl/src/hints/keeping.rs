//! What is kept, what is taken back, and what is shed.

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::hlc::Stamp;
use kv_core::key::RecordKey;
use kv_core::record::Record;
use kv_core::store::{Batch, Space};
use kv_core::time::Millis;

use super::format::{Hint, hint_key};
use super::{Hints, place_of};
use crate::comparison::Place;
use crate::machine::{Action, Environment, Notice, Stripe};

/// Something that was not kept, or not any longer, for whoever checks that it is owed.
#[cfg(any(test, feature = "sim"))]
#[derive(Clone, Debug)]
pub(crate) struct Shed {
    pub(crate) target: NodeId,
    pub(crate) place: Place,
    pub(crate) key: RecordKey,
    pub(crate) change: Bytes,
}

impl Hints {
    /// A replica has missed a change to a record.
    pub(crate) fn missed(
        &mut self,
        env: &Environment<'_>,
        target: NodeId,
        key: &RecordKey,
        change: &Bytes,
        out: &mut Vec<Action>,
    ) {
        let table = env.catalog.and_then(|catalog| catalog.table(key.table()));
        if self.bounds.enabled && table.is_some_and(|table| table.options.is_replicated_durably()) {
            self.keep(env, target, key, change, out);
        }
    }

    /// Keeps a change, or sheds it.
    pub(super) fn keep(
        &mut self,
        env: &Environment<'_>,
        target: NodeId,
        key: &RecordKey,
        change: &Bytes,
        out: &mut Vec<Action>,
    ) {
        let place = place_of(env.catalog, key);
        if !self.trusts(env, out) {
            return self.shed(target, place, key, change, Batch::new(), out);
        }
        match self.kept(env, target, place, key, change) {
            Some(Kept::Already) => {}
            Some(Kept::As(hint)) => self.put(target, place, key, &hint, out),
            None => self.shed(target, place, key, change, Batch::new(), out),
        }
    }

    /// Stores a hint.
    pub(super) fn put(
        &mut self,
        target: NodeId,
        place: Place,
        key: &RecordKey,
        NewHint { value, replaced, oldest }: &NewHint,
        out: &mut Vec<Action>,
    ) {
        let name = hint_key(target, key);
        let bytes = (name.len() + value.len()) as u64;
        let mut batch = Batch::new();
        batch.put(Space::HINTS, &name, value);
        out.push(Action::Store { stripe: Stripe::HINTS, batch });
        self.index.put(target, place, bytes, *replaced, *oldest);
        if let Some(walk) = self.walks.get_mut(&target) {
            walk.leaves(place, *oldest);
            walk.grew(key, bytes);
        }
        self.counters.kept += 1;
    }

    /// What the hint is with a change, if it can be kept.
    pub(super) fn kept(
        &self,
        env: &Environment<'_>,
        target: NodeId,
        place: Place,
        key: &RecordKey,
        change: &Bytes,
    ) -> Option<Kept> {
        // Where all is going to be compared, a hint spares nothing, and takes the room of one that does.
        let is_owed = self.owed.contains(target, place) && !env.peers.is_reachable(target);
        if !self.has_space || is_owed || !self.index.has_room(self.bounds.bytes_max, target, 0) {
            return None;
        }
        let record = Record::decode(change).ok()?;
        let settled = env.floors.of(place).level.settled;
        let mut hint = Hint::of(change.clone(), &record, settled);
        if hint.oldest <= settled {
            // A client has asked again for what has long been everywhere.
            return Some(Kept::Already);
        }
        if self.is_old(env, hint.oldest) {
            return None;
        }
        let name = hint_key(target, key);
        let mut stored = None;
        env.view.get(Space::HINTS, &name, &mut |bytes| stored = Some(bytes.to_vec())).ok()?;
        if let Some(stored) = &stored {
            let before = Hint::decode(stored).ok()?;
            let joined = Record::decode(&before.record).ok()?.join(&record).ok()?;
            let oldest = if sabotaged!(ForgetBirth) { hint.oldest } else { before.oldest.min(hint.oldest) };
            hint = Hint { oldest, record: joined.to_bytes() };
            if hint == before {
                return Some(Kept::Already);
            }
        }
        let value = hint.encode();
        let replaced = stored.map(|stored| (name.len() + stored.len()) as u64);
        let added = ((name.len() + value.len()) as u64).saturating_sub(replaced.unwrap_or(0));
        let fits = hint.record.len() as u64 <= self.record_bytes_max
            && self.index.has_room(self.bounds.bytes_max, target, added);
        fits.then_some(Kept::As(NewHint { value, replaced, oldest: hint.oldest }))
    }

    /// A replica has acknowledged a change that counted as missed.
    pub(crate) fn caught(
        &mut self,
        env: &Environment<'_>,
        target: NodeId,
        key: &RecordKey,
        change: &Bytes,
        out: &mut Vec<Action>,
    ) {
        if self.in_doubt || !self.index.holds(target) {
            return;
        }
        let name = hint_key(target, key);
        let mut bytes = None;
        let looked = env.view.get(Space::HINTS, &name, &mut |value| {
            let is_all = Hint::decode(value).is_ok_and(|hint| hint.record == *change);
            bytes = is_all.then_some((name.len() + value.len()) as u64);
        });
        if let (Ok(_), Some(bytes)) = (looked, bytes) {
            self.take_out(target, place_of(env.catalog, key), &name, bytes, out);
            if let Some(walk) = self.walks.get_mut(&target) {
                walk.forget(key);
            }
            // It may have been the last that the walk waited for.
            if !sabotaged!(LeaveWalksOpen) {
                self.end(env);
            }
        }
    }

    /// Removes a hint.
    pub(super) fn take_out(&mut self, target: NodeId, place: Place, name: &[u8], bytes: u64, out: &mut Vec<Action>) {
        let mut batch = Batch::new();
        batch.delete(Space::HINTS, name);
        self.index.remove(target, place, bytes);
        out.push(Action::Store { stripe: Stripe::HINTS, batch });
    }

    /// Something that `target` has missed is not kept: the place owes a comparison, from the batch on in which it goes.
    pub(super) fn shed(
        &mut self,
        target: NodeId,
        place: Place,
        key: &RecordKey,
        change: &Bytes,
        mut batch: Batch,
        out: &mut Vec<Action>,
    ) {
        let ticket = self.owed.owe(target, place, &mut batch);
        if sabotaged!(FailWhenHintsAreFull) {
            // No store has such a space.
            batch.put(Space(Space::RESERVED - 1), b"", b"");
        }
        if !batch.is_empty() {
            out.push(Action::Store { stripe: Stripe::HINTS, batch });
        }
        out.push(Action::Notify(Notice::Owed { peer: target, place, ticket }));
        self.count_shed(target);
        self.tell(target, place, key, change);
    }

    pub(super) fn count_shed(&mut self, target: NodeId) {
        self.counters.shed += 1;
        *self.shed.entry(target).or_default() += 1;
    }

    #[cfg(any(test, feature = "sim"))]
    fn tell(&mut self, target: NodeId, place: Place, key: &RecordKey, change: &Bytes) {
        if let Some(told) = &mut self.told {
            told.push(Shed { target, place, key: key.clone(), change: change.clone() });
        }
    }

    #[cfg(not(any(test, feature = "sim")))]
    #[expect(clippy::unused_self, reason = "nobody checks")]
    const fn tell(&self, _: NodeId, _: Place, _: &RecordKey, _: &Bytes) {}

    /// What was shed since the last call; nothing the first time, from which on it is remembered.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn take_shed(&mut self) -> Vec<Shed> {
        self.told.replace(Vec::new()).unwrap_or_default()
    }

    /// Whether something of that birth is kept no longer.
    pub(super) fn is_old(&self, env: &Environment<'_>, birth: Stamp) -> bool {
        let kept_until: Millis = birth.wall().saturating_add(self.bounds.age_max);
        kept_until < env.now.wall && !sabotaged!(IgnoreHintBounds)
    }
}

pub(super) enum Kept {
    /// It holds all of it already.
    Already,
    /// As this.
    As(NewHint),
}

/// A hint to store, and how many bytes it takes the place of.
pub(super) struct NewHint {
    value: Vec<u8>,
    replaced: Option<u64>,
    oldest: Stamp,
}
