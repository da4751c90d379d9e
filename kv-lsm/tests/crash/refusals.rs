//! Every call to the disk fails, once and for ever.

use std::io::ErrorKind;

use kv_lsm::disk::{Effect, Fault, SimDisk, Survival};

use super::battery::{Inspector, OnError, effort, run};
use super::trace::{self, Trace};

const EFFECTS: [Effect; 4] = [
    Effect::Fail(ErrorKind::Other),
    Effect::FailHalfway(ErrorKind::Other),
    Effect::Fail(ErrorKind::StorageFull),
    Effect::FailHalfway(ErrorKind::StorageFull),
];

/// Fails each call in turn. What is acknowledged must hold, errors must be true, and afterwards, whether the process or
/// the machine dies, the database opens.
fn fail_everywhere(trace: &Trace, for_ever: bool) {
    let whole = SimDisk::new(1);
    run(&whole, trace, OnError::GoOn);
    let mut inspector = Inspector::new(trace.sizes);
    for call in 0..whole.mutating_calls() {
        // A disk that fails for ever leaves less to tell apart.
        let effects = if for_ever { &EFFECTS[1..3] } else { &EFFECTS[..] };
        for (seed, &effect) in (0..).zip(effects) {
            let disk = SimDisk::new(seed);
            let fault = Fault::new(effect).after(call);
            disk.inject(if for_ever { fault.for_ever() } else { fault });
            let history = run(&disk, trace, OnError::GoOn);
            disk.clear_faults();
            for survival in [None, Some(Survival::None), Some(Survival::All), Some(Survival::Random(call))] {
                let ever = if for_ever { "from" } else { "at" };
                let context = format!("{}: {effect:?} {ever} call {call}, then {survival:?}", trace.name);
                match survival {
                    Some(survival) => inspector.check(&disk.reboot(survival), &history, &context),
                    None => inspector.check_alive(&disk.restart(), &history, &context),
                }
            }
        }
    }
}

#[test]
fn every_call_may_fail_once() {
    for trace in [trace::opening(), trace::flushes(), trace::compactions(), trace::manifest_rolls()] {
        fail_everywhere(&trace, false);
    }
}

#[test]
fn every_call_may_fail_once_in_a_log_that_rotates() {
    for trace in [trace::rotation(), trace::large_records(), trace::reopenings()] {
        fail_everywhere(&trace, false);
    }
    for seed in 11..11 + effort() {
        fail_everywhere(&trace::mixed(seed, 40), false);
    }
}

#[test]
fn every_call_may_fail_for_ever() {
    for trace in [trace::opening(), trace::rotation(), trace::flushes(), trace::reopenings()] {
        fail_everywhere(&trace, true);
    }
    for seed in 50..50 + effort() {
        fail_everywhere(&trace::mixed(seed, 30), true);
    }
}
