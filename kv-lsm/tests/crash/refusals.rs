//! Every call to the disk fails, once and for ever.

use std::io::ErrorKind;

use kv_lsm::battery::drive::{OnError, run};
use kv_lsm::battery::generate::random_trace;
use kv_lsm::battery::inspect::Inspector;
use kv_lsm::battery::refusals::{self, fail};
use kv_lsm::battery::report::Report;
use kv_lsm::battery::subject::Subject;
use kv_lsm::battery::trace::{self, Step, Trace};
use kv_lsm::disk::{CallKind, Effect, Fault, SimDisk, Survival};
use kv_lsm::{Durability, Error};

use super::effort;

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
    let mut inspector = Inspector::new(trace.settings);
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
                    Some(survival) => drop(inspector.check(&disk.reboot(survival), &history, &context)),
                    None => inspector.check_alive(&disk.restart(), &history, &context),
                }
            }
        }
    }
}

#[test]
fn every_call_may_fail_once() {
    for trace in [trace::opening(), trace::flushes(), trace::blobs(), trace::manifest_rolls(), trace::checkpoints()] {
        fail_everywhere(&trace, false);
    }
}

#[test]
fn every_call_may_fail_once_in_a_log_that_rotates() {
    for trace in [trace::rotation(), trace::large_records(), trace::reopenings()] {
        fail_everywhere(&trace, false);
    }
    for seed in 11..11 + effort() {
        fail_everywhere(&random_trace(seed, 15), false);
    }
}

/// Found by the battery: an edit was written whole, the disk said that it was not, and the edit was cut off again. A power cut
/// undid the cut, but not the removal of the tables that the edit names.
#[test]
fn an_edit_that_was_rolled_back_does_not_come_back() {
    let mut trace = trace::flushes();
    // Nothing follows the edit of the first flush.
    let flush = trace.steps.iter().position(|step| matches!(step, Step::Flush)).unwrap();
    trace.steps.truncate(flush + 1);
    let mut inspector = Inspector::new(trace.settings);
    let mut met = 0;
    for seed in 0..160 {
        let fault = Fault::new(Effect::FailHalfway(ErrorKind::StorageFull)).on(CallKind::Write).named("MANIFEST");
        let edit = seed % 8;
        met +=
            u32::from(fail(&trace, fault.after(edit), seed, &mut inspector, &format_args!("edit {edit}, seed {seed}")));
    }
    assert!(met > 40, "{met} edits failed");
}

/// Found by the battery: the header of a new segment was written whole, the disk said that it was not, and the log went on in the
/// segment before. A power cut brought the new one back, which states where the one before ended, and what followed was lost.
#[test]
fn a_segment_that_could_not_be_begun_does_not_come_back() {
    let mut trace = trace::flushes();
    let write = |number| Step::Write(trace::batch(number, 20), Durability::Sync);
    trace.steps = vec![write(1), Step::Flush, write(2), write(3)];
    let mut inspector = Inspector::new(trace.settings);
    let mut met = 0;
    for seed in 0..80 {
        // Only the second segment has this number.
        let fault = Fault::new(Effect::FailHalfway(ErrorKind::StorageFull)).on(CallKind::Write).named("000003.log");
        met += u32::from(fail(&trace, fault, seed, &mut inspector, &format_args!("seed {seed}")));
    }
    assert_eq!(met, 80, "so many segments were not begun");
}

/// A refused record that a power cut brought back (the first two), states that the oracle got wrong, and a segment that was
/// given up and came back (the last).
#[test]
fn seeds_that_showed_something_stay_clean() {
    let mut report = Report::default();
    for seed in [551410001666, 551410007570, 551410002660, 551410003548, 551410007435, 1782] {
        refusals::case(seed, &mut report);
    }
    // A violation is a panic.
    assert!(report.counted("injections") > 20, "{report:?}");
}

#[test]
fn every_call_may_fail_for_ever() {
    for trace in [trace::opening(), trace::rotation(), trace::flushes(), trace::reopenings()] {
        fail_everywhere(&trace, true);
    }
    for seed in 50..50 + effort() {
        fail_everywhere(&random_trace(seed, 15), true);
    }
}

