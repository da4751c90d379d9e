//! Runs traces on a simulated disk, and keeps the history of what must be there afterwards.

use std::sync::Arc;

use super::clock;
use super::content::{Content, Operation};
use super::history::History;
use super::invariants::Invariants;
use super::subject::{Subject, checkpoint};
use super::trace::{Step, Trace};
use crate::disk::SimDisk;
use crate::error::Error;
use crate::options::{Durability, WriteOptions};
use crate::transaction::Transaction;

/// What a run has to do when a step fails.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum OnError {
    /// The power is off: stop. The step that failed may have happened.
    Stop,
    /// Go on, and hold the engine to what the error says.
    GoOn,
}

/// Is told, after each step, what a power cut during it may lead back to, and the disk as it was at each call of it. See
/// [`SimDisk::take_moments`].
pub type EachStep<'a> = dyn FnMut(&History, Vec<SimDisk>) + 'a;

/// Runs a trace on a disk and returns what must be there afterwards. Nothing has to be there when it could not be opened.
///
/// # Panics
/// When the engine breaks a promise.
pub fn run(disk: &SimDisk, trace: &Trace, on_error: OnError) -> History {
    run_watched(disk, trace, on_error, &mut |_, _| {})
}

/// The same, with the moments of each step handed to `each`, while they are recorded.
///
/// # Panics
/// When the engine breaks a promise.
pub fn run_watched(disk: &SimDisk, trace: &Trace, on_error: OnError, each: &mut EachStep<'_>) -> History {
    clock::set(clock::START);
    let mut history = History::starting_with(Content::new());
    let opened = Subject::open(disk, trace.settings);
    each(&history, disk.take_moments());
    let Ok(mut subject) = opened else { return history };
    let mut invariants = Invariants::default();
    for (number, step) in trace.steps.iter().enumerate() {
        let context = format_args!("{}, step {number}", trace.name);
        if matches!(step, Step::Reopen) {
            close(subject, disk, &mut history, on_error, each);
            let opened = Subject::open(disk, trace.settings);
            each(&history, disk.take_moments());
            match opened {
                Ok(opened) => subject = opened,
                Err(_) => return history,
            }
            invariants = Invariants::default();
            // A process that is restarted has lost nothing, and what recovery found is durable from then on.
            let Ok(found) = subject.content() else { return history };
            if on_error == OnError::Stop {
                subject.assert_sound(&context);
            }
            let state = history.check_recovered(&found, &context);
            if !history.is_poisoned() {
                assert_eq!(
                    history.current().difference(&found),
                    Vec::<String>::new(),
                    "{context}: closing lost something"
                );
            }
            // The state as the oracle has it: it knows what expires when.
            let state = Content::clone(&history.allowed()[state]);
            history.begin_again(state);
            continue;
        }
        if let Step::Time(span) = step {
            clock::advance(*span);
            history.advance(clock::now());
        }
        let moments_allow = match step {
            Step::Write(batch, _) => {
                let mut with_batch = history.clone();
                with_batch.attempt(batch);
                with_batch
            }
            Step::Transact(batch, _) => {
                let mut with_batches = history.clone();
                with_batches.attempt(&meanwhile(batch));
                with_batches.attempt(batch);
                with_batches
            }
            Step::Recreate(keyspace) => {
                let mut with_drop = history.clone();
                with_drop.attempt_drop(*keyspace);
                with_drop
            }
            Step::Checkpoint => {
                history.attempt_checkpoint(checkpoint(subject.database.snapshot().sequence()));
                history.clone()
            }
            _ => history.clone(),
        };
        let result = perform(&mut subject, step, &mut history, on_error);
        each(&moments_allow, disk.take_moments());
        if let Ok(sequence) = subject.database.durable_sequence() {
            history.observe_durable(sequence);
        }
        if result.is_err() && on_error == OnError::Stop {
            return history;
        }
        if on_error == OnError::Stop {
            invariants.check(&subject.database, trace.settings, &context);
        }
        if on_error == OnError::GoOn {
            let known = if history.is_poisoned() {
                history.allowed()
            } else {
                &history.allowed()[history.allowed().len() - 1..]
            };
            let known: Vec<Arc<Content>> = known.to_vec();
            subject.check_while_reads_fail(&known, &|_| (), &context);
        }
    }
    close(subject, disk, &mut history, on_error, each);
    each(&history, vec![disk.clone()]);
    history
}

