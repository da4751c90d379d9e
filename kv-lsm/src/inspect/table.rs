//! What lies in one table.

use std::path::Path;
use std::sync::{Arc, Mutex};

use kv_core::time::Millis;

use crate::blob::format::Pointer;
use crate::disk::{Disk, OpenMode, read_exact_at};
use crate::error::Error;
use crate::internal_key::{self, split_expiry};
use crate::options::Compression;
use crate::table::describe::Description;
use crate::table::format::{BLOCK_TRAILER_BYTES, Handle, stored_as};
use crate::table::reader::{Table, TableEnvironment};
use crate::table::residents::TableMemory;

/// A table.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct TableFile {
    /// Length of the file.
    pub bytes: u64,
    /// Its identity, which every checksum in it is bound to.
    pub identity: u64,
    /// Version of the format.
    pub version: u32,
    /// Features of the format that it needs.
    pub features: u32,
    /// Where the index lies.
    pub index: Place,
    /// Where the filter lies.
    pub filter: Option<Place>,
    /// Where the deleted ranges lie.
    pub deleted_ranges_at: Option<Place>,
    /// Where the properties lie.
    pub properties_at: Place,
    /// What the table counted when it was written.
    pub properties: Properties,
    /// Its data blocks, in order.
    pub blocks: Vec<Block>,
    /// Its deleted ranges.
    pub deleted_ranges: Vec<DeletedRange>,
}

/// A part of a file.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Place {
    /// Where it begins.
    pub offset: u64,
    /// Its length, with its checksum.
    pub bytes: u64,
}

/// What a table counted when it was written.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Properties {
    /// Number of the keyspace.
    pub keyspace: u32,
    /// Versions of keys.
    pub entries: u64,
    /// How many of these are deletes.
    pub deletes: u64,
    /// How many are merge operands.
    pub merges: u64,
    /// How many expire.
    pub expiring: u64,
    /// Deleted ranges.
    pub range_deletes: u64,
    /// Bytes of keys and values, before compression.
    pub key_value_bytes: u64,
    /// The lowest number of an operation.
    pub sequence_min: u64,
    /// The highest.
    pub sequence_max: u64,
}

/// How a block is stored.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum BlockCompression {
    /// As it is.
    None,
    /// With LZ4.
    Lz4,
    /// With zstd.
    Zstd,
}

/// A data block.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Block {
    /// Where it lies.
    pub place: Place,
    /// How it is stored.
    pub compression: BlockCompression,
    /// Its length when it is decoded.
    pub decoded_bytes: u64,
    /// Versions of keys in it.
    pub entries: u64,
    /// The last key.
    pub last_key: Vec<u8>,
}

/// A deleted range of keys.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct DeletedRange {
    /// The first key.
    pub start: Vec<u8>,
    /// The first key that is not deleted.
    pub end: Vec<u8>,
    /// Number of the operation.
    pub sequence: u64,
}

/// What a version does to its key.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Kind {
    /// Removes it.
    Delete,
    /// Replaces its value.
    Put,
    /// Adds an operand for the merge operator.
    Merge,
}

/// One version of a key.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Version<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Number of the operation.
    pub sequence: u64,
    /// What it does.
    pub kind: Kind,
    /// From when on its value is gone.
    pub expire_at: Option<Millis>,
    /// The value or operand; of a value that is kept apart its first bytes, as many as the keyspace keeps inline.
    pub value: &'a [u8],
    /// Where the value lies when it is kept apart.
    pub blob: Option<BlobPointer>,
}

/// Where a value lies that is kept apart from its key.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct BlobPointer {
    /// Number of the blob file.
    pub file: u64,
    /// Where its record begins there.
    pub offset: u64,
    /// Length of the record.
    pub record_bytes: u64,
    /// Length of the value.
    pub value_bytes: u64,
}

