//! A simulated disk that loses what was not synced, and fails on demand.
//!
//! The model is the worst that a program has to expect of a POSIX file system on a disk that keeps its word:
//!
//! - A write is durable after a sync of its file. Until then every sector (512 bytes) of it survives a power cut or not,
//!   each for itself; so does every change of the length.
//! - A store is a write, or two, one behind the other: it may be cut in the middle of a sector.
//! - A name is durable after a sync of its directory. Until then every creation, link, rename and removal survives or not,
//!   each for itself; the two effects of a rename stay together. A directory itself is durable when `create_dir` or
//!   `rename_dir` returns.
//! - A failed sync leaves its pages clean: reads go on seeing them, later syncs do not write them.
//! - There may be no room, reads may be short or interrupted, bits rot, writes get lost or go astray ([`Fault`]).
//!
//! The same calls after the same seed give the same results: there is no clock, no thread and no other randomness inside.
//! Copies of the disk share the pages that neither has written since, so trying many power cuts from one point is cheap. Unsynced
//! writes are kept once more, in a journal, until their file is synced.

mod fault;
mod file;
mod inode;
mod names;
mod outcome;
mod pages;
mod random;
mod state;
mod survival;

pub use fault::{CallKind, Effect, Fault};
pub use survival::Survival;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::tree::normal;
use super::{Disk, File, LockGuard, OpenMode};
use file::{Shared, SimFile, SimLock};
use state::State;

/// A simulated disk; see the [module](super) for the real ones. Clones share it.
///
/// ```
/// use kv_lsm::disk::{Disk, OpenMode, SimDisk, Survival};
/// use std::path::Path;
///
/// let disk = SimDisk::new(7);
/// let file = disk.open(Path::new("/log"), OpenMode::CreateNew)?;
/// file.write_at(b"lost", 0)?;
/// disk.sync_dir(Path::new("/"))?;
/// let after = disk.reboot(Survival::None);
/// assert_eq!(after.open(Path::new("/log"), OpenMode::Read)?.len()?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct SimDisk {
    shared: Shared,
}

