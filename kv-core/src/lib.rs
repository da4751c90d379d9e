//! The vocabulary that the storage engine, the ring and the replication protocols share.
#![forbid(unsafe_code)]

pub mod checksum;
pub mod codec;
pub mod hash;
pub mod limits;
pub mod node_id;
pub mod store;
pub mod time;

pub use node_id::NodeId;
pub use store::{Store, View};
