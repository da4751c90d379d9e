//! What arrives is what was sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Hosts;
use super::probe::{Stage, at_once, within};
use super::sample::SAMPLE_BYTES_MIN;
use crate::config::FRAME_BYTES_MIN;
use crate::transport::{Lane, SendError};

const LANES: [Lane; 3] = [Lane::Control, Lane::Request, Lane::Bulk];

/// A transport that names a larger limit is tried up to here.
const TRIED_BYTES_MAX: usize = 16 << 20;

/// On every lane, in every size up to [`Transport::max_frame_bytes`](crate::transport::Transport::max_frame_bytes).
pub(super) fn frames_arrive_as_they_were_sent(hosts: &dyn Hosts) -> Result<(), String> {
    let stage = Stage::new(hosts);
    let [a, b] = stage.started([1, 2]);
    let largest = a.transport.max_frame_bytes(b.id).min(TRIED_BYTES_MAX);
    if largest < FRAME_BYTES_MIN {
        return Err(format!("frames of at most {largest} bytes are too small: a node needs {FRAME_BYTES_MIN}"));
    }
    let sizes = [SAMPLE_BYTES_MIN, 100, 1_000, 4_096, 33_000, largest / 2, largest - 1, largest];
    let outcome = sizes.into_iter().filter(|&bytes| bytes <= largest).try_for_each(|bytes| {
        LANES.into_iter().try_for_each(|lane| {
            stage.reaches_with(&a, &b, lane, bytes)?;
            stage.reaches_with(&b, &a, lane, bytes)
        })
    });
    stage.outcome(outcome)
}

/// With [`SendError::TooLarge`], and the node is reached as before.
pub(super) fn larger_frames_are_refused_by_name(hosts: &dyn Hosts) -> Result<(), String> {
    let stage = Stage::new(hosts);
    let [a, b] = stage.started([1, 2]);
    stage.reaches(&a, &b)?;
    let largest = a.transport.max_frame_bytes(b.id);
    if largest > TRIED_BYTES_MAX {
        // Trying would take more memory than it is worth.
        return stage.outcome(Ok(()));
    }
    for bytes in [largest + 1, largest * 2, largest + (1 << 20)] {
        let refused = a.transport.try_send(b.id, Lane::Bulk, Bytes::from(vec![0; bytes]));
        if refused != Err(SendError::TooLarge) {
            return Err(format!(
                "a frame of {bytes} bytes, where {largest} are possible, was answered with {refused:?}"
            ));
        }
    }
    stage.outcome(stage.reaches(&a, &b))
}

/// Also when several send to one node at a time.
pub(super) fn senders_are_told_apart(hosts: &dyn Hosts) -> Result<(), String> {
    let stage = Stage::new(hosts);
    let [a, b, c] = stage.started([1, 2, 3]);
    let everybody = [&a, &b, &c];
    let outcome = (0..40_usize).try_for_each(|round| {
        for from in everybody {
            for to in everybody.into_iter().filter(|to| to.id != from.id) {
                // Whether it is taken, and arrives, does not matter here.
                let _ = from.send(to.id, LANES[round % LANES.len()], SAMPLE_BYTES_MIN + round * 37);
            }
        }
        // Once for each pair: a transport that confuses them must not get away with losing all.
        if round > 0 {
            return Ok(());
        }
        everybody.into_iter().try_for_each(|from| {
            let mut others = everybody.into_iter().filter(|to| to.id != from.id);
            others.try_for_each(|to| stage.reaches(from, to))
        })
    });
    stage.outcome(outcome)
}

/// Thousands in a row, then silence.
pub(super) fn no_frame_arrives_twice(hosts: &dyn Hosts) -> Result<(), String> {
    let stage = Stage::new(hosts);
    let [a, b] = stage.started([1, 2]);
    stage.reaches(&a, &b)?;
    for number in 0..3_000_usize {
        // A queue may be full.
        let _ = a.send(b.id, LANES[number % LANES.len()], SAMPLE_BYTES_MIN + number % 700);
    }
    settle(|| b.frames());
    stage.outcome(stage.reaches(&a, &b))
}

/// From several threads at a time, also while the node's turns send.
pub(super) fn any_thread_may_send(hosts: &dyn Hosts) -> Result<(), String> {
    let stage = Stage::new(hosts);
    let [a, b] = stage.started([1, 2]);
    stage.reaches(&a, &b)?;
    let a = Arc::new(a);
    let to = b.id;
    let outcome = {
        let a = Arc::clone(&a);
        at_once("sending from four threads", move || {
            std::thread::scope(|scope| {
                for thread in 0..4_usize {
                    let a = &a;
                    scope.spawn(move || {
                        for number in 0..400 {
                            let _ = a.send(to, LANES[thread % LANES.len()], SAMPLE_BYTES_MIN + number);
                            let _ = a.ask(to);
                        }
                    });
                }
            });
        })
    };
    settle(|| b.frames());
    stage.outcome(outcome.and_then(|()| stage.reaches(&a, &b)))
}

/// Waits until a count has not moved for a while.
fn settle(mut count: impl FnMut() -> usize) {
    let mut last = usize::MAX;
    within(Duration::from_secs(5), || {
        let before = std::mem::replace(&mut last, count());
        std::thread::sleep(Duration::from_millis(100));
        before == last
    });
}
