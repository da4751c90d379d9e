//! A Dynamo-class cluster as a library.
#![forbid(unsafe_code)]

#[macro_use]
mod sabotage;

pub mod catalog;
#[cfg(any(test, feature = "sim"))]
pub mod check;
pub mod client;
pub mod config;
mod coordinator;
mod driver;
pub mod identity;
mod machine;
pub mod member;
mod membership;
pub mod message;
mod mint;
pub mod node;
mod node_core;
pub mod peers;
pub mod quorum;
mod replica;
pub mod request;
mod schema;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod status;
pub mod transport;
mod turn;
pub mod wire;
mod worker;

pub use client::Table;
pub use kv_core::NodeId;
pub use member::Member;
pub use node::Node;
pub use node_core::RestoreError;
pub use quorum::Consistency;
pub use request::TableOptions;
pub use worker::StartError;
