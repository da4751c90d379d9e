//! What a removal takes, and what a checker may take it for.

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::context::CausalContext;
use kv_core::crdt::Update;
use kv_core::key::RecordKey;

use super::data_type_rules::{
    AGAIN, LONG_US, change, change_of, cut_off, elements, elsewhere, founded, insert, key_in, make, remove,
};
use super::*;
use crate::check::SetHistory;
use crate::quorum::Consistency;
use crate::request::{Get, Modify, Read, Written};

fn ask(world: &mut World, node: NodeId, key: &RecordKey, consistency: Consistency) -> Read {
    let request = world.get(node, Get { key: key.clone(), consistency, floor: None });
    match world.finish(request) {
        Answer::Read(Ok(read)) => read,
        other => panic!("a read has ended as {other:?}"),
    }
}

/// Milk is put in three times. The third replica hears of the last time only, which names the second one and not the first; somebody
/// reads there and removes what is seen.
#[test]
fn protocol_rule_18_a_removal_takes_the_inserts_whose_place_the_seen_one_had_taken() {
    let mut world = founded(2, 3);
    let key = key_in(&world, "sets", "k");
    let mut history = SetHistory::default();
    let mut put_in = |world: &mut World| -> Written {
        let index = history.insert_begins(Bytes::from_static(b"milk"));
        let written = change(world, 1, "sets", insert("milk"));
        history.acknowledged_at(index, world.now_us(), written.dot, written.context.open(&key).unwrap());
        written
    };
    cut_off(&mut world, 3);
    let first = put_in(&mut world);
    put_in(&mut world);
    world.run_for(LONG_US);
    world.heal_links();
    world.run_for(2_000_000);
    put_in(&mut world);
    world.run_for(100_000);
    let read = ask(&mut world, NodeId(3), &key, Consistency::One);
    let seen = read.context().open(&key).unwrap();
    assert_eq!(read.set().unwrap(), ["milk"]);
    assert!(!seen.contains(first.dot), "nobody has told this replica: {seen:?}");
    let removal = change_of(&mut world, "sets", remove("milk"), Some(read.context()));
    history.removal_begins(Some([Bytes::from_static(b"milk")].into()), Some(seen));
    make(&mut world, 3, &removal).expect("a healthy cluster removes");
    assert!(elements(&mut world, 1).is_empty());
    let begun = history.read_begins(world.now_us());
    let read = ask(&mut world, NodeId(1), &key, Consistency::Quorum);
    history.read_ends(&begun, &[].into(), &read.context().open(&key).unwrap());
    assert_eq!(history.tally().violations, Vec::<String>::new());
}

/// What is read in the end. A node passes an assignment on and dies; its client asks another one again, and somebody who has seen the outcome assigns
/// something else. Then the first attempt arrives.
fn assigned_late(with_context: bool) -> Vec<Bytes> {
    let mut world = founded(5, 4);
    let (key, replicas) = elsewhere(&world, "notes", NodeId(4));
    let other = replicas[1];
    let assign = |world: &mut World, text: &'static str, context: Option<&CausalContext>| {
        let write = Update::Write(Bytes::from_static(text.as_bytes()));
        Modify { key: key.clone(), ..change_of(world, "notes", write, context) }
    };
    let before = assign(&mut world, "before", None);
    let before = make(&mut world, other.0, &before).expect("a healthy cluster writes").context;
    let first = assign(&mut world, "first", with_context.then_some(&before));
    world.network.faults.straggler = 1.0;
    let request = world.modify(NodeId(4), first.clone());
    world.run_for(1_000);
    world.network.faults.straggler = 0.0;
    world.crash(NodeId(4));
    assert_eq!(world.take(request), Answer::Gone);
    make(&mut world, other.0, &Modify { attempt: AGAIN, ..first }).expect("two replicas have not been asked");
    let read = ask(&mut world, other, &key, Consistency::Quorum);
    assert_eq!(read.register().unwrap(), ["first"]);
    let second = assign(&mut world, "second", Some(read.context()));
    make(&mut world, other.0, &second).expect("a healthy cluster writes");
    world.run_for(100_000);
    assert_eq!(ask(&mut world, other, &key, Consistency::Quorum).register().unwrap(), ["second"]);
    world.run_for(LONG_US);
    let read = ask(&mut world, other, &key, Consistency::All);
    let mut values: Vec<Bytes> = read.register().unwrap().into_iter().cloned().collect();
    values.sort();
    values
}

#[test]
fn protocol_rule_18_a_late_first_attempt_takes_nothing_new_when_it_says_what_it_had_seen() {
    assert_eq!(assigned_late(true), ["first", "second"]);
    assert_eq!(assigned_late(false), ["first"], "as documented: it takes what its replica holds");
}

/// Runs that once blamed a removal or a late assignment for a loss.
#[test]
fn removals_are_not_blamed_for_what_they_may_take() {
    for seed in [1251, 2999] {
        let options = Options { purge_after_ms: 0, spell_ms: 0, ..Options::from_seed(seed) };
        let report = run(&options, Box::new(MemStores::new()));
        assert_eq!(report.violations, Vec::<String>::new(), "seed {seed}");
    }
}

#[test]
fn what_a_removal_takes_unseen_is_noticed() {
    let lost = |seed| {
        let options = Options { duration_ms: 10_000, sessions: false, sloppy: false, ..Options::from_seed(seed) };
        let report = run(&options, Box::new(MemStores::new()));
        report.violations.iter().any(|violation| violation.contains("that nobody saw"))
    };
    let noticed = Sabotage::ClearUnseen.during(|| (0..20).filter(|seed| lost(*seed)).count());
    assert!(noticed >= 5, "in {noticed} runs of 20");
}
