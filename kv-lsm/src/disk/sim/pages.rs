//! The bytes of a file, in pages that copies share until one of them writes.

use std::io;
use std::sync::{Arc, LazyLock};

/// What the file system hands out space in.
pub(super) const PAGE_BYTES: usize = 4096;
/// What a device writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;
const _: () = assert!(PAGE_BYTES.is_multiple_of(SECTOR_BYTES), "a page is made of whole sectors");

/// More than any file of a simulated disk may have: a page table for it still fits in memory.
const LENGTH_MAX: u64 = 1 << 40;

type Page = [u8; PAGE_BYTES];

/// What reserved room holds until it is written: one page for all, so that reserving costs no memory.
static ZEROS: LazyLock<Arc<Page>> = LazyLock::new(|| Arc::new([0; PAGE_BYTES]));

/// Bytes of a file and its length. A missing page reads as zeros. Cloning copies no page.
///
/// Bytes may lie beyond the length while a power cut is worked out, because data and length survive separately;
/// [`Pages::cut`] clears them.
#[derive(Clone, Default)]
pub(super) struct Pages {
    pages: Vec<Option<Arc<Page>>>,
    length: u64,
}

impl Pages {
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// How many pages take up room.
    pub(super) fn allocated(&self) -> u64 {
        self.pages.iter().filter(|page| page.is_some()).count() as u64
    }

    /// How many more would if `start..end` were written.
    pub(super) fn missing(&self, start: u64, end: u64) -> u64 {
        let first = start / PAGE_BYTES as u64;
        let after = end.div_ceil(PAGE_BYTES as u64);
        (first..after).filter(|&index| self.page(index).is_none()).count() as u64
    }

    fn page(&self, index: u64) -> Option<&Page> {
        self.pages.get(usize::try_from(index).ok()?)?.as_deref()
    }

    /// Whether a file may be as long as `length`.
    pub(super) fn check_length(length: u64) -> io::Result<()> {
        if length > LENGTH_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
    }

    /// Fills `buffer` with what lies at `offset`, whatever the length, zeros where there is nothing.
    pub(super) fn copy(&self, mut buffer: &mut [u8], mut offset: u64) {
        while !buffer.is_empty() {
            let (index, within, count) = split(offset, buffer.len());
            let (head, rest) = buffer.split_at_mut(count);
            match self.page(index) {
                Some(page) => head.copy_from_slice(&page[within..within + count]),
                None => head.fill(0),
            }
            buffer = rest;
            offset += count as u64;
        }
    }

    /// Reads up to the length; returns how many bytes.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let available = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = buffer.len().min(available);
        self.copy(&mut buffer[..count], offset);
        count
    }

    /// Puts bytes at `offset`. The length stays. The end must pass [`Pages::check_length`].
    pub(super) fn put(&mut self, mut bytes: &[u8], mut offset: u64) {
        while !bytes.is_empty() {
            let (index, within, count) = split(offset, bytes.len());
            let (head, rest) = bytes.split_at(count);
            Arc::make_mut(self.allocate_page(index))[within..within + count].copy_from_slice(head);
            bytes = rest;
            offset += count as u64;
        }
    }

    /// Gives every page of `start..end` room.
    pub(super) fn allocate(&mut self, start: u64, end: u64) {
        for index in start / PAGE_BYTES as u64..end.div_ceil(PAGE_BYTES as u64) {
            self.allocate_page(index);
        }
    }

    fn allocate_page(&mut self, index: u64) -> &mut Arc<Page> {
        let index = usize::try_from(index).expect("below the length limit");
        if index >= self.pages.len() {
            self.pages.resize(index + 1, None);
        }
        self.pages[index].get_or_insert_with(|| Arc::clone(&ZEROS))
    }

    /// Makes the length at least `length`.
    pub(super) fn grow(&mut self, length: u64) {
        self.length = self.length.max(length);
    }

    /// Makes the length at most `length` and clears all bytes beyond that.
    pub(super) fn cut(&mut self, length: u64) {
        let keep = usize::try_from(length.div_ceil(PAGE_BYTES as u64)).expect("below the length limit");
        self.pages.truncate(keep);
        let (index, within, _) = split(length, 0);
        if within > 0
            && let Some(Some(last)) = self.pages.get_mut(usize::try_from(index).expect("below the length limit"))
            && last[within..].iter().any(|&byte| byte != 0)
        {
            Arc::make_mut(last)[within..].fill(0);
        }
        self.length = self.length.min(length);
    }

    /// Sets the length; with `cut` all bytes beyond it are cleared, also those beyond the present length.
    pub(super) fn set_length(&mut self, length: u64, cut: bool) {
        if cut {
            self.cut(length);
        }
        self.length = length;
    }

    /// Calls `each` with the content, page by page.
    pub(super) fn for_each(&self, mut each: impl FnMut(&[u8])) {
        let mut left = usize::try_from(self.length).expect("below the length limit");
        let mut index = 0;
        while left > 0 {
            let count = left.min(PAGE_BYTES);
            each(self.page(index).map_or(&[0; PAGE_BYTES][..count], |page| &page[..count]));
            left -= count;
            index += 1;
        }
    }
}

/// The page of `offset`, where in it, and how many of `count` bytes it can take.
fn split(offset: u64, count: usize) -> (u64, usize, usize) {
    let within = usize::try_from(offset % PAGE_BYTES as u64).expect("below the size of a page");
    (offset / PAGE_BYTES as u64, within, count.min(PAGE_BYTES - within))
}
