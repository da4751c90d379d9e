//! Making the log durable. One sync runs at a time and covers everything appended before it began; whoever arrives
//! meanwhile is covered by the next. One of those who wait does it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::counters::Distribution;
use crate::disk::{Disk, File};
use crate::error::Error;
use crate::files;
use crate::group::Group;
use crate::health::Health;

/// The leader of a group waits for others no longer than this part of what a sync takes …
const GATHER_SHARE: u64 = 4;
/// … and never longer than this.
const GATHER_MAX: Duration = Duration::from_micros(100);

/// What the host wants called when the durable number has moved or the database was poisoned.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

/// The end of the log, as far as it was appended and applied.
struct Tail {
    position: u64,
    sequence: u64,
    /// The segments that may hold what is not durable, oldest first; the last one is being appended to.
    segments: Vec<TailSegment>,
    /// How many batches were appended.
    batches: u64,
}

#[derive(Clone)]
struct TailSegment {
    number: u64,
    file: Arc<dyn File>,
    name_durable: bool,
}

pub(crate) struct Syncer {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    health: Arc<Health>,
    tail: Mutex<Tail>,
    group: Group,
    /// How long the last sync took.
    last_ns: AtomicU64,
    /// As in the tail, for whoever only looks.
    appended_position: AtomicU64,
    synced_position: AtomicU64,
    durable_sequence: AtomicU64,
    requested_sequence: AtomicU64,
    wake: Mutex<Option<Wake>>,
    /// How long each sync took, in microseconds.
    time: Distribution,
    /// How many batches each made durable.
    groups: Distribution,
}

