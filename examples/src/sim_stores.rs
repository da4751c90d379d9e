//! The engine under the simulator: each node's store lies on a simulated disk, small enough that flushes, compactions and
//! torn logs are part of every run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kv_core::record::RecordJoin;
use kv_core::store::{Space, SpaceOptions};
use kv_core::{NodeId, Store};
use kv_lsm::disk::{SimDisk, Survival};
use kv_lsm::{Background, Database, LsmStore};
use kv_repl::sim::StoreFactory;

const MEMTABLE_BYTES: u64 = 32 << 10;
const CACHE_BYTES: u64 = 256 << 10;

/// Engines on simulated disks.
#[derive(Default)]
pub struct LsmStores {
    nodes: BTreeMap<NodeId, Machine>,
}

struct Machine {
    disk: SimDisk,
    open: Option<Arc<LsmStore>>,
    remembered: Option<SimDisk>,
}

impl LsmStores {
    /// No machines yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn machine(&mut self, node: NodeId) -> &mut Machine {
        self.nodes.entry(node).or_insert_with(|| Machine::with(SimDisk::new(node.0)))
    }
}

impl Machine {
    const fn with(disk: SimDisk) -> Self {
        Self { disk, open: None, remembered: None }
    }

    /// Goes on with `disk`. Whatever is still open on the old one can do nothing any more, not even close in order.
    fn replace(&mut self, disk: SimDisk) {
        self.disk.cut_power();
        self.open = None;
        self.disk = disk;
    }
}

impl StoreFactory for LsmStores {
    fn open(&mut self, node: NodeId) -> Arc<dyn Store> {
        let machine = self.machine(node);
        let builder = Database::builder(Path::new("/node"))
            .disk(machine.disk.clone())
            .background(Background::Manual)
            .memtable_bytes(MEMTABLE_BYTES)
            .log_segment_bytes(MEMTABLE_BYTES)
            .cache_bytes(CACHE_BYTES);
        let records = SpaceOptions { merge: Some(Arc::new(RecordJoin)) };
        let plain = SpaceOptions::default;
        let spaces =
            [(Space::META, "meta", plain()), (Space::DATA, "records", records), (Space::HINTS, "hints", plain())];
        let store = LsmStore::open(builder, &spaces).expect("a database opens after any power cut");
        let store = Arc::new(store);
        machine.open = Some(Arc::clone(&store));
        store
    }

    fn crash(&mut self, node: NodeId, chance: u64) {
        let machine = self.machine(node);
        machine.disk.cut_power();
        let after = machine.disk.reboot(Survival::Random(chance));
        machine.replace(after);
    }

    fn kill(&mut self, node: NodeId) {
        let machine = self.machine(node);
        let after = machine.disk.restart();
        machine.replace(after);
    }

    fn wipe(&mut self, node: NodeId) {
        self.machine(node).replace(SimDisk::new(node.0));
    }

    fn restore(&mut self, node: NodeId) {
        let machine = self.machine(node);
        if let Some(remembered) = &machine.remembered {
            let disk = remembered.restart();
            machine.replace(disk);
        }
    }

    fn remember(&mut self, node: NodeId) {
        let machine = self.machine(node);
        machine.remembered = Some(machine.disk.reboot(Survival::None));
    }

    fn step(&mut self, node: NodeId) -> bool {
        let Some(store) = &self.machine(node).open else { return false };
        let mut worked = false;
        while store.step().expect("a simulated disk without faults") {
            worked = true;
        }
        worked
    }
}
