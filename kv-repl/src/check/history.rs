//! Checks what clients saw: quorum reads and writes of one key, in the order of real time.
//!
//! - *Nothing acknowledged is lost.* A quorum read sees every quorum write that was acknowledged before the read began. It may
//!   be replaced only by a write whose writer had seen it (siblings), or by one with a later stamp (last write wins).
//! - *No read goes back in time.* A quorum read sees whatever an earlier quorum read saw (Kingsbury's and Brewer's usual
//!   complaint about background read repair).
//! - *Nothing comes back.* A version that an acknowledged write had replaced before a read began is not in the read.
//! - *Nothing is made up or counted twice.* Values are unique to their writes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kv_core::VersionVector;
use kv_core::hlc::Stamp;
use kv_core::key::RecordKey;
use kv_core::record::{OperationId, Payload, Record, Rule, Version};
use kv_core::version::Dot;

use super::tally::Tally;
use crate::request::{Read, Written};

/// Names a write of a [`History`].
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub struct WriteIndex(usize);

#[derive(Debug)]
struct Write {
    key: RecordKey,
    value: Option<Bytes>,
    operation: OperationId,
    /// What its client had seen, or `None` for a delete that names nothing and removes what its replica holds.
    seen: Option<VersionVector>,
    /// When a quorum had acknowledged, and under which name.
    acknowledged: Option<(u64, Dot)>,
    /// Whether the client asked for it again: then it may have been minted twice.
    retried: bool,
}

/// What is known of a key at one time.
#[derive(Clone, Default, Debug)]
struct Floor {
    /// Every dot that later quorum reads must know of.
    seen: VersionVector,
    /// The last write that later quorum reads must know of.
    last: Option<Version>,
}

/// What replicas may have forgotten of a key.
#[derive(Clone, Default, Debug)]
struct Forgotten {
    dots: VersionVector,
    /// Everything born at or below it, if it was deleted.
    settled: Stamp,
}

/// What clients did and saw, in the order in which it began and ended.
#[derive(Default, Debug)]
pub struct History {
    writes: Vec<Write>,
    floors: BTreeMap<RecordKey, Floor>,
    values: BTreeMap<Bytes, RecordKey>,
    forgotten: BTreeMap<RecordKey, Forgotten>,
    tally: Tally,
}

/// A read under way, and what it must at least see.
#[derive(Debug)]
pub struct ReadBegun {
    key: RecordKey,
    at: u64,
    floor: Floor,
}

impl ReadBegun {
    /// Of which key.
    #[must_use]
    pub const fn key(&self) -> &RecordKey {
        &self.key
    }

    /// The writes that it must know of.
    #[must_use]
    pub const fn seen(&self) -> &VersionVector {
        &self.floor.seen
    }
}

impl History {
    /// A write is handed to a node. `value` is `None` for a delete, and unique among values otherwise.
    pub fn write_begins(
        &mut self,
        key: &RecordKey,
        value: Option<Bytes>,
        operation: OperationId,
        seen: Option<VersionVector>,
    ) -> WriteIndex {
        if let Some(value) = &value {
            self.values.insert(value.clone(), key.clone());
        }
        self.writes.push(Write { key: key.clone(), value, operation, seen, acknowledged: None, retried: false });
        WriteIndex(self.writes.len() - 1)
    }

    /// The client asks for a write again, because it does not know what became of it.
    pub fn write_retried(&mut self, write: WriteIndex) {
        self.writes[write.0].retried = true;
    }

    /// A write was acknowledged by a quorum at time `now`.
    pub fn write_acknowledged(&mut self, write: WriteIndex, now: u64, rule: Rule, written: &Written) {
        let write = &mut self.writes[write.0];
        if write.acknowledged.is_some() {
            return;
        }
        write.acknowledged = Some((now, written.dot));
        self.tally.acknowledged += 1;
        let context = match written.context.open(&write.key) {
            Ok(context) => context,
            Err(error) => return self.tally.violations.push(format!("{:?}: acknowledged with {error}", write.key)),
        };
        let floor = self.floors.entry(write.key.clone()).or_default();
        match rule {
            Rule::Siblings | Rule::Crdt(_) => floor.seen = floor.seen.join(&context),
            Rule::LastWriteWins => {
                let payload = write.value.clone().map_or(Payload::Tombstone, Payload::Value);
                let expiry = kv_core::Expiry::NEVER;
                let version = Version { birth: written.birth, payload, expiry, operation: Some(write.operation) };
                floor.last = floor.last.take().max(Some(version));
            }
        }
    }

    /// A quorum read is handed to a node at time `now`.
    #[must_use]
    pub fn read_begins(&self, key: &RecordKey, now: u64) -> ReadBegun {
        ReadBegun { key: key.clone(), at: now, floor: self.floors.get(key).cloned().unwrap_or_default() }
    }

    /// Replicas may have forgotten these writes of a key, and whatever was deleted that was born at or below `settled`. That nobody has lost
    /// a value that nobody had deleted is checked all the same.
    pub fn forget(&mut self, key: &RecordKey, dots: &VersionVector, settled: Stamp) {
        let forgotten = self.forgotten.entry(key.clone()).or_default();
        forgotten.dots = forgotten.dots.join(dots);
        forgotten.settled = forgotten.settled.max(settled);
    }

