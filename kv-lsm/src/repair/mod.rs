//! Making a database out of what is left of one.
//!
//! 1. Take the lock, and look at everything. When nothing is wrong, nothing is done.
//! 2. The tables that count are those that the manifest names, or, without a manifest that can be read, all that hold together
//!    and were not replaced by others that do. Keyspaces and their options are those of the manifest, or those that tables
//!    name.
//! 3. Of each keyspace, whatever can still be read of tables and log is merged by sequence number into new tables. Nothing is
//!    taken for granted about levels. The log counts up to the first damage, and beyond what tables already hold.
//! 4. Every file that was there gets a second name in the quarantine, and a new manifest is written. Then the first names go: at
//!    no moment is anything gone.

mod stream;
mod survey;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_core::hash::seeded;
use kv_core::time::Millis;

use crate::blob::files::BlobFiles;
use crate::blob::separate::{SeparateRules, Separator};
use crate::blob::writer::BlobSettings;
use crate::compaction::fold::FoldRules;
use crate::compaction::outputs::{ANY_TIME, Outputs};
use crate::compaction::rewrite::{Older, Rewrite, Written};
use crate::cursor::Cursor;
use crate::disk::Disk;
use crate::error::Error;
use crate::files::{self, Found};
use crate::internal_key::split_expiry;
use crate::manifest::catalog::{Catalog, LEVELS, Levels};
use crate::manifest::edit::{Edit, KeyspaceRecord};
use crate::manifest::log::{EditError, Manifest};
use crate::memtable::MemtableCursor;
use crate::merge_iter::MergeCursor;
use crate::options::Config;
use crate::range_delete::{RangeDelete, RangeDeletes};
use crate::recover::take_lock;
use crate::table::format::Origin;
use crate::table::writer::TableSettings;
use crate::time::Moment;
use crate::verify::Problem;
use crate::wal::format::SegmentEnd;
use crate::wal::writer::LogWriter;
use stream::{Distinct, Stream, Version};
use survey::{Survey, Usable};

/// What a repair found and did.
#[derive(Clone, Default, Debug)]
pub struct RepairReport {
    /// Everything that was wrong. When empty, nothing was changed.
    pub problems: Vec<Problem>,
    /// Whether the manifest could not be read, so that what belongs to the database had to be guessed.
    pub manifest_lost: bool,
    /// Names of the keyspaces that there are now. One whose name was lost is called `recovered` and its number.
    pub keyspaces: Vec<String>,
    /// Tables that were read, as far as they could be.
    pub tables: u64,
    /// Batches that came from the log.
    pub batches: u64,
    /// Files that were set aside.
    pub quarantined: Vec<PathBuf>,
}

/// Repairs the database in `directory`.
///
/// # Errors
/// See [`Database::repair`](crate::Database::repair).
pub(crate) fn repair(disk: &Arc<dyn Disk>, directory: &Path, config: &Config) -> Result<RepairReport, Error> {
    match disk.list(directory) {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Err(Error::NoDatabase { path: directory.to_path_buf() });
        }
        Err(error) => return Err(Error::io("list", directory, error)),
    }
    let _lock = take_lock(disk.as_ref(), directory)?;
    let found = Found::look(disk.as_ref(), directory)?;
    if found.manifests.is_empty() && found.tables.is_empty() && found.logs.is_empty() {
        return Err(Error::NoDatabase { path: directory.to_path_buf() });
    }
    let survey = Survey::take(disk, directory, &found)?;
    let mut report = RepairReport {
        problems: survey.problems.clone(),
        manifest_lost: survey.catalog.is_none(),
        keyspaces: Vec::new(),
        tables: survey.tables.len() as u64,
        batches: survey.batches,
        quarantined: Vec::new(),
    };
    let mut repair = Repair { disk, directory, config, next_file: found.highest_number + 1, survey };
    if report.problems.is_empty() {
        report.keyspaces = repair.survey.keyspaces.values().map(|record| record.name.clone()).collect();
        return Ok(report);
    }
    let catalog = repair.rebuild()?;
    report.keyspaces = catalog.keyspaces.values().map(|record| record.name.clone()).collect();
    let old = repair.set_aside(&found, &mut report)?;
    repair.install(catalog)?;
    // What stays because this fails is removed when the database is next opened: it is in the quarantine.
    old.iter().for_each(|path| drop(disk.remove(path)));
    Ok(report)
}

struct Repair<'a> {
    disk: &'a Arc<dyn Disk>,
    directory: &'a Path,
    config: &'a Config,
    next_file: u64,
    survey: Survey,
}

