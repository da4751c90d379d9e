//! Optimistic transactions: they read a snapshot and their own writes, take no locks, and are validated when they commit.

mod iter;
mod writes;

pub use iter::TransactionIter;

use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kv_core::time::Millis;

use crate::background;
use crate::commit::{commit, commit_admitted};
use crate::database::Database;
use crate::engine::lock;
use crate::error::Error;
use crate::handle::Handle;
use crate::key_bounds::{KeyBounds, owned};
use crate::keyspace::{Keyspace, prefix_bounds};
use crate::options::{Durability, WriteOptions};
use crate::slice::Slice;
use crate::snapshot::Snapshot;
use crate::validation::admission::Admission;
use crate::validation::read_set::Reads;
use writes::Writes;

/// How often [`Database::transact`] tries.
const TRIES: u32 = 64;

/// An optimistic, serializable transaction over any keyspaces of one database.
///
/// It reads the state of the moment when it began, with its own writes over it. Nobody waits for it, and nobody sees its
/// writes, until [`commit`](Transaction::commit). That succeeds only when nothing that it read, single keys and whole
/// ranges, keys that were absent included, was written by anybody since it began. So all transactions that commit, and all
/// plain writes, have the effect that they would have had one after the other, in the order in which they committed.
///
/// - **Reads are what conflicts.** Keys that are written without being read do not; nor does a key that the transaction has put
///   or deleted itself before it reads it. A transaction that wrote nothing always commits: its snapshot is one state.
/// - **False conflicts.** A write that left things as they were (the same value again, the delete of an absent key, a
///   deleted range that held nothing) counts as a write. And a transaction whose reads take longer to check than others
///   take to write a mebibyte of keys, many times in a row, is refused.
/// - **Time.** That a value expires is not a write.
/// - Reads that go past the transaction, straight to a keyspace, are not tracked.
///
/// Dropping it rolls it back. While it lives it keeps what it sees from being compacted away, as a [`Snapshot`] does.
///
/// After Kung and Robinson 1981, "On optimistic methods for concurrency control".
///
/// ```
/// use kv_lsm::{Database, Error, KeyspaceOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// let db = Database::open(directory.path())?;
/// let stock = db.keyspace("stock", KeyspaceOptions::default())?;
/// stock.put("apples", "3")?;
///
/// let mut sale = db.transaction();
/// let apples: u32 = std::str::from_utf8(&sale.get(&stock, "apples")?.unwrap())?.parse()?;
/// sale.put(&stock, "apples", (apples - 1).to_string());
/// stock.put("apples", "0")?; // Somebody else was faster.
/// assert!(matches!(sale.commit(), Err(Error::Conflict { .. })));
/// assert_eq!(stock.get("apples")?.as_deref(), Some(&b"0"[..]));
/// # Ok(())
/// # }
/// ```
pub struct Transaction {
    snapshot: Snapshot,
    writes: Writes,
    reads: Mutex<Reads>,
}

