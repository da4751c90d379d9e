//! What every member knows of the cluster: who founded it with whom, and which tables there are.
//!
//! Members stay, but a member whose disk was lost may get another storage: each has a generation, which grows, and two
//! foundings that differ are joined member by member, the later generation first. Tables are only added, in one order, by the
//! member with the lowest name (the schema home), so that what a node holds is always a prefix of what the home holds.

mod founding;
mod table;

pub use self::founding::{Founding, FoundingMember};
pub use self::table::TableSchema;
pub(crate) use self::table::{decode_consistency, decode_options, encode_consistency, encode_options};

use std::collections::BTreeMap;
use std::sync::Arc;

use kv_core::NodeId;
use kv_core::codec::{DecodeError, Reader};
use kv_core::hash::seeded;
use kv_core::key::{RecordKey, TableId};

use crate::transport::PeerInfo;

/// Longest name of a table, address or zone, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// The founding and the tables, as one node holds them.
#[derive(Clone, Debug)]
pub struct Catalog {
    founding: Founding,
    tables: Vec<Arc<TableSchema>>,
    by_name: BTreeMap<String, TableId>,
}

impl Catalog {
    /// A cluster without tables.
    #[must_use]
    pub const fn new(founding: Founding) -> Self {
        Self { founding, tables: Vec::new(), by_name: BTreeMap::new() }
    }

    /// The founding.
    #[must_use]
    pub const fn founding(&self) -> &Founding {
        &self.founding
    }

    /// Storages were replaced.
    pub(crate) fn refound(&mut self, founding: Founding) {
        self.founding = founding;
    }

    /// Names the storages of these replicas: one as long as each has its first, and otherwise a number that differs when any of
    /// them does. Requests carry it, and nobody answers one that was made for other storages: so no quorum counts a storage
    /// that was replaced together with replicas that know of it (rule P13).
    #[must_use]
    pub fn epoch_of(&self, replicas: &[NodeId]) -> u64 {
        if self.founding.epoch == 1 || sabotaged!(IgnoreEpochs) {
            return 1;
        }
        let later =
            replicas.iter().filter_map(|node| self.founding.member(*node)).filter(|member| member.generation > 0);
        // A sum, because not everybody lists the replicas in the order of the layout.
        later.fold(1, |epoch: u64, member| {
            let mut bytes = [0; 24];
            bytes[..8].copy_from_slice(&member.member.node.0.to_le_bytes());
            bytes[8..16].copy_from_slice(&member.generation.to_le_bytes());
            bytes[16..].copy_from_slice(&member.incarnation.0.to_le_bytes());
            epoch.wrapping_add(seeded(&bytes, 1))
        })
    }

    /// The same for the replicas of a key; zero for one of no table.
    #[must_use]
    pub fn epoch_of_key(&self, key: &RecordKey) -> u64 {
        self.table(key.table()).map_or(0, |table| self.epoch_of(table.replicas_of(key.token())))
    }

    /// The tables in the order of their numbers.
    #[must_use]
    pub fn tables(&self) -> &[Arc<TableSchema>] {
        &self.tables
    }

    /// How many tables there are; also the highest table number.
    #[must_use]
    pub fn version(&self) -> u32 {
        u32::try_from(self.tables.len()).expect("table numbers are 32 bits")
    }

    /// Adds the next table.
    ///
    /// # Panics
    /// When it is not the next one.
    pub fn add(&mut self, table: Arc<TableSchema>) {
        assert_eq!(table.id, self.next_id(), "tables are added in the order of their numbers");
        self.by_name.insert(table.name.clone(), table.id);
        self.tables.push(table);
    }

    /// The number of the next table.
    #[must_use]
    pub fn next_id(&self) -> TableId {
        TableId(self.version() + 1)
    }

    /// The table of that number.
    #[must_use]
    pub fn table(&self, id: TableId) -> Option<&Arc<TableSchema>> {
        self.tables.get(usize::try_from(id.0).ok()?.checked_sub(1)?)
    }

    /// The table of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<TableSchema>> {
        self.table(*self.by_name.get(name)?)
    }

    /// Every member and where it is.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.founding.members.iter().map(|member| member.member.peer_info()).collect()
    }
}

pub(crate) fn text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let bytes = reader.prefixed(NAME_BYTES_MAX)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| reader.error("text that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use kv_core::time::Millis;
    use kv_core::version::Incarnation;

    use super::*;
    use crate::identity::ClusterId;
    use crate::member::Member;

    #[test]
    fn an_epoch_names_the_storages_of_replicas_in_any_order() {
        let member = |node| FoundingMember::new(Member::new(NodeId(node), "a"), Incarnation(node));
        let members = (1..=4).map(member).collect();
        let mut founding = Founding { cluster: ClusterId(1), epoch: 1, partitions: 1, members };
        let epoch = |founding: &Founding, nodes: [u64; 3]| Catalog::new(founding.clone()).epoch_of(&nodes.map(NodeId));
        assert_eq!(epoch(&founding, [1, 2, 3]), 1);
        founding.succeed(NodeId(1), Incarnation(10), Millis(5));
        assert_eq!(epoch(&founding, [2, 3, 4]), 1, "none of these was replaced");
        let once = epoch(&founding, [1, 2, 3]);
        founding.succeed(NodeId(2), Incarnation(20), Millis(6));
        let twice = epoch(&founding, [1, 2, 3]);
        assert!(once != 1 && twice != 1 && once != twice);
        for order in [[1, 3, 2], [2, 1, 3], [3, 2, 1]] {
            assert_eq!(epoch(&founding, order), twice);
        }
    }
}
