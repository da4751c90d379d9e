//! Storages that were lost and replaced (rules 1, 5 and 13): what a new one may say, and what becomes of the one before.

use kv_core::NodeId;
use kv_core::version::Incarnation;

use super::rules::{Scenario, founded, key_of, put_of, values};
use super::*;
use crate::identity::{Boot, ClusterId};
use crate::message::Message;
use crate::quorum::Consistency;
use crate::request::{ClusterError, Get, WriteError};
use crate::status::Standing;
use crate::table_options::TableOptions;
use crate::wire::{FrameWriter, Header};

/// Every switch, and the scenario that it must break.
const RULES: &[(Sabotage, &str, Scenario)] = &[
    (
        Sabotage::ServeBeforeImport,
        "protocol_rule_13_a_new_storage_counts_for_nothing_before_it_holds_what_was_there",
        read_before_import,
    ),
    (
        Sabotage::IgnoreEpochs,
        "protocol_rule_13_no_quorum_counts_a_replaced_storage_with_those_that_know_the_new_one",
        read_across_a_replacement,
    ),
    (
        Sabotage::ForgetReplacements,
        "protocol_rule_01_who_missed_a_replacement_learns_of_it",
        replaced_while_one_was_away,
    ),
    (Sabotage::ReplaceTheLiving, "protocol_rule_01_a_storage_whose_node_answers_is_not_replaced", replaced_alive),
    (
        Sabotage::CountTablesAnew,
        "protocol_rule_14_a_home_that_lost_its_disk_gives_no_number_twice",
        home_loses_its_disk,
    ),
];

#[test]
fn every_rule_of_replacement_holds() {
    for (_, name, scenario) in RULES {
        assert_eq!(scenario(), Ok(()), "{name}");
    }
}

#[test]
fn every_rule_of_replacement_is_missed_when_it_is_off() {
    for (sabotage, name, scenario) in RULES {
        let noticed = sabotage.during(scenario);
        assert!(noticed.is_err(), "{name} does not notice {sabotage:?}");
    }
}

/// A node loses its disk and takes its place again with an empty one.
fn replace(world: &mut World, node: u64) -> Result<(), String> {
    world.wipe(NodeId(node));
    world.start(NodeId(node));
    world.run_for(1_000_000);
    let request = world.replace(NodeId(node));
    match world.finish(request) {
        Answer::Cluster(Ok(())) => Ok(()),
        other => Err(format!("node {node} was not taken: {other:?}")),
    }
}

/// Waits until a node lacks nothing.
fn imported(world: &mut World, node: u64) -> Result<(), String> {
    for _ in 0..100 {
        if world.status(NodeId(node)).is_some_and(|status| status.importing == 0) {
            return Ok(());
        }
        world.run_for(200_000);
    }
    Err(format!("node {node} still lacks {:?}", world.status(NodeId(node)).map(|status| status.importing)))
}

fn written(world: &mut World, node: u64, name: &str, value: &'static str) -> Result<(), WriteError> {
    let put = put_of(world, name, value, None);
    let request = world.put(NodeId(node), put);
    match world.finish(request) {
        Answer::Written(outcome) => outcome.map(drop),
        other => panic!("a write has ended as {other:?}"),
    }
}

/// Node 2 misses a write, and one of the two that have it loses its disk.
fn read_before_import() -> Result<(), String> {
    let mut world = founded();
    world.run_for(2_000_000);
    world.cut(NodeId(1), NodeId(2));
    written(&mut world, 1, "k", "value").expect("two replicas are left");
    world.crash(NodeId(1));
    world.heal_links();
    replace(&mut world, 3)?;
    // Neither of the two that are up has it.
    if let Ok(read) = values(&mut world, 2, "k") {
        return Err(format!("an acknowledged write is gone: {read:?}"));
    }
    if written(&mut world, 3, "other", "value").is_ok() {
        return Err("a write was acknowledged by one replica and a storage that lacks everything".to_owned());
    }
    world.start(NodeId(1));
    imported(&mut world, 3)?;
    world.crash(NodeId(1));
    match values(&mut world, 3, "k") {
        Ok(read) if read == ["value"] => Ok(()),
        other => Err(format!("it was not imported: {other:?}")),
    }
}

