//! How writers are held back when the background falls behind. Lesson 47: nothing at first, then a delay that grows smoothly
//! with the debt and has a bound, and only at the very end a wait. Who must not be held up asks to be told instead.
//!
//! The debt is the largest of three shares, each from 0, where slowing begins, to 1:
//!
//! 1. tables on level 0 of the keyspace that has most, between five and nine times as many as start a compaction, or fewer while there are
//!    readers as well;
//! 2. unflushed memory, from the last memtable that may be sealed to the active one being full as well;
//! 3. bytes that compactions are behind with, between 16 and 64 times what the first level may hold.
//!
//! The first two end in a wait, since tables and memory are bounded; the third only ever slows.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::background;
use crate::engine::{Engine, lock};
use crate::error::Error;
use crate::options::Background;
use crate::readers::Reading;
use crate::version::Version;

/// Writers are slowed once a keyspace has this many times the level-0 tables that start a compaction …
const TABLES_SLOW_FACTOR: usize = 5;
/// … and wait at this many times.
const TABLES_STOP_FACTOR: usize = 9;
/// Writers are slowed once compactions are behind with this many times the bytes of the first level …
const PENDING_SLOW_FACTOR: u64 = 16;
/// … and slowest at this many times.
const PENDING_FULL_FACTOR: u64 = 64;
/// The longest delay per written byte, just below the point of waiting.
const DELAY_NS_PER_BYTE: f64 = 200.0;
/// Shorter delays add up first: they could not be slept precisely.
const DELAY_MIN_NS: u64 = 300_000;
/// However much is owed, no write is delayed by more.
const DELAY_MAX_NS: u64 = 20_000_000;
/// When to try again after a refusal that only a flush or compaction can lift.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// What a writer does when there is no room.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Patience {
    /// It waits.
    Wait,
    /// It wants to know.
    Refuse,
}

