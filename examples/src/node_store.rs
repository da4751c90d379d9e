//! The store of one node: the engine, on a disk whose power can be cut.

use std::path::Path;
use std::sync::Arc;

use kv_core::record::{Payload, Record, RecordJoin};
use kv_core::store::{Space, SpaceOptions};
use kv_lsm::disk::{OsDisk, VolatileDisk};
use kv_lsm::{Database, Error, KeyspaceOptions, LsmStore};

/// A real disk from which everything unsynced can be taken away.
pub type NodeDisk = VolatileDisk<OsDisk>;

/// Memtables are small because several nodes share this machine, and because a run should see tables flushed and merged.
const MEMTABLE_BYTES: u64 = 8 << 20;
const CACHE_BYTES: u64 = 32 << 20;

const RECORDS: &str = "records";

/// Opens the engine in `directory` with the spaces that a node needs.
///
/// # Errors
/// As [`LsmStore::open`].
pub fn open_store(disk: &NodeDisk, directory: &Path) -> Result<LsmStore, Error> {
    let builder = Database::builder(directory)
        .disk(disk.clone())
        .memtable_bytes(MEMTABLE_BYTES)
        .log_segment_bytes(MEMTABLE_BYTES)
        .cache_bytes(CACHE_BYTES);
    // Replicas apply each other's writes blindly; the engine joins them when it reads or compacts.
    let records = SpaceOptions { merge: Some(Arc::new(RecordJoin)) };
    let plain = SpaceOptions::default;
    let spaces = [(Space::META, "meta", plain()), (Space::DATA, RECORDS, records), (Space::HINTS, "hints", plain())];
    LsmStore::open(builder, &spaces)
}

/// How many keys, of all tables, have a value in a store that [`open_store`] opened. Reads every record.
///
/// # Errors
/// See [`Error`].
pub fn count_keys(database: &Database) -> Result<u64, Error> {
    let records = database.keyspace(RECORDS, KeyspaceOptions::default().merge(Arc::new(RecordJoin)))?;
    let mut keys = 0;
    for entry in records.iter() {
        let (_, record) = entry?;
        let has_value = Record::decode_slice(&record).is_ok_and(|record| {
            record.versions().iter().any(|(_, version)| matches!(version.payload, Payload::Value(_)))
        });
        keys += u64::from(has_value);
    }
    Ok(keys)
}
