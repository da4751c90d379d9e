//! The disk as an input.
//!
//! Everything the engine does to stable storage goes through [`Disk`] and [`File`], so that the same engine runs on a real
//! disk, in memory, and on a simulated disk that loses what was not synced. Writers track their own offsets: there is no
//! cursor and no append mode.
//!
//! [`OsDisk`] is the real one, [`MemDisk`] lives in memory, [`SimDisk`] simulates power cuts and faults from a seed, and
//! [`VolatileDisk`] stands on another disk and can cut its power.

mod locks;
mod mem;
mod os;
mod overlay;
mod sim;
mod tree;
mod volatile;

pub use mem::MemDisk;
pub use os::OsDisk;
pub(crate) use overlay::OverlayDisk;
pub use sim::{CallKind, Effect, Fault, SimDisk, Survival};
pub use volatile::{Lost, VolatileDisk};

use std::io;
use std::path::Path;
use std::sync::Arc;

/// How a file is opened.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum OpenMode {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist. Its content is kept.
    ReadWrite,
    /// For reading and writing; it must not exist.
    CreateNew,
}

/// A directory tree. Paths are those that the database was opened with, joined with file names.
///
/// Names are not durable by themselves: what `open(CreateNew)`, `rename`, `link` and `remove` did to a directory survives a
/// power cut only after [`Disk::sync_dir`] on that directory.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound` and `AlreadyExists` as the mode asks, and whatever the disk says.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, replacing what had that name, atomically.
    ///
    /// # Errors
    /// As the disk says; then the names are as before.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name, which must be free.
    ///
    /// # Errors
    /// As the disk says.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name. Open handles go on working.
    ///
    /// # Errors
    /// As the disk says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, files and directories, sorted, so that nothing depends on the order of a file system.
    ///
    /// # Errors
    /// As the disk says.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Creates a directory and its missing parents. It may exist already. On return it is durable, unlike the names of
    /// files: making one is rare enough to sync its parent at once.
    ///
    /// # Errors
    /// As the disk says; some of the parents may have been made.
    fn create_dir(&self, directory: &Path) -> io::Result<()>;

    /// Gives a directory, with all that is in it, another name, which must be free. Everything in it must be synced. On
    /// return the new name is durable, as with [`Disk::create_dir`].
    ///
    /// # Errors
    /// As the disk says. After an error the directory has the old name or the new one, and which of them survives a power
    /// cut is unknown.
    fn rename_dir(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// After an error the names may or may not be durable, and a second call proves nothing.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;

    /// Takes the exclusive lock that a file stands for, creating the file when it is missing. Dropping the guard, or the
    /// death of the process, releases it.
    ///
    /// # Errors
    /// `WouldBlock` when somebody else holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>>;

    /// Takes the same lock for reading, beside others who do, and changes nothing on the disk: the file must exist.
    ///
    /// # Errors
    /// `WouldBlock` when somebody holds it alone, `NotFound` when there is no such file.
    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn LockGuard>>;
}

/// Held as long as the lock is.
pub trait LockGuard: Send + Sync {}

/// An open file. All methods may be called from several threads at once.
pub trait File: Send + Sync {
    /// Reads into `buffer` from `offset` and returns how many bytes were read: fewer than asked for only at the end of the
    /// file or when interrupted. [`read_exact_at`] is what most callers want.
    ///
    /// # Errors
    /// As the disk says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, growing the file when needed. Not durable until [`File::sync`].
    ///
    /// # Errors
    /// After an error any part of the range may hold old or new bytes.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset` as [`File::write_at`] does, for less, in a file that is written in small pieces one behind
    /// the other, is as long already, and is seldom synced. What it returned from survives the death of the process as that of
    /// `write_at` does; one that did not return may leave any of its bytes.
    ///
    /// # Errors
    /// As [`File::write_at`].
    fn store_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(bytes, offset)
    }

    /// Makes durable what every `write_at`, `store_at`, `truncate` and `allocate` that returned before the call did (data and length,
    /// not the file's name).
    ///
    /// # Errors
    /// After an error any of it may be lost, and a later success proves nothing about it.
    fn sync(&self) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// As the disk says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the length is zero.
    ///
    /// # Errors
    /// As [`File::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Sets the length; what is added reads as zeros.
    ///
    /// # Errors
    /// As the disk says.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Reserves room up to `length` so that later writes below it need no more space. Grows the file to `length` when it is
    /// shorter; what is added reads as zeros.
    ///
    /// # Errors
    /// `StorageFull` when there is no room.
    fn allocate(&self, length: u64) -> io::Result<()>;
}

/// Fills `buffer` from `offset`.
///
/// # Errors
/// `UnexpectedEof` when the file ends before, and whatever the disk says.
pub fn read_exact_at(file: &dyn File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer = &mut buffer[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
