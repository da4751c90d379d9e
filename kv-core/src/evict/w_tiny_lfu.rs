use super::list::{Links, List};
use super::marks::Marks;
use super::per_slot::PerSlot;
use super::policy::{Candidate, Policy};
use super::sketch::Sketch;
use crate::slot::Slot;

/// The window's part of the bytes, as a divisor.
const WINDOW_PART: u64 = 100;

/// Window TinyLFU: a small least-recently-used window for what is new, and a segmented one behind it, into which an
/// entry of the window comes only if it was used more often, lately, than the one that would have to go.
///
/// 1. What is new goes to the window, a hundredth of the bytes.
/// 2. When the window is over its part, its least recently used entry is the candidate, and that of probation the
///    victim. The one with the higher estimate in the frequency sketch stays; of equal ones the victim does.
/// 3. An entry that is used in probation becomes protected, up to four fifths of the main part; what that drives out
///    of the protected segment is the newest in probation.
///
/// Source: Einziger, Friedman and Manes, "TinyLFU: a highly efficient cache admission policy" (ACM Transactions on
/// Storage 2017); Caffeine is the reference. The window is of fixed size here.
///
/// They move an entry with each use, or note uses in a buffer. Here a use raises a mark, and is counted when the entry
/// comes to the front of its segment, as in CLOCK (Corbató, "A paging experiment with the Multics system", 1968): then
/// the segment begins anew for it, or it goes from probation to the protected ones, with what it has gathered since,
/// 255 uses at most. So a hit is an atomic store at most and is never lost to a full buffer, and each entry that a
/// writer looks at in vain was paid for by a hit.
///
/// Near the best on skewed traffic, and hardly touched by scans and loops; slow to follow a sudden change of what is
/// popular.
#[derive(Debug)]
pub struct WTinyLfu {
    links: Links,
    window: Segment,
    probation: Segment,
    protected: Segment,
    main_bytes_max: u64,
    entries: PerSlot<Entry>,
    len: usize,
    sketch: Sketch,
    /// Uses that are not counted yet.
    marks: Marks,
}

#[derive(Debug, Default)]
struct Segment {
    order: List,
    bytes: u64,
    bytes_max: u64,
}

#[derive(Copy, Clone, Debug, Default)]
struct Entry {
    hash: u64,
    bytes: u32,
    part: Part,
}

#[derive(Copy, Clone, Debug, Default)]
enum Part {
    #[default]
    Window,
    Probation,
    Protected,
}

impl WTinyLfu {
    /// Empty segments of a cache with this bound.
    #[must_use]
    pub fn new(capacity_bytes: u64) -> Self {
        let window_bytes_max = capacity_bytes / WINDOW_PART;
        let main_bytes_max = capacity_bytes - window_bytes_max;
        Self {
            links: Links::default(),
            window: Segment { bytes_max: window_bytes_max, ..Segment::default() },
            probation: Segment { bytes_max: main_bytes_max, ..Segment::default() },
            protected: Segment { bytes_max: main_bytes_max - main_bytes_max / 5, ..Segment::default() },
            main_bytes_max,
            entries: PerSlot::default(),
            len: 0,
            sketch: Sketch::default(),
            marks: Marks::default(),
        }
    }

    fn segment(&mut self, part: Part) -> (&mut Links, &mut Segment) {
        let segment = match part {
            Part::Window => &mut self.window,
            Part::Probation => &mut self.probation,
            Part::Protected => &mut self.protected,
        };
        (&mut self.links, segment)
    }

    fn enter(&mut self, slot: Slot, part: Part) {
        self.entries[slot].part = part;
        let bytes = u64::from(self.entries[slot].bytes);
        let (links, segment) = self.segment(part);
        links.push_newest(&mut segment.order, slot);
        segment.bytes += bytes;
    }

    fn leave(&mut self, slot: Slot) {
        let Entry { bytes, part, .. } = self.entries[slot];
        let (links, segment) = self.segment(part);
        links.remove(&mut segment.order, slot);
        segment.bytes -= u64::from(bytes);
    }

