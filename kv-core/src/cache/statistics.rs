use std::ops::AddAssign;

/// What a cache has done since it was made, and what it holds.
///
/// `insertions = entries + evictions + expirations + removals`, at every moment at which no call is under way.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Gets that found a value.
    pub hits: u64,
    /// Gets that did not, expired entries included.
    pub misses: u64,
    /// Keys that came in.
    pub insertions: u64,
    /// Puts that replaced the value of a key that was in.
    pub updates: u64,
    /// Entries that had to make room.
    pub evictions: u64,
    /// Entries that were reclaimed because their time had come.
    pub expirations: u64,
    /// Entries that were removed by name, or by clearing.
    pub removals: u64,
    /// Puts that were refused for their size or for want of room.
    pub rejected: u64,
    /// Entries held, expired ones that are not reclaimed yet included.
    pub entries: u64,
    /// What these cost.
    pub bytes: u64,
}

impl Statistics {
    /// The part of gets that found a value; zero before the first get.
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        let gets = self.hits + self.misses;
        if gets == 0 { 0.0 } else { self.hits as f64 / gets as f64 }
    }
}

impl AddAssign for Statistics {
    fn add_assign(&mut self, other: Self) {
        // Taken apart, so that a count that is added to the struct cannot be forgotten here.
        let Self { hits, misses, insertions, updates, evictions, expirations, removals, rejected, entries, bytes } =
            other;
        self.hits += hits;
        self.misses += misses;
        self.insertions += insertions;
        self.updates += updates;
        self.evictions += evictions;
        self.expirations += expirations;
        self.removals += removals;
        self.rejected += rejected;
        self.entries += entries;
        self.bytes += bytes;
    }
}
