//! Transports over loopback, with nodes and strangers that are made up.

mod failures;
mod harness;
mod queues;
mod strangers;
mod traffic;
