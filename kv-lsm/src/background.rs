//! Work that no caller waits for: syncs that were asked for, flushes, compactions, removal of files. On threads, or stepped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::compaction::run;
use crate::engine::{Engine, lock};
use crate::error::Error;
use crate::flush;
use crate::priority;
use crate::wal::writer::AppendError;

/// Readers and writers go first when there is not a processor for everybody: a third of their share for flushes, a tenth for
/// compactions, which can wait longer. What that defers holds writers back later, and smoothly (`backpressure`), so that a
/// writer does not take from readers what its work in the background costs.
const FLUSH_NICENESS: i32 = 5;
const COMPACTION_NICENESS: i32 = 10;

/// How long a failed piece of work rests before it is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Waits are bounded so that time is noticed while it passes (lesson 48: what has expired wakes nobody), and so that a lost
/// wake-up could not last for ever. The clock is the host's, so how long to sleep until a time comes cannot be told.
const WAIT: Duration = Duration::from_millis(500);

/// Makes everything up to `sequence` durable, and, when nothing follows, marks the log as durable to its end.
///
/// # Errors
/// [`Error::Poisoned`].
pub(crate) fn sync_through(engine: &Engine, sequence: u64) -> Result<(), Error> {
    if engine.syncer.durable_sequence() >= sequence {
        return Ok(());
    }
    engine.syncer.sync_through(sequence)?;
    mark_idle(engine);
    Ok(())
}

/// Makes everything written before the call durable, and marks the log so also when a checkpoint has synced it, which marks
/// nothing.
///
/// # Errors
/// [`Error::Poisoned`].
pub(crate) fn sync_all(engine: &Engine) -> Result<(), Error> {
    sync_through(engine, engine.snapshots.visible())?;
    mark_idle(engine);
    Ok(())
}

/// Rule E4: the last record has no successor that states it durable, so a marker does. Whoever is writing meanwhile states
/// it as well, so a lock that is taken is no reason to wait.
fn mark_idle(engine: &Engine) {
    if !engine.syncer.is_idle() {
        return;
    }
    let Ok(mut log) = engine.log.try_lock() else { return };
    // What is in the segments before is stated by the header of this one.
    if !engine.syncer.is_idle() || log.writer.is_empty() || log.writer.is_full(u64::MAX) || engine.health.is_poisoned()
    {
        return;
    }
    match log.writer.mark(engine.syncer.synced_position()) {
        Ok(()) => engine.syncer.appended(log.writer.position(), log.next_sequence - 1),
        Err(AppendError::RolledBack(_)) => {}
        Err(AppendError::Broken(error)) => {
            // The host is woken by this, and may want to write.
            drop(log);
            engine.poison(&error);
        }
    }
}

/// Does one piece of work. Returns whether there was any.
///
/// # Errors
/// See [`Error`]; what failed can be tried again, unless the database is poisoned.
pub(crate) fn step(engine: &Engine) -> Result<bool, Error> {
    if engine.config.read_only {
        return Ok(false);
    }
    if engine.health.is_poisoned() && engine.syncer.requested().is_some() {
        engine.syncer.refuse();
    }
    engine.health.check()?;
    if let Some(sequence) = engine.syncer.requested() {
        sync_through(engine, sequence)?;
        return Ok(true);
    }
    Ok(flush_step(engine)? || compaction_step(engine)? || engine.purge())
}

fn flush_step(engine: &Engine) -> Result<bool, Error> {
    let result = flush::flush_oldest(engine);
    keep_failure(engine, &engine.flush_failure, "flush", &result);
    result
}

fn compaction_step(engine: &Engine) -> Result<bool, Error> {
    let result = run::compact_once(engine);
    engine.purge();
    keep_failure(engine, &engine.compaction_failure, "compact", &result);
    result
}

/// Tells writers that wait for the work how it went: one that can never be done must not hold them for ever.
fn keep_failure(engine: &Engine, kept: &Mutex<Option<Error>>, operation: &'static str, result: &Result<bool, Error>) {
    *lock(kept) = result.as_ref().err().map(|error| match error {
        // Only this is something that a writer can do about; the message is enough for the rest.
        Error::NoSpace { operation, path } => Error::NoSpace { operation, path: path.clone() },
        other => {
            let source = std::io::Error::other(other.to_string());
            Error::Io { operation, path: engine.directory.clone(), source }
        }
    });
    engine.work_done.raise();
}

/// What a thread does until the database closes.
type Loop = fn(&Engine);

/// The threads of an open database.
pub(crate) struct Workers {
    engine: Arc<Engine>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// # Errors
    /// When a thread cannot be started.
    pub(crate) fn start(engine: &Arc<Engine>) -> Result<Self, Error> {
        let mut workers = Self { engine: Arc::clone(engine), threads: Vec::new() };
        let work: [(&str, Loop); 3] =
            [("kv-lsm sync", sync_loop), ("kv-lsm flush", flush_loop), ("kv-lsm compact", compaction_loop)];
        for (name, body) in work {
            let engine = Arc::clone(engine);
            let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
                // A merge operator of the host's may panic. Writers must not wait for ever for a thread that is gone.
                if catch_unwind(AssertUnwindSafe(|| body(&engine))).is_err() {
                    let source = std::io::Error::other("a background thread panicked");
                    engine.poison(&Error::io("write", &engine.directory, source));
                }
            });
            let io = |error| Error::io("start a thread for", &workers.engine.directory, error);
            workers.threads.push(thread.map_err(io)?);
        }
        Ok(workers)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.engine.closing.store(true, Ordering::SeqCst);
        for signal in [&self.engine.sync_wanted, &self.engine.work_wanted, &self.engine.work_done] {
            signal.raise();
        }
        for worker in self.threads.drain(..) {
            // A host that lets go of the database in its wake call does so on the sync thread.
            if worker.thread().id() != thread::current().id() {
                let _ = worker.join();
            }
        }
    }
}

fn is_closing(engine: &Engine) -> bool {
    engine.closing.load(Ordering::SeqCst)
}

fn sync_loop(engine: &Engine) {
    while !is_closing(engine) {
        let seen = engine.sync_wanted.generation();
        match engine.syncer.requested() {
            Some(sequence) if !engine.health.is_poisoned() => {
                // The failure is kept as poison, and the host was woken.
                let _ = sync_through(engine, sequence);
            }
            Some(_) => engine.syncer.refuse(),
            None => engine.sync_wanted.wait(seen, WAIT),
        }
    }
}

fn flush_loop(engine: &Engine) {
    priority::lower(FLUSH_NICENESS);
    // What recovery left over, before anything needs the room.
    engine.purge();
    while !is_closing(engine) {
        let seen = engine.work_wanted.generation();
        match flush_step(engine) {
            Ok(true) => engine.work_wanted.raise(),
            Ok(false) => engine.work_wanted.wait(seen, WAIT),
            Err(_) => engine.work_wanted.wait(seen, RETRY),
        }
    }
}

fn compaction_loop(engine: &Engine) {
    priority::lower(COMPACTION_NICENESS);
    while !is_closing(engine) {
        let seen = engine.work_wanted.generation();
        match compaction_step(engine) {
            Ok(true) => {}
            Ok(false) => engine.work_wanted.wait(seen, WAIT),
            Err(_) => thread::sleep(RETRY),
        }
    }
}
