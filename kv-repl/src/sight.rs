//! What one replica says of one key when somebody asks where his data is.

use kv_core::NodeId;
use kv_core::expiry::Expiry;
use kv_core::hlc::Stamp;
use kv_core::record::{OperationId, Payload, Record};
use kv_core::time::Millis;
use kv_core::version::{Dot, VersionVector};

use crate::digest::digest;

/// All of it, durable at the replica.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Sight {
    /// What it holds; nothing when it has never heard of the key.
    pub record: Option<HeldRecord>,
    /// What it knows of each other replica of the key.
    pub peers: Vec<PeerSight>,
}

/// A record without its values.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct HeldRecord {
    /// Equal for equal records.
    pub digest: u128,
    /// How long the record is in the store.
    pub bytes: u64,
    /// The highest stamp in it.
    pub birth_max: Stamp,
    /// Every write that it knows of, replaced or not.
    pub context: VersionVector,
    /// What nothing has replaced, tombstones and expired versions included. A replicated data type has none.
    pub versions: Vec<HeldVersion>,
}

/// A version without its value.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct HeldVersion {
    /// Its name.
    pub dot: Dot,
    /// When it was minted.
    pub birth: Stamp,
    /// Whether it is a delete.
    pub is_tombstone: bool,
    /// How long its value is.
    pub bytes: u64,
    /// When it expires, or did.
    pub expiry: Expiry,
    /// The operation that wrote it.
    pub operation: Option<OperationId>,
}

/// What one replica knows of another one.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct PeerSight {
    /// The other one.
    pub peer: NodeId,
    /// What is kept of this key for it, because it has missed it.
    pub hint: Option<KeptHint>,
    /// Whether the key's partition owes a comparison with it, because something that it had missed was not kept.
    pub owed: bool,
    /// How long ago the two were found, or made, equal in the key's partition, in a comparison that the one who tells this began in its
    /// present life.
    pub compared_ago: Option<Millis>,
}

/// A hint.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct KeptHint {
    /// How much room it takes.
    pub bytes: u64,
    /// The birth of the oldest version in it.
    pub oldest: Stamp,
}

impl HeldRecord {
    /// What `bytes` are the record of.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let record = Record::decode_slice(bytes).ok()?;
        let version = |(dot, version): &(Dot, kv_core::record::Version)| HeldVersion {
            dot: *dot,
            birth: version.birth,
            is_tombstone: version.payload == Payload::Tombstone,
            bytes: match &version.payload {
                Payload::Value(value) => value.len() as u64,
                Payload::Tombstone => 0,
            },
            expiry: version.expiry,
            operation: version.operation,
        };
        Some(Self {
            digest: digest(Some(bytes)),
            bytes: bytes.len() as u64,
            birth_max: record.birth_max(),
            context: record.context().clone(),
            versions: record.versions().iter().map(version).collect(),
        })
    }
}
