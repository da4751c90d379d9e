//! What a repair is asked for, what it came to, and what repair has done so far.

use kv_core::NodeId;
use kv_core::key::TableId;
use kv_core::time::Millis;
use kv_ring::PartitionId;
use thiserror::Error;

use crate::status::Standing;

/// What to repair: everything of it that the node which is asked holds, with every other replica of it.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum RepairScope {
    /// All tables.
    Everything,
    /// The table of that name.
    Table(String),
    /// One partition of a table; [`Layout::partition_of`](kv_ring::Layout::partition_of) says which one a key lies in.
    Partition {
        /// The name of the table.
        table: String,
        /// Which.
        partition: PartitionId,
    },
}

/// What a repair has done so far, or came to.
#[derive(Clone, Eq, PartialEq, Default, Debug)]
pub struct RepairReport {
    /// How many comparisons it takes: one for each partition and other replica.
    pub comparisons: usize,
    /// How many of them have ended with both replicas equal.
    pub equal: usize,
    /// Those that have ended otherwise.
    pub unfinished: Vec<Unfinished>,
    /// Records that were sent and received.
    pub traffic: RepairTraffic,
}

/// What comparisons have moved.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub struct RepairTraffic {
    /// Records that this node sent to others.
    pub records_sent: u64,
    /// Records that this node received from others.
    pub records_received: u64,
    /// About how many bytes this node sent, records and all.
    pub bytes_sent: u64,
    /// About how many bytes this node received.
    pub bytes_received: u64,
}

impl RepairTraffic {
    pub(crate) const fn add(&mut self, other: &Self) {
        self.records_sent += other.records_sent;
        self.records_received += other.records_received;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
    }
}

/// A comparison that did not end with both replicas equal.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Unfinished {
    /// Of which table.
    pub table: TableId,
    /// Of which partition.
    pub partition: PartitionId,
    /// With whom.
    pub peer: NodeId,
    /// Why.
    pub why: UnfinishedReason,
}

/// Why a comparison did not end with both replicas equal.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum UnfinishedReason {
    /// The other replica could not be reached, or has stopped answering.
    Unreachable,
    /// The other replica does not serve, or has another layout.
    Refused,
    /// The store of this node could not be read.
    Store,
    /// Some records were still different after they had been exchanged several times: they are written all the time, or one
    /// of the replicas cannot read its own.
    StillDifferent,
}

/// Why a repair did not end with everything equal. What was exchanged stays.
#[derive(Clone, Eq, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum RepairError {
    /// No table of that name.
    #[error("unknown table")]
    UnknownTable,
    /// Nothing of a cache table is brought back to where it was evicted.
    #[error("a cache table is not repaired")]
    CacheTable,
    /// This node does not hold that partition.
    #[error("this node does not hold that partition")]
    NotReplica,
    /// Some comparisons did not come about, or did not end with both replicas equal.
    #[error("{} of {} comparisons did not end with both replicas equal", .0.unfinished.len(), .0.comparisons)]
    Incomplete(RepairReport),
    /// The deadline passed.
    #[error("{} of {} comparisons were made before the deadline", .0.equal, .0.comparisons)]
    DeadlinePassed(RepairReport),
    /// The node serves no requests; its status says why.
    #[error("the node does not serve: {0}")]
    NotServing(Standing),
    /// The node has too much to do, and did nothing for this request.
    #[error("the node has too much to do; ask again after {retry_after:?}")]
    Overloaded {
        /// Not before.
        retry_after: Millis,
    },
    /// The node stopped before it could answer.
    #[error("the node has stopped")]
    Stopped,
}

/// A repair that somebody has asked for and that is under way.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct RepairProgress {
    /// What was asked for.
    pub scope: RepairScope,
    /// What it has done so far.
    pub report: RepairReport,
}

/// What repair has done in this life of a node.
#[derive(Clone, Eq, PartialEq, Default, Debug)]
pub struct RepairStatus {
    /// Comparisons that this node began.
    pub comparisons_begun: u64,
    /// Comparisons begun here that ended with both replicas equal.
    pub comparisons_equal: u64,
    /// Those among them that found nothing to do: the hashes of the whole partition were equal.
    pub comparisons_idle: u64,
    /// Comparisons begun here that ended otherwise.
    pub comparisons_unfinished: u64,
    /// Comparisons begun here that are under way.
    pub comparisons_running: usize,
    /// Questions of other replicas that this node has answered.
    pub questions_answered: u64,
    /// Records that were read to compute hashes.
    pub records_hashed: u64,
    /// Leaves of hash trees in memory.
    pub leaves: usize,
    /// Leaves that are noted in the store, for the next start.
    pub leaves_noted: usize,
    /// Records from others that were not joined: of another place or rule, or one of the two cannot be read.
    pub records_unfit: u64,
    /// What the comparisons begun here have moved.
    pub traffic: RepairTraffic,
    /// What somebody has asked for.
    pub requests: Vec<RepairProgress>,
}
