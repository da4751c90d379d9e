//! Where data is, as scenarios: right with the rule on, and wrong with it off.

use std::time::Duration;

use kv_core::NodeId;
use kv_core::evict::PolicyKind;
use kv_core::record::OperationId;
use kv_ring::PartitionId;

use super::rules::{Scenario, key_of, put_of};
use super::*;
use crate::description::{DescribeError, Description, Silence};
use crate::liveness::Liveness;
use crate::repair_request::RepairScope;
use crate::request::Put;
use crate::table_options::TableOptions;

/// Every switch, and the scenario that it must break.
const RULES: &[(Sabotage, &str, Scenario)] = &[
    (Sabotage::WaitForTheUnreachable, "a_description_does_not_wait_for_those_who_are_down", one_is_down),
    (Sabotage::DescribeByHearsay, "a_description_is_what_each_replica_says_itself", one_has_missed_a_write),
    (Sabotage::ForgetComparisons, "a_description_tells_when_replicas_were_compared", compared),
];

#[test]
fn every_rule_of_descriptions_holds() {
    for (_, name, scenario) in RULES {
        assert_eq!(scenario(), Ok(()), "{name}");
    }
}

#[test]
fn every_rule_of_descriptions_is_missed_when_it_is_off() {
    for (sabotage, name, scenario) in RULES {
        let noticed = sabotage.during(scenario);
        assert!(noticed.is_err(), "{name} does not notice {sabotage:?}");
    }
}

