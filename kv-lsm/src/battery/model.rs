//! The engine against sorted maps: any operations, in any order with flushes, compactions and reopening. The same operations
//! go to several databases with different settings, and each must read as the maps do, at every live snapshot and through
//! every live iterator, also when something happens in the middle of a read.

mod held;
mod interleaved;
mod read;
mod side;

use std::collections::VecDeque;

use bytes::Bytes;
use kv_core::time::Millis;

use super::clock;
use super::content::{Content, EXPIRING, KEYSPACES, Operation};
use super::first_in_first_out;
use super::generate::Generator;
use super::random::Random;
use super::report::Report;
use super::settings::Settings;
use super::subject::checkpoint;
use crate::error::Error;
use crate::options::Durability;
use read::Read;
use side::Side;

/// Databases that are given the same operations.
const SIDES: usize = 2;

/// An iterator's part of the truth: what it has yet to yield.
type Left = VecDeque<(Bytes, Bytes)>;

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
        Side::new(settings)
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
    first_in_first_out::case(seed, report);
}

impl World {
    fn step(&mut self) {
        match self.generator.random.below(1000) {
            0..=419 => self.write(),
            420..=429 => self.write_while_somebody_reads(),
            430..=859 => {
                let read = Read::random(&mut self.generator);
                self.check(&read);
            }
            860..=904 => {
                let read = Read::random(&mut self.generator);
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
            995..=996 => {
                let keyspace = self.generator.random.index(KEYSPACES.len());
                let (start, end) = self.generator.range();
                self.each(1, |side| side.subject().keyspaces[keyspace].compact_range(start.as_slice()..end.as_slice()));
            }
            997 => match self.generator.random.below(3) {
                0 => self.recreate(),
                1 => self.checkpoint(),
                _ => self.each(1, |side| {
                    side.subject().assert_sound(&"in use");
                    Ok(())
                }),
            },
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

    fn check(&mut self, read: &Read) {
        let expected = read.expect(&self.content);
        for side in &self.sides {
            let answer = read.ask(side.subject(), None);
            self.entries += answer.len() as u64;
            self.operations += 1;
            assert!(answer == expected, "{read:?}: {answer:?}, expected {expected:?}; {:?}", side.settings);
        }
    }

    fn check_at_snapshot(&mut self, read: &Read) {
        if self.snapshots.is_empty() {
            return;
        }
        let which = self.generator.random.index(self.snapshots.len());
        let expected = read.expect(&self.snapshots[which]);
        for side in &self.sides {
            let answer = read.ask(side.subject(), Some(&side.snapshots[which]));
            self.entries += answer.len() as u64;
            self.operations += 1;
            assert!(
                answer == expected,
                "{read:?} at snapshot {which}: {answer:?}, expected {expected:?}; {:?}",
                side.settings
            );
        }
    }

    fn time(&mut self) {
        clock::advance(Millis(self.generator.random.below(40)));
        self.generator.now = clock::now();
        self.content.advance(clock::now());
    }

    /// A keyspace is dropped and created again. Through its new handle a snapshot of before finds nothing either; iterators read on.
    fn recreate(&mut self) {
        let keyspace = self.generator.random.index(KEYSPACES.len());
        self.content.clear(keyspace);
        self.snapshots.iter_mut().for_each(|content| content.clear(keyspace));
        self.each(1, |side| {
            side.subject_mut().drop_keyspace(keyspace)?;
            side.subject_mut().create_keyspace(keyspace)
        });
    }

    /// Rule E8: a checkpoint holds what there is at the moment, and nothing that comes later reaches it.
    fn checkpoint(&mut self) {
        for side in &self.sides {
            let path = checkpoint(side.subject().database.snapshot().sequence());
            match side.subject().database.checkpoint(&path) {
                Ok(_) => side.check_read_only(&path, &self.content),
                // Of this number there is one already: nothing was written since.
                Err(Error::AlreadyExists { .. }) => {}
                Err(error) => panic!("{:?}: {error}", side.settings),
            }
            self.operations += 1;
        }
    }

    fn reopen(&mut self) {
        self.snapshots.clear();
        self.iterators.clear();
        let lose_manifest = self.generator.random.one_in(3);
        for side in &mut self.sides {
            side.reopen(&self.content, lose_manifest);
            self.operations += 1;
        }
        self.check(&Read::Everything);
    }

    fn check_everywhere(&mut self) {
        self.check(&Read::Everything);
        for which in 0..self.snapshots.len() {
            let expected = Read::Everything.expect(&self.snapshots[which]);
            for side in &self.sides {
                let answer = Read::Everything.ask(side.subject(), Some(&side.snapshots[which]));
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
        self.sides.iter_mut().for_each(Side::let_go);
        self.each(1, |side| {
            side.subject().keyspaces.iter().try_for_each(|keyspace| keyspace.compact_range(..))?;
            while side.subject().database.step()? {}
            Ok(())
        });
        self.check(&Read::Everything);
        for side in &self.sides {
            let metrics = side.subject().database.metrics();
            // Tables that are dropped whole are not rewritten: what was overwritten stays for as long.
            let is_fifo = |name: &str| side.settings.first_in_first_out && name == KEYSPACES[EXPIRING];
            let leveled = || metrics.keyspaces.iter().filter(|keyspace| !is_fifo(&keyspace.name));
            for keyspace in leveled() {
                let (bytes, garbage) = (keyspace.blob_bytes, keyspace.blob_garbage_bytes);
                let collected = garbage == 0 || garbage * 100 < bytes * u64::from(side.settings.blob_garbage_percent);
                assert!(collected, "{garbage} of {bytes} bytes of separated values are garbage: {:?}", side.settings);
            }
            let entries: u64 = leveled().flat_map(|keyspace| &keyspace.levels).map(|level| level.entries).sum();
            let expected = self.content.entries().filter(|(index, ..)| !is_fifo(KEYSPACES[*index])).count();
            assert_eq!(entries, expected as u64, "versions left by full compactions of {:?}", side.settings);
        }
    }
}
