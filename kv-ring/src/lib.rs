//! Which nodes own a key, and how much each of them holds.
//!
//! A [`Layout`] cuts the 64-bit hash space into 2^q equal partitions and says, in a table, which nodes hold the replicas of
//! each. The table is computed from the members, their weights and their zones: every node gets its share to within one
//! partition, replicas of a partition are on distinct nodes and in distinct zones, and the primaries are spread as well.
//! What cannot be had, for want of zones or nodes, is had as far as possible, and reported.
//!
//! A [`Plan`] says what a change would move before anything does, and a [`Topology`] takes it through stages in which no
//! quorum can miss another. `docs/placement.md` tells the whole story, with figures.
//!
//! Everything here is pure: no clock, no randomness, no input or output, no `unsafe`. Equal inputs give equal layouts, bytes and hashes
//! on every machine. It needs `std`, as kv-core does, for whose vocabulary it is made.
//!
//! ```
//! use kv_ring::{Change, Layout, NodeId, Weight, Zone};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let layout = Layout::builder(3)
//!     .partitions(1024)
//!     .node(NodeId(1), Weight(1), Zone::new("a"))
//!     .node(NodeId(2), Weight(1), Zone::new("b"))
//!     .node(NodeId(3), Weight(2), Zone::new("c"))
//!     .node(NodeId(4), Weight(1), Zone::new("a"))
//!     .node(NodeId(5), Weight(1), Zone::new("b"))
//!     .build()?;
//!
//! let token = layout.token_of(b"user:42");
//! let replicas = layout.replicas_of(token);
//! assert_eq!(replicas.len(), 3);
//!
//! // The zones have weight 2 each, so every zone has one replica of every partition.
//! let zones: Vec<_> = replicas.iter().map(|&node| &layout.member(node).unwrap().zone).collect();
//! assert!(zones[0] != zones[1] && zones[1] != zones[2] && zones[0] != zones[2]);
//! assert_eq!(layout.load_of(NodeId(3)).unwrap().slots, 1024);
//! assert_eq!(layout.load_of(NodeId(1)).unwrap().slots, 512);
//! println!("{}", layout.report());
//!
//! // A new node in zone a takes its share there, and nothing else moves.
//! let plan = layout.plan(&Change::new().add(NodeId(6), Weight(2), Zone::new("a")))?;
//! assert_eq!(plan.moves().len() as u64, plan.moves_min());
//! assert!(plan.moves().iter().all(|step| step.target == NodeId(6)));
//! println!("{plan}");
//! # Ok(())
//! # }
//! ```
//!
//! | to know | see |
//! |---|---|
//! | who holds a key | [`Layout::replicas_of`], [`Layout::token_of`] |
//! | what a node holds, and should | [`Layout::partitions_of`], [`Layout::report`] |
//! | whether two nodes have the same layout | [`Layout::epoch`], [`Layout::hash`] |
//! | how it travels | [`Layout::encode`], [`Layout::decode`], [`LayoutDelta`] |
//! | tables with other needs | [`PlacementClass`], [`Layout::assignment`] |
//! | what a change would move | [`Change`], [`Layout::plan`] |
//! | who must agree while it moves | [`Topology`], [`Placement`], [`Stage`] |
//! | rings, bounded loads, rendezvous, Maglev, jump hashing | [`classic`] |
//! | keys from strangers | [`TokenHash`] |
#![forbid(unsafe_code)]

mod assign;
mod assignment;
mod builder;
mod change;
mod class;
pub mod classic;
mod codec;
mod delta;
mod epoch;
pub mod fuzzing;
mod layout;
mod node;
mod partition;
mod placement;
mod plan;
mod primaries;
mod report;
mod targets;
mod token_hash;
mod topology;

pub use assignment::Assignment;
pub use builder::{LayoutBuilder, LayoutError};
pub use change::{Change, ChangeError};
pub use class::{ClassId, PlacementClass, ZoneRule};
pub use classic::{HashRing, Rendezvous, jump_hash};
pub use codec::LayoutDecodeError;
pub use delta::{DeltaError, LayoutDelta};
pub use epoch::Epoch;
pub use kv_core::{
    NodeId,
    hash::{Token, token_of},
};
pub use layout::Layout;
pub use node::{Member, Weight, Zone};
pub use partition::PartitionId;
pub use placement::{Placement, Stage};
pub use plan::{LoadChange, Move, Plan, PlanWarning, StalePlan};
pub use report::{NodeLoad, Report, Warning};
pub use token_hash::TokenHash;
pub use topology::{Topology, TopologyDecodeError, TopologyError};
