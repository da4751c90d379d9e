//! The engine behind the interface that the protocols of the family use.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use kv_core::store::{
    Batch, CommitError, Direction, KeyRange, Operation, Poisoned, ScanFn, Sequence, Space, SpaceOptions, Store,
    StoreError, View,
};

use crate::builder::Builder;
use crate::commit::commit;
use crate::database::Database;
use crate::engine::Engine;
use crate::error::Error;
use crate::handle::Handle;
use crate::keyspace_options::KeyspaceOptions;
use crate::keyspaces::open_keyspace;
use crate::options::Durability;
use crate::read;
use crate::scan::Scan;
use crate::snapshot::Pin;
use crate::time::Moment;

/// A database as a [`Store`].
///
/// What each promise comes to:
///
/// - On return of [`Store::commit`] the batch is visible to every reader, and its bytes have been handed to the disk with one
///   write: on a real disk they lie in the kernel's cache and survive the death of the process. It never waits for a sync.
///   It waits for background work only when that is far behind: two full memtables unflushed, or 36 tables on level 0; before
///   that it is slowed smoothly.
/// - A commit survives a power cut once [`Store::durable_sequence`] has reached its number.
/// - [`Store::request_sync`] costs nothing when that is already so. Else one thread of the database syncs, or, with
///   [`Background::Manual`](crate::Background::Manual), the next [`LsmStore::step`] does. Requests that arrive meanwhile are
///   answered together by the sync after.
/// - After each sync or flush, and once when the store is poisoned, what [`Store::on_durable`] registered is called, outside all
///   locks, from the thread that synced or flushed.
pub struct LsmStore {
    handle: Arc<Handle>,
}

impl LsmStore {
    /// Opens a database, and creates it when there is none, with these spaces. A number names the same space ever after:
    /// name and presence of a merge operator are stored and checked.
    ///
    /// # Errors
    /// As [`Builder::open`] and [`Database::keyspace`], and [`Error::InvalidOptions`] for a number at or above
    /// [`Space::RESERVED`].
    pub fn open(builder: Builder, spaces: &[(Space, &str, SpaceOptions)]) -> Result<Self, Error> {
        if let Some((space, ..)) = spaces.iter().find(|(space, ..)| space.0 >= Space::RESERVED) {
            let what = format!("space {} is not below {}", space.0, Space::RESERVED);
            return Err(Error::InvalidOptions { what });
        }
        let operators: BTreeMap<_, _> =
            spaces.iter().filter_map(|(space, _, options)| Some((space.0, options.merge.clone()?))).collect();
        let database = builder.open_with(&operators)?;
        for (space, name, options) in spaces {
            let options = match &options.merge {
                Some(operator) => KeyspaceOptions::default().merge(Arc::clone(operator)),
                None => KeyspaceOptions::default(),
            };
            open_keyspace(database.handle(), name, Some(space.0), &options)?;
        }
        Ok(Self { handle: Arc::clone(database.handle()) })
    }

    /// The database behind the store.
    #[must_use]
    pub fn database(&self) -> Database {
        Database::new(Arc::clone(&self.handle))
    }

    /// As [`Database::step`].
    ///
    /// # Errors
    /// As [`Database::step`].
    pub fn step(&self) -> Result<bool, Error> {
        crate::background::step(&self.handle)
    }
}

impl std::fmt::Debug for LsmStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LsmStore").field("directory", &self.handle.directory).finish_non_exhaustive()
    }
}

fn get(
    engine: &Engine,
    moment: Option<Moment>,
    space: Space,
    key: &[u8],
    found: &mut dyn FnMut(&[u8]),
) -> Result<bool, StoreError> {
    let (version, sequence) = engine.pin(moment.map(|moment| moment.sequence));
    let keyspaces = engine.keyspaces.load();
    let rules = engine.read_rules(&keyspaces, space.0, sequence, engine.as_of(moment))?;
    Ok(read::get(&version, rules, key, &engine.counters.reads, found)?)
}

fn scan(
    engine: &Engine,
    moment: Option<Moment>,
    space: Space,
    range: KeyRange<'_>,
    direction: Direction,
    each: &mut ScanFn<'_>,
) -> Result<(), StoreError> {
    let (version, moment) = engine.pin_moment(moment);
    let version = Arc::clone(&version);
    let rules = engine.scan_rules(space.0, moment)?;
    if range.is_empty() {
        return Ok(());
    }
    let bounds = (range.start.map(<[u8]>::to_vec), range.end.map(<[u8]>::to_vec));
    let mut scan = Scan::new(&version, rules, bounds, direction == Direction::Reverse)?;
    while scan.advance()? {
        if let ControlFlow::Break(()) = each(scan.key(), scan.value()) {
            break;
        }
    }
    Ok(())
}

impl View for LsmStore {
    fn get(&self, space: Space, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        get(&self.handle, None, space, key, found)
    }

    fn scan(
        &self,
        space: Space,
        range: KeyRange<'_>,
        direction: Direction,
        each: &mut ScanFn<'_>,
    ) -> Result<(), StoreError> {
        scan(&self.handle, None, space, range, direction, each)
    }
}

impl Store for LsmStore {
    fn snapshot(&self) -> Arc<dyn View + Send + Sync> {
        Arc::new(StoreSnapshot { pin: Pin::new(Arc::clone(&self.handle)) })
    }

    fn commit(&self, batch: &Batch) -> Result<Sequence, CommitError> {
        // Rule E12: replicated records never use the engine's own expiry.
        let expiring = batch.iter().find(|operation| matches!(operation, Operation::PutExpiring { .. }));
        if let Some(operation) = expiring {
            return Err(CommitError::Expiring(operation.space().0));
        }
        Ok(Sequence(commit(&self.handle, batch, Durability::Buffered)?))
    }

    fn request_sync(&self, through: Sequence) {
        // What was never written cannot be waited for.
        let through = through.0.min(self.handle.snapshots.visible());
        if self.handle.syncer.request(through) {
            self.handle.sync_wanted.raise();
        }
    }

    fn durable_sequence(&self) -> Result<Sequence, Poisoned> {
        match self.handle.health.reason() {
            None => Ok(Sequence(self.handle.syncer.durable_sequence())),
            Some(reason) => Err(Poisoned { reason: reason.to_owned() }),
        }
    }

    fn on_durable(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.handle.syncer.set_wake(&wake);
    }
}

struct StoreSnapshot {
    pin: Pin,
}

impl View for StoreSnapshot {
    fn get(&self, space: Space, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        get(self.pin.handle(), Some(self.pin.moment()), space, key, found)
    }

    fn scan(
        &self,
        space: Space,
        range: KeyRange<'_>,
        direction: Direction,
        each: &mut ScanFn<'_>,
    ) -> Result<(), StoreError> {
        scan(self.pin.handle(), Some(self.pin.moment()), space, range, direction, each)
    }
}
