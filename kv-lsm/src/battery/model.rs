//! The engine against sorted maps: any operations, in any order with flushes, compactions and reopening. The same operations
//! go to several databases with different settings, and each must read as the maps do, at every live snapshot and through
//! every live iterator, also when something happens in the middle of a read.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Bound;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use kv_core::store::KeyRange;
use kv_core::time::Millis;

use super::clock;
use super::content::{Content, KEYSPACES, Operation};
use super::generate::Generator;
use super::invariants::Invariants;
use super::random::Random;
use super::report::Report;
use super::settings::Settings;
use super::subject::{DIRECTORY, Subject};
use crate::disk::MemDisk;
use crate::error::Error;
use crate::iter::Iter;
use crate::options::Durability;
use crate::sabotage::interleave;
use crate::slice::Slice;
use crate::snapshot::Snapshot;

/// Databases that are given the same operations.
const SIDES: usize = 2;
/// Live snapshots and live iterators at a time.
const HELD_MAX: usize = 4;

/// One database.
struct Side {
    disk: MemDisk,
    settings: Settings,
    /// `None` only while it is being opened.
    subject: Option<Subject>,
    snapshots: Vec<Snapshot>,
    iterators: Vec<Iter>,
    invariants: Invariants,
}

impl Side {
    fn open(&self) -> Subject {
        let builder = self.settings.builder(Path::new(DIRECTORY)).disk(self.disk.clone());
        Subject::open_with(builder, self.settings).unwrap_or_else(|error| panic!("{:?}: {error}", self.settings))
    }

    fn subject(&self) -> &Subject {
        self.subject.as_ref().expect("it is open")
    }

    fn check_invariants(&mut self) {
        let Self { subject, invariants, settings, .. } = self;
        invariants.check(&subject.as_ref().expect("it is open").database, *settings, &"model");
    }
}

/// An iterator's part of the truth: what it has yet to yield.
type Left = VecDeque<(Bytes, Bytes)>;

/// What is read.
#[derive(Clone, Debug)]
enum Read {
    Get(usize, Vec<u8>),
    Presence(usize, Vec<u8>),
    MultiGet(usize, Vec<Vec<u8>>),
    Scan { keyspace: usize, bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>), how: Walk, limit: usize },
    Prefix(usize, Vec<u8>),
    Everything,
}

/// From where a scan takes its entries.
#[derive(Copy, Clone, Debug)]
enum Walk {
    Forward,
    Backward,
    /// From both ends, as these bits say.
    BothEnds(u64),
}

struct World {
    content: Content,
    snapshots: Vec<Content>,
    iterators: Vec<Left>,
    sides: Vec<Side>,
    generator: Generator,
    synced_one_in: u64,
    operations: u64,
    entries: u64,
}

/// A few thousand operations on two databases.
///
/// # Panics
/// When one of them reads anything else than the maps.
pub fn case(seed: u64, report: &mut Report) {
    clock::set(clock::START);
    let mut random = Random::new(seed);
    let sides = (0..SIDES).map(|_| {
        let settings = Settings::random(&mut random);
        report.settings.insert(settings);
        let mut side = Side {
            disk: MemDisk::new(),
            settings,
            subject: None,
            snapshots: Vec::new(),
            iterators: Vec::new(),
            invariants: Invariants::default(),
        };
        side.subject = Some(side.open());
        side
    });
    let sides = sides.collect();
    let keys = random.pick(&[3, 12, 40, 150, 600]);
    let value_bytes = random.pick(&[8, 30, 30, 100]);
    let synced_one_in = random.pick(&[3, 20, 1000]);
    let steps = 400 + random.below(2000);
    let mut world = World {
        content: Content::new(),
        snapshots: Vec::new(),
        iterators: Vec::new(),
        sides,
        generator: Generator::new(random, keys, value_bytes),
        synced_one_in,
        operations: 0,
        entries: 0,
    };
    for _ in 0..steps {
        world.step();
    }
    world.end();
    report.count("operations", world.operations);
    report.count("entries_scanned", world.entries);
}

