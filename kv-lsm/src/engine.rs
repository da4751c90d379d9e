//! What the parts of an open database share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use kv_core::store::MergeOperator;

use crate::backpressure;
use crate::blob::separate::SeparateRules;
use crate::blob::writer::BlobSettings;
use crate::compaction::pick::pending_bytes;
use crate::counters::Counters;
use crate::disk::{Disk, LockGuard};
use crate::error::Error;
use crate::files::FileKind;
use crate::health::Health;
use crate::keyspace_options::stored::StoredOptions;
use crate::manifest::catalog::Catalog;
use crate::manifest::edit::{Edit, Item};
use crate::manifest::log::{EditError, Manifest};
use crate::memtable::ChunkPool;
use crate::options::{Background, Config};
use crate::readers::Readers;
use crate::signal::Signal;
use crate::snapshots::Snapshots;
use crate::sync::Syncer;
use crate::table::format::Origin;
use crate::table::reader::{Table, TableEnvironment};
use crate::table::writer::TableSettings;
use crate::time::{AsOf, Moment, Time};
use crate::validation::recent::RecentWrites;
use crate::version::Version;
use crate::visible::{ReadRules, ScanRules, Want};
use crate::wal::spare::Spare;
use crate::wal::writer::LogWriter;

/// A keyspace, as commits and reads need it.
#[derive(Clone)]
pub(crate) struct KeyspaceState {
    pub(crate) name: Arc<str>,
    pub(crate) operator: Option<Arc<dyn MergeOperator>>,
    pub(crate) options: Arc<StoredOptions>,
    /// Shared with the handles of the keyspace, so that a put looks nothing up. Zero: for ever.
    pub(crate) default_ttl_ms: Arc<AtomicU64>,
}

impl KeyspaceState {
    pub(crate) fn new(name: &str, operator: Option<Arc<dyn MergeOperator>>, options: StoredOptions) -> Self {
        let default_ttl_ms = Arc::new(AtomicU64::new(options.default_ttl_ms.unwrap_or(0)));
        Self { name: name.into(), operator, options: Arc::new(options), default_ttl_ms }
    }
}

/// The keyspaces by number.
pub(crate) type Keyspaces = BTreeMap<u32, KeyspaceState>;

/// Held by the one who writes.
pub(crate) struct LogState {
    pub(crate) writer: LogWriter,
    pub(crate) next_sequence: u64,
    /// Segments that exist, ascending.
    pub(crate) segments: Vec<u64>,
    /// Files that the next segments are written into.
    pub(crate) spares: Vec<Spare>,
    /// First segments of those who read the log, each from there on.
    pub(crate) pinned: Vec<u64>,
    pub(crate) recent: RecentWrites,
}

pub(crate) struct Engine {
    /// Tells the databases of a process apart, so that a batch is not written to the wrong one.
    pub(crate) token: u64,
    pub(crate) config: Config,
    pub(crate) directory: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) environment: TableEnvironment,
    /// Memory that memtables leave to each other.
    pub(crate) chunks: Arc<ChunkPool>,
    pub(crate) database: u64,
    pub(crate) health: Arc<Health>,
    pub(crate) snapshots: Snapshots,
    pub(crate) time: Time,
    pub(crate) syncer: Syncer,
    pub(crate) keyspaces: ArcSwap<Keyspaces>,
    version: ArcSwap<Version>,
    /// Taken to replace `version`; no input or output happens under it.
    version_turn: Mutex<()>,
    pub(crate) log: Mutex<LogState>,
    pub(crate) manifest: Mutex<Manifest>,
    pub(crate) keyspace_turn: Mutex<()>,
    pub(crate) flush_turn: Mutex<()>,
    pub(crate) compaction_turn: Mutex<()>,
    next_file: AtomicU64,
    /// Most tables that any keyspace has on level 0.
    pub(crate) level0_tables: AtomicUsize,
    pub(crate) readers: Readers,
    /// How many memtables wait for their flush.
    pub(crate) sealed_memtables: AtomicUsize,
    pub(crate) counters: Counters,
    /// Where the log ends.
    pub(crate) log_position: AtomicU64,
    /// Why the last flush failed, until one succeeds: who waits for it is told.
    pub(crate) flush_failure: Mutex<Option<Error>>,
    /// The same for compactions.
    pub(crate) compaction_failure: Mutex<Option<Error>>,
    pub(crate) closing: AtomicBool,
    /// Raised when a sync was asked for.
    pub(crate) sync_wanted: Signal,
    /// Raised when there may be something to flush or compact.
    pub(crate) work_wanted: Signal,
    /// Raised when a flush or compaction has ended.
    pub(crate) work_done: Signal,
    /// About how many bytes compactions have to rewrite until all levels are as they should be.
    pub(crate) pending_bytes: AtomicU64,
    pub(crate) started: Instant,
    /// When the writers up to now have paid for their delays, in nanoseconds since the start.
    pub(crate) paced_until_ns: AtomicU64,
    _lock: Box<dyn LockGuard>,
}

