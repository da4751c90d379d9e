//! A disk on another disk that holds back everything unsynced, so that its power can be cut.

mod extents;
mod file;
mod names;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use super::tree::normal;
use super::{Disk, File, LockGuard, OpenMode};
use file::Overlay;
use names::Names;

/// A disk over another one, `D`, whose power can be cut.
///
/// Writes, lengths, renames, links and removals stay in memory until they are synced; only then they reach the disk below. So
/// [`VolatileDisk::cut_power`] leaves below what a power cut leaves on a disk that writes nothing of its own accord, the
/// worst case for a program that relies on what it did not sync. It works in a running process: a node of a cluster can lose
/// its power while its threads are at work, and start again on [`VolatileDisk::reboot`].
///
/// Clones share the disk. Dropping the last one loses what is unsynced. Memory holds as much as is unsynced. A disk that
/// is full says so when room is allocated, or else when a file is synced, not when it is written.
pub struct VolatileDisk<D> {
    shared: Arc<Shared<D>>,
}

/// What a power cut threw away.
#[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
pub struct Lost {
    /// Bytes that were written and not synced.
    pub bytes: u64,
    /// Files whose directory was not synced since they were created.
    pub files: u64,
}

struct Shared<D> {
    below: Arc<D>,
    /// Every call holds it shared while it works, so that a power cut comes before or after it, never in between.
    power_is_on: RwLock<bool>,
    /// Set while a power cut waits for the calls under way. Calls that begin meanwhile fail at once: else a sync that ends
    /// would let in the next one, and the cut would come when there is nothing left to lose.
    power_goes_off: AtomicBool,
    unsynced_bytes: Arc<AtomicU64>,
    names: Mutex<Names>,
    locks: Mutex<Vec<Arc<HeldLock>>>,
}

