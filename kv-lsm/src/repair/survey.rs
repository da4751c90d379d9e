//! What is left of a database, and which of it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use kv_core::store::{Operation, Space};

use crate::blob::files::{BlobFiles, LiveBlob};
use crate::blob::meta::BlobMeta;
use crate::blob::reader::{BlobFile, Inspected, inspect};

use crate::disk::Disk;
use crate::error::Error;
use crate::files::{self, Found};
use crate::keyspace_options::stored::StoredOptions;
use crate::manifest::catalog::{BlobRecord, Catalog, Levels};
use crate::manifest::edit::{Item, KeyspaceRecord};
use crate::manifest::log as manifest_log;
use crate::memtable::{ChunkPool, Memtable};
use crate::table::describe::Description;
use crate::table::meta::TableMeta;
use crate::table::reader::{Table, TableEnvironment};
use crate::table::residents::TableMemory;
use crate::verify::{Problem, table};
use crate::wal::reader::{LogStart, chain_start, replay};

/// A table that holds together; single blocks of it may be unreadable.
pub(super) struct Usable {
    pub(super) keyspace: u32,
    pub(super) description: Description,
    pub(super) table: Arc<Table>,
    /// Whether all of it can be read.
    is_whole: bool,
}

/// All that is left, and what is wrong with the rest.
pub(super) struct Survey {
    /// Of the newest manifest, when it can be read.
    pub(super) catalog: Option<(u64, Catalog)>,
    /// By number.
    pub(super) tables: BTreeMap<u64, Usable>,
    pub(super) keyspaces: BTreeMap<u32, KeyspaceRecord>,
    /// Blob files by keyspace.
    pub(super) blobs: BTreeMap<u32, BlobFiles>,
    pub(super) log: Memtable,
    pub(super) batches: u64,
    pub(super) last_sequence: u64,
    pub(super) problems: Vec<Problem>,
}

impl Survey {
    /// # Errors
    /// [`Error::Unsupported`]: a newer version of the engine knows what to do with it.
    pub(super) fn take(disk: &Arc<dyn Disk>, directory: &Path, found: &Found) -> Result<Self, Error> {
        let mut survey = Self {
            catalog: None,
            tables: BTreeMap::new(),
            keyspaces: BTreeMap::new(),
            blobs: BTreeMap::new(),
            log: Memtable::new(0, 0, &Arc::new(ChunkPool::new(0))),
            batches: 0,
            last_sequence: 0,
            problems: Vec::new(),
        };
        let dropped = survey.manifest(disk.as_ref(), directory, found)?;
        survey.all_tables(disk, directory, found)?;
        survey.all_blobs(disk, directory, found)?;
        if survey.catalog.is_none() {
            survey.leave_out_replaced();
            survey.tables.retain(|_, usable| !dropped.contains(&usable.keyspace));
            survey.name_keyspaces();
        }
        survey.replay(disk.as_ref(), directory, found, &dropped)?;
        let newest = survey.tables.values().map(|usable| usable.description.properties.sequence_max).max();
        survey.last_sequence = survey.last_sequence.max(newest.unwrap_or(0));
        Ok(survey)
    }

    /// Reads the newest manifest. When it cannot be read, the whole edits in all of them still tell which keyspaces there
    /// were; returns those that were dropped.
    fn manifest(&mut self, disk: &dyn Disk, directory: &Path, found: &Found) -> Result<BTreeSet<u32>, Error> {
        let mut dropped = BTreeSet::new();
        let Some(&newest) = found.manifests.last() else {
            self.problems.push(Problem::new(directory, 0, "expected a manifest"));
            return Ok(dropped);
        };
        let path = files::manifest(directory, newest);
        match manifest_log::read(disk, directory, newest) {
            Ok(read) => {
                self.keyspaces = read.catalog.keyspaces.clone();
                self.catalog = Some((read.database, read.catalog));
                return Ok(dropped);
            }
            Err(error @ Error::Unsupported { .. }) => return Err(error),
            Err(error) => self.problems.push(Problem::of(error, &path)),
        }
        for &number in &found.manifests {
            for item in manifest_log::whole_edits(disk, directory, number).into_iter().flat_map(|edit| edit.0) {
                match item {
                    Item::Keyspace(record) => drop(self.keyspaces.insert(record.id, record)),
                    Item::Options { id, options } => {
                        if let Some(record) = self.keyspaces.get_mut(&id) {
                            record.options = options;
                        }
                    }
                    Item::Dropped { id } => {
                        self.keyspaces.remove(&id);
                        dropped.insert(id);
                    }
                    _ => {}
                }
            }
        }
        Ok(dropped)
    }

