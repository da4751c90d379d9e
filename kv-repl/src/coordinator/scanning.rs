//! One page that is under way: where it has come to, whom it has asked, and what has come back.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::hash::Token;
use kv_core::key::RecordKey;
use kv_core::record::Record;
use kv_core::time::Millis;
use kv_ring::PartitionId;

use super::retry::Patience;
use super::{in_turn, reachable, requirement};
use crate::catalog::TableSchema;
use crate::identity::ClusterId;
use crate::machine::{Action, Environment, Origin, Outcome, Release};
use crate::quorum::requirement::Requirement;
use crate::request::{Read, ReadError};
use crate::scan::listing::{Listing, Merged, merge};
use crate::scan::position::{Position, just_after, place_of};
use crate::scan::{Entry, Page, Scan, ScanError};

#[derive(Debug)]
pub(super) struct Scanning {
    pub(super) origin: Origin,
    pub(super) deadline: Millis,
    pub(super) scan: Scan,
    /// Where to go on from; nothing at the end of the range.
    pub(super) at: Option<Bytes>,
    pub(super) entries: Vec<Entry>,
    pub(super) bytes: usize,
    pub(super) looked_at: usize,
    pub(super) differed: usize,
    pub(super) part: Option<Part>,
}

/// Partitions that one set of replicas holds, or what of them is left.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) epoch: u64,
    pub(super) from: Bytes,
    pub(super) until: Option<Bytes>,
    /// In the order in which they are asked.
    pub(super) replicas: Vec<NodeId>,
    pub(super) requirement: Requirement,
    pub(super) listings: BTreeMap<NodeId, Listing>,
    /// Those that have refused since everybody was asked last: asked again at once they would refuse again, this node itself for
    /// ever within one turn.
    pub(super) refused: BTreeSet<NodeId>,
    pub(super) patience: Patience,
    pub(super) found: Option<FoundKeys>,
}

/// The keys that were listed.
#[derive(Debug)]
pub(super) struct FoundKeys {
    pub(super) keys: Vec<(RecordKey, Found)>,
    /// Where to go on from after them.
    pub(super) next: Option<Bytes>,
    pub(super) waits_for: usize,
}

#[derive(Debug)]
pub(super) enum Found {
    /// What a read gives, and how long its record is.
    There(Read, usize),
    NotThere,
    /// It is being read by itself.
    Reading,
    Failed(ReadError),
}

impl Part {
    pub(super) fn begin(
        env: &Environment<'_>,
        scanning: &Scanning,
        from: Bytes,
        tag: u64,
        retry_after: Millis,
    ) -> Result<Self, ScanError> {
        let position = &scanning.scan.position;
        let table = table_of(env, position).ok_or(ScanError::UnknownTable)?;
        let (_, token) = place_of(&from).ok_or(ScanError::UnknownTable)?;
        let (replicas, end) = run_of(table, token);
        let until = match (end, &position.until) {
            (Some(end), Some(until)) => Some(end.min(until.clone())),
            (end, until) => end.or_else(|| until.clone()),
        };
        let requirement = requirement(env, table, replicas, scanning.scan.consistency)?;
        let (reachable, required) = (requirement.progress(|node| reachable(env, node)), requirement.required());
        if reachable < required {
            return Err(ScanError::Unavailable { reachable, required });
        }
        Ok(Self {
            epoch: env.catalog.map_or(0, |catalog| catalog.epoch_of(replicas)),
            from,
            until,
            replicas: in_turn(env, table, replicas, tag, |_| false).into_vec(),
            requirement,
            listings: BTreeMap::new(),
            refused: BTreeSet::new(),
            patience: Patience::new(env.now.monotonic, retry_after, scanning.deadline),
            found: None,
        })
    }

    /// Whether its lists are of storages that have been replaced meanwhile: then it begins anew (rule P13).
    pub(super) fn is_stale(&self, env: &Environment<'_>) -> bool {
        self.found.is_none() && env.catalog.is_some_and(|catalog| catalog.epoch_of(&self.replicas) != self.epoch)
    }

    /// Whether a list is of this part.
    pub(super) fn admits(&self, listing: &Listing) -> bool {
        let holds = |key: &RecordKey| {
            key.as_bytes() >= &self.from && self.until.as_ref().is_none_or(|until| key.as_bytes() < until)
        };
        let ordered = listing.entries.windows(2).all(|pair| pair[0].0 < pair[1].0);
        // A list that does not lead on would be asked for for ever.
        let leads_on =
            listing.end.as_ref().is_none_or(|end| listing.entries.last().is_some_and(|(last, _)| last == end));
        ordered && leads_on && listing.entries.iter().all(|(key, _)| holds(key))
    }

