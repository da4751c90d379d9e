//! The names of a volatile disk: what was done to them since the last directory sync.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::tree::{moved, parent_of};
use super::super::{Disk, OpenMode};
use super::file::Overlay;

/// Unsynced changes of names over those of the disk below. All paths are normal.
///
/// New files are created below at once, and removed again by a power cut. All other changes wait: they are carried out
/// below, in order, when any directory is synced, or earlier when a new file needs a name that is still taken there. Both
/// are allowed, because a power cut may keep any part of what was not synced.
#[derive(Default)]
pub(super) struct Names {
    waiting: Vec<Change>,
    /// Directories that were changed below since they were last synced there.
    unsynced_directories: BTreeSet<PathBuf>,
    /// Files that are open or have unsynced content, by their path below.
    files: BTreeMap<PathBuf, Arc<Overlay>>,
}

enum Change {
    Create { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Link { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
}

/// Where a name leads.
enum Target {
    /// No waiting change concerns it: the disk below knows.
    Unchanged,
    /// To the file that has this path below.
    File(PathBuf),
    /// Nowhere: a waiting change took it away.
    Gone,
}

impl Names {
    fn target(&self, path: &Path) -> Target {
        let mut path = path;
        let mut moved = false;
        for change in self.waiting.iter().rev() {
            match change {
                Change::Create { path: created } if created == path => return Target::File(created.clone()),
                Change::Remove { path: removed } if removed == path => return Target::Gone,
                Change::Rename { from, to } | Change::Link { from, to } if to == path => {
                    path = from;
                    moved = true;
                }
                Change::Rename { from, .. } if from == path => return Target::Gone,
                _ => {}
            }
        }
        if moved { Target::File(path.to_path_buf()) } else { Target::Unchanged }
    }

    fn exists(&self, below: &dyn Disk, path: &Path) -> io::Result<bool> {
        match self.target(path) {
            Target::Gone => Ok(false),
            Target::File(_) => Ok(true),
            // Some systems open directories for reading.
            Target::Unchanged if below.list(path).is_ok() => Err(io::ErrorKind::IsADirectory.into()),
            Target::Unchanged => match below.open(path, OpenMode::Read) {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    fn check_exists(&self, below: &dyn Disk, path: &Path) -> io::Result<()> {
        if self.exists(below, path)? { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// The file of that name; `overlay` makes what is not known yet.
    pub(super) fn open(
        &mut self,
        below: &dyn Disk,
        path: &Path,
        mode: OpenMode,
        overlay: impl FnOnce(&Path, OpenMode) -> io::Result<Overlay>,
    ) -> io::Result<Arc<Overlay>> {
        let place = match (mode, self.target(path)) {
            (OpenMode::CreateNew, Target::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::CreateNew, target) => {
                if matches!(target, Target::Gone) {
                    self.carry_out(below)?;
                }
                let file = Arc::new(overlay(path, mode)?);
                self.waiting.push(Change::Create { path: path.to_path_buf() });
                self.files.insert(path.to_path_buf(), Arc::clone(&file));
                return Ok(file);
            }
            (_, Target::Gone) => return Err(io::ErrorKind::NotFound.into()),
            (_, Target::File(place)) => place,
            (_, Target::Unchanged) => path.to_path_buf(),
        };
        if let Some(file) = self.files.get(&place) {
            if mode == OpenMode::ReadWrite {
                file.make_writable(|| below.open(&place, mode))?;
            }
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(overlay(&place, mode)?);
        self.files.insert(place, Arc::clone(&file));
        Ok(file)
    }

    pub(super) fn rename(&mut self, below: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
        self.check_exists(below, from)?;
        below.list(parent_of(to))?;
        self.exists(below, to)?;
        if from != to {
            self.waiting.push(Change::Rename { from: from.to_path_buf(), to: to.to_path_buf() });
        }
        Ok(())
    }

    pub(super) fn link(&mut self, below: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
        self.check_exists(below, from)?;
        below.list(parent_of(to))?;
        if self.exists(below, to)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.waiting.push(Change::Link { from: from.to_path_buf(), to: to.to_path_buf() });
        Ok(())
    }

    pub(super) fn remove(&mut self, below: &dyn Disk, path: &Path) -> io::Result<()> {
        self.check_exists(below, path)?;
        self.waiting.push(Change::Remove { path: path.to_path_buf() });
        Ok(())
    }

    pub(super) fn list(&self, below: &dyn Disk, directory: &Path) -> io::Result<Vec<String>> {
        let mut names: BTreeSet<String> = below.list(directory)?.into_iter().collect();
        let inside = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.filter(|_| parent_of(path) == directory).map(str::to_owned)
        };
        for change in &self.waiting {
            let (gone, come) = match change {
                Change::Create { path } => (None, inside(path)),
                Change::Link { to, .. } => (None, inside(to)),
                Change::Rename { from, to } => (inside(from), inside(to)),
                Change::Remove { path } => (inside(path), None),
            };
            if let Some(gone) = gone {
                names.remove(&gone);
            }
            names.extend(come);
        }
        Ok(names.into_iter().collect())
    }

    /// Renames a directory at once, below as well: everything in it was synced.
    pub(super) fn rename_directory(&mut self, below: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
        self.carry_out(below)?;
        below.rename_dir(from, to)?;
        let place = |path: PathBuf| moved(&path, from, to).unwrap_or(path);
        self.files = std::mem::take(&mut self.files).into_iter().map(|(path, file)| (place(path), file)).collect();
        let directories = std::mem::take(&mut self.unsynced_directories);
        self.unsynced_directories = directories.into_iter().map(place).collect();
        Ok(())
    }

    /// Makes all names durable, those of `directory` and of every other that was changed.
    pub(super) fn sync(&mut self, below: &dyn Disk, directory: &Path) -> io::Result<()> {
        self.carry_out(below)?;
        self.unsynced_directories.insert(directory.to_path_buf());
        while let Some(directory) = self.unsynced_directories.first() {
            below.sync_dir(directory)?;
            self.unsynced_directories.pop_first();
        }
        Ok(())
    }

    /// Does below what was waiting. After an error the rest still waits.
    fn carry_out(&mut self, below: &dyn Disk) -> io::Result<()> {
        while !self.waiting.is_empty() {
            let change = &self.waiting[0];
            change.carry_out(below)?;
            for path in change.paths() {
                self.unsynced_directories.insert(parent_of(path).to_path_buf());
            }
            match self.waiting.remove(0) {
                Change::Create { .. } => {}
                Change::Rename { from, to } => {
                    self.files.remove(&to);
                    if let Some(file) = self.files.remove(&from) {
                        self.files.insert(to, file);
                    }
                }
                Change::Link { from, to } => {
                    if let Some(file) = self.files.get(&from).cloned() {
                        self.files.insert(to, file);
                    }
                }
                Change::Remove { path } => {
                    self.files.remove(&path);
                }
            }
        }
        Ok(())
    }

    /// Forgets files that nobody has open and that have nothing unsynced; `closing` is about to be closed.
    pub(super) fn forget_closed(&mut self, closing: &Arc<Overlay>) {
        self.files.retain(|_, file| {
            let handles = Arc::strong_count(file) - 1 - usize::from(Arc::ptr_eq(file, closing));
            handles > 0 || file.is_dirty()
        });
    }

    /// Takes back every change that was not synced; returns how many files lost their only name.
    pub(super) fn cut_power(&mut self, below: &dyn Disk) -> io::Result<u64> {
        self.files.clear();
        let mut files = 0;
        let mut result = Ok(());
        for change in self.waiting.drain(..) {
            if let Change::Create { path } = change {
                files += 1;
                result = result.and(below.remove(&path));
            }
        }
        result.map(|()| files)
    }
}

impl Change {
    fn carry_out(&self, below: &dyn Disk) -> io::Result<()> {
        match self {
            Self::Create { .. } => Ok(()),
            Self::Rename { from, to } => below.rename(from, to),
            Self::Link { from, to } => below.link(from, to),
            Self::Remove { path } => below.remove(path),
        }
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let (one, other) = match self {
            Self::Create { path } | Self::Remove { path } => (path, None),
            Self::Link { to, .. } => (to, None),
            Self::Rename { from, to } => (from, Some(to)),
        };
        std::iter::once(one).chain(other).map(PathBuf::as_path)
    }
}
