//! surrealkv: every operation is a transaction; commits are futures, which are waited for.

use std::path::Path;

use surrealkv::{CompressionType, Durability, LSMIterator, Mode, Options, Transaction, Tree, TreeBuilder};
use tokio::runtime::{Builder, Runtime};

use super::{Direction, Each, Engine, Failure, Opening, Promise};
use crate::data::Key;

struct SurrealKv {
    tree: Tree,
    runtime: Runtime,
    opening: Opening,
}

/// Above every key of the bench.
const END: &[u8] = &[0xff; 32];

pub(super) fn open(directory: &Path, opening: &Opening) -> Result<impl Engine + use<>, Failure> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut options = Options::new()
        .with_path(directory.to_path_buf())
        .with_block_cache_capacity(opening.cache_bytes)
        .with_max_memtable_size(usize::try_from(opening.memtable_bytes)?)
        .with_target_file_size(opening.memtable_bytes)
        .with_compression_per_level(vec![
            CompressionType::None,
            CompressionType::None,
            CompressionType::SnappyCompression,
        ])
        .with_enable_vlog(opening.separate_values)
        // Recommended by its documentation for commits that sync.
        .with_wal_preallocation(opening.promise == Promise::Synced);
    options.max_bytes_for_level = 4 * opening.memtable_bytes;
    let tree = {
        let _context = runtime.enter();
        TreeBuilder::with_options(options).build()?
    };
    Ok(SurrealKv { tree, runtime, opening: *opening })
}

impl SurrealKv {
    fn write(&self, fill: impl FnOnce(&mut Transaction) -> surrealkv::Result<()>) -> Result<(), Failure> {
        let mut transaction = self.tree.begin_with_mode(Mode::WriteOnly)?;
        if self.opening.promise == Promise::Synced {
            transaction.set_durability(Durability::Immediate);
        }
        fill(&mut transaction)?;
        Ok(self.runtime.block_on(transaction.commit())?)
    }
}

impl Engine for SurrealKv {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        self.write(|transaction| transaction.set(key, value))
    }

    fn put_all(&self, entries: &[(Key, Vec<u8>)]) -> Result<(), Failure> {
        self.write(|transaction| entries.iter().try_for_each(|(key, value)| transaction.set(&key[..], &value[..])))
    }

    fn delete(&self, key: &[u8]) -> Result<(), Failure> {
        self.write(|transaction| transaction.delete(key))
    }

    fn get(&self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let transaction = self.tree.begin_with_mode(Mode::ReadOnly)?;
        let value = transaction.get(key)?;
        if let Some(value) = &value {
            found(value);
        }
        Ok(value.is_some())
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, direction: Direction, each: Each<'_>) -> Result<(), Failure> {
        let transaction = self.tree.begin_with_mode(Mode::ReadOnly)?;
        let mut entries = transaction.range(from, to.unwrap_or(END))?;
        match direction {
            Direction::Forward => entries.seek_first()?,
            Direction::Backward => entries.seek_last()?,
        };
        while entries.valid() {
            let step = each(entries.key().user_key(), &entries.value_ref()?);
            if step.is_break() {
                break;
            }
            match direction {
                Direction::Forward => entries.next()?,
                Direction::Backward => entries.prev()?,
            };
        }
        Ok(())
    }

    fn options(&self) -> String {
        format!(
            "max_memtable_size={} block_cache={} target_file_size={} max_bytes_for_level={} compression=[none,none,snappy] \
             vlog={} wal_preallocation={} durability={:?} and defaults: 64 KiB blocks, 10-bit filters",
            self.opening.memtable_bytes,
            self.opening.cache_bytes,
            self.opening.memtable_bytes,
            4 * self.opening.memtable_bytes,
            self.opening.separate_values,
            self.opening.promise == Promise::Synced,
            self.opening.promise,
        )
    }
}

impl Drop for SurrealKv {
    fn drop(&mut self) {
        // A bench that cannot close a rival has nothing better to do than to go on: what matters was checked before.
        let _ = self.runtime.block_on(self.tree.close());
    }
}
