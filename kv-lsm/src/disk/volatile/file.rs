//! The content of one file: what the disk below has of it, and what is not synced yet on top.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::super::File;
use super::extents::Extents;

/// A file of the disk below under its unsynced changes. All handles of one file share it.
pub(super) struct Overlay {
    below: RwLock<Below>,
    content: RwLock<Content>,
    /// One sync at a time: the second has to wait for what the first took, and takes what came later.
    syncing: Mutex<()>,
    /// Unsynced bytes of the whole disk, of which this file keeps its part up to date.
    unsynced_bytes: Arc<AtomicU64>,
}

struct Below {
    file: Arc<dyn File>,
    writable: bool,
}

/// A byte below `length` is, in this order: what `dirty` has there, what `flushing` has there if that is below
/// `flushing_visible`, what the disk below has there if that is below `below_visible`, zero.
struct Content {
    length: u64,
    below_visible: u64,
    dirty: Unsynced,
    /// What a running sync writes.
    flushing: Option<Arc<Unsynced>>,
    flushing_visible: u64,
    /// What was last added to the count of the whole disk.
    counted: u64,
}

/// Changes since a sync: first the cut, then the room, then the writes.
#[derive(Clone, Default)]
struct Unsynced {
    /// The shortest length that the file had.
    cut: Option<u64>,
    /// How far room was reserved.
    reserved: Option<u64>,
    written: Extents,
}

impl Overlay {
    pub(super) fn new(file: Arc<dyn File>, writable: bool, unsynced_bytes: Arc<AtomicU64>) -> io::Result<Self> {
        let length = file.len()?;
        let content = Content {
            length,
            below_visible: length,
            dirty: Unsynced::default(),
            flushing: None,
            flushing_visible: 0,
            counted: 0,
        };
        Ok(Self {
            below: RwLock::new(Below { file, writable }),
            content: RwLock::new(content),
            syncing: Mutex::new(()),
            unsynced_bytes,
        })
    }

    /// Sees to it that the file below can be written, with what `open` opens if need be.
    pub(super) fn make_writable(&self, open: impl FnOnce() -> io::Result<Arc<dyn File>>) -> io::Result<()> {
        let mut below = self.below.write().unwrap_or_else(PoisonError::into_inner);
        if !below.writable {
            *below = Below { file: open()?, writable: true };
        }
        Ok(())
    }

    fn below(&self) -> Arc<dyn File> {
        Arc::clone(&self.below.read().unwrap_or_else(PoisonError::into_inner).file)
    }

    fn content(&self) -> RwLockReadGuard<'_, Content> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the content and keeps the count of unsynced bytes.
    fn change<R>(&self, change: impl FnOnce(&mut Content) -> R) -> R {
        let mut content: RwLockWriteGuard<'_, Content> = self.content.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut content);
        let now = content.unsynced_bytes();
        if now > content.counted {
            self.unsynced_bytes.fetch_add(now - content.counted, Ordering::Relaxed);
        } else {
            self.unsynced_bytes.fetch_sub(content.counted - now, Ordering::Relaxed);
        }
        content.counted = now;
        result
    }

    /// Whether forgetting it would lose something.
    pub(super) fn is_dirty(&self) -> bool {
        let content = self.content();
        let dirty = &content.dirty;
        dirty.cut.is_some() || dirty.reserved.is_some() || !dirty.written.is_empty() || content.flushing.is_some()
    }

    pub(super) fn length(&self) -> u64 {
        self.content().length
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content();
        let available = usize::try_from(content.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut count = buffer.len().min(available);
        let below = usize::try_from(content.below_visible.saturating_sub(offset)).unwrap_or(usize::MAX).min(count);
        if below > 0 {
            let read = self.below().read_at(&mut buffer[..below], offset)?;
            if read < below {
                count = read;
            }
        }
        let buffer = &mut buffer[..count];
        if count > below {
            buffer[below..].fill(0);
        }
        if let Some(flushing) = &content.flushing {
            let visible = usize::try_from(content.flushing_visible.saturating_sub(offset)).unwrap_or(usize::MAX);
            flushing.written.copy_over(&mut buffer[..count.min(visible)], offset);
        }
        content.dirty.written.copy_over(buffer, offset);
        Ok(count)
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        if !bytes.is_empty() {
            self.change(|content| {
                content.dirty.written.write(bytes, offset);
                content.length = content.length.max(end);
            });
        }
        Ok(())
    }

    pub(super) fn truncate(&self, length: u64) {
        self.change(|content| content.truncate(length));
    }

    /// Room is taken below at once, because that is where it can be missing. Growing there is a change of length, which
    /// a power cut may or may not undo.
    pub(super) fn allocate(&self, length: u64) -> io::Result<()> {
        self.change(|content| {
            self.below().allocate(length)?;
            content.dirty.reserved = content.dirty.reserved.max(Some(length));
            content.length = content.length.max(length);
            Ok(())
        })
    }

    /// Writes everything through and syncs it below.
    pub(super) fn sync(&self) -> io::Result<()> {
        let _one = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let (flushing, length) = self.change(|content| {
            let taken = Arc::new(std::mem::take(&mut content.dirty));
            content.flushing = Some(Arc::clone(&taken));
            content.flushing_visible = u64::MAX;
            (taken, content.length)
        });
        let result = flushing.write_through(&*self.below(), length);
        self.change(|content| content.end_flush(length, result.is_ok()));
        result
    }
}

impl Drop for Overlay {
    /// What was unsynced goes with the last name and the last handle.
    fn drop(&mut self) {
        let content = self.content.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.unsynced_bytes.fetch_sub(content.counted, Ordering::Relaxed);
    }
}

impl Unsynced {
    fn write_through(&self, below: &dyn File, length: u64) -> io::Result<()> {
        if let Some(cut) = self.cut {
            if cut < below.len()? {
                below.truncate(cut)?;
            }
            if let Some(reserved) = self.reserved {
                below.allocate(reserved)?;
            }
        }
        for (offset, run) in self.written.iter() {
            below.write_at(run, offset)?;
        }
        if below.len()? != length {
            below.truncate(length)?;
        }
        below.sync()
    }
}

impl Content {
    fn unsynced_bytes(&self) -> u64 {
        self.dirty.written.bytes() + self.flushing.as_ref().map_or(0, |flushing| flushing.written.bytes())
    }

    fn truncate(&mut self, length: u64) {
        if length < self.length {
            self.dirty.written.truncate(length);
            self.below_visible = self.below_visible.min(length);
            self.flushing_visible = self.flushing_visible.min(length);
        }
        // Recorded also when it grows, so that a change of length alone counts as unsynced.
        self.dirty.cut = Some(self.dirty.cut.unwrap_or(self.length).min(length));
        self.length = length;
    }

    /// `length` is what the file had when the flush began.
    fn end_flush(&mut self, length: u64, succeeded: bool) {
        let flushing = self.flushing.take().expect("set by the sync that ends");
        if succeeded {
            self.below_visible = length.min(self.flushing_visible);
            return;
        }
        // Keep it readable. Whether a later sync saves it is not known, as with every failed sync.
        let Unsynced { cut, reserved, mut written } = Arc::unwrap_or_clone(flushing);
        written.truncate(self.flushing_visible);
        for (offset, run) in self.dirty.written.iter() {
            written.write(run, offset);
        }
        let cut = cut.into_iter().chain(self.dirty.cut).min();
        self.dirty = Unsynced { cut, reserved: reserved.max(self.dirty.reserved), written };
    }
}
