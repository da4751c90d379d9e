//! Failures that other engines shipped.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kv_lsm::battery::content::Content;
use kv_lsm::battery::drive::{OnError, run};
use kv_lsm::battery::generate::random_trace;
use kv_lsm::battery::history::History;
use kv_lsm::battery::inspect::{Inspector, survivals};
use kv_lsm::battery::settings::Settings;
use kv_lsm::battery::subject::Subject;
use kv_lsm::battery::trace::{self, Step, Trace, batch};
use kv_lsm::disk::{CallKind, Effect, Fault, SimDisk, Survival};
use kv_lsm::{Durability, Error};

use super::rules::files;

#[test]
fn lesson_40_nothing_is_acknowledged_or_written_after_a_failed_sync() {
    for effect in [Effect::Fail(ErrorKind::Other), Effect::FailHalfway(ErrorKind::Other)] {
        let disk = SimDisk::new(1);
        let engine = Subject::open(&disk, Settings::LARGE).unwrap();
        let mut history = History::starting_with(Content::new());
        for number in 0..6 {
            let durability = if number == 2 { Durability::Sync } else { Durability::Buffered };
            let batch = batch(number, 30);
            engine.write(&batch, durability).unwrap();
            history.acknowledge(&batch, durability == Durability::Sync);
        }
        disk.inject(Fault::new(effect).on(CallKind::Sync));
        let failed = engine.write(&batch(6, 30), Durability::Sync);
        assert!(matches!(failed, Err(Error::Ambiguous { .. })), "{failed:?}");
        history.attempt(&batch(6, 30));
        history.poison();
        // The next sync of the same file would succeed, and prove nothing.
        let calls = disk.mutating_calls();
        for durability in [Durability::Sync, Durability::Buffered] {
            let refused = engine.write(&batch(7, 30), durability);
            assert!(matches!(refused, Err(Error::Poisoned { .. })), "{refused:?}");
        }
        assert!(matches!(engine.database.sync(), Err(Error::Poisoned { .. })));
        assert!(matches!(engine.database.flush(), Err(Error::Poisoned { .. })));
        assert!(engine.keyspaces[0].compact_range(..).is_err());
        while matches!(engine.database.step(), Ok(true)) {}
        drop(engine);
        assert_eq!(disk.mutating_calls(), calls, "the disk was changed after the failed sync");
        let mut inspector = Inspector::new(Settings::LARGE);
        for survival in survivals(&disk, 3, 10) {
            inspector.check(&disk.reboot(survival), &history, &format_args!("{effect:?}, {survival:?}"));
        }
        inspector.check_alive(&disk.restart(), &history, &format_args!("{effect:?}, same boot"));
    }
}

#[test]
fn lesson_41_a_flipped_bit_below_the_synced_position_is_corruption() {
    let disk = SimDisk::new(1);
    let engine = Subject::open(&disk, Settings::LARGE).unwrap();
    for number in 0..12 {
        engine.write(&batch(number, 30), Durability::Sync).unwrap();
    }
    let content = engine.content().unwrap();
    // A process that dies says nothing at the end, so the last synced record has nothing that vouches for it.
    let left = disk.reboot(Survival::None);
    drop(engine);
    let log = files(&left, ".log").pop().expect("a log");
    let length = left.files().into_iter().find(|(path, _)| *path == log).map(|(_, length)| length).unwrap();
    let mut corrupt = 0;
    for offset in (0..length).step_by(7) {
        let damaged = left.reboot(Survival::All);
        damaged.flip_bit(&log, offset, 5).unwrap();
        match Subject::open(&damaged, Settings::LARGE) {
            Err(Error::Corrupt { file, .. }) => {
                assert_eq!(file, log);
                corrupt += 1;
            }
            Err(Error::Unsupported { .. }) => {}
            Err(error) => panic!("byte {offset}: {error}"),
            Ok(engine) => {
                let found = engine.content().unwrap();
                let last = trace_state(11);
                assert!(
                    found == content || (found == last && offset > length / 2),
                    "byte {offset}: synced writes lost"
                );
            }
        }
    }
    assert!(corrupt > length / 7 * 3 / 4, "only {corrupt} of {} flips were called corruption", length / 7);
}

/// The state after the first `count` batches of [`batch`].
fn trace_state(count: usize) -> Content {
    let mut history = History::starting_with(Content::new());
    for number in 0..count {
        history.acknowledge(&batch(number, 30), true);
    }
    history.current().clone()
}

/// A crash in the recovery of a crash, and a crash in the recovery of that.
#[test]
fn lesson_42_recovery_survives_a_power_cut_at_every_call() {
    let trace = random_trace(5, 30);
    let disk = SimDisk::new(1);
    let history = run(&disk, &trace, OnError::Stop);
    let mut inspector = Inspector::new(trace.settings);
    for survival in survivals(&disk, 1, 2) {
        for call in 0.. {
            let second = disk.reboot(survival);
            second.cut_power_after(call);
            let opened = Subject::open(&second, trace.settings);
            if second.power_cut_at().is_none() {
                assert!(call > 3, "recovery writes");
                break;
            }
            drop(opened);
            let third = second.reboot(Survival::Random(call));
            third.cut_power_after(call / 2);
            drop(Subject::open(&third, trace.settings));
            for (disk, depth) in [(&second, 2), (&third, 3)] {
                for survival in survivals(disk, call, 3) {
                    let context = format!("cut {depth} at {:?}, {survival:?}", disk.power_cut_at());
                    inspector.check(&disk.reboot(survival), &history, &context);
                }
            }
        }
    }
    assert!(inspector.states > 30, "{} states", inspector.states);
}

#[test]
fn lesson_44_a_new_file_is_found_after_a_power_cut() {
    for trace in [trace::flushes(), trace::compactions(), trace::rotation(), trace::reopenings()] {
        let whole = SimDisk::new(1);
        let history = run(&whole, &trace, OnError::Stop);
        let mut inspector = Inspector::new(trace.settings);
        inspector.check(&whole.reboot(Survival::None), &history, &trace.name);
    }
}

/// The battery itself: a disk that lies in one respect, as an engine would that forgot the call, is caught.
#[test]
fn calls_that_are_left_out_are_caught() {
    let lies = [
        ("the log is not synced", Fault::new(Effect::Ignore).on(CallKind::Sync).named(".log")),
        ("tables are not synced", Fault::new(Effect::Ignore).on(CallKind::Sync).named(".table")),
        ("the manifest is not synced", Fault::new(Effect::Ignore).on(CallKind::Sync).named("MANIFEST")),
        ("lesson 44: the directory is not synced", Fault::new(Effect::Ignore).on(CallKind::SyncDirectory)),
    ];
    let mut steps = trace::flushes().steps;
    steps.push(Step::Write(batch(200, 30), Durability::Sync));
    let trace = Trace { name: "lies".into(), settings: Settings::LARGE, steps };
    for (name, lie) in lies {
        let disk = SimDisk::new(1);
        disk.inject(lie.for_ever());
        let history = run(&disk, &trace, OnError::Stop);
        let caught = survivals(&disk, 1, 5).into_iter().any(|survival| {
            let check = || Inspector::new(trace.settings).check(&disk.reboot(survival), &history, &name);
            catch_unwind(AssertUnwindSafe(check)).is_err()
        });
        assert!(caught, "{name}, and nobody noticed");
    }
}