/// The lock of the disk below, until the guard is dropped or the power is cut.
type HeldLock = Mutex<Option<Box<dyn LockGuard>>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: Disk> VolatileDisk<D> {
    /// A disk over `below`, which nobody else may change.
    #[must_use]
    pub fn new(below: D) -> Self {
        Self::over(Arc::new(below))
    }

    fn over(below: Arc<D>) -> Self {
        let shared = Shared {
            below,
            power_is_on: RwLock::new(true),
            power_goes_off: AtomicBool::new(false),
            unsynced_bytes: Arc::default(),
            names: Mutex::default(),
            locks: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// How many bytes were written and not synced.
    #[must_use]
    pub fn unsynced_bytes(&self) -> u64 {
        self.shared.unsynced_bytes.load(Ordering::Relaxed)
    }

    /// Throws away everything that was not synced, as one step. Calls that are under way end first; every later call, on
    /// this disk, its clones, and files opened through them, fails. Locks are released. A second cut loses nothing.
    ///
    /// # Errors
    /// When the disk below does not let an unsynced file be removed. The power is off then, too.
    pub fn cut_power(&self) -> io::Result<Lost> {
        self.shared.power_goes_off.store(true, Ordering::Release);
        let mut power_is_on = self.shared.power_is_on.write().unwrap_or_else(PoisonError::into_inner);
        if !*power_is_on {
            return Ok(Lost::default());
        }
        *power_is_on = false;
        for lock in locked(&self.shared.locks).drain(..) {
            locked(&lock).take();
        }
        let bytes = self.unsynced_bytes();
        let files = locked(&self.shared.names).cut_power(&*self.shared.below)?;
        Ok(Lost { bytes, files })
    }

    /// A disk over the same disk below, after the power cut.
    ///
    /// # Panics
    /// When the power was not cut: two disks would change the same files.
    #[must_use]
    pub fn reboot(&self) -> Self {
        assert!(self.shared.power().is_err(), "the power must be cut before a reboot");
        Self::over(Arc::clone(&self.shared.below))
    }
}

impl<D> Clone for VolatileDisk<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<D> Shared<D> {
    /// Holds the power on.
    fn power(&self) -> io::Result<RwLockReadGuard<'_, bool>> {
        let off = || io::Error::other("the power is off");
        if self.power_goes_off.load(Ordering::Acquire) {
            return Err(off());
        }
        let power_is_on = self.power_is_on.read().unwrap_or_else(PoisonError::into_inner);
        if *power_is_on { Ok(power_is_on) } else { Err(off()) }
    }

    /// Keeps a lock of the disk below until the guard that is returned goes, or the power does.
    fn hold(&self, lock: Box<dyn LockGuard>) -> Box<dyn LockGuard> {
        let held = Arc::new(Mutex::new(Some(lock)));
        let mut locks = locked(&self.locks);
        locks.retain(|lock| locked(lock).is_some());
        locks.push(Arc::clone(&held));
        Box::new(VolatileLock { held })
    }
}

impl<D: Disk> Disk for VolatileDisk<D> {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let _power = self.shared.power()?;
        let below = &*self.shared.below;
        let overlay = |path: &Path, mode| {
            let unsynced_bytes = Arc::clone(&self.shared.unsynced_bytes);
            Overlay::new(below.open(path, mode)?, mode != OpenMode::Read, unsynced_bytes)
        };
        let overlay = locked(&self.shared.names).open(below, &normal(path), mode, overlay)?;
        let shared = Arc::clone(&self.shared);
        Ok(Arc::new(VolatileFile { shared, overlay, writable: mode != OpenMode::Read }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _power = self.shared.power()?;
        locked(&self.shared.names).rename(&*self.shared.below, &normal(from), &normal(to))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _power = self.shared.power()?;
        locked(&self.shared.names).link(&*self.shared.below, &normal(from), &normal(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let _power = self.shared.power()?;
        locked(&self.shared.names).remove(&*self.shared.below, &normal(path))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let _power = self.shared.power()?;
        locked(&self.shared.names).list(&*self.shared.below, &normal(directory))
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        let _power = self.shared.power()?;
        self.shared.below.create_dir(directory)
    }

    fn rename_dir(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _power = self.shared.power()?;
        locked(&self.shared.names).rename_directory(&*self.shared.below, &normal(from), &normal(to))
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        let _power = self.shared.power()?;
        locked(&self.shared.names).sync(&*self.shared.below, &normal(directory))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let _power = self.shared.power()?;
        Ok(self.shared.hold(self.shared.below.lock(path)?))
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let _power = self.shared.power()?;
        Ok(self.shared.hold(self.shared.below.lock_shared(path)?))
    }
}

struct VolatileLock {
    held: Arc<HeldLock>,
}

impl LockGuard for VolatileLock {}

impl Drop for VolatileLock {
    fn drop(&mut self) {
        locked(&self.held).take();
    }
}

struct VolatileFile<D> {
    shared: Arc<Shared<D>>,
    overlay: Arc<Overlay>,
    writable: bool,
}

impl<D> VolatileFile<D> {
    fn writable(&self) -> io::Result<RwLockReadGuard<'_, bool>> {
        if self.writable {
            self.shared.power()
        } else {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file was opened for reading"))
        }
    }
}

impl<D> Drop for VolatileFile<D> {
    fn drop(&mut self) {
        locked(&self.shared.names).forget_closed(&self.overlay);
    }
}

impl<D: Disk> File for VolatileFile<D> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let _power = self.shared.power()?;
        self.overlay.read(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let _power = self.writable()?;
        self.overlay.write(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let _power = self.shared.power()?;
        self.overlay.sync()
    }

    fn len(&self) -> io::Result<u64> {
        let _power = self.shared.power()?;
        Ok(self.overlay.length())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let _power = self.writable()?;
        self.overlay.truncate(length);
        Ok(())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let _power = self.writable()?;
        self.overlay.allocate(length)
    }
}
