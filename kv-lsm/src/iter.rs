//! The public iterator.

use std::sync::Arc;

use bytes::BytesMut;
use kv_core::time::Millis;

use crate::error::Error;
use crate::handle::Handle;
use crate::iter_parts::{Heads, Keys, WithExpiry};
use crate::scan::{Bounds, Scan};
use crate::slice::Slice;
use crate::time::Moment;
use crate::version::Version;
use crate::visible::{ScanRules, Want};

/// A key and its value, as they lie in an iterator until it steps again.
pub type BorrowedEntry<'a> = (&'a [u8], &'a [u8]);

/// Yields keys and values of a range in order, from both ends. Owns the state it reads. After an error it yields nothing more,
/// from either end.
///
/// Small keys and values that come one after the other share an allocation of up to 4 KiB, which is freed with the last of them:
/// whoever keeps few of many for long should copy them.
pub struct Iter {
    source: Source,
    bounds: Bounds,
    front: Option<Scan>,
    back: Option<Scan>,
    pieces: Pieces,
    over: bool,
}

struct Source {
    _handle: Arc<Handle>,
    version: Arc<Version>,
    keyspace: u32,
    /// Taken with the version: the keyspace may be dropped before the first step. `None` when it was dropped before.
    rules: Option<ScanRules>,
}

impl Source {
    fn scan(&self, bounds: &Bounds, reverse: bool) -> Result<Scan, Error> {
        let rules = self.rules.clone().ok_or(Error::UnknownKeyspace { keyspace: self.keyspace })?;
        Scan::new(&self.version, rules, bounds.clone(), reverse)
    }
}

impl Iter {
    pub(crate) fn new(handle: Arc<Handle>, keyspace: u32, moment: Option<Moment>, bounds: Bounds) -> Self {
        let (version, moment) = handle.pin_moment(moment);
        let version = Arc::clone(&version);
        let over = is_empty(&bounds);
        let rules = handle.scan_rules(keyspace, moment).ok();
        let source = Source { _handle: handle, version, keyspace, rules };
        Self { source, bounds, front: None, back: None, pieces: Pieces::default(), over }
    }

