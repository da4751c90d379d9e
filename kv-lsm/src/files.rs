//! Names of the files of a database.

use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::error::Error;

/// The lock file.
pub(crate) const LOCK: &str = "LOCK";
/// Where recovery keeps what it had to discard.
pub(crate) const QUARANTINE: &str = "quarantine";

const LOG: &str = ".log";
const SPARE: &str = ".spare";
const TABLE: &str = ".table";
const BLOB: &str = ".blob";
const MANIFEST: &str = "MANIFEST-";
const UNFINISHED: &str = ".new";

/// What a name in the directory of a database stands for.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum FileKind {
    Log(u64),
    /// A segment of the log that is not needed, kept to become another.
    Spare(u64),
    Table(u64),
    Blob(u64),
    Manifest(u64),
    /// A manifest that was never finished.
    UnfinishedManifest(u64),
    /// Not a file of the engine's: never touched.
    Foreign,
}

impl FileKind {
    pub(crate) fn of(name: &str) -> Self {
        let number = |digits: &str| digits.parse::<u64>().ok().filter(|_| digits.len() >= 6);
        let known = if let Some(rest) = name.strip_prefix(MANIFEST) {
            match rest.strip_suffix(UNFINISHED) {
                Some(digits) => number(digits).map(Self::UnfinishedManifest),
                None => number(rest).map(Self::Manifest),
            }
        } else if let Some(digits) = name.strip_suffix(LOG) {
            number(digits).map(Self::Log)
        } else if let Some(digits) = name.strip_suffix(SPARE) {
            number(digits).map(Self::Spare)
        } else if let Some(digits) = name.strip_suffix(BLOB) {
            number(digits).map(Self::Blob)
        } else {
            name.strip_suffix(TABLE).and_then(number).map(Self::Table)
        };
        known.unwrap_or(Self::Foreign)
    }
}

pub(crate) fn log(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:06}{LOG}"))
}

pub(crate) fn spare(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:06}{SPARE}"))
}

pub(crate) fn table(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:06}{TABLE}"))
}

pub(crate) fn blob(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:06}{BLOB}"))
}

pub(crate) fn manifest(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{MANIFEST}{number:06}"))
}

pub(crate) fn unfinished_manifest(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{MANIFEST}{number:06}{UNFINISHED}"))
}

/// The files that are there.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) logs: Vec<u64>,
    pub(crate) spares: Vec<u64>,
    pub(crate) tables: Vec<u64>,
    pub(crate) blobs: Vec<u64>,
    pub(crate) manifests: Vec<u64>,
    pub(crate) unfinished: Vec<u64>,
    pub(crate) highest_number: u64,
}

impl Found {
    /// # Errors
    /// The disk's.
    pub(crate) fn look(disk: &dyn Disk, directory: &Path) -> Result<Self, Error> {
        let mut found = Self::default();
        let names = disk.list(directory).map_err(|error| Error::io("list", directory, error))?;
        for name in names {
            let (list, number) = match FileKind::of(&name) {
                FileKind::Log(number) => (&mut found.logs, number),
                FileKind::Spare(number) => (&mut found.spares, number),
                FileKind::Table(number) => (&mut found.tables, number),
                FileKind::Manifest(number) => (&mut found.manifests, number),
                FileKind::UnfinishedManifest(number) => (&mut found.unfinished, number),
                FileKind::Blob(number) => (&mut found.blobs, number),
                FileKind::Foreign => continue,
            };
            list.push(number);
            found.highest_number = found.highest_number.max(number);
        }
        for list in [&mut found.logs, &mut found.tables, &mut found.blobs, &mut found.manifests] {
            list.sort_unstable();
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_stands_for() {
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let directory = Path::new("d");
        assert_eq!(FileKind::of(&name(log(directory, 7))), FileKind::Log(7));
        assert_eq!(FileKind::of(&name(spare(directory, 7))), FileKind::Spare(7));
        assert_eq!(FileKind::of(&name(table(directory, 12_345_678))), FileKind::Table(12_345_678));
        assert_eq!(FileKind::of(&name(blob(directory, 8))), FileKind::Blob(8));
        assert_eq!(FileKind::of(&name(manifest(directory, 3))), FileKind::Manifest(3));
        assert_eq!(FileKind::of(&name(unfinished_manifest(directory, 3))), FileKind::UnfinishedManifest(3));
        for foreign in ["LOCK", "notes.txt", "7.log", "000007.log.bak", "MANIFEST-", "quarantine", "x.table"] {
            assert_eq!(FileKind::of(foreign), FileKind::Foreign, "{foreign}");
        }
    }
}
