//! A store beside the simplest thing that could be one, over random batches.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::{MERGED, PLAIN, Pairs, batch, get, scan, scan_all};
use crate::store::{Batch, Direction, KeyRange, Operation, Space, Store, View};

/// A stream of numbers from a seed: splitmix64 (Steele, Lea and Flood).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let bound = u64::try_from(bound).expect("fits");
        usize::try_from(mixed % bound).expect("below a usize")
    }

    fn key(&mut self) -> Vec<u8> {
        let letters = self.below(3);
        (0..=letters).map(|_| b"abc"[self.below(3)]).collect()
    }
}

/// What a store should hold, told as simply as possible: merges are appended when they arrive.
#[derive(Clone, Default)]
struct Model {
    spaces: BTreeMap<Space, BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Model {
    fn apply(&mut self, operation: Operation<'_>) {
        let map = self.spaces.entry(operation.space()).or_default();
        match operation {
            Operation::Put { key, value, .. } => {
                map.insert(key.to_vec(), value.to_vec());
            }
            Operation::PutExpiring { .. } => unreachable!("no store takes it"),
            Operation::Merge { key, operand, .. } => map.entry(key.to_vec()).or_default().extend_from_slice(operand),
            Operation::Delete { key, .. } => {
                map.remove(key);
            }
            Operation::DeleteRange { start, end, .. } => {
                map.retain(|key, _| !KeyRange::half_open(start, end).contains(key));
            }
        }
    }

    fn pairs(&self, space: Space, range: KeyRange<'_>) -> Pairs {
        let map = self.spaces.get(&space).into_iter().flatten();
        map.filter(|(key, _)| range.contains(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn check(&self, view: &(impl View + ?Sized), numbers: &mut Numbers) {
        for space in [PLAIN, MERGED] {
            assert_eq!(scan_all(view, space), self.pairs(space, KeyRange::ALL));
            let (start, end) = (numbers.key(), numbers.key());
            let range = KeyRange {
                start: [Bound::Unbounded, Bound::Included(&start[..]), Bound::Excluded(&start[..])][numbers.below(3)],
                end: [Bound::Unbounded, Bound::Included(&end[..]), Bound::Excluded(&end[..])][numbers.below(3)],
            };
            let limit = 1 + numbers.below(12);
            let mut expected = self.pairs(space, range);
            let forward = scan(view, space, range, Direction::Forward, limit).expect("the scan works");
            assert_eq!(forward, expected[..limit.min(expected.len())], "{range:?}");
            expected.reverse();
            let reverse = scan(view, space, range, Direction::Reverse, limit).expect("the scan works");
            assert_eq!(reverse, expected[..limit.min(expected.len())], "{range:?}");
            let key = numbers.key();
            let held = self.spaces.get(&space).and_then(|map| map.get(&key));
            assert_eq!(get(view, space, &key).as_ref(), held);
        }
    }
}

fn random_batch(numbers: &mut Numbers) -> Batch {
    batch(|batch| {
        for _ in 0..=numbers.below(6) {
            let key = numbers.key();
            let value = vec![b'0' + u8::try_from(numbers.below(10)).expect("a digit"); 1 + numbers.below(4)];
            match numbers.below(10) {
                0..=2 => batch.put(PLAIN, &key, &value),
                3 => batch.put(MERGED, &key, &value),
                4..=6 => batch.merge(MERGED, &key, &value),
                7 => batch.delete(PLAIN, &key),
                8 => batch.delete(MERGED, &key),
                _ => batch.delete_range([PLAIN, MERGED][numbers.below(2)], &key, &numbers.key()),
            }
        }
    })
}

pub(super) fn agrees_with_the_model(store: &dyn Store, seed: u64) {
    let mut numbers = Numbers(seed);
    let mut model = Model::default();
    let mut snapshots = Vec::new();
    let mut sequences = BTreeSet::new();
    for step in 0..200 {
        let batch = random_batch(&mut numbers);
        let sequence = store.commit(&batch).expect("a well-formed batch is taken");
        // A batch whose range deletes were all empty holds nothing and need not get a number of its own.
        assert!(batch.is_empty() || sequences.insert(sequence), "each commit has its own number");
        batch.iter().for_each(|operation| model.apply(operation));
        if step % 7 == 0 {
            model.check(store, &mut numbers);
        }
        if step % 31 == 0 {
            snapshots.push((store.snapshot(), model.clone()));
        }
    }
    for (snapshot, then) in &snapshots {
        then.check(&**snapshot, &mut numbers);
    }
    model.check(store, &mut numbers);
}
