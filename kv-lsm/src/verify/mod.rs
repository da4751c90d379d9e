//! Reading everything that a database consists of and checking what must hold: checksums, order, filters, levels, ages,
//! manifest and log.

mod ages;
mod blobs;
mod report;
pub(crate) mod table;

pub use report::{Problem, Progress, VerifyReport};

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::blob::reader::inspect;
use crate::disk::{Disk, OpenMode};
use crate::engine::{Engine, lock};
use crate::error::Error;
use crate::files::{self, Found};
use crate::manifest::catalog::Catalog;
use crate::manifest::log as manifest_log;
use crate::memtable::{ChunkPool, Memtable};
use crate::pin::Pin;
use crate::table::describe::Description;
use crate::table::reader::{Table, TableEnvironment};
use crate::table::residents::TableMemory;
use crate::version::{Tree, Version};
use crate::wal::reader::{LogStart, replay};

/// Told how far the work has come.
pub(crate) type Told<'a> = dyn FnMut(Progress) + 'a;

/// Verifies an open database, as it is at this moment.
///
/// # Errors
/// [`Error::Poisoned`]. What is wrong with files is in the report.
pub(crate) fn verify_open(engine: &Engine, told: &mut Told<'_>) -> Result<VerifyReport, Error> {
    let mut verify = Verify::new(Arc::clone(&engine.disk), engine.directory.clone(), told);
    let pin = Pin::take(engine)?;
    {
        // Nothing is appended meanwhile.
        let manifest = lock(&engine.manifest);
        match manifest_log::read(engine.disk.as_ref(), &engine.directory, manifest.number()) {
            Ok(read) if read.catalog == *manifest.catalog() => {}
            Ok(_) => verify.problem(manifest.path(), 0, "a manifest that says what was written to it"),
            Err(error) => verify.error(error, manifest.path()),
        }
    }
    let log_bytes = verify.log_bytes(&pin.segments);
    verify.plan(&pin.version.trees, log_bytes);
    verify.trees(&pin.version.trees);
    let torn = verify.report.torn.len();
    verify.log(&pin.catalog, &pin.segments, Some(pin.last_sequence));
    // Where somebody is writing there is no end yet.
    verify.report.torn.truncate(torn);
    verify.report.keyspaces = pin.catalog.keyspaces.len() as u64;
    Ok(verify.report)
}

/// Verifies the files of a database that is not open.
///
/// # Errors
/// [`Error::NoDatabase`] and what keeps the directory from being listed. What is wrong with files is in the report.
pub(crate) fn verify_files(disk: &Arc<dyn Disk>, directory: &Path, told: &mut Told<'_>) -> Result<VerifyReport, Error> {
    let found = Found::look(disk.as_ref(), directory)?;
    let mut verify = Verify::new(Arc::clone(disk), directory.to_path_buf(), told);
    let Some(&number) = found.manifests.last() else {
        return Err(Error::NoDatabase { path: directory.to_path_buf() });
    };
    let path = files::manifest(directory, number);
    let read = match manifest_log::read(disk.as_ref(), directory, number) {
        Ok(read) => read,
        Err(error) => {
            // Nobody says what belongs together; each table must be whole all the same.
            verify.error(error, &path);
            verify.loose_tables(&found.tables);
            verify.loose_blobs(&found.blobs);
            return Ok(verify.report);
        }
    };
    if let Some(offset) = read.torn_at {
        verify.report.torn.push(Problem::new(&path, offset, "an edit whose checksum fits"));
    }
    let segments: Vec<u64> = found.logs.iter().copied().filter(|&number| number >= read.catalog.log_segment).collect();
    let (tables, blobs) = (found.tables.iter().copied().collect(), found.blobs.iter().copied().collect());
    let trees = verify.trees_of(&read.catalog, &tables, &blobs);
    let log_bytes = verify.log_bytes(&segments);
    verify.plan(&trees, log_bytes);
    verify.trees(&trees);
    verify.log(&read.catalog, &segments, None);
    verify.report.keyspaces = read.catalog.keyspaces.len() as u64;
    Ok(verify.report)
}

struct Verify<'a, 'b> {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    report: VerifyReport,
    progress: Progress,
    told: &'a mut Told<'b>,
}

impl<'a, 'b> Verify<'a, 'b> {
    fn new(disk: Arc<dyn Disk>, directory: PathBuf, told: &'a mut Told<'b>) -> Self {
        let progress = Progress { done_bytes: 0, total_bytes: 0 };
        Self { disk, directory, report: VerifyReport::default(), progress, told }
    }

