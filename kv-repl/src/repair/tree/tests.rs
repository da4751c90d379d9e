use std::collections::BTreeMap;

use kv_core::hash::Token;
use kv_core::hlc::Stamp;
use kv_core::key::{Key, RecordKey, TableId};
use kv_core::record::{Payload, Record, Version};
use kv_core::store::{Batch, Space, SpaceOptions};
use kv_core::time::Millis;
use kv_core::version::{Actor, Incarnation};
use kv_core::{Expiry, MemStore, NodeId, Store};
use proptest::prelude::*;

use super::*;
use crate::comparison::Branch;
use crate::identity::ClusterId;

const TABLE: TableId = TableId(3);

fn printer() -> Printer {
    Printer::new(ClusterId(77), Millis::ZERO)
}

fn store() -> MemStore {
    MemStore::new([(Space::DATA, SpaceOptions::default())])
}

/// Partition keys of their own, or all under one, which no cut can separate.
fn key(number: u16, together: bool) -> RecordKey {
    let name = format!("key {number}");
    let key = if together { Key::from(("one", name)) } else { Key::from(name) };
    RecordKey::new(TABLE, &key).expect("a short key")
}

fn put(store: &MemStore, tree: &mut Tree, key: &RecordKey, birth: u64) {
    let actor = Actor { node: NodeId(1), incarnation: Incarnation(1), epoch: 1 };
    let version = Version { birth: Stamp(birth), payload: Payload::Tombstone, expiry: Expiry::NEVER, operation: None };
    let mut batch = Batch::new();
    batch.put(Space::DATA, key.as_bytes(), &Record::last_write(actor, version).to_bytes());
    tree.touch(key.token().0, key.as_bytes());
    store.commit(&batch).expect("a store in memory takes a batch");
}

fn whole() -> Span {
    Span { table: TABLE, first: 0, last: u64::MAX }
}

/// The summary, read in portions.
fn summary(tree: &mut Tree, store: &MemStore, span: Span, portion: usize) -> Summary {
    let question = tree.ask();
    let mut resume = span.first;
    for _ in 0..1_000_000 {
        let mut reading = Reading { view: store, printer: printer(), budget: portion };
        if let Some(summary) = tree.summary(span, question, &mut resume, &mut reading).expect("memory reads") {
            return summary;
        }
    }
    panic!("reading does not come to an end");
}

fn by_force(store: &MemStore, span: Span) -> Summary {
    read(span, &mut Reading { view: store, printer: printer(), budget: usize::MAX }).expect("memory reads")
}

#[test]
fn a_tree_grows_with_its_partition_and_reads_only_what_was_written() {
    for together in [false, true] {
        let (store, mut tree) = (store(), Tree::new(whole()));
        (0..5_000).for_each(|number| put(&store, &mut tree, &key(number, together), 1));
        assert_eq!(summary(&mut tree, &store, whole(), 100), by_force(&store, whole()));
        let leaves = tree.leaves();
        if together {
            assert!(leaves <= 65, "a token cannot be cut: {leaves}");
        } else {
            assert!((10..=40).contains(&leaves), "{leaves} leaves for 5000 records");
        }
        let question = tree.ask();
        let mut reading = Reading { view: &store, printer: printer(), budget: 0 };
        let again = tree.summary(whole(), question, &mut 0, &mut reading).expect("memory reads");
        assert!(again.is_some(), "nothing was written, and nothing is read");

        put(&store, &mut tree, &key(17, together), 2);
        let mut reading = Reading { view: &store, printer: printer(), budget: 100_000 };
        let question = tree.ask();
        let found = tree.summary(whole(), question, &mut 0, &mut reading).expect("memory reads");
        assert_eq!(found, Some(by_force(&store, whole())));
        let read = 100_000 - reading.budget;
        assert!(together || read as u64 <= LEAF_RECORDS_MAX, "one leaf is read: {read}");
    }
}

