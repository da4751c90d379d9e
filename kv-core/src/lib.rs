//! The vocabulary that the storage engine, the ring and the replication protocols share.
//!
//! The crate is pure: no clock, no randomness, no thread, no file. Time comes in as a value, and everything that is
//! decoded from bytes is checked against the bytes that exist before anything is allocated.
//!
//! | what | where |
//! |---|---|
//! | bounded decoding | [`codec`] |
//! | keys in token order | [`key`] |
//! | versions: dots, version vectors with exceptions, dotted version sets | [`version`] |
//! | records: what a replica stores under a key, and how two of them join | [`record`] |
//! | counters, sets, maps, flags, registers that replicas change without asking each other | [`crdt`] |
//! | the rule of a table: siblings, last write wins, a merge of the host's, a data type | [`conflict`] |
//! | what a client carries from a read to its next write | [`context`] |
//! | hybrid logical clock, expiry | [`hlc`], [`expiry`] |
//! | many deadlines, and who goes when there is no room | [`wheel`], [`evict`] |
//! | a cache bounded by bytes, which is no store | [`cache`] |
//! | what was counted, on its way to whatever watches | [`export`] |
//! | any bytes, for fuzzers | [`fuzzing`] |
//! | the store that the protocols write to, and an in-memory one | [`store`], [`mem_store`] |
#![forbid(unsafe_code)]

pub mod cache;
pub mod checksum;
pub mod codec;
pub mod conflict;
pub mod context;
pub mod crdt;
pub mod evict;
pub mod expiry;
pub mod export;
pub mod fuzzing;
#[cfg(test)]
mod golden;
pub mod hash;
pub mod hlc;
pub mod key;
pub mod limits;
pub mod mem_store;
pub mod node_id;
mod operation;
pub mod record;
pub mod slot;
pub mod store;
pub mod time;
pub mod version;
pub mod wheel;

pub use cache::Cache;
pub use expiry::Expiry;
pub use hlc::Hlc;
pub use mem_store::MemStore;
pub use node_id::NodeId;
pub use store::{Store, View};
pub use version::{DottedVersionSet, VersionVector};
