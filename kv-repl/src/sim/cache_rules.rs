//! Rules of cache tables as scenarios: right with the rule on, and wrong with it off.

use std::time::Duration;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::evict::PolicyKind;
use kv_core::key::{Key, RecordKey};
use kv_core::record::{OperationId, Payload};
use kv_core::time::Millis;

use super::rules::Scenario;
use super::*;
use crate::quorum::Consistency;
use crate::repair_request::{RepairError, RepairScope};
use crate::request::{Get, Put, WriteError};
use crate::status::CacheStatus;
use crate::table_options::TableOptions;

/// Every switch, and the scenario that it must break.
const RULES: &[(Sabotage, &str, Scenario)] = &[
    (
        Sabotage::RepairCaches,
        "lesson_20_protocol_rule_19_what_one_replica_evicts_no_other_sends_back",
        read_after_an_eviction,
    ),
    (Sabotage::EvictTombstones, "protocol_rule_19_a_delete_is_not_evicted", deleted_and_flooded),
    (
        Sabotage::ForgetColdStart,
        "protocol_rule_19_a_delete_holds_where_replicas_have_forgotten_it",
        deleted_and_restarted,
    ),
    (
        Sabotage::ForgetReplacedDeletes,
        "protocol_rule_19_a_delete_outlives_the_value_that_came_after_it",
        deleted_written_again_and_flooded,
    ),
    (Sabotage::TakeEarlyDeletes, "protocol_rule_19_no_delete_is_taken_that_a_restart_would_not_hide", deleted_early),
];

#[test]
fn every_rule_of_caches_holds() {
    for (_, name, scenario) in RULES {
        assert_eq!(scenario(), Ok(()), "{name}");
    }
}

#[test]
fn every_rule_of_caches_is_missed_when_it_is_off() {
    for (sabotage, name, scenario) in RULES {
        let noticed = sabotage.during(scenario);
        assert!(noticed.is_err(), "{name} does not notice {sabotage:?}");
    }
}

/// Longer than any request keeps asking.
const LONG_US: u64 = 4_000_000;
const MEMORY_BYTES: u64 = 64 << 10;
const TTL_MAX_MS: u64 = 60_000;

