//! What the machines of a node share: who the node is, whether it serves, the cluster, the peers, and what is held of cache tables.
//!
//! Machines look at it through their [`Environment`] and change it by [`Notice`]s; what a notice means for single machines is
//! the router's to tell them.

use kv_core::NodeId;
use kv_core::key::RecordKey;
use kv_core::time::{Millis, Now};

use crate::caches::Caches;
use crate::catalog::{Catalog, Founding, TableSchema};
use crate::comparison::Place;
use crate::floors::Floors;
use crate::identity::{ClusterId, Identity};
use crate::imports::Imports;
use crate::liveness::{Liveness, LivenessChange};
use crate::machine::{Environment, Notice};
use crate::peers::{DropReason, Peers};
use crate::stats::{BeliefStats, TrafficStats};
use crate::status::{Dropped, Standing};
use crate::trace;
use crate::transport::PeerInfo;
use crate::turn::Turn;
use crate::wire::Header;

/// The state of a node that belongs to no machine.
pub(crate) struct Shared {
    pub(crate) me: Identity,
    pub(crate) standing: Standing,
    /// The cluster, once it is founded.
    pub(crate) catalog: Option<Catalog>,
    pub(crate) peers: Peers,
    /// The partitions that this node has yet to get from others.
    pub(crate) imports: Imports,
    /// What this node has promised, and what it has dropped.
    pub(crate) floors: Floors,
    /// What is held of cache tables.
    pub(crate) caches: Caches,
    pub(crate) dropped: Dropped,
    pub(crate) traffic: TrafficStats,
    pub(crate) beliefs: BeliefStats,
    /// As in [`Environment::overload`].
    pub(crate) overload: Option<Millis>,
    peers_changed: bool,
    /// Peers that have become unreachable since the machines last heard of it.
    unreachable: Vec<NodeId>,
    /// What this node has changed its mind about since somebody last asked.
    changes: Vec<LivenessChange>,
}

impl Shared {
    /// What the earlier lives of a node have left.
    pub(crate) fn restore(
        me: Identity,
        catalog: Option<Catalog>,
        peers: Peers,
        imported: Vec<(Place, u64)>,
        floors: Floors,
        clock_drift_max: Millis,
    ) -> Self {
        let standing = match &catalog {
            _ if me.quarantined => Standing::Quarantined,
            None => Standing::Unfounded,
            Some(_) => Standing::Confirming,
        };
        let mut caches = Caches::new(clock_drift_max);
        for table in catalog.iter().flat_map(Catalog::tables) {
            hold(&mut caches, table, &me);
        }
        Self {
            imports: Imports::restore(me.node, catalog.as_ref(), imported),
            floors,
            me,
            standing,
            catalog,
            peers,
            caches,
            dropped: Dropped::default(),
            traffic: TrafficStats::default(),
            beliefs: BeliefStats::default(),
            overload: None,
            peers_changed: true,
            unreachable: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// What a machine may look at.
    pub(crate) fn environment<'a>(&'a self, now: Now, turn: &'a Turn<'_>) -> Environment<'a> {
        let Self { me, catalog, peers, imports, floors, caches, .. } = self;
        let (standing, overload, catalog) = (self.standing, self.overload, catalog.as_ref());
        Environment { now, view: turn, me, standing, catalog, peers, imports, floors, caches, overload }
    }

    /// Takes note of what a machine found out, as far as it is about what all of them share.
    pub(crate) fn hear(&mut self, now: Now, notice: Notice) {
        match notice {
            Notice::Founded(founding) => {
                let catalog = Catalog::new(*founding);
                self.learn(&catalog.peers());
                // A storage that replaced another one begins to live with that.
                if let Some(me) = catalog.founding().member(self.me.node).filter(|me| me.generation > 0) {
                    self.me = self.me.of_generation(me.generation);
                }
                self.catalog = Some(catalog);
                self.standing = Standing::Confirming;
            }
            Notice::Refounded(founding) => self.refound(*founding),
            Notice::TableAdded(table) => {
                hold(&mut self.caches, &table, &self.me);
                if self.is_replacement() {
                    self.caches.join_late(table.id);
                }
                self.imports.learn(self.me.node, self.catalog.as_ref(), &table);
                self.catalog.as_mut().expect("tables are added to a cluster").add(table);
            }
            Notice::Peers(infos) => self.learn(&infos),
            Notice::Dropped(reason) => self.drop_message(reason),
            Notice::Met { peer, life } => self.peers.meet(peer, life),
            Notice::Greeted(peer) => {
                self.peers.greeted(peer);
                self.peers.heard(peer, now.monotonic);
            }
            Notice::Silent(peer) => self.lose(peer),
            Notice::Liveness(change) => {
                self.peers.believe(change.peer, change.after);
                if change.after == Liveness::Dead {
                    self.lose(change.peer);
                }
                self.beliefs.count(&change);
                self.changes.push(change);
            }
            Notice::Confirmed => self.standing = Standing::Serving,
            Notice::Quarantined => {
                self.me.quarantined = true;
                self.standing = Standing::Quarantined;
            }
            Notice::ActorEpoch(epoch) => self.me.epoch = epoch,
            Notice::CacheFull(table) => self.caches.count_refused(table),
            Notice::Busy { peer, until } => self.peers.busy(peer, until),
            Notice::Floor(place, floor) => self.floors.raise(place, floor),
            // These are for single machines.
            Notice::Observed(_)
            | Notice::Missed { .. }
            | Notice::Caught { .. }
            | Notice::Owed { .. }
            | Notice::Moot { .. }
            | Notice::Shed
            | Notice::Compared { .. } => {}
        }
    }

