//! The public handle of a snapshot.

use std::ops::Bound;
use std::sync::Arc;

use kv_core::time::Millis;

use crate::error::Error;
use crate::handle::Handle;
use crate::iter::Iter;
use crate::key_bounds::{KeyBounds, owned};
use crate::keyspace::{Keyspace, prefix_bounds};
use crate::slice::Slice;
use crate::time::Moment;

/// The state of a database at one moment. A clone is another handle of the same.
#[derive(Clone)]
pub struct Snapshot {
    pin: Arc<Pin>,
}

/// Registered as long as it lives.
pub(crate) struct Pin {
    handle: Arc<Handle>,
    moment: Moment,
}

impl Pin {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        let moment = handle.snapshots.take(&handle.time);
        Self { handle, moment }
    }

    pub(crate) const fn moment(&self) -> Moment {
        self.moment
    }

    pub(crate) const fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.handle.snapshots.release(self.moment);
    }
}

impl Snapshot {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        Self { pin: Arc::new(Pin::new(handle)) }
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.pin.handle
    }

    /// Number of the last operation that it sees.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.pin.moment.sequence
    }

    /// The time it was taken at. What expires later is there for it, what has expired by then is not.
    #[must_use]
    pub fn as_of(&self) -> Millis {
        self.pin.moment.as_of
    }

    pub(crate) fn own(&self, keyspace: &Keyspace) -> Result<(), Error> {
        if keyspace.token() == self.pin.handle.token {
            Ok(())
        } else {
            Err(Error::UnknownKeyspace { keyspace: keyspace.id() })
        }
    }

    /// The value under `key` at that moment. Merge operands are folded as of then.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Slice>, Error> {
        self.get_borrowed(keyspace, key, Slice::copy_of)
    }

    /// What `look` makes of the value under `key` at that moment, without a copy, as [`Keyspace::get_borrowed`].
    ///
    /// # Errors
    /// See [`Error`]; then `look` was not called.
    pub fn get_borrowed<R>(
        &self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, Error> {
        self.own(keyspace)?;
        keyspace.look_at(key.as_ref(), Some(self.pin.moment), look)
    }

    /// Whether there was a value under `key`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn contains_key(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.own(keyspace)?;
        keyspace.is_present(key.as_ref(), Some(self.pin.moment))
    }

    /// The entries of that moment whose keys lie in `range`.
    ///
    /// # Panics
    /// When the keyspace belongs to another database.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "ranges are written in place")]
    pub fn range(&self, keyspace: &Keyspace, range: impl KeyBounds) -> Iter {
        self.range_of(keyspace, owned(&range))
    }

    /// All entries of that moment.
    ///
    /// # Panics
    /// When the keyspace belongs to another database.
    #[must_use]
    pub fn iter(&self, keyspace: &Keyspace) -> Iter {
        self.range_of(keyspace, (Bound::Unbounded, Bound::Unbounded))
    }

    /// The entries of that moment whose keys begin with `prefix`.
    ///
    /// # Panics
    /// When the keyspace belongs to another database.
    #[must_use]
    pub fn prefix(&self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> Iter {
        self.range_of(keyspace, prefix_bounds(prefix.as_ref()))
    }

    fn range_of(&self, keyspace: &Keyspace, bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Iter {
        assert!(self.own(keyspace).is_ok(), "a snapshot reads keyspaces of its own database");
        keyspace.range_at(Some(self.pin.moment), bounds)
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("sequence", &self.pin.moment.sequence).finish_non_exhaustive()
    }
}
