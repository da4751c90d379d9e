//! A Dynamo-class cluster as a library.
//!
//! The host hands over a [store](kv_core::Store) and a [transport](transport::Transport), and gets partitioning, quorum
//! replication with tunable consistency, conflict rules that lose nothing silently, and nodes that survive crashes and
//! know each other by more than a name.
//!
//! ```
//! use std::sync::Arc;
//!
//! use kv_core::MemStore;
//! use kv_core::record::RecordJoin;
//! use kv_core::store::{Space, SpaceOptions};
//! use kv_repl::transport::MemoryNetwork;
//! use kv_repl::{Consistency, Member, Node, NodeId, TableOptions};
//!
//! let network = MemoryNetwork::new();
//! let start = |id| {
//!     let records = SpaceOptions { merge: Some(Arc::new(RecordJoin)) };
//!     let plain = SpaceOptions::default;
//!     let store = MemStore::new([(Space::META, plain()), (Space::DATA, records), (Space::HINTS, plain())]);
//!     Node::builder(id).store(store).transport(network.transport(id)).start()
//! };
//! let nodes = [start(NodeId(1))?, start(NodeId(2))?, start(NodeId(3))?];
//! nodes[0].bootstrap(&[1, 2, 3].map(|id| Member::new(NodeId(id), "in memory")))?;
//!
//! let carts = nodes[0].create_table("carts", TableOptions::siblings().replicas(3))?;
//! carts.put("alice", "milk").consistency(Consistency::All).wait()?;
//! assert_eq!(nodes[2].table("carts")?.get("alice").wait()?.values(), ["milk"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it is built
//!
//! Every protocol is a value that is handed events and says what should happen; it reads no clock and does no input or
//! output. The node routes between them, a worker turns their decisions into one atomic commit for each turn and holds
//! every answer back until what it speaks of is durable. The same code runs under threads and, with the feature `sim`, in
//! the deterministic simulator.
//!
//! Sources: DeCandia and others, "Dynamo: Amazon's highly available key-value store" (SOSP 2007); the versions are those of
//! [`kv_core::version`].
#![forbid(unsafe_code)]

#[macro_use]
mod sabotage;

mod admission;
mod by_number;
mod by_replica;
mod caches;
pub mod catalog;
#[cfg(any(test, feature = "sim"))]
pub mod check;
pub mod client;
pub mod comparison;
pub mod config;
mod coordinator;
pub mod description;
mod digest;
mod driver;
pub mod events;
mod floors;
pub mod fuzzing;
mod gossip;
pub mod hint_status;
mod hints;
pub mod identity;
mod imports;
mod inbox;
mod lister;
pub mod liveness;
mod looking;
mod machine;
pub mod member;
mod membership;
pub mod message;
mod mint;
pub mod node;
mod node_core;
pub mod peers;
pub mod quorum;
mod remembered;
mod repair;
pub mod repair_request;
mod replica;
pub mod request;
mod round_trip;
pub mod scan;
mod schema;
pub mod seen;
pub mod session;
mod shared;
pub mod sight;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod stats;
pub mod status;
mod storages;
pub mod table_options;
mod throttle;
mod trace;
pub mod transport;
mod turn;
pub mod wire;
mod worker;

pub use client::Table;
pub use kv_core::NodeId;
pub use liveness::Liveness;
pub use member::Member;
pub use node::Node;
pub use quorum::Consistency;
pub use remembered::RestoreError;
pub use repair_request::RepairScope;
pub use session::Session;
pub use stats::Stats;
pub use table_options::TableOptions;
pub use worker::StartError;
