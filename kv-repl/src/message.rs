//! Everything that nodes say to each other.
//!
//! A `tag` ties a reply to its request. A node never uses a tag twice, not even in another life, so a reply that was held
//! back for long never meets the request of a later life.

mod kind;

pub use kind::MessageKind;

use std::sync::Arc;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::key::RecordKey;
use kv_core::time::Millis;

use crate::catalog::{Founding, TableSchema};
use crate::comparison::{Answer, FloorAnswer, FloorStep, Place, Question};
use crate::liveness::Rumour;
use crate::request::{ClusterError, Modify, Put, WriteError, Written};
use crate::scan::listing::Listing;
use crate::sight::Sight;
use crate::table_options::TableOptions;
use crate::transport::Lane;

/// One message.
#[derive(Clone, PartialEq, Debug)]
pub enum Message {
    /// "I am here, in this life." Sent to every peer at the start and from time to time.
    Hello {
        /// Tells apart two lives that claim one boot number.
        nonce: u64,
        /// How many tables the sender knows.
        catalog_version: u32,
        /// Where the sender is, so that a node which was told of nobody can answer. Empty when it does not know.
        address: String,
    },
    /// "I know you as the member you say you are."
    HelloReply {
        /// The nonce of the hello.
        nonce: u64,
        /// The nonce of the sender's own life.
        own_nonce: u64,
        /// How many tables the sender knows.
        catalog_version: u32,
    },
    /// "You are not who you claim to be, or your storage is not what it was."
    Unwelcome {
        /// The nonce of the hello.
        nonce: u64,
        /// Why.
        reason: Unwelcome,
    },
    /// The members and their storages, for a member that has not heard of them or not of the latest.
    Found(Box<Founding>),
    /// "My storage was lost, and this is a new one: take it for mine from now on." Said because somebody who runs the node asked for
    /// it.
    Replace {
        /// That of the sender's life.
        nonce: u64,
    },
    /// Tables that the receiver may lack: the ones after the first `after`.
    CatalogPush {
        /// How many tables come before the first one here.
        after: u32,
        /// The next ones, in order.
        tables: Vec<Arc<TableSchema>>,
    },
    /// "I durably know this many tables."
    CatalogHave {
        /// How many.
        version: u32,
    },
    /// Asks the schema home for a table.
    CreateTable {
        /// Ties the reply.
        tag: u64,
        /// Its name.
        name: String,
        /// Its options.
        options: TableOptions,
    },
    /// What became of [`Message::CreateTable`].
    TableCreated {
        /// Ties the reply.
        tag: u64,
        /// How many tables the asker will know when it knows this one.
        outcome: Result<u32, ClusterError>,
    },
    /// A write passed on to a replica of its key, which coordinates it.
    Forward {
        /// Ties the reply.
        tag: u64,
        /// Every tag below this one that the sender has passed on to the receiver is settled: the receiver forgets them.
        settled_below: u64,
        /// How much time is left.
        time_left: Millis,
        /// The write.
        put: Box<Put>,
    },
    /// A change of a data type, passed on as [`Message::Forward`] passes on a write.
    ForwardUpdate {
        /// Ties the reply, a [`Message::Forwarded`].
        tag: u64,
        /// As in [`Message::Forward`].
        settled_below: u64,
        /// How much time is left.
        time_left: Millis,
        /// The change.
        modify: Box<Modify>,
    },
    /// What became of [`Message::Forward`].
    Forwarded {
        /// Ties the reply.
        tag: u64,
        /// The outcome.
        outcome: Result<Written, WriteError>,
    },
    /// A change to a record, to be joined blindly.
    Write {
        /// Ties the reply.
        tag: u64,
        /// The epoch of the layout by which the receiver was chosen.
        epoch: u64,
        /// Whose record.
        key: RecordKey,
        /// The change.
        record: Bytes,
    },
    /// "It is durable here", or why not.
    WriteReply {
        /// Ties the reply.
        tag: u64,
        /// Why not.
        refused: Option<Refusal>,
    },
    /// A change to a record of a sloppy table, to be kept for one of its replicas that is away.
    Keep {
        /// Ties the reply.
        tag: u64,
        /// The epoch of the layout by which the receiver was chosen.
        epoch: u64,
        /// For which replica.
        target: NodeId,
        /// Whose record.
        key: RecordKey,
        /// The change.
        record: Bytes,
    },
    /// "It is kept durably here", or why not.
    Kept {
        /// Ties the reply.
        tag: u64,
        /// For which replica.
        target: NodeId,
        /// Why not.
        refused: Option<Refusal>,
    },
    /// Asks for a record.
    Read {
        /// Ties the reply.
        tag: u64,
        /// The epoch of the layout by which the receiver was chosen.
        epoch: u64,
        /// Whose record.
        key: RecordKey,
        /// Whether a digest is enough.
        digest: bool,
    },
    /// The digest of the record, durable at the sender, or why not.
    DigestReply {
        /// Ties the reply.
        tag: u64,
        /// The digest; that of no bytes when the key was never written.
        outcome: Result<u128, Refusal>,
    },
    /// The record, durable at the sender, or why not.
    ReadReply {
        /// Ties the reply.
        tag: u64,
        /// The record; `None` when the key was never written.
        outcome: Result<Option<Bytes>, Refusal>,
    },
    /// "Do you live?"
    Ping {
        /// Ties the answer.
        sequence: u64,
        /// What the sender has to tell.
        rumours: Vec<Rumour>,
    },
    /// "Does that one live? It does not answer me."
    PingRequest {
        /// Ties the answer.
        sequence: u64,
        /// Which.
        target: NodeId,
        /// What the sender has to tell.
        rumours: Vec<Rumour>,
    },
    /// "I live", or, to whoever asked through the sender, "it does".
    Ack {
        /// Ties the question.
        sequence: u64,
        /// What the sender has to tell.
        rumours: Vec<Rumour>,
    },
    /// "I live, and have reached the one you asked for as little as you have."
    Nack {
        /// Ties the question.
        sequence: u64,
    },
    /// What the sender has to tell.
    News {
        /// All of it that fits.
        rumours: Vec<Rumour>,
    },
    /// All that the sender believes of others, or a part of it if that is long.
    Exchange {
        /// Whether it wants to hear the same.
        asks: bool,
        /// What it believes.
        rumours: Vec<Rumour>,
    },
    /// Asks what the receiver holds of a key, and what it knows of the key's other replicas.
    Describe {
        /// Ties the reply.
        tag: u64,
        /// The epoch of the layout by which the receiver was chosen.
        epoch: u64,
        /// Of which key.
        key: RecordKey,
    },
    /// What it holds and knows, durable at the sender, or why not.
    Described {
        /// Ties the reply.
        tag: u64,
        /// All of it.
        outcome: Result<Box<Sight>, Refusal>,
    },
    /// Asks for the first keys of a range, and what the receiver holds of each.
    Scan {
        /// Ties the reply.
        tag: u64,
        /// The epoch of the layout by which the receiver was chosen.
        epoch: u64,
        /// Where the range begins: the start of a record key, or a whole one, or a little more.
        from: Bytes,
        /// Before which it ends; at the end of the table when there is none.
        until: Option<Bytes>,
        /// Most keys.
        keys_max: u32,
        /// About how many bytes at most, but for a single key.
        bytes_max: u32,
        /// Whether digests are enough.
        digests: bool,
    },
    /// The keys, durable at the sender, or why not.
    Listed {
        /// Ties the reply.
        tag: u64,
        /// The keys.
        outcome: Result<Listing, Refusal>,
    },
    /// Messages of requests that belong together: those of one batch, or the answers to them.
    Together(Vec<Self>),
    /// A question of one replica to another while they compare what they hold.
    RepairAsk {
        /// Ties the answer.
        tag: u64,
        /// The epoch of the layout by which the receiver was chosen.
        epoch: u64,
        /// What they compare.
        place: Place,
        /// The question.
        question: Question,
    },
    /// The answer, or why there is none.
    RepairAnswer {
        /// Ties it to the question.
        tag: u64,
        /// The answer.
        answer: Result<Answer, Refusal>,
    },
    /// A step of one replica that leads a place to a higher floor.
    FloorAsk {
        /// Ties the answer.
        tag: u64,
        /// The epoch of the layout by which the receiver was chosen.
        epoch: u64,
        /// Of what.
        place: Place,
        /// The step.
        step: FloorStep,
    },
    /// What the other one says to it, or why nothing.
    FloorTold {
        /// Ties it to the step.
        tag: u64,
        /// What it says.
        answer: Result<FloorAnswer, Refusal>,
    },
}

