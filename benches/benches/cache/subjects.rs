//! The caches that are compared, behind one face, with one way to charge for an entry.

use bytes::Bytes;
use kv_core::cache::{Cache, ENTRY_BYTES, Eviction};
use kv_core::evict::PolicyKind;

/// What every subject is charged for an entry, so that equal bounds mean equal numbers of entries.
pub(crate) fn cost(key_bytes: usize, value_bytes: usize) -> u64 {
    ENTRY_BYTES + key_bytes as u64 + value_bytes as u64
}

/// A cache as a user sees it who reads through it.
pub(crate) trait Subject: Send + Sync {
    fn get(&self, key: &[u8]) -> Option<Bytes>;
    fn put(&self, key: &[u8], value: Bytes);
    fn entries(&self) -> u64;
}

impl Subject for Cache {
    fn get(&self, key: &[u8]) -> Option<Bytes> {
        Self::get(self, key)
    }

    fn put(&self, key: &[u8], value: Bytes) {
        Self::put(self, key, value).expect("it fits, and anything may be evicted");
    }

    fn entries(&self) -> u64 {
        self.len() as u64
    }
}

#[derive(Clone)]
pub(crate) struct Weigher;

impl quick_cache::Weighter<Box<[u8]>, Bytes> for Weigher {
    fn weight(&self, key: &Box<[u8]>, value: &Bytes) -> u64 {
        cost(key.len(), value.len())
    }
}

pub(crate) type QuickCache = quick_cache::sync::Cache<Box<[u8]>, Bytes, Weigher>;
pub(crate) type Moka = moka::sync::Cache<Box<[u8]>, Bytes>;

impl Subject for QuickCache {
    fn get(&self, key: &[u8]) -> Option<Bytes> {
        Self::get(self, key)
    }

    fn put(&self, key: &[u8], value: Bytes) {
        self.insert(key.into(), value);
    }

    fn entries(&self) -> u64 {
        self.len() as u64
    }
}

impl Subject for Moka {
    fn get(&self, key: &[u8]) -> Option<Bytes> {
        Self::get(self, key)
    }

    fn put(&self, key: &[u8], value: Bytes) {
        self.insert(key.into(), value);
    }

    fn entries(&self) -> u64 {
        self.run_pending_tasks();
        self.entry_count()
    }
}

pub(crate) const POLICIES: [(&str, PolicyKind); 8] = [
    ("s3-fifo", PolicyKind::S3Fifo),
    ("sieve", PolicyKind::Sieve),
    ("w-tinylfu", PolicyKind::WTinyLfu),
    ("lfu", PolicyKind::Lfu),
    ("lru", PolicyKind::Lru),
    ("fifo", PolicyKind::Fifo),
    ("random", PolicyKind::Random),
    ("soonest", PolicyKind::Soonest),
];

pub(crate) fn ours(kind: PolicyKind, capacity_bytes: u64) -> Cache {
    Cache::builder(capacity_bytes).eviction(Eviction::AllKeys(kind)).build().expect("a cache")
}

pub(crate) fn quick_cache(capacity_bytes: u64, entries: usize) -> QuickCache {
    QuickCache::with_weighter(entries, capacity_bytes, Weigher)
}

pub(crate) fn moka(capacity_bytes: u64) -> Moka {
    Moka::builder()
        .max_capacity(capacity_bytes)
        .weigher(|key, value| u32::try_from(cost(key.len(), value.len())).expect("a small entry"))
        .build()
}
