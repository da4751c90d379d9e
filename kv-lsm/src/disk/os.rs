//! The real disk.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod mapped;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod mapped {
    //! Nothing is mapped here.

    #[derive(Default)]
    pub(super) struct Mapping;

    impl Mapping {
        pub(super) fn store(&mut self, _: &std::fs::File, _: &[u8], _: u64) -> bool {
            false
        }
    }
}

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::FlockOperation;

use super::{Disk, File, LockGuard, OpenMode};
use mapped::Mapping;

/// The file systems of this machine.
///
/// `sync` is `fdatasync` (`F_FULLFSYNC` where that is what it takes), `sync_dir` an `fsync` of the directory. What a sync
/// promises is what the file system and the device promise; nothing here retries a failed one.
#[derive(Copy, Clone, Default, Debug)]
pub struct OsDisk;

impl OsDisk {
    /// The real disk.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl Disk for OsDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::ReadWrite => options.write(true),
            OpenMode::CreateNew => options.write(true).create_new(true),
        };
        Ok(Arc::new(OsFile { file: options.open(path)?, mapping: Mutex::default() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(or_here(directory))? {
            // A name that is not UTF-8 is none of the engine's: it makes only names that are.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        let parent = directory.parent();
        match fs::create_dir(or_here(directory)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.create_dir(parent.ok_or(error)?)?;
                self.create_dir(directory)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !fs::metadata(or_here(directory))?.is_dir() {
                    return Err(error);
                }
                // Whoever made it may have died before the sync. A parent that may not be read is not one that was
                // written to from here.
                match parent.map_or(Ok(()), |parent| self.sync_dir(parent)) {
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                    other => other,
                }
            }
            Err(error) => Err(error),
            Ok(()) => parent.map_or(Ok(()), |parent| self.sync_dir(parent)),
        }
    }

    fn rename_dir(&self, from: &Path, to: &Path) -> io::Result<()> {
        // The system would put it in the place of an empty directory.
        match fs::symlink_metadata(to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        }
        if !fs::metadata(from)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        fs::rename(from, to)?;
        let (before, after) = (from.parent(), to.parent());
        after.map_or(Ok(()), |parent| self.sync_dir(parent))?;
        if before == after { Ok(()) } else { before.map_or(Ok(()), |parent| self.sync_dir(parent)) }
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        fs::File::open(or_here(directory))?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        lock(file, path, FlockOperation::NonBlockingLockExclusive)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        lock(fs::File::open(path)?, path, FlockOperation::NonBlockingLockShared)
    }
}

/// A lock of this kind belongs to the open file, not to the process, so a second opening in the same process is refused as
/// well.
fn lock(file: fs::File, path: &Path, operation: FlockOperation) -> io::Result<Box<dyn LockGuard>> {
    rustix::fs::flock(&file, operation).map_err(|errno| {
        let error = io::Error::from(errno);
        io::Error::new(error.kind(), format!("cannot lock {}: {error}", path.display()))
    })?;
    Ok(Box::new(OsLock { _file: file }))
}

/// The empty path is the working directory to the trait, but nothing to the system.
fn or_here(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}

/// Closing the file releases the lock. The file stays: removing it would let two openers lock two files of one name.
struct OsLock {
    _file: fs::File,
}

impl LockGuard for OsLock {}

struct OsFile {
    file: fs::File,
    mapping: Mutex<Mapping>,
}

impl File for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn store_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut mapping = self.mapping.lock().unwrap_or_else(PoisonError::into_inner);
        if mapping.store(&self.file, bytes, offset) { Ok(()) } else { self.write_at(bytes, offset) }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        // Nothing is stored beyond the end of a file, ever.
        *self.mapping.lock().unwrap_or_else(PoisonError::into_inner) = Mapping::default();
        self.file.set_len(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        if reserve(&self.file, length)? || self.len()? >= length {
            return Ok(());
        }
        // No reservation on this file system. The length is as promised; a write may still find the disk full, which
        // every caller has to handle anyhow.
        self.file.set_len(length)
    }
}

/// Reserves blocks up to `length`, growing the file; false when the file system cannot.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn reserve(file: &fs::File, length: u64) -> io::Result<bool> {
    use rustix::fs::FallocateFlags;
    use rustix::io::Errno;
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn reserve(_file: &fs::File, _length: u64) -> io::Result<bool> {
    Ok(false)
}
