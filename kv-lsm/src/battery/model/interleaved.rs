//! Something happens in the middle of a read or a write. What two threads do by chance, one does for certain, see
//! [`interleave`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::super::content::Operation;
use super::World;
use super::read::Read;
use crate::options::Durability;
use crate::sabotage::interleave;

impl World {
    /// Lesson 45: while a batch is being applied, nobody sees any of it.
    pub(super) fn write_while_somebody_reads(&mut self) {
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

    /// Rule E9: writes, flushes and compactions come between the two things that a read takes hold of. It must see a state
    /// of before, of after, or one in between.
    pub(super) fn interleaved(&mut self) {
        let read = Read::random(&mut self.generator);
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
}
