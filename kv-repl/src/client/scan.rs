//! Scans as requests: page by page, with a cursor that the client keeps.

use std::future::IntoFuture;
use std::ops::{Bound, RangeBounds};
use std::time::Duration;

use bytes::Bytes;

use super::Table;
use super::pending::{Convert, Pending, Prepared};
use crate::machine::{Outcome, Request};
use crate::quorum::Consistency;
use crate::scan::position::Position;
use crate::scan::{ENTRIES_MAX, Page, Scan, ScanError};

/// How many entries a page has when nobody says.
const ENTRIES: usize = 100;
/// And how many bytes of keys and records.
const BYTES: usize = 1 << 20;

/// Scans. A page is read as of its own time: a scan is no snapshot. A key that is there all the time and does not change is in exactly one
/// page; one that is written or deleted meanwhile is seen as it is when its page is read.
impl Table {
    /// A page of the whole table, from its beginning, in the order of the hash space: a key's neighbours are nowhere near it in any
    /// order that means something, except those of one partition key, which come together, ordered by their sort keys.
    pub fn scan(&self) -> ScanRequest {
        self.scan_at(Ok(Position::of_table(self.schema.id)))
    }

    /// A page of the keys with this partition key, in the order of their sort keys.
    pub fn scan_partition(&self, partition_key: impl Into<Bytes>) -> ScanRequest {
        self.scan_between(&partition_key.into(), (Bound::Unbounded, Bound::Unbounded))
    }

    /// The same, of sort keys in a range.
    pub fn scan_range<S: AsRef<[u8]>>(
        &self,
        partition_key: impl Into<Bytes>,
        sort_keys: impl RangeBounds<S>,
    ) -> ScanRequest {
        let bound = |bound: Bound<&S>| bound.map(|key| Bytes::copy_from_slice(key.as_ref()));
        let (from, until) = (bound(sort_keys.start_bound()), bound(sort_keys.end_bound()));
        self.scan_between(
            &partition_key.into(),
            (from.as_ref().map(|key| &key[..]), until.as_ref().map(|key| &key[..])),
        )
    }

    fn scan_between(&self, partition_key: &Bytes, range: (Bound<&[u8]>, Bound<&[u8]>)) -> ScanRequest {
        self.scan_at(Position::of_sort_keys(self.schema.id, partition_key, range).map_err(ScanError::from))
    }

    /// The page after the one that gave this cursor, at this node or another one, in this life or another one, of this program or another
    /// one.
    pub fn scan_on(&self, cursor: impl AsRef<[u8]>) -> ScanRequest {
        self.scan_at(Position::decode(cursor.as_ref(), self.schema.id).map_err(ScanError::from))
    }

    fn scan_at(&self, position: Result<Position, ScanError>) -> ScanRequest {
        ScanRequest {
            table: self.clone(),
            position,
            entries_max: ENTRIES,
            bytes_max: BYTES,
            consistency: self.schema.options.reads,
            patience: self.settings.deadline.as_duration(),
        }
    }
}

/// A page that nobody has begun to read. It does nothing until it is waited for.
#[must_use = "a request does nothing until it is waited for or awaited"]
pub struct ScanRequest {
    table: Table,
    position: Result<Position, ScanError>,
    entries_max: usize,
    bytes_max: usize,
    consistency: Consistency,
    patience: Duration,
}

impl ScanRequest {
    /// Most entries in the page: from 1 to [`ENTRIES_MAX`], 100 unless said otherwise.
    pub fn entries_max(mut self, entries_max: usize) -> Self {
        self.entries_max = entries_max.clamp(1, ENTRIES_MAX);
        self
    }

    /// Most bytes of keys and records in the page; a single larger one is a page of its own. A mebibyte unless said otherwise.
    pub const fn bytes_max(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// How many replicas of each key must agree, or be made to agree, and in which zones.
    pub const fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// How long to try. What was found by then is handed out, if it is anything.
    pub const fn deadline(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Starts it and blocks until the page is there.
    ///
    /// # Errors
    /// [`ScanError`].
    pub fn wait(self) -> Result<Page, ScanError> {
        self.start().wait()
    }

    fn start(self) -> Pending<Result<Page, ScanError>> {
        Pending::of(self.prepare())
    }

    fn prepare(self) -> Result<Prepared<Result<Page, ScanError>>, ScanError> {
        let Self { table, position, entries_max, bytes_max, consistency, patience } = self;
        let request = Request::Scan(Box::new(Scan { position: position?, entries_max, bytes_max, consistency }));
        let scanned = |outcome| match outcome {
            Some(Outcome::Scan(outcome)) => outcome,
            _ => Err(ScanError::Stopped),
        };
        Ok(Prepared { driver: table.driver, request, patience, convert: Convert::Plain(scanned) })
    }
}

impl IntoFuture for ScanRequest {
    type Output = Result<Page, ScanError>;
    type IntoFuture = Pending<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.start()
    }
}