impl World {
    fn step(&mut self) {
        match self.generator.random.below(1000) {
            0..=419 => self.write(),
            420..=429 => self.write_while_somebody_reads(),
            430..=859 => {
                let read = self.read();
                self.check(&read);
            }
            860..=904 => {
                let read = self.read();
                self.check_at_snapshot(&read);
            }
            905..=909 => self.interleaved(),
            910..=919 => self.take_snapshot(),
            920..=927 => self.drop_snapshot(),
            928..=935 => self.open_iterator(),
            936..=949 => self.advance_iterator(),
            950..=954 => self.time(),
            955..=984 => self.each(1, |side| side.subject().database.step().map(drop)),
            985..=989 => self.each(1, |side| side.subject().database.sync()),
            990..=994 => self.each(1, |side| side.subject().database.flush()),
            995..=997 => {
                let keyspace = self.generator.random.index(KEYSPACES.len());
                let (start, end) = self.generator.range();
                self.each(1, |side| side.subject().keyspaces[keyspace].compact_range(start.as_slice()..end.as_slice()));
            }
            998 => self.reopen(),
            _ => self.check_everywhere(),
        }
    }

    /// Does the same to each database.
    fn each(&mut self, operations: u64, mut act: impl FnMut(&mut Side) -> Result<(), Error>) {
        for side in &mut self.sides {
            act(side).unwrap_or_else(|error| panic!("{:?}: {error}", side.settings));
            side.check_invariants();
            self.operations += operations;
        }
    }

    fn write(&mut self) {
        let batch = self.generator.batch();
        let durability = self.generator.durability(self.synced_one_in);
        batch.iter().for_each(|operation| self.content.apply(operation));
        self.write_to_each(&batch, durability);
    }

    /// Lesson 45: while a batch is being applied, nobody sees any of it.
    fn write_while_somebody_reads(&mut self) {
        let batch = [self.generator.batch(), self.generator.batch()].concat();
        let before = self.content.clone();
        batch.iter().for_each(|operation| self.content.apply(operation));
        for side in &self.sides {
            let reader = side.subject().clone();
            let before = before.clone();
            let seen = Rc::new(RefCell::new(Vec::new()));
            let note = Rc::clone(&seen);
            // No panic in the middle of a write, whose consequences would hide the cause.
            let meanwhile = move || match reader.content() {
                Ok(found) => *note.borrow_mut() = before.difference(&found),
                Err(error) => note.borrow_mut().push(error.to_string()),
            };
            let written = interleave(meanwhile, || side.subject().write(&batch, Durability::Buffered));
            written.unwrap_or_else(|error| panic!("{:?}: {error}", side.settings));
            assert!(seen.borrow().is_empty(), "a part of a batch was seen: {:?}", seen.borrow());
            self.operations += batch.len() as u64;
        }
    }

    fn write_to_each(&mut self, batch: &[Operation], durability: Durability) {
        for side in &mut self.sides {
            let subject = side.subject();
            let written = match batch {
                // A batch of one goes in by the front door.
                [operation] if durability == Durability::Buffered => subject.write_alone(operation),
                _ => subject.write(batch, durability),
            };
            written.unwrap_or_else(|error| panic!("{:?}: {error}", side.settings));
            side.check_invariants();
            self.operations += batch.len() as u64;
        }
    }

    fn read(&mut self) -> Read {
        let generator = &mut self.generator;
        let keyspace = generator.random.index(KEYSPACES.len());
        match generator.random.below(50) {
            0..=3 => Read::Presence(keyspace, generator.key()),
            4..=39 => Read::Get(keyspace, generator.key()),
            40..=43 => Read::MultiGet(keyspace, (0..generator.random.below(6)).map(|_| generator.key()).collect()),
            44..=45 => {
                let key = generator.key();
                let bytes = generator.random.index(key.len() + 1);
                Read::Prefix(keyspace, key[..bytes].to_vec())
            }
            _ => {
                let (start, end) = generator.range();
                let bound = |key, choice| match choice {
                    0 => Bound::Unbounded,
                    1 => Bound::Excluded(key),
                    _ => Bound::Included(key),
                };
                let random = &mut generator.random;
                let bounds = (bound(start, random.below(5)), bound(end, random.below(5)));
                let how = match random.below(3) {
                    0 => Walk::Forward,
                    1 => Walk::Backward,
                    _ => Walk::BothEnds(random.next()),
                };
                Read::Scan { keyspace, bounds, how, limit: random.index(30) }
            }
        }
    }

