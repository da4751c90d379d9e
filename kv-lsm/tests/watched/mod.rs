//! A disk in memory that tells what is about to be done to a file, and waits for as long as who is told does.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_lsm::disk::{Disk, File, LockGuard, MemDisk, OpenMode};

/// What is about to be done.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum About {
    OpenToRead,
    Link,
    Sync,
}

type Told = dyn Fn(About, &Path) + Send + Sync;

#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) disk: MemDisk,
    told: Arc<Told>,
}

impl Watched {
    pub(crate) fn new(told: impl Fn(About, &Path) + Send + Sync + 'static) -> Self {
        Self { disk: MemDisk::new(), told: Arc::new(told) }
    }
}

impl Disk for Watched {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if mode == OpenMode::Read {
            (self.told)(About::OpenToRead, path);
        }
        let file = self.disk.open(path, mode)?;
        Ok(Arc::new(WatchedFile { file, path: path.to_path_buf(), told: Arc::clone(&self.told) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.told)(About::Link, from);
        self.disk.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        self.disk.create_dir(directory)
    }

    fn rename_dir(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename_dir(from, to)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_dir(directory)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        self.disk.lock(path)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        self.disk.lock_shared(path)
    }
}

struct WatchedFile {
    file: Arc<dyn File>,
    path: PathBuf,
    told: Arc<Told>,
}

impl File for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        (self.told)(About::Sync, &self.path);
        self.file.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.file.allocate(length)
    }
}
