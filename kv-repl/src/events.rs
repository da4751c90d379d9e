//! What a node tells its host without being asked.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::liveness::LivenessChange;

/// How many events wait for a listener at most.
const WAITING_MAX: usize = 1024;

/// Something happened that the host may want to know.
#[derive(Copy, Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum NodeEvent {
    /// This node has changed its mind about whether a peer is up.
    Liveness(LivenessChange),
}

/// The events of a node from [`Node::events`](crate::Node::events) on, in order. As an iterator it waits for the next one,
/// and ends when the node has stopped.
///
/// At most 1,024 events wait; further ones are lost to a listener that does not keep up. What they led to is always in
/// [`Node::status`](crate::Node::status).
#[derive(Debug)]
pub struct Events {
    receiver: Receiver<NodeEvent>,
}

impl Events {
    /// The next event, if there is one already.
    pub fn try_next(&self) -> Option<NodeEvent> {
        self.receiver.try_recv().ok()
    }

    /// The next event, if there is one within `patience`.
    pub fn next_within(&self, patience: Duration) -> Option<NodeEvent> {
        self.receiver.recv_timeout(patience).ok()
    }
}

impl Iterator for Events {
    type Item = NodeEvent;

    fn next(&mut self) -> Option<NodeEvent> {
        self.receiver.recv().ok()
    }
}

/// Where the events of a node go.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    senders: Vec<SyncSender<NodeEvent>>,
}

/// A listener to be, and the end that it keeps.
pub(crate) fn listener() -> (SyncSender<NodeEvent>, Events) {
    let (sender, receiver) = sync_channel(WAITING_MAX);
    (sender, Events { receiver })
}

impl Listeners {
    pub(crate) fn add(&mut self, sender: SyncSender<NodeEvent>) {
        self.senders.push(sender);
    }

    /// Tells everybody who still listens. Never waits.
    pub(crate) fn tell(&mut self, event: NodeEvent) {
        self.senders.retain(|sender| !matches!(sender.try_send(event), Err(TrySendError::Disconnected(_))));
    }
}

#[cfg(test)]
mod tests {
    use kv_core::NodeId;

    use super::*;
    use crate::liveness::{Claim, Liveness};

    #[test]
    fn a_listener_that_does_not_keep_up_loses_events_and_holds_nobody_up() {
        let event = |peer| {
            let (before, after) = (Liveness::Alive, Liveness::Suspect);
            NodeEvent::Liveness(LivenessChange {
                peer: NodeId(peer),
                before,
                after,
                claim: Claim::default(),
                by: NodeId(1),
            })
        };
        let mut listeners = Listeners::default();
        let (sender, slow) = listener();
        listeners.add(sender);
        let (sender, gone) = listener();
        listeners.add(sender);
        drop(gone);
        for peer in 0..2 * WAITING_MAX as u64 {
            listeners.tell(event(peer));
        }
        assert_eq!(listeners.senders.len(), 1);
        drop(listeners);
        let heard: Vec<NodeEvent> = slow.collect();
        assert_eq!(heard.len(), WAITING_MAX);
        assert_eq!(heard[5], event(5));
    }
}
