//! What a node has counted and measured, as a value.
//!
//! Whoever does something counts it, in fields of its own, on the thread that runs the node's turns: there are no locks and no
//! atomics for it. [`Node::stats`](crate::Node::stats) copies them between two turns. Counters and histograms begin at zero with each
//! life of a node. They are shown to an [`Exporter`] by name: [`Stats::to_prometheus`] writes them as text, and the feature `metrics`
//! has [`Stats::publish`]. `docs/operations.md` says what each of them means.

mod beliefs;
mod families;
mod histogram;
#[cfg(feature = "metrics")]
mod publish;
mod requests;
#[cfg(test)]
mod tests;
mod traffic;
mod turns;

use kv_core::export::{Exporter, Prometheus};

pub use beliefs::{BeliefStats, RoundTrips};
pub use histogram::Histogram;
pub use requests::{KindStats, OutcomeKind, RequestKind, RequestStats};
pub use traffic::{LaneTraffic, Traffic, TrafficStats};
pub use turns::TurnStats;

pub(crate) use requests::TurnedAway;
pub(crate) use turns::Turns;

use crate::status::Status;

/// A node at one moment, and all that it has counted in this life.
#[derive(Clone, PartialEq, Debug)]
pub struct Stats {
    /// What the node says about itself. Hints, repairs, caches, load, and what was dropped are counted there.
    pub status: Status,
    /// What clients asked for and got.
    pub requests: RequestStats,
    /// What was said to peers and heard from them.
    pub traffic: TrafficStats,
    /// What turns took and wrote.
    pub turns: TurnStats,
    /// How long peers took to answer.
    pub round_trips: RoundTrips,
    /// How often it was believed that somebody is down.
    pub beliefs: BeliefStats,
}

impl Stats {
    /// Shows all of it to an exporter. Every sample has the label `node`.
    pub fn export(&self, exporter: &mut dyn Exporter) {
        families::export(self, exporter);
    }

    /// The text that a Prometheus server reads, to be served as `text/plain; version=0.0.4`.
    #[must_use]
    pub fn to_prometheus(&self) -> String {
        let mut text = Prometheus::default();
        self.export(&mut text);
        text.finish()
    }
}
