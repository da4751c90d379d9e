//! What a node says about the hints that it keeps for others.

use kv_core::NodeId;
use kv_core::hlc::Stamp;

/// Hints at one moment, and what became of them in this life of a node.
#[derive(Clone, Eq, PartialEq, Default, Debug)]
pub struct HintStatus {
    /// How many bytes all hints take up, keys included.
    pub bytes: u64,
    /// How many they may take up. Zero when the node keeps none: its store has no space for them, or it was set so.
    pub bytes_max: u64,
    /// Changes that were kept for others; several of one record make one hint.
    pub kept: u64,
    /// How many of these were kept for other coordinators, in the place of a replica of a sloppy table.
    pub stood_in: u64,
    /// Hints that were delivered: durable at whom they were for.
    pub delivered: u64,
    /// Changes and hints that were not kept, or not any longer, each under an owed-repair mark.
    pub shed: u64,
    /// Hints that were for a node that does not hold their record any more, and went to those that do.
    pub redirected: u64,
    /// Everybody for whom something is kept or owed, or was shed.
    pub targets: Vec<TargetHints>,
}

/// What is kept for one node.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct TargetHints {
    /// For whom.
    pub target: NodeId,
    /// How many hints: one for each record that it has missed something of.
    pub hints: u64,
    /// How many bytes they take up.
    pub bytes: u64,
    /// No version in them was born before; of records of data types, no change, which may bring with it what is older.
    pub oldest_birth: Option<Stamp>,
    /// How many partitions owe a comparison with it, because something that it had missed was not kept.
    pub owed_partitions: usize,
    /// What was shed of it since the start of this node.
    pub shed: u64,
    /// Whether hints are being delivered to it.
    pub delivering: bool,
}
