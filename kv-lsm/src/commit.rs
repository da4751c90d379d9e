//! The one ordered way in.
//!
//! 1. Check the batch and make room, outside all locks.
//! 2. Under the log's lock: give out sequence numbers, append the record with one write to the disk, apply the batch to the
//!    active memtable, publish its last number. No reader takes this lock.
//! 3. Outside the lock: wait for a sync, when the write is to be durable. Writers that wait together share one.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use kv_core::store::{Batch, Operation};

use crate::background;
use crate::engine::{Engine, lock};
use crate::error::Error;
use crate::flush;
use crate::internal_key::SEQUENCE_MAX;
use crate::limits::{BATCH_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::options::{Background, Durability};
use crate::validation::admission::Admission;
use crate::wal::writer::AppendError;

/// Writers are slowed once a keyspace has this many times the level-0 tables that start a compaction …
const SLOW_FACTOR: usize = 3;
/// … and wait at this many times.
const STOP_FACTOR: usize = 9;
/// The longest delay per written byte, just below the point of waiting.
const DELAY_NS_PER_BYTE: u64 = 200;
/// Delays are owed until they are long enough to be slept precisely.
const DELAY_MIN_NS: u64 = 300_000;
const DELAY_MAX_NS: u64 = 20_000_000;

/// Commits a batch. Returns the number of its last operation.
///
/// # Errors
/// See [`Error`]. After [`Error::Ambiguous`] the batch is visible and may survive; after all others nothing was changed.
pub(crate) fn commit(engine: &Engine, batch: &Batch, durability: Durability) -> Result<u64, Error> {
    run(engine, batch, durability, None)
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
    run(engine, batch, durability, Some(admission))
}

fn run(
    engine: &Engine,
    batch: &Batch,
    durability: Durability,
    admission: Option<&mut Admission<'_>>,
) -> Result<u64, Error> {
    engine.writable()?;
    check(engine, batch)?;
    if batch.is_empty() {
        return Ok(engine.snapshots.visible());
    }
    make_room(engine, batch.as_bytes().len() as u64)?;
    let last = append(engine, batch, admission)?;
    if durability == Durability::Sync {
        background::sync_through(engine, last).map_err(|error| match error {
            Error::Poisoned { reason } => Error::Ambiguous { reason },
            other => other,
        })?;
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
    if is_active_full(engine) {
        flush::seal(engine, &mut log)?;
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
    let last = engine.version().active.apply(batch, first);
    assert_eq!(last + 1, first + batch.len() as u64, "each operation has a number");
    log.next_sequence = last + 1;
    log.recent.note(batch, first);
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

/// Backpressure. It grows with the debt: nothing at first, then a delay per byte, and only at the very end a wait.
fn make_room(engine: &Engine, batch_bytes: u64) -> Result<(), Error> {
    let mut stalled: Option<Instant> = None;
    while is_full(engine) {
        engine.health.check()?;
        if stalled.is_none() {
            engine.counters.stalls.fetch_add(1, Ordering::Relaxed);
            stalled = Some(Instant::now());
        }
        match engine.config.background {
            // Rule E16: nobody else would.
            Background::Manual => {
                if !background::step(engine)? {
                    break;
                }
            }
            Background::Threads => {
                let seen = engine.work_done.generation();
                if let Some(error) = failure(engine) {
                    engine.work_wanted.raise();
                    return Err(error);
                }
                if is_full(engine) {
                    engine.work_done.wait(seen, Duration::from_millis(100));
                }
            }
        }
    }
    if let Some(begin) = stalled {
        engine.counters.stall_time.add_time(begin.elapsed());
    }
    if engine.config.background == Background::Threads {
        delay(engine, batch_bytes);
    }
    Ok(())
}

fn is_full(engine: &Engine) -> bool {
    is_memory_full(engine) || is_level0_full(engine)
}

/// Whether the active memtable holds all it may, in memory or (rule E7) in the log. It may fill half of the log, so that
/// another can be written while it is flushed.
fn is_active_full(engine: &Engine) -> bool {
    let version = engine.version();
    let log_bytes = engine.log_position.load(Ordering::Relaxed).saturating_sub(version.active.log_position());
    version.active.bytes() >= engine.config.memtable_bytes || log_bytes >= engine.config.log_bytes_max / 2
}

/// Whether writers must wait for a flush.
fn is_memory_full(engine: &Engine) -> bool {
    let version = engine.version();
    let Some(oldest) = version.sealed.last() else { return false };
    let log_bytes = engine.log_position.load(Ordering::Relaxed).saturating_sub(oldest.log_position());
    (version.sealed.len() >= engine.config.sealed_max && is_active_full(engine))
        || log_bytes >= engine.config.log_bytes_max
}

fn is_level0_full(engine: &Engine) -> bool {
    engine.level0_tables.load(Ordering::Relaxed) >= engine.config.level0_tables * STOP_FACTOR
}

/// Why the work that writers wait for failed when it was last tried. Each failure is told once, so that the next writer
/// waits for the next try.
fn failure(engine: &Engine) -> Option<Error> {
    let flush = if is_memory_full(engine) { lock(&engine.flush_failure).take() } else { None };
    flush.or_else(|| if is_level0_full(engine) { lock(&engine.compaction_failure).take() } else { None })
}

fn delay(engine: &Engine, batch_bytes: u64) {
    let tables = engine.level0_tables.load(Ordering::Relaxed) as u64;
    let slow = (engine.config.level0_tables * SLOW_FACTOR) as u64;
    let stop = (engine.config.level0_tables * STOP_FACTOR) as u64;
    let Some(over) = tables.checked_sub(slow) else { return };
    let delay = batch_bytes * DELAY_NS_PER_BYTE * over / (stop - slow) * over / (stop - slow);
    if engine.delay_owed.fetch_add(delay, Ordering::Relaxed) + delay >= DELAY_MIN_NS {
        let owed = engine.delay_owed.swap(0, Ordering::Relaxed);
        thread::sleep(Duration::from_nanos(owed.min(DELAY_MAX_NS)));
    }
}
