//! The other nodes: where they are, in which life they were met, and whether frames reach them.

use std::collections::BTreeMap;

use kv_core::NodeId;
use kv_core::codec::{DecodeError, Reader, put_varint};
use kv_core::store::{Batch, Space};
use kv_core::time::Millis;
use kv_core::version::Incarnation;

use crate::identity::{Boot, ClusterId, Identity};
use crate::liveness::Liveness;
use crate::transport::PeerInfo;
use crate::wire::Header;

/// One life of a peer.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Life {
    /// Its storage.
    pub incarnation: Incarnation,
    /// Which start.
    pub boot: Boot,
    /// Drawn at that start.
    pub nonce: u64,
}

/// Why a message was not used.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub enum DropReason {
    /// Not a frame.
    Malformed,
    /// The transport named another sender.
    Impostor,
    /// Of another cluster.
    OtherCluster,
    /// From no member.
    Stranger,
    /// From, or to, another storage.
    OtherIncarnation,
    /// From, or to, another life.
    OtherBoot,
    /// Something only members who have met may say.
    Premature,
    /// A forwarded write that was there before.
    Repeated,
}

#[derive(Clone, Default, Debug)]
struct Peer {
    address: Option<String>,
    life: Option<Life>,
    /// It answered a hello of this node's present life.
    greeted: bool,
    /// It has not been heard of for long, or is believed dead; and not been heard of since.
    silent: bool,
    /// The transport took the last frame.
    taken: bool,
    /// When it was last heard of, on the monotonic clock.
    heard_at: Millis,
    /// What this node believes of it.
    liveness: Liveness,
    /// It has said that it has too much to do, and when to ask it again.
    busy_until: Millis,
}

/// All peers a node knows of, by name.
#[derive(Clone, Default, Debug)]
pub struct Peers {
    peers: BTreeMap<NodeId, Peer>,
}

const KEY_PREFIX: &[u8] = b"peer/";

impl Peers {
    /// Adds nodes, or moves them to other addresses. Returns whether anything changed.
    pub(crate) fn learn(&mut self, infos: &[PeerInfo], me: NodeId) -> bool {
        let mut changed = false;
        for info in infos.iter().filter(|info| info.node != me) {
            let peer = self.peers.entry(info.node).or_default();
            if peer.address.as_ref() != Some(&info.address) {
                peer.address = Some(info.address.clone());
                changed = true;
            }
        }
        changed
    }

    /// Takes back what an earlier life of this node stored about a peer.
    pub(crate) fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<bool, DecodeError> {
        let Some(node) = key.strip_prefix(KEY_PREFIX) else { return Ok(false) };
        let node = NodeId(Reader::new(node).u64()?);
        let mut reader = Reader::new(value);
        let life = Life { incarnation: Incarnation(reader.u64()?), boot: Boot(reader.varint()?), nonce: reader.u64()? };
        reader.finish()?;
        self.peers.entry(node).or_default().life = Some(life);
        Ok(true)
    }

    /// Writes the life a peer was met in, to be remembered across this node's own lives.
    pub(crate) fn save(peer: NodeId, life: Life, batch: &mut Batch) {
        let mut value = Vec::with_capacity(26);
        value.extend_from_slice(&life.incarnation.0.to_le_bytes());
        put_varint(&mut value, life.boot.0);
        value.extend_from_slice(&life.nonce.to_le_bytes());
        batch.put(Space::META, &[KEY_PREFIX, &peer.0.to_le_bytes()].concat(), &value);
    }