    /// Only the keys. Values that are kept apart are not read, unless merge operands fold onto them.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use kv_lsm::{Database, KeyspaceOptions};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path())?;
    /// let photos = db.keyspace("photos", KeyspaceOptions::default().separate_values_from(4096))?;
    /// photos.put("ada", vec![7; 100_000])?;
    /// photos.put("grace", vec![8; 100_000])?;
    /// let names: Result<Vec<_>, _> = photos.iter().keys().collect();
    /// assert_eq!(names?, [&b"ada"[..], b"grace"]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn keys(mut self) -> Keys {
        self.set_want(Want::Presence);
        Keys(self)
    }

    /// The keys, and of each value the first bytes: as many as the keyspace keeps inline
    /// ([`inline_prefix_bytes`](crate::KeyspaceOptions::inline_prefix_bytes)), or all when there are fewer. Values that are
    /// kept apart are not read, unless merge operands fold onto them.
    #[must_use]
    pub fn heads(mut self) -> Heads {
        self.set_want(Want::Head(self.source.rules.as_ref().map_or(0, |rules| rules.head_bytes)));
        Heads(self)
    }

    /// With each value the time at which it expires, if it does. For copies of a keyspace: see
    /// [`Batch::put_expiring`](crate::Batch::put_expiring).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use kv_lsm::{Database, KeyspaceOptions};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path())?;
    /// let sessions = db.keyspace("sessions", KeyspaceOptions::default())?;
    /// sessions.put("ada", "for ever")?;
    /// sessions.put_with_ttl("grace", "for an hour", Duration::from_secs(3600))?;
    /// let expiries: Result<Vec<_>, _> = sessions.iter().with_expiry().map(|entry| entry.map(|entry| entry.2)).collect();
    /// assert!(matches!(expiries?[..], [None, Some(_)]));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn with_expiry(self) -> WithExpiry {
        WithExpiry(self)
    }

    /// When the value expires that was yielded last, from one end.
    pub(crate) fn expire_at(&self, reverse: bool) -> Option<Millis> {
        if reverse { &self.back } else { &self.front }.as_ref().and_then(Scan::expire_at)
    }

    fn set_want(&mut self, want: Want) {
        self.source.rules.iter_mut().for_each(|rules| rules.want = want);
        [&mut self.front, &mut self.back].into_iter().flatten().for_each(|scan| scan.set_want(want));
    }

    /// The next key and value as they lie in the iterator, until it steps again. As [`Iterator::next`], without the copies that
    /// outlive it; long scans are faster that way.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use kv_lsm::{Database, KeyspaceOptions};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path())?;
    /// let words = db.keyspace("words", KeyspaceOptions::default())?;
    /// words.put("a", "first")?;
    /// words.put("b", "second")?;
    /// let (mut entries, mut bytes) = (words.iter(), 0);
    /// while let Some(entry) = entries.next_borrowed() {
    ///     let (key, value) = entry?;
    ///     bytes += key.len() + value.len();
    /// }
    /// assert_eq!(bytes, 13);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As of [`Iterator::next`]: see [`Error`].
    pub fn next_borrowed(&mut self) -> Option<Result<BorrowedEntry<'_>, Error>> {
        self.borrow_one(false)
    }

    /// The same from the other end.
    ///
    /// # Errors
    /// The same.
    pub fn next_back_borrowed(&mut self) -> Option<Result<BorrowedEntry<'_>, Error>> {
        self.borrow_one(true)
    }

    fn borrow_one(&mut self, reverse: bool) -> Option<Result<BorrowedEntry<'_>, Error>> {
        if self.over {
            return None;
        }
        let (scan, other) = if reverse { (&mut self.back, &self.front) } else { (&mut self.front, &self.back) };
        let scan = match scan {
            Some(scan) => scan,
            None => match self.source.scan(&self.bounds, reverse) {
                Ok(begun) => scan.insert(begun),
                Err(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
            },
        };
        let advanced = scan.advance();
        if !matches!(advanced, Ok(true)) {
            self.over = true;
            return advanced.err().map(Err);
        }
        // Each stands on the key that it yielded last: between them lies what is left.
        let met = other.as_ref().is_some_and(|other| match reverse {
            true => scan.key() <= other.key(),
            false => scan.key() >= other.key(),
        });
        if met {
            self.over = true;
            return None;
        }
        Some(Ok((scan.key(), scan.value())))
    }

    fn yield_one(&mut self, reverse: bool) -> Option<Result<(Slice, Slice), Error>> {
        // Taken out while the scan is borrowed; making one anew costs nothing.
        let mut pieces = std::mem::take(&mut self.pieces);
        let item = self.borrow_one(reverse).map(|item| item.map(|(key, value)| pieces.pair(key, value)));
        self.pieces = pieces;
        item
    }
}

impl Iterator for Iter {
    type Item = Result<(Slice, Slice), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.yield_one(false)
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.yield_one(true)
    }
}

impl std::iter::FusedIterator for Iter {}

impl std::fmt::Debug for Iter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iter").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

/// Memory for what is yielded, in pieces that small keys and values share: an allocation for each would cost more than to read
/// it.
#[derive(Default)]
struct Pieces {
    room: BytesMut,
    piece_bytes: usize,
}

impl Pieces {
    /// Who looks at one entry only pays for little.
    const BYTES_MIN: usize = 512;
    /// Who keeps one entry of many keeps no more than this with it.
    const BYTES_MAX: usize = 4096;

    fn pair(&mut self, key: &[u8], value: &[u8]) -> (Slice, Slice) {
        let bytes = key.len() + value.len();
        if bytes > Self::BYTES_MAX / 4 {
            return (Slice::copy_of(key), Slice::copy_of(value));
        }
        if self.room.capacity() < bytes {
            self.piece_bytes = (self.piece_bytes * 2).clamp(Self::BYTES_MIN.max(bytes), Self::BYTES_MAX);
            self.room = BytesMut::with_capacity(self.piece_bytes);
        }
        self.room.extend_from_slice(key);
        let key = self.room.split().freeze();
        self.room.extend_from_slice(value);
        (Slice::new(key), Slice::new(self.room.split().freeze()))
    }
}

fn is_empty(bounds: &Bounds) -> bool {
    let start = bounds.0.as_ref().map(Vec::as_slice);
    let end = bounds.1.as_ref().map(Vec::as_slice);
    kv_core::store::KeyRange { start, end }.is_empty()
}
