//! Engines that answer wrongly, each in one way, must be found out.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Mutex;

use super::*;
use crate::engine::{Each, Name, Opening, Promise};
use crate::ledger::Ledger;
use crate::measure::Usage;
use crate::stream::{Ycsb, random, replay, sequential, shuffled, uniform, ycsb};
use crate::verify::verify;

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Fault {
    None,
    /// One put in a hundred returns and is not there.
    LosesAPut,
    /// A put over another is not there.
    KeepsTheFirst,
    /// Only the first half of a batch is there.
    HalvesBatches,
    /// A key that was deleted is there.
    IgnoresADelete,
    /// A get may give the value of another key.
    MixesUpKeys,
    /// A get may find nothing.
    OverlooksAKey,
    /// A get finds what is not there.
    InventsKeys,
    /// One byte in the middle of a value is another.
    DamagesAValue,
    CutsAValue,
    /// A scan leaves out an entry.
    SkipsInScans,
    /// A scan gives an entry twice.
    RepeatsInScans,
    /// A scan ends before its end.
    EndsScansEarly,
    /// A scan goes on behind its end.
    OverrunsScans,
    Fails,
}

/// A sorted map with one fault.
struct Faulty {
    fault: Fault,
    map: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Faulty {
    /// Whether this key is one that the fault concerns: those whose number ends in 42.
    fn hits(&self, fault: Fault, key: &[u8]) -> bool {
        self.fault == fault && key.ends_with(b"4200")
    }

    fn seen(&self, key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut value = value.to_vec();
        if self.hits(Fault::DamagesAValue, key) {
            value[30] ^= 1;
        }
        if self.hits(Fault::CutsAValue, key) {
            value.pop();
        }
        value
    }
}

impl Engine for Faulty {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        let mut map = self.map.lock().expect("no test panics inside");
        if self.hits(Fault::Fails, key) {
            return Err("no room".into());
        }
        if self.hits(Fault::LosesAPut, key) || self.hits(Fault::KeepsTheFirst, key) && map.contains_key(key) {
            return Ok(());
        }
        map.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn put_all(&self, entries: &[(Key, Vec<u8>)]) -> Result<(), Failure> {
        let kept = if self.fault == Fault::HalvesBatches { entries.len() / 2 } else { entries.len() };
        entries[..kept].iter().try_for_each(|(key, value)| self.put(key, value))
    }

    fn delete(&self, key: &[u8]) -> Result<(), Failure> {
        if !self.hits(Fault::IgnoresADelete, key) {
            self.map.lock().expect("as above").remove(key);
        }
        Ok(())
    }

