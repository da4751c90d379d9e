//! Peers that come, move and go; the beginning and the end of a node; its turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Hosts;
use super::probe::{PATIENCE, Probe, Stage, lock, within};
use super::sample::SAMPLE_BYTES_MIN;
use crate::transport::{Drive, Lane, Turn};

/// One after the other, also before they are there, and told of twice.
pub(super) fn peers_come_as_they_are_told(hosts: &dyn Hosts) -> Result<(), String> {
    let stage = Stage::new(hosts);
    let (a, b) = (stage.start(1), stage.start(2));
    a.told_of(&[]);
    a.told_of(&[&b]);
    stage.reaches(&a, &b)?;
    let mut late = stage.open(3);
    a.told_of(&[&b, &late]);
    // Refused, lost, or kept for it.
    let _ = a.send(late.id, Lane::Control, SAMPLE_BYTES_MIN);
    stage.reaches(&a, &b)?;
    late.attach();
    late.told_of(&[&a]);
    a.told_of(&[&late, &b]);
    let everybody = [(&a, &late), (&late, &a), (&a, &b)];
    stage.outcome(everybody.into_iter().try_for_each(|(from, to)| stage.reaches(from, to)))
}

/// A node stops and comes back, at the same address or another one.
pub(super) fn a_node_that_moved_is_found_where_it_is(hosts: &dyn Hosts) -> Result<(), String> {
    let stage = Stage::new(hosts);
    let [a, mut before] = stage.started([1, 2]);
    stage.reaches(&a, &before)?;
    before.detach();
    let frames = before.frames();
    let after = stage.start(2);
    after.told_of(&[&a]);
    a.told_of(&[&after]);
    let both = stage.reaches(&a, &after).and_then(|()| stage.reaches(&after, &a));
    let outcome = both.and_then(|()| match before.frames() - frames {
        0 => Ok(()),
        late => Err(format!("{late} frames were delivered to a life of the node that had ended")),
    });
    stage.outcome(outcome)
}

/// From the moment that [`Transport::detach`](crate::transport::Transport::detach) returns, while others go on sending; and
/// the transport lets go of the node.
pub(super) fn nothing_is_delivered_after_the_end(hosts: &dyn Hosts) -> Result<(), String> {
    let stage = Stage::new(hosts);
    let [a, mut b] = stage.started([1, 2]);
    stage.reaches(&a, &b)?;
    let (a, to) = (Arc::new(a), b.id);
    let over = Arc::new(AtomicBool::new(false));
    let sender = {
        let (a, over) = (Arc::clone(&a), Arc::clone(&over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Acquire) {
                let _ = a.send(to, Lane::Request, 500);
                std::thread::yield_now();
            }
        })
    };
    let flowing = b.frames();
    within(Duration::from_millis(500), || b.frames() > flowing + 100);
    b.detach();
    let (frames, turns) = (b.frames(), b.turns());
    std::thread::sleep(Duration::from_millis(200));
    let (late, late_turns) = (b.frames() - frames, b.turns() - turns);
    over.store(true, Ordering::Release);
    let sender = sender.join().map_err(|_| "sending panicked".to_owned());
    let outcome = sender.and_then(|()| match (late, late_turns) {
        (0, 0) if within(PATIENCE, || !b.is_held_on_to()) => Ok(()),
        (0, 0) => Err("the transport holds on to a node that has stopped".to_owned()),
        _ => Err(format!("{late} frames were delivered and {late_turns} turns run after detach had returned")),
    });
    stage.outcome(outcome)
}

/// What a turn sends goes out without anything further happening.
pub(super) fn answers_leave_within_a_turn(hosts: &dyn Hosts) -> Result<(), String> {
    let stage = Stage::new(hosts);
    let [a, b] = stage.started([1, 2]);
    stage.reaches(&a, &b)?;
    stage.reaches(&b, &a)?;
    let before = a.frames();
    let answered = within(PATIENCE, || {
        // The question or the answer may be lost.
        let _ = a.ask(b.id);
        within(Duration::from_millis(200), || a.frames() > before)
    });
    stage.outcome(if answered { Ok(()) } else { Err("no answer that a turn sent has arrived".to_owned()) })
}

/// For transports that run the node's turns ([`Drive::Transport`]): after a wake-up, after the time that the last turn asked
/// for, after a frame; and never again once the node has said that it stopped.
pub(super) fn turns_come_when_they_are_asked_for(hosts: &dyn Hosts) -> Result<(), String> {
    let stage = Stage::new(hosts);
    let [a, b] = stage.started([1, 2]);
    if b.drive != Some(Drive::Transport) {
        return stage.outcome(stage.reaches(&a, &b));
    }
    let Some(wake) = b.state.wake.get() else { return Err("the node was given no waker".to_owned()) };
    turned(&b, "a wake-up", || wake())?;
    turned(&b, "a frame", || {
        let _ = a.send(b.id, Lane::Request, SAMPLE_BYTES_MIN);
    })?;
    *lock(&b.state.answer) = Turn::Wait(Some(Duration::from_millis(10)));
    wake();
    for _ in 0..5 {
        turned(&b, "the time that the last turn asked for", || ())?;
    }
    *lock(&b.state.answer) = Turn::Stopped;
    wake();
    within(Duration::from_millis(100), || false);
    let turns = b.turns();
    wake();
    let _ = a.send(b.id, Lane::Request, SAMPLE_BYTES_MIN);
    within(Duration::from_millis(100), || false);
    let outcome = match b.turns() - turns {
        0 => Ok(()),
        more => Err(format!("{more} turns were run of a node that had stopped")),
    };
    stage.outcome(outcome)
}

/// Whether a turn comes after `cause`, which may have to be repeated: frames may be lost.
fn turned(probe: &Probe, what: &str, cause: impl Fn()) -> Result<(), String> {
    let before = probe.turns();
    let came = within(PATIENCE, || {
        cause();
        within(Duration::from_millis(200), || probe.turns() > before)
    });
    if came { Ok(()) } else { Err(format!("no turn came after {what}")) }
}