    fn check(&mut self, read: &Read) {
        for side in &self.sides {
            let answer = read.ask(side.subject(), None);
            self.entries += answer.len() as u64;
            self.operations += 1;
            let expected = read.expect(&self.content);
            assert!(answer == expected, "{read:?}: {answer:?}, expected {expected:?}; {:?}", side.settings);
        }
    }

    fn check_at_snapshot(&mut self, read: &Read) {
        if self.snapshots.is_empty() {
            return;
        }
        let which = self.generator.random.index(self.snapshots.len());
        for side in &self.sides {
            let answer = read.ask(side.subject(), Some(&side.snapshots[which]));
            self.entries += answer.len() as u64;
            self.operations += 1;
            let expected = read.expect(&self.snapshots[which]);
            assert!(
                answer == expected,
                "{read:?} at snapshot {which}: {answer:?}, expected {expected:?}; {:?}",
                side.settings
            );
        }
    }

    /// Rule E9: writes, flushes and compactions come between the two things that a read takes hold of. It must see a state
    /// of before, of after, or one in between.
    fn interleaved(&mut self) {
        let read = self.read();
        let mut states = vec![self.content.clone()];
        let mut batches = Vec::new();
        for _ in 0..1 + self.generator.random.below(3) {
            // Overwrite what is read, for something to be wrong.
            let mut batch = self.generator.batch();
            if let Read::Get(keyspace, key) = &read {
                batch.push(Operation::Put(*keyspace, key.clone(), b"meanwhile".to_vec()));
            }
            batch.iter().for_each(|operation| self.content.apply(operation));
            states.push(self.content.clone());
            batches.push(batch);
        }
        let batches_count = batches.len() as u64;
        let flush = self.generator.random.one_in(2);
        let compact = self.generator.random.one_in(2);
        let in_the_middle = self.generator.random.one_in(3);
        for side in &self.sides {
            let subject = side.subject().clone();
            let batches = batches.clone();
            let meanwhile = move || {
                for batch in &batches {
                    subject.write(batch, Durability::Buffered).expect("a disk in memory does not fail");
                    if in_the_middle {
                        subject.database.flush().expect("a disk in memory does not fail");
                    }
                }
                if flush {
                    subject.database.flush().expect("a disk in memory does not fail");
                }
                if compact {
                    let each = subject.keyspaces.iter().try_for_each(|keyspace| keyspace.compact_range(..));
                    each.expect("a disk in memory does not fail");
                }
            };
            let written = Rc::new(Cell::new(false));
            let note = Rc::clone(&written);
            let meanwhile = move || {
                meanwhile();
                note.set(true);
            };
            let answer = interleave(meanwhile, || read.ask(side.subject(), None));
            assert!(written.get(), "every read takes hold of something");
            assert!(
                states.iter().any(|state| read.expect(state) == answer),
                "{read:?} while {} batches were written: {answer:?} was never so; {:?}",
                batches_count,
                side.settings
            );
            self.operations += 1 + batches_count;
        }
    }

    fn time(&mut self) {
        clock::advance(Millis(self.generator.random.below(40)));
        self.generator.now = clock::now();
        self.content.advance(clock::now());
    }

    fn take_snapshot(&mut self) {
        if self.snapshots.len() < HELD_MAX {
            self.snapshots.push(self.content.clone());
            self.each(1, |side| {
                side.snapshots.push(side.subject().database.snapshot());
                Ok(())
            });
        }
    }

    fn drop_snapshot(&mut self) {
        if !self.snapshots.is_empty() {
            let which = self.generator.random.index(self.snapshots.len());
            self.snapshots.remove(which);
            self.each(1, |side| {
                side.snapshots.remove(which);
                Ok(())
            });
        }
    }

    fn open_iterator(&mut self) {
        if self.iterators.len() < HELD_MAX {
            let keyspace = self.generator.random.index(KEYSPACES.len());
            let map = self.content.keyspace(keyspace);
            self.iterators.push(map.iter().map(|(key, value)| (key.clone(), value.clone())).collect());
            self.each(1, |side| {
                side.iterators.push(side.subject().keyspaces[keyspace].iter());
                Ok(())
            });
        }
    }