impl Syncer {
    /// For a log whose first segment, with its name, is durable, and everything before it in tables.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        health: Arc<Health>,
        segment: u64,
        file: Arc<dyn File>,
        position: u64,
        sequence: u64,
    ) -> Self {
        let segments = vec![TailSegment { number: segment, file, name_durable: true }];
        Self {
            disk,
            directory,
            health,
            tail: Mutex::new(Tail { position, sequence, segments, batches: 0 }),
            group: Group::default(),
            last_ns: AtomicU64::new(0),
            appended_position: AtomicU64::new(position),
            synced_position: AtomicU64::new(position),
            durable_sequence: AtomicU64::new(sequence),
            requested_sequence: AtomicU64::new(0),
            wake: Mutex::new(None),
            time: Distribution::default(),
            groups: Distribution::default(),
        }
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was appended and applied.
    pub(crate) fn appended(&self, position: u64, sequence: u64) {
        let mut tail = self.tail();
        tail.position = position;
        self.appended_position.store(position, Ordering::Release);
        if sequence > tail.sequence {
            tail.batches += 1;
        }
        tail.sequence = sequence;
    }

    /// Notes that the log goes on in another segment, whose name is not durable yet.
    pub(crate) fn rotated(&self, number: u64, file: Arc<dyn File>, position: u64) {
        let mut tail = self.tail();
        tail.position = position;
        self.appended_position.store(position, Ordering::Release);
        tail.segments.push(TailSegment { number, file, name_durable: false });
    }

    /// The position up to which the log is known to be durable.
    pub(crate) fn synced_position(&self) -> u64 {
        self.synced_position.load(Ordering::Acquire)
    }

    /// Whether nothing was appended since the last sync began. Exact while nobody can append.
    pub(crate) fn is_idle(&self) -> bool {
        self.appended_position.load(Ordering::Acquire) == self.synced_position()
    }

    pub(crate) fn durable_sequence(&self) -> u64 {
        self.durable_sequence.load(Ordering::Acquire)
    }

    pub(crate) const fn time(&self) -> &Distribution {
        &self.time
    }

    pub(crate) const fn groups(&self) -> &Distribution {
        &self.groups
    }

    /// Returns once everything up to `sequence` is durable. Syncs, or waits for whoever does.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub(crate) fn sync_through(&self, sequence: u64) -> Result<(), Error> {
        let is_durable = || self.durable_sequence() >= sequence;
        while !is_durable() {
            self.health.check()?;
            let is_done = || is_durable() || self.health.is_poisoned();
            let gather = |before: usize, now: &dyn Fn() -> usize| self.gather(before, now);
            if let Some(result) = self.group.run(is_done, gather, || self.sync()) {
                self.call_wake();
                result?;
            }
        }
        Ok(())
    }

    /// Those whom the last sync woke write again within microseconds, if they do at all. Without them a sync would be for
    /// whoever comes first, and the next for all others, in turn. So the leader waits for as many as there were, but not for
    /// long: when fewer come, fewer are waited for the next time.
    fn gather(&self, before: usize, now: &dyn Fn() -> usize) {
        if before < 2 {
            return;
        }
        let at_most = Duration::from_nanos(self.last_ns.load(Ordering::Relaxed) / GATHER_SHARE).min(GATHER_MAX);
        let begin = Instant::now();
        while now() < before && begin.elapsed() < at_most {
            thread::yield_now();
        }
    }

    /// Rule E2: segments are synced in order, and the position moves only over what all of them hold.
    fn sync(&self) -> Result<(), Error> {
        let (position, sequence, segments, batches) = {
            let mut tail = self.tail();
            (tail.position, tail.sequence, tail.segments.clone(), std::mem::take(&mut tail.batches))
        };
        let begin = Instant::now();
        if let Err(error) = self.sync_segments(&segments) {
            if sabotaged!(GoOnAfterFailedSync) {
                return Err(Error::Poisoned { reason: error.to_string() });
            }
            self.health.poison(self.durable_sequence(), &error);
            return self.health.check();
        }
        // Poisoned meanwhile by the manifest: nothing is acknowledged any more.
        self.health.check()?;
        let last = segments.last().expect("the log has a segment").number;
        let mut tail = self.tail();
        tail.segments.retain(|segment| segment.number >= last);
        // Not there any more when it was flushed meanwhile.
        if let Some(synced) = tail.segments.first_mut().filter(|first| first.number == last) {
            synced.name_durable = true;
        }
        drop(tail);
        let took = begin.elapsed();
        self.last_ns.store(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.time.add_time(took);
        self.groups.add(batches);
        self.advance(position, sequence);
        Ok(())
    }

    /// Notes that everything up to `sequence` is in tables that a durable edit names, so that the log matters from `position`
    /// on, where the segment `number` begins. Whoever calls this wakes the host, outside of his locks.
    pub(crate) fn flushed(&self, number: u64, position: u64, sequence: u64) {
        self.tail().segments.retain(|segment| segment.number >= number);
        if sequence > self.durable_sequence() {
            self.advance(position, sequence);
        }
    }

    /// Moves what is known to be durable. A sync that began before a flush ended may end after it, and know less.
    fn advance(&self, position: u64, sequence: u64) {
        self.synced_position.fetch_max(position, Ordering::AcqRel);
        self.durable_sequence.fetch_max(sequence, Ordering::AcqRel);
    }

    fn sync_segments(&self, segments: &[TailSegment]) -> Result<(), Error> {
        if segments.iter().any(|segment| !segment.name_durable) {
            self.disk.sync_dir(&self.directory).map_err(|error| Error::io("sync", &self.directory, error))?;
        }
        let covered = if sabotaged!(SyncLastSegmentOnly) { segments.len() - 1.. } else { 0.. };
        for segment in &segments[covered] {
            let path = || files::log(&self.directory, segment.number);
            segment.file.sync().map_err(|error| Error::io("sync", &path(), error))?;
        }
        Ok(())
    }

    /// Asks for a sync without waiting. Returns whether somebody has to be told.
    pub(crate) fn request(&self, sequence: u64) -> bool {
        if self.durable_sequence() >= sequence {
            return false;
        }
        self.requested_sequence.fetch_max(sequence, Ordering::AcqRel) < sequence
    }

    /// The number that a sync was asked for and is not durable yet.
    pub(crate) fn requested(&self) -> Option<u64> {
        let requested = self.requested_sequence.load(Ordering::Acquire);
        (requested > self.durable_sequence()).then_some(requested)
    }

    /// After poison: forgets what was asked for, and tells whoever asked.
    pub(crate) fn refuse(&self) {
        self.requested_sequence.store(0, Ordering::Release);
        self.call_wake();
    }

    pub(crate) fn set_wake(&self, wake: &Wake) {
        let poisoned = self.health.is_poisoned();
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(wake));
        if poisoned {
            wake();
        }
    }

    /// Called outside all locks: the host may call back.
    pub(crate) fn call_wake(&self) {
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(wake) = wake {
            wake();
        }
    }
}
