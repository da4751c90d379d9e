//! The textbook definitions. Lists run from the oldest to the newest.

use super::{CAPACITY_BYTES, Candidate};
use crate::evict::sketch::Sketch;
use crate::time::Millis;

pub(super) trait Model {
    fn insert(&mut self, key: u32, candidate: Candidate);
    fn hit(&mut self, key: u32);
    fn update(&mut self, key: u32, candidate: Candidate);
    fn remove(&mut self, key: u32);
    fn evict(&mut self, incoming_bytes: u32) -> u32;

    /// The policy has evicted `key`: so does the model.
    fn check_victim(&mut self, key: u32, incoming_bytes: u32) {
        assert_eq!(key, self.evict(incoming_bytes), "the model's victim");
    }
}

/// The position of a key in a list of whatever is kept by key.
fn position<T>(list: &[(u32, T)], key: u32) -> Option<usize> {
    list.iter().position(|(other, _)| *other == key)
}

fn bytes(list: &[(u32, Entry)]) -> u64 {
    list.iter().map(|(_, entry)| u64::from(entry.candidate.bytes)).sum()
}

#[derive(Copy, Clone)]
pub(super) struct Entry {
    candidate: Candidate,
    uses: u64,
}

impl Entry {
    fn new(candidate: Candidate) -> Self {
        Self { candidate, uses: 0 }
    }
}

pub(super) struct Anything;

impl Model for Anything {
    fn insert(&mut self, _: u32, _: Candidate) {}
    fn hit(&mut self, _: u32) {}
    fn update(&mut self, _: u32, _: Candidate) {}
    fn remove(&mut self, _: u32) {}
    fn evict(&mut self, _: u32) -> u32 {
        unreachable!("any victim is right")
    }
    fn check_victim(&mut self, _: u32, _: u32) {}
}

#[derive(Default)]
pub(super) struct Fifo(Vec<u32>);

impl Model for Fifo {
    fn insert(&mut self, key: u32, _: Candidate) {
        self.0.push(key);
    }
    fn hit(&mut self, _: u32) {}
    fn update(&mut self, _: u32, _: Candidate) {}
    fn remove(&mut self, key: u32) {
        self.0.retain(|other| *other != key);
    }
    fn evict(&mut self, _: u32) -> u32 {
        self.0.remove(0)
    }
}

#[derive(Default)]
pub(super) struct Lru(Vec<u32>);

impl Model for Lru {
    fn insert(&mut self, key: u32, _: Candidate) {
        self.0.push(key);
    }
    fn hit(&mut self, key: u32) {
        self.remove(key);
        self.0.push(key);
    }
    fn update(&mut self, _: u32, _: Candidate) {}
    fn remove(&mut self, key: u32) {
        self.0.retain(|other| *other != key);
    }
    fn evict(&mut self, _: u32) -> u32 {
        self.0.remove(0)
    }
}

struct Counted {
    uses: u64,
    priority: u64,
    /// Uses since it was ranked.
    gathered: u64,
}

/// In the order in which they were ranked.
#[derive(Default)]
pub(super) struct Lfu {
    list: Vec<(u32, Counted)>,
    age: u64,
}

impl Model for Lfu {
    fn insert(&mut self, key: u32, _: Candidate) {
        self.list.push((key, Counted { uses: 1, priority: self.age + 1, gathered: 0 }));
    }
    fn hit(&mut self, key: u32) {
        let at = position(&self.list, key).unwrap();
        self.list[at].1.gathered = (self.list[at].1.gathered + 1).min(255);
    }
    fn update(&mut self, _: u32, _: Candidate) {}
    fn remove(&mut self, key: u32) {
        self.list.retain(|(other, _)| *other != key);
    }
    fn evict(&mut self, _: u32) -> u32 {
        loop {
            let lowest = self.list.iter().map(|(_, counted)| counted.priority).min().unwrap();
            let first = self.list.iter().position(|(_, counted)| counted.priority == lowest).unwrap();
            let (key, Counted { uses, gathered, .. }) = self.list.remove(first);
            if gathered == 0 {
                self.age = lowest;
                return key;
            }
            let uses = uses + gathered;
            self.list.push((key, Counted { uses, priority: self.age + uses, gathered: 0 }));
        }
    }
}

#[derive(Default)]
pub(super) struct Sieve {
    queue: Vec<(u32, bool)>,
    hand: usize,
}

