use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::internal_key::Kind;

/// By space and key, then newest first: what a sorted map makes of versions.
type Model = BTreeMap<(u32, Vec<u8>, std::cmp::Reverse<u64>), Vec<u8>>;

fn tree() -> Arc<Tree> {
    Arc::new(Tree::new(Arc::new(ChunkPool::new(1 << 20))))
}

fn put(tree: &Tree, space: u32, key: &[u8], sequence: u64, value: &[u8]) {
    tree.writer().insert(Record { trailer: Trailer::new(sequence, Kind::Put), space, key, value });
}

type Version = (u32, Vec<u8>, u64, Vec<u8>);

fn versions(run: &Run) -> Vec<Version> {
    (0..run.len())
        .map_while(|index| run.get(index))
        .map(|record| (record.space, record.key.to_vec(), record.trailer.sequence(), record.value.to_vec()))
        .collect()
}

fn of_model(model: &Model) -> impl DoubleEndedIterator<Item = Version> + '_ {
    model.iter().map(|((space, key, sequence), value)| (*space, key.clone(), sequence.0, value.clone()))
}

/// Every look at one space and place gives what the model gives.
fn check(tree: &Arc<Tree>, model: &Model, space: u32, key: &[u8], sequence: u64, count: usize) {
    let place = Place { space, key, trailer: Trailer::at(sequence) };
    let is_before =
        |version: &Version| (&version.1[..], std::cmp::Reverse(version.2)) < (key, std::cmp::Reverse(sequence));
    let of_space = || of_model(model).filter(|version| version.0 == space);

    let mut run = Run::new(Arc::clone(tree), space);
    run.fill_from(key, place.trailer, count);
    let ascending: Vec<_> = of_space().filter(|version| !is_before(version)).collect();
    assert_eq!(versions(&run), ascending[..count.min(ascending.len())], "from {place:?}");
    if versions(&run).len() == count && count > 0 {
        run.go_on(count);
        let next = &ascending[count..];
        assert_eq!(versions(&run), next[..count.min(next.len())], "on from {place:?}");
    }

    run.fill_before(Some((key, place.trailer)), count);
    let descending: Vec<_> = of_space().rev().filter(is_before).collect();
    assert_eq!(versions(&run), descending[..count.min(descending.len())], "before {place:?}");
    if versions(&run).len() == count && count > 0 {
        run.go_back(count);
        let next = &descending[count..];
        assert_eq!(versions(&run), next[..count.min(next.len())], "back from {place:?}");
    }
    run.fill_before(None, count);
    let last: Vec<_> = of_space().rev().take(count).collect();
    assert_eq!(versions(&run), last, "the last of {space}");

    let mut found = Vec::new();
    tree.of_key(place, &mut |trailer, value| {
        found.push((trailer.sequence(), value.to_vec()));
        ControlFlow::Continue(())
    });
    let expected: Vec<_> = of_space()
        .filter(|version| version.1 == key && version.2 <= sequence)
        .map(|(_, _, sequence, value)| (sequence, value))
        .collect();
    assert_eq!(found, expected, "the versions of {place:?}");
}

/// Keys that share long beginnings, differ only in trailing zeros, or are nothing at all.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(prop::sample::select(vec![0_u8, 1, 255]), 0..4),
        (0_u16..300).prop_map(|number| number.to_be_bytes().to_vec()),
        (0_u8..40).prop_map(|number| [b"a long beginning that all of these have ".as_slice(), &[number]].concat()),
        (0_u8..40, any::<bool>()).prop_map(|(number, other)| {
            [b"a long beginning ".as_slice(), if other { b"x" } else { b"that parts " }, &[number]].concat()
        }),
        prop::collection::vec(any::<u8>(), 0..20),
    ]
}

