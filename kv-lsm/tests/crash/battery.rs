//! Runs traces, cuts the power, and looks at what is left.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use kv_lsm::disk::{SimDisk, Survival};
use kv_lsm::{Durability, Error};

use super::engine::{Engine, Sizes};
use super::model::{Content, History};
use super::trace::{Random, Step, Trace, batch};

/// How much more than usual is tried: `KV_BATTERY=20 cargo test -p kv-lsm --release --test crash` for a night's run.
pub(crate) fn effort() -> u64 {
    std::env::var("KV_BATTERY").ok().and_then(|effort| effort.parse().ok()).unwrap_or(1)
}

/// What a run has to do when a step fails.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(crate) enum OnError {
    /// The power is off: stop. The step that failed may have happened.
    Stop,
    /// Go on, and hold the engine to what the error says.
    GoOn,
}

/// Runs a trace on a disk and returns what must be there afterwards. Nothing has to be there when it could not be opened.
pub(crate) fn run(disk: &SimDisk, trace: &Trace, on_error: OnError) -> History {
    let mut history = History::starting_with(Content::new());
    let Ok(mut engine) = Engine::open(disk, trace.sizes) else {
        return history;
    };
    for (number, step) in trace.steps.iter().enumerate() {
        if matches!(step, Step::Reopen) {
            drop(engine);
            match Engine::open(disk, trace.sizes) {
                Ok(opened) => engine = opened,
                Err(_) => return history,
            }
            // A process that is restarted has lost nothing, and what recovery found is durable from then on.
            let Ok(found) = engine.content() else { return history };
            history.check_recovered(&found, &format_args!("{}, step {number}", trace.name));
            if !history.is_poisoned() {
                assert_eq!(&found, history.current(), "{}, step {number}: closing lost something", trace.name);
            }
            history = History::starting_with(found);
            continue;
        }
        let result = perform(&engine, step, &mut history, on_error);
        if let Ok(sequence) = engine.database.durable_sequence() {
            history.observe_durable(sequence);
        }
        if result.is_err() && on_error == OnError::Stop {
            return history;
        }
        if on_error == OnError::GoOn
            && let Ok(found) = engine.content()
        {
            let known = if history.is_poisoned() { history.allowed() } else { std::slice::from_ref(history.current()) };
            assert!(known.contains(&found), "{}, step {number} {step:?}: a read is wrong", trace.name);
        }
    }
    history
}

fn perform(engine: &Engine, step: &Step, history: &mut History, on_error: OnError) -> Result<(), Error> {
    let result = match step {
        Step::Write(batch, durability) => {
            let result = engine.write(batch, *durability);
            match &result {
                Ok(()) => {
                    history.acknowledge(batch, *durability == Durability::Sync);
                    history.numbered(engine.database.snapshot().sequence());
                }
                Err(Error::Ambiguous { .. }) => history.attempt(batch),
                Err(_) if on_error == OnError::Stop => history.attempt(batch),
                Err(_) => {}
            }
            result
        }
        Step::Sync => {
            let result = engine.database.sync();
            if result.is_ok() {
                history.acknowledge_sync();
            }
            result.map(drop)
        }
        Step::Flush => engine.database.flush(),
        Step::Compact(keyspace) => engine.keyspaces[*keyspace].compact_range(..),
        Step::Work(pieces) => (0..*pieces).try_for_each(|_| engine.database.step().map(drop)),
        Step::Checkpoint => match engine.database.checkpoint(checkpoint(engine.database.snapshot().sequence())) {
            Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(error),
        },
        Step::Reopen => unreachable!("the caller reopens"),
    };
    if let Err(Error::Ambiguous { .. } | Error::Poisoned { .. }) = &result {
        history.poison();
    }
    result
}

/// Where the checkpoint of a state lies.
pub(crate) fn checkpoint(sequence: u64) -> PathBuf {
    PathBuf::from(format!("/checkpoint-{sequence}"))
}

/// Checks disks that were left by power cuts, each different one once.
pub(crate) struct Inspector {
    sizes: Sizes,
    seen: BTreeSet<(u64, (usize, usize))>,
    /// How many different disks were opened.
    pub(crate) states: u64,
}

impl Inspector {
    pub(crate) const fn new(sizes: Sizes) -> Self {
        Self { sizes, seen: BTreeSet::new(), states: 0 }
    }

    /// Opens a disk that a power cut left and checks everything that must hold then.
    pub(crate) fn check(&mut self, disk: &SimDisk, history: &History, context: &dyn fmt::Display) {
        if !self.seen.insert((disk.durable_hash(), history.extent())) {
            return;
        }
        self.check_alive(disk, history, context);
    }

