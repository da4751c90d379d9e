//! What happens to the machines of a simulated cluster, and to the links between them.

use std::sync::Arc;

use kv_core::NodeId;
use kv_core::time::Millis;
use kv_core::version::Incarnation;

use super::{Answer, World};
use crate::admission::Limits;
use crate::config::Settings;
use crate::transport::PeerInfo;
use crate::worker::{Birth, Worker};

impl World {
    /// The power of a machine goes.
    pub fn crash(&mut self, node: NodeId) {
        let chance = self.random.u64(..);
        self.note(1, node, chance);
        self.stop(node);
        self.hints.crashed(node);
        self.floors.crashed(node);
        self.coverage.crashed(node);
        self.factory.crash(node, chance);
    }

    /// The process dies; what it had written stays.
    pub fn kill(&mut self, node: NodeId) {
        self.note(2, node, 0);
        self.stop(node);
        self.coverage.crashed(node);
        self.factory.kill(node);
    }

    /// A node begins to stop in order: it notes that it forgets nothing. Whether the note becomes durable is up to its disk.
    ///
    /// # Panics
    /// When the node is down or its store refuses.
    pub fn begin_stop(&mut self, node: NodeId) {
        let worker = self.host(node).worker.as_mut().expect("a node that is up");
        worker.finish().expect("a simulated store takes a batch");
        self.schedule_sync(node);
    }

    /// A machine dies and comes back with an empty disk, not started yet.
    pub fn wipe(&mut self, node: NodeId) {
        self.note(6, node, 0);
        self.stop(node);
        self.hints.wiped(node);
        self.floors.wiped(node);
        self.coverage.wiped();
        self.fallbacks.wiped(node);
        self.wipes += 1;
        self.liveness.wiped(node);
        self.factory.wipe(node);
    }

    /// How many disks were lost or put back so far.
    #[must_use]
    pub const fn wipes(&self) -> u64 {
        self.wipes
    }

    /// Copies the disk of a stopped node, for [`World::restore`].
    pub fn remember(&mut self, node: NodeId) {
        self.factory.remember(node);
    }

    /// Puts a disk back to an earlier copy; the node is stopped.
    pub fn restore(&mut self, node: NodeId) {
        self.stop(node);
        self.hints.wiped(node);
        self.floors.wiped(node);
        self.coverage.wiped();
        self.fallbacks.wiped(node);
        self.wipes += 1;
        self.factory.restore(node);
    }

    fn stop(&mut self, node: NodeId) {
        let host = self.host(node);
        host.worker = None;
        host.store = None;
        host.inbox.clear();
        host.turn_at = None;
        host.syncing = false;
        let open = std::mem::take(&mut host.open);
        for request in open {
            if self.answers.get(&request) == Some(&Answer::Pending) {
                self.answers.insert(request, Answer::Gone);
            }
        }
    }

    /// Starts a node that is down.
    ///
    /// # Panics
    /// When its store cannot be opened.
    pub fn start(&mut self, node: NodeId) {
        if self.is_up(node) {
            return;
        }
        let store = self.factory.open(node);
        let (incarnation, nonce) = (Incarnation(self.random.u64(1..)), self.random.u64(1..));
        self.note(3, node, nonce);
        let seeds = self.nodes().into_iter().map(|node| PeerInfo { node, address: node.to_string() }).collect();
        let birth = Birth { node, incarnation, nonce, seeds };
        let worker = Worker::start(self.settings, &birth, Arc::clone(&store)).expect("a simulated node starts");
        let born_us = self.now_us;
        let host = self.host(node);
        host.worker = Some(worker);
        host.store = Some(store);
        host.born_us = born_us;
        self.schedule_turn(node, 10);
    }

    /// A node does nothing for a while, then finds everything that has arrived.
    pub fn pause(&mut self, node: NodeId, span_us: u64) {
        let until = self.now_us + span_us;
        self.host(node).paused_until = until;
    }

    /// Sets a wall clock off.
    pub fn set_skew(&mut self, node: NodeId, skew_ms: i64) {
        self.host(node).skew_ms = skew_ms;
    }

    /// By how much the wall clock of a node is to be off, so that it tells this time.
    #[must_use]
    pub fn skew_to(&self, node: NodeId, wall: Millis) -> i64 {
        let right = self.time_of(node).wall.0.saturating_add_signed(-self.nodes[&node].skew_ms);
        wall.0.cast_signed() - right.cast_signed()
    }

    /// How long syncs of a node may take.
    pub fn set_sync(&mut self, node: NodeId, sync_max_us: u64) {
        self.host(node).sync_max_us = sync_max_us.max(20);
    }

    /// From now on nodes take on so many requests and so many bytes of them, and no more while so many bytes of answers wait for
    /// their disks.
    pub fn bound_load(&mut self, requests_max: usize, request_bytes_max: usize, held_bytes_max: usize) {
        self.set_limits(Settings { requests_max, request_bytes_max, held_bytes_max, ..self.settings });
    }

    /// From now on so many bytes of frames of each peer and lane wait for a node's turn.
    pub fn bound_arrivals(&mut self, peer_bytes_max: usize) {
        self.set_limits(Settings { peer_bytes_max, ..self.settings });
    }

    fn set_limits(&mut self, settings: Settings) {
        self.settings = settings;
        let limits = Limits::of(&settings);
        for host in self.nodes.values_mut() {
            host.inbox.bound(limits);
            if let Some(worker) = &mut host.worker {
                worker.core_mut().bound(limits);
            }
        }
    }

    /// Cuts one direction of a link.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.network.cut(from, to);
    }

    /// Mends every link.
    pub fn heal_links(&mut self) {
        self.network.heal();
    }
}
