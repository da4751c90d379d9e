//! The public handle of a database.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kv_core::store::MergeOperator;

use crate::background;
use crate::batch::Batch;
use crate::builder::Builder;
use crate::checkpoint::checkpoint;
use crate::commit::{commit, try_commit};
use crate::disk::{Disk, OverlayDisk};
use crate::engine::Engine;
use crate::error::Error;
use crate::flush;
use crate::handle::Handle;
use crate::keyspace::Keyspace;
use crate::keyspace_options::KeyspaceOptions;
use crate::keyspaces::{drop_keyspace, keyspace_options, open_keyspace};
use crate::metrics::Metrics;
use crate::options::{Background, WriteOptions};
use crate::recover::{must_exist, recover, take_lock};
use crate::repair::{RepairReport, repair};
use crate::snapshot::Snapshot;
use crate::verify::{Progress, VerifyReport, verify_files, verify_open};

/// An open database. A clone is another handle of the same.
#[derive(Clone)]
pub struct Database {
    handle: Arc<Handle>,
}

impl Database {
    pub(crate) const fn new(handle: Arc<Handle>) -> Self {
        Self { handle }
    }

    pub(crate) const fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// Opens the database in a directory with default settings, and creates it when there is none.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder(path).open()
    }

    /// Settings for opening the database in a directory.
    #[must_use]
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder::new(path.as_ref().to_path_buf())
    }

    /// Makes a database out of what is left of one that cannot be opened or read, with default settings.
    ///
    /// # Errors
    /// As [`Builder::repair`].
    pub fn repair(path: impl AsRef<Path>) -> Result<RepairReport, Error> {
        Self::builder(path).repair()
    }

    /// Opens a keyspace, and creates it, durably, when there is none of this name. Its number is never used again.
    ///
    /// # Errors
    /// [`Error::OptionsMismatch`] when it was created with an option that must not change, [`Error::InvalidOptions`], [`Error::TooLarge`] for the name, and the disk's.
    #[expect(clippy::needless_pass_by_value, reason = "options are made for one call")]
    pub fn keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace, Error> {
        open_keyspace(&self.handle, name, None, &options)
    }

    /// Drops a keyspace with all it holds, durably. Its number is never used again; a keyspace that is created later under the
    /// same name is another one, and empty.
    ///
    /// Handles of it, batches that name it, and snapshots fail with [`Error::UnknownKeyspace`] from then on. Iterators that
    /// were there before read on what they pinned. A write that was under way may still return `Ok`, and is gone. Files are
    /// removed once no iterator reads them. Waits for a flush or compaction under way.
    ///
    /// # Errors
    /// [`Error::NoSuchKeyspace`], [`Error::InvalidOptions`] for a space of a [`LsmStore`](crate::LsmStore),
    /// [`Error::ReadOnly`], [`Error::Poisoned`], and the disk's: then it is still there.
    pub fn drop_keyspace(&self, name: &str) -> Result<(), Error> {
        drop_keyspace(&self.handle, name)
    }

    /// The options that a keyspace has. What comes back opens it again. The merge operator is among them once the keyspace
    /// was opened with it; only that there is one is stored.
    ///
    /// # Errors
    /// [`Error::NoSuchKeyspace`].
    pub fn keyspace_options(&self, name: &str) -> Result<KeyspaceOptions, Error> {
        keyspace_options(&self.handle, name)
    }

    /// Names of all keyspaces, in the order of their numbers.
    #[must_use]
    pub fn keyspaces(&self) -> Vec<String> {
        self.handle.keyspaces.load().values().map(|state| state.name.to_string()).collect()
    }

    /// Applies a batch with the durability the database was opened with. On return it is visible as a whole.
    ///
    /// # Errors
    /// See [`Error`]. After [`Error::Ambiguous`] the batch is visible and may survive. After every other nothing is visible
    /// and nothing survives, with one exception: what a failed write left on the disk can come back after a power cut that
    /// nothing later was synced before.
    pub fn write(&self, batch: Batch) -> Result<(), Error> {
        self.write_with(batch, WriteOptions::default())
    }

    /// Applies a batch.
    ///
    /// # Errors
    /// As [`Database::write`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a batch is spent by writing it, and later versions keep its bytes"
    )]
    pub fn write_with(&self, batch: Batch, options: WriteOptions) -> Result<(), Error> {
        let batch = batch.for_database(self.handle.token)?;
        let durability = options.durability.unwrap_or(self.handle.config.durability);
        commit(&self.handle, batch, durability).map(|_| ())
    }

    /// Applies a batch, or says at once that it would have to wait for flushes or compactions, or to sleep because they are
    /// behind; then nothing was changed, and the same batch may be tried again. For hosts that must not block, such as the
    /// thread of an event loop. With [`Durability::Sync`](crate::Durability::Sync) it waits for the disk all the same.
    ///
    /// # Errors
    /// As [`Database::write`], and [`Error::Stalled`].
    pub fn try_write(&self, batch: &Batch, options: WriteOptions) -> Result<(), Error> {
        let batch = batch.for_database(self.handle.token)?;
        let durability = options.durability.unwrap_or(self.handle.config.durability);
        try_commit(&self.handle, batch, durability).map(|_| ())
    }

    /// The state at this moment, of all keyspaces, unchanged by later writes. It keeps what it sees from being compacted
    /// away, so do not keep it for ever.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(Arc::clone(&self.handle))
    }

    /// Makes everything written before the call durable.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn sync(&self) -> Result<(), Error> {
        self.handle.health.check()?;
        background::sync_all(&self.handle)
    }

    /// Writes all memtables to tables, durably, in the calling thread.
    ///
    /// # Errors
    /// See [`Error`]; what was not flushed stays in memory and in the log.
    pub fn flush(&self) -> Result<(), Error> {
        flush::flush_all(&self.handle)?;
        self.handle.work_wanted.raise();
        Ok(())
    }

    /// Makes a second database with the content of this moment in the directory `target`, which must not exist, and returns
    /// the number of the last operation in it.
    ///
    /// Reads and writes go on meanwhile. Immutable files are linked, so it costs little room at first; on another file
    /// system they are copied. On return the checkpoint is durable; after a power cut during the call `target` is there
    /// whole, or not at all. What an interrupted call leaves is a directory `target.unfinished`, which the next checkpoint
    /// with this target reuses.
    ///
    /// A checkpoint is a database of its own. It carries everything that is in the keyspaces: a host that keeps in them who
    /// it is, as a node of a cluster does, has to clear that away before it starts another one from a checkpoint (see
    /// `docs/operations.md`).
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] for the target, [`Error::Locked`] when another checkpoint with this target is being made,
    /// [`Error::Poisoned`], [`Error::ReadOnly`], and the disk's. There is no checkpoint then, unless its durability is what
    /// failed.
    pub fn checkpoint(&self, target: impl AsRef<Path>) -> Result<u64, Error> {
        checkpoint(&self.handle, target.as_ref())
    }

    /// Reads everything that the database consists of and checks what must hold: every block and its checksum, the order of
    /// keys, filters, levels without overlap, newer versions above older ones, manifest and log. Reads and writes go on
    /// meanwhile, and what they change does not disturb it. Reads past the cache.
    ///
    /// # Errors
    /// [`Error::Poisoned`]. What is wrong with files is in the report.
    pub fn verify(&self) -> Result<VerifyReport, Error> {
        self.verify_with(|_| {})
    }

    /// The same, telling how far it has come.
    ///
    /// # Errors
    /// As [`Database::verify`].
    pub fn verify_with(&self, mut told: impl FnMut(Progress)) -> Result<VerifyReport, Error> {
        verify_open(&self.handle, &mut told)
    }

    /// Does one piece of background work (a sync that was asked for, a flush, a compaction, the removal of files that are
    /// not needed), and returns whether there was any. For [`Background::Manual`](crate::Background::Manual); harmless
    /// otherwise.
    ///
    /// # Errors
    /// See [`Error`]; unless the database is poisoned, the same work is tried again by a later step.
    pub fn step(&self) -> Result<bool, Error> {
        background::step(&self.handle)
    }

    /// Every operation up to this number is durable. Never goes back.
    ///
    /// # Errors
    /// [`Error::Poisoned`]: nothing more becomes durable until the database is opened again.
    pub fn durable_sequence(&self) -> Result<u64, Error> {
        self.handle.health.check()?;
        if sabotaged!(CallVisibleDurable) {
            return Ok(self.handle.snapshots.visible());
        }
        Ok(self.handle.syncer.durable_sequence())
    }

    /// Counters and sizes at this moment.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics::of(&self.handle)
    }
}

