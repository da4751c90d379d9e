//! Names in memory: what the in-memory disk and the simulated disk have for a directory tree.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

/// A tree of names, each a directory or a file; `T` says which file. The empty path and `/` are always directories.
#[derive(Clone, Debug)]
pub(super) struct Tree<T> {
    // Paths compare component by component, so a directory's content follows it directly, in order.
    entries: BTreeMap<PathBuf, Entry<T>>,
}

#[derive(Clone, Debug)]
enum Entry<T> {
    Directory,
    File(T),
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new() }
    }
}

/// The form of `path` under which it is kept: without `.`.
pub(super) fn normal(path: &Path) -> PathBuf {
    path.components().filter(|component| *component != Component::CurDir).collect()
}

/// The directory that a normal path is a name in.
pub(super) fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Where `path` lies once the directory `from` is called `to`; `None` when it is not inside.
pub(super) fn moved(path: &Path, from: &Path, to: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix(from).ok()?;
    Some(if rest.as_os_str().is_empty() { to.to_path_buf() } else { to.join(rest) })
}

/// All paths are normal.
impl<T: Clone> Tree<T> {
    /// The file of that name.
    pub(super) fn file(&self, path: &Path) -> io::Result<&T> {
        match self.entries.get(path) {
            Some(Entry::File(file)) => Ok(file),
            _ if self.is_directory(path) => Err(io::ErrorKind::IsADirectory.into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether `path` can be given to a new file.
    pub(super) fn check_free(&self, path: &Path) -> io::Result<()> {
        if self.is_directory(path) || self.entries.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.check_parent(path)
    }

    /// Whether the file `from` can be renamed to `to`.
    pub(super) fn check_rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.file(from)?;
        if self.is_directory(to) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.check_parent(to)
    }

    fn check_parent(&self, path: &Path) -> io::Result<()> {
        match self.entries.get(parent_of(path)) {
            Some(Entry::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            _ if self.is_directory(parent_of(path)) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Makes `path` name `file`; returns what it named before.
    pub(super) fn set(&mut self, path: PathBuf, file: T) -> Option<T> {
        match self.entries.insert(path, Entry::File(file)) {
            Some(Entry::File(before)) => Some(before),
            Some(Entry::Directory) => panic!("a file took the name of a directory"),
            None => None,
        }
    }

    /// Takes the name of a file away; returns the file.
    pub(super) fn unset(&mut self, path: &Path) -> Option<T> {
        match self.entries.remove(path) {
            Some(Entry::File(before)) => Some(before),
            Some(Entry::Directory) => {
                panic!("the name of a directory was taken away as that of a file")
            }
            None => None,
        }
    }

    /// Whether `path` is a directory.
    pub(super) fn is_directory(&self, path: &Path) -> bool {
        path.parent().is_none() || matches!(self.entries.get(path), Some(Entry::Directory))
    }

    /// Whether there is such a directory.
    pub(super) fn check_is_directory(&self, path: &Path) -> io::Result<()> {
        match self.entries.get(path) {
            _ if self.is_directory(path) => Ok(()),
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether `directory` and its parents can be made.
    pub(super) fn check_directory(&self, directory: &Path) -> io::Result<()> {
        if directory.ancestors().any(|path| matches!(self.entries.get(path), Some(Entry::File(_)))) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(())
    }

    /// Makes a directory and its missing parents.
    pub(super) fn make_directory(&mut self, directory: &Path) {
        for path in directory.ancestors() {
            if path.parent().is_some() {
                self.entries.entry(path.to_path_buf()).or_insert(Entry::Directory);
            }
        }
    }

    /// Whether the directory `from` can be renamed to `to`.
    pub(super) fn check_rename_directory(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check_is_directory(from)?;
        if to.starts_with(from) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.check_free(to)
    }

    /// Renames a directory, with all that is in it.
    pub(super) fn rename_directory(&mut self, from: &Path, to: &Path) {
        let inside: Vec<PathBuf> = self.entries.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in inside {
            let entry = self.entries.remove(&path).expect("just listed");
            self.entries.insert(moved(&path, from, to).expect("inside the directory"), entry);
        }
    }

    /// The names in a directory, sorted.
    pub(super) fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.check_is_directory(directory)?;
        let below = self.entries.range(directory.to_path_buf()..).map(|(path, _)| path);
        Ok(below
            .take_while(|path| path.starts_with(directory))
            .filter(|path| path.parent() == Some(directory))
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect())
    }

    /// Every file, by path.
    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, &T)> {
        self.entries.iter().filter_map(|(path, entry)| match entry {
            Entry::File(file) => Some((path.as_path(), file)),
            Entry::Directory => None,
        })
    }

    /// Every directory that was made, by path.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.entries.iter().filter_map(|(path, entry)| matches!(entry, Entry::Directory).then_some(path.as_path()))
    }
}
