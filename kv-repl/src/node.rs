//! A member of a cluster, started inside a program.

use std::sync::Arc;
use std::time::Duration;

use kv_core::hlc::Stamp;
use kv_core::version::Incarnation;
use kv_core::{NodeId, Store};
use kv_ring::PartitionId;

use crate::admission::Limits;
use crate::client::{Operations, RepairRequest, Table};
use crate::comparison::Place;
use crate::config::{Config, Settings};
use crate::driver::Driver;
use crate::events::Events;
use crate::identity::ClusterId;
use crate::machine::{Outcome, Request};
use crate::member::Member;
use crate::node_core::NodeCore;
use crate::repair_request::RepairScope;
use crate::request::ClusterError;
use crate::stats::Stats;
use crate::status::Status;
use crate::table_options::TableOptions;
use crate::transport::{PeerInfo, Transport};
use crate::worker::{Birth, StartError, Worker};

/// How long founding a cluster, or creating a table, may take.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(30);

/// Collects what a node needs; [`NodeBuilder::start`] starts it.
#[must_use = "a node runs once it is started"]
pub struct NodeBuilder {
    node: NodeId,
    store: Option<Arc<dyn Store>>,
    transport: Option<Arc<dyn Transport>>,
    seeds: Vec<PeerInfo>,
    config: Config,
}

impl NodeBuilder {
    /// Where the node keeps everything. It must have the spaces [`META`](kv_core::store::Space::META) and
    /// [`DATA`](kv_core::store::Space::DATA), the latter with [`RecordJoin`](kv_core::record::RecordJoin) as merge operator,
    /// and belong to this node alone. It should have [`HINTS`](kv_core::store::Space::HINTS), without an operator: otherwise what
    /// other nodes miss while they are away cannot be kept for them, and is compared when they are back.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// How it talks to the others. It belongs to this node alone.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Nodes to greet, besides the members it remembers. A remembered member that is listed is looked for at the address
    /// given here.
    pub fn seeds<A: ToString>(mut self, seeds: impl IntoIterator<Item = (NodeId, A)>) -> Self {
        self.seeds.extend(seeds.into_iter().map(|(node, address)| PeerInfo { node, address: address.to_string() }));
        self
    }

    /// Settings other than the defaults.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Starts the node. It goes on with what its store remembers; with an empty store it belongs to no cluster until
    /// somebody calls [`Node::bootstrap`], here or at a node that lists this one. It never founds a cluster by itself.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs.
    pub fn start(self) -> Result<Node, StartError> {
        let store = self.store.ok_or(StartError::Missing("store"))?;
        let transport = self.transport.ok_or(StartError::Missing("transport"))?;
        let settings = Settings::check(&self.config, transport.max_frame_bytes(self.node))?;
        let [incarnation, nonce, life] = random()?;
        let birth = Birth { node: self.node, incarnation: Incarnation(incarnation), nonce, seeds: self.seeds };
        let worker = Worker::start(settings, &birth, Arc::clone(&store))?;
        let driver = Driver::start(worker, Limits::of(&settings), &*store, transport).map_err(StartError::Thread)?;
        Ok(Node {
            id: self.node,
            driver,
            settings,
            partitions: self.config.partitions,
            operations: Arc::new(Operations::new(life)),
        })
    }
}

/// A running member. Dropping it stops it cleanly.
pub struct Node {
    id: NodeId,
    driver: Arc<Driver>,
    settings: Settings,
    partitions: u32,
    operations: Arc<Operations>,
}

impl Node {
    /// Begins to describe a node.
    pub fn builder(node: NodeId) -> NodeBuilder {
        NodeBuilder { node, store: None, transport: None, seeds: Vec::new(), config: Config::default() }
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Founds a cluster of `members`, this node among them. Called once, by an operator, at one node, when all of them run.
    /// Calling it again with the same members continues where it stopped. Blocks for at most half a minute.
    ///
    /// On return every member has stored durably that it belongs to the cluster.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn bootstrap(&self, members: &[Member]) -> Result<(), ClusterError> {
        let [high, low] = random().map_err(|error| ClusterError::InvalidMembers(error.to_string()))?;
        // Zero means "no cluster", and one chance in 2^128 is not worth a second draw.
        let cluster = ClusterId((u128::from(high) << 64 | u128::from(low)).max(1));
        let request = Request::Bootstrap { members: members.to_vec(), cluster, partitions: self.partitions };
        match self.driver.request(request, CLUSTER_PATIENCE).recv() {
            Ok(Outcome::Bootstrap(outcome)) => outcome,
            _ => Err(ClusterError::Stopped),
        }
    }

