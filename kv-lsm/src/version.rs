//! The immutable whole of what can be read at one moment: memtables and tables of all keyspaces.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::blob::files::{BlobFiles, LiveBlob};
use crate::blob::reader::BlobFile;
use crate::files;
use crate::manifest::catalog::{BlobRecord, Catalog, LEVELS};
use crate::memtable::Memtable;
use crate::table::reader::{Table, TableEnvironment};

/// The tables of one keyspace: level 0 newest first, the others by key and without overlap.
#[derive(Clone, Default)]
pub(crate) struct Tree {
    pub(crate) levels: [Vec<Arc<Table>>; LEVELS],
    /// Where their separated values lie.
    pub(crate) blobs: BlobFiles,
    /// Those of the tables that have deleted ranges, so that nobody has to look for them.
    with_range_deletes: Vec<Arc<Table>>,
}

impl Tree {
    /// The table of a level below the top that speaks of `key`.
    pub(crate) fn table_for(tables: &[Arc<Table>], key: &[u8]) -> Option<usize> {
        let at = tables.partition_point(|table| table.meta().upper.is_before(key));
        (at < tables.len() && *tables[at].meta().lower <= *key).then_some(at)
    }

    pub(crate) fn with_range_deletes(&self) -> &[Arc<Table>] {
        &self.with_range_deletes
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.levels.iter().flatten()
    }
}

/// What a reader pins. One version covers the whole database, so that a batch across keyspaces is seen whole.
#[derive(Clone)]
pub(crate) struct Version {
    /// Takes the writes.
    pub(crate) active: Arc<Memtable>,
    /// Wait for their flush, newest first.
    pub(crate) sealed: Vec<Arc<Memtable>>,
    pub(crate) trees: BTreeMap<u32, Arc<Tree>>,
}

impl Version {
    /// All memtables, newest first.
    pub(crate) fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(&self.sealed)
    }

    /// The trees that `catalog` describes. Tables that were there before, or are `ready`, are kept, with what they have open.
    pub(crate) fn trees_of(
        &self,
        catalog: &Catalog,
        changed: impl Fn(u32) -> bool,
        directory: &Path,
        environment: &TableEnvironment,
        ready: &[Arc<Table>],
    ) -> BTreeMap<u32, Arc<Tree>> {
        let tree = |(&keyspace, levels): (&u32, &crate::manifest::catalog::Levels)| {
            let before = self.trees.get(&keyspace);
            if let Some(before) = before.filter(|_| !changed(keyspace)) {
                return (keyspace, Arc::clone(before));
            }
            let known: BTreeMap<u64, &Arc<Table>> = before
                .iter()
                .flat_map(|tree| tree.tables())
                .chain(ready)
                .map(|table| (table.meta().number, table))
                .collect();
            let table = |meta: &crate::table::meta::TableMeta| match known.get(&meta.number) {
                Some(&table) => Arc::clone(table),
                None => Arc::new(Table::new(meta.clone(), files::table(directory, meta.number), environment.clone())),
            };
            let levels = std::array::from_fn(|level| levels.0[level].iter().map(table).collect());
            let blob = |record: &BlobRecord| {
                let number = record.blob.number;
                let file = before.and_then(|tree| tree.blobs.get(number)).map_or_else(
                    || Arc::new(BlobFile::new(record.blob, files::blob(directory, number), environment.clone())),
                    Arc::clone,
                );
                (number, LiveBlob { file, live_bytes: record.live_bytes })
            };
            let by_number = catalog.blobs_of(keyspace).map(blob).collect();
            let blobs = BlobFiles { directory: directory.to_path_buf(), by_number };
            let mut tree = Tree { levels, blobs, with_range_deletes: Vec::new() };
            tree.with_range_deletes = tree.tables().filter(|table| table.meta().range_deletes > 0).cloned().collect();
            (keyspace, Arc::new(tree))
        };
        catalog.levels.iter().map(tree).collect()
    }
}
