//! Writing runs to tables while the log is read on, where the database has threads. Without, each run is written at once, so that
//! a simulation sees the same calls in the same order.
//!
//! A thread writes one run and syncs it, so that one waits for the disk while another works. Their tables get their numbers in
//! any order: what lies on the top level is ordered by what it holds. But they become whole in the order of the
//! runs (`turns.rs`).

use std::collections::{BTreeSet, VecDeque};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use kv_core::time::Millis;

use super::Recovery;
use super::run::Run;
use super::turns::Turn;
use crate::blob::separate::SeparateRules;
use crate::blob::writer::BlobSettings;
use crate::compaction::fold::FoldRules;
use crate::compaction::outputs::Outputs;
use crate::compaction::rewrite::Older;
use crate::error::Error;
use crate::files;
use crate::flush::write_keyspace;
use crate::manifest::edit::Item;
use crate::options::Background;
use crate::table::format::Origin;
use crate::table::reader::Table;
use crate::table::writer::TableSettings;
use crate::time::Moment;

/// Threads that write. With the run that is being filled there are as many runs as memtables in an open database.
const THREADS_MAX: usize = 2;

/// A run is not cut for the sake of threads before the log gave it so much.
const LOG_BYTES_MIN: u64 = 16 << 20;

/// When a run is to be written.
pub(super) struct Limits {
    bytes: u64,
    log_bytes: u64,
}

impl Limits {
    /// For a log of about this size. With threads, a large memtable's worth is cut into parts that are written side by side,
    /// but not into so many tables that they would be compacted.
    pub(super) fn new(recovery: &Recovery<'_>, log_bytes: impl FnOnce() -> u64) -> Self {
        let config = &recovery.config;
        let parts = config.level0_tables.saturating_sub(1).max(1) as u64;
        let log_bytes = match config.background {
            Background::Threads => (log_bytes() / parts).max(LOG_BYTES_MIN),
            Background::Manual => u64::MAX,
        };
        Self { bytes: config.memtable_bytes, log_bytes }
    }

    pub(super) const fn are_reached(&self, run: &Run) -> bool {
        run.bytes() >= self.bytes || run.log_bytes() >= self.log_bytes
    }
}

/// A run that is to be written, and what must not change in the meantime.
struct Job {
    number: usize,
    run: Run,
    as_of: Millis,
    /// Keyspaces that earlier runs have something of.
    written: BTreeSet<u32>,
}

/// Takes runs in order.
pub(super) struct Writers<'scope, 'env> {
    recovery: &'env Recovery<'env>,
    scope: &'scope Scope<'scope, 'env>,
    under_way: VecDeque<ScopedJoinHandle<'scope, Result<Vec<Item>, Error>>>,
    items: Vec<Item>,
    jobs: usize,
    written: BTreeSet<u32>,
}

impl<'scope, 'env> Writers<'scope, 'env> {
    pub(super) const fn new(recovery: &'env Recovery<'env>, scope: &'scope Scope<'scope, 'env>) -> Self {
        Self { recovery, scope, under_way: VecDeque::new(), items: Vec::new(), jobs: 0, written: BTreeSet::new() }
    }

    /// Has a run written.
    ///
    /// # Errors
    /// The disk's, of this one or one before.
    pub(super) fn write(&mut self, run: Run) -> Result<(), Error> {
        let (recovery, job) = (self.recovery, self.job(run));
        if recovery.config.background == Background::Manual {
            self.items.extend(recovery.write_tables(job)?);
            return Ok(());
        }
        if self.under_way.len() >= THREADS_MAX {
            self.wait()?;
        }
        let thread = Builder::new().name("kv-lsm recover".to_owned());
        let thread = thread.spawn_scoped(self.scope, move || recovery.write_tables(job));
        self.under_way.push_back(thread.map_err(|error| Error::io("start a thread for", &recovery.directory, error))?);
        Ok(())
    }

    /// Writes the last run. Returns the items of an edit that name all files.
    ///
    /// # Errors
    /// As [`Writers::write`].
    pub(super) fn finish(mut self, run: Run) -> Result<Vec<Item>, Error> {
        let last = self.recovery.write_tables(self.job(run));
        while !self.under_way.is_empty() {
            self.wait()?;
        }
        self.items.extend(last?);
        Ok(self.items)
    }

    fn job(&mut self, run: Run) -> Job {
        let written = self.written.clone();
        self.written.extend(run.keyspaces());
        self.jobs += 1;
        Job { number: self.jobs - 1, run, as_of: self.recovery.time.now(), written }
    }

    /// Waits for the oldest.
    fn wait(&mut self) -> Result<(), Error> {
        let Some(oldest) = self.under_way.pop_front() else { return Ok(()) };
        // A merge operator of the host's may panic.
        self.items.extend(oldest.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        Ok(())
    }
}

impl Recovery<'_> {
    fn write_tables(&self, job: Job) -> Result<Vec<Item>, Error> {
        let turn = self.turns.of(job.number);
        let mut created = Vec::new();
        let items = self.write_run(job, &turn, &mut created);
        // None is named, so all can go when the opening fails.
        self.created.lock().unwrap_or_else(PoisonError::into_inner).append(&mut created);
        let items = items?;
        turn.end(&self.directory)?;
        Ok(items)
    }

    fn write_run(&self, job: Job, turn: &Turn<'_>, created: &mut Vec<PathBuf>) -> Result<Vec<Item>, Error> {
        let Job { number: _, run, as_of, written } = job;
        let mut items = Vec::new();
        let sequence = run.last_sequence();
        for (keyspace, unsorted) in run.into_spaces() {
            // What the log still holds of a keyspace that was dropped is passed over.
            let Some(record) = self.catalog.keyspaces.get(&keyspace).cloned() else { continue };
            let rules = FoldRules {
                boundaries: vec![Moment { sequence, as_of }],
                operator: self.operators.get(&keyspace).cloned(),
            };
            let separate = SeparateRules::new(&record.options, self.config.blob_file_bytes);
            let table = TableSettings::new(&self.config, &record.options, self.database, keyspace, 0);
            let outputs = Outputs {
                disk: self.disk.as_ref(),
                directory: &self.directory,
                new_number: &mut || self.new_file_number(),
                table: TableSettings { unsynced: sabotaged!(TrustRecoveredBytes), ..table },
                blob: BlobSettings::new(&self.config, &record.options, self.database, keyspace),
                origin: Origin { name: record.name, options: record.options, replaces: Vec::new() },
                created,
                may_end: &|| turn.wait(&self.directory),
                warming: None,
            };
            let older = self.older(keyspace, written.contains(&keyspace));
            let (range_deletes, mut versions) = unsorted.sort();
            items.extend(
                write_keyspace(&mut versions, range_deletes, rules, older, separate, outputs)?.items(keyspace, 0),
            );
        }
        Ok(items)
    }

    /// The tables of the catalog may hold older versions, and so may those of earlier `runs`, which may not be there yet.
    fn older(&self, keyspace: u32, runs: bool) -> Older {
        let named = self.catalog.levels.get(&keyspace).into_iter().flat_map(|levels| levels.0.iter().flatten());
        let table = |meta: &crate::table::meta::TableMeta| {
            let path = files::table(&self.directory, meta.number);
            Arc::new(Table::new(meta.clone(), path, self.environment.clone()))
        };
        Older { loose: named.map(table).collect(), levels: Vec::new(), others: runs }
    }
}
