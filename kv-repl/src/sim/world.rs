//! The simulated cluster: nodes, links, disks and clocks, and the order in which things happen to them.

mod clients;
mod collected;
mod faults;
mod floors;
mod hints;
mod tables;
mod traffic;

pub use clients::BatchPart;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_core::hash::seeded;
use kv_core::key::RecordKey;
use kv_core::record::Record;
use kv_core::store::Space;
use kv_core::time::{Millis, Now};
use kv_core::{NodeId, Store};

use self::collected::Collected;
use super::factory::StoreFactory;
use super::network::{Network, NetworkFaults};
use crate::admission::Limits;
use crate::catalog::TableSchema;
use crate::check::{CoverageLedger, DotLedger, FallbackLedger, FloorLedger, HintLedger, LivenessLedger};
use crate::config::{Config, Settings};
use crate::description::{DescribeError, Description};
use crate::inbox::{Arrived, Asked, Inbox};
use crate::machine::Outcome;
use crate::repair_request::{RepairError, RepairReport};
use crate::request::{Read, ReadError, WriteError, Written};
use crate::scan::{Page, ScanError};
use crate::stats::Stats;
use crate::status::{Standing, Status};
use crate::transport::Lane;
use crate::worker::{Input, Worker};

/// Wall clocks start here, so that a skew never goes below zero.
const EPOCH_MS: u64 = 1_700_000_000_000;
const FRAME_BYTES_MAX: usize = 1 << 20;

/// A simulated cluster.
pub struct World {
    now_us: u64,
    order: u64,
    agenda: BTreeMap<(u64, u64), Due>,
    pub(super) random: fastrand::Rng,
    nodes: BTreeMap<NodeId, Host>,
    pub(super) network: Network,
    refuses: bool,
    factory: Box<dyn StoreFactory>,
    settings: Settings,
    answers: BTreeMap<u64, Answer>,
    next_request: u64,
    trace: u64,
    bytes_sent: u64,
    /// Messages of requests, by who sent them to whom.
    requests_sent: BTreeMap<(NodeId, NodeId), u64>,
    ledger: DotLedger,
    liveness: LivenessLedger,
    hints: HintLedger,
    coverage: CoverageLedger,
    fallbacks: FallbackLedger,
    /// How many disks were lost, or went back in time.
    wipes: u64,
    floors: FloorLedger,
    /// Every table that a node has known, by number.
    tables: Vec<Arc<TableSchema>>,
}

/// One machine of the cluster.
struct Host {
    worker: Option<Worker>,
    store: Option<Arc<dyn Store>>,
    inbox: Inbox<u64>,
    turn_at: Option<u64>,
    syncing: bool,
    skew_ms: i64,
    born_us: u64,
    paused_until: u64,
    sync_max_us: u64,
    /// Requests of the present life that have no outcome yet.
    open: Vec<u64>,
}

#[derive(Debug)]
enum Due {
    Frame { from: NodeId, to: NodeId, lane: Lane, frame: Bytes },
    Turn(NodeId),
    Sync(NodeId),
    Alarm(u64),
}

/// What is known of a request.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// Nothing yet.
    Pending,
    /// A write's outcome.
    Written(Result<Written, WriteError>),
    /// A read's outcome.
    Read(Result<Read, ReadError>),
    /// The outcome of something done to the cluster; whether it worked.
    Cluster(Result<(), crate::request::ClusterError>),
    /// The outcome of a repair.
    Repaired(Result<RepairReport, RepairError>),
    /// Where a key is.
    Described(Result<Box<Description>, DescribeError>),
    /// A page.
    Scanned(Result<Page, ScanError>),
    /// The node died first.
    Gone,
}

impl World {
    /// A world of nodes 1 to `nodes`, all of them up and none in a cluster.
    #[must_use]
    pub fn new(
        seed: u64,
        nodes: u64,
        network: NetworkFaults,
        siblings_max: usize,
        factory: Box<dyn StoreFactory>,
    ) -> Self {
        Self::with_repair(seed, nodes, network, siblings_max, factory, Duration::MAX)
    }

