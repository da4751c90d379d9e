//! What simulated nodes have promised and forgotten, and whether they were right to.

use std::ops::ControlFlow;

use kv_core::hlc::Stamp;
use kv_core::key::RecordKey;
use kv_core::store::{Direction, KeyRange, Space};
use kv_core::time::Millis;
use kv_core::version::Dot;
use kv_core::{NodeId, VersionVector};

use super::World;
use crate::check::FloorLedger;
use crate::comparison::{Level, Place};
use crate::config::Settings;
use crate::status::Standing;

impl World {
    /// From now on nodes forget what is deleted, and has expired, after so long.
    pub fn purge_after(&mut self, after_ms: u64) {
        self.settings = Settings { purge_after: (after_ms > 0).then_some(Millis(after_ms)), ..self.settings };
        for worker in self.nodes.values_mut().filter_map(|host| host.worker.as_mut()) {
            worker.core_mut().purge_after(&self.settings);
        }
        let nodes = self.nodes();
        nodes.into_iter().for_each(|node| self.schedule_turn(node, 10));
    }

    /// What a running node has promised of a place, and its level.
    #[must_use]
    pub fn floor(&self, node: NodeId, place: Place) -> Option<(Stamp, Level)> {
        let floor = self.nodes[&node].worker.as_ref()?.core().floors().of(place);
        Some((floor.promised, floor.level))
    }

    /// Where a key lies.
    #[must_use]
    pub fn place_of(&self, key: &RecordKey) -> Place {
        let table = self.table_of(key).expect("a table that a node has known");
        Place { table: key.table(), partition: table.layout.partition_of(key.token()) }
    }

    /// Up to where the place of a key was ever settled at any node.
    #[must_use]
    pub fn settled(&self, key: &RecordKey) -> Stamp {
        match self.table_of(key) {
            Some(table) => {
                let place = Place { table: key.table(), partition: table.layout.partition_of(key.token()) };
                self.floors.highest(place).settled
            }
            None => Stamp::ZERO,
        }
    }

    /// Those of the writes of a key that replicas may have forgotten. A dot that nobody was ever sent counts as such: whoever counts
    /// on from where a record was that is gone leaves out some.
    #[must_use]
    pub fn forgotten(&self, key: &RecordKey, seen: &VersionVector) -> VersionVector {
        let settled = self.settled(key);
        if settled == Stamp::ZERO {
            return VersionVector::new();
        }
        let dots = seen
            .spans()
            .iter()
            .flat_map(|span| (span.first..=span.last).map(|counter| Dot { actor: span.actor, counter }));
        dots.filter(|dot| self.ledger.birth(key, *dot).is_none_or(|birth| birth <= settled)).collect()
    }

    /// Floors that have fallen, or are above what a replica has promised, or above what somebody keeps.
    pub fn wrong_floors(&self) -> Vec<String> {
        let mut wrong = self.floors.violations().to_vec();
        for (place, settled, promised) in self.floors.settled() {
            let Some(table) = self.table_numbered(place.table) else { continue };
            for replica in table.layout.replicas(place.partition) {
                let counts = self.nodes[replica].worker.as_ref().is_some_and(|worker| {
                    let shared = &worker.core().shared;
                    let knows = shared.catalog.as_ref().is_some_and(|catalog| catalog.table(place.table).is_some());
                    knows && shared.standing == Standing::Serving && !shared.imports.lacks(place)
                });
                let promise = promised.get(replica).copied().unwrap_or_default();
                if counts && promise < settled {
                    wrong.push(format!(
                        "{place:?} is settled up to {settled:?}, and {replica} has promised {promise:?}"
                    ));
                }
            }
            for node in self.nodes.keys() {
                let oldest = self.oldest_hint(*node, place).filter(|oldest| *oldest > Stamp::ZERO);
                if let Some(oldest) = oldest.filter(|oldest| *oldest <= settled) {
                    wrong
                        .push(format!("{place:?} is settled up to {settled:?}, and {node} keeps a hint of {oldest:?}"));
                }
            }
        }
        wrong
    }

    /// How many records a running node has in its store.
    #[must_use]
    pub fn stored_records(&self, node: NodeId) -> usize {
        let Some(store) = &self.nodes[&node].store else { return 0 };
        let mut records = 0;
        let scanned = store.scan(Space::DATA, KeyRange::ALL, Direction::Forward, &mut |_, _| {
            records += 1;
            ControlFlow::Continue(())
        });
        scanned.expect("a simulated store reads");
        records
    }

    /// What nodes have said of their floors.
    #[must_use]
    pub const fn floors(&self) -> &FloorLedger {
        &self.floors
    }
}