impl Builder {
    /// Opens the database, and creates it when there is none.
    ///
    /// On return everything recovered is durable. The database stays open, and locked, until the last of its handles
    /// (keyspaces, snapshots and iterators among them) is dropped.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Corrupt`], [`Error::Unsupported`], [`Error::InvalidOptions`], for reading only also
    /// [`Error::NoDatabase`], and the disk's. Nothing that was there before is changed then.
    pub fn open(self) -> Result<Database, Error> {
        self.open_with(&BTreeMap::new())
    }

    /// Makes a database out of what is left of one. When nothing is wrong, nothing is changed.
    ///
    /// Else all that can still be read of tables and log is merged by sequence number into new tables, each keyspace on one
    /// level, and a new manifest is written. Nothing is ever deleted: every file that was there is in `quarantine/` afterwards,
    /// so it takes as much room again.
    ///
    /// **With a manifest that can be read**, what is lost is what lay in unreadable blocks, in missing tables, and in the log
    /// behind its first damage. Where a delete or a newer value is lost, an older value of the same key may be back.
    ///
    /// **Without one**, tables name their keyspaces and options, and say which tables they stand for, so that what compactions
    /// left behind does not count twice. Beyond the losses above: a keyspace of which there is no table is called `recovered` and
    /// its number, with default options; one that was empty is gone; one that was dropped is back when files of it were still
    /// there and no whole edit of the damaged manifest tells of the drop; a table that was replaced twice over while an iterator
    /// kept it may count again.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::NoDatabase`], [`Error::Unsupported`] for files of a newer version, and the disk's. The
    /// database is then as it was, or, when the last step failed, repaired.
    pub fn repair(mut self) -> Result<RepairReport, Error> {
        self.config.divide(self.memory)?;
        self.config.validate()?;
        if self.config.read_only {
            return Err(Error::ReadOnly);
        }
        repair(&self.disk, &self.path, &self.config)
    }