    /// Takes this node's new storage for that of the member of its name, whose own was lost. Called by an operator, at the node itself,
    /// which was started on an empty store under the lost one's name and told of members by
    /// [`NodeBuilder::seeds`]. No member agrees while it still hears from the storage before. Blocks for at most half a minute.
    ///
    /// On return the node serves: it is known, durably, by a member, and confirmed by a majority. The storage before is
    /// refused for ever by everybody who knows. In the background the node gets what the other replicas hold; in a partition
    /// where it lacks something still it counts for nothing ([`Status::importing`]), so do not replace another replica of
    /// it before. What only the lost storage held, acknowledged at level One, is gone.
    ///
    /// # Errors
    /// [`ClusterError::AlreadyFounded`] when the store was a member's, [`ClusterError::Incomplete`] when no majority was reached.
    pub fn replace(&self) -> Result<(), ClusterError> {
        match self.driver.request(Request::Replace, CLUSTER_PATIENCE).recv() {
            Ok(Outcome::Bootstrap(outcome)) => outcome,
            _ => Err(ClusterError::Stopped),
        }
    }

    /// Creates a table, or finds the one that was created with the same options. Blocks for at most half a minute.
    ///
    /// On return every member knows the table durably; so every member must be up.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn create_table(&self, name: &str, options: TableOptions) -> Result<Table, ClusterError> {
        options.check().map_err(ClusterError::InvalidOptions)?;
        let request = Request::CreateTable { name: name.to_owned(), options };
        match self.driver.request(request, CLUSTER_PATIENCE).recv() {
            Ok(Outcome::CreateTable(outcome)) => outcome?,
            _ => return Err(ClusterError::Stopped),
        };
        self.table(name)
    }

    /// A table that was created before.
    ///
    /// # Errors
    /// [`ClusterError::UnknownTable`], or that the node has stopped.
    pub fn table(&self, name: &str) -> Result<Table, ClusterError> {
        let name = name.to_owned();
        let schema = self
            .driver
            .look(move |core, _| core.shared.catalog.as_ref().and_then(|catalog| catalog.named(&name)).cloned())
            .ok_or(ClusterError::Stopped)?
            .ok_or(ClusterError::UnknownTable)?;
        Ok(Table::new(Arc::clone(&self.driver), schema, self.settings, Arc::clone(&self.operations)))
    }

    /// Makes the replicas of `scope` equal that this node holds: compares each partition with every other replica of it, and
    /// exchanges what differs. It happens by itself in time (`Config::repair_every`); ask for it before a node leaves,
    /// or after it has been away for long. Progress is in [`Status::repair`].
    pub fn repair(&self, scope: RepairScope) -> RepairRequest {
        RepairRequest::new(Arc::clone(&self.driver), scope)
    }

    /// The earliest birth of any version that this node keeps for other replicas of a partition; `None` when it keeps nothing of it. A
    /// floor under which tombstones are forgotten stays below it. May be somewhat too early, never too late. Of a table of data
    /// types it is the earliest birth of a change, which may bring with it what was born before: no floor can rest on that.
    ///
    /// # Errors
    /// [`ClusterError::UnknownTable`], or that the node has stopped.
    pub fn oldest_hint(&self, table: &str, partition: PartitionId) -> Result<Option<Stamp>, ClusterError> {
        let name = table.to_owned();
        let look = move |core: &NodeCore, _| {
            let table = core.shared.catalog.as_ref().and_then(|catalog| catalog.named(&name))?.id;
            Some(core.oldest_hint(Place { table, partition }))
        };
        self.driver.look(look).ok_or(ClusterError::Stopped)?.ok_or(ClusterError::UnknownTable)
    }

    /// What the node says about itself, or `None` when it has stopped.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.driver.status()
    }

    /// All that the node has counted and measured since it was started, its status included, or `None` when it has stopped. It
    /// is a copy of some hundred numbers, made between two turns: ask every few seconds, not with every request.
    #[must_use]
    pub fn stats(&self) -> Option<Stats> {
        self.driver.stats()
    }

    /// What the node finds out from now on, without being asked: which peers it suspects, believes dead, and sees return.
    #[must_use]
    pub fn events(&self) -> Events {
        self.driver.events()
    }

    /// Stops the node: waits for the last sync, notes durably that nothing was forgotten, ends its threads. Requests under
    /// way hear that it has stopped.
    pub fn stop(self) {
        drop(self);
    }

    /// Stops the node as the death of its process would: at once, and without a note.
    pub fn kill(self) {
        self.driver.stop(false);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.driver.stop(true);
    }
}

fn random<const N: usize>() -> Result<[u64; N], StartError> {
    let mut words = [0; N];
    for word in &mut words {
        *word = getrandom::u64().map_err(|error| StartError::Randomness(error.to_string()))?;
    }
    Ok(words)
}