/// Why a node is not accepted.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Unwelcome {
    /// The member of that name had another storage.
    OtherIncarnation,
    /// A later life of this storage was seen: the disk went back in time.
    RolledBack,
    /// No member of that name.
    Stranger,
}

/// Why a replica did not do what it was asked.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Refusal {
    /// The asker's layout is of another epoch; this is the replica's.
    Fenced {
        /// The replica's epoch.
        epoch: u64,
    },
    /// The table is not known here yet.
    UnknownTable,
    /// The key does not belong here.
    NotReplica,
    /// The node serves nobody at the moment.
    NotServing,
    /// The record cannot be read or is not of the table's rule.
    Damaged,
    /// There is no room for it: in a cache table, or among what the node keeps for others.
    Full,
    /// The node has too much to do, and did nothing for this. It is no answer: somebody else is to be asked.
    Overloaded {
        /// Not before this time is the node to be asked again.
        retry_after: Millis,
    },
    /// The storage is new and lacks what the one before held. A change is stored all the same.
    Importing,
    /// It brings a value that everybody knew to be gone before it was forgotten that it had been there. Nothing was stored.
    BelowFloor,
    /// It is a delete of a cache table that is born too far ahead of the replica's clock: it would forget it when it starts again.
    Early,
}

impl Message {
    /// Whether two nodes may say it before they have met in their present lives.
    #[must_use]
    pub const fn is_introduction(&self) -> bool {
        matches!(
            self,
            Self::Hello { .. }
                | Self::HelloReply { .. }
                | Self::Unwelcome { .. }
                | Self::Found(_)
                | Self::Replace { .. }
        )
    }

