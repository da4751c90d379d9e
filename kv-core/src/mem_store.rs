//! An ordered [`Store`] in memory, with durability modelled so that a simulator can take it away.
//!
//! Nothing here touches a disk. What a store promises about power cuts is played out instead: by default
//! [`Store::request_sync`] makes every commit durable at once; with [`MemStore::with_manual_sync`] the caller says when a
//! sync completes, how far it reached, that it failed, and when the power goes.
//!
//! It has no bound and evicts nothing: what the protocols store (versions, tombstones, promises) must never vanish, or anti-entropy
//! would send back what eviction took. What may vanish goes into a [`Cache`](crate::Cache), which is not a store.
//!
//! Cost: a commit takes O(log n) per operation while no snapshot is alive. A snapshot shares the ordered maps; the first
//! commit to a space after it copies that space's map once (keys and values are shared, not copied).

mod entries;
mod ordered_key;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::limits::{STORE_KEY_BYTES_MAX, STORE_VALUE_BYTES_MAX};
use crate::store::{
    Batch, CommitError, Direction, KeyRange, Operation, Poisoned, ScanFn, Sequence, Space, SpaceOptions, Store,
    StoreError, View,
};
use crate::time::{Millis, WallClock};
use entries::{Entries, Entry};

type Wake = Arc<dyn Fn() + Send + Sync>;

/// An ordered store in memory. See the [module](self) for what "durable" means here.
pub struct MemStore {
    state: RwLock<State>,
    clock: WallClock,
    /// Whether syncs complete only when the owner says so.
    manual_sync: bool,
}

struct State {
    spaces: BTreeMap<Space, Arc<Entries>>,
    last: Sequence,
    durable: Sequence,
    /// The highest number a sync was asked for.
    requested: Sequence,
    /// How to take back each change after `durable`, oldest first. Kept only with manual sync.
    undo: VecDeque<Undo>,
    /// Shared with the snapshots of one life of the store, so that they fail with it; a crash begins a new life.
    poison: Arc<OnceLock<Poisoned>>,
    wake: Option<Wake>,
}

/// What one change replaced.
struct Undo {
    sequence: Sequence,
    space: Space,
    key: Box<[u8]>,
    before: Option<Entry>,
}

impl MemStore {
    /// An empty store with these spaces. [`Store::request_sync`] makes every commit durable before it returns, and calls
    /// the registered wake on the caller's thread.
    #[must_use]
    pub fn new(spaces: impl IntoIterator<Item = (Space, SpaceOptions)>) -> Self {
        let spaces = spaces.into_iter().map(|(space, options)| (space, Arc::new(Entries::new(options)))).collect();
        Self {
            state: RwLock::new(State {
                spaces,
                last: Sequence::default(),
                durable: Sequence::default(),
                requested: Sequence::default(),
                undo: VecDeque::new(),
                poison: Arc::default(),
                wake: None,
            }),
            clock: Arc::new(|| Millis::ZERO),
            manual_sync: false,
        }
    }

    /// An empty store of which nothing becomes durable before [`MemStore::sync`] or [`MemStore::sync_through`]. It keeps
    /// what every later change replaced, so memory grows with the writes since the last sync.
    #[must_use]
    pub fn with_manual_sync(spaces: impl IntoIterator<Item = (Space, SpaceOptions)>) -> Self {
        Self { manual_sync: true, ..Self::new(spaces) }
    }

    /// Takes the wall time of complete folds from `clock`: a read of the store folds at the time of the read, a snapshot
    /// at the time it was taken. Without a clock that time is [`Millis::ZERO`], at which nothing has expired.
    #[must_use]
    pub fn with_clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// The highest number a sync was asked for that is not durable yet: whether, and how far, a sync is owed.
    #[must_use]
    pub fn sync_requested(&self) -> Option<Sequence> {
        let state = self.read();
        (state.requested > state.durable).then_some(state.requested)
    }

    /// A sync of everything committed so far completes, and the wake is called. Without effect on a poisoned store.
    pub fn sync(&self) {
        self.sync_through(Sequence(u64::MAX));
    }

