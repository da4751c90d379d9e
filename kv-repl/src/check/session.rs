//! What a session is shown never goes back behind what it has seen and written, key by key, and what it writes comes after.
//!
//! Held against what was returned to the client, and not against what a token says.

use std::collections::BTreeMap;

use kv_core::VersionVector;
use kv_core::hlc::Stamp;
use kv_core::key::RecordKey;
use kv_core::record::{Rule, Version};
use kv_core::version::Actor;

use crate::request::{Read, Written};

/// Everything one session was shown.
#[derive(Clone, Default, Debug)]
struct Shown {
    /// Of records whose writes have names.
    writes: VersionVector,
    /// Of last-write-wins records: birth, tombstone, actor.
    last: Option<(Stamp, bool, Actor)>,
}

/// What a session had been shown of a key when a request on it began.
#[derive(Clone, Debug)]
pub struct RequestBegun {
    session: u64,
    key: RecordKey,
    shown: Shown,
}

/// All sessions of a run.
#[derive(Default, Debug)]
pub struct SessionLedger {
    shown: BTreeMap<(u64, RecordKey), Shown>,
    /// The writes of each key that replicas may have forgotten, and up to which birth.
    forgotten: BTreeMap<RecordKey, (VersionVector, Stamp)>,
    violations: Vec<String>,
    reads: u64,
}

fn last_of((birth, is_tombstone, actor): (Stamp, bool, Actor)) -> String {
    format!("{birth:?} by {actor:?}{}", if is_tombstone { ", a delete" } else { "" })
}

impl SessionLedger {
    /// A request of a session on a key begins.
    #[must_use]
    pub fn begins(&self, session: u64, key: &RecordKey) -> RequestBegun {
        let shown = self.shown.get(&(session, key.clone())).cloned().unwrap_or_default();
        RequestBegun { session, key: key.clone(), shown }
    }

    /// What a session had been shown of writes that have names, when a request began.
    #[must_use]
    pub const fn shown(begun: &RequestBegun) -> &VersionVector {
        &begun.shown.writes
    }

    /// Replicas may have forgotten these writes of a key, and whatever was deleted that was born at or below `settled`.
    pub fn forget(&mut self, key: &RecordKey, dots: &VersionVector, settled: Stamp) {
        let (forgotten, up_to) = self.forgotten.entry(key.clone()).or_default();
        *forgotten = forgotten.join(dots);
        *up_to = settled.max(*up_to);
    }

    /// A read has been answered.
    pub fn read(&mut self, begun: &RequestBegun, rule: Rule, read: &Read) {
        self.reads += 1;
        let RequestBegun { session, key, shown } = begun;
        let now = self.shown.entry((*session, key.clone())).or_default();
        if rule == Rule::LastWriteWins {
            let order = |(dot, version): &(_, Version)| {
                let dot: &kv_core::version::Dot = dot;
                (version.birth, version.payload == kv_core::record::Payload::Tombstone, dot.actor)
            };
            let held = read.record().and_then(|record| record.versions().first()).map(order);
            let settled = self.forgotten.get(key).map_or(Stamp::ZERO, |(_, settled)| *settled);
            let is_forgotten = held.is_none() && shown.last.is_some_and(|(birth, ..)| birth <= settled);
            if held < shown.last && !is_forgotten {
                let (held, seen) = (held.map(last_of), shown.last.map(last_of));
                self.violations.push(format!("session {session} is shown {held:?} of {key:?} after {seen:?}"));
            }
            now.last = now.last.max(held);
        } else {
            let nothing = VersionVector::new();
            let held = read.record().map_or(&nothing, |record| record.context());
            let nothing = VersionVector::new();
            let forgotten = self.forgotten.get(key).map_or(&nothing, |(dots, _)| dots);
            if !held.join(forgotten).covers(&shown.writes) {
                let seen = &shown.writes;
                self.violations.push(format!("session {session} is shown {held:?} of {key:?} after {seen:?}"));
            }
            now.writes = now.writes.join(held);
        }
    }

    /// A write has been acknowledged. `follows` says whether it has to come after what was shown: not when the client has said itself
    /// what it replaces, nor when it is a retry, which may find the first attempt.
    pub fn written(&mut self, begun: &RequestBegun, rule: Rule, follows: bool, is_tombstone: bool, written: &Written) {
        let RequestBegun { session, key, shown } = begun;
        let now = self.shown.entry((*session, key.clone())).or_default();
        if rule == Rule::LastWriteWins {
            let held = (written.birth, is_tombstone, written.dot.actor);
            if follows && shown.last.is_some_and(|(birth, ..)| birth >= written.birth) {
                let seen = shown.last.map(last_of);
                self.violations.push(format!("session {session} writes {} after {seen:?}", last_of(held)));
            }
            now.last = now.last.max(Some(held));
        } else {
            match written.context.open(key) {
                Err(error) => self.violations.push(format!("{key:?}: acknowledged with {error}")),
                Ok(context) if follows && !context.covers(&shown.writes) => {
                    let seen = &shown.writes;
                    self.violations.push(format!("session {session} writes {context:?} of {key:?} after {seen:?}"));
                }
                Ok(_) => {}
            }
            now.writes.insert(written.dot);
        }
    }

    /// What was wrong.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// How many reads in sessions were checked.
    #[must_use]
    pub const fn reads(&self) -> u64 {
        self.reads
    }
}