/// What recovery found and made.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) time: Time,
    pub(crate) directory: PathBuf,
    pub(crate) environment: TableEnvironment,
    pub(crate) chunks: Arc<ChunkPool>,
    pub(crate) database: u64,
    pub(crate) manifest: Manifest,
    pub(crate) keyspaces: Keyspaces,
    pub(crate) log: LogWriter,
    pub(crate) last_sequence: u64,
    pub(crate) next_file: u64,
    pub(crate) version: Version,
    pub(crate) lock: Box<dyn LockGuard>,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Self {
        static TOKENS: AtomicU64 = AtomicU64::new(1);
        let Parts { config, directory, environment, database, manifest, keyspaces, log, last_sequence, .. } = parts;
        let health = Arc::new(Health::new());
        let disk = Arc::clone(&environment.disk);
        let syncer = Syncer::new(
            Arc::clone(&disk),
            directory.clone(),
            Arc::clone(&health),
            log.number(),
            Arc::clone(log.file()),
            log.position(),
            last_sequence,
        );
        let segments = vec![log.number()];
        let log_position = log.position();
        let engine = Self {
            token: TOKENS.fetch_add(1, Ordering::Relaxed),
            config,
            directory,
            disk,
            environment,
            chunks: parts.chunks,
            database,
            health,
            snapshots: Snapshots::new(last_sequence),
            time: parts.time,
            syncer,
            keyspaces: ArcSwap::from_pointee(keyspaces),
            version: ArcSwap::from_pointee(parts.version),
            version_turn: Mutex::new(()),
            log: Mutex::new(LogState {
                writer: log,
                next_sequence: last_sequence + 1,
                segments,
                spares: Vec::new(),
                pinned: Vec::new(),
                recent: RecentWrites::default(),
            }),
            manifest: Mutex::new(manifest),
            keyspace_turn: Mutex::new(()),
            flush_turn: Mutex::new(()),
            compaction_turn: Mutex::new(()),
            next_file: AtomicU64::new(parts.next_file),
            level0_tables: AtomicUsize::new(0),
            readers: Readers::default(),
            sealed_memtables: AtomicUsize::new(0),
            counters: Counters::default(),
            log_position: AtomicU64::new(log_position),
            flush_failure: Mutex::new(None),
            compaction_failure: Mutex::new(None),
            closing: AtomicBool::new(false),
            sync_wanted: Signal::default(),
            work_wanted: Signal::default(),
            work_done: Signal::default(),
            pending_bytes: AtomicU64::new(0),
            started: Instant::now(),
            paced_until_ns: AtomicU64::new(0),
            _lock: parts.lock,
        };
        engine.count_debt(&engine.version.load());
        engine
    }

    /// # Errors
    /// [`Error::ReadOnly`] when nothing may be changed.
    pub(crate) const fn writable(&self) -> Result<(), Error> {
        if self.config.read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// A number that no file had before.
    pub(crate) fn new_file_number(&self) -> u64 {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn version(&self) -> arc_swap::Guard<Arc<Version>> {
        self.version.load()
    }

    /// What a read takes hold of: the version, and how far it sees, `sequence` or all there is. Rule E9: the version is pinned
    /// before the visible number is read, else a compaction drops in between what the read should see.
    pub(crate) fn pin(&self, sequence: Option<u64>) -> (arc_swap::Guard<Arc<Version>>, u64) {
        if sabotaged!(PinAfterVisible) {
            let sequence = sequence.unwrap_or_else(|| self.snapshots.visible());
            between!();
            return (self.version(), sequence);
        }
        let version = self.version();
        between!();
        let sequence = sequence.unwrap_or_else(|| self.snapshots.visible());
        (version, sequence)
    }

    /// The same for a read of several keys, which are seen as of one time.
    pub(crate) fn pin_moment(&self, moment: Option<Moment>) -> (arc_swap::Guard<Arc<Version>>, Moment) {
        let (version, sequence) = self.pin(moment.map(|moment| moment.sequence));
        let as_of = moment.map_or_else(|| self.time.now(), |moment| moment.as_of);
        (version, Moment { sequence, as_of })
    }

    /// The time of a read of one key, at a moment or now.
    pub(crate) fn as_of(&self, moment: Option<Moment>) -> AsOf<'_> {
        moment.map_or(AsOf::Now(&self.time), |moment| AsOf::At(moment.as_of))
    }

    /// Replaces the version by what `change` makes of it.
    pub(crate) fn change_version(&self, change: impl FnOnce(&Version) -> Version) {
        let _turn = lock(&self.version_turn);
        let next = change(&self.version.load());
        self.count_debt(&next);
        self.version.store(Arc::new(next));
    }

    /// How many tables on level 0 start a compaction now.
    pub(crate) fn level0_compacted_from(&self) -> usize {
        match self.config.background {
            // What is done depends on what is written alone.
            Background::Manual => self.config.level0_tables,
            Background::Threads => backpressure::compacted_from(self.config.level0_tables, self.readers.reading()),
        }
    }

    fn count_debt(&self, version: &Version) {
        self.sealed_memtables.store(version.sealed.len(), Ordering::Relaxed);
        self.readers.look(&self.counters.reads.total(), self.snapshots.visible());
        // Where tables stay on level 0 until they are dropped, there may be any number.
        let leveled = version.trees.iter().filter(|(keyspace, _)| !self.options_of(**keyspace).is_fifo());
        let most = leveled.map(|(_, tree)| tree.levels[0].len()).max().unwrap_or(0);
        self.level0_tables.store(most, Ordering::Relaxed);
        let leveled = version.trees.iter().filter(|(keyspace, _)| !self.options_of(**keyspace).is_fifo());
        let from = self.level0_compacted_from();
        let pending = leveled.map(|(_, tree)| pending_bytes(tree, from, self.config.level1_bytes));
        self.pending_bytes.store(pending.sum(), Ordering::Relaxed);
    }

    /// Makes an edit durable, then visible. `change` does what else the new version needs, such as letting go of the
    /// memtable that was flushed.
    ///
    /// # Errors
    /// After [`Error::Poisoned`] it is unknown whether the edit is durable. After any other error it is not.
    pub(crate) fn install(&self, edit: Edit, change: impl FnOnce(&mut Version)) -> Result<(), Error> {
        self.install_tables(edit, &[], change)
    }

    /// The same with those of the tables that are open already.
    ///
    /// # Errors
    /// As [`Engine::install`].
    pub(crate) fn install_tables(
        &self,
        edit: Edit,
        ready: &[Arc<Table>],
        change: impl FnOnce(&mut Version),
    ) -> Result<(), Error> {
        // Poisoned outside the manifest's lock: the host is woken by it, and may call back.
        self.try_install(edit, ready, change).map_err(|error| match error {
            EditError::RolledBack(error) => error,
            EditError::Unknown(error) => self.poison(&error),
        })
    }

    fn try_install(
        &self,
        mut edit: Edit,
        ready: &[Arc<Table>],
        change: impl FnOnce(&mut Version),
    ) -> Result<(), EditError> {
        let mut manifest = lock(&self.manifest);
        self.health.check().map_err(EditError::RolledBack)?;
        let next_keyspace = manifest.catalog().next_keyspace;
        edit.0.push(Item::Next { file: self.next_file.load(Ordering::Relaxed), keyspace: next_keyspace });
        // Rule E12: what the edit brings may hold consequences of the time that it was made at.
        if self.time.highest() > manifest.catalog().time {
            edit.0.push(Item::Time(self.time.highest()));
        }
        // A blob file goes with the edit that takes the last pointer into it.
        let emptied = manifest.catalog().blobs_emptied_by(&edit);
        edit.0.extend(emptied.iter().cloned());
        manifest.append(&edit)?;
        for item in &emptied {
            if let Item::BlobRemoved { keyspace, number } = item
                && let Some(file) = self.version().trees.get(keyspace).and_then(|tree| tree.blobs.get(*number))
            {
                // Rule E5: the edit that no longer names it is durable.
                file.retire();
            }
        }
        let changed = |keyspace: u32| {
            edit.0.iter().any(|item| match item {
                Item::Added { keyspace: other, .. }
                | Item::Removed { keyspace: other, .. }
                | Item::BlobAdded { keyspace: other, .. }
                | Item::BlobRemoved { keyspace: other, .. } => *other == keyspace,
                Item::Keyspace(record) => record.id == keyspace,
                Item::Dropped { .. } | Item::Log { .. } | Item::Next { .. } | Item::Options { .. } | Item::Time(_) => {
                    false
                }
            })
        };
        self.change_version(|version| {
            let trees = version.trees_of(manifest.catalog(), changed, &self.directory, &self.environment, ready);
            let mut next = Version { trees, ..version.clone() };
            change(&mut next);
            next
        });
        // The edit is durable; a manifest that cannot be rolled now is rolled after a later edit.
        match manifest.roll(self.config.manifest_bytes, || self.new_file_number()) {
            Err(EditError::RolledBack(_)) => Ok(()),
            other => other,
        }
    }

    /// Ends all writing, and returns what to tell the caller.
    pub(crate) fn poison(&self, error: &Error) -> Error {
        self.health.poison(self.syncer.durable_sequence(), error);
        self.syncer.call_wake();
        self.work_done.raise();
        Error::Poisoned { reason: self.health.reason().expect("just poisoned").to_owned() }
    }

    /// Rules for a read of a keyspace.
    pub(crate) fn read_rules<'a>(
        &'a self,
        keyspaces: &'a Keyspaces,
        keyspace: u32,
        sequence: u64,
        as_of: AsOf<'a>,
    ) -> Result<ReadRules<'a>, Error> {
        let state = keyspaces.get(&keyspace).ok_or(Error::UnknownKeyspace { keyspace })?;
        Ok(ReadRules {
            keyspace,
            sequence,
            as_of,
            operator: state.operator.as_deref(),
            want: Want::Value,
            health: &self.health,
        })
    }

    /// The same for a scan.
    pub(crate) fn scan_rules(&self, keyspace: u32, moment: Moment) -> Result<ScanRules, Error> {
        let keyspaces = self.keyspaces.load();
        let state = keyspaces.get(&keyspace).ok_or(Error::UnknownKeyspace { keyspace })?;
        Ok(ScanRules {
            keyspace,
            moment,
            want: Want::Value,
            head_bytes: state.options.inline_prefix_bytes.map_or(0, |bytes| bytes as usize),
            operator: state.operator.clone(),
            health: Arc::clone(&self.health),
        })
    }

    pub(crate) fn operator_of(&self, keyspace: u32) -> Option<Arc<dyn MergeOperator>> {
        self.keyspaces.load().get(&keyspace)?.operator.clone()
    }

    pub(crate) fn options_of(&self, keyspace: u32) -> Arc<StoredOptions> {
        self.keyspaces.load().get(&keyspace).map(|state| Arc::clone(&state.options)).unwrap_or_default()
    }

    pub(crate) fn table_settings(&self, keyspace: u32, level: usize) -> TableSettings {
        TableSettings::new(&self.config, &self.options_of(keyspace), self.database, keyspace, level)
    }

    pub(crate) fn blob_settings(&self, keyspace: u32) -> BlobSettings {
        BlobSettings::new(&self.config, &self.options_of(keyspace), self.database, keyspace)
    }

    pub(crate) fn separate_rules(&self, keyspace: u32) -> SeparateRules {
        SeparateRules::new(&self.options_of(keyspace), self.config.blob_file_bytes)
    }

    /// What tables of a keyspace say about where they come from.
    pub(crate) fn origin(&self, keyspace: u32) -> Origin {
        let keyspaces = self.keyspaces.load();
        let state = keyspaces.get(&keyspace);
        state.map_or_else(Origin::default, |state| Origin {
            name: state.name.to_string(),
            options: (*state.options).clone(),
            replaces: Vec::new(),
        })
    }

    /// Removes files that nothing refers to any more. Nothing happens after poison. Returns whether there were any.
    pub(crate) fn purge(&self) -> bool {
        if self.health.is_poisoned() {
            return false;
        }
        let paths = std::mem::take(&mut *lock(&self.environment.graveyard));
        if paths.is_empty() {
            return false;
        }
        {
            // Rule E5. Numbers are never used again, so what the manifest does not name now it never will.
            let manifest = lock(&self.manifest);
            let is_named = |path: &PathBuf| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                manifest.catalog().names(FileKind::of(&name))
            };
            assert!(!paths.iter().any(is_named), "no file goes that the manifest names: {paths:?}");
        }
        for path in &paths {
            // A file that stays is removed by the next recovery: the manifest does not name it.
            let _ = self.disk.remove(path);
        }
        true
    }

    pub(crate) fn catalog(&self) -> Catalog {
        lock(&self.manifest).catalog().clone()
    }
}

/// A lock whose holder panicked is taken all the same: what it guards is kept whole by assertions, not by luck.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
