//! Pauses that are drawn by chance, so that what nodes began together does not go on together.

use kv_core::NodeId;
use kv_core::hash::seeded;
use kv_core::time::Millis;

use crate::comparison::Place;

/// A number for a comparison of `place` with `peer`, another one at each time and with each seed.
pub(super) fn draw(seed: u64, place: Place, peer: NodeId, now: Millis) -> u64 {
    let mut bytes = [0; 24];
    bytes[..4].copy_from_slice(&place.table.0.to_le_bytes());
    bytes[4..8].copy_from_slice(&place.partition.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&peer.0.to_le_bytes());
    bytes[16..].copy_from_slice(&now.0.to_le_bytes());
    seeded(&bytes, seed)
}
