//! Checkers of histories: they look at what clients and wires saw, never into the nodes.

mod history;
mod ledger;

pub use history::{History, ReadBegun, WriteIndex};
pub use ledger::DotLedger;
