//! What a replica with a new storage has yet to get from the others.
//!
//! While it lacks a partition it stores what is written there, and counts for nothing: it acknowledges no write, answers no read,
//! mints nothing, and compares with nobody who asks (rule P13). It compares what it holds with each of the others itself.
//! Once it has been found equal with all of them, whatever was acknowledged by more than the lost storage alone is here too,
//! at any level, and that is noted durably.
//!
//! A comparison is refused by a replica that does not know the new storage yet. So when the new one counts, all others know
//! it, and the storage before is in no quorum any more. While one of the others is away, the import waits for it.
//!
//! What was acknowledged by the lost storage alone (level One) is lost with it.

use std::collections::{BTreeMap, BTreeSet};

use kv_core::NodeId;
use kv_core::codec::{DecodeError, Reader, put_varint};
use kv_core::key::{RecordKey, TableId};
use kv_core::store::{Batch, Space};
use kv_ring::PartitionId;

use crate::catalog::{Catalog, TableSchema};
use crate::comparison::Place;

/// Where it is noted what was imported: the prefix, then table and partition in big-endian. The value is the generation of the storage.
const KEY_PREFIX: &[u8] = b"imported/";

/// The partitions that a node lacks.
#[derive(Default, Debug)]
pub(crate) struct Imports {
    /// Noted by this storage.
    imported: BTreeSet<Place>,
    /// With whom each has yet to be found equal.
    lacking: BTreeMap<Place, BTreeSet<NodeId>>,
}

/// A note in the store, if `key` is one of these: of which place, and by which generation of storages.
pub(crate) fn read_note(key: &[u8], value: &[u8]) -> Result<Option<(Place, u64)>, DecodeError> {
    let Some(place) = key.strip_prefix(KEY_PREFIX) else { return Ok(None) };
    let mut reader = Reader::new(place);
    let table = TableId(u32::from_be_bytes(reader.array()?));
    let partition = PartitionId(u32::from_be_bytes(reader.array()?));
    reader.finish()?;
    let mut reader = Reader::new(value);
    let generation = reader.varint()?;
    reader.finish()?;
    Ok(Some((Place { table, partition }, generation)))
}

fn note(place: Place, generation: u64) -> Batch {
    let mut value = Vec::new();
    put_varint(&mut value, generation);
    let key = [KEY_PREFIX, &place.table.0.to_be_bytes(), &place.partition.0.to_be_bytes()].concat();
    let mut batch = Batch::new();
    batch.put(Space::META, &key, &value);
    batch
}

impl Imports {
    /// What the node lacks, going by the notes of its earlier lives.
    pub(crate) fn restore(
        me: NodeId,
        catalog: Option<&Catalog>,
        notes: impl IntoIterator<Item = (Place, u64)>,
    ) -> Self {
        let generation = generation(me, catalog);
        let ours = notes.into_iter().filter(|(_, noted)| *noted == generation).map(|(place, _)| place);
        let mut imports = Self { imported: ours.collect(), lacking: BTreeMap::new() };
        for table in catalog.iter().flat_map(|catalog| catalog.tables()) {
            imports.learn(me, catalog, table);
        }
        imports
    }

    /// A table was added.
    pub(crate) fn learn(&mut self, me: NodeId, catalog: Option<&Catalog>, table: &TableSchema) {
        let is_first = generation(me, catalog) == 0 || sabotaged!(ServeBeforeImport);
        if is_first || !table.options.is_replicated_durably() {
            return;
        }
        for partition in table.layout.partitions_of(me) {
            let place = Place { table: table.id, partition };
            let others: BTreeSet<NodeId> =
                table.layout.replicas(partition).iter().copied().filter(|node| *node != me).collect();
            if !others.is_empty() && !self.imported.contains(&place) {
                self.lacking.insert(place, others);
            }
        }
    }

    /// How many partitions are lacking.
    pub(crate) fn len(&self) -> usize {
        self.lacking.len()
    }

    /// Whether this node lacks a place.
    pub(crate) fn lacks(&self, place: Place) -> bool {
        self.lacking.contains_key(&place)
    }

    /// Whether this node lacks the place of a key.
    pub(crate) fn lacks_key(&self, catalog: Option<&Catalog>, key: &RecordKey) -> bool {
        if self.lacking.is_empty() {
            return false;
        }
        let table = catalog.and_then(|catalog| catalog.table(key.table()));
        table.is_some_and(|table| {
            self.lacks(Place { table: table.id, partition: table.layout.partition_of(key.token()) })
        })
    }

    /// With whom each place that is lacking is to be compared.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = (NodeId, Place)> {
        self.lacking.iter().flat_map(|(place, others)| others.iter().map(|node| (*node, *place)))
    }

    /// A place was compared with a peer, and both hold the same. Returns what is to be stored, if it is lacking no more.
    pub(crate) fn compared(
        &mut self,
        me: NodeId,
        catalog: Option<&Catalog>,
        peer: NodeId,
        place: Place,
    ) -> Option<Batch> {
        let others = self.lacking.get_mut(&place)?;
        others.remove(&peer);
        if !others.is_empty() {
            return None;
        }
        self.lacking.remove(&place);
        self.imported.insert(place);
        Some(note(place, generation(me, catalog)))
    }
}

fn generation(me: NodeId, catalog: Option<&Catalog>) -> u64 {
    catalog.and_then(|catalog| catalog.founding().member(me)).map_or(0, |member| member.generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_and_other_keys_are_none() {
        let place = Place { table: TableId(7), partition: PartitionId(300) };
        let batch = note(place, 5);
        let kv_core::store::Operation::Put { key, value, .. } = batch.iter().next().expect("one") else {
            panic!("a note is put")
        };
        assert_eq!(read_note(key, value).unwrap(), Some((place, 5)));
        assert_eq!(read_note(b"founding", value).unwrap(), None);
        assert!(read_note(&key[..key.len() - 1], value).is_err());
    }
}