    /// The same, where replicas compare what they hold every so often. In a world of [`World::new`] they never do. In neither
    /// anything is kept for a replica that misses it, before [`World::bound_hints`].
    #[must_use]
    pub fn with_repair(
        seed: u64,
        nodes: u64,
        network: NetworkFaults,
        siblings_max: usize,
        factory: Box<dyn StoreFactory>,
        repair_every: Duration,
    ) -> Self {
        let config = Config {
            deadline: Duration::from_secs(3),
            retry_after: Duration::from_millis(100),
            hello_every: Duration::from_millis(500),
            gossip_every: Duration::from_millis(500),
            repair_every,
            purge_after: Duration::MAX,
            hinted_handoff: false,
            siblings_max,
            partitions: 16,
            ..Config::default()
        };
        let settings = Settings::check(&config, FRAME_BYTES_MAX).expect("settings of the simulator are valid");
        let mut world = Self {
            now_us: 0,
            order: 0,
            agenda: BTreeMap::new(),
            random: fastrand::Rng::with_seed(seed),
            nodes: BTreeMap::new(),
            network: Network::new(network),
            refuses: seed % 2 == 1,
            factory,
            settings,
            answers: BTreeMap::new(),
            next_request: 0,
            trace: seed,
            bytes_sent: 0,
            requests_sent: BTreeMap::new(),
            ledger: DotLedger::default(),
            liveness: LivenessLedger::default(),
            hints: HintLedger::default(),
            coverage: CoverageLedger::default(),
            fallbacks: FallbackLedger::default(),
            wipes: 0,
            floors: FloorLedger::default(),
            tables: Vec::new(),
        };
        for node in 1..=nodes {
            let host = Host {
                worker: None,
                store: None,
                inbox: Inbox::new(Limits::of(&settings)),
                turn_at: None,
                syncing: false,
                skew_ms: 0,
                born_us: 0,
                paused_until: 0,
                sync_max_us: 2_000,
                open: Vec::new(),
            };
            world.nodes.insert(NodeId(node), host);
            world.start(NodeId(node));
        }
        world
    }

    /// Simulated time since the beginning, in microseconds.
    #[must_use]
    pub const fn now_us(&self) -> u64 {
        self.now_us
    }

    /// A hash of everything that happened so far, in order.
    #[must_use]
    pub const fn trace_hash(&self) -> u64 {
        self.trace
    }

    /// How many bytes were handed to the network so far, in frames.
    #[must_use]
    pub const fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    /// What was minted, and what was wrong with it.
    #[must_use]
    pub const fn ledger(&self) -> &DotLedger {
        &self.ledger
    }

    /// What nodes believed of each other, and what was wrong with it.
    #[must_use]
    pub const fn liveness(&self) -> &LivenessLedger {
        &self.liveness
    }

    /// Everybody.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// Whether a node runs.
    #[must_use]
    pub fn is_up(&self, node: NodeId) -> bool {
        self.nodes[&node].worker.is_some()
    }

    /// What a node says about itself, if it runs.
    #[must_use]
    pub fn status(&self, node: NodeId) -> Option<Status> {
        let host = &self.nodes[&node];
        let mut status = host.worker.as_ref()?.core().status(self.time_of(node));
        host.inbox.report(&mut status.load);
        Some(status)
    }

    /// What a node has counted in its present life, but for the requests of clients.
    #[must_use]
    pub fn stats(&self, node: NodeId) -> Option<Stats> {
        let host = &self.nodes[&node];
        let mut stats = host.worker.as_ref()?.stats(self.time_of(node));
        host.inbox.report(&mut stats.status.load);
        Some(stats)
    }

    /// Whether a node runs and serves.
    #[must_use]
    pub fn is_serving(&self, node: NodeId) -> bool {
        self.status(node).is_some_and(|status| status.standing == Standing::Serving)
    }

