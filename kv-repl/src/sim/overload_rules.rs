//! What a node does that has too much to do, and what others do about it, as scenarios: right with the rule on, and wrong with it
//! off.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::record::Payload;
use kv_core::time::Millis;

use super::rules::{Scenario, key_of, put_of};
use super::*;
use crate::quorum::Consistency;
use crate::request::{Get, Put, WriteError};
use crate::status::LoadStatus;
use crate::table_options::TableOptions;

/// Every switch, and the scenario that it must break.
const RULES: &[(Sabotage, &str, Scenario)] = &[
    (Sabotage::AdmitAll, "a_flood_of_requests_is_bounded_and_everybody_is_told", many_requests),
    (Sabotage::AdmitAll, "a_flood_of_bytes_is_bounded", large_requests),
    (Sabotage::AdmitAll, "answers_that_wait_for_a_slow_disk_are_bounded", slow_disk),
    (Sabotage::HammerTheBusy, "a_node_that_has_too_much_to_do_is_left_alone", slow_disk),
    (Sabotage::UnboundedInbox, "what_waits_for_a_turn_is_bounded", frames_to_a_paused_node),
    (Sabotage::StayWithTheBusy, "a_write_goes_to_a_replica_that_has_room", passed_on_to_the_busy),
    (Sabotage::KeepStragglers, "a_slow_replica_does_not_slow_others", slow_replica),
];

#[test]
fn every_rule_of_overload_holds() {
    for (_, name, scenario) in RULES {
        assert_eq!(scenario(), Ok(()), "{name}");
    }
}

#[test]
fn every_rule_of_overload_is_missed_when_it_is_off() {
    for (sabotage, name, scenario) in RULES {
        let noticed = sabotage.during(scenario);
        assert!(noticed.is_err(), "{name} does not notice {sabotage:?}");
    }
}

const ROOM: usize = 10;
const LARGE: usize = 1 << 30;

