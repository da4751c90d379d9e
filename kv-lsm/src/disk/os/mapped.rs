//! Small writes through a mapping of the file, instead of a call of the system for each.
//!
//! A store into a shared mapping is in the page cache as what `write` copies there is: it survives the death of the process,
//! and the next sync of the file writes it. What makes it safe where a mapping usually is not:
//!
//! - **No space, bad media.** A store cannot fail, it can only kill the process. So pages are asked for before they are stored
//!   to (`MADV_POPULATE_WRITE`), a few at a time: what a store would die of comes back as an error then, and the bytes go the
//!   usual way, which says what is wrong.
//! - **File systems that move what they overwrite** need space for a page again after it was written back. Only such are used
//!   that are known to keep a block where it is.
//! - **The end of the file.** Nothing beyond it is mapped, and whoever cuts the file through this handle ends the mapping. A
//!   file that somebody else cuts meanwhile kills the process; none of the engine's is.

use std::fs;
use std::io;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// How much of a file is mapped at a time.
const WINDOW_BYTES: u64 = 1 << 20;
/// Pages are asked for in runs of so many bytes, a multiple of the size of a page. A run takes some 20 µs.
const RUN_BYTES: usize = 64 << 10;
/// More than this at a time is as cheap with a call.
const STORE_BYTES_MAX: usize = 16 << 10;

/// File systems that keep a block of a file where it is, by the numbers that `statfs` gives them: ext2 to ext4, XFS, and the one in
/// memory.
const KNOWN_FILE_SYSTEMS: [i64; 3] = [0xef53, 0x5846_5342, 0x0102_1994];

/// What of a file is mapped.
#[derive(Default)]
pub(super) enum Mapping {
    #[default]
    Nothing,
    Window(Window),
    /// It does not work with this file.
    Refused,
}

impl Mapping {
    /// Copies the bytes into the file and returns true, or does nothing: then they have to be written another way.
    pub(super) fn store(&mut self, file: &fs::File, bytes: &[u8], offset: u64) -> bool {
        if bytes.len() > STORE_BYTES_MAX || matches!(self, Self::Refused) {
            return false;
        }
        if !matches!(self, Self::Window(window) if window.holds(offset, bytes.len())) {
            match Window::open(file, offset, bytes.len()) {
                Ok(Some(window)) => *self = Self::Window(window),
                Ok(None) => return false,
                Err(_) => {
                    *self = Self::Refused;
                    return false;
                }
            }
        }
        let Self::Window(window) = self else { return false };
        if window.ask_for(offset, bytes.len()).is_err() {
            *self = Self::Refused;
            return false;
        }
        window.copy(bytes, offset);
        true
    }
}

/// A part of a file in memory.
pub(super) struct Window {
    at: NonNull<u8>,
    start: u64,
    bytes: usize,
    /// Up to here its pages were asked for.
    ready: usize,
}

// SAFETY: the memory belongs to the window alone, and is reached only through `&mut`. It is not bound to a thread.
#[expect(unsafe_code, reason = "see above")]
unsafe impl Send for Window {}