fn four() -> World {
    let mut world = World::new(3, 4, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    world.bound_hints(1 << 20, 1 << 20);
    world.found(&[("carts", TableOptions::siblings().replicas(3))]);
    world.run_for(1_000_000);
    world
}

/// The replicas of "k", and the one node that holds nothing of it.
fn places(world: &World) -> ([NodeId; 3], NodeId) {
    let key = key_of(world, "k");
    let replicas = world.table("carts").expect("a table").replicas_of(key.token()).to_vec();
    let other = world.nodes().into_iter().find(|node| !replicas.contains(node)).expect("four nodes, three replicas");
    (replicas.try_into().expect("three replicas"), other)
}

fn write(world: &mut World, node: NodeId, value: &'static str) -> OperationId {
    let put = Put { ttl: Some(kv_core::time::Millis(60_000)), ..put_of(world, "k", value, None) };
    let operation = put.operation;
    let request = world.put(node, put);
    let answer = world.finish(request);
    assert!(matches!(answer, Answer::Written(Ok(_))), "{answer:?}");
    operation
}

fn describe(world: &mut World, node: NodeId) -> Description {
    let key = key_of(world, "k");
    let request = world.describe(node, key);
    match world.finish(request) {
        Answer::Described(Ok(description)) => *description,
        other => panic!("a description fails for no replica's sake: {other:?}"),
    }
}

/// One replica is dead; then all three are. Neither is an error, and nobody waits for them.
fn one_is_down() -> Result<(), String> {
    let mut world = four();
    let (replicas, other) = places(&world);
    write(&mut world, replicas[0], "value");
    world.run_for(1_000_000);
    let description = describe(&mut world, other);
    assert_eq!(description.replicas.iter().map(|replica| replica.node).collect::<Vec<_>>(), replicas);
    assert!(description.agrees() && description.tokens.contains(&description.token));
    for down in 1..=3 {
        world.kill(replicas[3 - down]);
        world.run_for(20_000_000);
        let begun = world.now_us();
        let description = describe(&mut world, other);
        let took = world.now_us() - begun;
        if took > 100_000 {
            return Err(format!("it took {took} µs with {down} of three down"));
        }
        let silent: Vec<bool> =
            description.replicas.iter().map(|replica| replica.says == Err(Silence::NoAnswer)).collect();
        let expected: Vec<bool> = (0..3).map(|at| at >= 3 - down).collect();
        if silent != expected || description.agrees() {
            return Err(format!("{down} are down: {silent:?}"));
        }
        for replica in &description.replicas[3 - down..] {
            if replica.reachable || replica.liveness != Liveness::Dead {
                return Err(format!("{replica:?} is down"));
            }
        }
    }
    Ok(())
}

/// One replica was cut off during a write: it holds what was there before, and another one keeps for it what it has missed.
fn one_has_missed_a_write() -> Result<(), String> {
    let mut world = four();
    let ([writer, holder, behind], other) = places(&world);
    let first = write(&mut world, writer, "first");
    world.run_for(1_000_000);
    for node in [writer, holder] {
        world.cut(node, behind);
        world.cut(behind, node);
    }
    let second = write(&mut world, writer, "second");
    world.run_for(500_000);
    let description = describe(&mut world, other);
    for (node, operations) in [(writer, &[first, second][..]), (holder, &[first, second]), (behind, &[first])] {
        let sight = description.sight(node).ok_or(format!("node {node} was not cut off from {other}"))?;
        let held = sight.record.as_ref().ok_or(format!("node {node} holds something"))?;
        let written: Vec<_> = held.versions.iter().filter_map(|version| version.operation).collect();
        let as_written = held.versions.iter().all(|version| {
            let expires = version.expiry.time().is_some_and(|at| at > description.as_of);
            !version.is_tombstone && expires && version.bytes >= 5 && held.context.contains(version.dot)
        });
        if written != operations || !as_written {
            return Err(format!("node {node} holds {held:?}, of {operations:?}"));
        }
    }
    let kept: Vec<NodeId> = description.hints_for(behind).map(|(by, _)| by).collect();
    if kept != [writer] || description.hints_for(holder).next().is_some() || description.agrees() {
        return Err(format!("{kept:?} keep something for {behind}"));
    }
    // When there is no room for it, its partition owes a comparison instead.
    world.bound_hints(0, 1 << 20);
    write(&mut world, writer, "third");
    world.run_for(500_000);
    let owing: Vec<NodeId> = describe(&mut world, other).owed_to(behind).collect();
    if owing == [writer] { Ok(()) } else { Err(format!("{owing:?} owe {behind} a comparison")) }
}

fn compared() -> Result<(), String> {
    let mut world = four();
    let (replicas, other) = places(&world);
    write(&mut world, replicas[0], "value");
    world.run_for(1_000_000);
    let before = describe(&mut world, other);
    assert_eq!(before.compared_ago(replicas[0], replicas[1]), None, "nobody has compared them");
    let partition: PartitionId = before.partition;
    let scope = RepairScope::Partition { table: "carts".to_owned(), partition };
    let request = world.repair(replicas[0], scope);
    assert!(matches!(world.finish(request), Answer::Repaired(Ok(_))));
    world.run_for(3_000_000);
    let after = describe(&mut world, other);
    for peer in [replicas[1], replicas[2]] {
        let ago = after.compared_ago(peer, replicas[0]);
        if !ago.is_some_and(|ago| (Duration::from_secs(2)..Duration::from_secs(5)).contains(&ago)) {
            return Err(format!("{} and {peer} were compared {ago:?} ago", replicas[0]));
        }
    }
    match after.compared_ago(replicas[1], replicas[2]) {
        None => Ok(()),
        ago => Err(format!("two others were not compared, and not {ago:?} ago")),
    }
}

#[test]
fn caches_and_unknown_tables_are_not_described() {
    let mut world = four();
    let cache = TableOptions::cache(PolicyKind::Lru).ttl_max(Duration::from_secs(60));
    world.create(NodeId(1), "cache", cache);
    let key = |id| kv_core::key::RecordKey::new(id, &kv_core::key::Key::from("k")).expect("a short key");
    let cached = key(world.table("cache").expect("it was created").id);
    for (key, error) in
        [(cached, DescribeError::CacheTable), (key(kv_core::key::TableId(99)), DescribeError::UnknownTable)]
    {
        let request = world.describe(NodeId(2), key);
        assert_eq!(world.finish(request), Answer::Described(Err(error)));
    }
}
