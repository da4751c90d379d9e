//! How reads are coordinated, as scenarios: digests, hedges and the budget of extra messages. Right with the rule on, and wrong with
//! it off.

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::record::Payload;

use super::rules::{Scenario, key_of, put_of};
use super::*;
use crate::quorum::Consistency;
use crate::request::{Get, Put};
use crate::status::ExtraMessages;
use crate::table_options::TableOptions;

/// Every switch, and the scenario that it must break.
const RULES: &[(Sabotage, &str, Scenario)] = &[
    (Sabotage::TrustDigests, "lesson_09_a_digest_that_differs_is_read_and_repaired_before_the_answer", one_is_behind),
    (Sabotage::WaitForUnread, "a_digest_whose_replica_dies_before_it_is_read_is_no_answer", lost_after_its_digest),
    (Sabotage::FetchEveryRecord, "a_quorum_read_moves_at_most_one_record", large_records),
    (Sabotage::NeverHedge, "a_slow_replica_does_not_slow_reads", one_is_slow),
    (Sabotage::SpendWithoutBudget, "extra_messages_stay_within_their_budget_while_nobody_answers", nobody_answers),
];

#[test]
fn every_rule_of_reads_holds() {
    for (_, name, scenario) in RULES {
        assert_eq!(scenario(), Ok(()), "{name}");
    }
}

#[test]
fn every_rule_of_reads_is_missed_when_it_is_off() {
    for (sabotage, name, scenario) in RULES {
        let noticed = sabotage.during(scenario);
        assert!(noticed.is_err(), "{name} does not notice {sabotage:?}");
    }
}

fn three() -> World {
    of_three(2)
}