impl Repair<'_> {
    fn new_file_number(&mut self) -> u64 {
        self.next_file += 1;
        self.next_file - 1
    }

    fn database(&self) -> u64 {
        let fresh = || seeded(self.directory.to_string_lossy().as_bytes(), (self.config.clock)().0);
        self.survey.catalog.as_ref().map_or_else(fresh, |(database, _)| *database)
    }

    /// Writes all that can be read anew. Returns what the new manifest says.
    fn rebuild(&mut self) -> Result<Catalog, Error> {
        let mut catalog = Catalog {
            keyspaces: named_apart(self.survey.keyspaces.values()),
            next_keyspace: self.survey.next_keyspace(),
            flushed_sequence: self.survey.last_sequence,
            log_position: self.survey.catalog.as_ref().map_or(0, |(_, catalog)| catalog.log_position),
            time: (self.config.clock)()
                .max(self.survey.catalog.as_ref().map_or(Millis::ZERO, |(_, catalog)| catalog.time)),
            ..Catalog::default()
        };
        catalog.levels = catalog.keyspaces.keys().map(|&id| (id, Levels::default())).collect();
        for record in catalog.keyspaces.clone().into_values() {
            let written = self.rewrite(&record, catalog.time)?;
            let applied = catalog.apply(&Edit(written.items(record.id, level_of(&record))));
            assert!(applied.is_ok(), "an edit of our own fits the manifest: {applied:?}");
        }
        // A repair that is interrupted leaves a new log only beside all that came from the old one.
        self.disk.sync_dir(self.directory).map_err(|error| Error::io("sync", self.directory, error))?;
        catalog.log_segment = self.new_file_number();
        let log = LogWriter::create(
            Arc::clone(self.disk),
            self.directory,
            catalog.log_segment,
            catalog.log_position,
            SegmentEnd::default(),
            0,
            None,
        )?;
        let path = files::log(self.directory, catalog.log_segment);
        log.file().sync().map_err(|error| Error::io("sync", &path, error))?;
        self.disk.sync_dir(self.directory).map_err(|error| Error::io("sync", self.directory, error))?;
        Ok(catalog)
    }

    fn rewrite(&mut self, record: &KeyspaceRecord, as_of: Millis) -> Result<Written, Error> {
        let id = record.id;
        let tables: Vec<&Usable> = self.survey.tables.values().filter(|usable| usable.keyspace == id).collect();
        // A flush takes all that a memtable holds of a keyspace, oldest first.
        let flushed = tables.iter().map(|usable| usable.description.properties.sequence_max).max().unwrap_or(0);
        let mut deletes: Vec<RangeDelete> = Vec::new();
        let mut cursors: Vec<Box<dyn Cursor>> = Vec::new();
        let sources = self.survey.blobs.get(&id).cloned().unwrap_or_default();
        for usable in &tables {
            deletes.extend(usable.table.stored_range_deletes(usable.description.footer.range_deletes)?);
            cursors.push(Box::new(Stream::new(readable(usable, sources.clone())?)));
        }
        for ranges in self.survey.log.range_deletes(id) {
            deletes.extend(ranges.deletes().filter(|delete| delete.sequence > flushed));
        }
        cursors.push(Box::new(Stream::new(versions_above(MemtableCursor::new(&self.survey.log, id), flushed)?)));
        let moment = Moment { sequence: self.survey.last_sequence.max(1), as_of };
        let settings = TableSettings::new(self.config, &record.options, self.database(), id, level_of(record));
        let origin = Origin { name: record.name.clone(), options: record.options.clone(), replaces: Vec::new() };
        let blob = BlobSettings::new(self.config, &record.options, self.database(), id);
        let rules = SeparateRules::new(&record.options, self.config.blob_file_bytes);
        // Every value is written anew, into new files.
        let all = sources.by_number.keys().copied().collect();
        let mut next_file = self.next_file;
        let job = Rewrite {
            // Without the operator of the host, operands stay as they are.
            rules: FoldRules { boundaries: vec![moment], operator: None },
            range_deletes: RangeDeletes::new(deletes),
            older: Older::default(),
            table_bytes: self.config.table_bytes,
            separator: Separator::new(rules, sources, all),
            outputs: Outputs {
                disk: self.disk.as_ref(),
                directory: self.directory,
                new_number: &mut || {
                    next_file += 1;
                    next_file - 1
                },
                table: settings,
                origin,
                blob,
                created: &mut Vec::new(),
                may_end: ANY_TIME,
                warming: None,
            },
            cancelled: &|| false,
        };
        let written = job.run(&mut Distinct::new(MergeCursor::new(cursors)))?;
        self.next_file = next_file;
        Ok(written.expect("nobody cancels it"))
    }

    /// Gives every file that was there a second name in the quarantine. Returns the first names.
    fn set_aside(&self, found: &Found, report: &mut RepairReport) -> Result<Vec<PathBuf>, Error> {
        let quarantine = self.directory.join(files::QUARANTINE);
        self.disk.create_dir(&quarantine).map_err(|error| Error::io("create", &quarantine, error))?;
        let manifests = found.manifests.iter().map(|&number| files::manifest(self.directory, number));
        let tables = found.tables.iter().map(|&number| files::table(self.directory, number));
        let logs = found.logs.iter().map(|&number| files::log(self.directory, number));
        let blobs = found.blobs.iter().map(|&number| files::blob(self.directory, number));
        let old: Vec<PathBuf> = manifests.chain(tables).chain(blobs).chain(logs).collect();
        for path in &old {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut second = quarantine.join(&name);
            let mut attempt = 0;
            // An earlier repair that was interrupted may have come as far.
            while let Err(error) = self.disk.link(path, &second) {
                if error.kind() != io::ErrorKind::AlreadyExists {
                    crate::checkpoint::copy(self.disk.as_ref(), path, &second, None, &[])?;
                    break;
                }
                attempt += 1;
                second = quarantine.join(format!("{name}.again-{attempt}"));
            }
            report.quarantined.push(second);
        }
        self.disk.sync_dir(&quarantine).map_err(|error| Error::io("sync", &quarantine, error))?;
        Ok(old)
    }

    fn install(&mut self, mut catalog: Catalog) -> Result<(), Error> {
        let number = self.new_file_number();
        catalog.next_file = number + 1;
        let database = self.database();
        match Manifest::create(Arc::clone(self.disk), self.directory, number, database, catalog) {
            Ok(_) => Ok(()),
            Err(EditError::RolledBack(error) | EditError::Unknown(error)) => Err(error),
        }
    }
}