    /// An iterator owns the state that it reads, whatever happens since it was opened.
    fn advance_iterator(&mut self) {
        if self.iterators.is_empty() {
            return;
        }
        let which = self.generator.random.index(self.iterators.len());
        for _ in 0..self.generator.random.below(12) {
            let backward = self.generator.random.one_in(2);
            let left = &mut self.iterators[which];
            let expected = if backward { left.pop_back() } else { left.pop_front() };
            for side in &mut self.sides {
                let entries = &mut side.iterators[which];
                let found = if backward { entries.next_back() } else { entries.next() };
                let found = found.map(|entry| owned(entry.unwrap_or_else(|error| panic!("{error}"))));
                assert!(found == expected, "an iterator that was kept: {found:?}, expected {expected:?}");
                self.operations += 1;
            }
            if expected.is_none() {
                self.iterators.swap_remove(which);
                self.sides.iter_mut().for_each(|side| drop(side.iterators.swap_remove(which)));
                return;
            }
        }
    }

    fn reopen(&mut self) {
        self.snapshots.clear();
        self.iterators.clear();
        for side in &mut self.sides {
            side.snapshots.clear();
            side.iterators.clear();
            side.subject = None;
            side.subject = Some(side.open());
            side.invariants = Invariants::default();
            self.operations += 1;
        }
        self.check(&Read::Everything);
    }

    fn check_everywhere(&mut self) {
        self.check(&Read::Everything);
        for which in 0..self.snapshots.len() {
            for side in &self.sides {
                let answer = Read::Everything.ask(side.subject(), Some(&side.snapshots[which]));
                let expected = Read::Everything.expect(&self.snapshots[which]);
                assert!(answer == expected, "everything at snapshot {which} of {:?}", side.settings);
                self.entries += answer.len() as u64;
                self.operations += 1;
            }
        }
    }

    /// A full compaction leaves one version of each live key, and nothing else, when nobody reads anything older.
    fn end(&mut self) {
        self.check_everywhere();
        self.snapshots.clear();
        self.iterators.clear();
        for side in &mut self.sides {
            side.snapshots.clear();
            side.iterators.clear();
        }
        self.each(1, |side| {
            side.subject().keyspaces.iter().try_for_each(|keyspace| keyspace.compact_range(..))?;
            while side.subject().database.step()? {}
            Ok(())
        });
        self.check(&Read::Everything);
        for side in &self.sides {
            let metrics = side.subject().database.metrics();
            for keyspace in &metrics.keyspaces {
                let (bytes, garbage) = (keyspace.blob_bytes, keyspace.blob_garbage_bytes);
                let collected = garbage == 0 || garbage * 100 < bytes * u64::from(side.settings.blob_garbage_percent);
                assert!(collected, "{garbage} of {bytes} bytes of separated values are garbage: {:?}", side.settings);
            }
            let entries: u64 = metrics.keyspaces.iter().flat_map(|k| &k.levels).map(|level| level.entries).sum();
            assert_eq!(entries, self.content.len() as u64, "versions left by full compactions of {:?}", side.settings);
        }
    }
}

fn owned((key, value): (Slice, Slice)) -> (Bytes, Bytes) {
    (Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value))
}

fn borrowed(bounds: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (bounds.0.as_ref().map(Vec::as_slice), bounds.1.as_ref().map(Vec::as_slice))
}

/// Keys and values, with those that were asked for and are not there.
type Answer = Vec<(Bytes, Option<Bytes>)>;

