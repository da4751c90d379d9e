//! Names in memory: what the in-memory disk and the simulated disk have for a directory tree.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

/// A tree of names, each a directory or a file; `T` says which file. The empty path and `/` are always directories.
#[derive(Clone, Debug)]
pub(super) struct Tree<T> {
    entries: BTreeMap<Name, Entry<T>>,
}

/// A normal path. It compares component by component, so a directory's content follows it directly, in order; but as bytes, which
/// is several times as fast as paths are, because a long run of the battery looks for files by the million.
#[derive(Clone, Eq, PartialEq, Debug)]
struct Name(PathBuf);

impl Name {
    fn of(path: &Path) -> Self {
        Self(path.to_path_buf())
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        let (left, right) = (self.0.as_os_str().as_encoded_bytes(), other.0.as_os_str().as_encoded_bytes());
        // What ends a component is lower than what may be in one.
        let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
        match left.iter().zip(right).find(|(left, right)| left != right) {
            Some((&left, &right)) => rank(left).cmp(&rank(right)),
            None => left.len().cmp(&right.len()),
        }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
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
        match self.entries.get(&Name::of(path)) {
            Some(Entry::File(file)) => Ok(file),
            _ if self.is_directory(path) => Err(io::ErrorKind::IsADirectory.into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether `path` can be given to a new file.
    pub(super) fn check_free(&self, path: &Path) -> io::Result<()> {
        if self.is_directory(path) || self.entries.contains_key(&Name::of(path)) {
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
        match self.entries.get(&Name::of(parent_of(path))) {
            Some(Entry::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            _ if self.is_directory(parent_of(path)) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Makes `path` name `file`; returns what it named before.
    pub(super) fn set(&mut self, path: PathBuf, file: T) -> Option<T> {
        match self.entries.insert(Name(path), Entry::File(file)) {
            Some(Entry::File(before)) => Some(before),
            Some(Entry::Directory) => panic!("a file took the name of a directory"),
            None => None,
        }
    }

    /// Takes the name of a file away; returns the file.
    pub(super) fn unset(&mut self, path: &Path) -> Option<T> {
        match self.entries.remove(&Name::of(path)) {
            Some(Entry::File(before)) => Some(before),
            Some(Entry::Directory) => {
                panic!("the name of a directory was taken away as that of a file")
            }
            None => None,
        }
    }

    /// Whether `path` is a directory.
    pub(super) fn is_directory(&self, path: &Path) -> bool {
        path.parent().is_none() || matches!(self.entries.get(&Name::of(path)), Some(Entry::Directory))
    }

    /// Whether there is such a directory.
    pub(super) fn check_is_directory(&self, path: &Path) -> io::Result<()> {
        match self.entries.get(&Name::of(path)) {
            _ if self.is_directory(path) => Ok(()),
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether `directory` and its parents can be made.
    pub(super) fn check_directory(&self, directory: &Path) -> io::Result<()> {
        if directory.ancestors().any(|path| matches!(self.entries.get(&Name::of(path)), Some(Entry::File(_)))) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(())
    }

    /// Makes a directory and its missing parents.
    pub(super) fn make_directory(&mut self, directory: &Path) {
        for path in directory.ancestors() {
            if path.parent().is_some() {
                self.entries.entry(Name::of(path)).or_insert(Entry::Directory);
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
        let inside: Vec<Name> = self.entries.keys().filter(|name| name.0.starts_with(from)).cloned().collect();
        for name in inside {
            let entry = self.entries.remove(&name).expect("just listed");
            self.entries.insert(Name(moved(&name.0, from, to).expect("inside the directory")), entry);
        }
    }

    /// The names in a directory, sorted.
    pub(super) fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.check_is_directory(directory)?;
        let below = self.entries.range(Name::of(directory)..).map(|(name, _)| &name.0);
        Ok(below
            .take_while(|path| path.starts_with(directory))
            .filter(|path| path.parent() == Some(directory))
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect())
    }

    /// Every file, by path.
    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, &T)> {
        self.entries.iter().filter_map(|(name, entry)| match entry {
            Entry::File(file) => Some((name.0.as_path(), file)),
            Entry::Directory => None,
        })
    }

    /// Every directory that was made, by path.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.entries.iter().filter_map(|(name, entry)| matches!(entry, Entry::Directory).then_some(name.0.as_path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_as_paths_are() {
        let paths = ["", "/", "/a", "/a!", "/a!/b", "/a/b", "/a/b/c", "/ab", "/b", "a", "a/b", "a.b", "b/a"];
        for (left, right) in
            paths.iter().flat_map(|left| paths.iter().map(move |right| (Path::new(left), Path::new(right))))
        {
            assert_eq!(
                Name::of(left).cmp(&Name::of(right)),
                left.cmp(right),
                "{} and {}",
                left.display(),
                right.display()
            );
        }
    }
}
