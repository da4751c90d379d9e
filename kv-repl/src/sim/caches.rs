//! Clients of a cache table that is too small for what they write, each with one operation under way.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_core::evict::PolicyKind;
use kv_core::key::{Key, RecordKey};
use kv_core::record::{OperationId, Payload};
use kv_core::time::Millis;

use super::clients::{Clients, UnderWay, any_up};
use super::options::Options;
use super::world::{Answer, World};
use crate::catalog::TableSchema;
use crate::check::{CacheHistory, CacheReadBegun};
use crate::quorum::Consistency;
use crate::request::{Get, Put};
use crate::table_options::TableOptions;

/// The table's name.
pub(super) const TABLE: &str = "cache";

const TTL_MAX_MS: u64 = 5_000;
/// How long a write may take before it is given up, and what clocks may differ.
const SLACK_MS: u64 = 3_000 + 1_000;
const KEYS: usize = 30;
/// Some eight of them fill the memory.
const VALUE_BYTES: usize = 7_000;

/// The table's options: the policy is drawn from the seed.
pub(super) fn table(options: &Options, replicas: usize) -> TableOptions {
    let policies = PolicyKind::ALL;
    let policy = policies[usize::try_from(options.seed % policies.len() as u64).expect("less than a length")];
    let ttl_max = Duration::from_millis(TTL_MAX_MS);
    TableOptions::cache(policy).memory_bytes(64 << 10).ttl_max(ttl_max).replicas(replicas)
}

/// All of these clients of a run.
pub(super) struct CacheClients {
    keys: Vec<RecordKey>,
    clients: Vec<UnderWay<Doing>>,
    next_value: u64,
    pub(super) history: CacheHistory,
    pub(super) operations: u64,
    pub(super) failures: u64,
    violations: Vec<String>,
}

pub(super) enum Doing {
    Reading(Option<CacheReadBegun>),
    Writing,
    Deleting(RecordKey),
}

impl CacheClients {
    pub(super) fn new(options: &Options, table: &Arc<TableSchema>) -> Self {
        let key = |key| RecordKey::new(table.id, &Key::from(format!("cached {key}"))).expect("a short key");
        Self {
            keys: (0..KEYS).map(key).collect(),
            clients: (0..(options.clients / 3).max(1)).map(|_| None).collect(),
            next_value: 0,
            history: CacheHistory::new((TTL_MAX_MS + SLACK_MS) * 1_000),
            operations: 0,
            failures: 0,
            violations: Vec::new(),
        }
    }

    pub(super) fn violations(&self) -> impl Iterator<Item = String> {
        self.history.tally().violations.iter().chain(&self.violations).cloned()
    }

    /// Nobody holds more than he may.
    fn check_memory(&mut self, world: &World) {
        for status in world.nodes().into_iter().filter_map(|node| world.status(node)) {
            for cache in status.caches.iter().filter(|cache| cache.bytes > cache.bytes_max) {
                self.violations.push(format!("{} holds too much: {cache:?}", status.node));
            }
        }
    }
}

impl Clients for CacheClients {
    type Doing = Doing;

    fn clients(&self) -> usize {
        self.clients.len()
    }

    fn under_way(&mut self, client: usize) -> &mut UnderWay<Doing> {
        &mut self.clients[client]
    }

    fn begin(&mut self, world: &mut World, _client: usize) -> UnderWay<Doing> {
        self.check_memory(world);
        let node = any_up(world)?;
        self.operations += 1;
        // Some are used more than others.
        let among = if world.random.bool() { KEYS / 10 } else { KEYS };
        let key = self.keys[world.random.usize(..among)].clone();
        let operation = OperationId(world.random.u128(..));
        let (context, consistency) = (None, Consistency::Quorum);
        Some(match world.random.u32(0..10) {
            0..=4 => {
                let one = world.random.u32(0..10) == 0;
                let begun = (!one).then(|| self.history.read_begins(&key));
                let consistency = if one { Consistency::One } else { Consistency::Quorum };
                (world.get(node, Get { key, consistency, floor: None }), Doing::Reading(begun))
            }
            5..=8 => {
                self.next_value += 1;
                let mut value = format!("cached value {}", self.next_value).into_bytes();
                value.resize(world.random.usize(value.len()..VALUE_BYTES), b'.');
                let value = Bytes::from(value);
                self.history.write_begins(&key, value.clone(), world.now_us());
                let ttl = world.random.bool().then(|| Millis(world.random.u64(500..=TTL_MAX_MS)));
                let put =
                    Put { key, payload: Payload::Value(value), context, ttl, operation, consistency, strict: false };
                (world.put(node, put), Doing::Writing)
            }
            _ => {
                let deleted = key.clone();
                let put =
                    Put { key, payload: Payload::Tombstone, context, ttl: None, operation, consistency, strict: false };
                (world.put(node, put), Doing::Deleting(deleted))
            }
        })
    }

    fn finished(&mut self, world: &World, _client: usize, doing: Doing, answer: &Answer) {
        match (doing, answer) {
            (Doing::Reading(Some(begun)), Answer::Read(Ok(read))) => {
                let versions = read.record().map_or(&[][..], |record| record.versions());
                let birth = versions.first().map(|(_, version)| version.birth);
                self.history.read_ends(&begun, world.now_us(), read.value().zip(birth));
            }
            (Doing::Reading(None), Answer::Read(Ok(_))) => {}
            (Doing::Writing, Answer::Written(Ok(_))) => self.history.write_acknowledged(),
            (Doing::Deleting(key), Answer::Written(Ok(written))) => {
                self.history.delete_acknowledged(&key, written.birth);
            }
            _ => self.failures += 1,
        }
    }
}
