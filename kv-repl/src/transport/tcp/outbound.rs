//! What waits to be sent: for each peer the frames of this turn, already in the encoding of the wire.
//!
//! Filled by any thread through `try_send`, emptied by the loop. The loop swaps a peer's buffer for an empty one, so the
//! lock is never held during a system call, and one write carries all of a turn's frames.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Mutex, MutexGuard};

use kv_core::NodeId;

use super::frame::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FrameHeader};
use crate::transport::{Lane, PeerInfo, SendError};

/// How far beyond the limit the control lane may go, so that introductions pass a queue that requests have filled.
const CONTROL_BYTES_EXTRA: usize = 1 << 20;

/// A written buffer larger than this is not kept for reuse.
const RETAINED_BYTES: usize = 1 << 20;

/// Encoded frames in order.
#[derive(Default)]
pub(super) struct SendBuffer {
    pub(super) bytes: Vec<u8>,
    pub(super) frames: usize,
}

impl SendBuffer {
    pub(super) fn clear(&mut self) {
        if self.bytes.capacity() > RETAINED_BYTES {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.frames = 0;
    }
}

/// How a peer can be reached at the moment.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Standing {
    /// Not connected, and the last attempt, if there was one, had worked: frames are kept for the connection to come.
    Opening,
    /// Connected.
    Open,
    /// The last attempt failed: frames are refused.
    Failed,
}

struct Peer {
    address: String,
    standing: Standing,
    /// Frames that no write has begun with.
    pending: SendBuffer,
    /// Bytes the loop has taken and not yet written.
    in_flight: usize,
    /// Whether it is in the list of peers with something new to send.
    listed: bool,
}

#[derive(Default)]
struct State {
    peers: BTreeMap<NodeId, Peer>,
    /// Peers with something new to send.
    dirty: Vec<NodeId>,
    /// The set of peers has changed since the loop last looked.
    changed: bool,
    closed: bool,
}

/// The queues of all peers.
pub(super) struct Outbound {
    state: Mutex<State>,
    queue_bytes_max: usize,
}

impl Outbound {
    pub(super) fn new(queue_bytes_max: usize) -> Self {
        Self { state: Mutex::default(), queue_bytes_max }
    }

    /// Queues a frame.
    pub(super) fn push(&self, to: NodeId, lane: Lane, frame: &[u8]) -> Result<(), SendError> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(SendError::TooLarge);
        }
        // The checksum is the costly part, and needs no lock.
        let header = FrameHeader::encode(lane, frame);
        let state = &mut *self.lock();
        if state.closed {
            return Err(SendError::Unreachable);
        }
        let peer = state.peers.get_mut(&to).ok_or(SendError::UnknownPeer)?;
        if peer.standing == Standing::Failed {
            return Err(SendError::Unreachable);
        }
        let limit = match lane {
            Lane::Control => self.queue_bytes_max.saturating_add(CONTROL_BYTES_EXTRA),
            Lane::Request => self.queue_bytes_max,
            Lane::Bulk => self.queue_bytes_max / 2,
        };
        let queued = peer.pending.bytes.len() + peer.in_flight;
        // An empty queue takes any frame: one that is larger than the limit would never fit otherwise.
        if queued > 0 && queued + FRAME_HEADER_BYTES + frame.len() > limit {
            return Err(SendError::Full);
        }
        peer.pending.bytes.extend_from_slice(&header);
        peer.pending.bytes.extend_from_slice(frame);
        peer.pending.frames += 1;
        if !mem::replace(&mut peer.listed, true) {
            state.dirty.push(to);
        }
        Ok(())
    }

    /// Makes `peers` all there are. Queues of peers that stay are kept, also when the address changed.
    pub(super) fn set_peers(&self, peers: &[PeerInfo]) {
        let state = &mut *self.lock();
        let mut before = mem::take(&mut state.peers);
        for PeerInfo { node, address } in peers {
            let mut peer = before.remove(node).unwrap_or_else(|| Peer {
                address: address.clone(),
                standing: Standing::Opening,
                pending: SendBuffer::default(),
                in_flight: 0,
                listed: false,
            });
            if peer.address != *address {
                peer.address.clone_from(address);
                // What failed was the old address.
                peer.standing = Standing::Opening;
            }
            state.peers.insert(*node, peer);
        }
        state.changed = true;
    }

    /// Whether `node` is a peer.
    pub(super) fn knows(&self, node: NodeId) -> bool {
        self.lock().peers.contains_key(&node)
    }

    /// All peers and their addresses, if they have changed since the last call.
    pub(super) fn take_changed_peers(&self) -> Option<BTreeMap<NodeId, String>> {
        let state = &mut *self.lock();
        mem::take(&mut state.changed)
            .then(|| state.peers.iter().map(|(node, peer)| (*node, peer.address.clone())).collect())
    }

    /// Moves the list of peers with something new to send into `dirty`, which is empty.
    pub(super) fn take_dirty(&self, dirty: &mut Vec<NodeId>) {
        let state = &mut *self.lock();
        mem::swap(&mut state.dirty, dirty);
        for node in dirty {
            if let Some(peer) = state.peers.get_mut(node) {
                peer.listed = false;
            }
        }
    }

    /// Swaps the frames that wait for `node` with `buffer`, which is empty and has been written.
    pub(super) fn take_pending(&self, node: NodeId, buffer: &mut SendBuffer) {
        debug_assert!(buffer.bytes.is_empty(), "what was taken before must be written or dropped first");
        if let Some(peer) = self.lock().peers.get_mut(&node) {
            mem::swap(&mut peer.pending, buffer);
            peer.in_flight = buffer.bytes.len();
        }
    }

    /// All that was taken has been written. Returns whether more waits.
    pub(super) fn written(&self, node: NodeId) -> bool {
        self.lock().peers.get_mut(&node).is_some_and(|peer| {
            peer.in_flight = 0;
            !peer.pending.bytes.is_empty()
        })
    }

    /// There is a connection.
    pub(super) fn opened(&self, node: NodeId) {
        self.set_standing(node, Standing::Open);
    }

    /// The connection broke, and with it what had been taken.
    pub(super) fn broken(&self, node: NodeId) {
        self.set_standing(node, Standing::Opening);
    }

    /// No connection could be made. Returns how many frames waited for it; they are dropped, for what they answer or ask
    /// is old news when the peer comes back.
    pub(super) fn failed(&self, node: NodeId) -> usize {
        self.set_standing(node, Standing::Failed);
        self.lock().peers.get_mut(&node).map_or(0, |peer| {
            let frames = peer.pending.frames;
            peer.pending.clear();
            frames
        })
    }

    fn set_standing(&self, node: NodeId, standing: Standing) {
        if let Some(peer) = self.lock().peers.get_mut(&node) {
            peer.standing = standing;
            peer.in_flight = 0;
        }
    }

    /// The loop has ended: nothing is taken any more, what waited is gone.
    pub(super) fn close(&self) {
        let state = &mut *self.lock();
        state.closed = true;
        state.peers.clear();
        state.dirty.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the queues")
    }
}

#[cfg(test)]
mod tests;