    fn all_tables(&mut self, disk: &Arc<dyn Disk>, directory: &Path, found: &Found) -> Result<(), Error> {
        let environment = environment(disk);
        let named = self.catalog.as_ref().map(|(_, catalog)| {
            let of_keyspace = |(&id, levels): (&u32, &Levels)| {
                let tables = levels.0.iter().flatten().map(move |table| (table.number, (id, table.clone())));
                tables.collect::<Vec<_>>()
            };
            catalog.levels.iter().flat_map(of_keyspace).collect::<BTreeMap<u64, (u32, TableMeta)>>()
        });
        let missing =
            named.iter().flat_map(BTreeMap::keys).filter(|number| found.tables.binary_search(number).is_err());
        for &number in missing {
            self.problems.push(Problem::new(&files::table(directory, number), 0, "the table that the manifest names"));
        }
        for &number in &found.tables {
            if named.as_ref().is_some_and(|named| !named.contains_key(&number)) {
                continue;
            }
            let path = files::table(directory, number);
            match self.usable(disk.as_ref(), &path, number, &environment) {
                Ok(usable) => {
                    let said = named.as_ref().and_then(|named| named.get(&number));
                    let wrong = said.map(|(id, meta)| table::disagreements(*id, meta, &usable.description));
                    match wrong.filter(|wrong| !wrong.is_empty()) {
                        // Another table lies in its place.
                        Some(wrong) => {
                            let offset = usable.description.footer.properties.offset;
                            self.problems.extend(wrong.into_iter().map(|what| Problem::new(&path, offset, what)));
                        }
                        None => drop(self.tables.insert(number, usable)),
                    }
                }
                Err(error @ Error::Unsupported { .. }) => return Err(error),
                Err(error) => self.problems.push(Problem::of(error, &path)),
            }
        }
        Ok(())
    }

    /// Blob files that are whole, and those that are not, as long as the manifest knows them.
    fn all_blobs(&mut self, disk: &Arc<dyn Disk>, directory: &Path, found: &Found) -> Result<(), Error> {
        let environment = environment(disk);
        let named: BTreeMap<u64, BlobRecord> =
            self.catalog.as_ref().map(|(_, catalog)| catalog.blobs.clone()).unwrap_or_default();
        for &number in named.keys().filter(|number| found.blobs.binary_search(number).is_err()) {
            let what = "the blob file that the manifest names";
            self.problems.push(Problem::new(&files::blob(directory, number), 0, what));
        }
        for &number in &found.blobs {
            if self.catalog.is_some() && !named.contains_key(&number) {
                continue;
            }
            let path = files::blob(directory, number);
            let (keyspace, blob) = match inspect(disk.as_ref(), &path, &mut |_, _| Ok(())) {
                Ok(Inspected { keyspace, identity, format, bytes, records }) => {
                    let blob = BlobMeta { number, identity, format, bytes, records };
                    if named.get(&number).is_some_and(|named| (named.keyspace, named.blob) != (keyspace, blob)) {
                        // Another file lies in its place.
                        self.problems.push(Problem::new(&path, 0, "the blob file that the manifest describes"));
                        continue;
                    }
                    (keyspace, blob)
                }
                Err(error @ Error::Unsupported { .. }) => return Err(error),
                Err(error) => {
                    self.problems.push(Problem::of(error, &path));
                    let Some(record) = named.get(&number) else { continue };
                    (record.keyspace, record.blob)
                }
            };
            let file = Arc::new(BlobFile::new(blob, path, environment.clone()));
            let of_keyspace = self.blobs.entry(keyspace).or_default();
            of_keyspace.directory = directory.to_path_buf();
            of_keyspace.by_number.insert(number, LiveBlob { file, live_bytes: 0 });
        }
        Ok(())
    }

    fn usable(
        &mut self,
        disk: &dyn Disk,
        path: &Path,
        number: u64,
        environment: &TableEnvironment,
    ) -> Result<Usable, Error> {
        let description = Description::read(disk, path)?;
        let table = Arc::new(Table::new(description.meta(number), path.to_path_buf(), environment.clone()));
        let mut problems = Vec::new();
        let mut note = |offset, expected| problems.push(Problem::new(path, offset, expected));
        table::check(&table, &description, false, &mut note, &mut |_| {})?;
        let is_whole = problems.is_empty();
        self.problems.extend(problems);
        Ok(Usable { keyspace: description.properties.keyspace, description, table, is_whole })
    }

    /// A compaction that was under way leaves its output beside its input, and one that was done may leave some of its input.
    /// An input goes only after the edit that retires all of it is durable: so while all of it is there, the input alone says
    /// everything, and as soon as any of it is missing, the output does.
    fn leave_out_replaced(&mut self) {
        let jobs: BTreeSet<Vec<u64>> = self.tables.values().map(|usable| usable.replaces().to_vec()).collect();
        let present: BTreeSet<u64> = self.tables.keys().copied().collect();
        for job in jobs.iter().filter(|job| !job.is_empty()) {
            if job.iter().all(|input| present.contains(input)) {
                self.tables.retain(|_, usable| usable.replaces() != job.as_slice());
            } else {
                self.tables.retain(|number, _| !job.contains(number));
            }
        }
    }

