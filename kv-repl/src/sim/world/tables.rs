//! The tables of a simulated cluster. They stay known while no node is up to be asked.

use std::sync::Arc;

use kv_core::key::{RecordKey, TableId};

use super::World;
use crate::catalog::TableSchema;

impl World {
    /// A table, as a node has known it.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<Arc<TableSchema>> {
        self.tables.iter().find(|table| table.name == name).cloned()
    }

    /// The table of a key, as a node has known it.
    #[must_use]
    pub fn table_of(&self, key: &RecordKey) -> Option<Arc<TableSchema>> {
        self.table_numbered(key.table()).cloned()
    }

    pub(super) fn table_numbered(&self, table: TableId) -> Option<&Arc<TableSchema>> {
        self.tables.iter().find(|known| known.id == table)
    }
}

/// A node knows these tables, in the order in which they were added.
pub(super) fn note(known: &mut Vec<Arc<TableSchema>>, tables: &[Arc<TableSchema>]) {
    for (at, table) in tables.iter().enumerate() {
        match known.get_mut(at) {
            Some(noted) if noted.name == table.name => {}
            // A table whose creation was lost in a crash has left its number to another one.
            Some(noted) => *noted = Arc::clone(table),
            None => known.push(Arc::clone(table)),
        }
    }
}
