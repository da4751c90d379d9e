//! Versions in a skip list (Pugh 1990; the lock-free list of crossbeam). Insert only: `remove` leaks nodes that an iterator
//! is on.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::{Bound, ControlFlow};

use crossbeam_skiplist::SkipMap;

use super::{Place, Version, Versions};
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
    fn parts(&self) -> (u32, &[u8], Trailer);
}

impl Ordered for Version {
    fn parts(&self) -> (u32, &[u8], Trailer) {
        (self.space, self.key(), self.trailer)
    }
}

impl Ordered for Place<'_> {
    fn parts(&self) -> (u32, &[u8], Trailer) {
        (self.space, self.key, self.trailer)
    }
}

fn compare(a: (u32, &[u8], Trailer), b: (u32, &[u8], Trailer)) -> Ordering {
    a.0.cmp(&b.0).then_with(|| a.1.cmp(b.1)).then_with(|| b.2.cmp(&a.2))
}

impl<'a> Borrow<dyn Ordered + 'a> for Version {
    fn borrow(&self) -> &(dyn Ordered + 'a) {
        self
    }
}

impl Ord for dyn Ordered + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.parts(), other.parts())
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
        compare(self.parts(), other.parts())
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
        let mut entry = self.map.lower_bound(Bound::Included(&place as &dyn Ordered));
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
        let mut entry = self.map.lower_bound(Bound::Included(&place as &dyn Ordered));
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
            (Some(place), _) => self.map.upper_bound(Bound::Excluded(&place as &dyn Ordered)),
            (None, Some(next_space)) => {
                let place = Place { space: next_space, key: &[], trailer: Trailer::NEWEST };
                self.map.upper_bound(Bound::Excluded(&place as &dyn Ordered))
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
                self.map.lower_bound(Bound::Included(&place as &dyn Ordered))
            });
        }
        spaces
    }
}