impl Window {
    /// Maps the file from about `offset` on; `None` when it ends before the last of so many bytes.
    fn open(file: &fs::File, offset: u64, count: usize) -> io::Result<Option<Self>> {
        let file_system = rustix::fs::fstatfs(file)?.f_type as i64;
        if !KNOWN_FILE_SYSTEMS.contains(&file_system) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let start = offset - offset % RUN_BYTES as u64;
        let length = file.metadata()?.len();
        if offset.checked_add(count as u64).is_none_or(|end| end > length) {
            return Ok(None);
        }
        let bytes = usize::try_from(WINDOW_BYTES.min(length - start)).expect("a window fits memory");
        // One call of the system for each record of the log was half of the cost of a put.
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping, at an address that the system chooses, takes nobody's memory. It is unmapped only when the
        // window is dropped.
        #[expect(unsafe_code, reason = "see above")]
        let mapped = unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes, access, flags, file, start) };
        let at = NonNull::new(mapped?.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Some(Self { at, start, bytes, ready: 0 }))
    }

    fn holds(&self, offset: u64, count: usize) -> bool {
        let end = offset.checked_sub(self.start).and_then(|from| from.checked_add(count as u64));
        end.is_some_and(|end| end <= self.bytes as u64)
    }

    /// Where so many bytes at `offset` lie in the window.
    fn place(&self, offset: u64, count: usize) -> (usize, usize) {
        assert!(self.holds(offset, count), "nothing outside of a window is touched");
        let from = usize::try_from(offset - self.start).expect("inside of the window");
        (from, from + count)
    }

    /// Has the system bring the pages in that so many bytes at `offset` lie in, and those that follow, ready to be changed.
    fn ask_for(&mut self, offset: u64, count: usize) -> io::Result<()> {
        let (from, end) = self.place(offset, count);
        // What was passed over is not needed.
        self.ready = self.ready.max(from - from % RUN_BYTES);
        while self.ready < end {
            let run = RUN_BYTES.min(self.bytes - self.ready);
            // SAFETY: the run lies inside of the mapping, and the advice changes no content.
            #[expect(unsafe_code, reason = "see above")]
            unsafe {
                let at = self.at.as_ptr().add(self.ready);
                rustix::mm::madvise(at.cast(), run, Advice::LinuxPopulateWrite)?;
            }
            self.ready += run;
        }
        Ok(())
    }

    fn copy(&mut self, bytes: &[u8], offset: u64) {
        let (from, _) = self.place(offset, bytes.len());
        // SAFETY: `place` has checked that all of it lies inside of the mapping, which is writable, and no reference into the
        // mapping is ever made. Others may read or write the same file at the same time through the system, which is as
        // harmless as two calls that overlap: the mapping is memory that Rust knows nothing of.
        #[expect(unsafe_code, reason = "see above")]
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at.as_ptr().add(from), bytes.len());
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: it is the mapping that was made when the window was, whole, and nothing refers to it any more.
        #[expect(unsafe_code, reason = "see above")]
        let unmapped = unsafe { rustix::mm::munmap(self.at.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "a mapping can be taken away");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn file(length: u64) -> fs::File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(length).unwrap();
        file
    }

    fn is_known(file: &fs::File) -> bool {
        let file_system = rustix::fs::fstatfs(file).unwrap().f_type as i64;
        KNOWN_FILE_SYSTEMS.contains(&file_system)
    }

    #[test]
    fn what_is_stored_is_in_the_file_over_many_windows() {
        let mut file = file(3 * WINDOW_BYTES + 1000);
        let known = is_known(&file);
        let mut mapping = Mapping::default();
        let record: Vec<u8> = (1..=251).collect();
        let (mut at, mut expected) = (0, Vec::new());
        while at + 251 <= 3 * WINDOW_BYTES + 1000 {
            assert_eq!(mapping.store(&file, &record, at), known, "{at}");
            expected.extend_from_slice(&record);
            at += 251;
        }
        if known {
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            assert_eq!(content[..expected.len()], expected);
        }
    }

    #[test]
    fn what_is_too_large_or_beyond_the_end_goes_another_way() {
        let file = file(100_000);
        let mut mapping = Mapping::default();
        assert_eq!(mapping.store(&file, &[1; 100], 99_900), is_known(&file), "up to the last byte");
        assert!(!mapping.store(&file, &[1; 100], 99_901));
        assert!(!mapping.store(&file, &[1; 100], u64::MAX - 10));
        assert!(!mapping.store(&file, &[1; STORE_BYTES_MAX + 1], 0));
        assert_eq!(mapping.store(&file, &[1; 100], 0), is_known(&file), "back, in another window");
        assert!(!mapping.store(&file, &[1; 100], u64::MAX - 10), "and beyond all windows");
        assert_eq!(file.metadata().unwrap().len(), 100_000);
    }
}