    fn problem(&mut self, file: &Path, offset: u64, expected: impl Into<String>) {
        self.report.problems.push(Problem::new(file, offset, expected));
    }

    fn error(&mut self, error: Error, file: &Path) {
        self.report.problems.push(Problem::of(error, file));
    }

    fn environment(&self) -> TableEnvironment {
        TableEnvironment {
            disk: Arc::clone(&self.disk),
            memory: Arc::new(TableMemory::new(0, 100)),
            graveyard: Arc::new(Mutex::new(Vec::new())),
        }
    }

    /// The trees of a catalog, without the tables that are missing.
    fn trees_of(
        &mut self,
        catalog: &Catalog,
        present: &BTreeSet<u64>,
        blobs: &BTreeSet<u64>,
    ) -> BTreeMap<u32, Arc<Tree>> {
        let mut catalog = catalog.clone();
        catalog.blobs.retain(|number, _| {
            let is_there = blobs.contains(number);
            if !is_there {
                let path = files::blob(&self.directory, *number);
                self.report.problems.push(Problem::new(&path, 0, "the blob file that the manifest names"));
            }
            is_there
        });
        for table in catalog.levels.values_mut().flat_map(|levels| levels.0.iter_mut()) {
            table.retain(|table| {
                let is_there = present.contains(&table.number);
                if !is_there {
                    let path = files::table(&self.directory, table.number);
                    self.report.problems.push(Problem::new(&path, 0, "the table that the manifest names"));
                }
                is_there
            });
        }
        let empty = Version {
            active: Arc::new(Memtable::new(0, 0, &Arc::new(ChunkPool::new(0)))),
            sealed: Vec::new(),
            trees: BTreeMap::new(),
        };
        empty.trees_of(&catalog, |_| true, &self.directory, &self.environment(), &[])
    }

    fn log_bytes(&self, segments: &[u64]) -> u64 {
        let length = |&number: &u64| {
            let file = self.disk.open(&files::log(&self.directory, number), OpenMode::Read);
            file.and_then(|file| file.len()).unwrap_or(0)
        };
        segments.iter().map(length).sum()
    }

    /// Tables are read once for themselves, and once more with their neighbours in age.
    fn plan(&mut self, trees: &BTreeMap<u32, Arc<Tree>>, log_bytes: u64) {
        let bytes = |tree: &Tree| -> u64 { tree.tables().map(|table| table.meta().bytes).sum() };
        let blob_bytes = |tree: &Tree| -> u64 { tree.blobs.by_number.values().map(|b| b.file.meta().bytes).sum() };
        let twice = |tree: &Tree| if ages::depths(tree) > 1 { 2 } else { 1 };
        self.progress.total_bytes =
            log_bytes + trees.values().map(|tree| bytes(tree) * twice(tree) + blob_bytes(tree)).sum::<u64>();
        self.advance(0);
    }

    fn advance(&mut self, bytes: u64) {
        self.progress.done_bytes = (self.progress.done_bytes + bytes).min(self.progress.total_bytes);
        (self.told)(self.progress);
    }

    fn trees(&mut self, trees: &BTreeMap<u32, Arc<Tree>>) {
        for (&keyspace, tree) in trees {
            let before = self.report.problems.len();
            for table in tree.tables() {
                self.table(Some(keyspace), table);
            }
            self.levels(tree);
            self.blobs(keyspace, tree);
            // What cannot be read cannot be compared; it is in the report already.
            if self.report.problems.len() == before && ages::depths(tree) > 1 {
                self.ages(tree);
            }
        }
    }

    /// Tables of a level follow one another.
    fn levels(&mut self, tree: &Tree) {
        for level in &tree.levels[1..] {
            for pair in level.windows(2) {
                if !pair[0].meta().upper.is_before(&pair[1].meta().lower) {
                    self.problem(pair[1].path(), 0, format!("keys behind those of {}", pair[0].path().display()));
                }
            }
        }
    }

    fn blobs(&mut self, keyspace: u32, tree: &Tree) {
        let (disk, directory) = (Arc::clone(&self.disk), self.directory.clone());
        let read = &mut |bytes| self.advance(bytes);
        let (errors, records) = blobs::check_files(disk.as_ref(), &directory, keyspace, tree, read);
        let blobs = tree.blobs.by_number.values();
        self.report.blob_files += tree.blobs.by_number.len() as u64;
        self.report.blob_bytes += blobs.map(|blob| blob.file.meta().bytes).sum::<u64>();
        self.report.blob_records += records;
        let tables = tree.tables().filter(|table| !table.meta().blobs.is_empty());
        // A damaged record that is live is met twice.
        let pointers = tables.flat_map(|table| blobs::check_pointers(tree, table));
        let mut problems: Vec<_> =
            errors.into_iter().chain(pointers).map(|error| Problem::of(error, &directory)).collect();
        problems.sort_by(|a, b| (&a.file, a.offset, &a.expected).cmp(&(&b.file, b.offset, &b.expected)));
        problems.dedup();
        self.report.problems.extend(problems);
    }