fn founded(policy: PolicyKind) -> World {
    let mut world = World::new(2, 3, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    let cache = TableOptions::cache(policy).ttl_max(Duration::from_millis(TTL_MAX_MS)).memory_bytes(MEMORY_BYTES);
    world.found(&[("sessions", cache.replicas(3))]);
    // Nothing is shown that may be older than the start of a node.
    world.run_for(2_000_000);
    world
}

fn key_of(world: &World, name: &str) -> RecordKey {
    RecordKey::new(world.table("sessions").expect("a table").id, &Key::from(name)).expect("a short key")
}

fn write(
    world: &mut World,
    node: u64,
    name: &str,
    payload: Payload,
    (consistency, ttl): (Consistency, Option<Millis>),
) -> Result<(), WriteError> {
    let operation = OperationId(world.random.u128(..));
    let put = Put { key: key_of(world, name), payload, context: None, ttl, operation, consistency, strict: false };
    let request = world.put(NodeId(node), put);
    match world.finish(request) {
        Answer::Written(outcome) => outcome.map(|_| ()),
        other => panic!("a write has ended as {other:?}"),
    }
}

fn put(world: &mut World, node: u64, name: &str, value: &'static str, consistency: Consistency) {
    let value = Payload::Value(Bytes::from_static(value.as_bytes()));
    write(world, node, name, value, (consistency, None)).expect("a healthy quorum takes a write");
}

fn delete(world: &mut World, node: u64, name: &str) -> Result<(), WriteError> {
    write(world, node, name, Payload::Tombstone, (Consistency::Quorum, None))
}

fn read(world: &mut World, node: u64, name: &str) -> Option<Bytes> {
    let get = Get { key: key_of(world, name), consistency: Consistency::Quorum, floor: None };
    let request = world.get(NodeId(node), get);
    match world.finish(request) {
        Answer::Read(Ok(read)) => read.value().cloned(),
        other => panic!("a read has ended as {other:?}"),
    }
}

/// Writes more than fits.
fn flood(world: &mut World, node: u64, consistency: Consistency) {
    for number in 0..60 {
        let value = Payload::Value(vec![b'x'; 4000].into());
        write(world, node, &format!("flood {number}"), value, (consistency, None)).expect("it evicts");
    }
}

fn cut_off(world: &mut World, node: u64) {
    for other in world.nodes().into_iter().filter(|other| *other != NodeId(node)) {
        world.cut(NodeId(node), other);
        world.cut(other, NodeId(node));
    }
}

fn heal(world: &mut World) {
    world.run_for(LONG_US);
    world.heal_links();
    world.run_for(2_000_000);
}

fn cache_of(world: &World, node: u64) -> CacheStatus {
    world.status(NodeId(node)).expect("it runs").caches[0].clone()
}

fn is_cached(world: &World, node: u64, name: &str) -> bool {
    let held = world.cached_at(NodeId(node), &key_of(world, name));
    held.is_some_and(|record| record.versions().iter().any(|(_, version)| version.payload != Payload::Tombstone))
}

/// One replica has had to evict what the others still hold; then it is read.
fn read_after_an_eviction() -> Result<(), String> {
    let mut world = founded(PolicyKind::Fifo);
    put(&mut world, 1, "k", "value", Consistency::All);
    cut_off(&mut world, 1);
    flood(&mut world, 1, Consistency::One);
    heal(&mut world);
    assert!(!is_cached(&world, 1, "k") && is_cached(&world, 2, "k"));
    assert_eq!(read(&mut world, 1, "k").as_deref(), Some(&b"value"[..]), "another replica has it");
    if is_cached(&world, 1, "k") {
        return Err("it was sent back".to_owned());
    }
    let request = world.repair(NodeId(1), RepairScope::Table("sessions".to_owned()));
    assert_eq!(world.finish(request), Answer::Repaired(Err(RepairError::CacheTable)));
    let request = world.repair(NodeId(1), RepairScope::Everything);
    let Answer::Repaired(Ok(report)) = world.finish(request) else { panic!("there is nothing to repair") };
    assert_eq!(report.comparisons, 0);
    Ok(())
}

/// A replica does not hear of a delete; the others have to make room for much else.
fn deleted_and_flooded() -> Result<(), String> {
    let mut world = founded(PolicyKind::Lru);
    put(&mut world, 1, "k", "value", Consistency::All);
    cut_off(&mut world, 3);
    delete(&mut world, 1, "k").expect("two of three take it");
    flood(&mut world, 1, Consistency::Quorum);
    heal(&mut world);
    assert!(is_cached(&world, 3, "k"), "it has not heard of the delete");
    match read(&mut world, 3, "k") {
        None => Ok(()),
        Some(value) => Err(format!("what was deleted is back: {value:?}")),
    }
}

/// A replica does not hear of a delete; one that does forgets it when it starts again.
fn deleted_and_restarted() -> Result<(), String> {
    let mut world = founded(PolicyKind::S3Fifo);
    put(&mut world, 1, "k", "value", Consistency::All);
    cut_off(&mut world, 3);
    delete(&mut world, 1, "k").expect("two of three take it");
    world.crash(NodeId(1));
    world.start(NodeId(1));
    heal(&mut world);
    cut_off(&mut world, 2);
    world.run_for(LONG_US);
    let value = read(&mut world, 3, "k");
    if value.is_some() {
        return Err(format!("what was deleted is back: {value:?}"));
    }
    put(&mut world, 1, "k", "again", Consistency::Quorum);
    assert_eq!(read(&mut world, 3, "k").as_deref(), Some(&b"again"[..]), "what is written since is shown");
    Ok(())
}

/// A replica does not hear of a delete, nor of the value after it; the others have had to evict that.
fn deleted_written_again_and_flooded() -> Result<(), String> {
    let mut world = founded(PolicyKind::Fifo);
    put(&mut world, 1, "k", "old", Consistency::All);
    cut_off(&mut world, 3);
    delete(&mut world, 1, "k").expect("two of three take it");
    put(&mut world, 1, "k", "new", Consistency::Quorum);
    flood(&mut world, 1, Consistency::Quorum);
    heal(&mut world);
    assert!(is_cached(&world, 3, "k") && !is_cached(&world, 1, "k") && !is_cached(&world, 2, "k"));
    match read(&mut world, 3, "k") {
        None => Ok(()),
        Some(value) => Err(format!("what was deleted is back: {value:?}")),
    }
}

/// A node whose clock is far ahead deletes; one that has taken the delete starts again, and the third has missed it.
fn deleted_early() -> Result<(), String> {
    let mut world = founded(PolicyKind::Sieve);
    world.set_skew(NodeId(1), 900);
    put(&mut world, 1, "k", "value", Consistency::All);
    cut_off(&mut world, 3);
    delete(&mut world, 1, "k").expect("two of three take it, if not at once");
    world.crash(NodeId(2));
    world.start(NodeId(2));
    heal(&mut world);
    cut_off(&mut world, 1);
    world.run_for(LONG_US);
    assert!(is_cached(&world, 3, "k"), "it has not heard of the delete");
    match read(&mut world, 3, "k") {
        None => Ok(()),
        Some(value) => Err(format!("what was deleted is back: {value:?}")),
    }
}

// ---- rules without a switch of their own ----

/// What the memory is for is what readers ask for: neither writes nor what replicas say to each other count as uses.
#[test]
fn only_reads_are_hits_and_misses() {
    let mut world = founded(PolicyKind::Lru);
    put(&mut world, 1, "k", "value", Consistency::All);
    put(&mut world, 1, "k", "another", Consistency::All);
    delete(&mut world, 1, "j").expect("a healthy cluster deletes");
    let looks = |world: &World, node| (cache_of(world, node).hits, cache_of(world, node).misses);
    assert_eq!([1, 2, 3].map(|node| looks(&world, node)), [(0, 0); 3]);
    assert!(read(&mut world, 1, "k").is_some() && read(&mut world, 1, "j").is_none());
    let sum = [1, 2, 3].map(|node| looks(&world, node)).into_iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    assert!(sum.0 >= 2 && sum.1 >= 2, "a quorum was asked for each: {sum:?}");
}

#[test]
fn protocol_rule_19_memory_is_bounded_under_a_flood_of_values_and_of_deletes() {
    for policy in PolicyKind::ALL {
        let mut world = founded(policy);
        flood(&mut world, 1, Consistency::All);
        for node in [1, 2, 3] {
            let cache = cache_of(&world, node);
            assert!(cache.bytes <= MEMORY_BYTES && cache.bytes_max == MEMORY_BYTES, "{cache:?}");
            assert!(cache.values > 5 && cache.evictions > 30, "{cache:?}");
        }
        let mut refused = 0;
        for number in 0..200 {
            match delete(&mut world, 1, &format!("deleted {number}")) {
                Ok(()) => assert_eq!(refused, 0, "full, until the time of some is over"),
                Err(WriteError::CacheFull) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        let cache = cache_of(&world, 1);
        assert!(cache.bytes <= MEMORY_BYTES && refused > 100 && cache.deletes_refused == refused, "{cache:?}");
        assert_eq!(cache.tombstones + refused, 200, "none was evicted");
        // Once they hide nothing any more they go, although nobody asks for it.
        world.run_for((TTL_MAX_MS + 5_000) * 1_000);
        for node in [1, 2, 3] {
            let cache = cache_of(&world, node);
            assert_eq!((cache.values, cache.tombstones, cache.bytes), (0, 0, 0), "{cache:?}");
        }
        delete(&mut world, 1, "k").expect("there is room");
    }
}

#[test]
fn protocol_rule_19_no_value_outlives_the_maximum() {
    let mut world = founded(PolicyKind::Sieve);
    let value = || Payload::Value(Bytes::from_static(b"value"));
    let (one_second, over) = (Millis(1_000), Millis(TTL_MAX_MS + 1));
    let refused = write(&mut world, 1, "k", value(), (Consistency::Quorum, Some(over)));
    assert_eq!(refused, Err(WriteError::TtlOverMaximum { ttl: over, ttl_max: Millis(TTL_MAX_MS) }));
    write(&mut world, 1, "short", value(), (Consistency::All, Some(one_second))).unwrap();
    write(&mut world, 1, "long", value(), (Consistency::All, None)).unwrap();
    world.run_for(2_000_000);
    assert_eq!(read(&mut world, 2, "short"), None);
    assert!(read(&mut world, 2, "long").is_some());
    world.run_for(TTL_MAX_MS * 1_000);
    assert_eq!(read(&mut world, 3, "long"), None);
    let large = Payload::Value(vec![0; 60_000].into());
    let refused = write(&mut world, 1, "large", large, (Consistency::Quorum, None));
    assert!(matches!(refused, Err(WriteError::RecordTooLarge { bytes_max, .. }) if bytes_max < 57_344), "{refused:?}");
}

/// Nothing of a cache table is in any store.
#[test]
fn protocol_rule_19_values_live_in_memory_only() {
    let mut world = founded(PolicyKind::Lfu);
    put(&mut world, 1, "k", "value", Consistency::All);
    let key = key_of(&world, "k");
    for node in world.nodes() {
        assert!(is_cached(&world, node.0, "k"));
        assert_eq!(world.record_at(node, &key), None);
        world.crash(node);
        world.start(node);
    }
    world.run_for(2_000_000);
    assert_eq!(read(&mut world, 1, "k"), None);
}