    /// How many bytes of a record it carries.
    pub(crate) fn record_bytes(&self) -> usize {
        match self {
            Self::Write { record, .. }
            | Self::Keep { record, .. }
            | Self::ReadReply { outcome: Ok(Some(record)), .. } => record.len(),
            Self::Listed { outcome: Ok(listing), .. } => listing.bytes(),
            _ => 0,
        }
    }

    /// Whether it may be one of several in [`Message::Together`].
    #[must_use]
    pub const fn travels_together(&self) -> bool {
        matches!(self.lane(), Lane::Request) && !matches!(self, Self::Together(_) | Self::Describe { .. })
    }

    /// Several messages as one.
    pub(crate) fn together(mut parts: Vec<Self>) -> Self {
        if parts.len() == 1 { parts.remove(0) } else { Self::Together(parts) }
    }

    /// Two messages that say the same, if it can be cut in two.
    pub(crate) fn halves(self) -> Option<(Self, Self)> {
        let Self::Together(mut parts) = self else { return None };
        let rest = parts.split_off(parts.len() / 2);
        (!parts.is_empty()).then(|| (Self::together(parts), Self::together(rest)))
    }

    /// Whether it belongs to failure detection.
    #[must_use]
    pub const fn is_gossip(&self) -> bool {
        matches!(
            self,
            Self::Ping { .. }
                | Self::PingRequest { .. }
                | Self::Ack { .. }
                | Self::Nack { .. }
                | Self::News { .. }
                | Self::Exchange { .. }
        )
    }

    /// How urgent it is.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Hello { .. }
            | Self::HelloReply { .. }
            | Self::Unwelcome { .. }
            | Self::Found(_)
            | Self::Replace { .. }
            | Self::CatalogPush { .. }
            | Self::CatalogHave { .. }
            | Self::CreateTable { .. }
            | Self::TableCreated { .. }
            | Self::Ping { .. }
            | Self::PingRequest { .. }
            | Self::Ack { .. }
            | Self::Nack { .. }
            | Self::News { .. }
            | Self::Exchange { .. } => Lane::Control,
            Self::Forward { .. }
            | Self::ForwardUpdate { .. }
            | Self::Forwarded { .. }
            | Self::Write { .. }
            | Self::WriteReply { .. }
            | Self::Keep { .. }
            | Self::Kept { .. }
            | Self::Read { .. }
            | Self::ReadReply { .. }
            | Self::DigestReply { .. }
            | Self::Describe { .. }
            | Self::Together(_) => Lane::Request,
            Self::RepairAsk { .. }
            | Self::RepairAnswer { .. }
            | Self::FloorAsk { .. }
            | Self::FloorTold { .. }
            | Self::Described { .. }
            | Self::Scan { .. }
            | Self::Listed { .. } => Lane::Bulk,
        }
    }
}
