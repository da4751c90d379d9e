//! What a node says about itself.

use std::fmt;
use std::time::Duration;

use kv_core::NodeId;
use kv_core::version::Incarnation;

use crate::hint_status::HintStatus;
use crate::identity::{Boot, ClusterId};
use crate::liveness::Liveness;
use crate::peers::DropReason;
use crate::repair_request::RepairStatus;

/// Whether a node serves, and if not, why.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Standing {
    /// It belongs to no cluster yet. `bootstrap` founds one; being listed in another node's does too.
    Unfounded,
    /// It has started and waits until a majority of the members has confirmed that it is who it was.
    Confirming,
    /// It serves.
    Serving,
    /// A member has shown that this storage is not what the cluster knows under this name. It serves nobody.
    Quarantined,
    /// Its store has failed. It serves nobody until it is started again.
    Halted,
}

impl Standing {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Unfounded => 1,
            Self::Confirming => 2,
            Self::Serving => 3,
            Self::Quarantined => 4,
            Self::Halted => 5,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Unfounded,
            2 => Self::Confirming,
            3 => Self::Serving,
            4 => Self::Quarantined,
            5 => Self::Halted,
            _ => return None,
        })
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unfounded => "it belongs to no cluster",
            Self::Confirming => "members have yet to confirm it",
            Self::Serving => "it serves",
            Self::Quarantined => "its storage is not what the cluster knows",
            Self::Halted => "its store has failed",
        })
    }
}

/// Frames and messages that were not used, by reason.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub struct Dropped {
    /// Not a frame, or its checksum is wrong.
    pub malformed: u64,
    /// The transport named another sender than the frame.
    pub impostor: u64,
    /// Of another cluster.
    pub other_cluster: u64,
    /// From a node that is no member.
    pub stranger: u64,
    /// From, or to, a storage that is not the member's.
    pub other_incarnation: u64,
    /// From, or to, an earlier life.
    pub other_boot: u64,
    /// A message that its sender may not send yet.
    pub premature: u64,
    /// A message of a kind that this version does not know.
    pub unknown_kind: u64,
    /// A forwarded write that was there before.
    pub repeated: u64,
}

impl Dropped {
    pub(crate) const fn count(&mut self, reason: DropReason) {
        let counter = match reason {
            DropReason::Malformed => &mut self.malformed,
            DropReason::Impostor => &mut self.impostor,
            DropReason::OtherCluster => &mut self.other_cluster,
            DropReason::Stranger => &mut self.stranger,
            DropReason::OtherIncarnation => &mut self.other_incarnation,
            DropReason::OtherBoot => &mut self.other_boot,
            DropReason::Premature => &mut self.premature,
            DropReason::Repeated => &mut self.repeated,
        };
        *counter += 1;
    }
}

/// What a node has sent to coordinate requests. Whatever is late is asked for again within a budget: a tenth of what is needed,
/// and a few messages a second.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub struct ExtraMessages {
    /// Messages to peers that requests needed.
    pub needed: u64,
    /// Replicas asked in the place of others that took longer than usual.
    pub hedges: u64,
    /// Messages sent again, or to everybody, after a pause without an answer.
    pub retries: u64,
    /// Hedges and retries that the budget did not allow. While this grows, answers are late in general.
    pub refused: u64,
}

impl std::ops::Add for ExtraMessages {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            needed: self.needed + other.needed,
            hedges: self.hedges + other.hedges,
            retries: self.retries + other.retries,
            refused: self.refused + other.refused,
        }
    }
}

/// What a node has to do at the moment, and what it has refused because that was too much.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub struct LoadStatus {
    /// Requests of its clients that have no outcome yet.
    pub client_requests: usize,
    /// About how many bytes they take.
    pub client_bytes: usize,
    /// Writes that peers have passed on to it and that have no outcome yet.
    pub peer_requests: usize,
    /// About how many bytes they take.
    pub peer_bytes: usize,
    /// About how many bytes have arrived and wait for the next turn.
    pub arrived_bytes: usize,
    /// About how many bytes of answers wait for the disk.
    pub held_bytes: usize,
    /// Writes that were answered and that a replica has yet to acknowledge.
    pub stragglers: usize,
    /// Requests of clients that were refused.
    pub shed: u64,
    /// Requests of peers that were refused: writes passed on, and changes and reads of what this node holds.
    pub shed_for_peers: u64,
    /// Frames of peers that were dropped because too many waited.
    pub dropped_frames: u64,
}

