//! An open file of a simulated disk.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::{File, LockGuard};
use super::names::InodeId;
use super::state::State;

/// The state of a disk, shared by its clones and its open files.
pub(super) type Shared = Arc<Mutex<State>>;

/// A panic of a thread that held the lock does not matter: no method of the state leaves it half changed.
pub(super) fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct SimFile {
    shared: Shared,
    inode: InodeId,
    path: PathBuf,
    writable: bool,
}

impl SimFile {
    /// A handle on `inode`, which `state`, the locked content of `shared`, counts.
    pub(super) fn new(shared: &Shared, state: &mut State, inode: InodeId, path: PathBuf, writable: bool) -> Self {
        state.inode_mut(inode).handles += 1;
        Self { shared: Arc::clone(shared), inode, path, writable }
    }

    fn writable(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.writable {
            Ok(lock(&self.shared))
        } else {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file was opened for reading"))
        }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        lock(&self.shared).inode_mut(self.inode).handles -= 1;
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        lock(&self.shared).read(self.inode, &self.path, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.writable()?.write(self.inode, &self.path, bytes, offset)
    }

    fn store_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.writable()?.store(self.inode, &self.path, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        lock(&self.shared).sync(self.inode, &self.path)
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = lock(&self.shared);
        state.check_power()?;
        let length = state.inode(self.inode).live().length();
        // Whoever asks where a file ends has looked at what is no longer there.
        state.look(self.inode, &(length..u64::MAX));
        Ok(length)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.writable()?.truncate(self.inode, &self.path, length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.writable()?.allocate(self.inode, &self.path, length)
    }
}

pub(super) struct SimLock {
    pub(super) shared: Shared,
    pub(super) path: PathBuf,
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        lock(&self.shared).locks.release(&self.path);
    }
}