impl Read {
    fn ask(&self, subject: &Subject, snapshot: Option<&Snapshot>) -> Answer {
        let fail = |error: Error| -> ! { panic!("{self:?}: {error}") };
        let get = |keyspace: usize, key: &[u8]| {
            let keyspace = &subject.keyspaces[keyspace];
            let found = match snapshot {
                Some(snapshot) => snapshot.get(keyspace, key),
                None => keyspace.get(key),
            };
            let found = found.unwrap_or_else(|error| fail(error));
            (Bytes::copy_from_slice(key), found.map(|value| Bytes::copy_from_slice(&value)))
        };
        let entry = |entry: Result<(Slice, Slice), Error>| {
            let (key, value) = owned(entry.unwrap_or_else(|error| fail(error)));
            (key, Some(value))
        };
        match self {
            Self::Get(keyspace, key) => vec![get(*keyspace, key)],
            Self::Presence(keyspace, key) => {
                let keyspace = &subject.keyspaces[*keyspace];
                let found = match snapshot {
                    Some(snapshot) => snapshot.contains_key(keyspace, key),
                    None => keyspace.contains_key(key),
                };
                let found = found.unwrap_or_else(|error| fail(error));
                vec![(Bytes::copy_from_slice(key), found.then(Bytes::new))]
            }
            Self::MultiGet(keyspace, keys) if snapshot.is_none() => {
                let values = subject.keyspaces[*keyspace].multi_get(keys).unwrap_or_else(|error| fail(error));
                let values = values.into_iter().map(|value| value.map(|value| Bytes::copy_from_slice(&value)));
                keys.iter().map(|key| Bytes::copy_from_slice(key)).zip(values).collect()
            }
            Self::MultiGet(keyspace, keys) => keys.iter().map(|key| get(*keyspace, key)).collect(),
            Self::Scan { keyspace, bounds, how, limit } => {
                let keyspace = &subject.keyspaces[*keyspace];
                let entries = match snapshot {
                    Some(snapshot) => snapshot.range(keyspace, borrowed(bounds)),
                    None => keyspace.range(borrowed(bounds)),
                };
                walk(entries, *how, *limit).into_iter().map(entry).collect()
            }
            Self::Prefix(keyspace, prefix) => {
                let keyspace = &subject.keyspaces[*keyspace];
                let entries = match snapshot {
                    Some(snapshot) => snapshot.prefix(keyspace, prefix),
                    None => keyspace.prefix(prefix),
                };
                entries.map(entry).collect()
            }
            Self::Everything => {
                let content = subject.content_at(snapshot).unwrap_or_else(|error| fail(error));
                Self::Everything.expect(&content)
            }
        }
    }

    fn expect(&self, content: &Content) -> Answer {
        let present = |(key, value): (&Bytes, &Bytes)| (key.clone(), Some(value.clone()));
        let get =
            |keyspace: usize, key: &[u8]| (Bytes::copy_from_slice(key), content.keyspace(keyspace).get(key).cloned());
        match self {
            Self::Get(keyspace, key) => vec![get(*keyspace, key)],
            Self::Presence(keyspace, key) => {
                let (key, value) = get(*keyspace, key);
                vec![(key, value.map(|_| Bytes::new()))]
            }
            Self::MultiGet(keyspace, keys) => keys.iter().map(|key| get(*keyspace, key)).collect(),
            Self::Scan { keyspace, bounds, how, limit } => {
                let (start, end) = borrowed(bounds);
                if (KeyRange { start, end }).is_empty() {
                    return Vec::new();
                }
                let range = content.keyspace(*keyspace).range::<[u8], _>(borrowed(bounds));
                walk(range, *how, *limit).into_iter().map(present).collect()
            }
            Self::Prefix(keyspace, prefix) => {
                let map = content.keyspace(*keyspace);
                let from = map.range::<[u8], _>((Bound::Included(prefix.as_slice()), Bound::Unbounded));
                from.take_while(|(key, _)| key.starts_with(prefix)).map(present).collect()
            }
            Self::Everything => content.entries().map(|(_, key, value)| present((key, value))).collect(),
        }
    }
}

/// The first items from either end, those from the front first.
fn walk<I: DoubleEndedIterator>(mut entries: I, how: Walk, limit: usize) -> Vec<I::Item> {
    match how {
        Walk::Forward => entries.take(limit).collect(),
        Walk::Backward => entries.rev().take(limit).collect(),
        Walk::BothEnds(bits) => {
            let mut random = Random::new(bits);
            let mut items = Vec::new();
            while items.len() < limit {
                let item = if random.one_in(2) { entries.next() } else { entries.next_back() };
                match item {
                    Some(item) => items.push(item),
                    None => break,
                }
            }
            items
        }
    }
}
