//! Lists what this replica holds of a range of keys, for whoever coordinates a scan.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use kv_core::hash::Token;
use kv_core::key::RecordKey;
use kv_core::store::{Direction, KeyRange, Space, prefix_end};
use kv_ring::PartitionId;

use crate::comparison::Place;
use crate::digest::digest;
use crate::machine::Environment;
use crate::message::Refusal;
use crate::scan::listing::{Listed, Listing};
use crate::scan::position::place_of;
use crate::status::Standing;

/// Most keys in one list.
const KEYS_MAX: usize = 1024;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) epoch: u64,
    pub(crate) from: Bytes,
    pub(crate) until: Option<Bytes>,
    pub(crate) keys_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) digests: bool,
}

/// The first keys of the range, at least one if there is any, in at most about so many bytes. All of the range has to lie in
/// partitions that this node holds.
pub(crate) fn list(env: &Environment<'_>, asked: &Asked) -> Result<Listing, Refusal> {
    check(env, asked)?;
    let table_end = prefix_end(&asked.from[..4]);
    let end = asked.until.as_deref().or(table_end.as_deref());
    let range =
        KeyRange { start: Bound::Included(&asked.from[..]), end: end.map_or(Bound::Unbounded, Bound::Excluded) };
    let keys_max = asked.keys_max.clamp(1, KEYS_MAX);
    let mut listing = Listing { entries: Vec::new(), end: None };
    let mut bytes = 0;
    env.view
        .scan(Space::DATA, range, Direction::Forward, &mut |key, record| {
            let added = key.len() + if asked.digests { size_of::<u128>() } else { record.len() };
            let is_full = listing.entries.len() == keys_max || bytes + added > asked.bytes_max;
            if is_full && !listing.entries.is_empty() {
                listing.end = listing.entries.last().map(|(key, _)| key.clone());
                return ControlFlow::Break(());
            }
            // What the store holds under something else than a key is nobody's.
            if let Ok(key) = RecordKey::from_bytes(Bytes::copy_from_slice(key)) {
                bytes += added;
                let listed = match asked.digests {
                    true => Listed::Digest(digest(Some(record))),
                    false => Listed::Record(Bytes::copy_from_slice(record)),
                };
                listing.entries.push((key, listed));
            }
            ControlFlow::Continue(())
        })
        .map_err(|_| Refusal::Damaged)?;
    Ok(listing)
}

fn check(env: &Environment<'_>, asked: &Asked) -> Result<(), Refusal> {
    let catalog = env.catalog.filter(|_| env.standing == Standing::Serving).ok_or(Refusal::NotServing)?;
    let (table, first) = place_of(&asked.from).ok_or(Refusal::UnknownTable)?;
    let schema = catalog.table(table).filter(|table| table.options.is_replicated_durably());
    let layout = &schema.ok_or(Refusal::UnknownTable)?.layout;
    let last = match &asked.until {
        None => Token(u64::MAX),
        Some(until) => match place_of(until) {
            Some((of, token)) if of == table && until.len() > RecordKey::range_start(table, token).len() => token,
            Some((of, token)) if of == table => Token(token.0.saturating_sub(1)),
            _ => return Err(Refusal::UnknownTable),
        },
    };
    let partitions = layout.partition_of(first).0..=layout.partition_of(last).0;
    for partition in partitions.map(PartitionId) {
        let replicas = layout.replicas(partition);
        let epoch = catalog.epoch_of(replicas);
        if asked.epoch != epoch {
            return Err(Refusal::Fenced { epoch });
        }
        if !replicas.contains(&env.me.node) {
            return Err(Refusal::NotReplica);
        }
        // What a new storage lacks is not "nothing there".
        if env.imports.lacks(Place { table, partition }) {
            return Err(Refusal::Importing);
        }
    }
    Ok(())
}
