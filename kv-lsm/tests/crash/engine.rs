//! The engine as the battery drives it: on a given disk, in one thread, with everything small.

use std::path::Path;
use std::sync::Arc;

use kv_core::store::{Corrupt, Fold, Folded, MergeOperator};
use kv_lsm::disk::SimDisk;
use kv_lsm::{Background, Batch, Database, Durability, Error, Keyspace, KeyspaceOptions, WriteOptions};

use super::model::{Content, KEYSPACES, MERGED, Operation};

/// Where the database lies on every simulated disk.
pub(crate) const DIRECTORY: &str = "/db";

/// Sizes of a trace; small, so that a few writes go a long way.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Sizes {
    pub(crate) memtable_bytes: u64,
    pub(crate) log_segment_bytes: u64,
    pub(crate) manifest_bytes: u64,
}

impl Sizes {
    /// Everything rotates often.
    pub(crate) const SMALL: Self = Self { memtable_bytes: 2048, log_segment_bytes: 1024, manifest_bytes: 512 };
    /// Nothing rotates unless it is told to.
    pub(crate) const LARGE: Self =
        Self { memtable_bytes: 1 << 20, log_segment_bytes: 1 << 20, manifest_bytes: 1 << 20 };
}

/// A database with the keyspaces of the model.
pub(crate) struct Engine {
    pub(crate) database: Database,
    pub(crate) keyspaces: Vec<Keyspace>,
}

impl Engine {
    pub(crate) fn open(disk: &SimDisk, sizes: Sizes) -> Result<Self, Error> {
        Self::open_in(Path::new(DIRECTORY), disk, sizes)
    }

    pub(crate) fn open_in(directory: &Path, disk: &SimDisk, sizes: Sizes) -> Result<Self, Error> {
        let database = Database::builder(directory)
            .disk(disk.clone())
            .background(Background::Manual)
            .memtable_bytes(sizes.memtable_bytes)
            .log_segment_bytes(sizes.log_segment_bytes)
            .manifest_bytes(sizes.manifest_bytes)
            .level0_tables(2)
            .table_bytes(2048)
            .level1_bytes(8192)
            .block_bytes(256)
            .cache_bytes(1 << 16)
            .open()?;
        let mut keyspaces = Vec::new();
        for (index, name) in KEYSPACES.iter().enumerate() {
            let mut options = KeyspaceOptions::default();
            if index == MERGED {
                options = options.merge(Arc::new(Append));
            }
            keyspaces.push(database.keyspace(name, options)?);
        }
        Ok(Self { database, keyspaces })
    }

    pub(crate) fn write(&self, operations: &[Operation], durability: Durability) -> Result<(), Error> {
        let mut batch = Batch::new();
        for operation in operations {
            match operation {
                Operation::Put(keyspace, key, value) => batch.put(&self.keyspaces[*keyspace], key, value),
                Operation::Delete(keyspace, key) => batch.delete(&self.keyspaces[*keyspace], key),
                Operation::DeleteRange(keyspace, start, end) => {
                    batch.delete_range(&self.keyspaces[*keyspace], start.as_slice()..end.as_slice());
                }
                Operation::Merge(key, operand) => batch.merge(&self.keyspaces[MERGED], key, operand),
            }
        }
        self.database.write_with(batch, WriteOptions::durability(durability)).map(drop)
    }

    /// Everything there is, read forwards. Backward scans and point reads must agree.
    pub(crate) fn content(&self) -> Result<Content, Error> {
        let mut content = Content::new();
        for (index, keyspace) in self.keyspaces.iter().enumerate() {
            let mut forward = Vec::new();
            for entry in keyspace.iter() {
                let (key, value) = entry?;
                forward.push((key.to_vec(), value.to_vec()));
            }
            let mut backward = Vec::new();
            for entry in keyspace.iter().rev() {
                let (key, value) = entry?;
                backward.push((key.to_vec(), value.to_vec()));
            }
            backward.reverse();
            assert_eq!(forward, backward, "the two directions of a scan disagree");
            for (key, value) in forward {
                let found = keyspace.get(&key)?;
                assert_eq!(found.as_deref(), Some(value.as_slice()), "a point read disagrees with a scan");
                content.insert((index, key), value);
            }
        }
        Ok(content)
    }
}

/// Appends operands to the value: the order of operands shows, and nothing is ever the same twice.
pub(crate) struct Append;

impl MergeOperator for Append {
    fn fold(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        oldest_first: &[&[u8]],
        _how: Fold,
        out: &mut Vec<u8>,
    ) -> Result<Folded, Corrupt> {
        out.extend_from_slice(base.unwrap_or_default());
        for operand in oldest_first {
            out.extend_from_slice(operand);
        }
        Ok(Folded::Value)
    }
}
