//! Versions in a skip list (Pugh 1990; the lock-free list of crossbeam). Insert only: `remove` leaks nodes that an iterator
//! is on.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::{Bound, ControlFlow};

use crossbeam_skiplist::SkipMap;

use super::{Place, Version, Versions, head};
use crate::internal_key::Trailer;

#[derive(Default)]
pub(crate) struct SkipList {
    map: SkipMap<Version, ()>,
}

impl SkipList {
    pub(crate) fn new() -> Self {
        Self::default()
    }
}

/// What versions and places have in common, so that a look-up need not own its key.
trait Ordered {
    fn parts(&self) -> Parts<'_>;
}

struct Parts<'a> {
    space: u32,
    head: u64,
    key: &'a [u8],
    trailer: Trailer,
}

impl Ordered for Version {
    fn parts(&self) -> Parts<'_> {
        Parts { space: self.space, head: self.head, key: self.key(), trailer: self.trailer }
    }
}

/// A place with the head of its key, which is computed once for a whole look-up.
struct Sought<'a>(Place<'a>, u64);

impl<'a> Sought<'a> {
    fn new(place: Place<'a>) -> Self {
        let head = head(place.key);
        Self(place, head)
    }
}

impl Ordered for Sought<'_> {
    fn parts(&self) -> Parts<'_> {
        Parts { space: self.0.space, head: self.1, key: self.0.key, trailer: self.0.trailer }
    }
}

fn compare(a: &Parts<'_>, b: &Parts<'_>) -> Ordering {
    let by_heads = a.space.cmp(&b.space).then(a.head.cmp(&b.head));
    by_heads.then_with(|| a.key.cmp(b.key)).then_with(|| b.trailer.cmp(&a.trailer))
}

impl<'a> Borrow<dyn Ordered + 'a> for Version {
    fn borrow(&self) -> &(dyn Ordered + 'a) {
        self
    }
}

impl Ord for dyn Ordered + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.parts(), &other.parts())
    }
}

impl PartialOrd for dyn Ordered + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Ordered + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Ordered + '_ {}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.parts(), &other.parts())
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl Versions for SkipList {
    fn insert(&self, version: Version) {
        self.map.insert(version, ());
    }

    fn of_key(&self, place: Place<'_>, each: &mut dyn FnMut(Trailer, &[u8]) -> ControlFlow<()>) {
        let mut entry = self.map.lower_bound(Bound::Included(&Sought::new(place) as &dyn Ordered));
        while let Some(at) = entry {
            let version = at.key();
            if version.space != place.space || version.key() != place.key {
                return;
            }
            if each(version.trailer, version.value()).is_break() {
                return;
            }
            entry = at.next();
        }
    }

    fn from(&self, place: Place<'_>, count: usize, out: &mut Vec<Version>) {
        let mut entry = self.map.lower_bound(Bound::Included(&Sought::new(place) as &dyn Ordered));
        for _ in 0..count {
            match entry.take() {
                Some(at) if at.key().space == place.space => {
                    out.push(at.key().clone());
                    entry = at.next();
                }
                _ => return,
            }
        }
    }

    fn before(&self, space: u32, place: Option<Place<'_>>, count: usize, out: &mut Vec<Version>) {
        let mut entry = match (place, space.checked_add(1)) {
            (Some(place), _) => self.map.upper_bound(Bound::Excluded(&Sought::new(place) as &dyn Ordered)),
            (None, Some(next_space)) => {
                let place = Place { space: next_space, key: &[], trailer: Trailer::NEWEST };
                self.map.upper_bound(Bound::Excluded(&Sought::new(place) as &dyn Ordered))
            }
            (None, None) => self.map.back(),
        };
        for _ in 0..count {
            match entry.take() {
                Some(at) if at.key().space == space => {
                    out.push(at.key().clone());
                    entry = at.prev();
                }
                _ => return,
            }
        }
    }

    fn spaces(&self) -> Vec<u32> {
        let mut spaces = Vec::new();
        let mut entry = self.map.front();
        while let Some(at) = entry {
            let space = at.key().space;
            spaces.push(space);
            entry = space.checked_add(1).and_then(|next| {
                let place = Place { space: next, key: &[], trailer: Trailer::NEWEST };
                self.map.lower_bound(Bound::Included(&Sought::new(place) as &dyn Ordered))
            });
        }
        spaces
    }
}