impl Model for Sieve {
    fn insert(&mut self, key: u32, _: Candidate) {
        // A hand past the newest has come round, and stands at the oldest; it does not wait for what comes in.
        if self.hand >= self.queue.len() {
            self.hand = 0;
        }
        self.queue.push((key, false));
    }
    fn hit(&mut self, key: u32) {
        let at = position(&self.queue, key).unwrap();
        self.queue[at].1 = true;
    }
    fn update(&mut self, _: u32, _: Candidate) {}
    fn remove(&mut self, key: u32) {
        let at = position(&self.queue, key).unwrap();
        self.queue.remove(at);
        if at < self.hand {
            self.hand -= 1;
        }
    }
    fn evict(&mut self, _: u32) -> u32 {
        loop {
            if self.hand >= self.queue.len() {
                self.hand = 0;
            }
            if !self.queue[self.hand].1 {
                return self.queue.remove(self.hand).0;
            }
            self.queue[self.hand].1 = false;
            self.hand += 1;
        }
    }
}

pub(super) struct S3Fifo {
    small: Vec<(u32, Entry)>,
    main: Vec<(u32, Entry)>,
    /// Number of its coming, so that one that came back and went again is the newer ghost only.
    ghosts: Vec<Option<u32>>,
    small_bytes_max: u64,
}

impl S3Fifo {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        Self { small: Vec::new(), main: Vec::new(), ghosts: Vec::new(), small_bytes_max: capacity_bytes / 10 }
    }

    fn entry(&mut self, key: u32) -> &mut Entry {
        let mut all = self.small.iter_mut().chain(&mut self.main);
        &mut all.find(|(other, _)| *other == key).unwrap().1
    }
}

impl Model for S3Fifo {
    fn insert(&mut self, key: u32, candidate: Candidate) {
        match self.ghosts.iter().rposition(|ghost| *ghost == Some(key)) {
            Some(at) => {
                self.ghosts[at] = None;
                self.main.push((key, Entry::new(candidate)));
            }
            None => self.small.push((key, Entry::new(candidate))),
        }
    }
    fn hit(&mut self, key: u32) {
        let entry = self.entry(key);
        entry.uses = (entry.uses + 1).min(3);
    }
    fn update(&mut self, key: u32, candidate: Candidate) {
        self.entry(key).candidate = candidate;
    }
    fn remove(&mut self, key: u32) {
        self.small.retain(|(other, _)| *other != key);
        self.main.retain(|(other, _)| *other != key);
    }
    fn evict(&mut self, _: u32) -> u32 {
        loop {
            if bytes(&self.small) >= self.small_bytes_max && !self.small.is_empty() || self.main.is_empty() {
                let len = self.small.len() + self.main.len();
                let (key, entry) = self.small.remove(0);
                if entry.uses <= 1 {
                    self.ghosts.push(Some(key));
                    while self.ghosts.len() > (len - len / 10).max(1) {
                        self.ghosts.remove(0);
                    }
                    return key;
                }
                self.main.push((key, Entry { uses: 0, ..entry }));
            } else {
                let (key, entry) = self.main.remove(0);
                if entry.uses == 0 {
                    return key;
                }
                self.main.push((key, Entry { uses: entry.uses - 1, ..entry }));
            }
        }
    }
}

pub(super) struct WTinyLfu {
    window: Vec<(u32, Entry)>,
    probation: Vec<(u32, Entry)>,
    protected: Vec<(u32, Entry)>,
    window_bytes_max: u64,
    protected_bytes_max: u64,
    sketch: Sketch,
}

