//! What the handle and the loop share, and what the loop lends its parts.

use std::sync::Arc;
use std::time::Instant;

use kv_core::NodeId;
use mio::Registry;

use super::options::TcpOptions;
use super::outbound::Outbound;
use super::signal::Signal;
use super::stats::Counters;
use super::timers::Timers;

/// Shared by the handle, which any thread uses, and the loop.
pub(super) struct Shared {
    pub(super) node: NodeId,
    pub(super) options: TcpOptions,
    pub(super) outbound: Outbound,
    pub(super) signal: Arc<Signal>,
    pub(super) counters: Counters,
}

/// What the loop lends to the accepting and to the dialing side for one round.
pub(super) struct Round<'a> {
    pub(super) shared: &'a Shared,
    pub(super) registry: &'a Registry,
    pub(super) timers: &'a mut Timers,
    /// Where reads go before they are decoded; longer than a preamble.
    pub(super) scratch: &'a mut [u8],
    pub(super) now: Instant,
}
