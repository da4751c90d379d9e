//! Writing a table.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kv_core::codec::put_prefixed;

use super::block::{BlockBuilder, bytes_of_one, encode_one};
use super::filter;
use super::format::{Footer, Handle, Origin, Properties, seal_raw, store_block, written_with};
use super::keeper::{Keeper, Warming};
use super::meta::{TableMeta, Upper};
use crate::blob::format::Pointer;
use crate::blob::meta::BlobUse;
use crate::cache::TableBlocks;
use crate::disk::{Disk, File, OpenMode};
use crate::error::Error;
use crate::files;
use crate::identity::file_identity;
use crate::internal_key::{Kind, Trailer, split_expiry};
use crate::keyspace_options::stored::StoredOptions;
use crate::options::{Compression, Config};
use crate::range_delete::RangeDelete;

/// Bytes are handed to the disk in runs of about this size.
const RUN_BYTES: usize = 256 * 1024;

/// Levels above this one are rewritten too soon for compression to be worth it.
const COMPRESSED_LEVELS: usize = 2;

#[derive(Copy, Clone, Debug)]
pub(crate) struct TableSettings {
    pub(crate) keyspace: u32,
    pub(crate) block_bytes: usize,
    pub(crate) compression: Compression,
    pub(crate) filter_bits_per_key: u8,
    /// Identity of the database, from which that of the table is made.
    pub(crate) database: u64,
    /// Only to break rule E1.
    pub(crate) unsynced: bool,
}

impl TableSettings {
    /// Those of a table of `level`, from what the keyspace says and, where it says nothing, the database.
    pub(crate) fn new(config: &Config, options: &StoredOptions, database: u64, keyspace: u32, level: usize) -> Self {
        let compression = match options.compression.as_deref() {
            Some(by_level) => by_level.get(level).or(by_level.last()).copied().unwrap_or(Compression::None),
            None if level < COMPRESSED_LEVELS => Compression::None,
            None => config.compression,
        };
        Self {
            keyspace,
            block_bytes: options.block_bytes.map_or(config.block_bytes, |bytes| bytes as usize),
            compression,
            filter_bits_per_key: options.filter_bits_per_key.unwrap_or(filter::BITS_PER_KEY),
            database,
            unsynced: false,
        }
    }
}

/// A table that was written.
pub(crate) struct Finished {
    pub(crate) meta: TableMeta,
    /// Those of its blocks that are in the cache, if any are.
    pub(crate) warm: Option<TableBlocks>,
}

/// Takes versions in order and writes them to a new file.
pub(crate) struct TableWriter {
    file: Arc<dyn File>,
    path: std::path::PathBuf,
    number: u64,
    identity: u64,
    settings: TableSettings,
    pending: Vec<u8>,
    written: u64,
    block: BlockBuilder,
    scratch: Vec<u8>,
    index: BlockBuilder,
    keeper: Keeper,
    hashes: Vec<u64>,
    /// By number of the blob file, bytes of the records that entries point to.
    blobs: BTreeMap<u64, u64>,
    range_deletes: Vec<RangeDelete>,
    properties: Properties,
    first_key: Option<Arc<[u8]>>,
    last_key: Vec<u8>,
}

