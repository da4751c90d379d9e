//! Checkers of histories: they look at what clients and wires saw and at what nodes report, never into the nodes.

mod cache;
mod counter;
mod coverage;
mod extreme;
mod fallbacks;
mod floors;
mod hints;
mod history;
mod ledger;
mod liveness;
mod map;
mod session;
mod set;
mod tally;

pub use cache::{CacheHistory, CacheReadBegun};
pub use counter::{AddIndex, CounterHistory, CounterReadBegun};
pub use coverage::CoverageLedger;
pub use extreme::{ExtremeHistory, ExtremeReadBegun};
pub use fallbacks::FallbackLedger;
pub use floors::FloorLedger;
pub(crate) use hints::Nodes;
pub use hints::{HintLedger, Totals as HintTotals};
pub use history::{History, ReadBegun, WriteIndex};
pub use ledger::DotLedger;
pub use liveness::LivenessLedger;
pub use map::MapHistory;
pub use session::{RequestBegun, SessionLedger};
pub use set::{ChangeIndex, SetHistory, SetReadBegun};
pub use tally::Tally;
