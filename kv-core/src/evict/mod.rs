//! Eviction policies: which entry goes when there is no more room.
//!
//! A [`Policy`] knows entries as [slots](crate::slot::Slot), sizes and hashes, so it serves any map, and is tested
//! without one. [`Cache`](crate::Cache) is the map of this crate. Bounds are in bytes: the owner asks for victims
//! until what comes in fits, and the policies that divide the room (S3-FIFO, W-TinyLFU) divide bytes.
//!
//! | policy | a hit costs | good at | source |
//! |---|---|---|---|
//! | [`S3Fifo`] | a store, at most | skewed traffic, scans | SOSP 2023 |
//! | [`Sieve`] | a store, at most | skewed traffic | NSDI 2024 |
//! | [`WTinyLfu`] | a store, at most | skewed traffic, scans, loops | TOS 2017, Caffeine |
//! | [`Lfu`] | a store, at most | what stays popular, loops | LFU-DA, 2000 |
//! | [`Lru`] | a note, O(1) later | recency | 1970 |
//! | [`Random`] | nothing | loops | |
//! | [`Fifo`] | nothing | write-once streams | |
//! | [`Soonest`] | nothing | entries that end anyway | Redis' `volatile-ttl` |
//!
//! ```
//! use kv_core::evict::{Candidate, Policy, Sieve};
//! use kv_core::{Expiry, slot::Slot};
//!
//! let mut policy = Sieve::new();
//! for number in 0..3 {
//!     policy.insert(Slot(number), Candidate { hash: number.into(), bytes: 100, expiry: Expiry::NEVER });
//! }
//! policy.hit(Slot(0));
//! assert_eq!(policy.evict(100), Some(Slot(1)), "the oldest that was not used");
//! ```

mod fifo;
mod ghosts;
mod kind;
mod lfu;
mod list;
mod lru;
mod marks;
mod per_slot;
mod policy;
mod random;
mod read_buffer;
mod s3_fifo;
mod sieve;
mod sketch;
mod soonest;
mod w_tiny_lfu;

pub use fifo::Fifo;
pub use kind::PolicyKind;
pub use lfu::Lfu;
pub use lru::Lru;
pub use policy::{Candidate, Policy};
pub use random::Random;
pub use s3_fifo::S3Fifo;
pub use sieve::Sieve;
pub use soonest::Soonest;
pub use w_tiny_lfu::WTinyLfu;

#[cfg(test)]
mod tests;