    /// The same for a disk whose power was not cut, so that its cache holds more than its durable image tells.
    pub(crate) fn check_alive(&mut self, disk: &SimDisk, history: &History, context: &dyn fmt::Display) {
        self.states += 1;
        let engine = open_and_check(disk, self.sizes, history, context);
        let found = engine.content().unwrap_or_else(|error| panic!("{context}: {error}"));
        // What recovery showed is durable: another power cut, before anything else happens, changes nothing.
        let cut_again = disk.reboot(Survival::None);
        drop(engine);
        let same = History::starting_with(found.clone());
        let engine = open_and_check(disk, self.sizes, &same, &format_args!("{context}, opened twice"));
        drop(engine);
        let engine = open_and_check(&cut_again, self.sizes, &same, &format_args!("{context}, cut after recovery"));
        // And it goes on as a database does.
        let mut history = same;
        let more = batch(9999, 50);
        engine
            .write(&more, Durability::Sync)
            .unwrap_or_else(|error| panic!("{context}: write after recovery: {error}"));
        history.acknowledge(&more, true);
        let cut_again = cut_again.reboot(Survival::None);
        open_and_check(&cut_again, self.sizes, &history, &format_args!("{context}, written after recovery"));
    }
}

fn open_and_check(disk: &SimDisk, sizes: Sizes, history: &History, context: &dyn fmt::Display) -> Engine {
    let engine = Engine::open(disk, sizes).unwrap_or_else(|error| panic!("{context}: cannot be opened: {error}"));
    let found = engine.content().unwrap_or_else(|error| panic!("{context}: cannot be read: {error}"));
    history.check_recovered(&found, context);
    engine
}

/// A few ways for a power cut to go, different for each `salt`.
pub(crate) fn survivals(disk: &SimDisk, salt: u64, samples: u64) -> Vec<Survival> {
    let mut random = Random::new(salt);
    let mut survivals = vec![Survival::None, Survival::All];
    let units = disk.unsynced_units();
    if units > 1 {
        for _ in 0..samples * effort() {
            survivals.push(Survival::AllBut(random.below(units)));
            survivals.push(Survival::Only(random.below(units)));
            survivals.push(Survival::Prefix(random.below(units)));
            survivals.push(Survival::Random(random.next()));
            survivals.push(Survival::Random(random.next()));
        }
    }
    survivals
}

/// Cuts the power at every call of a trace; with `inside_recovery_one_in`, in so many of the recoveries again, at
/// every call. Returns how many different disks were checked.
pub(crate) fn cut_everywhere(trace: &Trace, samples: u64, inside_recovery_one_in: Option<u64>) -> u64 {
    let whole = SimDisk::new(1);
    run(&whole, trace, OnError::Stop);
    let calls = whole.mutating_calls();
    let mut inspector = Inspector::new(trace.sizes);
    let mut outcomes = 0;
    for call in 0..=calls {
        let disk = SimDisk::new(1);
        disk.cut_power_after(call);
        let history = run(&disk, trace, OnError::Stop);
        assert_eq!(disk.power_cut_at().is_some(), call < calls, "{}: the trace is not the same twice", trace.name);
        for survival in survivals(&disk, call, samples) {
            let context = Cut { trace, call, disk: &disk, survival };
            inspector.check(&disk.reboot(survival), &history, &context);
            outcomes += 1;
            if inside_recovery_one_in.is_some_and(|every| outcomes % every == 0) {
                cut_inside_recovery(&mut inspector, &disk, survival, &history, &context);
            }
        }
    }
    inspector.states
}

/// Cuts the power at every call of the recovery from one power cut.
fn cut_inside_recovery(
    inspector: &mut Inspector,
    disk: &SimDisk,
    survival: Survival,
    history: &History,
    context: &dyn fmt::Display,
) {
    for call in 0.. {
        let second = disk.reboot(survival);
        second.cut_power_after(call);
        let opened = Engine::open(&second, inspector.sizes);
        if second.power_cut_at().is_none() {
            return;
        }
        drop(opened);
        for survival in survivals(&second, call, 1) {
            let context = format!("{context}, and call {call} of recovery {:?}, {survival:?}", second.power_cut_at());
            inspector.check(&second.reboot(survival), history, &context);
        }
    }
}

/// Where the power was cut, for a message.
struct Cut<'a> {
    trace: &'a Trace,
    call: u64,
    disk: &'a SimDisk,
    survival: Survival,
}

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, call, disk, survival } = self;
        write!(f, "{}: power cut at call {call} {:?}, {survival:?}", trace.name, disk.power_cut_at())
    }
}
