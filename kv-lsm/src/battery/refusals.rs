//! Calls to the disk fail, once and for ever, whole and half done, for any reason and for want of room.
//!
//! The program goes on. What is acknowledged must hold, errors must be true, reads are right or fail, and afterwards, whether
//! the process or the machine dies, the database opens with everything that was acknowledged as durable.

use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;

use super::drive::{OnError, run};
use super::generate::{Generator, random_trace};
use super::inspect::Inspector;
use super::random::Random;
use super::report::Report;
use super::settings::Settings;
use super::subject::Subject;
use super::trace::Trace;
use crate::disk::{CallKind, Effect, Fault, SimDisk, Survival};
use crate::options::Durability;

/// How a call fails.
pub const EFFECTS: [Effect; 4] = [
    Effect::Fail(ErrorKind::Other),
    Effect::FailHalfway(ErrorKind::Other),
    Effect::Fail(ErrorKind::StorageFull),
    Effect::FailHalfway(ErrorKind::StorageFull),
];

/// Every kind of call.
const KINDS: [CallKind; 14] = [
    CallKind::Open,
    CallKind::Create,
    CallKind::Rename,
    CallKind::RenameDirectory,
    CallKind::Link,
    CallKind::Remove,
    CallKind::List,
    CallKind::CreateDirectory,
    CallKind::SyncDirectory,
    CallKind::Read,
    CallKind::Write,
    CallKind::Sync,
    CallKind::Truncate,
    CallKind::Allocate,
];

/// Runs a trace on a disk with a fault in it, and looks at what is left. Returns whether any call met the fault.
///
/// # Panics
/// When an error was not true, or something acknowledged is lost.
pub fn fail(trace: &Trace, fault: Fault, seed: u64, inspector: &mut Inspector, context: &dyn fmt::Display) -> bool {
    let disk = SimDisk::new(seed);
    disk.inject(fault);
    let history = run(&disk, trace, OnError::GoOn);
    let met = disk.faults_met() > 0;
    disk.clear_faults();
    inspector.begin(trace.settings);
    for survival in [Survival::None, Survival::All, Survival::Random(seed)] {
        let context = format_args!("{}: {context}, then power lost, {survival:?}", trace.name);
        inspector.check(&disk.reboot(survival), &history, &context);
    }
    let context = format_args!("{}: {context}, then restarted", trace.name);
    inspector.check_alive(&disk.restart(), &history, &context);
    met
}

/// The disk fills up while a trace runs, and there is room again after. Returns whether it was ever full.
fn fill(trace: &Trace, room_bytes: u64, inspector: &mut Inspector) {
    let disk = SimDisk::new(1);
    disk.set_capacity_bytes(Some(room_bytes));
    let history = run(&disk, trace, OnError::GoOn);
    disk.set_capacity_bytes(None);
    inspector.begin(trace.settings);
    let context = format_args!("{}: room for {room_bytes} bytes", trace.name);
    inspector.check(&disk.reboot(Survival::None), &history, &context);
    inspector.check_alive(&disk.restart(), &history, &context);
}

/// Single reads fail while everything is read, forwards, backwards and key by key. Returns how many did.
///
/// # Panics
/// When something read is wrong, or anything follows an error (lesson 52).
pub fn fail_reads(closed: &SimDisk, settings: Settings, random: &mut Random) -> u64 {
    let subject = Subject::open(closed, settings).expect("nothing is wrong yet");
    // Enough for tables of several blocks, which are read, not memory.
    let mut generator = Generator::new(random.clone(), 300, 60);
    for _ in 0..80 {
        subject.write(&generator.batch(), Durability::Buffered).expect("nothing is wrong yet");
    }
    subject.database.flush().expect("nothing is wrong yet");
    let known = [Arc::new(subject.content().expect("nothing is wrong yet"))];
    drop(subject);
    let mut met = 0;
    for _ in 0..20 {
        let disk = closed.reboot(Survival::All);
        let subject = Subject::open(&disk, settings).expect("nothing is wrong yet");
        let call = random.below(90);
        disk.inject(Fault::new(random.pick(&EFFECTS)).on(CallKind::Read).after(call));
        subject.check_while_reads_fail(&known, &|_| (), &format_args!("read {call} fails"));
        met += disk.faults_met();
        disk.clear_faults();
        // The disk recovered, and so did the database.
        assert_eq!(subject.check_while_reads_fail(&known, &|_| (), &format_args!("after read {call} failed")), 0);
    }
    met
}

/// One random trace, with a dozen faults, one at a time.
///
/// # Panics
/// As [`fail`].
pub fn case(seed: u64, report: &mut Report) {
    let mut random = Random::new(seed ^ 0x6661_696c);
    let trace = random_trace(seed, 8 + random.below(25));
    let whole = SimDisk::new(1);
    run(&whole, &trace, OnError::GoOn);
    let calls = whole.mutating_calls();
    let mut inspector = Inspector::new(trace.settings);
    for number in 0..12 {
        let effect = random.pick(&EFFECTS);
        // Half of the faults hit any call that changes something, the others one kind of call, early more often than late.
        let (fault, context) = if random.one_in(2) {
            let call = random.below(calls);
            (Fault::new(effect).after(call), format!("{effect:?} of call {call}"))
        } else {
            let kind = random.pick(&KINDS);
            let magnitude = random.below(8);
            let call = random.below(1 << magnitude);
            let effect = if kind == CallKind::Read && random.one_in(3) { Effect::ShortRead } else { effect };
            (Fault::new(effect).on(kind).after(call), format!("{effect:?} of {kind:?} {call}"))
        };
        let (fault, context) =
            if random.one_in(3) { (fault.for_ever(), format!("{context} and on")) } else { (fault, context) };
        if fail(&trace, fault, seed ^ number, &mut inspector, &context) {
            report.count("injections", 1);
        }
    }
    fill(&trace, 4096 * (4 + random.below(20)), &mut inspector);
    report.count("injections", fail_reads(&whole.reboot(Survival::All), trace.settings, &mut random));
    report.count("full_disks", 1);
    report.count("opened", inspector.states);
    report.settings.insert(trace.settings);
}
