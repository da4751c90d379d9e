//! A disk in memory, which never fails and forgets everything with its last clone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::locks::Locks;
use super::tree::{Tree, normal};
use super::{Disk, File, LockGuard, OpenMode};

/// A disk in memory. Clones share one tree. Syncs do nothing: there is no power to cut.
///
/// The empty path and `/` are there from the start; every other directory has to be made.
#[derive(Clone, Default)]
pub struct MemDisk {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    tree: Mutex<Tree<Arc<Content>>>,
    locks: Mutex<Locks>,
}

type Content = RwLock<Vec<u8>>;

impl MemDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn tree(&self) -> MutexGuard<'_, Tree<Arc<Content>>> {
        self.shared.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locks(&self) -> MutexGuard<'_, Locks> {
        self.shared.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let path = normal(path);
        let mut tree = self.tree();
        let content = if mode == OpenMode::CreateNew {
            tree.check_free(&path)?;
            let content = Arc::default();
            tree.set(path, Arc::clone(&content));
            content
        } else {
            Arc::clone(tree.file(&path)?)
        };
        Ok(Arc::new(MemFile { content, writable: mode != OpenMode::Read }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        let mut tree = self.tree();
        tree.check_rename(&from, &to)?;
        let file = tree.unset(&from).expect("checked to be a file");
        tree.set(to, file);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to = normal(to);
        let mut tree = self.tree();
        let file = Arc::clone(tree.file(&normal(from))?);
        tree.check_free(&to)?;
        tree.set(to, file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        let mut tree = self.tree();
        tree.file(&path)?;
        tree.unset(&path);
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.tree().list(&normal(directory))
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        let directory = normal(directory);
        let mut tree = self.tree();
        tree.check_directory(&directory)?;
        tree.make_directory(&directory);
        Ok(())
    }

    fn rename_dir(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        let mut tree = self.tree();
        tree.check_rename_directory(&from, &to)?;
        tree.rename_directory(&from, &to);
        Ok(())
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.tree().check_is_directory(&normal(directory))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let path = normal(path);
        let mut tree = self.tree();
        if tree.file(&path).is_err() {
            tree.check_free(&path)?;
            tree.set(path.clone(), Arc::default());
        }
        drop(tree);
        self.locks().take(&path)?;
        Ok(Box::new(MemLock { disk: self.clone(), path }))
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let path = normal(path);
        self.tree().file(&path)?;
        self.locks().share(&path)?;
        Ok(Box::new(MemLock { disk: self.clone(), path }))
    }
}

struct MemLock {
    disk: MemDisk,
    path: PathBuf,
}

impl LockGuard for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.disk.locks().release(&self.path);
    }
}

struct MemFile {
    content: Arc<Content>,
    writable: bool,
}

impl MemFile {
    /// Changes the content, after it was brought to a length of at least `length`.
    fn change<R>(&self, length: u64, change: impl FnOnce(&mut Vec<u8>) -> R) -> io::Result<R> {
        if !self.writable {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file was opened for reading"));
        }
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        if length > content.len() {
            let more = length - content.len();
            content.try_reserve(more).map_err(|_| io::ErrorKind::StorageFull)?;
            content.resize(length, 0);
        }
        Ok(change(&mut content))
    }
}

impl File for MemFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let count = buffer.len().min(content.len() - start);
        buffer[..count].copy_from_slice(&content[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return self.change(0, |_| ());
        }
        let end = offset.checked_add(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        self.change(end, |content| {
            let start = usize::try_from(offset).expect("below an end that fits");
            content[start..start + bytes.len()].copy_from_slice(bytes);
        })
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.read().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.change(length, |content| {
            content.truncate(usize::try_from(length).expect("was reached by growing"));
        })
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.change(length, |_| ())
    }
}
