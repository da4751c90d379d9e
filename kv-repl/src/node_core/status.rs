//! What can be seen of a node: its status, and for simulations the state of its machines between two turns.

#[cfg(any(test, feature = "sim"))]
use kv_core::View;
use kv_core::hlc::Stamp;
use kv_core::time::Now;

use super::NodeCore;
#[cfg(any(test, feature = "sim"))]
use crate::admission::Limits;
use crate::catalog::Catalog;
use crate::comparison::Place;
#[cfg(any(test, feature = "sim"))]
use crate::coordinator::write::Writes;
#[cfg(any(test, feature = "sim"))]
use crate::hints::Hints;
use crate::stats::{BeliefStats, RoundTrips};
use crate::status::{LoadStatus, PeerStatus, Status};

impl NodeCore {
    /// How often nodes were believed to be down, and how long they took to answer.
    pub(crate) fn beliefs(&self) -> (BeliefStats, RoundTrips) {
        let contradicted = u64::from(self.gossip.claim().refutations);
        let trips = RoundTrips { pings: self.gossip.round_trips().clone(), reads: self.reads.round_trips().clone() };
        (BeliefStats { contradicted, ..self.shared.beliefs }, trips)
    }

    pub(crate) fn status(&self, now: Now) -> Status {
        let peer = |node| {
            let belief = self.gossip.belief(node, now.monotonic).unwrap_or_default();
            PeerStatus {
                node,
                reachable: self.shared.peers.is_reachable(node),
                boot: self.shared.peers.life(node).map_or(crate::identity::Boot(0), |life| life.boot),
                liveness: belief.liveness,
                refutations: belief.claim.refutations,
                latency: belief.latency.map(|(usual, _)| usual),
                latency_deviation: belief.latency.map(|(_, deviation)| deviation),
                phi: belief.phi,
            }
        };
        Status {
            node: self.shared.me.node,
            incarnation: self.shared.me.incarnation,
            boot: self.shared.me.boot,
            cluster: self.shared.cluster(),
            standing: self.shared.standing,
            patience: self.gossip.health_multiplier(),
            peers: self.shared.peers.nodes().map(peer).collect(),
            tables: self.shared.catalog.iter().flat_map(Catalog::tables).map(|table| table.name.clone()).collect(),
            dropped: self.shared.dropped,
            requests: self.admission.requests(),
            load: LoadStatus { stragglers: self.writes.stragglers(), ..self.admission.status() },
            extra: self.reads.extra() + self.writes.extra() + self.forwards.extra() + self.scans.extra(),
            repair: self.repairs.status(),
            caches: self.shared.caches.status(),
            hints: self.hints.status(),
            purge: self.repairs.purge_status(),
            importing: self.shared.imports.len(),
        }
    }

    /// What is wrong with a hash that is taken for right, between two turns.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn check_trees(&self, store: &dyn View) -> Option<String> {
        self.repairs.check(store, self.shared.cluster())
    }

    /// What is wrong with what is believed of hints, between two turns.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn check_hints(&self, store: &dyn View) -> Option<String> {
        self.hints.check(self.shared.catalog.as_ref(), store)
    }

    /// What is written.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) const fn writes(&mut self) -> &mut Writes {
        &mut self.writes
    }

    /// Whether this node coordinates a write of a record that is not over.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn is_writing(&self, key: &kv_core::key::RecordKey) -> bool {
        self.writes.is_under_way(key)
    }

    /// What is kept for others.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) const fn hints(&mut self) -> &mut Hints {
        &mut self.hints
    }

    /// Nothing that this node keeps of a place for others was born before: see [`Hints::oldest_birth`].
    pub(crate) fn oldest_hint(&self, place: Place) -> Option<Stamp> {
        self.hints.oldest_birth(place)
    }

    /// Other bounds from now on.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) const fn bound(&mut self, limits: Limits) {
        self.admission.bound(limits);
        self.writes.bound(limits);
    }
}
