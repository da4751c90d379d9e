//! What a client asks of a node, and what it gets: plain values, the same whether the client is in the process or the
//! request was passed on by a peer.

mod batch;
mod typed;

pub use batch::BatchError;
pub use typed::Merged;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::context::{CausalContext, InvalidContext};
use kv_core::crdt::{Kind, Update, UpdateRefused};
use kv_core::expiry::InvalidTtl;
use kv_core::hlc::{ClockDrift, Stamp};
use kv_core::key::{InvalidKey, RecordKey};
use kv_core::record::{OperationId, Payload, Record, Rule};
use kv_core::time::Millis;
use kv_core::version::Dot;
use thiserror::Error;

use crate::identity::Boot;
use crate::quorum::{Consistency, TooFewReplicas};
use crate::seen::Floor;
use crate::status::Standing;
use crate::table_options::InvalidOptions;

/// One write of one key.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Put {
    /// Which key.
    pub key: RecordKey,
    /// The new value, or a tombstone.
    pub payload: Payload,
    /// What the writer has seen.
    pub context: Option<CausalContext>,
    /// How long the value is visible.
    pub ttl: Option<Millis>,
    /// The name under which a retry is known.
    pub operation: OperationId,
    /// How many replicas must hold it durably before it is acknowledged, and where.
    pub consistency: Consistency,
    /// Whether replicas alone count, in a sloppy table too.
    pub strict: bool,
}

/// One change of one value of a replicated data type.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Modify {
    /// Which key.
    pub key: RecordKey,
    /// The change.
    pub update: Update,
    /// What the client has seen: all that a removal takes, and all that a switch or a write replaces. Without it, that is what
    /// the replica holds which coordinates the change.
    pub context: Option<CausalContext>,
    /// What the replica has to have seen before it makes the change, unless the change comes to the same in any order: what the
    /// client's session has seen.
    pub after: Option<CausalContext>,
    /// The name under which a retry is known.
    pub operation: OperationId,
    /// Whether it was asked for before.
    pub attempt: Attempt,
    /// How many replicas must hold it durably before it is acknowledged.
    pub consistency: Consistency,
    /// Whether replicas alone count, in a sloppy table too.
    pub strict: bool,
}

/// Whether a change was asked for before, and of whom.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Attempt {
    /// It was not.
    First,
    /// It was, and the outcome was ambiguous.
    Again {
        /// The only life of a replica that can have made it, if the asker remembers.
        asked: Option<(NodeId, Boot)>,
    },
}

/// A write of either sort, as those see it who coordinate it or pass it on.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Write {
    /// Of a value or a tombstone.
    Put(Box<Put>),
    /// A change of a data type.
    Modify(Box<Modify>),
}

impl Write {
    pub(crate) const fn key(&self) -> &RecordKey {
        match self {
            Self::Put(put) => &put.key,
            Self::Modify(modify) => &modify.key,
        }
    }

    pub(crate) const fn operation(&self) -> OperationId {
        match self {
            Self::Put(put) => put.operation,
            Self::Modify(modify) => modify.operation,
        }
    }

    /// About how many bytes its key, value and context take.
    pub(crate) fn bytes(&self) -> usize {
        let (value, context) = match self {
            Self::Put(put) => match &put.payload {
                Payload::Value(value) => (value.len(), &put.context),
                Payload::Tombstone => (0, &put.context),
            },
            Self::Modify(modify) => {
                let mut update = Vec::new();
                modify.update.encode(&mut update);
                (update.len(), &modify.context)
            }
        };
        self.key().as_bytes().len() + value + context.as_ref().map_or(0, |context| context.as_bytes().len())
    }

    pub(crate) const fn consistency(&self) -> Consistency {
        match self {
            Self::Put(put) => put.consistency,
            Self::Modify(modify) => modify.consistency,
        }
    }

    /// Whether replicas alone count.
    pub(crate) const fn is_strict(&self) -> bool {
        match self {
            Self::Put(put) => put.strict,
            Self::Modify(modify) => modify.strict,
        }
    }
}

/// One read of one key.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Get {
    /// Which key.
    pub key: RecordKey,
    /// How many replicas must agree, or be made to agree, before it is answered, and where.
    pub consistency: Consistency,
    /// How new the answer must be, when the read belongs to a session.
    pub floor: Option<Floor>,
}

/// A write that as many replicas hold durably as were asked for; in a [sloppy](crate::TableOptions::sloppy) table, as many replicas
/// and fallbacks together.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Written {
    /// The name of the write.
    pub dot: Dot,
    /// When it was minted.
    pub birth: Stamp,
    /// What the write had seen, and itself: give it to the next write that means to replace this one.
    pub context: CausalContext,
    /// How many replicas had acknowledged when the answer was given. Fallbacks are none.
    pub acknowledged: usize,
    /// How many fallbacks it took besides, which keep it durably, each for one replica that had not acknowledged: reads may miss the
    /// write until these have it. Zero when the replicas alone met the level, and always but in sloppy tables.
    pub fallbacks: usize,
}