    fn get(&self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let map = self.map.lock().expect("as above");
        let value = match self.fault {
            Fault::InventsKeys => map.range(key.to_vec()..).next().map(|(_, value)| value),
            _ if self.hits(Fault::OverlooksAKey, key) => None,
            _ if self.hits(Fault::MixesUpKeys, key) => map.range(key.to_vec()..).nth(1).map(|(_, value)| value),
            _ => map.get(key),
        };
        if let Some(value) = value {
            found(&self.seen(key, value));
        }
        Ok(value.is_some())
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, direction: Direction, each: Each<'_>) -> Result<(), Failure> {
        let map = self.map.lock().expect("as above");
        let end = match to {
            Some(to) if self.fault == Fault::OverrunsScans => Bound::Included(to.to_vec()),
            Some(to) => Bound::Excluded(to.to_vec()),
            None => Bound::Unbounded,
        };
        let mut entries: Vec<_> = map.range((Bound::Included(from.to_vec()), end)).collect();
        if self.fault == Fault::EndsScansEarly {
            entries.pop();
        }
        if direction == Direction::Backward {
            entries.reverse();
        }
        for (key, value) in entries {
            if self.hits(Fault::SkipsInScans, key) {
                continue;
            }
            let value = self.seen(key, value);
            let times = if self.hits(Fault::RepeatsInScans, key) { 2 } else { 1 };
            for _ in 0..times {
                if each(key, &value).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn options(&self) -> String {
        String::new()
    }
}

const KEYS: u32 = 1000;
const VALUES: usize = 100;

/// Runs streams and brings the ledger up to date.
fn step(engine: &dyn Engine, ledger: &mut Ledger, batch: usize, streams: &[Stream]) -> Result<Vec<Done>, DriveError> {
    let job = Job {
        engine,
        values: Values::new(VALUES),
        base: ledger.last_generation(),
        numbers: ledger.numbers(),
        batch,
        scan: ScanLength::UpTo(100),
        time_max: Duration::MAX,
    };
    let base = job.base;
    let done = run(job, streams)?;
    for (stream, done) in streams.iter().zip(&done) {
        replay(&stream.ops, done.operations, base, ledger);
    }
    Ok(done)
}

/// Everything that workloads are made of, on one database.
fn everything(engine: &dyn Engine) -> Result<(), DriveError> {
    let mut ledger = Ledger::default();
    let values = Values::new(VALUES);
    let random = &mut random(1);
    step(engine, &mut ledger, 100, &[sequential(KEYS / 2).into()])?;
    verify(engine, values, &ledger)?;
    step(engine, &mut ledger, 1, &[shuffled(Kind::Put, KEYS, random).into()])?;
    verify(engine, values, &ledger)?;
    for kind in [Kind::Get, Kind::Miss, Kind::Scan, Kind::PrefixScan] {
        step(engine, &mut ledger, 1, &[shuffled(kind, KEYS, random).into(), shuffled(kind, KEYS, random).into()])?;
    }
    for direction in [Direction::Forward, Direction::Backward] {
        let job = Job {
            engine,
            values,
            base: 0,
            numbers: ledger.numbers(),
            batch: 1,
            scan: ScanLength::Exactly(1),
            time_max: Duration::MAX,
        };
        assert_eq!(full_scan(&job, direction)?, u64::from(KEYS));
    }
    for letter in [Ycsb::A, Ycsb::B, Ycsb::C, Ycsb::D, Ycsb::E, Ycsb::F] {
        let numbers = ledger.numbers();
        step(engine, &mut ledger, 1, &[ycsb(letter, 1000, numbers, random).into()])?;
    }
    let beside = Stream { ops: uniform(Kind::Put, 100, KEYS, random), beside: true };
    let done = step(engine, &mut ledger, 1, &[uniform(Kind::Get, 5000, KEYS, random).into(), beside])?;
    assert_eq!(done[0].operations, 5000);
    verify(engine, values, &ledger)?;
    step(engine, &mut ledger, 1, &[shuffled(Kind::Delete, KEYS, random).into()])?;
    verify(engine, values, &ledger)
}

fn outcome(fault: Fault) -> Result<(), DriveError> {
    everything(&Faulty { fault, map: Mutex::default() })
}

#[test]
fn a_right_engine_passes() {
    assert!(outcome(Fault::None).is_ok());
}

#[test]
fn every_kind_of_wrong_answer_fails_the_run() {
    for fault in [
        Fault::LosesAPut,
        Fault::KeepsTheFirst,
        Fault::HalvesBatches,
        Fault::IgnoresADelete,
        Fault::MixesUpKeys,
        Fault::OverlooksAKey,
        Fault::InventsKeys,
        Fault::DamagesAValue,
        Fault::CutsAValue,
        Fault::SkipsInScans,
        Fault::RepeatsInScans,
        Fault::EndsScansEarly,
        Fault::OverrunsScans,
    ] {
        assert!(matches!(outcome(fault), Err(DriveError::Wrong(_))), "{fault:?}: {:?}", outcome(fault));
    }
    assert!(matches!(outcome(Fault::Fails), Err(DriveError::Engine(_))));
}

#[test]
fn every_engine_of_this_build_answers_rightly() -> Result<(), Failure> {
    for name in Name::ALL.into_iter().filter(|name| name.is_built()) {
        for promise in [Promise::Buffered, Promise::Synced] {
            let directory = tempfile::tempdir()?;
            let opening = Opening {
                promise,
                cache_bytes: 8 << 20,
                memtable_bytes: 4 << 20,
                map_bytes: 1 << 30,
                separate_values: false,
            };
            let engine = name.open(directory.path(), &opening)?;
            assert!(!engine.options().is_empty());
            let checked = match promise {
                Promise::Buffered => everything(engine.as_ref()),
                Promise::Synced => {
                    let mut ledger = Ledger::default();
                    step(engine.as_ref(), &mut ledger, 1, &[sequential(20).into()])?;
                    verify(engine.as_ref(), Values::new(VALUES), &ledger)
                }
            };
            checked.map_err(|error| format!("{name}, {promise:?}: {error}"))?;
        }
    }
    Ok(())
}

#[test]
fn the_clock_ends_a_stream_and_what_was_done_is_known() -> Result<(), DriveError> {
    let engine = Faulty { fault: Fault::None, map: Mutex::default() };
    let ops = sequential(5_000_000);
    let job = Job {
        engine: &engine,
        values: Values::new(VALUES),
        base: 0,
        numbers: 0,
        batch: 1,
        scan: ScanLength::Exactly(1),
        time_max: Duration::from_millis(50),
    };
    let done = run(job, &[Stream::from(ops.clone())])?;
    assert!(done[0].operations < ops.len() as u64);
    assert_eq!(done[0].latencies.len(), done[0].operations);
    let mut ledger = Ledger::default();
    replay(&ops, done[0].operations, 0, &mut ledger);
    verify(&engine, job.values, &ledger)
}

/// An engine that does nothing.
struct Nothing(Vec<u8>);

impl Engine for Nothing {
    fn put(&self, _: &[u8], _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    fn put_all(&self, _: &[(Key, Vec<u8>)]) -> Result<(), Failure> {
        Ok(())
    }

    fn delete(&self, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    fn get(&self, _: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        found(&self.0);
        Ok(true)
    }

    fn scan(&self, _: &[u8], _: Option<&[u8]>, _: Direction, _: Each<'_>) -> Result<(), Failure> {
        Ok(())
    }

    fn options(&self) -> String {
        String::new()
    }
}

/// `cargo test --release … -- --ignored --nocapture overhead`
#[test]
#[ignore = "prints what the bench itself takes, for README.md"]
fn overhead() -> Result<(), DriveError> {
    let values = Values::new(VALUES);
    let mut value = Vec::new();
    values.fill(7, 1, &mut value);
    let engine = Nothing(value);
    for kind in [Kind::Put, Kind::Get, Kind::Delete] {
        let ops = vec![Op::new(kind, 7); 2_000_000];
        let (scan, time_max) = (ScanLength::Exactly(1), Duration::MAX);
        let job = Job { engine: &engine, values, base: 0, numbers: 8, batch: 1, scan, time_max };
        // Of the processor, so that a busy machine does not show.
        let before = Usage::now().expect("on Linux");
        let done = run(job, &[ops.into()])?;
        let used = Usage::now().expect("on Linux").since(before).processor;
        println!("{kind:?}: {} ns", used.as_nanos() / u128::from(done[0].operations));
    }
    Ok(())
}