fn nodes(nodes: u64) -> World {
    let mut world = World::new(2, nodes, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    world.found(&[("carts", TableOptions::last_write_wins().replicas(3))]);
    world.run_for(1_000_000);
    world
}

fn put(world: &mut World, name: &str, value_bytes: usize) -> Put {
    Put { payload: Payload::Value(Bytes::from(vec![7; value_bytes])), ..put_of(world, name, "", None) }
}

fn load(world: &World, node: u64) -> LoadStatus {
    world.status(NodeId(node)).expect("it is up").load
}

/// What became of writes, by kind, while the load of a node was looked at after each step.
struct Outcomes {
    written: usize,
    refused: usize,
    most: LoadStatus,
}

/// Waits until all have their outcome. None may be left without.
fn finish(world: &mut World, node: u64, requests: &[u64]) -> Result<Outcomes, String> {
    let mut outcomes = Outcomes { written: 0, refused: 0, most: LoadStatus::default() };
    let mut open: BTreeMap<u64, ()> = requests.iter().map(|request| (*request, ())).collect();
    let give_up = world.now_us() + 20_000_000;
    while !open.is_empty() && world.now_us() < give_up {
        world.step();
        let now = load(world, node);
        let most = &mut outcomes.most;
        most.client_requests = most.client_requests.max(now.client_requests);
        most.client_bytes = most.client_bytes.max(now.client_bytes);
        most.held_bytes = most.held_bytes.max(now.held_bytes);
        most.stragglers = most.stragglers.max(now.stragglers);
        let mut failed = None;
        open.retain(|request, ()| match world.take(*request) {
            Answer::Pending => true,
            Answer::Written(Ok(_)) => {
                outcomes.written += 1;
                false
            }
            // As long as it takes to ask again; see `World::new`.
            Answer::Written(Err(WriteError::Overloaded { retry_after: Millis(100) })) => {
                outcomes.refused += 1;
                false
            }
            other => {
                failed = Some(other);
                false
            }
        });
        if let Some(failed) = failed {
            return Err(format!("{failed:?}"));
        }
    }
    if open.is_empty() { Ok(outcomes) } else { Err(format!("{} requests without an outcome", open.len())) }
}

fn many_requests() -> Result<(), String> {
    let mut world = nodes(3);
    world.bound_load(ROOM, LARGE, LARGE);
    let mut requests = Vec::new();
    for number in 0..200 {
        let put = put(&mut world, &format!("k{number}"), 100);
        requests.push(world.put(NodeId(1), put));
    }
    let Outcomes { written, refused, most } = finish(&mut world, 1, &requests)?;
    if most.client_requests > ROOM {
        return Err(format!("{} requests were under way", most.client_requests));
    }
    assert_eq!((written, refused, load(&world, 1).shed), (ROOM, 200 - ROOM, 200 - ROOM as u64));
    assert_eq!(load(&world, 1).client_requests, 0, "the room comes back");
    // Whoever was refused was not written, and finds room later.
    let held = (0..200).filter(|number| world.record_at(NodeId(1), &key_of(&world, &format!("k{number}"))).is_some());
    assert_eq!(held.count(), ROOM);
    let put = put(&mut world, "later", 100);
    let request = world.put(NodeId(1), put);
    assert!(matches!(world.finish(request), Answer::Written(Ok(_))));
    Ok(())
}

fn large_requests() -> Result<(), String> {
    let mut world = nodes(3);
    world.bound_load(LARGE, 64 << 10, LARGE);
    let mut requests = Vec::new();
    for number in 0..50 {
        let put = put(&mut world, &format!("k{number}"), 20_000);
        requests.push(world.put(NodeId(1), put));
    }
    let Outcomes { written, refused, most } = finish(&mut world, 1, &requests)?;
    if most.client_bytes > 64 << 10 {
        return Err(format!("{} bytes of requests were under way", most.client_bytes));
    }
    assert_eq!((written, refused), (3, 47));
    Ok(())
}

/// The disk of node 3 takes seconds, while others write and read.
fn slow_disk() -> Result<(), String> {
    const HELD_MAX: usize = 16 << 10;
    let mut world = nodes(3);
    world.bound_hints(1 << 20, 1 << 20);
    world.bound_load(LARGE, LARGE, HELD_MAX);
    world.set_sync(NodeId(3), 60_000_000);
    let mut most = 0;
    for number in 0..400 {
        let name = format!("k{number}");
        let put = put(&mut world, &name, 200);
        let begun = world.now_us();
        let request = world.put(NodeId(1), put);
        let answer = world.finish(request);
        assert!(matches!(answer, Answer::Written(Ok(_))), "{answer:?}");
        let get = Get { key: key_of(&world, &name), consistency: Consistency::Quorum, floor: None };
        let request = world.get(NodeId(2), get);
        let answer = world.finish(request);
        assert!(matches!(answer, Answer::Read(Ok(_))), "{answer:?}");
        assert!(world.now_us() < begun + 300_000, "two quick replicas are enough");
        most = most.max(load(&world, 3).held_bytes);
    }
    // What one turn adds is not foreseen.
    if most > HELD_MAX + 2_000 {
        return Err(format!("{most} bytes waited for the disk"));
    }
    let refused = load(&world, 3).shed_for_peers;
    assert!(refused > 0, "the disk was never behind");
    if refused > 100 {
        return Err(format!("it had to refuse {refused} times"));
    }
    world.set_sync(NodeId(3), 2_000);
    world.crash(NodeId(3));
    world.start(NodeId(3));
    world.run_for(20_000_000);
    for number in 0..400 {
        let key = key_of(&world, &format!("k{number}"));
        assert_eq!(
            world.record_at(NodeId(3), &key),
            world.record_at(NodeId(1), &key),
            "what it missed was kept for it"
        );
    }
    Ok(())
}

/// Node 3 does nothing for a while and is sent far more than it may keep.
fn frames_to_a_paused_node() -> Result<(), String> {
    const WAITING_MAX: usize = 256 << 10;
    let mut world = nodes(3);
    world.bound_hints(16 << 20, 16 << 20);
    world.bound_arrivals(WAITING_MAX);
    world.pause(NodeId(3), 1_500_000);
    let mut most = 0;
    for number in 0..200 {
        let put = put(&mut world, &format!("k{number}"), 20_000);
        let request = world.put(NodeId(1), put);
        let answer = world.finish(request);
        assert!(matches!(answer, Answer::Written(Ok(_))), "{answer:?}");
        most = most.max(load(&world, 3).arrived_bytes);
    }
    // One lane is flooded; what else arrives is little.
    if most > WAITING_MAX + 20_000 {
        return Err(format!("{most} bytes waited for a turn"));
    }
    assert!(load(&world, 3).dropped_frames > 0);
    world.run_for(20_000_000);
    for number in 0..200 {
        let key = key_of(&world, &format!("k{number}"));
        assert_eq!(
            world.record_at(NodeId(3), &key),
            world.record_at(NodeId(1), &key),
            "what was dropped is sent again"
        );
    }
    Ok(())
}

#[test]
fn clients_are_told_while_the_node_does_nothing() {
    let mut world = nodes(3);
    world.bound_load(ROOM, LARGE, LARGE);
    world.pause(NodeId(1), 1_000_000);
    let mut requests = Vec::new();
    for number in 0..100 {
        let put = put(&mut world, &format!("k{number}"), 100);
        requests.push(world.put(NodeId(1), put));
    }
    let told = requests.iter().filter(|request| world.take(**request) != Answer::Pending).count();
    assert_eq!(told, 100 - ROOM, "at once");
    world.run_for(1_500_000);
    let written = requests.iter().filter(|request| matches!(world.take(**request), Answer::Written(Ok(_)))).count();
    assert_eq!(written, ROOM, "everybody who was let in");
}

/// A node that holds nothing of a key passes on more than one replica takes from one peer.
fn passed_on_to_the_busy() -> Result<(), String> {
    let mut world = nodes(4);
    let replicas = world.table("carts").expect("it was created").replicas_of(key_of(&world, "k").token()).to_vec();
    let asker = world.nodes().into_iter().find(|node| !replicas.contains(node)).expect("one of four");
    world.bound_load(ROOM, LARGE, LARGE);
    let mut requests = Vec::new();
    for _ in 0..ROOM {
        let put = put(&mut world, "k", 100);
        requests.push(world.put(asker, put));
    }
    let Outcomes { written, refused, .. } = finish(&mut world, asker.0, &requests)?;
    let shed: Vec<u64> = replicas.iter().map(|node| load(&world, node.0).shed_for_peers).collect();
    assert_eq!(shed.iter().sum::<u64>(), ROOM as u64 / 2, "half of them are more than one peer may ask: {shed:?}");
    if (written, refused) == (ROOM, 0) { Ok(()) } else { Err(format!("{refused} of {ROOM} were refused")) }
}

/// Node 3 does nothing for a while, before anybody doubts it.
fn slow_replica() -> Result<(), String> {
    let mut world = nodes(3);
    world.bound_hints(1 << 20, 1 << 20);
    world.bound_load(ROOM, LARGE, LARGE);
    world.pause(NodeId(3), 2_000_000);
    let mut most = 0;
    for number in 0..300 {
        let put = put(&mut world, &format!("k{number}"), 100);
        let request = world.put(NodeId(1), put);
        let Outcomes { written, most: now, .. } = finish(&mut world, 1, &[request])?;
        assert_eq!(written, 1, "there is room for it, whoever else is slow");
        most = most.max(now.stragglers);
    }
    if most > ROOM {
        return Err(format!("{most} writes were kept for one that is slow"));
    }
    world.run_for(20_000_000);
    for number in 0..300 {
        let key = key_of(&world, &format!("k{number}"));
        assert_eq!(world.record_at(NodeId(3), &key), world.record_at(NodeId(1), &key));
    }
    Ok(())
}
