//! What simulated nodes keep for each other, and whether it is within its bounds.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_core::hlc::Stamp;
use kv_core::key::RecordKey;
use kv_core::record::Record;
use kv_core::store::Space;
use kv_core::time::Millis;
use kv_core::{NodeId, View};

use super::{Host, World};
use crate::check::{CoverageLedger, FallbackLedger, HintTotals, Nodes};
use crate::comparison::Place;
use crate::config::Settings;
use crate::hint_status::HintStatus;
use crate::hints::{is_marked, keeps};

impl World {
    /// From now on nodes keep what replicas have missed: so many bytes each, delivered so fast. With no bytes all of it is
    /// owed instead.
    pub fn bound_hints(&mut self, bytes_max: u64, bytes_per_second: u64) {
        let settings = Settings {
            hinted_handoff: true,
            hint_bytes_max: bytes_max,
            hint_bytes_per_second: bytes_per_second.max(1),
            ..self.settings
        };
        self.set_hints(settings);
    }

    /// For how long nodes keep what they keep.
    pub fn age_hints(&mut self, age_max_ms: u64) {
        self.set_hints(Settings { hint_age_max: Millis(age_max_ms), ..self.settings });
    }

    fn set_hints(&mut self, settings: Settings) {
        self.settings = settings;
        for worker in self.nodes.values_mut().filter_map(|host| host.worker.as_mut()) {
            worker.core_mut().hints().bound(&settings);
        }
    }

    /// What a node keeps for others, if it runs.
    #[must_use]
    pub fn hints(&self, node: NodeId) -> HintStatus {
        self.status(node).map(|status| status.hints).unwrap_or_default()
    }

    /// Nothing that a node keeps of a place was born before.
    #[must_use]
    pub fn oldest_hint(&self, node: NodeId, place: Place) -> Option<Stamp> {
        self.nodes[&node].worker.as_ref()?.core().oldest_hint(place)
    }

    /// What became of what replicas have missed, in all lives of all nodes.
    #[must_use]
    pub const fn hint_totals(&self) -> HintTotals {
        self.hints.totals()
    }

    /// Hints over their bounds or in a wrong count, what was shed and is not owed, what was acknowledged and is neither
    /// held, nor kept, nor owed, and what fallbacks had promised to keep.
    pub fn wrong_hints(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (node, host) in &self.nodes {
            let (Some(worker), Some(store)) = (&host.worker, &host.store) else { continue };
            let what = worker.core().check_hints(&**store);
            wrong.extend(what.map(|what| format!("node {node}: {what}")));
        }
        wrong.extend(self.hints.unmarked(&Looking(&self.nodes)));
        wrong.extend(self.fallbacks.lost(&Looking(&self.nodes)));
        if self.settings.hinted_handoff {
            wrong.extend(self.coverage.uncovered(&Looking(&self.nodes)));
        }
        wrong
    }

    /// What fallbacks have promised to keep.
    #[must_use]
    pub const fn fallbacks(&self) -> &FallbackLedger {
        &self.fallbacks
    }

    /// What was acknowledged, and where it is.
    #[must_use]
    pub const fn coverage(&self) -> &CoverageLedger {
        &self.coverage
    }
}

struct Looking<'a>(&'a BTreeMap<NodeId, Host>);

impl Looking<'_> {
    fn view(&self, node: NodeId) -> Option<&dyn View> {
        Some(&**self.0.get(&node)?.store.as_ref()? as &dyn View)
    }
}

impl Nodes for Looking<'_> {
    fn is_marked(&self, node: NodeId, target: NodeId, place: Place) -> Option<bool> {
        Some(is_marked(self.view(node)?, target, place).expect("a simulated store reads"))
    }

    fn keeps(&self, node: NodeId, target: NodeId, key: &RecordKey, change: &Bytes) -> Option<bool> {
        let change = Record::decode(change).ok()?;
        Some(keeps(self.view(node)?, target, key, &change).expect("a simulated store reads"))
    }

    fn is_writing(&self, node: NodeId, key: &RecordKey) -> Option<bool> {
        Some(self.0.get(&node)?.worker.as_ref()?.core().is_writing(key))
    }

    fn placed(&self, key: &RecordKey) -> Option<(Place, Vec<NodeId>)> {
        let mut catalogs = self.0.values().filter_map(|host| host.worker.as_ref()?.core().shared.catalog.as_ref());
        let table = catalogs.find_map(|catalog| catalog.table(key.table()))?;
        let place = Place { table: key.table(), partition: table.layout.partition_of(key.token()) };
        let durable = table.options.is_replicated_durably();
        durable.then(|| (place, table.replicas_of(key.token()).to_vec()))
    }

    fn holds(&self, target: NodeId, key: &RecordKey, change: &Bytes) -> Option<bool> {
        // A storage that replaced another one gets by itself what it lacks.
        let shared = &self.0.get(&target)?.worker.as_ref()?.core().shared;
        shared.catalog.as_ref()?.table(key.table())?;
        if shared.lacks(key) {
            return None;
        }
        let change = Record::decode(change).ok()?;
        let mut held = None;
        let read =
            self.view(target)?.get(Space::DATA, key.as_bytes(), &mut |bytes| held = Record::decode_slice(bytes).ok());
        read.expect("a simulated store reads");
        // What is settled was at every replica, and may have been forgotten since.
        let settled = shared.floors.of_key(shared.catalog.as_ref(), key).level.settled;
        if change.versions().iter().any(|(_, version)| version.birth <= settled) {
            let is_new = |(dot, version): &(_, kv_core::record::Version)| {
                version.birth > settled && !held.as_ref().is_some_and(|held| held.context().contains(*dot))
            };
            return Some(!change.versions().iter().any(is_new));
        }
        Some(held.is_some_and(|held| held.join(&change).is_ok_and(|joined| joined == held)))
    }
}