impl TableWriter {
    /// Creates the file of table `number`.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn create(
        disk: &dyn Disk,
        directory: &Path,
        number: u64,
        settings: TableSettings,
    ) -> Result<Self, Error> {
        let path = files::table(directory, number);
        let file = disk.open(&path, OpenMode::CreateNew).map_err(|error| Error::io("create", &path, error))?;
        Ok(Self {
            file,
            path,
            number,
            identity: file_identity(settings.database, number),
            settings,
            pending: Vec::with_capacity(RUN_BYTES + RUN_BYTES / 4),
            written: 0,
            block: BlockBuilder::default(),
            scratch: Vec::new(),
            index: BlockBuilder::default(),
            keeper: Keeper::default(),
            hashes: Vec::new(),
            blobs: BTreeMap::new(),
            range_deletes: Vec::new(),
            properties: Properties { keyspace: settings.keyspace, sequence_min: u64::MAX, ..Properties::default() },
            first_key: None,
            last_key: Vec::new(),
        })
    }

    /// Notes where the table comes from.
    pub(crate) fn of(mut self, origin: &Origin) -> Self {
        self.properties.origin = origin.clone();
        self
    }

    /// Puts blocks into the cache as they are written.
    pub(crate) fn warming(mut self, warming: &Warming) -> Self {
        self.keeper = Keeper::new(warming);
        self
    }

    /// Adds a version behind all that were added before.
    ///
    /// # Errors
    /// The disk's; the file is then of no use.
    pub(crate) fn push(&mut self, key: &[u8], trailer: Trailer, value: &[u8]) -> Result<(), Error> {
        if self.first_key.is_none() || self.last_key != key {
            self.hashes.push(filter::hash(key));
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
            self.first_key.get_or_insert_with(|| key.into());
        }
        if trailer.is_separated() {
            let pointer = Pointer::decode(split_expiry(trailer, value).1);
            let pointer = pointer.map_err(|error| Error::corrupt(&self.path, self.bytes(), error.what))?;
            *self.blobs.entry(pointer.file).or_default() += u64::from(pointer.record_bytes);
        }
        self.count(trailer.sequence());
        self.properties.entries += 1;
        self.properties.deletes += u64::from(trailer.kind() == Kind::Delete);
        self.properties.merges += u64::from(trailer.kind() == Kind::Merge);
        if let (Some(expire_at), _) = split_expiry(trailer, value) {
            self.properties.expiring.add(expire_at);
        }
        self.properties.key_value_bytes += (key.len() + value.len()) as u64;
        if self.block.is_empty() && bytes_of_one(key, value) >= self.settings.block_bytes {
            // Large values are copied once.
            return self.add_block(key, trailer, &mut |out| encode_one([key, &[]], trailer, value, out));
        }
        self.block.push(key, trailer, value);
        if self.block.bytes() >= self.settings.block_bytes { self.finish_block() } else { Ok(()) }
    }

    /// Adds a deleted range.
    pub(crate) fn push_range_delete(&mut self, delete: RangeDelete) {
        self.count(delete.sequence);
        self.properties.range_deletes += 1;
        self.range_deletes.push(delete);
    }

    fn count(&mut self, sequence: u64) {
        self.properties.sequence_min = self.properties.sequence_min.min(sequence);
        self.properties.sequence_max = self.properties.sequence_max.max(sequence);
    }

    /// About how large the file would be now.
    pub(crate) fn bytes(&self) -> u64 {
        self.end() + self.block.bytes() as u64
    }

    fn finish_block(&mut self) -> Result<(), Error> {
        let mut block = std::mem::take(&mut self.block);
        let (last_key, last_trailer) = block.last();
        let last_key = last_key.to_vec();
        let result = self.add_block(&last_key, last_trailer, &mut |out| block.finish(out));
        self.block = block;
        result
    }

    /// Adds a block that ends at a place, and that `build` appends to what it is given.
    fn add_block(&mut self, last_key: &[u8], last: Trailer, build: &mut dyn FnMut(&mut Vec<u8>)) -> Result<(), Error> {
        let stored = if self.settings.compression == Compression::None {
            let (begin, offset) = (self.pending.len(), self.end());
            build(&mut self.pending);
            self.keeper.keep(last_key, last, &self.pending[begin..]);
            seal_raw(&mut self.pending, begin, self.identity, offset)
        } else {
            self.scratch.clear();
            build(&mut self.scratch);
            self.keeper.keep(last_key, last, &self.scratch);
            self.store(self.settings.compression)
        };
        let mut handle = [0; 16];
        handle[..8].copy_from_slice(&stored.offset.to_le_bytes());
        handle[8..].copy_from_slice(&stored.length.to_le_bytes());
        self.index.push(last_key, last, &handle);
        if self.pending.len() >= RUN_BYTES { self.hand_over() } else { Ok(()) }
    }

    /// Where the next block begins.
    fn end(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Appends the payload in `scratch` as a block.
    fn store(&mut self, compression: Compression) -> Handle {
        let offset = self.end();
        store_block(&mut self.pending, &self.scratch, compression, self.identity, offset)
    }

    fn hand_over(&mut self) -> Result<(), Error> {
        let result = self.file.write_at(&self.pending, self.written);
        result.map_err(|error| Error::io("write", &self.path, error))?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Writes what is missing and syncs the file. Its name is not durable yet.
    ///
    /// # Errors
    /// The disk's; the file is then of no use. A failed sync is harmless: nothing names the file.
    pub(crate) fn finish(mut self) -> Result<Finished, Error> {
        assert!(self.properties.sequence_max > 0, "a table says something");
        if !self.block.is_empty() {
            self.finish_block()?;
        }
        let mut filter = Handle::default();
        if !self.hashes.is_empty() {
            self.scratch = filter::build(&self.hashes, self.settings.filter_bits_per_key);
            filter = self.store(Compression::None);
        }
        let mut range_deletes = Handle::default();
        if !self.range_deletes.is_empty() {
            self.scratch.clear();
            for delete in &self.range_deletes {
                self.scratch.extend_from_slice(&delete.sequence.to_le_bytes());
                put_prefixed(&mut self.scratch, &delete.start);
                put_prefixed(&mut self.scratch, &delete.end);
            }
            range_deletes = self.store(self.settings.compression);
        }
        self.scratch.clear();
        self.index.finish(&mut self.scratch);
        let index = self.store(Compression::None);
        self.scratch.clear();
        self.properties.encode(&mut self.scratch);
        let properties = self.store(Compression::None);
        let footer = Footer {
            index,
            filter,
            range_deletes,
            properties,
            identity: self.identity,
            format: written_with(self.settings.compression),
        };
        footer.encode(&mut self.pending);
        self.hand_over()?;
        if !self.settings.unsynced {
            self.file.sync().map_err(|error| Error::io("sync", &self.path, error))?;
        }
        let warm = self.keeper.take();
        Ok(Finished { meta: self.meta(), warm })
    }

    fn meta(self) -> TableMeta {
        let last = self.first_key.is_some().then(|| Upper { key: self.last_key.as_slice().into(), inclusive: true });
        let ends = self.range_deletes.iter().map(|delete| Upper { key: Arc::clone(&delete.end), inclusive: false });
        let starts = self.range_deletes.iter().map(|delete| Arc::clone(&delete.start));
        TableMeta {
            number: self.number,
            identity: self.identity,
            format: written_with(self.settings.compression),
            bytes: self.written,
            entries: self.properties.entries,
            deletes: self.properties.deletes,
            range_deletes: self.properties.range_deletes,
            expiring: self.properties.expiring,
            sequence_min: self.properties.sequence_min,
            sequence_max: self.properties.sequence_max,
            lower: starts.chain(self.first_key.clone()).min().expect("a table says something"),
            blobs: self.blobs.into_iter().map(|(number, bytes)| BlobUse { number, bytes }).collect(),
            upper: last.into_iter().chain(ends).reduce(Upper::max).expect("a table says something"),
        }
    }
}
