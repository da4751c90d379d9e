//! Files of retired segments, kept to be written again: a sync of blocks that exist is faster than one of a file that grows
//! (as the recycled log files of RocksDB).
//!
//! What makes it safe:
//!
//! 1. A segment is retired only after the edit that no longer needs it is durable, and when nobody copies it (rule E5). Its
//!    file gets the name of a spare then, which recovery never reads.
//! 2. A new segment takes the file under a new number and a new name, and begins with a new header. The names are durable
//!    before anything in it is relied on, as those of any new segment.
//! 3. What the file held before is still there behind the new records. The checksum of each chunk covers the number of its
//!    segment, so none of it passes for a chunk of this one, wherever it lies.
//! 4. Behind the last record lies a chunk header of zeros, so that recovery can tell the end of a log from a torn record.

use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, File, OpenMode};
use crate::files;

/// A file that waits to become a segment.
pub(crate) struct Spare {
    /// The segment that it was.
    pub(super) number: u64,
    pub(super) file: Arc<dyn File>,
    pub(super) bytes: u64,
}

impl Spare {
    /// Keeps the file of the retired segment `number`, if it is no larger than `bytes_max`; else removes it. As far as the
    /// disk lets it: a file that stays is removed by the next recovery.
    pub(crate) fn retire(disk: &dyn Disk, directory: &Path, number: u64, bytes_max: u64) -> Option<Self> {
        let (from, to) = (files::log(directory, number), files::spare(directory, number));
        let keep = || {
            let file = disk.open(&from, OpenMode::ReadWrite)?;
            let bytes = file.len()?;
            if bytes <= bytes_max {
                disk.rename(&from, &to)?;
                Ok(Some(Self { number, file, bytes }))
            } else {
                Ok::<_, std::io::Error>(None)
            }
        };
        let kept = keep().unwrap_or(None);
        if kept.is_none() {
            let _ = disk.remove(&from);
        }
        kept
    }

    /// Removes the file.
    pub(crate) fn discard(self, disk: &dyn Disk, directory: &Path) {
        let _ = disk.remove(&files::spare(directory, self.number));
    }
}