    /// What a running node holds under a key, durable or not.
    #[must_use]
    pub fn record_at(&self, node: NodeId, key: &RecordKey) -> Option<Record> {
        let mut record = None;
        let store = self.nodes[&node].store.as_ref()?;
        store.get(Space::DATA, key.as_bytes(), &mut |bytes| record = Record::decode_slice(bytes).ok()).ok()?;
        record
    }

    /// What a running node holds of a cache table under a key, a tombstone included.
    #[must_use]
    pub fn cached_at(&self, node: NodeId, key: &RecordKey) -> Option<Record> {
        let shared = &self.nodes[&node].worker.as_ref()?.core().shared;
        Record::decode(&shared.caches.peek(key, shared.me.actor())?).ok()
    }

    /// What running nodes believe of the hashes of their records, where it is wrong.
    #[must_use]
    pub fn wrong_hashes(&self) -> Vec<String> {
        let running =
            self.nodes.iter().filter_map(|(node, host)| Some((node, host.worker.as_ref()?, host.store.as_ref()?)));
        let wrong = running.filter_map(|(node, worker, store)| {
            let what = worker.core().check_trees(&**store)?;
            Some(format!("node {node}: {what}"))
        });
        wrong.collect()
    }

    /// Has [`World::step`] return this number after a while.
    pub fn alarm(&mut self, after_us: u64, number: u64) {
        self.schedule(after_us, Due::Alarm(number));
    }

    /// Hands a frame to a node, as if it had come from another one.
    pub fn inject(&mut self, from: NodeId, to: NodeId, frame: Bytes) {
        self.schedule(1, Due::Frame { from, to, lane: Lane::Request, frame });
    }

    /// Lets time pass.
    pub fn run_for(&mut self, span_us: u64) {
        let end = self.now_us + span_us;
        while self.agenda.first_key_value().is_some_and(|((at, _), _)| *at <= end) {
            self.step();
        }
        self.now_us = end;
    }

    // ---- what happens by itself ----

    /// Lets the next thing happen. Returns the number of an alarm that went off.
    pub fn step(&mut self) -> Option<u64> {
        let ((at, _), due) = self.agenda.pop_first()?;
        self.now_us = at;
        match due {
            Due::Frame { from, to, lane, frame } => {
                self.note(4, to, seeded(&frame, from.0));
                let host = self.host(to);
                if host.worker.is_some() {
                    host.inbox.frame(from, lane, frame);
                    let delay = self.random.u64(1..100);
                    self.schedule_turn(to, delay);
                }
            }
            Due::Turn(node) => self.turn(node, at),
            Due::Sync(node) => {
                self.host(node).syncing = false;
                if self.is_up(node) && self.factory.step(node) {
                    self.note(5, node, 0);
                    self.schedule_turn(node, 1);
                    self.schedule_sync(node);
                }
            }
            Due::Alarm(number) => return Some(number),
        }
        None
    }