#[test]
fn a_write_behind_the_place_that_reading_has_reached_is_not_missed() {
    let (store, mut tree) = (store(), Tree::new(whole()));
    (0..300).for_each(|number| put(&store, &mut tree, &key(number, true), 1));
    let question = tree.ask();
    for round in 0..40 {
        let mut reading = Reading { view: &store, printer: printer(), budget: 100 };
        tree.summary(whole(), question, &mut 0, &mut reading).expect("memory reads");
        assert_eq!(tree.check(&store, printer()).expect("memory reads"), None);
        put(&store, &mut tree, &key(round, true), 2);
    }
    assert_eq!(summary(&mut tree, &store, whole(), 100), by_force(&store, whole()));
}

#[derive(Clone, Debug)]
enum Step {
    Put {
        number: u16,
        birth: u64,
    },
    Ask {
        depth: u8,
        number: u16,
        portion: usize,
    },
    /// Begins to read, and leaves it at that.
    Begin {
        portion: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u16..2_000, 1_u64..4).prop_map(|(number, birth)| Step::Put { number, birth }),
        1 => (0_u8..14, any::<u16>(), 1_usize..700).prop_map(|(depth, number, portion)| Step::Ask { depth, number, portion }),
        1 => (1_usize..700).prop_map(|portion| Step::Begin { portion }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is written and asked in whatever order: every answer is what reading all of it gives.
    #[test]
    fn a_tree_agrees_with_reading_everything(
        filled in 0_u16..2_500,
        together in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let (store, mut tree) = (store(), Tree::new(whole()));
        (0..filled).for_each(|number| put(&store, &mut tree, &key(number, together), 1));
        for step in steps {
            match step {
                Step::Put { number, birth } => put(&store, &mut tree, &key(number, together), birth),
                Step::Ask { depth, number, portion } => {
                    let branch = Branch::new(depth, u64::from(number) & ((1 << depth) - 1)).expect("it exists");
                    let tokens = branch.tokens(&(Token(0)..=Token(u64::MAX))).expect("not too deep");
                    let span = Span::new(TABLE, &tokens);
                    prop_assert_eq!(summary(&mut tree, &store, span, portion), by_force(&store, span));
                }
                Step::Begin { portion } => {
                    let question = tree.ask();
                    let mut reading = Reading { view: &store, printer: printer(), budget: portion };
                    tree.summary(whole(), question, &mut 0, &mut reading).expect("memory reads");
                }
            }
        }
        prop_assert_eq!(tree.check(&store, printer()).expect("memory reads"), None);
    }

    /// Equal contents have equal hashes, whatever the order they came in and however the trees are cut; others differ.
    #[test]
    fn equal_contents_and_no_others_have_equal_hashes(
        one in prop::collection::vec((0_u16..1_500, 1_u64..3), 0..1_500),
        other in prop::collection::vec((0_u16..1_500, 1_u64..3), 0..3),
    ) {
        let fill = |writes: &[(u16, u64)], asks: usize| {
            let (store, mut tree) = (store(), Tree::new(whole()));
            for (at, (number, birth)) in writes.iter().enumerate() {
                put(&store, &mut tree, &key(*number, false), *birth);
                if at % asks == 0 {
                    summary(&mut tree, &store, whole(), 300);
                }
            }
            summary(&mut tree, &store, whole(), 300)
        };
        let last: BTreeMap<u16, u64> = one.iter().copied().collect();
        let in_order: Vec<(u16, u64)> = last.iter().map(|(number, birth)| (*number, *birth)).collect();
        let reversed: Vec<(u16, u64)> = in_order.iter().rev().copied().collect();
        prop_assert_eq!(fill(&one, 400), fill(&in_order, usize::MAX));
        prop_assert_eq!(fill(&reversed, 7_000), fill(&in_order, 500));

        let more: Vec<(u16, u64)> = one.iter().chain(&other).copied().collect();
        let changed: BTreeMap<u16, u64> = more.iter().copied().collect();
        prop_assert_eq!(fill(&more, usize::MAX) == fill(&in_order, usize::MAX), changed == last);
    }
}
