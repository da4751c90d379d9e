//! What goes into a protocol machine, and what comes out.
//!
//! A machine is a value. It is handed an event and a view of the store, and says what should happen; it never does
//! anything itself, reads no clock, and draws no randomness but from a seed it was built with. So the same code runs under
//! threads and in the simulator, and a run can be repeated from its seed.

use std::sync::Arc;

use bytes::Bytes;
use kv_core::hash::Token;
use kv_core::hlc::Stamp;
use kv_core::key::{RecordKey, TableId};
use kv_core::record::Record;
use kv_core::store::Batch;
use kv_core::time::{Millis, Now};
use kv_core::{NodeId, View};

use crate::caches::Caches;
use crate::catalog::{Catalog, Founding, TableSchema};
use crate::comparison::Place;
use crate::description::{DescribeError, Description};
use crate::floors::{Floor, Floors};
use crate::identity::{ClusterId, Identity};
use crate::imports::Imports;
use crate::liveness::LivenessChange;
use crate::member::Member;
use crate::message::Message;
use crate::peers::{DropReason, Life, Peers};
use crate::repair_request::{RepairError, RepairReport, RepairScope};
use crate::request::{ClusterError, Get, Read, ReadError, Write, WriteError, Written};
use crate::scan::{Page, Scan, ScanError};
use crate::status::Standing;
use crate::table_options::TableOptions;
use crate::transport::PeerInfo;
use crate::wire::Header;

/// A sub-protocol of a node. Machines know nothing of each other; the node routes between them.
pub(crate) trait Machine {
    /// Takes one event; what follows from it is appended to `out`.
    fn handle(&mut self, environment: &Environment<'_>, event: Event, out: &mut Vec<Action>);

    /// When [`Event::Deadline`] is due, on the monotonic clock.
    fn next_deadline(&self) -> Option<Millis>;
}

/// What a machine may look at while it decides.
#[derive(Copy, Clone)]
pub(crate) struct Environment<'a> {
    /// The time.
    pub(crate) now: Now,
    /// The store, including everything that this turn has decided to write.
    pub(crate) view: &'a dyn View,
    /// The node itself.
    pub(crate) me: &'a Identity,
    /// Whether the node serves.
    pub(crate) standing: Standing,
    /// The cluster, once it is founded.
    pub(crate) catalog: Option<&'a Catalog>,
    /// The other members.
    pub(crate) peers: &'a Peers,
    /// The partitions that this node has yet to get from others.
    pub(crate) imports: &'a Imports,
    /// What this node has promised, and what it has dropped.
    pub(crate) floors: &'a Floors,
    /// What this node holds of cache tables, including everything that this turn has decided to put there.
    pub(crate) caches: &'a Caches,
    /// More waits for the disk than may: peers are refused what would wait too, and told to ask again after this time.
    pub(crate) overload: Option<Millis>,
}

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message came from a peer, or from this node itself.
    Message {
        /// Who sent it.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// A message that may come from a node not met yet, with the header of its frame.
    Introduction {
        /// Who speaks, in which life, to whom.
        header: Header,
        /// What it says.
        message: Message,
    },
    /// Somebody asks for something.
    Request {
        /// Who waits for the outcome.
        origin: Origin,
        /// When the outcome is of no use any more, on the monotonic clock.
        deadline: Millis,
        /// What is asked.
        request: Request,
    },
    /// The read that an [`Action::Read`] asked for has ended.
    ReadEnded {
        /// Of the scan.
        tag: u64,
        /// Which of its keys.
        position: usize,
        /// What it came to.
        outcome: Result<Read, ReadError>,
    },
    /// The transport has begun to refuse frames to a peer: what was asked of it will not be answered.
    Unreachable(NodeId),
    /// The time that the machine asked for has come.
    Deadline,
}

/// Who waits for an outcome.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(crate) enum Origin {
    /// A client of this node; the number is the driver's.
    Client(u64),
    /// A scan of this node that has come across something to be read by itself.
    Scan {
        /// Its tag.
        tag: u64,
        /// Which of its keys.
        position: usize,
    },
    /// A peer that passed the request on under this tag.
    Peer {
        /// Which.
        node: NodeId,
        /// Its tag.
        tag: u64,
    },
}

/// What a request takes besides its key and value, about.
const REQUEST_BYTES: usize = 512;