    /// A sync that had covered the commits up to `through` completes: later ones, made while it ran, stay volatile. The
    /// wake is called when the durable number moved. Without effect on a poisoned store.
    pub fn sync_through(&self, through: Sequence) {
        let wake = {
            let mut state = self.write();
            if state.advance_durable(through) { state.wake.clone() } else { None }
        };
        if let Some(wake) = wake {
            wake();
        }
    }

    /// A sync fails: the store is poisoned for `reason` and the wake is called. From here on commits and reads, those of
    /// living snapshots included, fail until [`MemStore::crash`]. The first reason stays.
    pub fn fail_syncs(&self, reason: impl Into<String>) {
        let wake = {
            let state = self.read();
            let _ = state.poison.set(Poisoned { reason: reason.into() });
            state.wake.clone()
        };
        if let Some(wake) = wake {
            wake();
        }
    }

    /// The power goes and comes back: every commit after the durable number is gone, and so are the poison, the wake and
    /// the requests of the process that died. Snapshots it took stay as they were.
    ///
    /// # Panics
    /// When the store was not made by [`MemStore::with_manual_sync`]: it did not keep what a crash takes back.
    pub fn crash(&self) {
        assert!(self.manual_sync, "only a store with manual sync knows what was not durable");
        let mut state = self.write();
        while let Some(Undo { space, key, before, .. }) = state.undo.pop_back() {
            state.entries_mut(space).put_back(&key, before);
        }
        state.last = state.durable;
        state.requested = state.durable;
        state.poison = Arc::default();
        state.wake = None;
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("no holder of the lock panics, unless a merge operator broke its contract")
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect("no holder of the lock panics, unless a merge operator broke its contract")
    }
}

impl State {
    fn check_poison(&self) -> Result<(), Poisoned> {
        self.poison.get().map_or(Ok(()), |poisoned| Err(poisoned.clone()))
    }

    fn entries(&self, space: Space) -> Result<&Arc<Entries>, StoreError> {
        self.spaces.get(&space).ok_or(StoreError::UnknownSpace(space.0))
    }

    /// Copies the space's map if a snapshot shares it.
    fn entries_mut(&mut self, space: Space) -> &mut Entries {
        Arc::make_mut(self.spaces.get_mut(&space).expect("the space was checked before anything changed"))
    }

    /// Whether the durable number moved.
    fn advance_durable(&mut self, through: Sequence) -> bool {
        let through = through.min(self.last);
        if self.poison.get().is_some() || through <= self.durable {
            return false;
        }
        self.durable = through;
        let kept_from = self.undo.partition_point(|undo| undo.sequence <= through);
        self.undo.drain(..kept_from);
        true
    }

    fn check(&self, operation: &Operation<'_>) -> Result<(), CommitError> {
        let entries = self.entries(operation.space())?;
        match operation {
            Operation::Put { key, value, .. } => {
                check_key(key)?;
                check_value(value)
            }
            Operation::PutExpiring { space, .. } => Err(CommitError::Expiring(space.0)),
            Operation::Merge { space, key, operand } => {
                if !entries.can_merge() {
                    return Err(CommitError::NoMergeOperator(space.0));
                }
                check_key(key)?;
                check_value(operand)
            }
            Operation::Delete { key, .. } => check_key(key),
            Operation::DeleteRange { start, end, .. } => {
                check_key(start)?;
                check_key(end)
            }
        }
    }

    fn apply(&mut self, operation: Operation<'_>, keep_undo: bool) {
        let space = operation.space();
        let sequence = self.last;
        let entries = self.entries_mut(space);
        let (key, before) = match operation {
            Operation::Put { key, value, .. } => (key, entries.put(key, value)),
            Operation::PutExpiring { .. } => unreachable!("refused when the batch was checked"),
            Operation::Merge { key, operand, .. } => (key, entries.merge(key, operand, keep_undo)),
            Operation::Delete { key, .. } => (key, entries.delete(key)),
            Operation::DeleteRange { start, end, .. } => {
                let removed = entries.delete_range(start, end).into_iter();
                let undo = removed.map(|(key, before)| Undo { sequence, space, key: key.into(), before: Some(before) });
                self.undo.extend(undo.filter(|_| keep_undo));
                return;
            }
        };
        if keep_undo {
            self.undo.push_back(Undo { sequence, space, key: key.into(), before });
        }
    }
}