/// A database in tables, closed, so that every read goes to the disk.
fn in_tables() -> (SimDisk, Trace) {
    let trace = trace::compactions();
    let disk = SimDisk::new(1);
    run(&disk, &trace, OnError::GoOn);
    (disk.reboot(Survival::All), trace)
}

/// What was read before the error is right, what comes after it is nothing.
#[test]
fn lesson_52_after_an_error_an_iterator_yields_no_more() {
    let (closed, trace) = in_tables();
    let engine = Subject::open(&closed, trace.settings).unwrap();
    let expected = engine.content().unwrap();
    drop(engine);
    let mut failures = 0;
    for call in 0..200 {
        for backward in [false, true] {
            let disk = closed.reboot(Survival::All);
            let engine = Subject::open(&disk, trace.settings).unwrap();
            disk.inject(Fault::new(Effect::Fail(ErrorKind::Other)).on(CallKind::Read).after(call));
            for (index, keyspace) in engine.keyspaces.iter().enumerate() {
                let mut wanted: Vec<_> = expected.keyspace(index).iter().collect();
                let mut entries = keyspace.iter();
                if backward {
                    wanted.reverse();
                }
                let mut wanted = wanted.into_iter();
                let mut next = || if backward { entries.next_back() } else { entries.next() };
                loop {
                    match next() {
                        Some(Ok((key, value))) => {
                            let (wanted_key, wanted_value) = wanted.next().expect("no more than there are");
                            assert!(*key == **wanted_key && *value == **wanted_value, "read {call}");
                        }
                        Some(Err(error)) => {
                            assert!(matches!(error, Error::Io { .. }), "read {call}: {error:?}");
                            assert!(next().is_none() && next().is_none(), "read {call}: more after an error");
                            failures += 1;
                            break;
                        }
                        None => {
                            assert_eq!(wanted.next(), None, "read {call}: entries are missing");
                            break;
                        }
                    }
                }
            }
            // The disk recovered, and so did the database.
            assert_eq!(engine.content().unwrap(), expected, "read {call}");
        }
    }
    assert!(failures > 20, "only {failures} reads failed");
}

#[test]
fn short_and_interrupted_reads_change_nothing() {
    let (closed, trace) = in_tables();
    let expected = Subject::open(&closed, trace.settings).unwrap().content().unwrap();
    let disk = closed.reboot(Survival::All);
    disk.inject(Fault::new(Effect::ShortRead).on(CallKind::Read).for_ever());
    assert_eq!(Subject::open(&disk, trace.settings).unwrap().content().unwrap(), expected);
    for call in 0..100 {
        let disk = closed.reboot(Survival::All);
        disk.inject(Fault::new(Effect::Fail(ErrorKind::Interrupted)).on(CallKind::Read).after(call));
        assert_eq!(Subject::open(&disk, trace.settings).unwrap().content().unwrap(), expected, "read {call}");
    }
}

#[test]
fn calls_that_only_look_may_fail_while_opening() {
    let (closed, trace) = in_tables();
    let expected = Subject::open(&closed, trace.settings).unwrap().content().unwrap();
    let mut failures = 0;
    for kind in [CallKind::Open, CallKind::List, CallKind::Read] {
        for call in 0..20 {
            let disk = closed.reboot(Survival::All);
            disk.inject(Fault::new(Effect::Fail(ErrorKind::Other)).on(kind).after(call));
            match Subject::open(&disk, trace.settings) {
                Ok(engine) => drop(engine),
                Err(Error::Io { .. }) => failures += 1,
                Err(error) => panic!("{kind:?} {call}: {error:?}"),
            }
            disk.clear_faults();
            let engine =
                Subject::open(&disk, trace.settings).unwrap_or_else(|error| panic!("{kind:?} {call}: {error}"));
            assert_eq!(engine.content().unwrap(), expected, "{kind:?} {call}");
        }
    }
    assert!(failures > 3, "only {failures} calls failed");
}