/// What a node knows of a peer.
#[derive(Clone, PartialEq, Debug)]
pub struct PeerStatus {
    /// Who.
    pub node: NodeId,
    /// Whether the last frame to it was taken by the transport and it has been heard of in this life.
    pub reachable: bool,
    /// The highest boot it was met in.
    pub boot: Boot,
    /// Whether this node believes it to be up.
    pub liveness: Liveness,
    /// How often it has contradicted a suspicion, in the latest boot that anybody has told of.
    pub refutations: u32,
    /// How long it usually takes to answer, once it has, to the millisecond.
    pub latency: Option<Duration>,
    /// By how much that usually differs.
    pub latency_deviation: Option<Duration>,
    /// How overdue its next message is: if all were well, one silence in 10^φ would be this long. Zero while nothing can be
    /// said.
    pub phi: f64,
}

/// What a node holds of a cache table.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct CacheStatus {
    /// The table's name.
    pub table: String,
    /// What its entries take, tombstones included.
    pub bytes: u64,
    /// The most they may take.
    pub bytes_max: u64,
    /// Values held, expired ones that are not reclaimed yet included.
    pub values: u64,
    /// Tombstones held.
    pub tombstones: u64,
    /// Looks at a key that found a value.
    pub hits: u64,
    /// Looks that did not.
    pub misses: u64,
    /// Values that had to make room.
    pub evictions: u64,
    /// Values whose time was over.
    pub expirations: u64,
    /// Deletes that had no room.
    pub deletes_refused: u64,
}

/// What a node has forgotten of what was deleted and what has expired, and what holds back the rest.
///
/// A delete is forgotten once every replica holds it, and never by the clock alone: a replica that is away holds back all partitions that it
/// holds, until it is back or its storage has been replaced.
#[derive(Clone, Eq, PartialEq, Default, Debug)]
pub struct PurgeStatus {
    /// Partitions that this node leads: it asks their other replicas.
    pub places: usize,
    /// Rounds of asking that it has begun in this life.
    pub rounds: u64,
    /// How many of its partitions hold something that is old enough to go, and are held back.
    pub held_back: usize,
    /// By whom: these cannot be reached, or have writes under way, or keep hints, that are older than what is to go.
    pub held_back_by: Vec<NodeId>,
    /// Tombstones and expired versions that this node has dropped in this life, of whatever partition.
    pub versions: u64,
    /// Records of which nothing was left, among them.
    pub records: u64,
}

/// A node at one moment.
#[derive(Clone, PartialEq, Debug)]
pub struct Status {
    /// Who.
    pub node: NodeId,
    /// Its storage.
    pub incarnation: Incarnation,
    /// Its life.
    pub boot: Boot,
    /// Its cluster, or [`ClusterId::NONE`].
    pub cluster: ClusterId,
    /// Whether it serves.
    pub standing: Standing,
    /// How many times as long as usual it waits for others because it is slow itself: one when it is well, at most eight.
    pub patience: u64,
    /// The other members.
    pub peers: Vec<PeerStatus>,
    /// The tables it knows.
    pub tables: Vec<String>,
    /// What it did not use.
    pub dropped: Dropped,
    /// Requests under way that it coordinates.
    pub requests: usize,
    /// What it has to do, against its bounds.
    pub load: LoadStatus,
    /// What it has sent for those it coordinated, and beyond what they needed.
    pub extra: ExtraMessages,
    /// What anti-entropy has done.
    pub repair: RepairStatus,
    /// What it holds of cache tables.
    pub caches: Vec<CacheStatus>,
    /// What is kept for others that have missed it.
    pub hints: HintStatus,
    /// What it has forgotten of what was deleted.
    pub purge: PurgeStatus,
    /// How many partitions this node, whose storage was replaced, has yet to get from their other replicas. In these it counts for
    /// nothing.
    pub importing: usize,
}
