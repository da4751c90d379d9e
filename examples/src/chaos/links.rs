//! The network between nodes of one process, with links that can be cut and nodes that can be made to pause.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kv_repl::NodeId;
use kv_repl::transport::{Drive, Inbound, Lane, PeerInfo, SendError, TcpTransport, Transport, Turn};

/// How often a node that pauses looks whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Which links are cut, and who pauses.
#[derive(Default)]
pub struct Links {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Nodes on one side; the others are on the other.
    side: BTreeSet<NodeId>,
    paused: BTreeSet<NodeId>,
}

impl Links {
    /// Cuts the network in two: these nodes reach each other, and the others each other.
    pub fn split(&self, side: impl IntoIterator<Item = NodeId>) {
        self.with(|state| state.side = side.into_iter().collect());
    }

    /// Everybody reaches everybody.
    pub fn heal(&self) {
        self.with(|state| state.side.clear());
    }

    /// A node stops, with all that it has under way, or goes on.
    pub fn pause(&self, node: NodeId, paused: bool) {
        self.with(|state| if paused { state.paused.insert(node) } else { state.paused.remove(&node) });
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.with(|state| state.side.contains(&from) != state.side.contains(&to))
    }

    fn is_paused(&self, node: NodeId) -> bool {
        self.with(|state| state.paused.contains(&node))
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// TCP over such links. What a cut link swallows is lost without a word, as behind a switch that fails.
pub struct FaultyTransport {
    node: NodeId,
    inner: TcpTransport,
    links: Arc<Links>,
}

impl FaultyTransport {
    /// The transport of `node` over `inner`.
    #[must_use]
    pub const fn new(node: NodeId, inner: TcpTransport, links: Arc<Links>) -> Self {
        Self { node, inner, links }
    }
}

impl Transport for FaultyTransport {
    fn try_send(&self, to: NodeId, lane: Lane, frame: Bytes) -> Result<(), SendError> {
        if self.links.is_cut(self.node, to) { Ok(()) } else { self.inner.try_send(to, lane, frame) }
    }

    fn max_frame_bytes(&self, to: NodeId) -> usize {
        self.inner.max_frame_bytes(to)
    }

    fn peers_changed(&self, peers: &[PeerInfo]) {
        self.inner.peers_changed(peers);
    }

    fn attach(&self, node: Arc<dyn Inbound>) -> Drive {
        let pausing = Pausing { id: self.node, node, links: Arc::clone(&self.links) };
        self.inner.attach(Arc::new(pausing))
    }

    fn detach(&self) {
        self.inner.detach();
    }
}

/// A node whose turns can be held up.
struct Pausing {
    id: NodeId,
    node: Arc<dyn Inbound>,
    links: Arc<Links>,
}

impl Inbound for Pausing {
    fn deliver(&self, from: NodeId, lane: Lane, frame: Bytes) {
        self.node.deliver(from, lane, frame);
    }

    fn turn(&self) -> Turn {
        while self.links.is_paused(self.id) {
            std::thread::sleep(LOOK_EVERY);
        }
        self.node.turn()
    }

    fn on_wake(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.node.on_wake(wake);
    }
}
