//! Where the storage engine and the protocols meet.
//!
//! A store holds ordered *spaces* of keys. A [`Batch`] changes any number of them atomically; a [`View`] reads them. What a
//! commit returned is visible at once and durable later: [`Store::durable_sequence`] says up to where, and
//! [`Store::on_durable`] wakes whoever waits. The protocols never wait for a disk; they hold a reply back until the number
//! it depends on is durable.

mod batch;
#[cfg(any(test, feature = "conformance"))]
mod conformance;
mod error;
mod merge;
mod range;

pub use batch::{Batch, BatchIter, Operation};
#[cfg(any(test, feature = "conformance"))]
pub use conformance::conformance;
pub use error::{CommitError, Corrupt, Poisoned, StoreError};
pub use merge::{Fold, Folded, MergeOperator, SpaceOptions};
pub use range::{KeyRange, prefix_end};

use std::ops::ControlFlow;
use std::sync::Arc;

/// Names an ordered space of keys inside a store. Numbers below [`Space::RESERVED`] belong to the host of the store and
/// mean the same in every store; an engine may hand out the ones above it to spaces that it names itself.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Space(pub u32);

impl Space {
    /// Identity, schema, clock marks: small things a node keeps about itself.
    pub const META: Self = Self(0);
    /// Records of tables, in token order.
    pub const DATA: Self = Self(1);
    /// Registers of linearizable tables.
    pub const REGISTERS: Self = Self(2);
    /// Writes kept for peers that were away.
    pub const HINTS: Self = Self(3);
    /// The first number that a store may give out itself.
    pub const RESERVED: u32 = 256;
}

/// The place of a commit in the order of all commits of one store. Private to that store: it never decides between
/// versions of a record.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default)]
pub struct Sequence(pub u64);

/// From which end a scan goes.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Reverse,
}

/// What a scan calls with each key and value; breaking ends the scan.
pub type ScanFn<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// A consistent look at a store. Implemented by stores (the newest state at each call) and by snapshots (one state).
pub trait View {
    /// Calls `found` with the value under `key`, merges folded, and returns whether there was one. Borrowing instead of
    /// returning lets an engine hand out bytes of its cache without a copy.
    ///
    /// # Errors
    /// [`StoreError`]; `found` was not called.
    fn get(&self, space: Space, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError>;

    /// Calls `each` with every key and value in `range`, in order, until it breaks.
    ///
    /// # Errors
    /// [`StoreError`]; what was passed to `each` before is right, and nothing follows the error.
    fn scan(
        &self,
        space: Space,
        range: KeyRange<'_>,
        direction: Direction,
        each: &mut ScanFn<'_>,
    ) -> Result<(), StoreError>;
}

/// An ordered, atomic, eventually durable store.
pub trait Store: View + Send + Sync + 'static {
    /// The state at this moment, unchanged by later commits.
    fn snapshot(&self) -> Arc<dyn View + Send + Sync>;

    /// Applies all of `batch` or nothing. A put that expires is refused: the host decides when its records may go. On return it is visible to every reader and ordered before later commits; it
    /// survives a power cut only once [`Store::durable_sequence`] has reached the returned number.
    ///
    /// # Errors
    /// [`CommitError`]; nothing of the batch is visible.
    fn commit(&self, batch: &Batch) -> Result<Sequence, CommitError>;

    /// Asks that everything up to `through` become durable. Never blocks; requests that arrive while a sync runs are
    /// answered together by the next one.
    fn request_sync(&self, through: Sequence);

    /// Every commit up to the returned number is durable. Never goes back.
    ///
    /// # Errors
    /// [`Poisoned`] after a failed sync: nothing more will become durable until the store is reopened.
    fn durable_sequence(&self) -> Result<Sequence, Poisoned>;

    /// Registers what to call, from any thread, whenever [`Store::durable_sequence`] has moved or failed. Replaces the one
    /// registered before.
    fn on_durable(&self, wake: Arc<dyn Fn() + Send + Sync>);
}