    /// What the lists come to, as far as there is room for it.
    pub(super) fn find(&self, env: &Environment<'_>, scanning: &mut Scanning) -> FoundKeys {
        let Merged { keys: listed, end } = merge(&self.listings.values().collect::<Vec<_>>());
        let rule = table_of(env, &scanning.scan.position).map(|table| table.options.rule);
        let more_follows = self.until != scanning.scan.position.until;
        let after_all = end.as_ref().map(just_after).or_else(|| self.until.clone().filter(|_| more_follows));
        let room = scanning.scan.entries_max - scanning.entries.len();
        let mut found = FoundKeys { keys: Vec::new(), next: after_all.clone(), waits_for: 0 };
        let mut taken = 0;
        for (key, record) in listed {
            if taken == room || scanning.looked_at >= scanning.scan.looks_max() {
                found.next = found.keys.last().map(|(last, _)| just_after(last));
                if sabotaged!(SkipThePageEdge) {
                    found.next = after_all;
                }
                break;
            }
            scanning.looked_at += 1;
            let record = record.and_then(|bytes| Some((Record::decode(&bytes).ok()?, bytes.len())));
            let what = match record {
                None => {
                    found.waits_for += 1;
                    scanning.differed += 1;
                    Found::Reading
                }
                Some((record, bytes)) => {
                    let read = Read::new(&key, Some(record), env.now.wall);
                    let read = match rule {
                        Some(rule) => read.under(rule),
                        None => read,
                    };
                    if read.is_absent() { Found::NotThere } else { Found::There(read, bytes) }
                }
            };
            taken += usize::from(!matches!(what, Found::NotThere));
            found.keys.push((key, what));
        }
        found
    }
}

impl Scanning {
    pub(super) fn new(origin: Origin, deadline: Millis, scan: Scan) -> Self {
        let at = Some(scan.position.from.clone()).filter(|_| !scan.position.is_empty());
        let (entries, part) = (Vec::new(), None);
        Self { origin, deadline, scan, at, entries, bytes: 0, looked_at: 0, differed: 0, part }
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= self.scan.entries_max
            || self.bytes >= self.scan.bytes_max
            || self.looked_at >= self.scan.looks_max()
    }

    /// Takes keys into the page, in their order, up to the first one that does not fit or could not be read.
    pub(super) fn collect(&mut self, found: FoundKeys) -> Result<(), ReadError> {
        for (key, what) in found.keys {
            match what {
                Found::NotThere => {}
                Found::Failed(_) | Found::Reading => {
                    self.at = Some(key.as_bytes().clone());
                    return match what {
                        Found::Failed(error) => Err(error),
                        _ => unreachable!("nothing is waited for"),
                    };
                }
                Found::There(read, record_bytes) => {
                    let bytes = key.as_bytes().len() + record_bytes;
                    if !self.entries.is_empty() && self.bytes + bytes > self.scan.bytes_max {
                        self.at = Some(key.as_bytes().clone());
                        // Full, whatever small thing might still fit.
                        self.bytes = self.scan.bytes_max;
                        return Ok(());
                    }
                    self.bytes += bytes;
                    self.entries.push(Entry { key: key.to_key(), read });
                }
            }
        }
        self.at = found.next;
        Ok(())
    }

    pub(super) fn answer(self, env: &Environment<'_>) -> Action {
        let position = |from| Position { from, cluster: None, ..self.scan.position.clone() };
        let cursor = self.at.map(|from| position(from).encode(cluster_of(env)));
        reply(self.origin, Ok(Page { entries: self.entries, cursor, differed: self.differed }))
    }

    /// What there is so far, or the error if it has come nowhere.
    pub(super) fn fail(self, env: &Environment<'_>, error: ScanError) -> Action {
        if self.at.as_ref() == Some(&self.scan.position.from) {
            return reply(self.origin, Err(error));
        }
        self.answer(env)
    }
}

/// The replicas of the partition at `token`, and where the partitions end that the same nodes hold, one after the other; nothing at
/// the end of the table.
fn run_of(table: &TableSchema, token: Token) -> (&[NodeId], Option<Bytes>) {
    let layout = &table.layout;
    let sorted = |partition| {
        let mut replicas = layout.replicas(partition).to_vec();
        replicas.sort_unstable();
        replicas
    };
    let first = layout.partition_of(token);
    let nodes = sorted(first);
    let next = (first.0 + 1..layout.partitions()).map(PartitionId).find(|next| sorted(*next) != nodes);
    let end =
        next.map(|next| Bytes::copy_from_slice(&RecordKey::range_start(table.id, *layout.range_of(next).start())));
    (layout.replicas(first), end)
}

pub(super) fn table_of<'a>(env: &Environment<'a>, position: &Position) -> Option<&'a TableSchema> {
    Some(env.catalog?.table(position.table)?)
}

pub(super) fn cluster_of(env: &Environment<'_>) -> ClusterId {
    env.catalog.map_or(ClusterId::NONE, |catalog| catalog.founding().cluster)
}

pub(super) const fn reply(origin: Origin, outcome: Result<Page, ScanError>) -> Action {
    Action::Reply { origin, outcome: Outcome::Scan(outcome), release: Release::Now }
}