fn of_three(seed: u64) -> World {
    let mut world = World::new(seed, 3, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    world.found(&[("carts", TableOptions::siblings().replicas(3))]);
    world.run_for(1_000_000);
    world
}

fn write(world: &mut World, node: u64, name: &str, value: Bytes, consistency: Consistency) {
    let put = Put { consistency, payload: Payload::Value(value), ..put_of(world, name, "", None) };
    let request = world.put(NodeId(node), put);
    let answer = world.finish(request);
    assert!(matches!(answer, Answer::Written(Ok(_))), "{answer:?}");
}

fn begin_read(world: &mut World, node: u64, name: &str) -> u64 {
    let get = Get { key: key_of(world, name), consistency: Consistency::Quorum, floor: None };
    world.get(NodeId(node), get)
}

/// What is read, and how long it takes in microseconds.
fn read(world: &mut World, node: u64, name: &str) -> (Vec<Bytes>, u64) {
    let begun = world.now_us();
    let request = begin_read(world, node, name);
    let Answer::Read(Ok(read)) = world.finish(request) else { panic!("two of three are up") };
    (read.values().into_iter().cloned().collect(), world.now_us() - begun)
}

/// Whoever coordinates the read has missed the write.
fn one_is_behind() -> Result<(), String> {
    let mut world = three();
    for other in [2, 3] {
        world.cut(NodeId(1), NodeId(other));
        world.cut(NodeId(other), NodeId(1));
    }
    write(&mut world, 2, "k", Bytes::from_static(b"value"), Consistency::Quorum);
    world.run_for(4_000_000);
    world.heal_links();
    world.run_for(2_000_000);
    assert_eq!(world.record_at(NodeId(1), &key_of(&world, "k")), None);
    let (held, _) = read(&mut world, 1, "k");
    if held != ["value"] {
        return Err(format!("{held:?} was read, and a quorum had acknowledged more"));
    }
    let holds = |world: &World, node| world.record_at(NodeId(node), &key_of(world, "k")).is_some();
    if holds(&world, 1) { Ok(()) } else { Err("it was answered and not repaired".to_owned()) }
}

/// Node 2 (and whoever else is named) holds a write that node 1 has missed.
fn first_is_behind(seed: u64, ahead: &[u64]) -> World {
    let mut world = of_three(seed);
    let behind: Vec<u64> = (1..=3).filter(|node| !ahead.contains(node)).collect();
    for (one, other) in behind.iter().flat_map(|one| ahead.iter().map(move |other| (*one, *other))) {
        world.cut(NodeId(one), NodeId(other));
        world.cut(NodeId(other), NodeId(one));
    }
    write(&mut world, ahead[0], "k", Bytes::from_static(b"value"), Consistency::One);
    world.run_for(4_000_000);
    world.heal_links();
    world.run_for(2_000_000);
    world
}

/// Of two digests that differ from the record of node 1, the record of none can be fetched from node 2: it hears no more.
fn lost_after_its_digest() -> Result<(), String> {
    for seed in 0..8 {
        let mut world = first_is_behind(seed, &[2]);
        let begun = world.now_us();
        let request = begin_read(&mut world, 1, "k");
        // The question has left, and what follows it is lost.
        world.run_for(120);
        world.cut(NodeId(1), NodeId(2));
        match world.finish(request) {
            Answer::Read(Ok(_)) if world.now_us() < begun + 200_000 => {}
            answer => return Err(format!("seed {seed}: {answer:?} after {} µs", world.now_us() - begun)),
        }
    }
    Ok(())
}

#[test]
fn a_record_is_fetched_from_another_replica_with_the_same_digest() {
    for seed in 0..8 {
        let mut world = first_is_behind(seed, &[2, 3]);
        let get = Get { key: key_of(&world, "k"), consistency: Consistency::All, floor: None };
        let begun = world.now_us();
        let request = world.get(NodeId(1), get);
        world.run_for(120);
        world.cut(NodeId(1), NodeId(2));
        let Answer::Read(Ok(read)) = world.finish(request) else { panic!("seed {seed}: node 3 has the same record") };
        assert_eq!(read.values(), ["value"], "seed {seed}");
        assert!(world.now_us() < begun + 200_000, "seed {seed}: {} µs", world.now_us() - begun);
    }
}

/// Nothing of what was sent to a node that is gone arrives, so one is asked in its place, and no more.
#[test]
fn one_is_asked_in_the_place_of_one_that_is_gone() {
    // In worlds of odd seeds the network refuses what is sent to a node that is down.
    let mut world = World::new(3, 6, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    world.found(&[("carts", TableOptions::siblings().replicas(6))]);
    world.run_for(1_000_000);
    write(&mut world, 1, "k", Bytes::from_static(b"value"), Consistency::All);
    let before = extra(&world, 1);
    world.crash(NodeId(2));
    let get = Get { key: key_of(&world, "k"), consistency: Consistency::Two, floor: None };
    let requests: Vec<u64> = (0..50).map(|_| world.get(NodeId(1), get.clone())).collect();
    let begun = world.now_us();
    for request in requests {
        assert!(matches!(world.finish(request), Answer::Read(Ok(_))));
    }
    assert!(world.now_us() < begun + 20_000, "{} µs", world.now_us() - begun);
    let after = extra(&world, 1);
    let needed = after.needed - before.needed;
    assert!((51..=100).contains(&needed), "{needed} messages for fifty reads, of which each needs one");
    assert_eq!((after.hedges, after.retries), (before.hedges, before.retries));
}

const READS: u64 = 50;

/// How many bytes fifty quorum reads of a record that all replicas hold put on the network.
fn bytes_of_reads(value_bytes: usize) -> u64 {
    let mut world = three();
    write(&mut world, 1, "k", vec![7; value_bytes].into(), Consistency::All);
    let before = world.bytes_sent();
    for _ in 0..READS {
        assert_eq!(read(&mut world, 1, "k").0[0].len(), value_bytes);
    }
    world.bytes_sent() - before
}

fn large_records() -> Result<(), String> {
    let bytes = bytes_of_reads(10_000) / READS;
    // The coordinator holds the record itself.
    if bytes < 1_000 { Ok(()) } else { Err(format!("{bytes} bytes for each read of 10,000")) }
}

/// For the record: `cargo test -p kv-repl --lib --features sim digests_save -- --nocapture`.
#[test]
fn digests_save_what_records_take() {
    println!(
        "quorum read of three replicas, the coordinator one of them; bytes on the network for each read, gossip included"
    );
    println!("value bytes    records    digests");
    for value_bytes in [100, 1_000, 10_000, 100_000] {
        let digests = bytes_of_reads(value_bytes) / READS;
        let records = Sabotage::FetchEveryRecord.during(|| bytes_of_reads(value_bytes)) / READS;
        println!("{value_bytes:>11} {records:>10} {digests:>10}");
        assert!(records - digests > value_bytes as u64 * 9 / 10, "{records} {digests}");
    }
}

fn extra(world: &World, node: u64) -> ExtraMessages {
    world.status(NodeId(node)).expect("it is up").extra
}

/// A replica does nothing for a while, before anybody doubts it.
fn one_is_slow() -> Result<(), String> {
    let mut world = three();
    write(&mut world, 1, "k", Bytes::from_static(b"value"), Consistency::All);
    for _ in 0..100 {
        read(&mut world, 1, "k");
    }
    world.pause(NodeId(2), 2_000_000);
    let begun = world.now_us();
    let mut slowest = 0;
    while world.now_us() < begun + 1_500_000 {
        slowest = slowest.max(read(&mut world, 1, "k").1);
        world.run_for(5_000);
    }
    let ExtraMessages { hedges, refused, .. } = extra(&world, 1);
    if slowest > 30_000 {
        return Err(format!("a read took {slowest} µs, with {hedges} hedges and {refused} refused"));
    }
    // A replica that is known to be slow is not asked first, so few reads need a hedge.
    if (1..30).contains(&hedges) { Ok(()) } else { Err(format!("{hedges} hedges")) }
}

/// More and more reads, and nobody else does anything.
fn nobody_answers() -> Result<(), String> {
    let mut world = three();
    for node in [2, 3] {
        world.pause(NodeId(node), 20_000_000);
    }
    let (before, begun) = (extra(&world, 1), world.now_us());
    let mut requests = Vec::new();
    for _ in 0..300 {
        requests.push(begin_read(&mut world, 1, "k"));
        world.run_for(2_000);
    }
    for request in requests {
        assert!(matches!(world.finish(request), Answer::Read(Err(_))));
    }
    let (after, seconds) = (extra(&world, 1), (world.now_us() - begun).div_ceil(1_000_000));
    let needed = after.needed - before.needed;
    let spent = (after.hedges + after.retries) - (before.hedges + before.retries);
    // A tenth, ten a second, and what is saved at first.
    let allowed = needed / 10 + 10 * seconds + 100;
    if spent > allowed {
        return Err(format!("{spent} extra messages for {needed} in {seconds} s"));
    }
    if after.refused > before.refused { Ok(()) } else { Err("nothing was refused, so nothing was bounded".to_owned()) }
}