    fn ages(&mut self, tree: &Tree) {
        let mut problems = Vec::new();
        let result = ages::check(
            tree,
            &mut |file, expected| problems.push(Problem { file, offset: 0, expected }),
            &mut |bytes| {
                self.advance(bytes);
            },
        );
        self.report.problems.extend(problems);
        if let Err(error) = result {
            let directory = self.directory.clone();
            self.error(error, &directory);
        }
    }

    /// Without a keyspace the table stands alone, and nobody says what it should be.
    fn table(&mut self, keyspace: Option<u32>, table: &Arc<Table>) {
        let path = table.path().to_path_buf();
        self.report.tables += 1;
        self.report.table_bytes += table.meta().bytes;
        let description = match Description::read(self.disk.as_ref(), &path) {
            Ok(description) => description,
            Err(error) => return self.error(error, &path),
        };
        if let Some(keyspace) = keyspace {
            for expected in table::disagreements(keyspace, table.meta(), &description) {
                self.problem(&path, description.footer.properties.offset, expected);
            }
        }
        let mut problems = Vec::new();
        let mut note = |offset, expected| problems.push(Problem::new(&path, offset, expected));
        let result = table::check(table, &description, keyspace.is_some(), &mut note, &mut |bytes| self.advance(bytes));
        self.report.problems.extend(problems);
        match result {
            Ok(counts) => {
                self.report.blocks += counts.blocks;
                self.report.entries += counts.entries;
                self.report.range_deletes += counts.range_deletes;
            }
            Err(error) => self.error(error, &path),
        }
    }

    fn loose_tables(&mut self, numbers: &[u64]) {
        let environment = self.environment();
        for &number in numbers {
            let path = files::table(&self.directory, number);
            match Description::read(self.disk.as_ref(), &path) {
                Ok(description) => {
                    let table = Arc::new(Table::new(description.meta(number), path, environment.clone()));
                    self.table(None, &table);
                }
                Err(error) => {
                    self.report.tables += 1;
                    self.error(error, &path);
                }
            }
        }
    }

    fn loose_blobs(&mut self, numbers: &[u64]) {
        for &number in numbers {
            let path = files::blob(&self.directory, number);
            self.report.blob_files += 1;
            match inspect(self.disk.as_ref(), &path, &mut |_, _| Ok(())) {
                Ok(found) => {
                    self.report.blob_bytes += found.bytes;
                    self.report.blob_records += found.records;
                }
                Err(error) => self.error(error, &path),
            }
        }
    }

    /// Reads the log up to the operation `through`, or to its end.
    fn log(&mut self, catalog: &Catalog, segments: &[u64], through: Option<u64>) {
        self.report.log_segments = segments.len() as u64;
        self.report.log_bytes = self.log_bytes(segments);
        let begin = LogStart {
            segment: catalog.log_segment,
            position: catalog.log_position,
            sequence: catalog.flushed_sequence + 1,
        };
        let first = files::log(&self.directory, begin.segment);
        let (mut batches, mut operations, mut problems) = (0, 0, Vec::new());
        let replayed = replay(self.disk.as_ref(), &self.directory, segments, begin, &mut |first_sequence, batch| {
            if through.is_some_and(|through| first_sequence > through) {
                return Ok(());
            }
            batches += 1;
            operations += batch.len() as u64;
            for operation in batch {
                let keyspace = operation.space().0;
                if !catalog.has_known(keyspace) {
                    problems.push(Problem::new(&first, 0, format!("keyspaces that exist: {keyspace} never did")));
                }
            }
            Ok(())
        });
        (self.report.batches, self.report.operations) = (batches, operations);
        self.report.problems.extend(problems);
        match replayed {
            Ok(replayed) => {
                let torn = replayed.discarded.iter();
                let torn = torn.map(|part| Problem::new(&part.path, part.offset, "a record whose checksum fits"));
                self.report.torn.extend(torn);
            }
            Err(error) => self.error(error, &first),
        }
        self.advance(self.report.log_bytes);
    }
}

#[cfg(test)]
mod tests;
