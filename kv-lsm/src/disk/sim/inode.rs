//! One simulated file: what programs see, what the platter holds, and the changes between the two.

use std::sync::Arc;

use super::pages::{Pages, SECTOR_BYTES};
use super::survival::Lottery;

/// A file without its names.
#[derive(Clone, Default)]
pub(super) struct Inode {
    /// What reads see.
    live: Pages,
    /// What survives a power cut for certain.
    durable: Pages,
    /// What was done since the last sync, oldest first.
    journal: Vec<Change>,
    /// The length that a sync would make durable. Below the live length only after a failed sync.
    length_pending: u64,
    /// How many names it has at the moment.
    pub(super) links: u64,
    /// How many open handles it has.
    pub(super) handles: u64,
}

#[derive(Clone)]
struct Change {
    stamp: u64,
    what: What,
}

#[derive(Clone)]
enum What {
    /// Whole sectors as they were after a write, from an offset that is a multiple of a sector. They are kept whole, as
    /// a device writes them, so that any of them can survive alone.
    Sectors { offset: u64, images: Arc<[u8]> },
    /// Another length. One that was made shorter on purpose clears what lay beyond.
    Length { length: u64, cut: bool },
}

impl Inode {
    /// A file as it is found after a power cut.
    fn settled(content: Pages) -> Self {
        Self { length_pending: content.length(), live: content.clone(), durable: content, ..Self::default() }
    }

    pub(super) const fn live(&self) -> &Pages {
        &self.live
    }

    pub(super) const fn durable(&self) -> &Pages {
        &self.durable
    }

    /// Writes; `stamp` orders it among all changes of the disk.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64, stamp: u64) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        self.live.put(bytes, offset);
        self.live.grow(end);
        let sector = SECTOR_BYTES as u64;
        let first = offset / sector * sector;
        let after = end.next_multiple_of(sector);
        let images = if first == offset && after == end {
            bytes.into()
        } else {
            let mut images = vec![0; usize::try_from(after - first).expect("about as long as the bytes")];
            self.live.copy(&mut images, first);
            images.into()
        };
        self.journal.push(Change { stamp, what: What::Sectors { offset: first, images } });
        self.grow_pending(end, stamp);
    }

    pub(super) fn truncate(&mut self, length: u64, stamp: u64) {
        self.live.cut(length);
        self.live.grow(length);
        self.length_pending = length;
        self.journal.push(Change { stamp, what: What::Length { length, cut: true } });
    }

    pub(super) fn allocate(&mut self, length: u64, stamp: u64) {
        self.live.allocate(0, length);
        self.live.grow(length);
        self.grow_pending(length, stamp);
    }

    fn grow_pending(&mut self, length: u64, stamp: u64) {
        if length > self.length_pending {
            self.length_pending = length;
            self.journal.push(Change { stamp, what: What::Length { length, cut: false } });
        }
    }

    /// Makes everything durable.
    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.journal) {
            match change.what {
                What::Sectors { offset, images } => self.durable.put(&images, offset),
                What::Length { length, cut } => self.durable.set_length(length, cut),
            }
        }
        if self.live.length() > self.length_pending {
            // A failed sync left bytes beyond the length, and the last sector may have brought some along.
            self.durable.cut(self.length_pending);
        }
    }

    /// A sync that failed: what `lottery` draws is durable, the rest counts as clean although it is not, so no later
    /// sync writes it. Reads go on seeing it.
    pub(super) fn sync_and_fail(&mut self, lottery: &mut Lottery) {
        for change in std::mem::take(&mut self.journal) {
            change.apply(&mut self.durable, || lottery.draw(0));
        }
        self.durable.cut(self.durable.length());
        self.length_pending = self.durable.length();
    }

    /// Overwrites bytes on the platter and in the cache, as decay does: no change that a sync would know of. What lies
    /// beyond the end is left alone.
    pub(super) fn damage(&mut self, bytes: &[u8], offset: u64) {
        for pages in [&mut self.live, &mut self.durable] {
            let count = pages.length().saturating_sub(offset).min(bytes.len() as u64);
            pages.put(&bytes[..usize::try_from(count).expect("not above the length of a slice")], offset);
        }
        // Else a crash would bring back an undamaged image from the journal.
        for change in &mut self.journal {
            change.damage(bytes, offset);
        }
    }

    /// The stamps of the unsynced changes and how many units each has.
    pub(super) fn pending(&self) -> impl Iterator<Item = (u64, u64)> {
        self.journal.iter().map(|change| (change.stamp, change.units()))
    }

    /// How many unsynced bytes there are, in whole sectors.
    pub(super) fn pending_bytes(&self) -> u64 {
        self.journal.iter().map(Change::bytes).sum()
    }

    /// What the power cut leaves when `survives` says, for each unit in order, whether it does.
    pub(super) fn after_power_cut(&self, mut survives: impl FnMut() -> bool) -> Self {
        let mut content = self.durable.clone();
        for change in &self.journal {
            change.apply(&mut content, &mut survives);
        }
        content.cut(content.length());
        Self::settled(content)
    }
}

impl Change {
    fn units(&self) -> u64 {
        match &self.what {
            What::Sectors { images, .. } => (images.len() / SECTOR_BYTES) as u64,
            What::Length { .. } => 1,
        }
    }

    fn bytes(&self) -> u64 {
        match &self.what {
            What::Sectors { images, .. } => images.len() as u64,
            What::Length { .. } => 0,
        }
    }

    /// Applies those of its units for which `survives` returns true; it is asked once for each, in order.
    fn apply(&self, content: &mut Pages, mut survives: impl FnMut() -> bool) {
        match &self.what {
            What::Sectors { offset, images } => {
                for (sector, image) in (0_u64..).zip(images.chunks(SECTOR_BYTES)) {
                    if survives() {
                        content.put(image, offset + sector * SECTOR_BYTES as u64);
                    }
                }
            }
            What::Length { length, cut } => {
                if survives() {
                    content.set_length(*length, *cut);
                }
            }
        }
    }

    fn damage(&mut self, bytes: &[u8], at: u64) {
        if let What::Sectors { offset, images } = &mut self.what {
            for (image, position) in Arc::make_mut(images).iter_mut().zip(*offset..) {
                if let Some(index) = position.checked_sub(at).and_then(|index| usize::try_from(index).ok())
                    && let Some(&byte) = bytes.get(index)
                {
                    *image = byte;
                }
            }
        }
    }
}