/// What can be asked of a node.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Request {
    /// Write a key.
    Write(Write),
    /// Read a key.
    Get(Get),
    /// Found a cluster.
    Bootstrap {
        /// Of these.
        members: Vec<Member>,
        /// Drawn at random by the host.
        cluster: ClusterId,
        /// Into how many partitions each table's hash space is cut.
        partitions: u32,
    },
    /// Take this node's new storage for its own from now on.
    Replace,
    /// Create a table, or find the one that was created with the same options.
    CreateTable {
        /// Its name.
        name: String,
        /// Its options.
        options: TableOptions,
    },
    /// Make replicas equal.
    Repair(RepairScope),
    /// Tell where a key is.
    Describe(RecordKey),
    /// Read a page.
    Scan(Box<Scan>),
}

impl Request {
    /// The outcome at a node that does not serve.
    pub(crate) const fn not_serving(&self, standing: Standing) -> Outcome {
        match self {
            Self::Write(_) => Outcome::Put(Err(WriteError::NotServing(standing))),
            Self::Get(_) => Outcome::Get(Err(ReadError::NotServing(standing))),
            Self::Bootstrap { .. } | Self::Replace => Outcome::Bootstrap(Err(ClusterError::NotServing(standing))),
            Self::CreateTable { .. } => Outcome::CreateTable(Err(ClusterError::NotServing(standing))),
            Self::Repair(_) => Outcome::Repair(Err(RepairError::NotServing(standing))),
            Self::Describe(_) => Outcome::Describe(Err(DescribeError::NotServing(standing))),
            Self::Scan(_) => Outcome::Scan(Err(ScanError::NotServing(standing))),
        }
    }

    /// The outcome at a node that has too much to do.
    pub(crate) const fn overloaded(&self, retry_after: Millis) -> Outcome {
        match self {
            Self::Write(_) => Outcome::Put(Err(WriteError::Overloaded { retry_after })),
            Self::Get(_) => Outcome::Get(Err(ReadError::Overloaded { retry_after })),
            Self::Bootstrap { .. } | Self::Replace => Outcome::Bootstrap(Err(ClusterError::Overloaded { retry_after })),
            Self::CreateTable { .. } => Outcome::CreateTable(Err(ClusterError::Overloaded { retry_after })),
            Self::Repair(_) => Outcome::Repair(Err(RepairError::Overloaded { retry_after })),
            Self::Describe(_) => Outcome::Describe(Err(DescribeError::Overloaded { retry_after })),
            Self::Scan(_) => Outcome::Scan(Err(ScanError::Overloaded { retry_after })),
        }
    }

    /// About how much memory it takes while it is under way.
    pub(crate) fn bytes(&self) -> usize {
        REQUEST_BYTES
            + match self {
                Self::Write(write) => write.bytes(),
                Self::Get(get) => get.key.as_bytes().len(),
                Self::Describe(key) => key.as_bytes().len(),
                Self::Scan(scan) => scan.position.from.len(),
                Self::Bootstrap { .. } | Self::Replace | Self::CreateTable { .. } | Self::Repair(_) => 0,
            }
    }
}

/// What a request came to.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Outcome {
    /// Of [`Request::Write`].
    Put(Result<Written, WriteError>),
    /// Of [`Request::Get`].
    Get(Result<Read, ReadError>),
    /// Of [`Request::Bootstrap`] or [`Request::Replace`].
    Bootstrap(Result<(), ClusterError>),
    /// Of [`Request::CreateTable`]; the number of the table.
    CreateTable(Result<TableId, ClusterError>),
    /// Of [`Request::Repair`].
    Repair(Result<RepairReport, RepairError>),
    /// Of [`Request::Describe`].
    Describe(Result<Description, DescribeError>),
    /// Of [`Request::Scan`].
    Scan(Result<Page, ScanError>),
}

/// Something that should happen. The actions of a turn are carried out together: first everything is stored in one atomic
/// batch, then the rest, each part when its [`Release`] allows.
#[derive(Debug)]
pub(crate) enum Action {
    /// Write to the store.
    Store {
        /// The keys among which later releases wait for this.
        stripe: Stripe,
        /// What to write.
        batch: Batch,
    },
    /// Join a change to what is held of a cache table.
    Cache {
        /// Whose record.
        key: RecordKey,
        /// The change, which fits.
        change: Record,
    },
    /// Read a key, as a client would; the outcome comes back as [`Event::ReadEnded`].
    Read {
        /// Of the scan that asks.
        tag: u64,
        /// Which of its keys.
        position: usize,
        /// When the outcome is of no use any more.
        deadline: Millis,
        /// What to read.
        get: Get,
    },
    /// Send a message; one to the node itself comes back as an event.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
        /// When.
        release: Release,
    },
    /// Answer a request.
    Reply {
        /// Whose.
        origin: Origin,
        /// What it came to.
        outcome: Outcome,
        /// When.
        release: Release,
    },
    /// Tell the rest of the node.
    Notify(Notice),
}

