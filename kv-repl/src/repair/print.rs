//! Hashes of records: what a tree adds up, and the short names by which two replicas speak of records.

use kv_core::hash::seeded;
use kv_core::record::Record;
use kv_core::time::Millis;

use crate::comparison::Entry;
use crate::identity::ClusterId;

/// Hashes records of one cluster. The seed is drawn from the cluster's name, which is random and no client knows, so
/// nobody can look for records whose hashes cancel out.
#[derive(Copy, Clone, Debug)]
pub(super) struct Printer {
    seed: u64,
    /// Only for a test that shows why it must not matter.
    wall: Millis,
}

/// Sets the two halves of a sum apart.
const HALVES: [u64; 2] = [0x6c6f_7765_7220_6861, 0x7570_7065_7220_6861];

impl Printer {
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    pub(super) const fn new(cluster: ClusterId, wall: Millis) -> Self {
        Self { seed: (cluster.0 >> 64) as u64 ^ cluster.0 as u64, wall }
    }

    /// The short names of a record: of its key, and of everything about it but its values. The header names each version by
    /// its dot, with birth and expiry, and what they have replaced, so equal headers are equal records. Whether a version has
    /// expired does not matter (rule P12, lesson 15): clocks differ, and what one replica took for expired the other would
    /// send again for ever.
    pub(super) fn entry(&self, key: &[u8], record: &[u8]) -> Entry {
        let mut header = Record::header_of(record).unwrap_or(record);
        if sabotaged!(HashOnlyLive) && Record::decode_slice(record).is_ok_and(|held| held.live(self.wall).is_empty()) {
            header = &[];
        }
        Entry { key: self.key(key), state: seeded(header, self.seed) }
    }

    /// The short name of a key.
    pub(super) fn key(&self, key: &[u8]) -> u64 {
        seeded(key, self.seed)
    }

    /// What the record adds to the hash of the branches it lies in.
    pub(super) fn summand(&self, entry: Entry) -> u128 {
        let mut both = [0; 16];
        both[..8].copy_from_slice(&entry.key.to_le_bytes());
        both[8..].copy_from_slice(&entry.state.to_le_bytes());
        let [low, high] = HALVES.map(|half| seeded(&both, self.seed ^ half));
        u128::from(high) << 64 | u128::from(low)
    }
}