/// Closing makes everything durable.
fn close(subject: Subject, disk: &SimDisk, history: &mut History, on_error: OnError, each: &mut EachStep<'_>) {
    drop(subject);
    each(history, disk.take_moments());
    if on_error == OnError::Stop && disk.power_cut_at().is_none() && !history.is_poisoned() {
        history.acknowledge_sync();
    }
}

fn perform(subject: &mut Subject, step: &Step, history: &mut History, on_error: OnError) -> Result<(), Error> {
    let result = match step {
        Step::Write(batch, durability) => {
            let result = subject.write(batch, *durability);
            note(&result, subject, batch, *durability, history, on_error);
            result
        }
        Step::Transact(batch, durability) => transact(subject, batch, *durability, history, on_error),
        Step::Sync => {
            let result = subject.database.sync();
            if result.is_ok() {
                history.acknowledge_sync();
            }
            result.map(drop)
        }
        Step::Flush => subject.database.flush(),
        Step::Compact(keyspace) => subject.keyspaces[*keyspace].compact_range(..),
        Step::Work(pieces) => (0..*pieces).try_for_each(|_| subject.database.step().map(drop)),
        Step::Recreate(keyspace) => recreate(subject, *keyspace, history, on_error),
        Step::Checkpoint => {
            let path = checkpoint(subject.database.snapshot().sequence());
            match subject.database.checkpoint(&path) {
                Ok(_) => {
                    history.acknowledge_checkpoint(&path);
                    Ok(())
                }
                Err(Error::AlreadyExists { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        }
        Step::Time(_) => Ok(()),
        Step::Reopen => unreachable!("the caller reopens"),
    };
    if let Err(Error::Ambiguous { .. } | Error::Poisoned { .. }) = &result {
        history.poison();
    }
    result
}

/// What the outcome of a write says about what must be there.
fn note(
    result: &Result<(), Error>,
    subject: &Subject,
    batch: &[Operation],
    durability: Durability,
    history: &mut History,
    on_error: OnError,
) {
    match result {
        Ok(()) => {
            history.acknowledge(batch, durability == Durability::Sync);
            history.numbered(subject.database.snapshot().sequence());
        }
        Err(Error::Ambiguous { .. }) => history.attempt(batch),
        Err(_) if on_error == OnError::Stop => history.attempt(batch),
        Err(_) => {}
    }
}

fn recreate(subject: &mut Subject, keyspace: usize, history: &mut History, on_error: OnError) -> Result<(), Error> {
    match subject.drop_keyspace(keyspace) {
        Ok(was_there) => {
            if was_there {
                history.drop_keyspace(keyspace);
            }
            subject.create_keyspace(keyspace)
        }
        Err(error) => {
            if on_error == OnError::Stop || matches!(error, Error::Poisoned { .. }) {
                history.attempt_drop(keyspace);
            }
            Err(error)
        }
    }
}

/// What is written while a transaction with `batch` runs.
fn meanwhile(batch: &[Operation]) -> Vec<Operation> {
    vec![Operation::Put(1, MEANWHILE.to_vec(), batch.len().to_string().into_bytes())]
}

const MEANWHILE: &[u8] = b"meanwhile";

/// Two transactions, and a plain write while they run: one of them has read what is written, and leaves nothing.
fn transact(
    subject: &Subject,
    batch: &[Operation],
    durability: Durability,
    history: &mut History,
    on_error: OnError,
) -> Result<(), Error> {
    let transaction = subject.begin(batch, b"untouched");
    let refused = subject.begin(&[Operation::Put(0, b"never".to_vec(), b"there".to_vec())], MEANWHILE);
    let other = meanwhile(batch);
    let result = subject.write(&other, Durability::Buffered);
    note(&result, subject, &other, Durability::Buffered, history, on_error);
    result?;
    let outcome = refused.and_then(Transaction::commit);
    assert!(outcome.is_err(), "what a transaction read was written since, and it committed");
    let result = transaction.and_then(|transaction| transaction.commit_with(WriteOptions::durability(durability)));
    note(&result, subject, batch, durability, history, on_error);
    result
}
