//! Writes that are applied together.

use std::time::Duration;

use kv_core::store::{self, Space};
use kv_core::time::Millis;

use crate::error::Error;
use crate::keyspace::Keyspace;

/// Writes to any number of keyspaces of one database, applied together or not at all. Later operations win over earlier
/// ones on the same key. Hand it to [`Database::write`](crate::Database::write).
#[derive(Clone, Default, Debug)]
pub struct Batch {
    inner: store::Batch,
    /// Which database its keyspaces belong to; `Err` when not all to one.
    token: Option<Result<u64, u32>>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub const fn new() -> Self {
        Self { inner: store::Batch::new(), token: None }
    }

    fn space(&mut self, keyspace: &Keyspace) -> Space {
        let token = keyspace.token();
        match self.token {
            None => self.token = Some(Ok(token)),
            Some(Ok(other)) if other != token => self.token = Some(Err(keyspace.id())),
            Some(_) => {}
        }
        Space(keyspace.id())
    }

    /// Adds a put. In a keyspace with a default time to live, that time begins now.
    pub fn put(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let space = self.space(keyspace);
        keyspace.fill_put(&mut self.inner, space, key.as_ref(), value.as_ref());
    }

    /// Adds a put of a value that is gone once `ttl` has passed from now, as the database's clock tells it; in whole
    /// milliseconds, rounded up.
    ///
    /// # Errors
    /// [`Error::InvalidTtl`] when it is zero or reaches past the end of time; then nothing was added. In a keyspace with a
    /// merge operator the batch as a whole is refused later, with [`Error::ExpiryWithOperator`].
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

    /// Adds a put of a value that is gone from `expire_at` on: wall time in milliseconds. A time that has passed is allowed,
    /// and makes it a delete. In a keyspace with a merge operator the batch as a whole is refused later.
    pub fn put_expiring(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        expire_at: Millis,
    ) {
        let space = self.space(keyspace);
        self.inner.put_expiring(space, key.as_ref(), expire_at, value.as_ref());
    }

    /// Adds an operand for the keyspace's merge operator.
    pub fn merge(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) {
        let space = self.space(keyspace);
        self.inner.merge(space, key.as_ref(), operand.as_ref());
    }

    /// Adds a delete.
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) {
        let space = self.space(keyspace);
        self.inner.delete(space, key.as_ref());
    }

    /// Adds the removal of every key from the start of `range` up to, but not including, its end. An empty range is left
    /// out.
    pub fn delete_range<K: AsRef<[u8]>>(&mut self, keyspace: &Keyspace, range: std::ops::Range<K>) {
        let space = self.space(keyspace);
        self.inner.delete_range(space, range.start.as_ref(), range.end.as_ref());
    }

    /// How many operations there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.inner.clear();
        self.token = None;
    }

    /// The operations, for the database that they belong to.
    pub(crate) fn for_database(&self, token: u64) -> Result<&store::Batch, Error> {
        match self.token {
            None => Ok(&self.inner),
            Some(Ok(own)) if own == token => Ok(&self.inner),
            Some(Err(keyspace)) => Err(Error::UnknownKeyspace { keyspace }),
            Some(Ok(_)) => {
                let keyspace = self.inner.iter().next().map_or(0, |operation| operation.space().0);
                Err(Error::UnknownKeyspace { keyspace })
            }
        }
    }
}
