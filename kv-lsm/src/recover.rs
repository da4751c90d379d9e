//! Opening: from the files to an engine that may accept writes.
//!
//! 1. Take the lock. Read the manifest with the highest number; without one the database is new.
//! 2. Check that every table it names is there.
//! 3. Read the log, and write what it holds to tables (rule E1: what recovery read may be in the page cache only, so
//!    it is written again and synced, and the old log is not appended to).
//! 4. Begin a new segment of the log, and sync it.
//! 5. Write a new manifest that names all of this: until it is durable, nothing that was there before is changed, so a
//!    crash up to here changes nothing.
//! 6. Remove what the new manifest does not name.

mod run;
mod tables;
mod turns;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use kv_core::hash::seeded;
use kv_core::store::MergeOperator;
use kv_core::time::Millis;

use crate::compaction::outputs::discard;
use crate::disk::{Disk, LockGuard, OpenMode, read_exact_at};
use crate::engine::{KeyspaceState, Keyspaces, Parts};
use crate::error::Error;
use crate::files::{self, FileKind, Found};
use crate::manifest::catalog::Catalog;
use crate::manifest::edit::{Edit, Item};
use crate::manifest::log::{self as manifest_log, EditError, Manifest};
use crate::memtable::{ChunkPool, Memtable};
use crate::options::{Background, Config};
use crate::table::reader::TableEnvironment;
use crate::table::residents::TableMemory;
use crate::time::Time;
use crate::version::Version;
use crate::wal::format::SegmentEnd;
use crate::wal::reader::{Discarded, LogStart, replay};
use crate::wal::writer::{Ahead, LogWriter};
use run::{Run, UnknownKeyspace};
use tables::{Limits, Writers};
use turns::Turns;

/// Opens, and creates when there is nothing, the database in `directory`.
///
/// # Errors
/// See [`Error`]. Nothing that was there before is changed, except that a torn tail may have been copied to quarantine.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    config: Config,
    operators: &BTreeMap<u32, Arc<dyn MergeOperator>>,
) -> Result<Parts, Error> {
    disk.create_dir(directory).map_err(|error| Error::io("create", directory, error))?;
    let lock = take_lock(disk.as_ref(), directory)?;
    let found = Found::look(disk.as_ref(), directory)?;
    let environment = TableEnvironment {
        disk: Arc::clone(disk),
        memory: Arc::new(TableMemory::new(config.cache_bytes, config.open_tables_max)),
        graveyard: Arc::new(Mutex::new(Vec::new())),
    };
    let time = Time::new(Arc::clone(&config.clock), Millis::ZERO);
    let mut recovery = Recovery {
        disk: Arc::clone(disk),
        directory: directory.to_path_buf(),
        chunks: Arc::new(ChunkPool::new(config.memtable_bytes)),
        config,
        operators,
        database: 0,
        next_file: AtomicU64::new(found.highest_number + 1),
        created: Mutex::default(),
        turns: Turns::default(),
        environment,
        catalog: Catalog::default(),
        time,
    };
    recovery.read_manifest(&found)?;
    recovery.time = Time::new(Arc::clone(&recovery.config.clock), recovery.catalog.time);
    recovery.next_file.fetch_max(recovery.catalog.next_file, Ordering::Relaxed);
    let replayed = recovery.replay(&found);
    if replayed.is_err() {
        // Nothing names them yet. Each opening that fails would leave more of them.
        discard(disk.as_ref(), &recovery.created.lock().unwrap_or_else(PoisonError::into_inner));
    }
    recovery.finish(&found, replayed?, lock)
}

/// # Errors
/// [`Error::NoDatabase`] when there is no manifest in the directory, and the disk's.
pub(crate) fn must_exist(disk: &dyn Disk, directory: &Path) -> Result<(), Error> {
    let no_database = || Error::NoDatabase { path: directory.to_path_buf() };
    let names = disk.list(directory).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => no_database(),
        _ => Error::io("list", directory, error),
    })?;
    let is_manifest = |name: &String| matches!(FileKind::of(name), FileKind::Manifest(_));
    if names.iter().any(is_manifest) { Ok(()) } else { Err(no_database()) }
}

/// # Errors
/// [`Error::Locked`], and the disk's.
pub(crate) fn take_lock(disk: &dyn Disk, directory: &Path) -> Result<Box<dyn LockGuard>, Error> {
    let path = directory.join(files::LOCK);
    match disk.lock(&path) {
        Ok(guard) => Ok(guard),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Error::Locked { path }),
        Err(error) => Err(Error::io("lock", &path, error)),
    }
}

