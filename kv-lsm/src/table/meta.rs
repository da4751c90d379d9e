//! What the manifest knows about a table.

use std::sync::Arc;

use kv_core::time::Millis;

use crate::blob::meta::BlobUse;
use crate::file_format::FileFormat;

/// Where the keys of a table end.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Upper {
    pub(crate) key: Arc<[u8]>,
    /// The key itself lies in the table; else it is the end of a deleted range, and does not.
    pub(crate) inclusive: bool,
}

/// How many entries of a table expire, and when: what compaction goes by when it looks for room to free.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct Expiring {
    pub(crate) entries: u64,
    /// Both are zero when no entry expires.
    pub(crate) earliest: Millis,
    pub(crate) latest: Millis,
}

impl Expiring {
    pub(crate) fn add(&mut self, expire_at: Millis) {
        self.earliest = if self.entries == 0 { expire_at } else { self.earliest.min(expire_at) };
        self.latest = self.latest.max(expire_at);
        self.entries += 1;
    }

    /// About how many have expired at a time, as if their expiries were spread evenly. None and all are exact.
    pub(crate) fn expired(&self, now: Millis) -> u64 {
        if self.entries == 0 || now < self.earliest {
            return 0;
        }
        if now >= self.latest {
            return self.entries;
        }
        let (passed, span) = (now.0 - self.earliest.0, self.latest.0 - self.earliest.0);
        let expired = u128::from(self.entries) * u128::from(passed) / u128::from(span);
        u64::try_from(expired).expect("at most all")
    }
}

/// One table: its file, and which keys it speaks of, deleted ranges included.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct TableMeta {
    pub(crate) number: u64,
    pub(crate) identity: u64,
    pub(crate) format: FileFormat,
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    pub(crate) deletes: u64,
    pub(crate) range_deletes: u64,
    pub(crate) expiring: Expiring,
    pub(crate) sequence_min: u64,
    pub(crate) sequence_max: u64,
    pub(crate) lower: Arc<[u8]>,
    pub(crate) upper: Upper,
    /// How much of which blob files its entries point to, by number.
    pub(crate) blobs: Vec<BlobUse>,
}

impl Upper {
    /// Whether `key` lies behind this end.
    pub(crate) fn is_before(&self, key: &[u8]) -> bool {
        if self.inclusive { *self.key < *key } else { *self.key <= *key }
    }

    /// The later of two ends.
    pub(crate) fn max(self, other: Self) -> Self {
        if (&self.key, self.inclusive) >= (&other.key, other.inclusive) { self } else { other }
    }
}

impl TableMeta {
    /// Bytes of the table, and of the values that lie in blob files for it.
    pub(crate) fn all_bytes(&self) -> u64 {
        self.bytes + self.blobs.iter().map(|used| used.bytes).sum::<u64>()
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        *self.lower <= *key && !self.upper.is_before(key)
    }

    /// Whether the table speaks of a key from `start` up to, but not including, `end`, or to the last one.
    pub(crate) fn overlaps_range(&self, start: &[u8], end: Option<&[u8]>) -> bool {
        !self.upper.is_before(start) && end.is_none_or(|end| *self.lower < *end)
    }

    /// Whether the table speaks of a key at or above `lower` and not behind `upper`.
    pub(crate) fn overlaps(&self, lower: &[u8], upper: &Upper) -> bool {
        !self.upper.is_before(lower) && !upper.is_before(&self.lower)
    }
}
