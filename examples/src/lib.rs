//! Parts that the examples share, each small enough to be read in one go.
//!
//! `cargo run --release --example mini_cluster` starts a whole cluster in one process. Read it in this order:
//! [`mini_cluster`] is the plot, [`local_cluster`] the nodes that can be killed and started again, [`client`] the load with
//! its [`window`] of requests under way, [`ledger`] the proof that nothing that was acknowledged is lost.
#![forbid(unsafe_code)]

pub mod chaos;
pub mod client;
pub mod cluster_bench;
pub mod conflicts;
pub mod coordinators;
pub mod feeder;
pub mod input_file;
pub mod kv_inspect;
pub mod latency;
pub mod ledger;
pub mod local_cluster;
pub mod mini_cluster;
pub mod node_store;
pub mod options;
pub mod outcome;
pub mod phase;
pub mod report;
pub mod ring_balance;
pub mod ring_chart;
pub mod sim_stores;
#[cfg(unix)]
pub mod unix_transport;
pub mod window;
pub mod workload;

/// The examples of the README, run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// Those of the page on transports.
#[cfg(doctest)]
#[doc = include_str!("../../docs/transport.md")]
struct TransportPage;
