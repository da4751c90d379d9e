//! Each policy beside its textbook definition, written with lists that are searched from one end to the other.

mod models;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::expiry::Expiry;
use crate::slot::Slot;
use crate::time::Millis;
use models::Model;

const CAPACITY_BYTES: u64 = 200;

#[derive(Copy, Clone, Debug)]
enum Step {
    /// A hit if the key is in, else an insertion.
    Use {
        key: u32,
        bytes: u32,
    },
    Update {
        key: u32,
        bytes: u32,
        expires_at: Option<u64>,
    },
    Remove {
        key: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    // Low keys are popular, so that all counts and segments come into play.
    let key = || prop_oneof![3 => 0..8u32, 2 => 0..40u32, 1 => 0..200u32];
    prop_oneof![
        12 => (key(), prop_oneof![Just(10u32), 1..60u32]).prop_map(|(key, bytes)| Step::Use { key, bytes }),
        1 => (key(), 1..60u32, prop::option::of(0..50u64))
            .prop_map(|(key, bytes, expires_at)| Step::Update { key, bytes, expires_at }),
        1 => key().prop_map(|key| Step::Remove { key }),
    ]
}

fn candidate(key: u32, bytes: u32) -> Candidate {
    let hash = crate::hash::seeded(&key.to_le_bytes(), 0);
    let expiry = if key.is_multiple_of(3) { Expiry::NEVER } else { Expiry::at(Millis(u64::from(key * 7 % 50))) };
    Candidate { hash, bytes, expiry }
}

/// The owner of a policy: a map bounded by bytes. Every victim must be the model's.
struct Owner<'a> {
    policy: &'a mut dyn Policy,
    model: &'a mut dyn Model,
    slots: BTreeMap<u32, (Slot, u32)>,
    free: Vec<u32>,
    used_bytes: u64,
}

impl Owner<'_> {
    fn apply(&mut self, step: Step) {
        match step {
            Step::Use { key, bytes } => {
                if let Some((slot, _)) = self.slots.get(&key) {
                    if self.policy.hit(*slot) {
                        self.policy.settle();
                    }
                    self.model.hit(key);
                    return;
                }
                self.make_room(bytes);
                let slot = Slot(self.free.pop().unwrap_or(u32::try_from(self.slots.len()).expect("few")));
                self.policy.insert(slot, candidate(key, bytes));
                self.model.insert(key, candidate(key, bytes));
                self.slots.insert(key, (slot, bytes));
                self.used_bytes += u64::from(bytes);
            }
            Step::Update { key, bytes, expires_at } => {
                let Some((slot, before)) = self.slots.get_mut(&key) else { return };
                let expiry = expires_at.map_or(Expiry::NEVER, |at| Expiry::at(Millis(at)));
                let candidate = Candidate { expiry, ..candidate(key, bytes) };
                self.policy.update(*slot, candidate);
                self.model.update(key, candidate);
                self.used_bytes = self.used_bytes - u64::from(*before) + u64::from(bytes);
                *before = bytes;
                self.make_room(0);
            }
            Step::Remove { key } => {
                if let Some((slot, bytes)) = self.slots.remove(&key) {
                    self.policy.remove(slot);
                    self.model.remove(key);
                    self.free.push(slot.0);
                    self.used_bytes -= u64::from(bytes);
                }
            }
        }
    }

    fn make_room(&mut self, incoming_bytes: u32) {
        while self.used_bytes + u64::from(incoming_bytes) > CAPACITY_BYTES {
            self.evict(incoming_bytes);
        }
    }

    fn evict(&mut self, incoming_bytes: u32) {
        let victim = self.policy.evict(incoming_bytes).expect("something is in");
        let (key, (slot, bytes)) =
            self.slots.iter().find(|(_, (slot, _))| *slot == victim).map(|(k, v)| (*k, *v)).expect("it is in");
        self.model.check_victim(key, incoming_bytes);
        self.slots.remove(&key);
        self.free.push(slot.0);
        self.used_bytes -= u64::from(bytes);
    }
}

fn run(policy: &mut dyn Policy, model: &mut dyn Model, steps: Vec<Step>) {
    let mut owner = Owner { policy, model, slots: BTreeMap::new(), free: Vec::new(), used_bytes: 0 };
    for step in steps {
        owner.apply(step);
    }
    // What is left leaves in the model's order, and then there is nothing.
    while !owner.slots.is_empty() {
        owner.evict(0);
    }
    assert_eq!(owner.policy.evict(0), None);
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..400)
}

