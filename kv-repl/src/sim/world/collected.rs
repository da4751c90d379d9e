//! What a node says to the outside in one turn, until the world carries it on.

use std::time::Duration;

use bytes::Bytes;
use kv_core::NodeId;

use super::FRAME_BYTES_MAX;
use crate::liveness::LivenessChange;
use crate::machine::Outcome;
use crate::transport::{Lane, PeerInfo};
use crate::worker::Outside;

#[derive(Default)]
pub(super) struct Collected {
    pub(super) refused: Vec<NodeId>,
    pub(super) elapsed: Duration,
    pub(super) frames: Vec<(NodeId, Lane, Bytes)>,
    pub(super) replies: Vec<(u64, Outcome)>,
    pub(super) changes: Vec<LivenessChange>,
}

impl Outside for Collected {
    fn elapsed(&self) -> Duration {
        self.elapsed
    }

    fn send(&mut self, to: NodeId, lane: Lane, frame: Bytes) -> bool {
        let taken = !self.refused.contains(&to);
        if taken {
            self.frames.push((to, lane, frame));
        }
        taken
    }

    fn frame_bytes_max(&self, _to: NodeId) -> usize {
        FRAME_BYTES_MAX
    }

    fn reply(&mut self, client: u64, outcome: Outcome) {
        self.replies.push((client, outcome));
    }

    fn changed(&mut self, change: LivenessChange) {
        self.changes.push(change);
    }

    fn peers_changed(&mut self, _peers: &[PeerInfo]) {}
}