    fn turn(&mut self, node: NodeId, at: u64) {
        let now = self.time_of(node);
        // Every other world has a network that knows who is down, as connections do; in the rest frames just vanish.
        let refused: Vec<NodeId> = match self.refuses {
            true => self.nodes.iter().filter(|(_, host)| host.worker.is_none()).map(|(node, _)| *node).collect(),
            false => Vec::new(),
        };
        let host = self.nodes.get_mut(&node).expect("a known node");
        if host.turn_at != Some(at) {
            // An earlier turn has taken its place.
            return;
        }
        host.turn_at = None;
        if host.paused_until > self.now_us {
            let wait = host.paused_until - self.now_us;
            return self.schedule_turn(node, wait);
        }
        let Some(worker) = &mut host.worker else { return };
        let inputs = host.inbox.take().into_iter().map(|arrived| match arrived {
            Arrived::Frame { from, lane, frame } => Input::Frame { from, lane, frame },
            Arrived::Request(Asked { request, deadline, reply: client }) => {
                Input::Request { client, deadline, request }
            }
            Arrived::Batch(asked) => {
                let numbered = |Asked { request, deadline, reply: client }| (client, deadline, request);
                Input::Batch(asked.into_iter().map(numbered).collect())
            }
        });
        let elapsed = Duration::from_micros(self.now_us);
        let mut outside = Collected { refused, elapsed, ..Collected::default() };
        worker.turn(now, inputs, &mut outside);
        let next = if host.inbox.is_empty() { worker.next_deadline() } else { Some(Millis::ZERO) };
        let settled = worker.is_settled();
        self.floors.turned(node, worker.core().floors(), worker.core().forgotten(), settled);
        self.hints.turned(node, worker.core_mut().hints(), settled);
        let catalog = worker.core().shared.catalog.as_ref();
        tables::note(&mut self.tables, catalog.map_or(&[], crate::catalog::Catalog::tables));
        let acknowledged = worker.core_mut().writes().take_acknowledged();
        acknowledged.iter().for_each(|write| self.fallbacks.acknowledged(write));
        self.coverage.turned(node, acknowledged);
        if !outside.changes.is_empty() {
            // Whatever was believed of whom: everybody owns what he owned.
            for table in worker.core().shared.catalog.iter().flat_map(crate::catalog::Catalog::tables) {
                self.liveness.owned(node, table.id, table.layout.hash());
            }
        }
        for change in &outside.changes {
            self.liveness.changed(node, worker.core().shared.me.boot, change);
        }
        for (to, lane, frame) in outside.frames {
            self.send(node, to, lane, &frame);
        }
        for (client, outcome) in outside.replies {
            self.note(6, node, client);
            self.host(node).open.retain(|open| *open != client);
            self.answers.insert(client, answer(outcome));
        }
        self.schedule_sync(node);
        if let Some(next) = next {
            let wait_ms = next.saturating_sub(now.monotonic).0;
            self.schedule_turn(node, wait_ms.min(3_600_000) * 1000 + 1);
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, lane: Lane, frame: &Bytes) {
        self.look_into(from, to, frame);
        self.bytes_sent += frame.len() as u64;
        for delay in self.network.delays(from, to, &mut self.random) {
            self.schedule(delay, Due::Frame { from, to, lane, frame: frame.clone() });
        }
    }

    fn schedule(&mut self, after_us: u64, due: Due) {
        self.order += 1;
        self.agenda.insert((self.now_us + after_us, self.order), due);
    }

    fn schedule_turn(&mut self, node: NodeId, after_us: u64) {
        let at = self.now_us + after_us;
        let host = self.host(node);
        if host.turn_at.is_none_or(|planned| at < planned) {
            host.turn_at = Some(at);
            self.schedule(after_us, Due::Turn(node));
        }
    }

    fn schedule_sync(&mut self, node: NodeId) {
        let host = self.nodes.get_mut(&node).expect("a known node");
        if !host.syncing && host.worker.is_some() {
            host.syncing = true;
            let delay = self.random.u64(10..=host.sync_max_us.max(11));
            self.schedule(delay, Due::Sync(node));
        }
    }

    fn time_of(&self, node: NodeId) -> Now {
        let host = &self.nodes[&node];
        let wall = (EPOCH_MS + self.now_us / 1000).saturating_add_signed(host.skew_ms);
        Now { monotonic: Millis((self.now_us - host.born_us) / 1000 + 1), wall: Millis(wall) }
    }

    fn host(&mut self, node: NodeId) -> &mut Host {
        self.nodes.get_mut(&node).expect("a known node")
    }

    fn note(&mut self, kind: u64, node: NodeId, detail: u64) {
        let mut bytes = [0; 40];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip([self.trace, self.now_us, kind, node.0, detail]) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        self.trace = seeded(&bytes, 0);
    }
}

fn answer(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Put(outcome) => Answer::Written(outcome),
        Outcome::Get(outcome) => Answer::Read(outcome),
        Outcome::Bootstrap(outcome) => Answer::Cluster(outcome),
        Outcome::CreateTable(outcome) => Answer::Cluster(outcome.map(|_| ())),
        Outcome::Repair(outcome) => Answer::Repaired(outcome),
        Outcome::Describe(outcome) => Answer::Described(outcome.map(Box::new)),
        Outcome::Scan(outcome) => Answer::Scanned(outcome),
    }
}