    fn forgotten(&self, key: &RecordKey) -> Forgotten {
        self.forgotten.get(key).cloned().unwrap_or_default()
    }

    /// A quorum read has ended.
    pub fn read_ends(&mut self, begun: &ReadBegun, rule: Rule, read: &Read) {
        self.tally.reads += 1;
        let empty = Record::empty(rule);
        let record = read.record().unwrap_or(&empty);
        let mut found = Vec::new();
        match rule {
            Rule::Siblings => self.check_siblings(begun, record, &mut found),
            Rule::Crdt(_) => check_context(begun, record, &VersionVector::new(), &mut found),
            Rule::LastWriteWins => self.check_last_write(begun, record, &mut found),
        }
        let values = read.values();
        if values.iter().collect::<BTreeSet<_>>().len() != values.len() {
            found.push(format!("counts a value twice: {values:?}"));
        }
        for (dot, version) in record.versions() {
            let write = self.writes.iter().find(|write| Some(write.operation) == version.operation);
            if let Some((_, minted)) = write.filter(|write| !write.retried).and_then(|write| write.acknowledged)
                && minted != *dot
            {
                found.push(format!("holds {dot:?}, a second {minted:?}, which nobody asked for again"));
            }
        }
        for value in values {
            if self.values.get(value) != Some(&begun.key) {
                found.push(format!("holds a value that nobody wrote there: {value:?}"));
            }
        }
        let floor = self.floors.entry(begun.key.clone()).or_default();
        floor.seen = floor.seen.join(record.context());
        if rule == Rule::LastWriteWins {
            floor.last = floor.last.take().max(record.versions().first().map(|(_, version)| version.clone()));
        }
        self.tally
            .violations
            .extend(found.into_iter().map(|what| format!("a read of {:?} at {} {what}", begun.key, begun.at)));
    }

    /// A scan at quorum did not show a key that it came past: as if it were not there.
    pub fn scan_missed(&mut self, begun: &ReadBegun, rule: Rule) {
        let of_key = || self.writes.iter().filter(|write| write.key == begun.key);
        let lost = of_key().find(|write| {
            let Some((ended, dot)) = write.acknowledged.filter(|_| write.value.is_some()) else { return false };
            let replaced = match rule {
                Rule::LastWriteWins => of_key().any(|other| other.value.is_none()),
                _ => of_key().any(|other| other.seen.as_ref().is_none_or(|seen| seen.contains(dot))),
            };
            ended < begun.at && !replaced
        });
        if let Some(lost) = lost {
            let what = format!("lacks {:?}, which was acknowledged, and which no writer had seen", lost.operation);
            self.tally.violations.push(format!("a scan at {} comes past {:?} and {what}", begun.at, begun.key));
        }
        self.tally.reads += 1;
    }

    fn check_siblings(&self, begun: &ReadBegun, record: &Record, found: &mut Vec<String>) {
        let forgotten = self.forgotten(&begun.key).dots;
        check_context(begun, record, &forgotten, found);
        let of_key = || self.writes.iter().filter(|write| write.key == begun.key);
        let acknowledged = of_key().filter_map(|write| Some((write.acknowledged?, write.value.is_none())));
        for ((ended, dot), is_delete) in acknowledged {
            let present =
                record.versions().iter().any(|(held, _)| *held == dot) || (is_delete && forgotten.contains(dot));
            let replaced = || of_key().any(|other| other.seen.as_ref().is_none_or(|seen| seen.contains(dot)));
            if ended < begun.at && !present && !replaced() {
                found.push(format!("lacks {dot:?}, which was acknowledged, and which no writer had seen"));
            }
        }
        for (dot, _) in record.versions() {
            let buried = of_key().find(|write| {
                write.acknowledged.is_some_and(|(ended, own)| ended < begun.at && own != *dot)
                    && write.seen.as_ref().is_some_and(|seen| seen.contains(*dot))
            });
            if let Some(by) = buried {
                found.push(format!("brings back {dot:?}, which {:?} had replaced", by.operation));
            }
        }
    }

    fn check_last_write(&self, begun: &ReadBegun, record: &Record, found: &mut Vec<String>) {
        let birth = |version: Option<&Version>| version.map(|version| version.birth);
        let seen = record.versions().first().map(|(_, version)| version);
        // A delete may be forgotten, a value only if there was a later delete.
        let of_key = || self.writes.iter().filter(|write| write.key == begun.key);
        let is_forgotten = |last: &Version| {
            last.birth <= self.forgotten(&begun.key).settled
                && seen.is_none()
                && (last.payload == Payload::Tombstone || of_key().any(|write| write.value.is_none()))
        };
        let last = begun.floor.last.as_ref().filter(|last| !is_forgotten(last));
        if birth(seen) < birth(last) {
            found.push(format!("sees {seen:?}, older than what was seen before: {:?}", begun.floor.last));
        }
    }

    /// What was looked at, and what was wrong.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }
}

fn check_context(begun: &ReadBegun, record: &Record, forgotten: &VersionVector, found: &mut Vec<String>) {
    if !record.context().join(forgotten).covers(&begun.floor.seen) {
        let (seen, floor) = (record.context(), &begun.floor.seen);
        found.push(format!("has seen {seen:?}, less than was seen before: {floor:?}"));
    }
}

#[cfg(test)]
mod tests;