/// Where the tables of a keyspace go: to the bottom, unless they are to be dropped first in, first out, which only those of
/// level 0 are. Had newer ones to go before them, what these hide would be back (lesson 49).
fn level_of(record: &KeyspaceRecord) -> usize {
    if record.options.is_fifo() { 0 } else { LEVELS - 1 }
}

/// Names are given once: of two keyspaces with one, the one that was created first was dropped, or should have been.
fn named_apart<'a>(
    records: impl DoubleEndedIterator<Item = &'a KeyspaceRecord>,
) -> std::collections::BTreeMap<u32, KeyspaceRecord> {
    let mut apart = std::collections::BTreeMap::new();
    let mut names = std::collections::BTreeSet::new();
    for record in records.rev() {
        let mut record = record.clone();
        if !names.insert(record.name.clone()) {
            record.name = format!("{} recovered {}", record.name, record.id);
            names.insert(record.name.clone());
        }
        apart.insert(record.id, record);
    }
    apart
}

/// The versions in the blocks that can be read, but for those whose separated values cannot.
fn readable(usable: &Usable, blobs: BlobFiles) -> Result<impl Iterator<Item = Version> + Send + use<>, Error> {
    let table = Arc::clone(&usable.table);
    let blocks = (0..table.blocks()?).filter_map(move |index| table.block(index, false).ok());
    let versions = blocks.flat_map(|block| {
        let whole = |at: usize| {
            let entry = block.entry(at);
            ([block.common_prefix(), entry.key].concat(), entry.trailer, entry.value.to_vec())
        };
        (0..block.count()).map(whole).collect::<Vec<_>>()
    });
    Ok(versions.filter(move |(key, trailer, value)| {
        !trailer.is_separated() || blobs.read(key, split_expiry(*trailer, value).1).is_ok()
    }))
}

/// The versions of a cursor with numbers above `flushed`.
fn versions_above(mut cursor: MemtableCursor, flushed: u64) -> Result<impl Iterator<Item = Version> + Send, Error> {
    cursor.seek(&[], crate::internal_key::Trailer::NEWEST)?;
    Ok(std::iter::from_fn(move || {
        loop {
            let version = cursor.entry().map(|entry| (entry.key.to_vec(), entry.trailer, entry.value.to_vec()))?;
            cursor.next().ok()?;
            if version.1.sequence() > flushed {
                return Some(version);
            }
        }
    }))
}