fn space() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![0, 1, 2, 256, 257, u32::MAX])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_reads_as_a_sorted_map_does(
        inserts in prop::collection::vec((space(), key()), 1..500),
        looks in prop::collection::vec((space(), key(), 0_u64..520, 0_usize..40), 1..20),
        every in 1_usize..200,
    ) {
        let (tree, mut model) = (tree(), Model::new());
        for (index, (space, key)) in inserts.iter().enumerate() {
            let sequence = index as u64 + 1;
            let value = sequence.to_string().into_bytes();
            put(&tree, *space, key, sequence, &value);
            model.insert((*space, key.clone(), std::cmp::Reverse(sequence)), value);
            if index % every == 0 {
                check(&tree, &model, *space, key, sequence, 3);
            }
        }
        for (space, key, sequence, count) in &looks {
            check(&tree, &model, *space, key, *sequence, *count);
        }
        let (space, key) = &inserts[0];
        check(&tree, &model, *space, key, u64::from(u32::MAX), usize::MAX >> 1);
        let mut spaces: Vec<u32> = model.keys().map(|(space, ..)| *space).collect();
        spaces.dedup();
        prop_assert_eq!(tree.spaces(), spaces);
    }
}

#[test]
fn keys_in_order_either_way_fill_their_leaves() {
    const COUNT: u64 = 100_000;
    for descending in [false, true] {
        let tree = tree();
        for number in 0..COUNT {
            let key = if descending { COUNT - number } else { number };
            put(&tree, 7, &key.to_be_bytes(), number + 1, b"");
        }
        let records = COUNT * (20 + 8);
        let entry = size_of::<Node>() as u64 / node::WIDTH as u64;
        let nodes = tree.bytes() - records;
        assert!(nodes < COUNT * entry * 3 / 2, "descending {descending}: {} bytes for each", nodes / COUNT);
    }
}

/// Several readers beside the writer: each finds everything that was inserted before it looked, in order.
#[test]
fn readers_beside_the_writer_miss_nothing() {
    const COUNT: u64 = 60_000;
    let scatter = |number: u64| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).to_be_bytes();
    let tree = tree();
    let inserted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for reader in 0..3_u64 {
            let (tree, inserted) = (&tree, &inserted);
            scope.spawn(move || {
                let mut state = reader + 1;
                loop {
                    let known = inserted.load(Ordering::Acquire);
                    if known > 0 {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        let number = (state >> 33) % known;
                        let key = scatter(number);
                        let place = Place { space: 1, key: &key, trailer: Trailer::NEWEST };
                        let mut found = false;
                        tree.of_key(place, &mut |trailer, value| {
                            found |= trailer.sequence() == number + 1;
                            assert_eq!(value, trailer.sequence().to_le_bytes(), "a version carries its own value");
                            ControlFlow::Continue(())
                        });
                        assert!(found, "{number} of {known} is missing");
                        if state >> 60 == 0 {
                            in_order(tree, place, known);
                        }
                    }
                    if known == COUNT {
                        return;
                    }
                }
            });
        }
        for number in 0..COUNT {
            put(&tree, 1, &scatter(number), number + 1, &(number + 1).to_le_bytes());
            inserted.store(number + 1, Ordering::Release);
        }
    });
    let count_of = |space: u32| {
        let mut run = Run::new(Arc::clone(&tree), space);
        run.fill_from(&[], Trailer::NEWEST, usize::MAX >> 1);
        versions(&run).len() as u64
    };
    assert_eq!((count_of(0), count_of(1), count_of(2)), (0, COUNT, 0));
}

fn in_order(tree: &Arc<Tree>, place: Place<'_>, known: u64) {
    let mut run = Run::new(Arc::clone(tree), place.space);
    let mut lengths = 0;
    for forward in [true, false] {
        if forward {
            run.fill_from(place.key, place.trailer, 200);
        } else {
            run.fill_before(Some((place.key, place.trailer)), 200);
        }
        let found = versions(&run);
        for pair in found.windows(2) {
            let (a, b) = if forward { (&pair[0], &pair[1]) } else { (&pair[1], &pair[0]) };
            assert!((&a.1, std::cmp::Reverse(a.2)) < (&b.1, std::cmp::Reverse(b.2)), "out of order");
        }
        lengths += found.len() as u64;
    }
    assert!(lengths >= known.min(200), "of {known} versions, {lengths} stand on either side");
}