/// What a read saw.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Read {
    record: Option<Record>,
    context: CausalContext,
    as_of: Millis,
    /// The table's data type, if it is a table of one.
    kind: Option<Kind>,
}

/// A value was asked for as another data type than the table's.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
#[error("the table holds {held:?}, not a {wanted}")]
pub struct WrongType {
    /// What the table is of; nothing when it is of no data type.
    pub held: Option<Kind>,
    /// What was asked for.
    pub wanted: &'static str,
}

impl Read {
    pub(crate) fn new(key: &RecordKey, record: Option<Record>, as_of: Millis) -> Self {
        let context = match &record {
            Some(record) => CausalContext::seal(key, record.context()),
            None => CausalContext::seal(key, &kv_core::VersionVector::new()),
        };
        Self { record, context, as_of, kind: None }
    }

    /// The same of a table with this rule.
    pub(crate) fn under(mut self, rule: Rule) -> Self {
        if let Rule::Crdt(kind) = rule {
            self.kind = Some(kind);
        }
        self
    }

    /// The values, oldest first: none when the key is absent, deleted or expired; several when concurrent writes stand side
    /// by side in a siblings table. Copies of one operation that a retry wrote twice count once (rule P10).
    #[must_use]
    pub fn values(&self) -> Vec<&Bytes> {
        let Some(record) = &self.record else { return Vec::new() };
        if sabotaged!(CountRetriesTwice) {
            return record.live(self.as_of).into_iter().map(|(_, _, value)| value).collect();
        }
        record.values(self.as_of)
    }

    /// The newest of [`Read::values`]: all there is in a last-write-wins table, one of several siblings elsewhere.
    #[must_use]
    pub fn value(&self) -> Option<&Bytes> {
        match self.record.as_ref()?.versions() {
            // By far the most reads, for which no list is made.
            [(_, version)] => match &version.payload {
                Payload::Value(value) if !version.expiry.is_past(self.as_of) => Some(value),
                Payload::Value(_) | Payload::Tombstone => None,
            },
            _ => self.values().pop(),
        }
    }

    /// What this read saw: give it to the write that replaces these values.
    #[must_use]
    pub const fn context(&self) -> &CausalContext {
        &self.context
    }

    /// The record as the replicas hold it, tombstones and expired versions included.
    #[must_use]
    pub const fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }
}

