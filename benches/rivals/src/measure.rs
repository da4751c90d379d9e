//! What a process uses. From `/proc`, so on Linux only.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, Failure};

/// Processor time and bytes written, so far.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Usage {
    /// Of all threads, in user space and in the kernel.
    pub(crate) processor: Duration,
    /// Bytes of pages that this process has made dirty or written directly: what goes to the disk sooner or later.
    pub(crate) written_bytes: u64,
}

impl Usage {
    pub(crate) fn now() -> io::Result<Self> {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let processor = Duration::try_from(time).map_err(|_| io::Error::other("the processor clock is negative"))?;
        let io = fs::read_to_string("/proc/self/io")?;
        Ok(Self { processor, written_bytes: field(&io, "write_bytes:")? })
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            processor: self.processor.saturating_sub(earlier.processor),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
        }
    }
}

/// Resident memory of this process, in bytes.
#[derive(Copy, Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// The most since [`reset_peak`]; with the pages of mapped files.
    pub(crate) peak_bytes: u64,
    /// Now, without the pages of mapped files.
    pub(crate) anonymous_bytes: u64,
    /// Now, pages of mapped files only: those of the database, in engines that map it, and the program's own.
    pub(crate) mapped_bytes: u64,
}

impl Memory {
    pub(crate) fn now() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let kib = |name| field(&status, name).map(|kib| kib << 10);
        Ok(Self {
            peak_bytes: kib("VmHWM:")?,
            anonymous_bytes: kib("RssAnon:")?,
            mapped_bytes: kib("RssFile:")? + kib("RssShmem:")?,
        })
    }
}

/// Lets the peak of the resident memory begin anew from what is resident now.
pub(crate) fn reset_peak() -> io::Result<()> {
    fs::write("/proc/self/clear_refs", "5")
}

fn field(text: &str, name: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("the kernel does not tell {name}")))
}

/// What all files below a directory take on the disk. A file that vanishes meanwhile counts nothing.
pub(crate) fn disk_bytes(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += disk_bytes(&entry.path())?,
            Ok(metadata) => bytes += metadata.blocks() * 512,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// A process that used less than this of one processor is at rest: timers and flushing threads that find nothing to do.
const REST_PERCENT: u32 = 3;
/// What they may write in one look: no compaction is so slow.
const REST_BYTES: u64 = 64 << 10;
const LOOK: Duration = Duration::from_millis(100);
/// So long it must be at rest.
const QUIET: Duration = Duration::from_secs(1);

/// How the background work of an engine came to its end.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Settled {
    /// How long it went on.
    pub(crate) time: Duration,
    /// Whether it has ended.
    pub(crate) at_rest: bool,
}

/// Waits until an engine says that nothing is due, and for a second the process has computed and written next to nothing. That
/// second is not in the time that comes back.
pub(crate) fn settle(engine: &dyn Engine, time_max: Duration) -> Result<Settled, Failure> {
    let begin = Instant::now();
    let mut quiet_since = begin;
    let mut last = (begin, Usage::now()?);
    loop {
        std::thread::sleep(LOOK);
        let look = (Instant::now(), Usage::now()?);
        let used = look.1.since(last.1);
        let resting = used.processor * 100 < (look.0 - last.0) * REST_PERCENT && used.written_bytes <= REST_BYTES;
        if !resting || engine.is_behind()? {
            quiet_since = look.0;
        }
        last = look;
        if look.0 - quiet_since >= QUIET {
            return Ok(Settled { time: quiet_since - begin, at_rest: true });
        }
        if look.0 - begin >= time_max {
            return Ok(Settled { time: look.0 - begin, at_rest: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_writes_are_seen() -> io::Result<()> {
        let directory = tempfile::tempdir_in(std::env::current_dir()?)?;
        let before = Usage::now()?;
        fs::write(directory.path().join("file"), vec![1; 1 << 20])?;
        while Usage::now()?.since(before).processor < Duration::from_millis(5) {}
        let used = Usage::now()?.since(before);
        assert!(used.written_bytes >= 1 << 20, "{used:?}");
        assert!(disk_bytes(directory.path())? >= 1 << 20);
        Ok(())
    }

    #[test]
    fn the_peak_of_memory_begins_anew() -> io::Result<()> {
        let room = std::hint::black_box(vec![1u8; 64 << 20]);
        let with = Memory::now()?;
        assert!(with.peak_bytes >= 64 << 20 && with.anonymous_bytes >= 64 << 20, "{with:?}");
        drop(room);
        reset_peak()?;
        assert!(Memory::now()?.peak_bytes < with.peak_bytes - (32 << 20));
        Ok(())
    }
}