impl SimDisk {
    /// An empty disk with unlimited room. The seed decides what faults leave half done.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(State::new(seed))
    }

    fn with(state: State) -> Self {
        Self { shared: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        file::lock(&self.shared)
    }

    /// The disk as it is found after a power cut at this moment (or at the one that a [`Effect::PowerCut`] chose). This
    /// one stays as it is, so that other outcomes can be tried. Faults and locks are gone, the room is the same.
    #[must_use]
    pub fn reboot(&self, survival: Survival) -> Self {
        Self::with(self.state().after_power_cut(survival))
    }

    /// The disk as a new process in the same boot finds it: everything that was written is readable, and what was not
    /// synced still is not. This one stays as it is. Faults and locks are gone.
    #[must_use]
    pub fn restart(&self) -> Self {
        Self::with(self.state().after_process_death())
    }

    /// Cuts the power now: from here on every call fails. See [`SimDisk::reboot`].
    pub fn cut_power(&self) {
        let mut state = self.state();
        if state.cut_at.is_none() {
            state.cut_at = Some((CallKind::Sync, PathBuf::new()));
        }
    }

    /// Adds a fault. Faults count calls independently of each other; where two meet the same call the older one wins.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.add(fault);
    }

    /// Cuts the power during the mutating call that follows the next `calls` ones.
    pub fn cut_power_after(&self, calls: u64) {
        self.inject(Fault::new(Effect::PowerCut).after(calls));
    }

    /// From now on keeps a copy of the disk, as it is just before each mutating call: every moment at which a power cut
    /// could make a difference. Copies are cheap, so one run of a program shows what cuts at all of its calls would leave,
    /// see [`SimDisk::take_moments`].
    pub fn record_moments(&self) {
        self.state().moments.get_or_insert_default();
    }

    /// The copies since the last time, oldest first. [`SimDisk::reboot`] them to see what a power cut would have left.
    #[must_use]
    pub fn take_moments(&self) -> Vec<Self> {
        let moments = self.state().moments.as_mut().map(std::mem::take).unwrap_or_default();
        moments.into_iter().map(Self::with).collect()
    }

    /// Watches bytes of a file, instead of any watched before: [`SimDisk::was_looked_at`] says whether they mattered to
    /// anybody.
    ///
    /// # Errors
    /// `NotFound` when there is no such file.
    pub fn watch(&self, path: &Path, bytes: Range<u64>) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.names.file(&normal(path))?;
        state.watched = Some((inode, bytes, false));
        Ok(())
    }

    /// Whether any read met the watched bytes.
    #[must_use]
    pub fn was_looked_at(&self) -> bool {
        self.state().watched.as_ref().is_some_and(|(_, _, seen)| *seen)
    }

    /// Takes all faults away that have not met their call, and those that meet every call.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// How many calls met a fault.
    #[must_use]
    pub fn faults_met(&self) -> u64 {
        self.state().faults.met()
    }

    /// How many mutating calls there were, failed ones included.
    #[must_use]
    pub fn mutating_calls(&self) -> u64 {
        self.state().calls
    }

    /// The call during which the power was cut, and the path it was for; an empty path after [`SimDisk::cut_power`].
    #[must_use]
    pub fn power_cut_at(&self) -> Option<(CallKind, PathBuf)> {
        self.state().cut_at.clone()
    }

    /// Limits the room for content, in whole pages of 4 KiB; `None` lifts the limit. Files that were removed give theirs
    /// back when their last handle is closed.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.state().capacity_bytes = capacity_bytes;
    }

    /// How many units [`Survival`] would decide about.
    #[must_use]
    pub fn unsynced_units(&self) -> u64 {
        self.state().unsynced_units()
    }

    /// How many bytes of unsynced writes there are, counted in whole sectors, rewritten ones each time.
    #[must_use]
    pub fn unsynced_bytes(&self) -> u64 {
        self.state().unsynced_bytes()
    }

    /// A hash of what is durable for certain: names and contents. After [`SimDisk::reboot`] that is everything, so the
    /// hash tells outcomes apart.
    #[must_use]
    pub fn durable_hash(&self) -> u64 {
        self.state().durable_hash()
    }

    /// Every file with its length, sorted by path.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let files = state.names.live().files();
        files.map(|(path, &inode)| (path.to_path_buf(), state.inode(inode).live().length())).collect()
    }

    /// Overwrites bytes of a file beneath the file system, as decay or a stray write does: at once durable, unseen by
    /// any counter. What lies beyond the end is left alone.
    ///
    /// # Errors
    /// `NotFound` when there is no such file.
    pub fn damage(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.names.file(&normal(path))?;
        state.inode_mut(inode).damage(bytes, offset);
        Ok(())
    }

    /// Flips one bit of a file, as decay does.
    ///
    /// # Errors
    /// `NotFound` when there is no such file, `UnexpectedEof` when it has no such byte.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let mut byte = [0];
        {
            let state = self.state();
            let inode = state.names.file(&normal(path))?;
            if state.inode(inode).live().read(&mut byte, offset) == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.damage(path, offset, &[byte[0] ^ (1 << (bit % 8))])
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let path = normal(path);
        let mut state = self.state();
        let inode = if mode == OpenMode::CreateNew { state.create(&path) } else { state.open(&path) }?;
        Ok(Arc::new(SimFile::new(&self.shared, &mut state, inode, path, mode != OpenMode::Read)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().rename(&normal(from), &normal(to))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().link(&normal(from), &normal(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().remove(&normal(path))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.state().list(&normal(directory))
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        self.state().create_directory(&normal(directory))
    }

    fn rename_dir(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().rename_directory(&normal(from), &normal(to))
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.state().sync_directory(&normal(directory))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let path = normal(path);
        let mut state = self.state();
        state.check_power()?;
        if state.names.file(&path).is_err() {
            state.create(&path)?;
        }
        state.locks.take(&path)?;
        Ok(Box::new(SimLock { shared: Arc::clone(&self.shared), path }))
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let path = normal(path);
        let mut state = self.state();
        state.check_power()?;
        state.names.file(&path)?;
        state.locks.share(&path)?;
        Ok(Box::new(SimLock { shared: Arc::clone(&self.shared), path }))
    }
}
