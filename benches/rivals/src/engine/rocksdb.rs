//! RocksDB, tuned as its wiki advises ("Setup Options and Basic Tuning", "Leveled Compaction", "HyperClockCache", "Data Block
//! Hash Index").

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::thread::available_parallelism;

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DataBlockIndexType, Options, ReadOptions, WriteBatch,
    WriteOptions, properties,
};

use super::{Direction, Each, Engine, Failure, MEMTABLES, Opening, Promise};
use crate::data::Key;

/// Values from this size on go to blob files, when they do at all.
const BLOB_BYTES_MIN: u64 = 4096;

struct RocksDb {
    database: DB,
    write: WriteOptions,
    options: String,
}

pub(super) fn open(directory: &Path, opening: &Opening) -> Result<impl Engine + use<>, Failure> {
    let cores = available_parallelism().map_or(2, usize::from).max(2);
    let jobs = i32::try_from(cores)?;
    let mut table = BlockBasedOptions::default();
    // An estimated charge of zero lets the cache measure its entries.
    table.set_block_cache(&Cache::new_hyper_clock_cache(usize::try_from(opening.cache_bytes)?, 0));
    table.set_block_size(16 << 10);
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    table.set_data_block_hash_ratio(0.75);

    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(usize::try_from(opening.memtable_bytes)?);
    options.set_max_write_buffer_number(i32::try_from(MEMTABLES)?);
    options.set_target_file_size_base(opening.memtable_bytes);
    options.set_max_bytes_for_level_base(4 * opening.memtable_bytes);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_max_background_jobs(jobs);
    options.set_bytes_per_sync(1 << 20);
    // Not on the two topmost levels, as its own preset for leveled compaction has it.
    let (none, lz4) = (DBCompressionType::None, DBCompressionType::Lz4);
    options.set_compression_per_level(&[none, none, lz4, lz4, lz4, lz4, lz4]);
    if opening.separate_values {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(BLOB_BYTES_MIN);
        options.set_enable_blob_gc(true);
        options.set_blob_compression_type(lz4);
    }
    let mut write = WriteOptions::default();
    write.set_sync(opening.promise == Promise::Synced);

    let database = DB::open(&options, directory)?;
    let crc = crc_support(directory).unwrap_or_else(|| "not told".to_owned());
    if !crc.starts_with("Supported") {
        return Err(format!("RocksDB was built without the processor's CRC instructions ({crc}); see README.md").into());
    }
    let options = format!(
        "write_buffer_size={} max_write_buffer_number={MEMTABLES} target_file_size_base={} max_bytes_for_level_base={} \
         hyper_clock_cache={} block_size=16K bloom=10 cache_index_and_filter_blocks pin_l0 data_block_index=binary+hash/0.75 \
         dynamic_level_bytes max_background_jobs={jobs} bytes_per_sync=1M compression=[none,none,lz4…] blob_files={} sync={:?} \
         fast_crc32=\"{crc}\"",
        opening.memtable_bytes,
        opening.memtable_bytes,
        4 * opening.memtable_bytes,
        opening.cache_bytes,
        opening.separate_values,
        opening.promise,
    );
    Ok(RocksDb { database, write, options })
}

/// What the engine's own log says about the checksum that it computes for every record and block.
fn crc_support(directory: &Path) -> Option<String> {
    const MARK: &str = "Fast CRC32 supported: ";
    let lines = BufReader::new(File::open(directory.join("LOG")).ok()?).lines();
    lines.map_while(Result::ok).find_map(|line| line.split_once(MARK).map(|(_, told)| told.to_owned()))
}

impl RocksDb {
    fn property(&self, name: &properties::PropName) -> Result<u64, Failure> {
        Ok(self.database.property_int_value(name)?.unwrap_or(0))
    }
}

impl Engine for RocksDb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        Ok(self.database.put_opt(key, value, &self.write)?)
    }

    fn put_all(&self, entries: &[(Key, Vec<u8>)]) -> Result<(), Failure> {
        let mut batch = WriteBatch::default();
        for (key, value) in entries {
            batch.put(key, value);
        }
        Ok(self.database.write_opt(batch, &self.write)?)
    }

    fn delete(&self, key: &[u8]) -> Result<(), Failure> {
        Ok(self.database.delete_opt(key, &self.write)?)
    }

    fn get(&self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let value = self.database.get_pinned(key)?;
        if let Some(value) = &value {
            found(value);
        }
        Ok(value.is_some())
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, direction: Direction, each: Each<'_>) -> Result<(), Failure> {
        let mut options = ReadOptions::default();
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        options.set_iterate_lower_bound(from);
        let mut entries = self.database.raw_iterator_opt(options);
        match direction {
            Direction::Forward => entries.seek(from),
            Direction::Backward => entries.seek_to_last(),
        }
        while let Some((key, value)) = entries.item() {
            if each(key, value).is_break() {
                break;
            }
            match direction {
                Direction::Forward => entries.next(),
                Direction::Backward => entries.prev(),
            }
        }
        Ok(entries.status()?)
    }

    fn is_behind(&self) -> Result<bool, Failure> {
        let counts = [
            self.property(properties::NUM_IMMUTABLE_MEM_TABLE)?,
            self.property(properties::NUM_RUNNING_FLUSHES)?,
            self.property(properties::NUM_RUNNING_COMPACTIONS)?,
            self.property(properties::COMPACTION_PENDING)?,
        ];
        Ok(counts.iter().any(|count| *count > 0))
    }

    fn options(&self) -> String {
        self.options.clone()
    }
}
