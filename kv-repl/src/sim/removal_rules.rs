//! What a removal takes, and what a checker may take it for.

use std::collections::BTreeSet;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::context::CausalContext;
use kv_core::crdt::Update;
use kv_core::key::RecordKey;

use super::data_type_rules::{
    AGAIN, LONG_US, change, change_of, cut_off, elements, elsewhere, founded, insert, key_in, make, remove,
};
use super::*;
use crate::check::{ChangeIndex, SetHistory};
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

/// What is read in the end, and what is wrong with it. A node passes an assignment on and dies; its client asks another one again, and somebody who
/// has seen the outcome assigns something else. Then the first attempt arrives.
fn assigned_late(with_context: bool) -> (Vec<Bytes>, Vec<String>) {
    let mut world = founded(5, 4);
    let (key, replicas) = elsewhere(&world, "notes", NodeId(4));
    let other = replicas[1];
    let mut history = SetHistory::default();
    let opened = |context: &CausalContext| context.open(&key).expect("a context of this key");
    let assign = |world: &mut World, history: &mut SetHistory, text: &'static str, context: Option<&CausalContext>| {
        let text = Bytes::from_static(text.as_bytes());
        let index = history.write_begins(text.clone(), context.map(opened));
        (index, Modify { key: key.clone(), ..change_of(world, "notes", Update::Write(text), context) })
    };
    let done = |world: &mut World, history: &mut SetHistory, (index, modify): (ChangeIndex, Modify)| {
        let written = make(world, other.0, &modify).expect("a quorum has not been asked yet");
        history.acknowledged_at(index, world.now_us(), written.dot, opened(&written.context));
        written.context
    };
    let values = |world: &mut World, history: &mut SetHistory| {
        let begun = history.read_begins(world.now_us());
        let read = ask(world, other, &key, Consistency::Quorum);
        let values: BTreeSet<Bytes> = read.register().expect("a table of registers").into_iter().cloned().collect();
        history.read_ends(&begun, &values, &opened(read.context()));
        (values.into_iter().collect::<Vec<_>>(), read.context().clone())
    };
    let before = assign(&mut world, &mut history, "before", None);
    let before = done(&mut world, &mut history, before);
    let (index, first) = assign(&mut world, &mut history, "first", with_context.then_some(&before));
    world.network.faults.straggler = 1.0;
    let request = world.modify(NodeId(4), first.clone());
    world.run_for(1_000);
    world.network.faults.straggler = 0.0;
    world.crash(NodeId(4));
    assert_eq!(world.take(request), Answer::Gone);
    history.retried(index);
    done(&mut world, &mut history, (index, Modify { attempt: AGAIN, ..first }));
    let (held, seen) = values(&mut world, &mut history);
    assert_eq!(held, ["first"]);
    let second = assign(&mut world, &mut history, "second", Some(&seen));
    done(&mut world, &mut history, second);
    world.run_for(100_000);
    assert_eq!(values(&mut world, &mut history).0, ["second"]);
    world.run_for(LONG_US);
    (values(&mut world, &mut history).0, history.tally().violations.clone())
}

#[test]
fn protocol_rule_18_a_late_first_attempt_takes_nothing_new_when_it_says_what_it_had_seen() {
    let (held, wrong) = assigned_late(true);
    assert_eq!((held, wrong), (vec!["first".into(), "second".into()], Vec::new()));
    let (held, wrong) = assigned_late(false);
    assert_eq!((held, wrong), (vec!["first".into()], Vec::new()), "as documented: it takes what its replica holds");
}

#[test]
fn what_a_removal_takes_unseen_is_noticed() {
    let lost = |seed| {
        let options = Options { duration_ms: 10_000, sessions: false, sloppy: false, ..Options::from_seed(seed) };
        let report = run(&options, Box::new(MemStores::new()));
        report.violations.iter().any(|violation| violation.contains("that nobody saw"))
    };
    let noticed = Sabotage::ClearUnseen.during(|| (0..20).filter(|seed| lost(*seed)).count());
    assert!(noticed >= 10, "in {noticed} runs of 20");
}