/// Why a write was not acknowledged. Only [`WriteError::Ambiguous`] and [`WriteError::Stopped`] leave open whether it
/// happened; after every other one, nothing was written.
#[derive(Clone, Eq, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The key is over the limits.
    #[error(transparent)]
    InvalidKey(#[from] InvalidKey),
    /// The value is over the limit.
    #[error("a value of {bytes} bytes is over the limit of {bytes_max}")]
    ValueTooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The record would outgrow what a frame can carry; read it and replace its siblings.
    #[error("a record of {bytes} bytes is over the limit of {bytes_max}")]
    RecordTooLarge {
        /// Its length with this write.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The context is not this key's, or was altered.
    #[error(transparent)]
    InvalidContext(#[from] InvalidContext),
    /// The table takes other operations: puts, or updates of its data type.
    #[error("the operation is not one of a {rule:?} table")]
    WrongTable {
        /// The table's rule.
        rule: Rule,
    },
    /// The data type does not take the update: see there.
    #[error(transparent)]
    Update(#[from] UpdateRefused),
    /// Values of data types do not expire.
    #[error("values of replicated data types have no time to live")]
    TtlOnDataType,
    /// Values of this cache table live no longer than so.
    #[error("a time to live of {ttl:?} is over the table's maximum of {ttl_max:?}")]
    TtlOverMaximum {
        /// What was asked for.
        ttl: Millis,
        /// The table's maximum.
        ttl_max: Millis,
    },
    /// The deletes of this cache table fill the memory that they may take at the replica which was to coordinate this one. They
    /// go as they grow older than the table's maximum time to live. Where other replicas are full and this one is not, the
    /// delete is [`WriteError::Ambiguous`] at its deadline if too few have taken it.
    #[error("the cache table has no room for another delete")]
    CacheFull,
    /// The time to live cannot be meant.
    #[error(transparent)]
    InvalidTtl(#[from] InvalidTtl),
    /// The record holds as many concurrent versions as it may. Read it, merge them, write with the context.
    #[error(
        "the record holds {held} concurrent versions of at most {held_max}; read, merge, and write with the context"
    )]
    TooManySiblings {
        /// How many it holds.
        held: usize,
        /// The limit.
        held_max: usize,
    },
    /// Every replica that was asked to coordinate it has a new storage, and has yet to get what the one before held. Nothing was
    /// written.
    #[error("the replicas that can be reached have yet to import what their new storage lacks; nothing was written")]
    Importing,
    /// The table is not known.
    #[error("unknown table")]
    UnknownTable,
    /// The key has fewer replicas than the level asks for, there where it asks for them.
    #[error(transparent)]
    TooFewReplicas(#[from] TooFewReplicas),
    /// Too few replicas can be reached to try, or, in a sloppy table, too few replicas and fallbacks, or no replica at all.
    #[error("{reachable} replicas can be reached, {required} are required; nothing was written")]
    Unavailable {
        /// How many can be reached; in a sloppy table fallbacks are counted.
        reachable: usize,
        /// How many are needed.
        required: usize,
    },
    /// The deadline passed before as many replicas had acknowledged as were asked for. The write may survive or not; retry
    /// with the same operation id, or read.
    #[error(
        "{acknowledged} of {required} replicas acknowledged in time, and {fallbacks} fallbacks; the write may or may not survive"
    )]
    Ambiguous {
        /// The name to retry with.
        operation: OperationId,
        /// How many replicas hold it durably for certain.
        acknowledged: usize,
        /// How many fallbacks keep it durably for replicas that have not acknowledged; zero but in sloppy tables.
        fallbacks: usize,
        /// How many were asked for.
        required: usize,
    },
    /// The deadline passed while the request was waiting to begin.
    #[error("the deadline passed before the write began; nothing was written")]
    DeadlinePassed,
    /// This node's clock is too far behind the stamps it would have to top.
    #[error(transparent)]
    ClockDrift(#[from] ClockDrift),
    /// The node serves no requests; its status says why.
    #[error("the node does not serve: {0}")]
    NotServing(Standing),
    /// The node has too much to do, and did nothing for this request.
    #[error("the node has too much to do; ask again after {retry_after:?}")]
    Overloaded {
        /// Not before.
        retry_after: Millis,
    },
    /// The record at this replica cannot be read.
    #[error("the replica's store failed: {0}")]
    Store(String),
    /// The node stopped before it could answer; the write may or may not survive.
    #[error("the node has stopped")]
    Stopped,
}

/// Why a read was not answered. Nothing was changed, except that replicas may have been repaired.
#[derive(Clone, Eq, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The key is over the limits.
    #[error(transparent)]
    InvalidKey(#[from] InvalidKey),
    /// The table is not known.
    #[error("unknown table")]
    UnknownTable,
    /// The key has fewer replicas than the level asks for, there where it asks for them. Nothing was asked.
    #[error(transparent)]
    TooFewReplicas(#[from] TooFewReplicas),
    /// Too few replicas can be reached to try.
    #[error("{reachable} replicas can be reached, {required} are required")]
    Unavailable {
        /// How many can be reached.
        reachable: usize,
        /// How many are needed.
        required: usize,
    },
    /// The deadline passed before as many replicas as were asked for had answered and agreed.
    #[error("{answered} of {required} replicas answered in time")]
    Timeout {
        /// How many had answered.
        answered: usize,
        /// How many were asked for.
        required: usize,
    },
    /// The deadline passed, and what the replicas answered is older than what the session has seen. Those that hold what it has
    /// seen are away; ask again, or at a higher level.
    #[error("{answered} replicas answered in time, and what they hold is older than what the session has seen")]
    BehindSession {
        /// How many had answered.
        answered: usize,
    },
    /// The node serves no requests; its status says why.
    #[error("the node does not serve: {0}")]
    NotServing(Standing),
    /// The node has too much to do, and did nothing for this request.
    #[error("the node has too much to do; ask again after {retry_after:?}")]
    Overloaded {
        /// Not before.
        retry_after: Millis,
    },
    /// What replicas hold cannot be joined.
    #[error("the replicas' records cannot be joined: {0}")]
    Corrupt(String),
    /// The node stopped before it could answer.
    #[error("the node has stopped")]
    Stopped,
}

/// Why an operation on the cluster itself failed.
#[derive(Clone, Eq, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The node belongs to a cluster already.
    #[error("the node belongs to a cluster already")]
    AlreadyFounded,
    /// A member belongs to another cluster, or is not the node it was.
    #[error("{0} belongs to another cluster")]
    MemberTaken(NodeId),
    /// The list of members cannot found a cluster.
    #[error("these members cannot found a cluster: {0}")]
    InvalidMembers(String),
    /// The table cannot be laid out over the members.
    #[error("the table cannot be laid out: {0}")]
    InvalidTable(String),
    /// The options contradict each other.
    #[error(transparent)]
    InvalidOptions(InvalidOptions),
    /// There is a table of that name with other options.
    #[error("there is a table of that name with other options")]
    TableExists,
    /// No table of that name.
    #[error("unknown table")]
    UnknownTable,
    /// The deadline passed before every member had acknowledged. Running it again continues where it stopped.
    #[error("not every member acknowledged in time; still missing: {missing:?}")]
    Incomplete {
        /// Who has not.
        missing: Vec<NodeId>,
    },
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
