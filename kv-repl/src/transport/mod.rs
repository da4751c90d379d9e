//! What a node asks of the network, and what it hands to whoever brings frames in.
//!
//! A transport may lose, duplicate, delay and reorder frames; the cluster stays right. It must not alter them silently (a
//! checksum catches what slips through) and must not block. `docs/transport.md` shows one that is written in eighty lines, and
//! the feature `conformance` has the tests that it must pass.

#[cfg(any(test, feature = "conformance"))]
#[expect(clippy::disallowed_methods, reason = "a suite for threads and sockets waits for them")]
pub mod conformance;
pub mod memory;
#[cfg(feature = "tcp")]
#[expect(clippy::disallowed_methods, reason = "an event loop reads the clock and starts its thread")]
pub mod tcp;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_core::NodeId;
use thiserror::Error;

pub use memory::{MemoryNetwork, MemoryTransport};
#[cfg(feature = "tcp")]
pub use tcp::{TcpLoop, TcpOptions, TcpStats, TcpTransport};

/// Traffic of different urgency, so that a transport can keep bulk from delaying the rest.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum Lane {
    /// Introductions, founding, schema: small and rare.
    Control,
    /// Requests of clients and their answers.
    Request,
    /// Streams and repairs that may wait.
    Bulk,
}

/// The frame was not taken. A frame that was taken may still be lost.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
pub enum SendError {
    /// Nobody knows where that node is.
    #[error("no address is known for the node")]
    UnknownPeer,
    /// There is no connection at the moment.
    #[error("the node cannot be reached at the moment")]
    Unreachable,
    /// The queue to that node is full.
    #[error("the queue to the node is full")]
    Full,
    /// Larger than [`Transport::max_frame_bytes`].
    #[error("the frame is too large")]
    TooLarge,
}

/// Where a node is. What the text means is between the host and its transport; the TCP transport reads `host:port`.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct PeerInfo {
    /// Who.
    pub node: NodeId,
    /// Where.
    pub address: String,
}

/// The host's whole duty: get frames to peers, at most once each, in any order, or not at all.
pub trait Transport: Send + Sync + 'static {
    /// Takes a frame for `to`. Never blocks.
    ///
    /// # Errors
    /// [`SendError`]; the frame will not arrive.
    fn try_send(&self, to: NodeId, lane: Lane, frame: Bytes) -> Result<(), SendError>;

    /// The largest frame that can reach `to`, in bytes: 32 KiB at least, or no node starts on it.
    fn max_frame_bytes(&self, to: NodeId) -> usize {
        let _ = to;
        64 * 1024
    }

    /// The peers a node may talk to from now on, all of them.
    fn peers_changed(&self, peers: &[PeerInfo]) {
        let _ = peers;
    }

    /// Called once when a node starts, with where its inbound frames go. A transport that already runs an event loop may
    /// answer [`Drive::Transport`] and run the node's turns in it, which saves two thread hand-overs per message; otherwise
    /// the node starts a thread for them.
    fn attach(&self, node: Arc<dyn Inbound>) -> Drive {
        let _ = node;
        Drive::Node
    }

    /// The node has stopped: deliver nothing more, let go of what [`Transport::attach`] gave, end the threads it started.
    fn detach(&self) {}
}

/// Who runs the turns of a node.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Drive {
    /// The node, on a thread of its own.
    Node,
    /// The transport, by calling [`Inbound::turn`] in its loop.
    Transport,
}

/// The side of a node that a transport sees.
pub trait Inbound: Send + Sync + 'static {
    /// Hands in a frame. Never blocks and never does work; the next turn looks at it. `from` is who the transport believes
    /// the sender to be; the node checks it against the frame.
    fn deliver(&self, from: NodeId, lane: Lane, frame: Bytes);

    /// Only for [`Drive::Transport`]: handles what has arrived, and sends what follows through
    /// [`Transport::try_send`] before it returns.
    fn turn(&self) -> Turn;

    /// Only for [`Drive::Transport`]: registers what interrupts the loop's wait. The node calls it from any thread, at most
    /// once between two turns, when there is something to do.
    fn on_wake(&self, wake: Arc<dyn Fn() + Send + Sync>);
}

/// What a turn asks of the loop that ran it.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Turn {
    /// Wait for a frame, a wake-up, or this long, whichever comes first.
    Wait(Option<Duration>),
    /// The node has stopped; run no more turns.
    Stopped,
}