impl WTinyLfu {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let window_bytes_max = capacity_bytes / 100;
        let main_bytes_max = capacity_bytes - window_bytes_max;
        Self {
            window: Vec::new(),
            probation: Vec::new(),
            protected: Vec::new(),
            window_bytes_max,
            protected_bytes_max: main_bytes_max - main_bytes_max / 5,
            sketch: Sketch::default(),
        }
    }

    fn entry(&mut self, key: u32) -> &mut Entry {
        let mut all = self.window.iter_mut().chain(&mut self.probation).chain(&mut self.protected);
        &mut all.find(|(other, _)| *other == key).unwrap().1
    }

    /// Brings the first unused entry of a list to its front, and what was used before it to its end.
    fn rotate(list: &mut Vec<(u32, Entry)>, sketch: &mut Sketch) {
        while let Some((_, entry)) = list.first()
            && entry.uses > 0
        {
            let (key, entry) = list.remove(0);
            sketch.count(entry.candidate.hash, u8::try_from(entry.uses).unwrap());
            list.push((key, Entry { uses: 0, ..entry }));
        }
    }

    fn demote(&mut self) {
        while bytes(&self.protected) > self.protected_bytes_max {
            Self::rotate(&mut self.protected, &mut self.sketch);
            let oldest = self.protected.remove(0);
            self.probation.push(oldest);
        }
    }

    fn promote(&mut self) {
        while let Some((_, entry)) = self.probation.first()
            && entry.uses > 0
        {
            let (key, entry) = self.probation.remove(0);
            self.sketch.count(entry.candidate.hash, u8::try_from(entry.uses).unwrap());
            self.protected.push((key, Entry { uses: 0, ..entry }));
            self.demote();
        }
        if self.probation.is_empty() {
            Self::rotate(&mut self.protected, &mut self.sketch);
        }
    }

    fn window_is_over(&mut self, incoming_bytes: u32) -> bool {
        let over = bytes(&self.window) + u64::from(incoming_bytes) > self.window_bytes_max;
        if over {
            Self::rotate(&mut self.window, &mut self.sketch);
        }
        over
    }

    /// Moves the window's oldest to probation if it need not fight for it.
    fn passes(&mut self) -> bool {
        let main_bytes = bytes(&self.probation) + bytes(&self.protected);
        let room = CAPACITY_BYTES - self.window_bytes_max;
        let fits = main_bytes + u64::from(self.window[0].1.candidate.bytes) <= room;
        if fits {
            let oldest = self.window.remove(0);
            self.probation.push(oldest);
        }
        fits
    }
}

impl Model for WTinyLfu {
    fn insert(&mut self, key: u32, candidate: Candidate) {
        self.sketch.make_room(self.window.len() + self.probation.len() + self.protected.len() + 1);
        self.sketch.count(candidate.hash, 1);
        self.window.push((key, Entry::new(candidate)));
        while self.window_is_over(0) && self.passes() {}
    }
    fn hit(&mut self, key: u32) {
        let entry = self.entry(key);
        entry.uses = (entry.uses + 1).min(255);
    }
    fn update(&mut self, key: u32, candidate: Candidate) {
        self.entry(key).candidate = candidate;
        self.demote();
    }
    fn remove(&mut self, key: u32) {
        for list in [&mut self.window, &mut self.probation, &mut self.protected] {
            list.retain(|(other, _)| *other != key);
        }
    }
    fn evict(&mut self, incoming_bytes: u32) -> u32 {
        loop {
            let over = self.window_is_over(incoming_bytes);
            self.promote();
            let victim = self.probation.first().or(self.protected.first()).copied();
            let loser = match (self.window.first().copied(), victim) {
                (Some((candidate, entry)), Some((victim, other))) if over => {
                    if self.passes() {
                        continue;
                    }
                    let uses = |entry: Entry| self.sketch.estimate(entry.candidate.hash);
                    if uses(entry) > uses(other) { victim } else { candidate }
                }
                (_, Some((victim, _))) => victim,
                (Some((candidate, _)), None) => candidate,
                (None, None) => unreachable!("something is in"),
            };
            self.remove(loser);
            return loser;
        }
    }
}

/// Key and expiry, in the order of coming.
#[derive(Default)]
pub(super) struct Soonest(Vec<(u32, Millis)>);

impl Model for Soonest {
    fn insert(&mut self, key: u32, candidate: Candidate) {
        self.0.push((key, candidate.expiry.time().unwrap_or(Millis::MAX)));
    }
    fn hit(&mut self, _: u32) {}
    fn update(&mut self, key: u32, candidate: Candidate) {
        let at = position(&self.0, key).unwrap();
        if self.0[at].1 != candidate.expiry.time().unwrap_or(Millis::MAX) {
            self.remove(key);
            self.insert(key, candidate);
        }
    }
    fn remove(&mut self, key: u32) {
        self.0.retain(|(other, _)| *other != key);
    }
    fn evict(&mut self, _: u32) -> u32 {
        let victim = self.0.iter().min_by_key(|(_, at)| *at).unwrap().0;
        self.remove(victim);
        victim
    }
}