proptest! {
    #[test]
    fn fifo_is_the_textbook_s(steps in steps()) {
        run(&mut Fifo::new(), &mut models::Fifo::default(), steps);
    }

    #[test]
    fn lru_is_the_textbook_s(steps in steps()) {
        run(&mut Lru::new(), &mut models::Lru::default(), steps);
    }

    #[test]
    fn lfu_ages_and_counts_as_it_says(steps in steps()) {
        run(&mut Lfu::new(), &mut models::Lfu::default(), steps);
    }

    #[test]
    fn sieve_is_the_paper_s(steps in steps()) {
        run(&mut Sieve::new(), &mut models::Sieve::default(), steps);
    }

    #[test]
    fn s3_fifo_is_the_paper_s(steps in steps()) {
        run(&mut S3Fifo::new(CAPACITY_BYTES), &mut models::S3Fifo::new(CAPACITY_BYTES), steps);
    }

    #[test]
    fn w_tiny_lfu_is_the_paper_s(steps in steps()) {
        run(&mut WTinyLfu::new(CAPACITY_BYTES), &mut models::WTinyLfu::new(CAPACITY_BYTES), steps);
    }

    #[test]
    fn the_soonest_to_expire_goes_first(steps in steps()) {
        run(&mut Soonest::new(), &mut models::Soonest::default(), steps);
    }

    #[test]
    fn random_evicts_members(steps in steps(), seed: u64) {
        run(&mut Random::new(seed), &mut models::Anything, steps);
    }
}

#[test]
fn random_choices_are_even_and_repeatable() {
    let evicted = |seed| -> Vec<u32> {
        let mut policy = Random::new(seed);
        let mut evicted = Vec::new();
        for _ in 0..2000 {
            for number in 0..10 {
                policy.insert(Slot(number), candidate(number, 1));
            }
            evicted.push(policy.evict(1).unwrap().0);
            while policy.evict(1).is_some() {}
        }
        evicted
    };
    let choices = evicted(7);
    for number in 0..10 {
        let times = choices.iter().filter(|choice| **choice == number).count();
        assert!((130..=270).contains(&times), "{number} was chosen {times} times of 2000");
    }
    assert_eq!(choices, evicted(7));
    assert_ne!(choices, evicted(8));
}

/// What one pass over many keys leaves of a working set that was used before it.
fn survivors_of_a_scan(mut policy: Box<dyn Policy>) -> usize {
    let mut in_cache = vec![false; 2000];
    let slots = 100;
    let mut used = 0;
    let mut access = |number: u32, policy: &mut dyn Policy| {
        if in_cache[number as usize] {
            if policy.hit(Slot(number)) {
                policy.settle();
            }
            return;
        }
        if used == slots {
            let victim = policy.evict(1).expect("it is full");
            in_cache[victim.index()] = false;
            used -= 1;
        }
        policy.insert(Slot(number), candidate(number, 1));
        in_cache[number as usize] = true;
        used += 1;
    };
    for _ in 0..20 {
        for number in 0..60 {
            access(number, policy.as_mut());
        }
    }
    for number in 100..2000 {
        access(number, policy.as_mut());
    }
    in_cache[..60].iter().filter(|present| **present).count()
}

#[test]
fn scans_pass_by_the_policies_that_say_so() {
    assert_eq!(survivors_of_a_scan(PolicyKind::Lru.build(100, 0)), 0);
    assert_eq!(survivors_of_a_scan(PolicyKind::Fifo.build(100, 0)), 0);
    assert_eq!(survivors_of_a_scan(PolicyKind::WTinyLfu.build(100, 0)), 60);
    assert_eq!(survivors_of_a_scan(PolicyKind::S3Fifo.build(100, 0)), 60);
}

#[test]
fn aging_lets_go_of_what_was_popular_once() {
    let mut policy = Lfu::new();
    policy.insert(Slot(0), candidate(0, 1));
    for _ in 0..50 {
        policy.hit(Slot(0));
    }
    policy.settle();
    policy.insert(Slot(1), candidate(1, 1));
    for round in 0..60 {
        // Everything new is used once and once more; the age rises by it.
        policy.hit(Slot(1));
        if policy.evict(1) == Some(Slot(0)) {
            assert!(round >= 20, "not at once either");
            return;
        }
        policy.insert(Slot(1), candidate(1, 1));
    }
    panic!("what is not used any more stays for ever");
}