    fn refound(&mut self, founding: Founding) {
        let Some(catalog) = &mut self.catalog else { return };
        for (before, after) in catalog.founding().members.iter().zip(&founding.members) {
            if before.incarnation != after.incarnation {
                self.peers.replaced(after.member.node);
            }
        }
        catalog.refound(founding);
    }

    fn learn(&mut self, infos: &[PeerInfo]) {
        self.peers_changed |= self.peers.learn(infos, self.me.node);
    }

    fn lose(&mut self, peer: NodeId) {
        self.peers.silent(peer);
        self.unreachable.push(peer);
    }

    /// Counts a message that was not used.
    pub(crate) fn drop_message(&mut self, reason: DropReason) {
        trace::dropped(self.me.node, reason);
        self.dropped.count(reason);
    }

    /// Whether this node's storage has taken the place of another one.
    fn is_replacement(&self) -> bool {
        let me = self.catalog.as_ref().and_then(|catalog| catalog.founding().member(self.me.node));
        me.is_some_and(|me| me.generation > 0)
    }

    /// Whether this node may coordinate the writes of a key: whether it is a replica of it, and lacks nothing of its partition.
    pub(crate) fn holds(&self, key: &RecordKey) -> bool {
        let table = self.catalog.as_ref().and_then(|catalog| catalog.table(key.table()));
        table.is_some_and(|table| table.replicas_of(key.token()).contains(&self.me.node)) && !self.lacks(key)
    }

    /// Whether this node has yet to get from others what a new storage lacks of a key's partition.
    pub(crate) fn lacks(&self, key: &RecordKey) -> bool {
        self.imports.lacks_key(self.catalog.as_ref(), key)
    }

    /// The cluster, or [`ClusterId::NONE`].
    pub(crate) fn cluster(&self) -> ClusterId {
        self.catalog.as_ref().map_or(ClusterId::NONE, |catalog| catalog.founding().cluster)
    }

    /// The header of frames to a peer.
    pub(crate) fn header_to(&self, to: NodeId) -> Header {
        self.peers.header_to(&self.me, self.cluster(), to)
    }

    /// Whether the machines may use a frame: see [`Peers::admit`].
    pub(crate) fn admit(&self, header: &Header) -> Result<(), DropReason> {
        self.peers.admit(&self.me, self.cluster(), header)
    }

    /// Notes whether the transport took the last frame to a peer.
    pub(crate) fn sent(&mut self, to: NodeId, taken: bool) {
        if self.peers.taken(to, taken) {
            self.unreachable.push(to);
        }
    }

    /// Whether [`Shared::take_unreachable`] has something.
    pub(crate) const fn has_lost_peers(&self) -> bool {
        !self.unreachable.is_empty()
    }

    /// The peers that have become unreachable since the last call.
    pub(crate) fn take_unreachable(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.unreachable)
    }

    /// The peers, when they have changed since the last call.
    pub(crate) fn take_changed_peers(&mut self) -> Option<Vec<PeerInfo>> {
        std::mem::take(&mut self.peers_changed).then(|| self.peers.infos())
    }

    /// What this node has changed its mind about since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<LivenessChange> {
        std::mem::take(&mut self.changes)
    }
}

/// Makes room for a cache table, if this node holds a part of it.
fn hold(caches: &mut Caches, table: &TableSchema, me: &Identity) {
    if table.layout.partitions_of(me.node).next().is_some() {
        caches.add(table, me.nonce);
    }
}