/// When an action may be seen outside.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Release {
    /// At once: it says nothing that a crash could take back.
    Now,
    /// When the last write to these keys, as it stands at this moment, is durable.
    Durable(Stripe),
    /// When everything that was ever committed, up to this moment, is durable.
    Settled,
}

/// A slice of the keys of a store, for which the last write is remembered: an answer about a key waits for the last write
/// to its stripe and for no other.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub(crate) struct Stripe(pub(crate) u16);

impl Stripe {
    /// What the node keeps about itself.
    pub(crate) const META: Self = Self(0);
    /// What is kept for others: no answer about a record waits for it.
    pub(crate) const HINTS: Self = Self(1 + (1 << Self::TOKEN_BITS));
    /// How many there are.
    pub(crate) const COUNT: usize = 2 + (1 << Self::TOKEN_BITS);
    const TOKEN_BITS: u32 = 12;

    /// The stripe of the records at `token`.
    #[must_use]
    pub(crate) fn of(token: Token) -> Self {
        Self(1 + u16::try_from(token.0 >> (u64::BITS - Self::TOKEN_BITS)).expect("the top twelve bits"))
    }
}

/// What one machine found out that the node must act on.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The node is now part of this cluster. The founding is stored by the same turn.
    Founded(Box<Founding>),
    /// Storages of members were replaced, as this says. It is stored by the same turn.
    Refounded(Box<Founding>),
    /// A table was added; it is stored by the same turn.
    TableAdded(Arc<TableSchema>),
    /// These nodes are to be talked to, besides those known already.
    Peers(Vec<PeerInfo>),
    /// A message was not used.
    Dropped(DropReason),
    /// A peer was met in a life. If it is a member's, the same turn stores it.
    Met {
        /// Which.
        peer: NodeId,
        /// Its life.
        life: Life,
    },
    /// A peer of this cluster answered this life's greeting.
    Greeted(NodeId),
    /// A peer has not been heard of for long.
    Silent(NodeId),
    /// This node has changed its mind about a peer.
    Liveness(LivenessChange),
    /// A majority has confirmed that this node is who it was.
    Confirmed,
    /// A member has shown that this storage is not what it was.
    Quarantined,
    /// Dots are minted in this epoch from now on; it is stored by the same turn.
    ActorEpoch(u32),
    /// A stamp minted elsewhere was seen.
    Observed(Stamp),
    /// A cache table had no room for a delete.
    CacheFull(TableId),
    /// A peer has refused something because it has too much to do.
    Busy {
        /// Which.
        peer: NodeId,
        /// When to ask it again, on the monotonic clock.
        until: Millis,
    },
    /// The floor of a place rises. The same turn stores it, where it must be durable.
    Floor(Place, Floor),
    /// A peer was refused something because there is too much to do.
    Shed,
    /// A replica is known to have missed a change that this node coordinates.
    Missed {
        /// Which.
        target: NodeId,
        /// Of this record.
        key: RecordKey,
        /// The change.
        change: Bytes,
    },
    /// A replica has acknowledged a change that it was said to have missed.
    Caught {
        /// Which.
        target: NodeId,
        /// Of this record.
        key: RecordKey,
        /// The change.
        change: Bytes,
    },
    /// A replica has missed something of a place that is not kept for it: the two must be compared.
    Owed {
        /// Which.
        peer: NodeId,
        /// Of what.
        place: Place,
        /// Grows with each such notice.
        ticket: u64,
    },
    /// A place that was owed is not shared with the peer any more: there is nothing to compare.
    Moot {
        /// Which.
        peer: NodeId,
        /// Of what.
        place: Place,
    },
    /// A comparison has ended with both replicas equal, of a place that was owed when it began.
    Compared {
        /// With whom.
        peer: NodeId,
        /// Of what.
        place: Place,
        /// The number under which it was owed when the comparison began.
        ticket: u64,
    },
}
