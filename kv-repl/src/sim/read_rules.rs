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
    let mut world = World::new(2, 3, NetworkFaults::default(), 5, Box::new(MemStores::new()));
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

const READS: u64 = 50;

/// How many bytes a hundred quorum reads of a record that all replicas hold put on the network.
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