    fn evicted(&mut self, slot: Slot) -> Option<Slot> {
        self.leave(slot);
        self.len -= 1;
        Some(slot)
    }

    /// Counts the uses of an entry since it was looked at last, and says whether there were any.
    fn was_used(&mut self, slot: Slot) -> bool {
        let uses = std::mem::take(self.marks.get_mut(slot));
        self.sketch.count(self.entries[slot].hash, uses);
        uses > 0
    }

    /// The oldest entry of a segment that was not used since it was looked at last; used ones begin anew on the way.
    fn oldest_unused(&mut self, part: Part) -> Option<Slot> {
        loop {
            let slot = self.segment(part).1.order.oldest()?;
            if !self.was_used(slot) {
                return Some(slot);
            }
            let (links, segment) = self.segment(part);
            links.make_newest(&mut segment.order, slot);
        }
    }

    fn shrink_protected(&mut self) {
        while self.protected.bytes > self.protected.bytes_max
            && let Some(oldest) = self.oldest_unused(Part::Protected)
        {
            self.leave(oldest);
            self.enter(oldest, Part::Probation);
        }
    }

    /// The oldest unused entry of a window that is over its part when `incoming_bytes` more come in.
    fn candidate(&mut self, incoming_bytes: u32) -> Option<Slot> {
        let over = self.window.bytes + u64::from(incoming_bytes) > self.window.bytes_max;
        if over { self.oldest_unused(Part::Window) } else { None }
    }

    /// The oldest unused entry of probation, or of the protected ones when there is none. Used ones become protected.
    fn victim(&mut self) -> Option<Slot> {
        while let Some(oldest) = self.probation.order.oldest() {
            if !self.was_used(oldest) {
                return Some(oldest);
            }
            self.leave(oldest);
            self.enter(oldest, Part::Protected);
            self.shrink_protected();
        }
        self.oldest_unused(Part::Protected)
    }

    /// Lets a candidate pass without a contest if there is room for it.
    fn admit_into_room(&mut self, candidate: Slot) -> bool {
        let main_bytes = self.probation.bytes + self.protected.bytes;
        let fits = main_bytes + u64::from(self.entries[candidate].bytes) <= self.main_bytes_max;
        if fits {
            self.leave(candidate);
            self.enter(candidate, Part::Probation);
        }
        fits
    }
}

impl Policy for WTinyLfu {
    fn insert(&mut self, slot: Slot, candidate: Candidate) {
        let Candidate { hash, bytes, .. } = candidate;
        self.len += 1;
        self.sketch.make_room(self.len);
        self.sketch.count(hash, 1);
        self.marks.clear(slot);
        *self.entries.entry(slot) = Entry { hash, bytes, part: Part::Window };
        self.enter(slot, Part::Window);
        while let Some(candidate) = self.candidate(0)
            && self.admit_into_room(candidate)
        {}
    }

    fn hit(&self, slot: Slot) -> bool {
        self.marks.raise(slot, u8::MAX);
        false
    }

    fn update(&mut self, slot: Slot, candidate: Candidate) {
        let Entry { bytes, part, .. } = self.entries[slot];
        let (_, segment) = self.segment(part);
        segment.bytes = segment.bytes - u64::from(bytes) + u64::from(candidate.bytes);
        self.entries[slot].bytes = candidate.bytes;
        self.shrink_protected();
    }

    fn remove(&mut self, slot: Slot) {
        self.leave(slot);
        self.len -= 1;
    }

    fn evict(&mut self, incoming_bytes: u32) -> Option<Slot> {
        loop {
            let (candidate, victim) = match (self.candidate(incoming_bytes), self.victim()) {
                (Some(candidate), Some(victim)) => (candidate, victim),
                // The window is within its part, or there is nothing but the window.
                (None, Some(only)) => return self.evicted(only),
                (_, None) => return self.window.order.oldest().and_then(|only| self.evicted(only)),
            };
            if !self.admit_into_room(candidate) {
                let estimate = |slot| self.sketch.estimate(self.entries[slot].hash);
                let stays = estimate(candidate) > estimate(victim);
                return self.evicted(if stays { victim } else { candidate });
            }
        }
    }
}
