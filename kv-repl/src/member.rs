//! A member of a cluster, as the operator names it.

use kv_core::NodeId;
use kv_ring::{Weight, Zone};

use crate::transport::PeerInfo;

/// A node that takes part in founding a cluster.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Member {
    /// Its name.
    pub node: NodeId,
    /// Where the transport finds it.
    pub address: String,
    /// The zone whose failure it shares with others. Replicas go to different zones where possible.
    pub zone: Zone,
    /// Its share of the data, relative to the others.
    pub weight: Weight,
}

impl Member {
    /// A member of weight one in the zone that everybody is in who names none.
    pub fn new(node: NodeId, address: impl std::fmt::Display) -> Self {
        Self { node, address: format!("{address}"), zone: Zone::new(""), weight: Weight(1) }
    }

    /// Places it in a zone.
    #[must_use]
    pub fn zone(mut self, zone: impl AsRef<str>) -> Self {
        self.zone = Zone::new(zone.as_ref());
        self
    }

    /// Gives it a share other than one.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = Weight(weight);
        self
    }

    pub(crate) fn peer_info(&self) -> PeerInfo {
        PeerInfo { node: self.node, address: self.address.clone() }
    }
}