    /// Verifies the files of a database without opening it, as [`Database::verify`] does. Nothing on the disk is changed. The
    /// lock is taken as by [`Builder::read_only`]. Works on a database that cannot be opened any more.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], [`Error::Locked`], and what keeps the directory from being listed. What is wrong with files is
    /// in the report.
    pub fn verify_files(self, mut told: impl FnMut(Progress)) -> Result<VerifyReport, Error> {
        let disk: Arc<dyn Disk> = Arc::new(OverlayDisk::new(self.disk));
        must_exist(disk.as_ref(), &self.path)?;
        let _lock = take_lock(disk.as_ref(), &self.path)?;
        verify_files(&disk, &self.path, &mut told)
    }

    /// Opens with the merge operators of keyspaces that recovery may already fold.
    pub(crate) fn open_with(mut self, operators: &BTreeMap<u32, Arc<dyn MergeOperator>>) -> Result<Database, Error> {
        self.config.divide(self.memory)?;
        self.config.validate()?;
        if self.config.read_only {
            must_exist(self.disk.as_ref(), &self.path)?;
            self.disk = Arc::new(OverlayDisk::new(self.disk));
            self.config.background = Background::Manual;
        }
        let parts = recover(&self.disk, &self.path, self.config, operators)?;
        Ok(Database::new(Handle::new(Engine::new(parts))?))
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("directory", &self.handle.directory).finish_non_exhaustive()
    }
}
