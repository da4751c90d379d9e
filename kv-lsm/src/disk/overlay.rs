//! A disk over another one that is only read: what is changed stays in memory and goes with it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::tree::{normal, parent_of};
use super::{Disk, File, LockGuard, MemDisk, OpenMode, read_exact_at};

/// Reads from the disk below, writes to memory. Not one call that could change anything reaches the disk below. So what is
/// meant for a disk that can be written, such as recovery, runs on one that must not be.
pub(crate) struct OverlayDisk {
    below: Arc<dyn Disk>,
    above: MemDisk,
    /// Files of the disk below that were removed.
    gone: Mutex<BTreeSet<PathBuf>>,
}

impl OverlayDisk {
    pub(crate) fn new(below: Arc<dyn Disk>) -> Self {
        Self { below, above: MemDisk::new(), gone: Mutex::default() }
    }

    fn gone(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_above(&self, path: &Path) -> bool {
        self.above.open(path, OpenMode::Read).is_ok()
    }

    fn open_below(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        if self.gone().contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.below.open(path, OpenMode::Read)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.open(path, OpenMode::Read) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Directories need no making above: that of a name that is given there is the one below.
    fn create_above(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.above.create_dir(parent_of(path))?;
        self.above.open(path, OpenMode::CreateNew)
    }

    /// Copies a file into memory, so that it can be changed there.
    fn lift(&self, path: &Path) -> io::Result<()> {
        if self.is_above(path) {
            return Ok(());
        }
        let source = self.open_below(path)?;
        let mut content = vec![0; usize::try_from(source.len()?).map_err(io::Error::other)?];
        read_exact_at(source.as_ref(), &mut content, 0)?;
        self.create_above(path)?.write_at(&content, 0)
    }
}

impl Disk for OverlayDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let path = &normal(path);
        match mode {
            OpenMode::Read if self.is_above(path) => self.above.open(path, mode),
            OpenMode::Read => self.open_below(path),
            OpenMode::ReadWrite => {
                self.lift(path)?;
                self.above.open(path, mode)
            }
            OpenMode::CreateNew if self.exists(path)? => Err(io::ErrorKind::AlreadyExists.into()),
            OpenMode::CreateNew => self.create_above(path),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        self.lift(&from)?;
        self.above.create_dir(parent_of(&to))?;
        self.above.rename(&from, &to)?;
        self.gone().insert(from);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        if self.exists(&to)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.lift(&from)?;
        self.above.create_dir(parent_of(&to))?;
        self.above.link(&from, &to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        if self.is_above(&path) {
            self.above.remove(&path)?;
        } else {
            self.open_below(&path)?;
        }
        self.gone().insert(path);
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let directory = normal(directory);
        let above = self.above.list(&directory);
        let mut names: BTreeSet<String> = match self.below.list(&directory) {
            Ok(names) => names.into_iter().filter(|name| !self.gone().contains(&directory.join(name))).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound && above.is_ok() => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        names.extend(above.unwrap_or_default());
        Ok(names.into_iter().collect())
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        self.above.create_dir(directory)
    }

    fn rename_dir(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    /// The shared lock of the disk below. A directory without a lock file was never opened to be written.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        match self.below.lock_shared(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Box::new(NothingToLock)),
            other => other,
        }
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        self.lock(path)
    }
}

struct NothingToLock;

impl LockGuard for NothingToLock {}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(disk: &dyn Disk, path: &str) -> Option<Vec<u8>> {
        let file = disk.open(Path::new(path), OpenMode::Read).ok()?;
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        read_exact_at(file.as_ref(), &mut bytes, 0).unwrap();
        Some(bytes)
    }

    #[test]
    fn changes_are_seen_and_stay_above() {
        let below = super::super::SimDisk::new(1);
        below.create_dir(Path::new("/d")).unwrap();
        for name in ["a", "b", "c"] {
            below.open(&Path::new("/d").join(name), OpenMode::CreateNew).unwrap().write_at(name.as_bytes(), 0).unwrap();
        }
        let calls = below.mutating_calls();
        let disk = OverlayDisk::new(Arc::new(below.clone()));
        let path = |name: &str| Path::new("/d").join(name);
        disk.remove(&path("a")).unwrap();
        assert!(disk.remove(&path("a")).is_err());
        disk.rename(&path("b"), &path("renamed")).unwrap();
        disk.open(&path("c"), OpenMode::ReadWrite).unwrap().write_at(b"C", 0).unwrap();
        disk.link(&path("c"), &path("linked")).unwrap();
        disk.open(&path("new"), OpenMode::CreateNew).unwrap().write_at(b"n", 0).unwrap();
        assert!(disk.open(&path("c"), OpenMode::CreateNew).is_err(), "the name is taken");
        disk.open(&path("a"), OpenMode::CreateNew).unwrap();
        assert_eq!(disk.list(Path::new("/d")).unwrap(), ["a", "c", "linked", "new", "renamed"]);
        assert_eq!(content(&disk, "/d/a"), Some(Vec::new()));
        assert_eq!(content(&disk, "/d/b"), None);
        assert_eq!(content(&disk, "/d/renamed"), Some(b"b".to_vec()));
        assert_eq!((content(&disk, "/d/c"), content(&disk, "/d/linked")), (Some(b"C".to_vec()), Some(b"C".to_vec())));
        assert_eq!(below.mutating_calls(), calls, "the disk below was not touched");
        assert_eq!(content(&below, "/d/c"), Some(b"c".to_vec()));
    }
}
