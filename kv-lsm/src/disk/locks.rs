//! Locks in memory: what the in-memory disk and the simulated disk have for those of an operating system.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Who holds which lock. All paths are normal.
#[derive(Clone, Default)]
pub(super) struct Locks {
    held: BTreeMap<PathBuf, Holders>,
}

#[derive(Copy, Clone)]
enum Holders {
    One,
    Several(usize),
}

impl Locks {
    /// For one alone.
    pub(super) fn take(&mut self, path: &Path) -> io::Result<()> {
        if self.held.contains_key(path) {
            return Err(held_already(path));
        }
        self.held.insert(path.to_path_buf(), Holders::One);
        Ok(())
    }

    /// For several who only read.
    pub(super) fn share(&mut self, path: &Path) -> io::Result<()> {
        match self.held.entry(path.to_path_buf()).or_insert(Holders::Several(0)) {
            Holders::One => Err(held_already(path)),
            Holders::Several(count) => {
                *count += 1;
                Ok(())
            }
        }
    }

    /// Gives back what one of the holders has.
    pub(super) fn release(&mut self, path: &Path) {
        match self.held.get_mut(path) {
            Some(Holders::Several(count)) if *count > 1 => *count -= 1,
            _ => drop(self.held.remove(path)),
        }
    }
}

fn held_already(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, format!("cannot lock {}: held already", path.display()))
}