    /// Every table says which keyspace it is of; the newest says it best.
    fn name_keyspaces(&mut self) {
        for usable in self.tables.values().rev() {
            let origin = &usable.description.properties.origin;
            self.keyspaces.entry(usable.keyspace).or_insert_with(|| KeyspaceRecord {
                id: usable.keyspace,
                name: origin.name.clone(),
                options: origin.options.clone(),
            });
        }
    }

    /// Replays what the log holds beyond the tables, as far as it goes.
    fn replay(
        &mut self,
        disk: &dyn Disk,
        directory: &Path,
        found: &Found,
        dropped: &BTreeSet<u32>,
    ) -> Result<(), Error> {
        let chain = |numbers: &[u64]| chain_start(disk, directory, numbers);
        let mut begin = match &self.catalog {
            Some((_, catalog)) => LogStart {
                segment: catalog.log_segment,
                position: catalog.log_position,
                sequence: catalog.flushed_sequence + 1,
            },
            None => match chain(&found.logs)? {
                Some(begin) => begin,
                None => return Ok(()),
            },
        };
        let whole = self.tables.values().filter(|usable| usable.is_whole);
        let in_tables = whole.map(|usable| usable.description.properties.sequence_max).max().unwrap_or(0);
        let (mut log_begins, mut first_max) = (u64::MAX, u64::MAX);
        let replayed = loop {
            let numbers: Vec<u64> = found.logs.iter().copied().filter(|&number| number >= begin.segment).collect();
            let replayed = self.replay_from(disk, directory, &numbers, (begin, first_max), dropped, &mut log_begins);
            // A segment whose records are in tables is not synced, so that of the first ones anything may be left, though later
            // ones were synced. Then the log goes on behind them, if that leaves no gap behind the tables.
            let later = &numbers[numbers.partition_point(|&number| number <= begin.segment)..];
            match (&replayed, chain(later)?) {
                (Err(Error::Corrupt { .. }), Some(next)) if self.catalog.is_none() => {
                    (begin, first_max) = (next, in_tables + 1);
                }
                _ => break replayed,
            }
        };
        let log_ends = self.log.last_sequence();
        self.last_sequence = self.last_sequence.max(log_ends);
        // A flush that was under way leaves a table that is not whole, of what the log still holds.
        self.tables.retain(|_, usable| {
            let properties = &usable.description.properties;
            usable.is_whole || properties.sequence_min < log_begins || properties.sequence_max > log_ends
        });
        match replayed {
            Ok(()) => {}
            Err(error @ Error::Unsupported { .. }) => return Err(error),
            Err(error) => self.problems.push(Problem::of(error, &files::log(directory, begin.segment))),
        }
        Ok(())
    }

    /// The same from one segment on, if its first record has no higher number than `first_max`. Notes where it begins.
    fn replay_from(
        &mut self,
        disk: &dyn Disk,
        directory: &Path,
        numbers: &[u64],
        (begin, first_max): (LogStart, u64),
        dropped: &BTreeSet<u32>,
        log_begins: &mut u64,
    ) -> Result<(), Error> {
        let knows = self.catalog.is_some();
        let mut first_max = Some(first_max);
        let replayed = replay(disk, directory, numbers, begin, &mut |first, batch| {
            if first_max.take().is_some_and(|first_max| first > first_max) {
                let path = files::log(directory, begin.segment);
                return Err(Error::corrupt(&path, 0, "expected a record that follows those of the tables"));
            }
            for operation in batch {
                let id = operation.space().0;
                if !knows && !dropped.contains(&id) {
                    let record = self.keyspaces.entry(id).or_insert_with(|| KeyspaceRecord {
                        id,
                        name: format!("recovered {id}"),
                        options: StoredOptions::default(),
                    });
                    record.options.merge |= matches!(operation, Operation::Merge { .. });
                }
            }
            *log_begins = first.min(*log_begins);
            self.log.apply(batch, first);
            self.batches += 1;
            Ok(())
        });
        replayed.map(|_| ())
    }

    /// Numbers that were given to keyspaces end below this one.
    pub(super) fn next_keyspace(&self) -> u32 {
        let known = self.catalog.as_ref().map_or(Space::RESERVED, |(_, catalog)| catalog.next_keyspace);
        self.keyspaces.keys().next_back().map_or(known, |&last| known.max(last.saturating_add(1)))
    }
}

fn environment(disk: &Arc<dyn Disk>) -> TableEnvironment {
    TableEnvironment {
        disk: Arc::clone(disk),
        memory: Arc::new(TableMemory::new(0, 100)),
        graveyard: Arc::new(Mutex::new(Vec::new())),
    }
}

impl Usable {
    fn replaces(&self) -> &[u64] {
        &self.description.properties.origin.replaces
    }
}