/// Lets a writer of so many bytes through, at once or later.
///
/// # Errors
/// [`Error::Stalled`] instead of any wait when told to refuse, and why the work that is waited for cannot be done.
pub(crate) fn make_room(engine: &Engine, batch_bytes: u64, patience: Patience) -> Result<(), Error> {
    let mut stalled: Option<Instant> = None;
    while is_full(engine) {
        engine.health.check()?;
        if stalled.is_none() {
            engine.counters.stalls.fetch_add(1, Ordering::Relaxed);
            stalled = Some(Instant::now());
        }
        match (engine.config.background, patience) {
            (Background::Manual, Patience::Refuse) => return Err(Error::Stalled { retry_after: Duration::ZERO }),
            (Background::Manual, Patience::Wait) if sabotaged!(WaitForNobody) => {
                engine.work_done.wait(engine.work_done.generation(), Duration::from_millis(100));
            }
            // Rule E16: nobody else would.
            (Background::Manual, Patience::Wait) => {
                if !background::step(engine)? {
                    break;
                }
            }
            (Background::Threads, _) => {
                let seen = engine.work_done.generation();
                if let Some(error) = failure(engine) {
                    engine.work_wanted.raise();
                    return Err(error);
                }
                if patience == Patience::Refuse {
                    engine.work_wanted.raise();
                    return Err(Error::Stalled { retry_after: RETRY_AFTER });
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
    match engine.config.background {
        // There is nobody whom a delay would give time.
        Background::Manual => Ok(()),
        Background::Threads => pace(engine, batch_bytes, patience),
    }
}

fn is_full(engine: &Engine) -> bool {
    is_memory_full(engine) || is_level0_full(engine)
}

/// Whether the active memtable holds all it may, in memory or (rule E7) in the log. It may fill half of the log, so that
/// another can be written while it is flushed.
pub(crate) fn is_active_full(engine: &Engine, version: &Version) -> bool {
    active_share(engine, version) >= 1.0
}

/// How full the active memtable is.
fn active_share(engine: &Engine, version: &Version) -> f64 {
    let log_bytes = engine.log_position.load(Ordering::Relaxed).saturating_sub(version.active.log_position());
    let in_log = if sabotaged!(LetLogGrow) { 0.0 } else { share(log_bytes, 0, engine.config.log_bytes_max / 2) };
    share(version.active.bytes(), 0, engine.config.memtable_bytes).max(in_log)
}

/// Whether writers must wait for a flush.
fn is_memory_full(engine: &Engine) -> bool {
    if engine.sealed_memtables.load(Ordering::Relaxed) == 0 {
        return false;
    }
    let version = engine.version();
    let Some(oldest) = version.sealed.last() else { return false };
    let log_bytes = engine.log_position.load(Ordering::Relaxed).saturating_sub(oldest.log_position());
    (version.sealed.len() >= engine.config.sealed_max && active_share(engine, &version) >= 1.0)
        || (log_bytes >= engine.config.log_bytes_max && !sabotaged!(LetLogGrow))
}

fn is_level0_full(engine: &Engine) -> bool {
    engine.level0_tables.load(Ordering::Relaxed) >= engine.config.level0_tables.saturating_mul(TABLES_STOP_FACTOR)
}

/// Why the work that writers wait for failed when it was last tried. Each failure is told once, so that the next writer
/// waits for the next try.
fn failure(engine: &Engine) -> Option<Error> {
    let flush = if is_memory_full(engine) { lock(&engine.flush_failure).take() } else { None };
    flush.or_else(|| if is_level0_full(engine) { lock(&engine.compaction_failure).take() } else { None })
}

/// Delays a writer by what the debt asks for. Delays follow one another, so that writers at the same time do not shorten
/// them, and time that passes pays them off.
fn pace(engine: &Engine, batch_bytes: u64, patience: Patience) -> Result<(), Error> {
    let debt = debt(engine);
    if debt <= 0.0 {
        return Ok(());
    }
    let now = u64::try_from(engine.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let owed = engine.paced_until_ns.load(Ordering::Relaxed).saturating_sub(now);
    if patience == Patience::Refuse && owed >= DELAY_MIN_NS {
        engine.counters.stalls.fetch_add(1, Ordering::Relaxed);
        return Err(Error::Stalled { retry_after: Duration::from_nanos(owed) });
    }
    let delay = delay_ns(debt, batch_bytes);
    let next = |until: u64| Some((until.max(now) + delay).min(now + DELAY_MAX_NS));
    let before = engine.paced_until_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    let until = next(before.unwrap_or_else(|until| until)).unwrap_or(now);
    if patience == Patience::Wait && until - now >= DELAY_MIN_NS {
        thread::sleep(Duration::from_nanos(until - now));
    }
    Ok(())
}

/// What the background owes, from 0 to 1.
pub(crate) fn debt(engine: &Engine) -> f64 {
    let config = &engine.config;
    let tables = engine.level0_tables.load(Ordering::Relaxed) as u64;
    let (slow, stop) = bounds(config.level0_tables, engine.readers.reading());
    let pending = engine.pending_bytes.load(Ordering::Relaxed);
    let pending_slow = config.level1_bytes.saturating_mul(PENDING_SLOW_FACTOR);
    let pending_full = config.level1_bytes.saturating_mul(PENDING_FULL_FACTOR);
    let memory = match engine.sealed_memtables.load(Ordering::Relaxed) >= config.sealed_max {
        true => active_share(engine, &engine.version()),
        false => 0.0,
    };
    share(tables, slow as u64, stop as u64).max(share(pending, pending_slow, pending_full)).max(memory)
}

/// With how many tables on level 0 writers are slowed, and slowest, where so many start a compaction while nobody reads. Each is one
/// more to ask, and takes room in the cache from what is read.
fn bounds(level0_tables: usize, reading: Reading) -> (usize, usize) {
    match reading {
        Reading::Nothing => {
            (level0_tables.saturating_mul(TABLES_SLOW_FACTOR), level0_tables.saturating_mul(TABLES_STOP_FACTOR))
        }
        Reading::Elsewhere => (level0_tables, level0_tables.saturating_mul(2)),
        // Never where nothing is due that would end it.
        Reading::Cache => {
            let due = compacted_from(level0_tables, reading);
            (due - 1, level0_tables.max(due.saturating_add(1)))
        }
    }
}

/// How many tables on level 0 start a compaction: while the cache holds most of what is read, fewer than what is set, so that it goes on
/// to.
pub(crate) fn compacted_from(level0_tables: usize, reading: Reading) -> usize {
    match reading {
        Reading::Nothing | Reading::Elsewhere => level0_tables,
        Reading::Cache => level0_tables - level0_tables / 4,
    }
}

/// Where a value lies between two others, from 0 to 1.
fn share(value: u64, from: u64, to: u64) -> f64 {
    (value.saturating_sub(from) as f64 / (to.saturating_sub(from)).max(1) as f64).min(1.0)
}

/// Grows with the square of the debt: hardly to be felt at first, and steep when the wait is near.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a delay is positive and has a bound")]
fn delay_ns(debt: f64, batch_bytes: u64) -> u64 {
    ((batch_bytes as f64 * DELAY_NS_PER_BYTE * debt * debt) as u64).min(DELAY_MAX_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_is_read_from_the_cache_the_fewer_tables_there_are_on_level_0() {
        let all = [Reading::Nothing, Reading::Elsewhere, Reading::Cache];
        assert_eq!(all.map(|reading| bounds(4, reading)), [(20, 36), (4, 8), (2, 4)]);
        assert_eq!(all.map(|reading| compacted_from(4, reading)), [4, 4, 3]);
        assert_eq!(compacted_from(1, Reading::Cache), 1, "an empty level needs no compaction");
        assert_eq!(bounds(usize::MAX, Reading::Nothing), (usize::MAX, usize::MAX), "never");
        for tables in 1..100 {
            for reading in all {
                let (slow, stop) = bounds(tables, reading);
                assert!(
                    slow < stop && slow + 1 >= compacted_from(tables, reading),
                    "{tables}: what slows is being dealt with"
                );
            }
        }
    }

    #[test]
    fn lesson_47_the_delay_grows_smoothly_up_to_a_bound() {
        let (slow, stop) = bounds(4, Reading::Nothing);
        let at = |tables: usize| delay_ns(share(tables as u64, slow as u64, stop as u64), 1000);
        assert_eq!(at(slow), 0, "nothing at first");
        let delays: Vec<u64> = (slow..=stop).map(at).collect();
        let last = *delays.last().unwrap();
        assert!(delays.is_sorted() && delays[1] > 0, "{delays:?}");
        // No step is a cliff: each is small against the whole.
        let largest_step = delays.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(largest_step * 8 < last, "{delays:?}");
        assert_eq!(last, 200_000, "200 ns per byte at the point of waiting");
        assert_eq!(at(1000), last);
        assert_eq!(delay_ns(1.0, u64::MAX), DELAY_MAX_NS);
    }
}
