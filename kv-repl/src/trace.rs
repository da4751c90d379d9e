//! What a node does, told to `tracing` while it happens. That is a feature; without it nothing here does anything.
//!
//! | level | what |
//! |---|---|
//! | error | the store has failed for good; this storage is not what the cluster knows |
//! | warn | a commit was refused; a peer is believed to be dead |
//! | info | the node is founded or confirmed; tables; peers are suspected and return |
//! | debug | what became of requests; what was turned away; messages that are not used; what is owed to whom; who has too much to do |
//! | trace | requests as they come; turns |
//!
//! Every event has the target `kv_repl` and the field `node`. A request has a number, the same in all of its events; a write names its
//! operation besides, which is the same at every node. Neither keys nor values are told.

#![cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nobody is told"))]

use std::fmt::Display;
use std::time::Duration;

use kv_core::NodeId;
use kv_core::store::CommitError;

use crate::liveness::Liveness;
use crate::machine::{Notice, Outcome, Request};
use crate::peers::DropReason;
use crate::stats::{OutcomeKind, RequestKind};

#[cfg(feature = "tracing")]
macro_rules! tell {
    ($level:ident, $($what:tt)+) => { tracing::event!(target: "kv_repl", tracing::Level::$level, $($what)+) };
}
#[cfg(not(feature = "tracing"))]
macro_rules! tell {
    ($level:ident, $($what:tt)+) => {
        ()
    };
}

/// What is told until it is dropped belongs to one turn.
#[must_use]
pub(crate) struct TurnSpan {
    #[cfg(feature = "tracing")]
    _entered: tracing::span::EnteredSpan,
}

pub(crate) fn turn(node: NodeId) -> TurnSpan {
    TurnSpan {
        #[cfg(feature = "tracing")]
        _entered: tracing::trace_span!(target: "kv_repl", "turn", %node).entered(),
    }
}

pub(crate) fn turned(node: NodeId, inputs: u64, took: Duration) {
    tell!(TRACE, %node, inputs, ?took, "the turn has ended");
}

pub(crate) fn asked(node: NodeId, request: u64, what: &Request) {
    let operation = match what {
        Request::Write(write) => Some(write.operation()),
        _ => None,
    };
    let kind = RequestKind::of(what).name();
    tell!(TRACE, %node, request, kind, operation = operation.map(tracing::field::debug), "a client asks");
}

pub(crate) fn answered(node: NodeId, request: u64, kind: RequestKind, outcome: &Outcome, took: Duration) {
    let came_to = OutcomeKind::of(outcome);
    match error_of(outcome) {
        None => {
            tell!(DEBUG, %node, request, kind = kind.name(), outcome = came_to.name(), ?took, "a client is answered");
        }
        Some(why) => {
            tell!(DEBUG, %node, request, kind = kind.name(), outcome = came_to.name(), ?took, %why, "a client is answered");
        }
    }
}

pub(crate) fn turned_away(node: NodeId, what: &Request) {
    tell!(DEBUG, %node, kind = RequestKind::of(what).name(), "a client is turned away: too many wait for a turn");
}

pub(crate) fn dropped(node: NodeId, reason: DropReason) {
    tell!(DEBUG, %node, ?reason, "a message is not used");
}

pub(crate) fn not_stored(node: NodeId, why: &CommitError) {
    tell!(WARN, %node, %why, "the store has refused a commit");
}

pub(crate) fn halted(node: NodeId) {
    tell!(ERROR, %node, "the store has failed; the node serves nobody any more");
}

/// Of what machines find out, what somebody outside may want to know.
pub(crate) fn notice(node: NodeId, notice: &Notice) {
    match notice {
        Notice::Founded(founding) => tell!(INFO, %node, cluster = ?founding.cluster, "the node belongs to a cluster"),
        Notice::Refounded(_) => tell!(INFO, %node, "the storage of a member was replaced"),
        Notice::TableAdded(table) => tell!(INFO, %node, table = %table.name, "a table was added"),
        Notice::Confirmed => tell!(INFO, %node, "a majority has confirmed the node; it serves"),
        Notice::Quarantined => {
            tell!(ERROR, %node, "this storage is not what the cluster knows; the node serves nobody");
        }
        Notice::Liveness(change) if change.after == Liveness::Dead => {
            tell!(WARN, %node, peer = %change.peer, by = %change.by, "a peer is believed to be dead");
        }
        Notice::Liveness(change) => {
            tell!(INFO, %node, peer = %change.peer, before = %change.before, after = %change.after, "a peer is seen otherwise");
        }
        Notice::Owed { peer, place, .. } => {
            let (table, partition) = (place.table.0, place.partition.0);
            tell!(DEBUG, %node, %peer, table, partition, "a partition is owed a comparison: what the peer missed is not kept");
        }
        Notice::Met { peer, life } => tell!(DEBUG, %node, %peer, boot = life.boot.0, "a peer is met"),
        Notice::Silent(peer) => tell!(DEBUG, %node, %peer, "a peer was not heard of for long"),
        Notice::Busy { peer, .. } => tell!(DEBUG, %node, %peer, "a peer has too much to do"),
        Notice::Shed => tell!(DEBUG, %node, "a peer is refused something: there is too much to do"),
        Notice::CacheFull(table) => tell!(DEBUG, %node, table = table.0, "a cache table has no room for a delete"),
        // Told where they are counted, or too often.
        Notice::Dropped(_)
        | Notice::Peers(_)
        | Notice::Greeted(_)
        | Notice::ActorEpoch(_)
        | Notice::Observed(_)
        | Notice::Floor(..)
        | Notice::Missed { .. }
        | Notice::Caught { .. }
        | Notice::Moot { .. }
        | Notice::Compared { .. } => {}
    }
}

fn error_of(outcome: &Outcome) -> Option<&dyn Display> {
    match outcome {
        Outcome::Put(Err(error)) => Some(error),
        Outcome::Get(Err(error)) => Some(error),
        Outcome::Bootstrap(Err(error)) | Outcome::CreateTable(Err(error)) => Some(error),
        Outcome::Repair(Err(error)) => Some(error),
        Outcome::Describe(Err(error)) => Some(error),
        Outcome::Scan(Err(error)) => Some(error),
        Outcome::Put(Ok(_))
        | Outcome::Get(Ok(_))
        | Outcome::Bootstrap(Ok(()))
        | Outcome::CreateTable(Ok(_))
        | Outcome::Repair(Ok(_))
        | Outcome::Describe(Ok(_))
        | Outcome::Scan(Ok(_)) => None,
    }
}
