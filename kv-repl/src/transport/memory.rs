//! Nodes of one process, joined by a network that is a map.
//!
//! A frame goes straight into the receiver's [`Inbound::deliver`] on the sender's thread: nothing is lost, reordered or
//! delayed unless a test cuts a link. (The simulator has a network of its own, which does all of that from a seed.)

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use kv_core::NodeId;

use super::{Drive, Inbound, Lane, SendError, Transport};

/// Largest frame that a [`MemoryTransport`] takes; the same as over TCP, so that what works here works there.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// The network that the [`MemoryTransport`]s of one process share. Clones are the same network.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    shared: Arc<RwLock<Shared>>,
}

#[derive(Default)]
struct Shared {
    attached: BTreeMap<NodeId, Attachment>,
    /// Directed links that lose everything.
    cut: BTreeSet<(NodeId, NodeId)>,
    attachments: u64,
}

/// A node that is on the network.
struct Attachment {
    /// Tells a node from the one of the same name before its restart.
    number: u64,
    inbound: Arc<Gate>,
}

/// The way into a node, until it is shut. Whoever shuts it waits for those who are within, so that nothing arrives afterwards.
struct Gate(RwLock<Option<Arc<dyn Inbound>>>);

impl Gate {
    fn deliver(&self, from: NodeId, lane: Lane, frame: Bytes) -> Result<(), SendError> {
        let inbound = self.0.read().unwrap_or_else(PoisonError::into_inner);
        inbound.as_ref().ok_or(SendError::Unreachable)?.deliver(from, lane, frame);
        Ok(())
    }

    fn shut(&self) {
        let gone = self.0.write().unwrap_or_else(PoisonError::into_inner).take();
        // Dropped outside the lock: it may be the last reference to a node, whose end may use the network.
        drop(gone);
    }
}

impl MemoryNetwork {
    /// A network without nodes, with every link whole.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The transport of `node`. The node is on the network from [`Transport::attach`] to [`Transport::detach`]; one that
    /// attaches under a name that is in use takes the place of the other.
    #[must_use]
    pub fn transport(&self, node: NodeId) -> MemoryTransport {
        MemoryTransport { node, network: self.clone(), attachment: RwLock::new(None) }
    }

    /// Cuts the link between two nodes in both directions: frames are taken and lost, as by a network that drops them,
    /// until [`MemoryNetwork::heal`].
    pub fn disconnect(&self, a: NodeId, b: NodeId) {
        self.disconnect_one_way(a, b);
        self.disconnect_one_way(b, a);
    }

    /// Loses the frames from one node to another; those in the other direction arrive.
    pub fn disconnect_one_way(&self, from: NodeId, to: NodeId) {
        self.write().cut.insert((from, to));
    }

    /// Makes every link whole. What was lost stays lost.
    pub fn heal(&self) {
        self.write().cut.clear();
    }

    /// Takes a node off the network as if it had stopped: sends to it and by it fail with [`SendError::Unreachable`] until
    /// it attaches again. Lets go of its [`Inbound`]; the node itself is not told.
    pub fn detach(&self, node: NodeId) {
        let gone = self.write().attached.remove(&node);
        if let Some(attachment) = gone {
            attachment.inbound.shut();
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Shared> {
        // No holder leaves the maps half changed, so a panic elsewhere in its thread means nothing here.
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shared> {
        self.shared.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.read();
        f.debug_struct("MemoryNetwork")
            .field("attached", &shared.attached.keys().collect::<Vec<_>>())
            .field("cut", &shared.cut)
            .finish_non_exhaustive()
    }
}

/// A node's end of a [`MemoryNetwork`]. The node runs its own turns ([`Drive::Node`]).
#[derive(Debug)]
pub struct MemoryTransport {
    node: NodeId,
    network: MemoryNetwork,
    /// Which attachment of the network is this transport's.
    attachment: RwLock<Option<u64>>,
}

impl MemoryTransport {
    fn attachment(&self) -> Option<u64> {
        *self.attachment.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_attachment(&self, number: Option<u64>) -> Option<u64> {
        std::mem::replace(&mut *self.attachment.write().unwrap_or_else(PoisonError::into_inner), number)
    }
}

impl Transport for MemoryTransport {
    /// As the trait says; [`SendError::Unreachable`] when the receiver or this node is not attached.
    fn try_send(&self, to: NodeId, lane: Lane, frame: Bytes) -> Result<(), SendError> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(SendError::TooLarge);
        }
        let receiver = {
            let shared = self.network.read();
            let sender = shared.attached.get(&self.node).map(|attachment| attachment.number);
            if sender.is_none() || sender != self.attachment() {
                return Err(SendError::Unreachable);
            }
            let receiver = shared.attached.get(&to).ok_or(SendError::Unreachable)?;
            if shared.cut.contains(&(self.node, to)) {
                return Ok(());
            }
            Arc::clone(&receiver.inbound)
        };
        receiver.deliver(self.node, lane, frame)
    }

    fn max_frame_bytes(&self, _to: NodeId) -> usize {
        FRAME_BYTES_MAX
    }

    fn attach(&self, node: Arc<dyn Inbound>) -> Drive {
        let (number, replaced) = {
            let mut shared = self.network.write();
            shared.attachments += 1;
            let number = shared.attachments;
            let inbound = Arc::new(Gate(RwLock::new(Some(node))));
            (number, shared.attached.insert(self.node, Attachment { number, inbound }))
        };
        self.set_attachment(Some(number));
        if let Some(attachment) = replaced {
            attachment.inbound.shut();
        }
        Drive::Node
    }

    fn detach(&self) {
        let Some(number) = self.set_attachment(None) else { return };
        let gone = {
            let mut shared = self.network.write();
            // A node that was restarted meanwhile stays.
            match shared.attached.get(&self.node) {
                Some(attachment) if attachment.number == number => shared.attached.remove(&self.node),
                _ => None,
            }
        };
        if let Some(attachment) = gone {
            attachment.inbound.shut();
        }
    }
}

#[cfg(test)]
mod tests;