/// A storage that was replaced turns up again among nodes that have heard of nothing, and one of them reads from it and from a
/// replica that has missed a write which the new storage has acknowledged.
fn read_across_a_replacement() -> Result<(), String> {
    let mut world = World::new(1, 5, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    world.found(&[("carts", TableOptions::siblings().replicas(3))]);
    world.run_for(2_000_000);
    let key = key_of(&world, "k");
    let table = world.table("carts").expect("a table");
    let [a, lost, behind] = <[NodeId; 3]>::try_from(table.replicas_of(key.token())).expect("three replicas");
    let outside: Vec<NodeId> = world.nodes().into_iter().filter(|node| ![a, lost, behind].contains(node)).collect();
    let cut = |world: &mut World, some: &[NodeId], others: &[NodeId]| {
        for (one, other) in some.iter().flat_map(|one| others.iter().map(move |other| (*one, *other))) {
            world.cut(one, other);
            world.cut(other, one);
        }
    };
    world.crash(lost);
    world.remember(lost);
    cut(&mut world, &outside, &[a, lost, behind]);
    replace(&mut world, lost.0)?;
    // Partitions that are shared with those outside are lacking until these are back.
    world.run_for(10_000_000);
    cut(&mut world, &[behind], &[a, lost]);
    let put = put_of(&mut world, "k", "value", None);
    let write = world.put(a, put);
    assert!(matches!(world.finish(write), Answer::Written(Ok(_))), "two replicas acknowledge it");
    world.crash(a);
    world.restore(lost);
    world.heal_links();
    cut(&mut world, &[behind], &[lost]);
    world.start(lost);
    world.run_for(5_000_000);
    let get = Get { key, consistency: Consistency::Quorum, floor: None };
    let request = world.get(outside[0], get);
    match world.finish(request) {
        Answer::Read(Ok(read)) => {
            Err(format!("a quorum with a storage that was replaced has read {:?}", read.values()))
        }
        Answer::Read(Err(_)) => Ok(()),
        other => Err(format!("the read has ended as {other:?}")),
    }
}

/// Node 2 is down while node 3 gets another storage.
fn replaced_while_one_was_away() -> Result<(), String> {
    let mut world = founded();
    written(&mut world, 1, "k", "value").expect("all are up");
    world.run_for(1_000_000);
    world.crash(NodeId(2));
    replace(&mut world, 3)?;
    world.start(NodeId(2));
    imported(&mut world, 3)?;
    world.run_for(2_000_000);
    world.crash(NodeId(1));
    match values(&mut world, 2, "k") {
        Ok(read) if read == ["value"] => Ok(()),
        other => Err(format!("the node that was away and the one that was replaced read {other:?}")),
    }
}

/// Somebody says in the name of node 3, which is well, that it has another storage.
fn replaced_alive() -> Result<(), String> {
    let mut world = founded();
    world.run_for(2_000_000);
    let impostor = Header {
        cluster: ClusterId::NONE,
        from: NodeId(3),
        from_incarnation: Incarnation(77),
        from_boot: Boot(1),
        to_incarnation: Incarnation(0),
        to_boot: Boot(0),
    };
    let mut frame = FrameWriter::new(&impostor);
    assert!(frame.push(&Message::Replace { nonce: 9 }, usize::MAX));
    world.inject(NodeId(3), NodeId(1), frame.finish());
    world.run_for(3_000_000);
    match world.status(NodeId(3)).map(|status| status.standing) {
        Some(Standing::Serving) => Ok(()),
        other => Err(format!("node 3 was well, and is {other:?}")),
    }
}

/// The home has given a table to one other member when it loses its disk. That member is away when it comes back.
fn home_loses_its_disk() -> Result<(), String> {
    let mut world = founded();
    world.run_for(1_000_000);
    // Not even from node 3 does it get there.
    [1, 3].into_iter().for_each(|from| world.cut(NodeId(from), NodeId(2)));
    let half = world.create(NodeId(1), "half", TableOptions::siblings().replicas(3));
    assert!(matches!(half, Answer::Cluster(Err(ClusterError::Incomplete { .. }))), "{half:?}");
    world.crash(NodeId(3));
    world.wipe(NodeId(1));
    world.heal_links();
    world.start(NodeId(1));
    let request = world.replace(NodeId(1));
    world.run_for(10_000_000);
    let early = world.create(NodeId(1), "other", TableOptions::last_write_wins().replicas(3));
    world.start(NodeId(3));
    assert_eq!(world.finish(request), Answer::Cluster(Ok(())));
    world.run_for(3_000_000);
    let late = world.create(NodeId(1), "other", TableOptions::last_write_wins().replicas(3));
    if late != Answer::Cluster(Ok(())) {
        return Err(format!("when all are back: {early:?}, then {late:?}"));
    }
    let known: Vec<_> = world.nodes().iter().map(|node| world.status(*node).map(|status| status.tables)).collect();
    if known.iter().any(|tables| *tables != known[0]) { Err(format!("members know {known:?}")) } else { Ok(()) }
}

#[test]
fn protocol_rule_01_a_lost_storage_that_turns_up_again_is_refused_for_ever() {
    let mut world = founded();
    written(&mut world, 1, "k", "value").expect("all are up");
    world.run_for(1_000_000);
    world.crash(NodeId(3));
    world.remember(NodeId(3));
    replace(&mut world, 3).expect("it is taken");
    imported(&mut world, 3).expect("it gets everything");
    let present = world.status(NodeId(3)).expect("it runs").incarnation;
    world.restore(NodeId(3));
    world.start(NodeId(3));
    world.run_for(3_000_000);
    let status = world.status(NodeId(3)).expect("it runs");
    assert_ne!(status.incarnation, present);
    assert_eq!(status.standing, Standing::Quarantined);
    // Not even on demand: only an empty storage may take the place.
    let request = world.replace(NodeId(3));
    assert_eq!(world.finish(request), Answer::Cluster(Err(ClusterError::AlreadyFounded)));
}

#[test]
fn a_node_may_lose_its_disk_again_and_again() {
    let mut world = founded();
    for (round, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        written(&mut world, 1, name, "value").expect("all are up");
        let node = 1 + round as u64 % 3;
        replace(&mut world, node).expect("it is taken");
        // Another life of a storage that has not got everything yet.
        world.crash(NodeId(node));
        world.start(NodeId(node));
        world.run_for(1_000_000);
        imported(&mut world, node).expect("it gets everything");
    }
    for name in ["a", "b", "c", "d", "e"] {
        for node in 1..=3 {
            assert_eq!(values(&mut world, node, name).expect("all are up"), ["value"], "{name} at node {node}");
        }
    }
    assert_eq!(world.ledger().violations(), Vec::<String>::new());
    assert_eq!(world.liveness().violations(), Vec::<String>::new());
}

#[test]
fn a_node_that_nobody_can_confirm_is_told_so() {
    let mut world = founded();
    world.crash(NodeId(1));
    world.crash(NodeId(2));
    world.wipe(NodeId(3));
    world.start(NodeId(3));
    let request = world.replace(NodeId(3));
    let answer = world.finish(request);
    assert!(matches!(answer, Answer::Cluster(Err(ClusterError::Incomplete { .. }))), "{answer:?}");
}

/// Whoever names the storages of a key's replicas names the same, whatever order it asks them in.
#[test]
fn two_replicas_of_one_key_may_have_been_replaced() {
    let mut world = founded();
    written(&mut world, 1, "k", "value").expect("all are up");
    for node in [1, 2] {
        replace(&mut world, node).expect("it is taken");
        imported(&mut world, node).expect("it gets everything");
        world.run_for(2_000_000);
    }
    for node in 1..=3 {
        let get = Get { key: key_of(&world, "k"), consistency: Consistency::All, floor: None };
        let began = world.now_us();
        let request = world.get(NodeId(node), get);
        let answer = world.finish(request);
        assert!(matches!(&answer, Answer::Read(Ok(read)) if read.values() == ["value"]), "{answer:?}");
        assert!(world.now_us() - began < 90_000, "node {node} had to ask again");
    }
}
