//! A keyspace whose oldest tables are dropped once there are too many bytes: what may vanish, and what must not.
//!
//! 1. What is there is what was written last under its key. What was deleted does not come back.
//! 2. What is missing is older than everything that is there, and stays away, also over power cuts.
//! 3. Nothing is missing where there is room for all of it; where there is not, no more is kept than there is room for.
//! 4. An iterator that was there before a table was dropped reads on.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use super::clock;
use super::random::Random;
use super::report::Report;
use super::settings::Settings;
use super::subject::DIRECTORY;
use crate::database::Database;
use crate::disk::{SimDisk, Survival};
use crate::error::Error;
use crate::iter::Iter;
use crate::keyspace::Keyspace;
use crate::keyspace_options::CompactionStrategy;
use crate::options::Durability;

/// More than any case writes.
const ROOM_FOR_ALL: u64 = 1 << 40;

/// The last write of a key.
struct Last {
    number: u64,
    value: Option<Vec<u8>>,
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

struct Queue {
    disk: SimDisk,
    settings: Settings,
    bytes_max: u64,
    open: (Database, Keyspace),
    written: BTreeMap<Vec<u8>, Last>,
    number: u64,
    /// Nothing that was written up to here is there any more.
    gone: u64,
    kept: Option<(Iter, Entries)>,
}

/// A few dozen steps on one keyspace.
///
/// # Panics
/// When something is there or missing that should not be.
pub fn case(seed: u64, report: &mut Report) {
    clock::set(clock::START);
    let mut random = Random::new(seed ^ 0x6669_666f);
    let settings = Settings::random(&mut random);
    let bytes_max = random.pick(&[1, 3000, 20_000, ROOM_FOR_ALL]);
    let disk = SimDisk::new(seed);
    let open = open(&disk, settings, bytes_max);
    let mut queue = Queue { disk, settings, bytes_max, open, written: BTreeMap::new(), number: 0, gone: 0, kept: None };
    let steps = 50 + random.below(100);
    for _ in 0..steps {
        let done = queue.step(&mut random);
        done.unwrap_or_else(|error| panic!("first in, first out, {settings:?}: {error}"));
    }
    report.count("operations", queue.number);
    report.count("oldest_dropped", queue.gone);
}

fn open(disk: &SimDisk, settings: Settings, bytes_max: u64) -> (Database, Keyspace) {
    let builder = settings.builder(Path::new(DIRECTORY)).disk(disk.clone()).durability(Durability::Buffered);
    let database = builder.open().unwrap_or_else(|error| panic!("{settings:?}: {error}"));
    let strategy = CompactionStrategy::Fifo { bytes_max: Some(bytes_max) };
    let keyspace = database.keyspace("queue", settings.keyspace_options().compaction(strategy));
    let keyspace = keyspace.unwrap_or_else(|error| panic!("{settings:?}: {error}"));
    (database, keyspace)
}

fn whole(entries: Iter) -> Result<Entries, Error> {
    entries.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
}

impl Queue {
    fn step(&mut self, random: &mut Random) -> Result<(), Error> {
        let key = |random: &mut Random| format!("k{:02}", random.below(60)).into_bytes();
        match random.below(24) {
            0..=13 => {
                self.number += 1;
                let (key, mut value) = (key(random), format!("v{}", self.number).into_bytes());
                value.resize(value.len() + random.index(200), b'.');
                self.open.1.put(&key, &value)?;
                self.written.insert(key, Last { number: self.number, value: Some(value) });
            }
            14 => {
                self.number += 1;
                let key = key(random);
                self.open.1.delete(&key)?;
                self.written.insert(key, Last { number: self.number, value: None });
            }
            15 => {
                self.number += 1;
                let (start, end) = (key(random), key(random));
                self.open.1.delete_range(start.as_slice()..end.as_slice())?;
                if start < end {
                    let range = (Bound::Included(start.as_slice()), Bound::Excluded(end.as_slice()));
                    for (_, last) in self.written.range_mut::<[u8], _>(range) {
                        *last = Last { number: self.number, value: None };
                    }
                }
            }
            16..=17 => self.open.0.flush()?,
            18..=19 => self.settle()?,
            20 => {
                let expected = self.check()?;
                self.drain()?;
                self.kept = Some((self.open.1.iter(), expected));
            }
            21 => self.cut_power(random)?,
            _ => drop(self.check()?),
        }
        Ok(())
    }

    /// Does all the work there is, and looks at what is kept.
    fn settle(&mut self) -> Result<(), Error> {
        while self.open.0.step()? {}
        self.open.1.compact_range(..)?;
        let metrics = self.open.0.metrics();
        let (tables, bytes) = metrics
            .keyspaces
            .iter()
            .flat_map(|keyspace| &keyspace.levels)
            .fold((0, 0), |(tables, bytes), level| (tables + level.tables, bytes + level.bytes));
        assert!(tables <= 1 || bytes <= self.bytes_max, "{bytes} bytes in {tables} tables, of {}", self.bytes_max);
        Ok(())
    }

    /// Compares, and returns what is there.
    fn check(&mut self) -> Result<Entries, Error> {
        let found = whole(self.open.1.iter())?;
        let mut there = BTreeMap::new();
        for (key, value) in &found {
            let last = self.written.get(key).expect("it was written");
            assert_eq!(last.value.as_ref(), Some(value), "something else than what was written last");
            assert_eq!(self.open.1.get(key)?.as_deref(), Some(value.as_slice()), "a point read disagrees with a scan");
            there.insert(last.number, key);
        }
        let missing = self.written.values().filter(|last| last.value.is_some() && !there.contains_key(&last.number));
        self.gone = missing.map(|last| last.number).fold(self.gone, u64::max);
        if let Some((&oldest, _)) = there.first_key_value() {
            let gone = self.gone;
            assert!(oldest > gone, "the write {oldest} is there, and {gone}, which is no older, is or was missing");
        }
        assert!(self.gone == 0 || self.bytes_max < ROOM_FOR_ALL, "the write {} is missing for no reason", self.gone);
        Ok(found)
    }

    fn drain(&mut self) -> Result<(), Error> {
        if let Some((iterator, expected)) = self.kept.take() {
            assert!(whole(iterator)? == expected, "an iterator reads something else than what it was opened on");
        }
        Ok(())
    }

    fn cut_power(&mut self, random: &mut Random) -> Result<(), Error> {
        self.drain()?;
        self.open.0.sync()?;
        // Flushes, drops of tables and removals of files may or may not have come through.
        self.settle()?;
        self.disk = self.disk.reboot(Survival::Random(random.next()));
        self.open = open(&self.disk, self.settings, self.bytes_max);
        let report = self.open.0.verify()?;
        assert!(report.is_sound(), "{:?}", report.problems);
        self.check().map(drop)
    }
}
