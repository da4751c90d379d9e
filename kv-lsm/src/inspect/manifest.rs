//! What the manifest says there is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_core::time::Millis;

use super::options::Options;
use crate::disk::{Disk, OpenMode, OverlayDisk};
use crate::error::Error;
use crate::files::{self, Found};
use crate::manifest::catalog::{BlobRecord, Catalog};
use crate::manifest::edit::KeyspaceRecord;
use crate::manifest::log as manifest_log;
use crate::recover::{must_exist, take_lock};
use crate::table::meta::TableMeta;

/// The manifest of a database, and which files of it lie in the directory.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Manifest {
    /// Its number.
    pub number: u64,
    /// The file.
    pub file: PathBuf,
    /// Identity of the database.
    pub database: u64,
    /// Where an edit begins that was not finished, when the file ends with one.
    pub torn_at: Option<u64>,
    /// The first segment of the log that is needed.
    pub log_segment: u64,
    /// Position in the log as a whole of the first byte of that segment.
    pub log_position: u64,
    /// Every operation up to this number is in tables.
    pub flushed_sequence: u64,
    /// File numbers from here on were never given out.
    pub next_file: u64,
    /// Keyspace numbers from here on were never given out.
    pub next_keyspace: u32,
    /// No read goes back to an earlier time.
    pub time: Millis,
    /// The keyspaces, by number.
    pub keyspaces: Vec<Keyspace>,
    /// The segments of the log that are needed and there, in order, with their lengths.
    pub log_files: Vec<(PathBuf, u64)>,
    /// Files of the engine that nothing needs: what was not finished, not removed yet, or is kept to be written again. They go
    /// when the database is next opened.
    pub unneeded_files: Vec<PathBuf>,
}

/// A keyspace.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Keyspace {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its options, as they were given last.
    pub options: Options,
    /// Its tables: those of level 0 newest first, those of each other level by key.
    pub levels: Vec<Vec<Table>>,
    /// Its blob files, by number.
    pub blobs: Vec<BlobFile>,
}

/// A table.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Table {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub file: PathBuf,
    /// Length of the file.
    pub bytes: u64,
    /// Versions of keys in it.
    pub entries: u64,
    /// How many of these are deletes.
    pub deletes: u64,
    /// Deleted ranges.
    pub range_deletes: u64,
    /// How many of the entries expire.
    pub expiring: u64,
    /// When the first and the last of these do; `None` when none does.
    pub expiry: Option<(Millis, Millis)>,
    /// The lowest and the highest number of an operation.
    pub sequences: (u64, u64),
    /// The first key that it speaks of.
    pub lower: Vec<u8>,
    /// Where its keys end.
    pub upper: UpperKey,
    /// Numbers of the blob files that it points into, each with the bytes of the records it points to.
    pub blobs: Vec<(u64, u64)>,
}

/// Where the keys of a table end.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum UpperKey {
    /// With this key.
    Included(Vec<u8>),
    /// Before this key: it is the end of a deleted range.
    Excluded(Vec<u8>),
}

/// A blob file.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct BlobFile {
    /// Its number.
    pub number: u64,
    /// The file.
    pub file: PathBuf,
    /// Length of the file.
    pub bytes: u64,
    /// Values in it.
    pub records: u64,
    /// Bytes of the records that tables point to.
    pub live_bytes: u64,
    /// Bytes of the others.
    pub garbage_bytes: u64,
}

