//! Whether keys are read while others are written, and whether from the cache: writers are held back sooner then, and level 0 is kept
//! smaller.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::counters::ReadTally;

/// There are readers when so many operations are written for each key that is read, or fewer …
const WRITES_PER_READ: u64 = 4;
/// … and this is looked at when there were so many of both.
const SAMPLE: u64 = 1000;
/// Most of what is read is in the cache when a block is missing one time in so many, or less often.
const LOOKS_PER_MISS: u64 = 4;
/// What the cache holds counts when a block is looked for with so many keys, or fewer: not where the memtable has it all.
const KEYS_PER_LOOK: u64 = 4;

/// What is read beside the writers.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Reading {
    /// Hardly anything.
    Nothing,
    /// What the cache mostly lacks, or what takes no block.
    Elsewhere,
    /// What it mostly has.
    Cache,
}

/// Tells what is read.
#[derive(Default)]
pub(crate) struct Readers {
    /// A [`Reading`].
    reading: AtomicU8,
    /// What was read and written when that was looked at last.
    keys: AtomicU64,
    written: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Readers {
    /// Looks, with all that was ever read and how many operations were ever written. One thread at a time.
    pub(crate) fn look(&self, read: &ReadTally, written: u64) {
        let more = |now: u64, before: &AtomicU64| now.saturating_sub(before.load(Ordering::Relaxed));
        let (keys, written_now) = (more(read.keys(), &self.keys), more(written, &self.written));
        if keys + written_now < SAMPLE {
            return;
        }
        let (hits, misses) = (more(read.cache_hits, &self.hits), more(read.cache_misses, &self.misses));
        let reading = match keys * WRITES_PER_READ >= written_now {
            false => Reading::Nothing,
            true if misses * LOOKS_PER_MISS > hits + misses => Reading::Elsewhere,
            true if (hits + misses) * KEYS_PER_LOOK < keys => Reading::Elsewhere,
            true => Reading::Cache,
        };
        self.reading.store(reading as u8, Ordering::Relaxed);
        let seen = [
            (&self.keys, read.keys()),
            (&self.written, written),
            (&self.hits, read.cache_hits),
            (&self.misses, read.cache_misses),
        ];
        seen.into_iter().for_each(|(last, now)| last.store(now, Ordering::Relaxed));
    }

    pub(crate) fn reading(&self) -> Reading {
        match self.reading.load(Ordering::Relaxed) {
            reading if reading == Reading::Elsewhere as u8 => Reading::Elsewhere,
            reading if reading == Reading::Cache as u8 => Reading::Cache,
            _ => Reading::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_there_while_enough_is_read() {
        let readers = Readers::default();
        let look = |deeper, cache_misses, written| {
            readers.look(
                &ReadTally { deeper, cache_hits: deeper - cache_misses, cache_misses, ..ReadTally::default() },
                written,
            );
            readers.reading()
        };
        assert_eq!(look(0, 0, 5000), Reading::Nothing);
        assert_eq!(look(1000, 250, 9000), Reading::Cache, "one in four is read, and one in four of these is missing");
        assert_eq!(look(1000, 250, 9900), Reading::Cache, "too little happened to tell");
        assert_eq!(look(1100, 250, 10_000), Reading::Nothing);
        assert_eq!(look(3000, 800, 10_000), Reading::Elsewhere);
        assert_eq!(look(5000, 800, 10_000), Reading::Cache, "what was missing long ago is not asked for now");
        readers.look(
            &ReadTally { deeper: 5000, memtable: 5000, cache_hits: 4500, cache_misses: 800, ..ReadTally::default() },
            10_000,
        );
        assert_eq!(readers.reading(), Reading::Elsewhere, "the memtable has it all");
    }
}
