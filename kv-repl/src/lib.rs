//! A Dynamo-class cluster as a library.
#![forbid(unsafe_code)]

pub mod transport;

pub use kv_core::NodeId;