    /// A member has another storage than before: it has to be met again.
    pub(crate) fn replaced(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            (peer.life, peer.greeted, peer.liveness) = (None, false, Liveness::Alive);
        }
    }

    pub(crate) fn meet(&mut self, node: NodeId, life: Life) {
        self.peers.entry(node).or_default().life = Some(life);
    }

    /// Notes that a peer was heard of.
    pub(crate) fn heard(&mut self, node: NodeId, now: Millis) {
        if let Some(peer) = self.peers.get_mut(&node) {
            (peer.heard_at, peer.silent) = (now, false);
        }
    }

    /// When a peer was last heard of.
    pub(crate) fn heard_at(&self, node: NodeId) -> Millis {
        self.peers.get(&node).map_or(Millis::ZERO, |peer| peer.heard_at)
    }

    /// A peer counts as unreachable until it is heard of.
    pub(crate) fn silent(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.silent = true;
        }
    }

    pub(crate) fn greeted(&mut self, node: NodeId) {
        let peer = self.peers.entry(node).or_default();
        peer.greeted = true;
        peer.silent = false;
        peer.taken = true;
    }

    /// Notes whether the transport took a frame. Returns whether the peer could be reached until now and cannot any more.
    pub(crate) fn taken(&mut self, node: NodeId, taken: bool) -> bool {
        let Some(peer) = self.peers.get_mut(&node) else { return false };
        let lost = peer.greeted && !peer.silent && peer.taken && !taken;
        peer.taken = taken;
        lost
    }

    /// A peer has too much to do.
    pub(crate) fn busy(&mut self, node: NodeId, until: Millis) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.busy_until = peer.busy_until.max(until);
        }
    }

    /// Whether a peer has asked to be left alone for now.
    #[must_use]
    pub fn is_busy(&self, node: NodeId, now: Millis) -> bool {
        self.peers.get(&node).is_some_and(|peer| now < peer.busy_until) && !sabotaged!(HammerTheBusy)
    }

    /// The life a peer was last met in.
    #[must_use]
    pub fn life(&self, node: NodeId) -> Option<Life> {
        self.peers.get(&node)?.life
    }

    /// Whether it makes sense to send to `node`: it answered this life of ours, has not fallen silent since, and the transport
    /// took the last frame.
    #[must_use]
    pub fn is_reachable(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.greeted && !peer.silent && peer.taken)
    }

    /// Notes what this node believes of a peer.
    pub(crate) fn believe(&mut self, node: NodeId, liveness: Liveness) {
        self.peers.entry(node).or_default().liveness = liveness;
    }

    /// What this node believes of a peer: a reason to ask one before another, and to wait for nobody who is dead.
    #[must_use]
    pub fn liveness(&self, node: NodeId) -> Liveness {
        self.peers.get(&node).map_or(Liveness::Alive, |peer| peer.liveness)
    }

    /// Whether it is known where `node` is.
    #[must_use]
    pub fn has_address(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.address.is_some())
    }

    /// Everybody.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.keys().copied()
    }

    /// Everybody whose address is known.
    #[must_use]
    pub fn infos(&self) -> Vec<PeerInfo> {
        let known = |(node, peer): (&NodeId, &Peer)| Some(PeerInfo { node: *node, address: peer.address.clone()? });
        self.peers.iter().filter_map(known).collect()
    }

    /// The header of frames from this node to a peer, in the life it was last met in.
    pub(crate) fn header_to(&self, me: &Identity, cluster: ClusterId, to: NodeId) -> Header {
        let life = self.life(to);
        Header {
            cluster,
            from: me.node,
            from_incarnation: me.incarnation,
            from_boot: me.boot,
            to_incarnation: life.map_or(Incarnation(0), |life| life.incarnation),
            to_boot: life.map_or(Boot(0), |life| life.boot),
        }
    }

    /// Whether a frame comes from a member in the life it was met in, and is meant for this life of this node.
    pub(crate) fn admit(&self, me: &Identity, cluster: ClusterId, header: &Header) -> Result<(), DropReason> {
        if !sabotaged!(IgnoreClusterId) && (cluster == ClusterId::NONE || header.cluster != cluster) {
            return Err(DropReason::OtherCluster);
        }
        let life = self.life(header.from).ok_or(DropReason::Premature)?;
        if !sabotaged!(IgnoreIncarnation)
            && (life.incarnation != header.from_incarnation || header.to_incarnation != me.incarnation)
        {
            return Err(DropReason::OtherIncarnation);
        }
        if !sabotaged!(IgnoreBoot) && (life.boot != header.from_boot || header.to_boot != me.boot) {
            return Err(DropReason::OtherBoot);
        }
        Ok(())
    }
}