fn check_key(key: &[u8]) -> Result<(), CommitError> {
    check_size("key", key.len(), STORE_KEY_BYTES_MAX)
}

fn check_value(value: &[u8]) -> Result<(), CommitError> {
    check_size("value", value.len(), STORE_VALUE_BYTES_MAX)
}

fn check_size(what: &'static str, bytes: usize, bytes_max: usize) -> Result<(), CommitError> {
    if bytes > bytes_max { Err(CommitError::TooLarge { what, bytes, bytes_max }) } else { Ok(()) }
}

impl View for MemStore {
    fn get(&self, space: Space, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        // The entry is taken out of the lock (its bytes are shared), so that `found` may use the store again.
        let (entry, operator) = {
            let state = self.read();
            state.check_poison()?;
            let entries = state.entries(space)?;
            (entries.entry(key).cloned(), entries.operator())
        };
        entry.map_or(Ok(false), |entry| entry.read(key, operator.as_deref(), (self.clock)(), found))
    }

    fn scan(
        &self,
        space: Space,
        range: KeyRange<'_>,
        direction: Direction,
        each: &mut ScanFn<'_>,
    ) -> Result<(), StoreError> {
        let entries = {
            let state = self.read();
            state.check_poison()?;
            Arc::clone(state.entries(space)?)
        };
        entries.scan(range, direction, (self.clock)(), each)
    }
}

impl Store for MemStore {
    fn snapshot(&self) -> Arc<dyn View + Send + Sync> {
        let state = self.read();
        Arc::new(Snapshot { spaces: state.spaces.clone(), as_of: (self.clock)(), poison: Arc::clone(&state.poison) })
    }

    /// As the trait says. An empty batch changes nothing and returns the number of the last commit.
    fn commit(&self, batch: &Batch) -> Result<Sequence, CommitError> {
        let mut state = self.write();
        state.check_poison()?;
        for operation in batch {
            state.check(&operation)?;
        }
        if !batch.is_empty() {
            state.last.0 += 1;
            for operation in batch {
                state.apply(operation, self.manual_sync);
            }
        }
        Ok(state.last)
    }

    fn request_sync(&self, through: Sequence) {
        let wake = {
            let mut state = self.write();
            state.requested = state.requested.max(through.min(state.last));
            let last = state.last;
            if !self.manual_sync && state.advance_durable(last) { state.wake.clone() } else { None }
        };
        if let Some(wake) = wake {
            wake();
        }
    }

    fn durable_sequence(&self) -> Result<Sequence, Poisoned> {
        let state = self.read();
        state.check_poison()?;
        Ok(state.durable)
    }

    fn on_durable(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.write().wake = Some(wake);
    }
}

impl fmt::Debug for MemStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.read();
        f.debug_struct("MemStore")
            .field("spaces", &state.spaces.len())
            .field("last", &state.last)
            .field("durable", &state.durable)
            .field("poisoned", &state.poison.get())
            .finish_non_exhaustive()
    }
}

/// One state of the store, as of one wall time.
struct Snapshot {
    spaces: BTreeMap<Space, Arc<Entries>>,
    as_of: Millis,
    poison: Arc<OnceLock<Poisoned>>,
}

impl Snapshot {
    fn entries(&self, space: Space) -> Result<&Entries, StoreError> {
        if let Some(poisoned) = self.poison.get() {
            return Err(poisoned.clone().into());
        }
        self.spaces.get(&space).map(Arc::as_ref).ok_or(StoreError::UnknownSpace(space.0))
    }
}

impl View for Snapshot {
    fn get(&self, space: Space, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        let entries = self.entries(space)?;
        entries.entry(key).map_or(Ok(false), |entry| entry.read(key, entries.operator().as_deref(), self.as_of, found))
    }

    fn scan(
        &self,
        space: Space,
        range: KeyRange<'_>,
        direction: Direction,
        each: &mut ScanFn<'_>,
    ) -> Result<(), StoreError> {
        self.entries(space)?.scan(range, direction, self.as_of, each)
    }
}

#[cfg(test)]
mod tests;