pub(super) fn read(disk: &Arc<dyn Disk>, directory: &Path) -> Result<Manifest, Error> {
    // The lock of a disk that is only read.
    let disk = OverlayDisk::new(Arc::clone(disk));
    must_exist(&disk, directory)?;
    let _lock = take_lock(&disk, directory)?;
    let found = Found::look(&disk, directory)?;
    let Some(&number) = found.manifests.last() else {
        return Err(Error::NoDatabase { path: directory.to_path_buf() });
    };
    let read = manifest_log::read(&disk, directory, number)?;
    let catalog = read.catalog;
    let keyspaces = catalog.keyspaces.values().map(|record| keyspace(directory, &catalog, record));
    let needed = |&number: &u64| number >= catalog.log_segment;
    let log_files = found.logs.iter().copied().filter(needed).map(|number| files::log(directory, number));
    Ok(Manifest {
        number,
        file: files::manifest(directory, number),
        database: read.database,
        torn_at: read.torn_at,
        log_segment: catalog.log_segment,
        log_position: catalog.log_position,
        flushed_sequence: catalog.flushed_sequence,
        next_file: catalog.next_file,
        next_keyspace: catalog.next_keyspace,
        time: catalog.time,
        keyspaces: keyspaces.collect(),
        log_files: log_files.map(|path| with_length(&disk, path)).collect::<Result<_, Error>>()?,
        unneeded_files: unneeded(directory, &catalog, &found),
    })
}

fn with_length(disk: &dyn Disk, path: PathBuf) -> Result<(PathBuf, u64), Error> {
    let length = disk.open(&path, OpenMode::Read).and_then(|file| file.len());
    let length = length.map_err(|error| Error::io("open", &path, error))?;
    Ok((path, length))
}

fn unneeded(directory: &Path, catalog: &Catalog, found: &Found) -> Vec<PathBuf> {
    let tables: BTreeSet<u64> = catalog.tables().map(|table| table.number).collect();
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut add = |numbers: &[u64], is_needed: &dyn Fn(u64) -> bool, path: fn(&Path, u64) -> PathBuf| {
        paths.extend(numbers.iter().filter(|&&number| !is_needed(number)).map(|&number| path(directory, number)));
    };
    add(&found.logs, &|number| number >= catalog.log_segment, files::log);
    add(&found.spares, &|_| false, files::spare);
    add(&found.tables, &|number| tables.contains(&number), files::table);
    add(&found.blobs, &|number| catalog.blobs.contains_key(&number), files::blob);
    add(&found.manifests, &|number| Some(&number) == found.manifests.last(), files::manifest);
    add(&found.unfinished, &|_| false, files::unfinished_manifest);
    paths
}

fn keyspace(directory: &Path, catalog: &Catalog, record: &KeyspaceRecord) -> Keyspace {
    let levels = catalog.levels.get(&record.id).into_iter().flat_map(|levels| &levels.0);
    Keyspace {
        id: record.id,
        name: record.name.clone(),
        options: Options::of(&record.options),
        levels: levels.map(|tables| tables.iter().map(|meta| table(directory, meta)).collect()).collect(),
        blobs: catalog.blobs_of(record.id).map(|record| blob(directory, record)).collect(),
    }
}

fn table(directory: &Path, meta: &TableMeta) -> Table {
    let upper = if meta.upper.inclusive { UpperKey::Included } else { UpperKey::Excluded };
    let expiring = meta.expiring;
    Table {
        number: meta.number,
        file: files::table(directory, meta.number),
        bytes: meta.bytes,
        entries: meta.entries,
        deletes: meta.deletes,
        range_deletes: meta.range_deletes,
        expiring: expiring.entries,
        expiry: (expiring.entries > 0).then_some((expiring.earliest, expiring.latest)),
        sequences: (meta.sequence_min, meta.sequence_max),
        lower: meta.lower.to_vec(),
        upper: upper(meta.upper.key.to_vec()),
        blobs: meta.blobs.iter().map(|used| (used.number, used.bytes)).collect(),
    }
}

fn blob(directory: &Path, record: &BlobRecord) -> BlobFile {
    BlobFile {
        number: record.blob.number,
        file: files::blob(directory, record.blob.number),
        bytes: record.blob.bytes,
        records: record.blob.records,
        live_bytes: record.live_bytes,
        garbage_bytes: record.blob.record_bytes().saturating_sub(record.live_bytes),
    }
}
