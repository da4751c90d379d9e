//! The public handle of a keyspace.

use std::ops::{Bound, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_core::store::{self, Space, prefix_end};
use kv_core::time::Millis;

use crate::approximate_size::approximate_size;
use crate::commit::{commit, try_commit};
use crate::compaction::run;
use crate::error::Error;
use crate::flush;
use crate::handle::Handle;
use crate::iter::Iter;
use crate::key_bounds::{KeyBounds, owned};
use crate::keyspace_options::ttl_ms;
use crate::read;
use crate::slice::Slice;
use crate::table::meta::Upper;
use crate::time::{AsOf, Moment};
use crate::visible::{ReadRules, Want};

/// An ordered map inside a database. A clone is another handle of the same; threads may share one.
#[derive(Clone)]
pub struct Keyspace {
    handle: Arc<Handle>,
    id: u32,
    name: Arc<str>,
    default_ttl_ms: Arc<AtomicU64>,
}

impl Keyspace {
    pub(crate) const fn new(handle: Arc<Handle>, id: u32, name: Arc<str>, default_ttl_ms: Arc<AtomicU64>) -> Self {
        Self { handle, id, name, default_ttl_ms }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn token(&self) -> u64 {
        self.handle.token
    }

    fn write(&self, fill: impl FnOnce(&mut store::Batch, Space)) -> Result<(), Error> {
        let mut batch = store::Batch::new();
        fill(&mut batch, Space(self.id));
        commit(&self.handle, &batch, self.handle.config.durability).map(|_| ())
    }

    /// A put with the keyspace's default time to live, if it has one.
    pub(crate) fn fill_put(&self, batch: &mut store::Batch, space: Space, key: &[u8], value: &[u8]) {
        match self.default_ttl_ms.load(Ordering::Relaxed) {
            0 => batch.put(space, key, value),
            // No clock that tells this time is off by so much that the sum does not fit.
            ttl => batch.put_expiring(space, key, self.handle.time.now().saturating_add(Millis(ttl)), value),
        }
    }

    /// When a value written now expires.
    pub(crate) fn expiry_after(&self, ttl: Duration) -> Result<Millis, Error> {
        if ttl.is_zero() {
            return Err(Error::InvalidTtl { what: "zero" });
        }
        let expire_at = ttl_ms(ttl).and_then(|ttl| self.handle.time.now().0.checked_add(ttl));
        expire_at.map(Millis).ok_or(Error::InvalidTtl { what: "past the end of time" })
    }

    /// Replaces whatever is under `key`, with the durability the database was opened with.
    ///
    /// # Errors
    /// As [`Database::write`](crate::Database::write).
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.write(|batch, space| self.fill_put(batch, space, key.as_ref(), value.as_ref()))
    }

    /// The same for a value that is gone once `ttl` has passed, as the database's clock tells it; in whole milliseconds,
    /// rounded up. From then on no read sees it, and compactions free its room.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use kv_lsm::{Database, KeyspaceOptions};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path())?;
    /// let sessions = db.keyspace("sessions", KeyspaceOptions::default())?;
    /// sessions.put_with_ttl("4711", "ada", Duration::from_millis(1))?;
    /// std::thread::sleep(Duration::from_millis(20));
    /// assert!(sessions.get("4711")?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Database::write`](crate::Database::write); [`Error::InvalidTtl`] when it is zero or reaches past the end of time,
    /// [`Error::ExpiryWithOperator`] where there is a merge operator.
    pub fn put_with_ttl(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, ttl: Duration) -> Result<(), Error> {
        self.put_expiring(key, value, self.expiry_after(ttl)?)
    }

    /// The same for a value that is gone from `expire_at` on: wall time in milliseconds. A time that has passed is allowed,
    /// and makes it a delete.
    ///
    /// # Errors
    /// As [`Database::write`](crate::Database::write), and [`Error::ExpiryWithOperator`].
    pub fn put_expiring(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, expire_at: Millis) -> Result<(), Error> {
        self.write(|batch, space| batch.put_expiring(space, key.as_ref(), expire_at, value.as_ref()))
    }

    /// As [`Keyspace::put`], but never waits for flushes or compactions: see
    /// [`Database::try_write`](crate::Database::try_write).
    ///
    /// # Errors
    /// As [`Keyspace::put`], and [`Error::Stalled`].
    pub fn try_put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        let mut batch = store::Batch::new();
        self.fill_put(&mut batch, Space(self.id), key.as_ref(), value.as_ref());
        try_commit(&self.handle, &batch, self.handle.config.durability).map(|_| ())
    }

    /// Adds an operand for the merge operator.
    ///
    /// # Errors
    /// As [`Database::write`](crate::Database::write).
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<(), Error> {
        self.write(|batch, space| batch.merge(space, key.as_ref(), operand.as_ref()))
    }

    /// Removes `key`.
    ///
    /// # Errors
    /// As [`Database::write`](crate::Database::write).
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<(), Error> {
        self.write(|batch, space| batch.delete(space, key.as_ref()))
    }

    /// Removes every key from the start of `range` up to, but not including, its end, at the cost of one write. An empty
    /// range changes nothing.
    ///
    /// # Errors
    /// As [`Database::write`](crate::Database::write).
    pub fn delete_range<K: AsRef<[u8]>>(&self, range: Range<K>) -> Result<(), Error> {
        self.write(|batch, space| batch.delete_range(space, range.start.as_ref(), range.end.as_ref()))
    }

    /// The value under `key`, merge operands folded.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>, Error> {
        self.look_at(key.as_ref(), None, Slice::copy_of)
    }

    /// What `look` makes of the value under `key`, merge operands folded, or `None` where there is no value. The value is not
    /// copied, which is what [`Keyspace::get`] spends most of its time on when values are large.
    ///
    /// `look` may read and write the database. While it runs, the version that is read stays in memory and on the disk.
    ///
    /// # Errors
    /// See [`Error`]; then `look` was not called.
    pub fn get_borrowed<R>(&self, key: impl AsRef<[u8]>, look: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Error> {
        self.look_at(key.as_ref(), None, look)
    }

    pub(crate) fn look_at<R>(
        &self,
        key: &[u8],
        moment: Option<Moment>,
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, Error> {
        let (mut look, mut result) = (Some(look), None);
        self.get_with(key, moment, &mut |bytes| result = look.take().map(|look| look(bytes)))?;
        Ok(result)
    }

    /// Whether there is a value under `key`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.is_present(key.as_ref(), None)
    }

    /// The values under several keys, in their order, all of one moment.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Slice>>, Error> {
        let (version, moment) = self.handle.pin_moment(None);
        let keyspaces = self.handle.keyspaces.load();
        let rules = self.handle.read_rules(&keyspaces, self.id, moment.sequence, AsOf::At(moment.as_of))?;
        let one = |key: K| {
            let mut value = None;
            read::get(&version, rules, key.as_ref(), &self.handle.counters.reads, &mut |bytes| {
                value = Some(Slice::copy_of(bytes));
            })?;
            Ok(value)
        };
        keys.into_iter().map(one).collect()
    }

    /// Calls `found` with the value under `key` as a read at `moment`, or now, sees it.
    pub(crate) fn get_with(
        &self,
        key: &[u8],
        moment: Option<Moment>,
        found: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Error> {
        let (version, sequence) = self.handle.pin(moment.map(|moment| moment.sequence));
        let keyspaces = self.handle.keyspaces.load();
        let rules = self.handle.read_rules(&keyspaces, self.id, sequence, self.handle.as_of(moment))?;
        read::get(&version, rules, key, &self.handle.counters.reads, found)
    }

    /// Whether a read at `moment`, or now, sees a value under `key`. Reads none from a blob file unless it has to.
    pub(crate) fn is_present(&self, key: &[u8], moment: Option<Moment>) -> Result<bool, Error> {
        let (version, sequence) = self.handle.pin(moment.map(|moment| moment.sequence));
        let keyspaces = self.handle.keyspaces.load();
        let rules = self.handle.read_rules(&keyspaces, self.id, sequence, self.handle.as_of(moment))?;
        let rules = ReadRules { want: Want::Presence, ..rules };
        read::get(&version, rules, key, &self.handle.counters.reads, &mut |_| {})
    }

    /// The entries whose keys lie in `range`, as they are now: later writes do not change what the iterator yields.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "ranges are written in place")]
    pub fn range(&self, range: impl KeyBounds) -> Iter {
        self.range_at(None, owned(&range))
    }

    /// All entries, as they are now.
    #[must_use]
    pub fn iter(&self) -> Iter {
        self.range_at(None, (Bound::Unbounded, Bound::Unbounded))
    }

    /// The entries whose keys begin with `prefix`, as they are now.
    #[must_use]
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        self.range_at(None, prefix_bounds(prefix.as_ref()))
    }

    pub(crate) fn range_at(&self, moment: Option<Moment>, bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Iter {
        Iter::new(Arc::clone(&self.handle), self.id, moment, bounds)
    }

    /// About how many bytes the keys in `range` take on the disk, as they lie there: compressed, with versions that are
    /// overwritten or deleted but not compacted away, and with separated values. Reads no more than indexes.
    ///
    /// What is only in memory and in the log is not counted: flush first to have it counted. Tables that lie in the range as a
    /// whole are counted exactly. Of every other one the share of its blocks that the range touches is taken, so its part is off
    /// by at most one block for each end of the range inside it, and by as much as the blocks differ in the separated values,
    /// filters and indexes that belong to them, which are taken for spread evenly.
    ///
    /// # Errors
    /// [`Error::UnknownKeyspace`], and what opening a table can fail with.
    #[expect(clippy::needless_pass_by_value, reason = "ranges are written in place")]
    pub fn approximate_size(&self, range: impl KeyBounds) -> Result<u64, Error> {
        let version = self.handle.version();
        let tree = version.trees.get(&self.id).ok_or(Error::UnknownKeyspace { keyspace: self.id })?;
        let (start, end) = range.bounds();
        approximate_size(tree, start, end)
    }

    /// Flushes, then merges everything that speaks of keys in `range` down to the deepest level, in the calling thread. Frees
    /// the space of what was deleted or overwritten and that no snapshot sees.
    ///
    /// # Errors
    /// See [`Error`]; the contents are as before.
    #[expect(clippy::needless_pass_by_value, reason = "ranges are written in place")]
    pub fn compact_range(&self, range: impl KeyBounds) -> Result<(), Error> {
        flush::flush_all(&self.handle)?;
        let (start, end) = range.bounds();
        let lower = match start {
            Bound::Included(key) | Bound::Excluded(key) => key,
            Bound::Unbounded => &[],
        };
        let upper = match end {
            Bound::Included(key) => Some(Upper { key: key.into(), inclusive: true }),
            Bound::Excluded(key) => Some(Upper { key: key.into(), inclusive: false }),
            Bound::Unbounded => None,
        };
        run::compact_range(&self.handle, self.id, lower, upper.as_ref())?;
        self.handle.purge();
        Ok(())
    }
}

pub(crate) fn prefix_bounds(prefix: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    (Bound::Included(prefix.to_vec()), prefix_end(prefix).map_or(Bound::Unbounded, Bound::Excluded))
}

impl std::fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyspace").field("name", &self.name).field("id", &self.id).finish_non_exhaustive()
    }
}
