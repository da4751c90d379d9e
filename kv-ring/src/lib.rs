//! Which nodes own a key.
#![forbid(unsafe_code)]

pub use kv_core::NodeId;
