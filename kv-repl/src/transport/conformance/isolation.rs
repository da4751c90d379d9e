//! Nobody suffers for somebody else.

use std::sync::Arc;
use std::time::Duration;

use super::Hosts;
use super::probe::{Stage, at_once, within};
use super::sample::SAMPLE_BYTES_MIN;
use crate::transport::{Lane, SendError};

/// What is sent to a node that takes nothing: more than any queue should hold.
const FLOOD_FRAMES: usize = 600;
const FLOOD_FRAME_BYTES: usize = 30_000;

/// A node that has stopped, whose address leads nowhere: frames to it are refused or lost, at once.
pub(super) fn nobody_waits_for_a_node_that_is_away(hosts: &dyn Hosts) -> Result<(), String> {
    let stage = Stage::new(hosts);
    let [a, mut away, c] = stage.started([1, 2, 3]);
    stage.reaches(&a, &away)?;
    away.detach();
    let frames = away.frames();
    let (a, to) = (Arc::new(a), away.id);
    let flood = {
        let a = Arc::clone(&a);
        at_once("sending to a node that has stopped", move || {
            for _ in 0..FLOOD_FRAMES {
                // Refused or lost.
                let _ = a.send(to, Lane::Request, FLOOD_FRAME_BYTES);
            }
        })
    };
    let others = flood.and_then(|()| stage.reaches(&a, &c)).and_then(|()| stage.reaches(&c, &a));
    let outcome = others.and_then(|()| match away.frames() - frames {
        0 => Ok(()),
        late => Err(format!("{late} frames were delivered to a node that had stopped")),
    });
    stage.outcome(outcome)
}

/// A node whose turns do not end, so that at some time nothing more fits anywhere on the way to it.
pub(super) fn nobody_waits_for_a_node_that_is_stuck(hosts: &dyn Hosts) -> Result<(), String> {
    let stage = Stage::new(hosts);
    let [a, stuck, c] = stage.started([1, 2, 3]);
    stage.reaches(&a, &stuck)?;
    stuck.hold();
    let (a, to) = (Arc::new(a), stuck.id);
    let flood = {
        let a = Arc::clone(&a);
        at_once("sending to a node that takes nothing", move || {
            for _ in 0..FLOOD_FRAMES {
                if a.send(to, Lane::Request, FLOOD_FRAME_BYTES) == Err(SendError::Full) {
                    break;
                }
            }
        })
    };
    let others = flood.and_then(|()| stage.reaches(&a, &c)).and_then(|()| stage.reaches(&c, &a));
    stuck.release();
    stage.outcome(others.and_then(|()| stage.reaches(&a, &stuck)))
}

/// A node that nobody was told of. The error may name the reason or not; a promise that is not kept is none.
pub(super) fn an_unknown_node_is_an_error(hosts: &dyn Hosts) -> Result<(), String> {
    let stage = Stage::new(hosts);
    let [a, b] = stage.started([1, 2]);
    stage.reaches(&a, &b)?;
    let outcome = match a.send(kv_core::NodeId(77), Lane::Request, SAMPLE_BYTES_MIN) {
        Err(SendError::UnknownPeer | SendError::Unreachable) => Ok(()),
        other => Err(format!("a frame for a node that nobody was told of was answered with {other:?}")),
    };
    // Nobody else got it.
    within(Duration::from_millis(50), || false);
    stage.outcome(outcome.and_then(|()| stage.reaches(&a, &b)))
}