/// What the log came to.
struct Replayed {
    position: u64,
    last_sequence: u64,
    items: Vec<Item>,
}

struct Recovery<'a> {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    config: Config,
    operators: &'a BTreeMap<u32, Arc<dyn MergeOperator>>,
    database: u64,
    chunks: Arc<ChunkPool>,
    next_file: AtomicU64,
    /// Files that the log was written to.
    created: Mutex<Vec<PathBuf>>,
    turns: Turns,
    environment: TableEnvironment,
    catalog: Catalog,
    time: Time,
}

impl Recovery<'_> {
    fn new_file_number(&self) -> u64 {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }

    fn read_manifest(&mut self, found: &Found) -> Result<(), Error> {
        let Some(&number) = found.manifests.last() else {
            // The first manifest is durable before the first write is accepted, and tables come later still.
            if let Some(&table) = found.tables.first() {
                let path = files::table(&self.directory, table);
                return Err(Error::corrupt(&path, 0, "there is a table, but no manifest"));
            }
            let now = (self.config.clock)();
            self.database = seeded(self.directory.to_string_lossy().as_bytes(), now.0);
            return Ok(());
        };
        let read = manifest_log::read(self.disk.as_ref(), &self.directory, number)?;
        self.database = read.database;
        self.catalog = read.catalog;
        let missing = self.catalog.tables().find(|table| found.tables.binary_search(&table.number).is_err());
        if let Some(table) = missing {
            let path = files::table(&self.directory, table.number);
            return Err(Error::corrupt(&path, 0, "the manifest names this table, and it is missing"));
        }
        let missing = self.catalog.blobs.keys().find(|number| found.blobs.binary_search(number).is_err());
        if let Some(&number) = missing {
            let path = files::blob(&self.directory, number);
            return Err(Error::corrupt(&path, 0, "the manifest names this blob file, and it is missing"));
        }
        if let Some(offset) = read.torn_at {
            self.quarantine(&Discarded { path: files::manifest(&self.directory, number), offset, end: u64::MAX })?;
        }
        Ok(())
    }

    /// Rule E4: what is discarded is kept aside.
    fn quarantine(&self, discarded: &Discarded) -> Result<(), Error> {
        let directory = self.directory.join(files::QUARANTINE);
        let name = discarded.path.file_name().unwrap_or_default().to_string_lossy();
        let path = directory.join(format!("{name}.{}", discarded.offset));
        let copy = || {
            self.disk.create_dir(&directory)?;
            let source = self.disk.open(&discarded.path, OpenMode::Read)?;
            let length = usize::try_from(source.len()?.min(discarded.end).saturating_sub(discarded.offset))
                .map_err(io::Error::other)?;
            let mut bytes = vec![0; length];
            read_exact_at(source.as_ref(), &mut bytes, discarded.offset)?;
            match self.disk.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let copy = self.disk.open(&path, OpenMode::CreateNew)?;
            copy.write_at(&bytes, 0)?;
            copy.sync()?;
            self.disk.sync_dir(&directory)
        };
        copy().map_err(|error| Error::io("write", &path, error))
    }

    fn replay(&self, found: &Found) -> Result<Replayed, Error> {
        let begin = LogStart {
            segment: self.catalog.log_segment,
            position: self.catalog.log_position,
            sequence: self.catalog.flushed_sequence + 1,
        };
        if found.manifests.is_empty() {
            // Segments of a database that was being created: nothing was accepted into them.
            return Ok(Replayed { position: begin.position, last_sequence: 0, items: Vec::new() });
        }
        let numbers: Vec<u64> = found.logs.iter().copied().filter(|&number| number >= begin.segment).collect();
        let limits = Limits::new(self, || self.log_bytes(&numbers));
        let (replayed, items) = thread::scope(|scope| {
            let mut writers = Writers::new(self, scope);
            let mut run = Run::default();
            let replayed = replay(self.disk.as_ref(), &self.directory, &numbers, begin, &mut |first, batch| {
                run.push(batch, first, |keyspace| self.catalog.has_known(keyspace)).map_err(
                    |UnknownKeyspace(keyspace)| {
                        let what = format!("a batch names keyspace {keyspace}, which was never created");
                        Error::corrupt(&files::log(&self.directory, begin.segment), 0, what)
                    },
                )?;
                if limits.are_reached(&run) {
                    writers.write(std::mem::take(&mut run))?;
                }
                Ok(())
            })?;
            Ok((replayed, writers.finish(run)?))
        })?;
        for discarded in &replayed.discarded {
            self.quarantine(discarded)?;
        }
        Ok(Replayed { position: replayed.position, last_sequence: replayed.last_sequence, items })
    }

    /// As far as they can be told: whoever reads them will say what is wrong.
    fn log_bytes(&self, numbers: &[u64]) -> u64 {
        let bytes = |&number: &u64| {
            let file = self.disk.open(&files::log(&self.directory, number), OpenMode::Read);
            file.and_then(|file| file.len()).unwrap_or(0)
        };
        numbers.iter().map(bytes).sum()
    }

    fn finish(mut self, found: &Found, replayed: Replayed, lock: Box<dyn LockGuard>) -> Result<Parts, Error> {
        let segment = self.new_file_number();
        let manifest_number = self.new_file_number();
        let log = self.begin_log(segment, replayed.position)?;
        let mut edit = Edit(replayed.items);
        edit.0.push(Item::Log { segment, position: replayed.position, sequence: replayed.last_sequence });
        edit.0.push(Item::Next { file: *self.next_file.get_mut(), keyspace: self.catalog.next_keyspace });
        edit.0.push(Item::Time(self.time.now()));
        let mut catalog = std::mem::take(&mut self.catalog);
        let applied = catalog.apply(&edit);
        assert!(applied.is_ok(), "an edit of our own fits the manifest: {applied:?}");
        let manifest =
            Manifest::create(Arc::clone(&self.disk), &self.directory, manifest_number, self.database, catalog);
        // After a failed sync of the directory either manifest may count; both describe the same data.
        let manifest = manifest.map_err(|error| match error {
            EditError::RolledBack(error) | EditError::Unknown(error) => error,
        })?;
        self.remove_unneeded(found, &manifest, segment);
        let empty = Version {
            active: Arc::new(Memtable::new(segment, replayed.position, &self.chunks)),
            sealed: Vec::new(),
            trees: BTreeMap::new(),
        };
        let trees = empty.trees_of(manifest.catalog(), |_| true, &self.directory, &self.environment, &[]);
        let keyspaces: Keyspaces = manifest
            .catalog()
            .keyspaces
            .values()
            .map(|record| {
                let operator = self.operators.get(&record.id).cloned();
                (record.id, KeyspaceState::new(&record.name, operator, record.options.clone()))
            })
            .collect();
        Ok(Parts {
            config: self.config,
            time: self.time,
            directory: self.directory,
            environment: self.environment,
            chunks: self.chunks,
            database: self.database,
            manifest,
            keyspaces,
            log,
            last_sequence: replayed.last_sequence,
            next_file: self.next_file.into_inner(),
            version: Version { trees, ..empty },
            lock,
        })
    }

    fn begin_log(&self, segment: u64, position: u64) -> Result<LogWriter, Error> {
        let disk = Arc::clone(&self.disk);
        let log = LogWriter::create(disk, &self.directory, segment, position, SegmentEnd::default(), 0, None)?;
        let path = files::log(&self.directory, segment);
        log.file().sync().map_err(|error| Error::io("sync", &path, error))?;
        // The names of the tables as well.
        self.disk.sync_dir(&self.directory).map_err(|error| Error::io("sync", &self.directory, error))?;
        Ok(log.ahead(Ahead {
            bytes_max: self.config.log_segment_bytes,
            store_behind_bytes: self.config.log_store_behind_bytes,
        }))
    }

    /// As far as it works: the next recovery tries again.
    fn remove_unneeded(&self, found: &Found, manifest: &Manifest, segment: u64) {
        let remove = |path: PathBuf| {
            let _ = self.disk.remove(&path);
        };
        let named = |number: &u64| manifest.catalog().tables().any(|table| table.number == *number);
        found.manifests.iter().for_each(|&number| remove(files::manifest(&self.directory, number)));
        found.unfinished.iter().for_each(|&number| remove(files::unfinished_manifest(&self.directory, number)));
        found.spares.iter().for_each(|&number| remove(files::spare(&self.directory, number)));
        let logs = found.logs.iter().filter(|&&number| number < segment);
        let logs = logs.map(|&number| files::log(&self.directory, number));
        match self.config.background {
            // The content of a large file takes long to free: nobody waits for that.
            Background::Threads => {
                self.environment.graveyard.lock().unwrap_or_else(PoisonError::into_inner).extend(logs);
            }
            Background::Manual => logs.for_each(remove),
        }
        found
            .blobs
            .iter()
            .filter(|&number| !manifest.catalog().blobs.contains_key(number))
            .for_each(|&number| remove(files::blob(&self.directory, number)));
        found
            .tables
            .iter()
            .filter(|number| !named(number))
            .for_each(|&number| remove(files::table(&self.directory, number)));
    }
}
