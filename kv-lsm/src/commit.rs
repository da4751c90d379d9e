//! The one ordered way in.
//!
//! 1. Check the batch and make room, outside all locks.
//! 2. Under the log's lock: give out sequence numbers, append the record with one write to the disk, apply the batch to the
//!    active memtable, publish its last number. No reader takes this lock.
//! 3. Outside the lock: wait for a sync, when the write is to be durable. Writers that wait together share one.

use std::sync::atomic::Ordering;

use kv_core::store::{Batch, Operation};

use crate::background;
use crate::backpressure::{Patience, is_active_full, make_room};
use crate::engine::{Engine, lock};
use crate::error::Error;
use crate::flush;
use crate::internal_key::SEQUENCE_MAX;
use crate::limits::{BATCH_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::options::Durability;
use crate::validation::admission::Admission;
use crate::wal::writer::AppendError;

/// Commits a batch. Returns the number of its last operation.
///
/// # Errors
/// See [`Error`]. After [`Error::Ambiguous`] the batch is visible and may survive; after all others nothing was changed.
pub(crate) fn commit(engine: &Engine, batch: &Batch, durability: Durability) -> Result<u64, Error> {
    run(engine, batch, durability, Patience::Wait, None)
}

/// The same, or [`Error::Stalled`] where it would wait for room.
///
/// # Errors
/// As [`commit`], and [`Error::Stalled`].
pub(crate) fn try_commit(engine: &Engine, batch: &Batch, durability: Durability) -> Result<u64, Error> {
    run(engine, batch, durability, Patience::Refuse, None)
}

/// The same for the writes of a transaction, if what it read is still so.
///
/// # Errors
/// [`Error::Conflict`], and as [`commit`].
pub(crate) fn commit_admitted(
    engine: &Engine,
    batch: &Batch,
    durability: Durability,
    admission: &mut Admission<'_>,
) -> Result<u64, Error> {
    run(engine, batch, durability, Patience::Wait, Some(admission))
}

fn run(
    engine: &Engine,
    batch: &Batch,
    durability: Durability,
    patience: Patience,
    admission: Option<&mut Admission<'_>>,
) -> Result<u64, Error> {
    engine.writable()?;
    check(engine, batch)?;
    let last = if batch.is_empty() {
        // Still a promise about all that was written before.
        engine.health.check()?;
        engine.snapshots.visible()
    } else {
        make_room(engine, batch.as_bytes().len() as u64, patience)?;
        append(engine, batch, admission)?
    };
    if durability == Durability::Sync && !sabotaged!(AcknowledgeEarly) {
        background::sync_through(engine, last).map_err(|error| match error {
            Error::Poisoned { reason } => Error::Ambiguous { reason },
            other => other,
        })?;
        assert!(engine.syncer.durable_sequence() >= last, "what is acknowledged as durable is");
    }
    Ok(last)
}

fn append(engine: &Engine, batch: &Batch, mut admission: Option<&mut Admission<'_>>) -> Result<u64, Error> {
    let mut log = loop {
        let mut log = lock(&engine.log);
        engine.health.check()?;
        let Some(admission) = &mut admission else { break log };
        // Rule E15: what takes long is done outside the lock, and only what came meanwhile is looked at under it.
        let Some(sequence) = admission.admit(&mut log)? else { break log };
        drop(log);
        admission.validate_through(sequence)?;
    };
    let mut version = engine.version();
    if is_active_full(engine, &version) {
        flush::seal(engine, &mut log)?;
        version = engine.version();
    }
    if log.writer.is_full(engine.config.log_segment_bytes) {
        flush::rotate(engine, &mut log)?;
    }
    let first = log.next_sequence;
    assert!(first + (batch.len() as u64) < SEQUENCE_MAX, "sequence numbers last for centuries");
    match log.writer.append(engine.syncer.synced_position(), first, batch.as_bytes()) {
        Ok(()) => {}
        Err(AppendError::RolledBack(error)) => return Err(error),
        Err(AppendError::Broken(error)) => {
            drop(log);
            engine.poison(&error);
            return Err(Error::Ambiguous { reason: error.to_string() });
        }
    }
    let last = version.active.apply(batch, first);
    drop(version);
    assert_eq!(last + 1, first + batch.len() as u64, "each operation has a number");
    log.next_sequence = last + 1;
    log.recent.note(batch, first);
    if sabotaged!(PublishHalfBatch) && first < last {
        engine.snapshots.publish(first);
    }
    between!();
    engine.snapshots.publish(last);
    engine.syncer.appended(log.writer.position(), last);
    engine.log_position.store(log.writer.position(), Ordering::Relaxed);
    drop(log);
    engine.counters.batches.fetch_add(1, Ordering::Relaxed);
    engine.counters.batch_bytes.fetch_add(batch.as_bytes().len() as u64, Ordering::Relaxed);
    Ok(last)
}

fn check(engine: &Engine, batch: &Batch) -> Result<(), Error> {
    within("batch", batch.as_bytes().len(), BATCH_BYTES_MAX)?;
    let keyspaces = engine.keyspaces.load();
    // Most batches stay in one keyspace for a while.
    let mut known: Option<(u32, bool)> = None;
    for operation in batch {
        let keyspace = operation.space().0;
        let has_operator = match known {
            Some((last, has_operator)) if last == keyspace => has_operator,
            _ => {
                let state = keyspaces.get(&keyspace).ok_or(Error::UnknownKeyspace { keyspace })?;
                known.insert((keyspace, state.operator.is_some())).1
            }
        };
        match operation {
            Operation::Put { key, value, .. } => {
                within("key", key.len(), KEY_BYTES_MAX)?;
                within("value", value.len(), VALUE_BYTES_MAX)?;
            }
            Operation::PutExpiring { key, value, .. } => {
                within("key", key.len(), KEY_BYTES_MAX)?;
                within("value", value.len(), VALUE_BYTES_MAX)?;
                if has_operator {
                    return Err(Error::ExpiryWithOperator { keyspace });
                }
            }
            Operation::Merge { key, operand, .. } => {
                within("key", key.len(), KEY_BYTES_MAX)?;
                within("operand", operand.len(), VALUE_BYTES_MAX)?;
                if !has_operator {
                    return Err(Error::NoMergeOperator { keyspace });
                }
            }
            Operation::Delete { key, .. } => within("key", key.len(), KEY_BYTES_MAX)?,
            Operation::DeleteRange { start, end, .. } => {
                within("key", start.len(), KEY_BYTES_MAX)?;
                within("key", end.len(), KEY_BYTES_MAX)?;
            }
        }
    }
    Ok(())
}

fn within(what: &'static str, bytes: usize, bytes_max: usize) -> Result<(), Error> {
    if bytes > bytes_max { Err(Error::TooLarge { what, bytes, bytes_max }) } else { Ok(()) }
}
