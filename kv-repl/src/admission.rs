//! How much a node takes on at a time: requests that have no outcome yet, and answers that wait for its disk.
//!
//! Clients have room for so many requests and so many bytes, and peers that pass writes on have as much besides; one peer has
//! no more than half of that. So none of them takes the room of the others. Whoever finds no room is told so at once, and when
//! to ask again; nothing was done for him. While more waits for the disk than may, nothing new is taken that would wait for it too.

use std::collections::BTreeMap;

use kv_core::NodeId;
use kv_core::time::Millis;

use crate::by_number::ByNumber;
use crate::config::Settings;
use crate::machine::Origin;
use crate::status::LoadStatus;

/// Bounds of what a node takes on.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) requests_max: usize,
    pub(crate) request_bytes_max: usize,
    pub(crate) held_bytes_max: usize,
    pub(crate) peer_bytes_max: usize,
    pub(crate) retry_after: Millis,
}

impl Limits {
    pub(crate) const fn of(settings: &Settings) -> Self {
        let Settings { requests_max, request_bytes_max, held_bytes_max, peer_bytes_max, retry_after, .. } = *settings;
        Self { requests_max, request_bytes_max, held_bytes_max, peer_bytes_max, retry_after }
    }
}

/// Keeps the books.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: Limits,
    /// How many bytes each request takes that was admitted and has no outcome.
    /// Bytes of each client's request, by its number.
    open: ByNumber<usize>,
    /// And of what others have asked.
    open_for_others: BTreeMap<Origin, usize>,
    clients: Load,
    peers: Load,
    by_peer: BTreeMap<NodeId, Load>,
    held_bytes: usize,
    shed: u64,
    shed_for_peers: u64,
}

#[derive(Copy, Clone, Default, Debug)]
struct Load {
    requests: usize,
    bytes: usize,
}

impl Load {
    /// Where nothing is under way there is room for anything: a request over the bound would never find any otherwise.
    const fn has_room(self, bytes: usize, requests_max: usize, bytes_max: usize) -> bool {
        self.requests == 0 || (self.requests < requests_max && self.bytes.saturating_add(bytes) <= bytes_max)
    }

    const fn add(&mut self, bytes: usize) {
        self.requests += 1;
        self.bytes += bytes;
    }

