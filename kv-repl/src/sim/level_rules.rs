//! What the levels count, as scenarios: right with the rule on, and wrong with it off.

use kv_core::NodeId;

use super::rules::{Scenario, key_of, put_of};
use super::*;
use crate::quorum::{Consistency, TooFewReplicas};
use crate::request::{Get, Put, Read, ReadError, WriteError, Written};
use crate::status::ExtraMessages;
use crate::table_options::TableOptions;

/// Every switch, and the scenario that it must break.
const RULES: &[(Sabotage, &str, Scenario)] = &[
    (
        Sabotage::CountEveryZone,
        "protocol_rule_13_a_local_quorum_counts_the_replicas_of_its_zone",
        acknowledged_in_the_zone,
    ),
    (Sabotage::HedgeAnywhere, "who_is_asked_in_the_place_of_another_counts_in_its_place", slow_in_the_other_zone),
];

#[test]
fn every_rule_of_levels_holds() {
    for (_, name, scenario) in RULES {
        assert_eq!(scenario(), Ok(()), "{name}");
    }
}

#[test]
fn every_rule_of_levels_is_missed_when_it_is_off() {
    for (sabotage, name, scenario) in RULES {
        let noticed = sabotage.during(scenario);
        assert!(noticed.is_err(), "{name} does not notice {sabotage:?}");
    }
}

