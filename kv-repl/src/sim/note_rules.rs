//! Rules of the notes that leaves of hash trees leave in the store, as scenarios: right with the rule on, and wrong with it off.

use std::time::Duration;

use kv_core::NodeId;

use super::rules::{key_of, put_of};
use super::*;
use crate::quorum::Consistency;
use crate::repair_request::RepairStatus;
use crate::request::Put;
use crate::sabotage::Sabotage;
use crate::table_options::TableOptions;

const KEYS: usize = 60;

/// Three replicas that hold the same, have compared it, and have noted so.
fn compared(seed: u64) -> World {
    let stores = Box::new(MemStores::new());
    let mut world = World::with_repair(seed, 3, NetworkFaults::default(), 5, stores, Duration::from_millis(500));
    world.found(&[("carts", TableOptions::siblings().replicas(3))]);
    for key in 0..KEYS {
        write(&mut world, 1, &format!("key {key}"), Consistency::All);
    }
    world.run_for(5_000_000);
    world
}

fn write(world: &mut World, node: u64, name: &str, consistency: Consistency) {
    let put = Put { consistency, ..put_of(world, name, "value", None) };
    let request = world.put(NodeId(node), put);
    let answer = world.finish(request);
    assert!(matches!(answer, Answer::Written(Ok(_))), "{answer:?}");
}

fn repair_of(world: &World, node: u64) -> RepairStatus {
    world.status(NodeId(node)).expect("it runs").repair
}

fn restart(world: &mut World, node: u64) {
    world.start(NodeId(node));
    world.run_for(6_000_000);
    assert!(world.is_serving(NodeId(node)));
}

/// Two replicas take a write that the third does not hear of, and lose their power at once.
fn written_and_crashed() -> Result<(), String> {
    (0..4).try_for_each(|seed| {
        let mut world = compared(seed);
        for other in [1, 2] {
            world.cut(NodeId(other), NodeId(3));
            world.cut(NodeId(3), NodeId(other));
        }
        write(&mut world, 1, "key 0", Consistency::Quorum);
        for node in [1, 2] {
            world.crash(NodeId(node));
            world.start(NodeId(node));
        }
        world.heal_links();
        world.run_for(8_000_000);
        let key = key_of(&world, "key 0");
        let held: Vec<_> = world.nodes().into_iter().map(|node| world.record_at(node, &key)).collect();
        match world.wrong_hashes().first() {
            Some(wrong) => Err(format!("seed {seed}: {wrong}")),
            None if held.iter().any(|record| *record != held[0]) => Err(format!("seed {seed}: {held:?}")),
            None => Ok(()),
        }
    })
}

#[test]
fn protocol_rule_12_a_write_takes_the_note_of_its_leaf_away() {
    assert_eq!(written_and_crashed(), Ok(()));
    assert!(Sabotage::LeaveNotes.during(written_and_crashed).is_err());
}

#[test]
fn a_node_that_lost_its_power_does_not_read_again_what_was_noted() {
    let mut world = compared(1);
    let before = repair_of(&world, 3);
    assert!(before.records_hashed > 0 && before.leaves_noted > 0, "{before:?}");
    world.crash(NodeId(3));
    restart(&mut world, 3);
    let after = repair_of(&world, 3);
    assert!(after.questions_answered > 0 && after.records_hashed == 0, "{after:?}");
    // What is written from now on is read, and nothing else.
    write(&mut world, 1, "key 7", Consistency::All);
    world.run_for(5_000_000);
    let after = repair_of(&world, 3);
    assert!(after.records_hashed > 0 && after.records_hashed < KEYS as u64 / 2, "{after:?}");
    assert_eq!(world.wrong_hashes(), Vec::<String>::new());
}

#[test]
fn a_node_that_stops_in_order_goes_on_where_it_was() {
    let mut world = compared(1);
    let before = repair_of(&world, 3);
    world.begin_stop(NodeId(3));
    world.run_for(100_000);
    world.kill(NodeId(3));
    world.start(NodeId(3));
    let after = repair_of(&world, 3);
    assert!(after.leaves_noted >= before.leaves_noted && after.leaves_noted == 16, "{after:?} after {before:?}");
    world.run_for(6_000_000);
    assert_eq!(repair_of(&world, 3).records_hashed, 0);
    assert_eq!(world.wrong_hashes(), Vec::<String>::new());
}