pub(super) fn read(disk: &Arc<dyn Disk>, path: &Path, each: &mut dyn FnMut(&Version<'_>)) -> Result<TableFile, Error> {
    let description = Description::read(disk.as_ref(), path)?;
    let environment = TableEnvironment {
        disk: Arc::clone(disk),
        memory: Arc::new(TableMemory::new(0, 1)),
        graveyard: Arc::new(Mutex::new(Vec::new())),
    };
    // Its number would only matter to a cache.
    let table = Table::new(description.meta(0), path.to_path_buf(), environment);
    let deletes = table.stored_range_deletes(description.footer.range_deletes)?.into_iter().map(|delete| {
        DeletedRange { start: delete.start.to_vec(), end: delete.end.to_vec(), sequence: delete.sequence }
    });
    let file = disk.open(path, OpenMode::Read).map_err(|error| Error::io("open", path, error))?;
    let mut blocks = Vec::new();
    for index in 0..table.blocks()? {
        let (last_key, _, handle) = table.index_entry(index)?;
        let block = table.block(index, false)?;
        for at in 0..block.count() {
            let entry = block.entry(at);
            let key = [block.common_prefix(), entry.key].concat();
            each(&version(&key, entry.trailer, entry.value, path, handle)?);
        }
        // The block was whole, so its trailer is there, and of a kind that is known.
        let mut trailer = [0; BLOCK_TRAILER_BYTES];
        read_exact_at(file.as_ref(), &mut trailer, handle.offset + handle.length - BLOCK_TRAILER_BYTES as u64)
            .map_err(|error| Error::io("read", path, error))?;
        let (compression, decoded_bytes) = stored_as(&trailer);
        let compression = match compression {
            Some(Compression::Lz4) => BlockCompression::Lz4,
            Some(Compression::Zstd(_)) => BlockCompression::Zstd,
            Some(Compression::None) => BlockCompression::None,
            None => return Err(Error::corrupt(path, handle.offset, "expected a known kind of compression")),
        };
        blocks.push(Block {
            place: place(handle),
            compression,
            decoded_bytes: u64::from(decoded_bytes),
            entries: block.count() as u64,
            last_key,
        });
    }
    let (footer, properties) = (description.footer, description.properties);
    let present = |handle: Handle| (!handle.is_none()).then(|| place(handle));
    Ok(TableFile {
        bytes: description.bytes,
        identity: footer.identity,
        version: footer.format.version,
        features: footer.format.features,
        index: place(footer.index),
        filter: present(footer.filter),
        deleted_ranges_at: present(footer.range_deletes),
        properties_at: place(footer.properties),
        properties: Properties {
            keyspace: properties.keyspace,
            entries: properties.entries,
            deletes: properties.deletes,
            merges: properties.merges,
            expiring: properties.expiring.entries,
            range_deletes: properties.range_deletes,
            key_value_bytes: properties.key_value_bytes,
            sequence_min: properties.sequence_min,
            sequence_max: properties.sequence_max,
        },
        blocks,
        deleted_ranges: deletes.collect(),
    })
}

fn place(handle: Handle) -> Place {
    Place { offset: handle.offset, bytes: handle.length }
}

fn version<'a>(
    key: &'a [u8],
    trailer: internal_key::Trailer,
    stored: &'a [u8],
    path: &Path,
    block: Handle,
) -> Result<Version<'a>, Error> {
    let (expire_at, stored) = split_expiry(trailer, stored);
    let (value, blob) = if trailer.is_separated() {
        let pointer = Pointer::decode(stored).map_err(|error| Error::corrupt(path, block.offset, error.what))?;
        let blob = BlobPointer {
            file: pointer.file,
            offset: pointer.offset,
            record_bytes: u64::from(pointer.record_bytes),
            value_bytes: u64::from(pointer.value_bytes),
        };
        (pointer.prefix, Some(blob))
    } else {
        (stored, None)
    };
    let kind = match trailer.kind() {
        internal_key::Kind::Delete => Kind::Delete,
        internal_key::Kind::Put => Kind::Put,
        internal_key::Kind::Merge => Kind::Merge,
    };
    Ok(Version { key, sequence: trailer.sequence(), kind, expire_at, value, blob })
}
