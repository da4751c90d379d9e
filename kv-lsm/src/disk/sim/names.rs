//! The names of a simulated disk: what programs see, what the platter holds, and the changes between the two.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::super::tree::{Tree, moved, parent_of};
use super::survival::Lottery;

/// Which file a name stands for.
pub(super) type InodeId = u64;

/// The odds of names are drawn as one group, apart from those of every file.
pub(super) const NAMES_GROUP: u64 = u64::MAX;

/// All paths are normal, and every change was checked against the live tree before.
#[derive(Clone, Default)]
pub(super) struct Names {
    live: Tree<InodeId>,
    durable: Tree<InodeId>,
    /// What was done since the directories were synced, oldest first, with the stamps that order it among all changes.
    journal: Vec<(u64, Change)>,
}

#[derive(Clone)]
enum Change {
    /// A new file, or a further name of one.
    Add {
        path: PathBuf,
        inode: InodeId,
    },
    /// Both effects are one change, also between two directories.
    Rename {
        from: PathBuf,
        to: PathBuf,
        inode: InodeId,
    },
    Remove {
        path: PathBuf,
        inode: InodeId,
    },
    /// Only while a power cut interrupts the making of a directory; else it is durable at once.
    Directory {
        path: PathBuf,
    },
    /// Only while a power cut or an error interrupts it.
    RenameDirectory {
        from: PathBuf,
        to: PathBuf,
    },
}

impl Names {
    pub(super) const fn live(&self) -> &Tree<InodeId> {
        &self.live
    }

    pub(super) const fn durable(&self) -> &Tree<InodeId> {
        &self.durable
    }

    pub(super) fn add(&mut self, path: PathBuf, inode: InodeId, stamp: u64) {
        self.live.set(path.clone(), inode);
        self.journal.push((stamp, Change::Add { path, inode }));
    }

    /// Returns the file that lost its name to the renamed one.
    pub(super) fn rename(&mut self, from: PathBuf, to: PathBuf, stamp: u64) -> Option<InodeId> {
        let inode = self.live.unset(&from).expect("checked to be a file");
        let replaced = self.live.set(to.clone(), inode);
        self.journal.push((stamp, Change::Rename { from, to, inode }));
        replaced
    }

    /// Returns the file that lost its name.
    pub(super) fn remove(&mut self, path: PathBuf, stamp: u64) -> InodeId {
        let inode = self.live.unset(&path).expect("checked to be a file");
        self.journal.push((stamp, Change::Remove { path, inode }));
        inode
    }

    pub(super) fn make_directory(&mut self, path: &Path) {
        self.live.make_directory(path);
        self.durable.make_directory(path);
    }

    /// The making of a directory that the power cut interrupts.
    pub(super) fn begin_directory(&mut self, path: PathBuf, stamp: u64) {
        self.journal.push((stamp, Change::Directory { path }));
    }

    /// Changes inside that are not durable yet go with the directory.
    pub(super) fn rename_directory(&mut self, from: &Path, to: &Path) {
        self.live.rename_directory(from, to);
        self.durable.rename_directory(from, to);
        for (_, change) in &mut self.journal {
            change.relocate(from, to);
        }
    }

    /// A renaming that is interrupted.
    pub(super) fn begin_rename_directory(&mut self, from: &Path, to: &Path, stamp: u64) {
        self.live.rename_directory(from, to);
        self.journal.push((stamp, Change::RenameDirectory { from: from.to_path_buf(), to: to.to_path_buf() }));
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync(&mut self, directory: &Path) {
        for change in self.take(directory) {
            change.apply(&mut self.durable);
        }
    }

    /// A directory sync that failed: what `lottery` draws is durable, and no later sync knows of the rest.
    pub(super) fn sync_and_fail(&mut self, directory: &Path, lottery: &mut Lottery) {
        for change in self.take(directory) {
            if lottery.draw(NAMES_GROUP) {
                change.apply(&mut self.durable);
            }
        }
    }

    /// Takes the changes in `directory` out of the journal, and those before them that they build on: a rename out of
    /// another directory brings the creation there with it.
    fn take(&mut self, directory: &Path) -> Vec<Change> {
        let mut touched: BTreeSet<PathBuf> = BTreeSet::new();
        let mut taken = Vec::new();
        let mut kept = Vec::new();
        for (stamp, change) in std::mem::take(&mut self.journal).into_iter().rev() {
            let concerned = change.paths().any(|path| parent_of(path) == directory || touched.contains(path));
            if concerned {
                touched.extend(change.paths().map(Path::to_path_buf));
                taken.push(change);
            } else {
                kept.push((stamp, change));
            }
        }
        taken.reverse();
        kept.reverse();
        self.journal = kept;
        taken
    }

    /// The stamps of the unsynced changes; each is one unit.
    pub(super) fn pending(&self) -> impl Iterator<Item = u64> {
        self.journal.iter().map(|&(stamp, _)| stamp)
    }

    /// What the power cut leaves when `survives` says, for each unit in order, whether it does.
    pub(super) fn after_power_cut(&self, mut survives: impl FnMut() -> bool) -> Self {
        let mut tree = self.durable.clone();
        for (_, change) in &self.journal {
            if survives() {
                change.apply(&mut tree);
            }
        }
        Self { live: tree.clone(), durable: tree, journal: Vec::new() }
    }

    /// Whether a file can still be reached by a name, now or after a power cut.
    pub(super) fn named(&self) -> BTreeSet<InodeId> {
        let journal = self.journal.iter().filter_map(|(_, change)| match change {
            Change::Add { inode, .. } | Change::Rename { inode, .. } => Some(*inode),
            Change::Remove { .. } | Change::Directory { .. } | Change::RenameDirectory { .. } => None,
        });
        let trees = self.live.files().chain(self.durable.files()).map(|(_, &inode)| inode);
        trees.chain(journal).collect()
    }

    /// The file of that name.
    pub(super) fn file(&self, path: &Path) -> io::Result<InodeId> {
        self.live.file(path).copied()
    }
}

impl Change {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let (one, other) = match self {
            Self::Add { path, .. } | Self::Remove { path, .. } | Self::Directory { path } => (path, None),
            Self::Rename { from, to, .. } | Self::RenameDirectory { from, to } => (from, Some(to)),
        };
        std::iter::once(one).chain(other).map(PathBuf::as_path)
    }

    fn relocate(&mut self, before: &Path, after: &Path) {
        let relocate = |path: &mut PathBuf| {
            if let Some(place) = moved(path, before, after) {
                *path = place;
            }
        };
        match self {
            Self::Add { path, .. } | Self::Remove { path, .. } | Self::Directory { path } => relocate(path),
            Self::Rename { from, to, .. } | Self::RenameDirectory { from, to } => {
                relocate(from);
                relocate(to);
            }
        }
    }

    /// Any subset of changes can be applied, so each says what holds after it whether or not the ones before survived.
    fn apply(&self, tree: &mut Tree<InodeId>) {
        let unset = |tree: &mut Tree<InodeId>, path: &Path, inode| {
            if tree.file(path).is_ok_and(|&named| named == inode) {
                tree.unset(path);
            }
        };
        match self {
            Self::Add { path, inode } => {
                tree.set(path.clone(), *inode);
            }
            Self::Rename { from, to, inode } => {
                unset(tree, from, *inode);
                tree.set(to.clone(), *inode);
            }
            Self::Remove { path, inode } => unset(tree, path, *inode),
            Self::Directory { path } => tree.make_directory(path),
            Self::RenameDirectory { from, to } => tree.rename_directory(from, to),
        }
    }
}