    const fn remove(&mut self, bytes: usize) {
        self.requests -= 1;
        self.bytes -= bytes;
    }
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: ByNumber::new(),
            open_for_others: BTreeMap::new(),
            clients: Load::default(),
            peers: Load::default(),
            by_peer: BTreeMap::new(),
            held_bytes: 0,
            shed: 0,
            shed_for_peers: 0,
        }
    }

    /// Takes a request of so many bytes on until [`Admission::end`], or says after which time to ask again.
    pub(crate) fn admit(&mut self, origin: Origin, bytes: usize) -> Result<(), Millis> {
        let Limits { requests_max, request_bytes_max, .. } = self.limits;
        let has_room = match origin {
            Origin::Client(_) | Origin::Scan { .. } => self.clients.has_room(bytes, requests_max, request_bytes_max),
            Origin::Peer { node, .. } => {
                let of_peer = self.by_peer.get(&node).copied().unwrap_or_default();
                self.peers.has_room(bytes, requests_max, request_bytes_max)
                    && of_peer.has_room(bytes, requests_max.div_ceil(2), request_bytes_max / 2)
            }
        };
        if let Some(retry_after) = self.refuses(has_room) {
            match origin {
                Origin::Client(_) | Origin::Scan { .. } => self.shed += 1,
                Origin::Peer { .. } => self.shed_for_peers += 1,
            }
            return Err(retry_after);
        }
        match origin {
            Origin::Client(client) => self.open.insert(client, bytes),
            Origin::Peer { .. } | Origin::Scan { .. } => drop(self.open_for_others.insert(origin, bytes)),
        }
        match origin {
            Origin::Client(_) | Origin::Scan { .. } => self.clients.add(bytes),
            Origin::Peer { node, .. } => {
                self.peers.add(bytes);
                self.by_peer.entry(node).or_default().add(bytes);
            }
        }
        Ok(())
    }

    /// A request has its outcome. Those that were never admitted may have one, too.
    pub(crate) fn end(&mut self, origin: Origin) {
        let bytes = match origin {
            Origin::Client(client) => self.open.remove(client),
            Origin::Peer { .. } | Origin::Scan { .. } => self.open_for_others.remove(&origin),
        };
        let Some(bytes) = bytes else { return };
        match origin {
            Origin::Client(_) | Origin::Scan { .. } => self.clients.remove(bytes),
            Origin::Peer { node, .. } => {
                self.peers.remove(bytes);
                if let Some(load) = self.by_peer.get_mut(&node) {
                    load.remove(bytes);
                }
            }
        }
    }

    /// Notes how many bytes of answers wait for the disk. Returns when to ask again, if that is too much.
    pub(crate) fn hold(&mut self, bytes: usize) -> Option<Millis> {
        self.held_bytes = bytes;
        self.refuses(true)
    }

    fn refuses(&self, has_room: bool) -> Option<Millis> {
        let refuses = !has_room || self.held_bytes > self.limits.held_bytes_max;
        (refuses && !sabotaged!(AdmitAll)).then_some(self.limits.retry_after)
    }

    /// A replica's work was refused to a peer.
    pub(crate) const fn refused(&mut self) {
        self.shed_for_peers += 1;
    }

    /// How many requests have no outcome yet.
    pub(crate) fn requests(&self) -> usize {
        self.open.len() + self.open_for_others.len()
    }

    pub(crate) const fn status(&self) -> LoadStatus {
        LoadStatus {
            client_requests: self.clients.requests,
            client_bytes: self.clients.bytes,
            peer_requests: self.peers.requests,
            peer_bytes: self.peers.bytes,
            arrived_bytes: 0,
            held_bytes: self.held_bytes,
            stragglers: 0,
            shed: self.shed,
            shed_for_peers: self.shed_for_peers,
            dropped_frames: 0,
        }
    }

    /// Other bounds from now on.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) const fn bound(&mut self, limits: Limits) {
        self.limits = limits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Admission {
        let retry_after = Millis(70);
        Admission::new(Limits {
            requests_max: 4,
            request_bytes_max: 100,
            held_bytes_max: 1000,
            peer_bytes_max: 0,
            retry_after,
        })
    }

    #[test]
    fn requests_and_bytes_are_bounded_and_their_room_comes_back() {
        let mut admission = small();
        for client in 0..4 {
            assert_eq!(admission.admit(Origin::Client(client), 20), Ok(()));
        }
        assert_eq!(admission.admit(Origin::Client(9), 1), Err(Millis(70)), "the fifth");
        admission.end(Origin::Client(2));
        admission.end(Origin::Client(2));
        assert_eq!(admission.admit(Origin::Client(9), 41), Err(Millis(70)), "a hundred and one bytes");
        assert_eq!(admission.admit(Origin::Client(9), 40), Ok(()));
        assert_eq!(admission.status().client_bytes, 100);
        [0, 1, 3, 9].into_iter().for_each(|client| admission.end(Origin::Client(client)));
        assert_eq!(admission.admit(Origin::Client(10), 1_000_000), Ok(()), "nothing else is under way");
        assert_eq!(admission.admit(Origin::Client(11), 0), Err(Millis(70)));
    }

    #[test]
    fn nobody_takes_the_room_of_others() {
        let mut admission = small();
        let peer = |node, tag| Origin::Peer { node: NodeId(node), tag };
        assert_eq!([1, 2, 3].map(|tag| admission.admit(peer(1, tag), 1).is_ok()), [true, true, false]);
        assert_eq!([1, 2, 3].map(|tag| admission.admit(peer(2, tag), 1).is_ok()), [true, true, false]);
        assert!(admission.admit(peer(3, 1), 1).is_err(), "all peers together");
        assert!(admission.admit(Origin::Client(1), 1).is_ok());
        admission.end(peer(2, 1));
        assert!(admission.admit(peer(3, 1), 1).is_ok());
    }

    #[test]
    fn nothing_is_taken_while_too_much_waits_for_the_disk() {
        let mut admission = small();
        assert_eq!(admission.hold(1000), None);
        assert_eq!(admission.hold(1001), Some(Millis(70)));
        assert_eq!(admission.admit(Origin::Client(1), 1), Err(Millis(70)));
        assert_eq!(admission.hold(0), None);
        assert_eq!(admission.admit(Origin::Client(1), 1), Ok(()));
    }
}
