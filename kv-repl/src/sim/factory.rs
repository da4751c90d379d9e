//! Where the stores of simulated nodes come from.

use std::collections::BTreeMap;
use std::sync::Arc;

use kv_core::record::RecordJoin;
use kv_core::store::{Sequence, Space, SpaceOptions};
use kv_core::{MemStore, NodeId, Store};

/// Makes and breaks the stores of simulated nodes.
pub trait StoreFactory {
    /// Opens the store of a node: empty the first time, then with what survived. It has the spaces `META`, `DATA` and
    /// `HINTS`, and syncs only within [`StoreFactory::step`].
    fn open(&mut self, node: NodeId) -> Arc<dyn Store>;

    /// The power goes: what was not synced is lost, all or part of it as `chance` decides. The open store is of no use
    /// afterwards.
    fn crash(&mut self, node: NodeId, chance: u64);

    /// The process dies and the machine lives: every commit that returned survives.
    fn kill(&mut self, node: NodeId);

    /// The disk is replaced by an empty one.
    fn wipe(&mut self, node: NodeId);

    /// The disk is put back to how it was at the last [`StoreFactory::remember`].
    fn restore(&mut self, node: NodeId);

    /// Takes a copy of the durable content, for [`StoreFactory::restore`].
    fn remember(&mut self, node: NodeId);

    /// Does the work that the store would do in the background, syncs that were asked for among it. Returns whether there
    /// was any.
    fn step(&mut self, node: NodeId) -> bool;
}

/// Stores in memory.
#[derive(Default)]
pub struct MemStores {
    stores: BTreeMap<NodeId, Arc<MemStore>>,
    remembered: BTreeMap<NodeId, Arc<MemStore>>,
}

impl MemStores {
    /// No stores yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn store(&mut self, node: NodeId) -> &Arc<MemStore> {
        self.stores.entry(node).or_insert_with(|| Arc::new(empty()))
    }
}

fn empty() -> MemStore {
    let join = SpaceOptions { merge: Some(Arc::new(RecordJoin)) };
    let plain = SpaceOptions::default;
    MemStore::with_manual_sync([(Space::META, plain()), (Space::DATA, join), (Space::HINTS, plain())])
}

/// A store of its own with everything that `of` holds.
fn copy(of: &MemStore) -> MemStore {
    let copy = empty();
    let mut batch = kv_core::store::Batch::new();
    for space in [Space::META, Space::DATA, Space::HINTS] {
        let scanned = kv_core::View::scan(
            of,
            space,
            kv_core::store::KeyRange::ALL,
            kv_core::store::Direction::Forward,
            &mut |key, value| {
                batch.put(space, key, value);
                std::ops::ControlFlow::Continue(())
            },
        );
        scanned.expect("a store in memory reads");
    }
    if !batch.is_empty() {
        copy.commit(&batch).expect("a store in memory takes a batch");
    }
    copy.sync();
    copy
}

impl StoreFactory for MemStores {
    fn open(&mut self, node: NodeId) -> Arc<dyn Store> {
        Arc::<MemStore>::clone(self.store(node))
    }

    fn crash(&mut self, node: NodeId, chance: u64) {
        let store = self.store(node);
        // A prefix of what was under way may have reached the disk.
        if let (Ok(durable), Some(requested)) = (store.durable_sequence(), store.sync_requested()) {
            let under_way = requested.0.saturating_sub(durable.0);
            store.sync_through(Sequence(durable.0 + chance % (under_way + 1)));
        }
        store.crash();
    }

    fn kill(&mut self, node: NodeId) {
        // What a process handed to the system before it died is there when it comes back, durable or not; to a store in
        // memory that is a copy.
        let copy = copy(self.store(node));
        self.stores.insert(node, Arc::new(copy));
    }

    fn wipe(&mut self, node: NodeId) {
        self.stores.remove(&node);
    }

    fn restore(&mut self, node: NodeId) {
        if let Some(remembered) = self.remembered.get(&node) {
            let copy = copy(remembered);
            self.stores.insert(node, Arc::new(copy));
        }
    }

    fn remember(&mut self, node: NodeId) {
        let copy = copy(self.store(node));
        self.remembered.insert(node, Arc::new(copy));
    }

    fn step(&mut self, node: NodeId) -> bool {
        let store = self.store(node);
        let waiting = store
            .sync_requested()
            .is_some_and(|through| store.durable_sequence().is_ok_and(|durable| durable < through));
        if waiting {
            store.sync();
        }
        waiting
    }
}
