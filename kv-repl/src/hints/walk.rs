//! One walk through all that is kept for one node, in the order of keys: hints are sent, and those that are too old, or for a
//! node that does not hold their record any more, are taken out.
//!
//! What was sent is kept until the other side has acknowledged it, and then removed if nothing was joined to it meanwhile. Of
//! what is under way only the names are in memory; a hint that is sent again is read again.

use std::collections::BTreeMap;

use kv_core::hlc::Stamp;
use kv_core::key::RecordKey;
use kv_core::time::Millis;

use crate::comparison::Place;

/// Most hints for one node that were sent and not acknowledged.
const FLYING_MAX: usize = 64;
/// How many times a hint is sent before the other side counts as gone.
const SENT_MAX: u32 = 5;

/// How far it has come.
#[derive(Debug)]
pub(super) struct Walk {
    /// Whether it sends anything, or only takes out what does not belong.
    pub(super) delivers: bool,
    /// The key of the hint that was looked at last.
    pub(super) after: Option<Vec<u8>>,
    /// Whether that was the last one.
    pub(super) at_end: bool,
    /// Whether something will be left that should not.
    pub(super) unfinished: bool,
    flying: BTreeMap<u64, Flying>,
    /// The oldest births of what it leaves behind.
    left: BTreeMap<Place, Stamp>,
}

/// A hint that was sent.
#[derive(Debug)]
pub(super) struct Flying {
    pub(super) key: RecordKey,
    pub(super) place: Place,
    /// What it takes up in the store.
    pub(super) bytes: u64,
    /// Something was joined to it since.
    pub(super) grew: bool,
    times: u32,
    again_at: Millis,
    wait: Millis,
}

/// What to do about a hint whose acknowledgement is overdue.
#[derive(Debug)]
pub(super) enum Overdue {
    /// Send it again.
    Again(u64, RecordKey),
    /// The other side has not answered for long.
    Gone,
}

impl Walk {
    pub(super) fn new(delivers: bool) -> Self {
        Self { delivers, after: None, at_end: false, unfinished: false, flying: BTreeMap::new(), left: BTreeMap::new() }
    }

    /// Whether it can look at more hints now.
    pub(super) fn can_go(&self) -> bool {
        !self.at_end && self.room() > 0
    }

    /// How many more hints may be sent.
    pub(super) fn room(&self) -> usize {
        FLYING_MAX - self.flying.len().min(FLYING_MAX)
    }

    /// Whether it has come to its end.
    pub(super) fn is_over(&self) -> bool {
        self.at_end && self.flying.is_empty()
    }

    /// The oldest births of what it leaves behind.
    pub(super) const fn left(&self) -> &BTreeMap<Place, Stamp> {
        &self.left
    }

    /// Something is kept that the walk has passed, or will not see.
    pub(super) fn leaves(&mut self, place: Place, oldest: Stamp) {
        self.left.entry(place).and_modify(|left| *left = oldest.min(*left)).or_insert(oldest);
    }

    /// A hint was sent.
    pub(super) fn sent(&mut self, now: Millis, wait: Millis, tag: u64, key: RecordKey, place: Place, bytes: u64) {
        let again_at = now.saturating_add(wait);
        self.flying.insert(tag, Flying { key, place, bytes, grew: false, times: 1, again_at, wait });
    }

    /// Something was joined to a hint, which takes up so many bytes now.
    pub(super) fn grew(&mut self, key: &RecordKey, bytes: u64) {
        for flying in self.flying.values_mut().filter(|flying| flying.key == *key) {
            (flying.grew, flying.bytes) = (true, bytes);
        }
    }

    /// A hint has gone another way.
    pub(super) fn forget(&mut self, key: &RecordKey) {
        self.flying.retain(|_, flying| flying.key != *key);
    }

    /// Takes what was sent under a tag.
    pub(super) fn land(&mut self, tag: u64) -> Option<Flying> {
        self.flying.remove(&tag)
    }

    /// Nothing that was sent is waited for any more, and nothing more is sent.
    pub(super) fn give_up(&mut self) {
        self.flying.clear();
        (self.at_end, self.unfinished) = (true, true);
    }

    /// When the next acknowledgement is overdue.
    pub(super) fn again_at(&self) -> Option<Millis> {
        self.flying.values().map(|flying| flying.again_at).min()
    }

    /// What is overdue, and what to do about it.
    pub(super) fn overdue(&mut self, now: Millis) -> Vec<Overdue> {
        // What was joined since would be acknowledged by the answer to what was sent before: the next walk sends it.
        let grown: Vec<u64> =
            self.flying.iter().filter(|(_, hint)| hint.again_at <= now && hint.grew).map(|(tag, _)| *tag).collect();
        for tag in grown {
            self.flying.remove(&tag);
            self.unfinished = true;
        }
        let mut overdue = Vec::new();
        for (tag, hint) in self.flying.iter_mut().filter(|(_, hint)| hint.again_at <= now) {
            if hint.times >= SENT_MAX {
                return vec![Overdue::Gone];
            }
            hint.times += 1;
            hint.wait = hint.wait.saturating_add(hint.wait);
            hint.again_at = now.saturating_add(hint.wait);
            overdue.push(Overdue::Again(*tag, hint.key.clone()));
        }
        overdue
    }
}
