//! What becomes of a disk when the power is cut or the process dies.

use std::collections::{BTreeMap, VecDeque};

use super::super::locks::Locks;
use super::fault::Faults;
use super::inode::Inode;
use super::names::{InodeId, NAMES_GROUP};
use super::state::State;
use super::survival::{Lottery, Survival};

impl State {
    /// The unsynced changes in the order in which they happened: stamp, file or names, units.
    fn pending(&self) -> Vec<(u64, u64, u64)> {
        let names = self.names.pending().map(|stamp| (stamp, NAMES_GROUP, 1));
        let files = self.inodes.iter().flat_map(|(&id, inode)| inode.pending().map(move |(at, units)| (at, id, units)));
        let mut pending: Vec<_> = names.chain(files).collect();
        // Stable: what one call did keeps its order.
        pending.sort_by_key(|&(stamp, ..)| stamp);
        pending
    }

    pub(super) fn unsynced_units(&self) -> u64 {
        self.pending().iter().map(|&(_, _, units)| units).sum()
    }

    pub(super) fn unsynced_bytes(&self) -> u64 {
        self.inodes.values().map(Inode::pending_bytes).sum()
    }

    /// The disk that is found when the power comes back.
    pub(super) fn after_power_cut(&self, survival: Survival) -> Self {
        let mut lottery = Lottery::new(survival);
        let mut drawn: BTreeMap<u64, VecDeque<bool>> = BTreeMap::new();
        for (_, group, units) in self.pending() {
            let queue = drawn.entry(group).or_default();
            queue.extend((0..units).map(|_| lottery.draw(group)));
        }
        let mut survives = |group| drawn.get_mut(&group).and_then(VecDeque::pop_front).expect("drawn for every unit");
        let names = self.names.after_power_cut(|| survives(NAMES_GROUP));
        let mut inodes: BTreeMap<InodeId, Inode> = BTreeMap::new();
        for (_, &id) in names.live().files() {
            inodes.entry(id).or_insert_with(|| self.inode(id).after_power_cut(|| survives(id))).links += 1;
        }
        Self {
            names,
            inodes,
            inodes_made: self.inodes_made,
            capacity_bytes: self.capacity_bytes,
            random: self.random.clone(),
            ..Self::new(0)
        }
    }

    /// The disk as another process in the same boot finds it.
    pub(super) fn after_process_death(&self) -> Self {
        let mut state = Self { faults: Faults::default(), locks: Locks::default(), cut_at: None, ..self.clone() };
        for inode in state.inodes.values_mut() {
            inode.handles = 0;
        }
        state.calls = 0;
        state.moments = None;
        state.watched = None;
        state
    }

    /// A hash of what is durable: every name with its content.
    pub(super) fn durable_hash(&self) -> u64 {
        let tree = self.names.durable();
        let mut hash = 0;
        let mut mix = |bytes: &[u8]| hash = kv_core::hash::seeded(bytes, hash);
        for directory in tree.directories() {
            mix(directory.as_os_str().as_encoded_bytes());
        }
        for (path, &inode) in tree.files() {
            mix(path.as_os_str().as_encoded_bytes());
            let content = self.inode(inode).durable();
            mix(&content.length().to_le_bytes());
            content.for_each(&mut mix);
        }
        hash
    }
}