/// Six nodes in two zones, odd ones and even ones; every key has all six, or as many as are said, for replicas.
fn two_zones(replicas: usize) -> World {
    let mut world = World::new(2, 6, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    world.found_in_zones(2, &[("carts", TableOptions::siblings().replicas(replicas))]);
    world.run_for(1_000_000);
    world
}

fn write(world: &mut World, node: u64, name: &str, consistency: Consistency) -> Result<Written, WriteError> {
    let put = Put { consistency, ..put_of(world, name, "value", None) };
    let request = world.put(NodeId(node), put);
    match world.finish(request) {
        Answer::Written(outcome) => outcome,
        other => panic!("a write has ended as {other:?}"),
    }
}

fn read(world: &mut World, node: u64, name: &str, consistency: Consistency) -> Result<Read, ReadError> {
    let get = Get { key: key_of(world, name), consistency, floor: None };
    let request = world.get(NodeId(node), get);
    match world.finish(request) {
        Answer::Read(outcome) => outcome,
        other => panic!("a read has ended as {other:?}"),
    }
}

fn cut_between(world: &mut World, apart: impl Fn(NodeId, NodeId) -> bool) {
    for from in world.nodes() {
        for to in world.nodes() {
            if from != to && apart(from, to) {
                world.cut(from, to);
            }
        }
    }
}

fn in_other_zones(one: NodeId, other: NodeId) -> bool {
    one.0 % 2 != other.0 % 2
}

/// The writer reaches the other zone and nobody in its own; later its zone is whole, without it and without the other zone.
fn acknowledged_in_the_zone() -> Result<(), String> {
    let mut world = two_zones(6);
    cut_between(&mut world, |one, other| (one.0 == 1 || other.0 == 1) && !in_other_zones(one, other));
    let acknowledged = write(&mut world, 1, "k", Consistency::LocalQuorum).is_ok();
    world.heal_links();
    world.crash(NodeId(1));
    cut_between(&mut world, in_other_zones);
    let held = read(&mut world, 3, "k", Consistency::LocalQuorum);
    match held {
        Ok(read) if acknowledged && read.values().is_empty() => Err("an acknowledged write was not seen".to_owned()),
        _ => Ok(()),
    }
}

/// Each zone has three replicas, and one in the other zone does nothing for a while, before anybody doubts it. Only the third
/// one of that zone can stand in for it.
fn slow_in_the_other_zone() -> Result<(), String> {
    for slow in [2, 4, 6] {
        let mut world = two_zones(6);
        assert!(write(&mut world, 1, "k", Consistency::All).is_ok());
        for _ in 0..20 {
            assert!(read(&mut world, 1, "k", Consistency::EachQuorum).is_ok());
        }
        world.pause(NodeId(slow), 2_000_000);
        for _ in 0..20 {
            let begun = world.now_us();
            assert!(read(&mut world, 1, "k", Consistency::EachQuorum).is_ok());
            let took = world.now_us() - begun;
            if took > 50_000 {
                return Err(format!("a read took {took} µs while node {slow} was slow"));
            }
        }
    }
    Ok(())
}

/// What all nodes have sent for requests.
fn sent(world: &World) -> Vec<ExtraMessages> {
    world.nodes().into_iter().map(|node| world.status(node).expect("it is up").extra).collect()
}

#[test]
fn a_zone_that_is_cut_off_goes_on_at_local_levels() {
    let mut world = two_zones(6);
    cut_between(&mut world, in_other_zones);
    for consistency in [Consistency::LocalQuorum, Consistency::LocalOne, Consistency::Three] {
        assert!(write(&mut world, 1, "k", consistency).is_ok(), "{consistency}");
        assert_eq!(read(&mut world, 3, "k", consistency).unwrap().value().unwrap(), "value", "{consistency}");
    }
    for consistency in [Consistency::Quorum, Consistency::EachQuorum, Consistency::All] {
        let error = write(&mut world, 1, "k", consistency).unwrap_err();
        assert!(matches!(error, WriteError::Ambiguous { .. } | WriteError::Unavailable { .. }), "{error}");
        let error = read(&mut world, 1, "k", consistency).unwrap_err();
        assert!(matches!(error, ReadError::Timeout { .. } | ReadError::Unavailable { .. }), "{error}");
    }
}

#[test]
fn one_node_of_each_zone_may_be_away_for_each_quorum_but_not_two_of_one() {
    let mut world = two_zones(6);
    world.crash(NodeId(5));
    world.crash(NodeId(6));
    assert!(write(&mut world, 1, "k", Consistency::EachQuorum).is_ok());
    assert!(read(&mut world, 4, "k", Consistency::EachQuorum).is_ok());
    world.start(NodeId(6));
    world.run_for(2_000_000);
    world.crash(NodeId(3));
    assert!(write(&mut world, 1, "k", Consistency::Quorum).is_ok(), "four of six");
    assert!(write(&mut world, 2, "k", Consistency::EachQuorum).is_err(), "one of three in a zone");
    assert!(write(&mut world, 2, "k", Consistency::LocalQuorum).is_ok(), "the other zone is whole");
}

#[test]
fn a_level_that_the_replicas_can_never_meet_is_refused_before_anything_is_sent() {
    let mut world = two_zones(2);
    let before = sent(&world);
    let too_few = |consistency, replicas, required| TooFewReplicas { consistency, replicas, required };
    let three = too_few(Consistency::Three, 2, 3);
    for node in 1..=6 {
        // Whether the node holds the key or passes it on.
        assert_eq!(write(&mut world, node, "k", Consistency::Three), Err(WriteError::TooFewReplicas(three)));
        assert_eq!(read(&mut world, node, "k", Consistency::Three), Err(ReadError::TooFewReplicas(three)));
    }
    assert_eq!(sent(&world), before);
    // The only replica of a key stands in one zone; the other zone has none.
    let mut world = two_zones(1);
    let before = sent(&world);
    let key = key_of(&world, "k");
    let home = world.table("carts").unwrap().replicas_of(key.token())[0];
    let away = if home.0 % 2 == 1 { 2 } else { 1 };
    for consistency in [Consistency::LocalOne, Consistency::LocalQuorum] {
        let error = too_few(consistency, 0, 1);
        assert_eq!(write(&mut world, away, "k", consistency), Err(WriteError::TooFewReplicas(error)));
        assert_eq!(read(&mut world, away, "k", consistency), Err(ReadError::TooFewReplicas(error)));
    }
    assert_eq!(sent(&world), before);
    assert!(write(&mut world, away, "k", Consistency::EachQuorum).is_ok(), "zones without replicas do not count");
    assert_ne!(sent(&world), before, "a write that is passed on is counted");
}

#[test]
fn a_local_write_is_passed_on_within_its_zone() {
    let mut world = two_zones(2);
    let key = key_of(&world, "k");
    let replicas = world.table("carts").unwrap().replicas_of(key.token()).to_vec();
    for asker in world.nodes().into_iter().filter(|node| !replicas.contains(node)) {
        let written = write(&mut world, asker.0, "k", Consistency::LocalOne).unwrap();
        assert!(!in_other_zones(written.dot.actor.node, asker), "{asker} and {:?}", written.dot);
    }
}

#[test]
fn a_table_whose_default_can_never_be_met_is_not_created() {
    let mut world = two_zones(3);
    let options = TableOptions::siblings().replicas(2).default_consistency(Consistency::Three, Consistency::One);
    let answer = world.create(NodeId(1), "hopeless", options);
    assert!(matches!(&answer, Answer::Cluster(Err(_))), "{answer:?}");
}