impl Transaction {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        let reads = Mutex::new(Reads::new(handle.config.transaction_read_bytes));
        Self { snapshot: Snapshot::new(handle), writes: Writes::default(), reads }
    }

    fn reads(&self) -> MutexGuard<'_, Reads> {
        lock(&self.reads)
    }

    /// Number of the last operation of others that it sees.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.snapshot.sequence()
    }

    /// The value under `key`.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the read set is full; the transaction can go on without the value. Else see [`Error`].
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Slice>, Error> {
        self.snapshot.own(keyspace)?;
        let key = key.as_ref();
        let id = keyspace.id();
        let overlay = self.writes.overlay(id);
        let pending = overlay.and_then(|overlay| overlay.keys.get(key));
        let hidden = pending.is_some_and(|pending| !pending.needs_snapshot())
            || (pending.is_none() && overlay.is_some_and(|overlay| overlay.hides(key)));
        let below = if hidden {
            None
        } else {
            self.reads().add_key(id, key)?;
            self.snapshot.get(keyspace, key)?
        };
        let Some(pending) = pending else { return Ok(below) };
        let handle = self.snapshot.handle();
        let operator = handle.operator_of(id);
        let value = pending.value(id, key, below.as_deref(), operator.as_deref(), self.snapshot.as_of())?;
        Ok(value.as_deref().map(Slice::copy_of))
    }

    /// Whether there is a value under `key`.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn contains_key(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.get(keyspace, key).map(|value| value.is_some())
    }

    /// The values under several keys, in their order.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keyspace: &Keyspace,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Slice>>, Error> {
        keys.into_iter().map(|key| self.get(keyspace, key)).collect()
    }

    /// The entries whose keys lie in `range`. What the iterator has passed when it is dropped is what was read: a key that
    /// somebody adds there is a conflict, too.
    ///
    /// # Panics
    /// When the keyspace belongs to another database.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "ranges are written in place")]
    pub fn range(&self, keyspace: &Keyspace, range: impl KeyBounds) -> TransactionIter<'_> {
        TransactionIter::new(self, keyspace, owned(&range))
    }

    /// All entries. As [`Transaction::range`].
    ///
    /// # Panics
    /// When the keyspace belongs to another database.
    #[must_use]
    pub fn iter(&self, keyspace: &Keyspace) -> TransactionIter<'_> {
        TransactionIter::new(self, keyspace, (Bound::Unbounded, Bound::Unbounded))
    }

    /// The entries whose keys begin with `prefix`. As [`Transaction::range`].
    ///
    /// # Panics
    /// When the keyspace belongs to another database.
    #[must_use]
    pub fn prefix(&self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> TransactionIter<'_> {
        TransactionIter::new(self, keyspace, prefix_bounds(prefix.as_ref()))
    }

    /// Replaces whatever is under `key`. Limits, and whether the keyspace is of this database, are checked at the commit, as
    /// for all writes.
    pub fn put(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.writes.put(keyspace, key.as_ref(), value.as_ref());
    }

    /// The same for a value that is gone once `ttl` has passed from now, see
    /// [`Keyspace::put_with_ttl`](crate::Keyspace::put_with_ttl). The transaction itself goes on seeing it: no time passes
    /// for it.
    ///
    /// # Errors
    /// [`Error::InvalidTtl`]; then nothing was added.
    pub fn put_with_ttl(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<(), Error> {
        self.put_expiring(keyspace, key, value, keyspace.expiry_after(ttl)?);
        Ok(())
    }

    /// The same for a value that is gone from `expire_at` on, see
    /// [`Keyspace::put_expiring`](crate::Keyspace::put_expiring).
    pub fn put_expiring(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        expire_at: Millis,
    ) {
        self.writes.put_expiring(keyspace, key.as_ref(), value.as_ref(), expire_at, self.snapshot.as_of());
    }

    /// Adds an operand for the keyspace's merge operator. That alone reads nothing: two transactions that merge onto one key
    /// both commit.
    pub fn merge(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) {
        self.writes.merge(keyspace, key.as_ref(), operand.as_ref());
    }

    /// Removes `key`.
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) {
        self.writes.delete(keyspace, key.as_ref());
    }

    /// Removes every key from the start of `range` up to, but not including, its end, also those that others have added by
    /// the time of the commit. That alone reads nothing.
    pub fn delete_range<K: AsRef<[u8]>>(&mut self, keyspace: &Keyspace, range: Range<K>) {
        self.writes.delete_range(keyspace, range.start.as_ref(), range.end.as_ref());
    }

    /// How many writes it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.writes.batch.len()
    }

    /// Whether it has written nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.writes.batch.is_empty()
    }

    /// Commits with the durability the database was opened with. On return all its writes are visible, together.
    ///
    /// # Errors
    /// [`Error::Conflict`] when something that it read was written meanwhile; nothing was changed, and it can be tried again
    /// from the start, see [`Database::transact`]. Else as [`Database::write`].
    pub fn commit(self) -> Result<(), Error> {
        self.commit_with(WriteOptions::default())
    }

    /// Commits. With [`Durability::Sync`] everything that was written before is durable on return, also when the transaction
    /// has written nothing itself.
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub fn commit_with(self, options: WriteOptions) -> Result<(), Error> {
        let Self { snapshot, writes, reads } = self;
        let engine = snapshot.handle();
        let durability = options.durability.unwrap_or(engine.config.durability);
        let batch = writes.batch.for_database(engine.token)?;
        let reads = reads.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let result = if batch.is_empty() {
            // One state is as good as another, but a synced commit speaks of all that was written before it.
            let synced = durability == Durability::Sync && !engine.config.read_only;
            let through = if synced { engine.snapshots.visible() } else { 0 };
            background::sync_through(engine, through).map(|()| snapshot.sequence())
        } else if reads.is_empty() {
            commit(engine, batch, durability)
        } else {
            let reads = reads.into_set();
            commit_admitted(engine, batch, durability, &mut Admission::new(engine, &reads, snapshot.sequence()))
        };
        engine.counters.count_transaction(&result);
        result.map(|_| ())
    }

    /// Forgets everything. The same as dropping it.
    pub fn rollback(self) {}
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction")
            .field("sequence", &self.sequence())
            .field("writes", &self.len())
            .finish_non_exhaustive()
    }
}

impl Database {
    /// Begins a transaction on the state of this moment.
    #[must_use]
    pub fn transaction(&self) -> Transaction {
        Transaction::new(Arc::clone(self.handle()))
    }

    /// Runs `body` in a transaction and commits it, again from the start when it met a conflict, up to 64 times. `body` must
    /// leave nothing behind when it is run in vain.
    ///
    /// # Errors
    /// What `body` returns; its transaction is rolled back then. [`Error::Conflict`] when all tries were in vain. Else as
    /// [`Transaction::commit`].
    ///
    /// ```
    /// # fn main() -> Result<(), kv_lsm::Error> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = kv_lsm::Database::open(directory.path())?;
    /// # let visits = db.keyspace("visits", kv_lsm::KeyspaceOptions::default())?;
    /// let before = db.transact(|tx| {
    ///     let before = tx.get(&visits, "home")?.map_or(0, |value| value[0]);
    ///     tx.put(&visits, "home", [before + 1]);
    ///     Ok(before)
    /// })?;
    /// assert_eq!(before, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn transact<T>(&self, mut body: impl FnMut(&mut Transaction) -> Result<T, Error>) -> Result<T, Error> {
        let mut tries = 0;
        loop {
            let mut transaction = self.transaction();
            let value = body(&mut transaction)?;
            match transaction.commit() {
                Ok(()) => return Ok(value),
                Err(Error::Conflict { .. }) if tries + 1 < TRIES => tries += 1,
                Err(error) => return Err(error),
            }
            std::thread::yield_now();
        }
    }
}
