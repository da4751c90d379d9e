//! What scenarios of forgetting are played with: a world that forgets, and what is looked at in it.

use std::time::Duration;

use kv_core::NodeId;
use kv_core::context::CausalContext;
use kv_core::record::{Payload, Record};

use crate::comparison::Place;
use crate::quorum::Consistency;
use crate::request::{Get, Put, Read, WriteError, Written};
use crate::sim::rules::{key_of, put_of};
use crate::sim::*;
use crate::status::PurgeStatus;
use crate::table_options::TableOptions;

pub(super) const SECOND_US: u64 = 1_000_000;
/// Longer than any request keeps asking.
pub(super) const LONG_US: u64 = 4 * SECOND_US;
/// What is deleted is kept at least that long.
pub(super) const KEPT_MS: u64 = 2_000;

pub(super) fn founded(nodes: u64, options: TableOptions) -> World {
    founded_comparing(nodes, options, Duration::MAX)
}

pub(super) fn founded_comparing(nodes: u64, options: TableOptions, every: Duration) -> World {
    let stores = Box::new(MemStores::new());
    let mut world = World::with_repair(3, nodes, NetworkFaults::default(), 5, stores, every);
    world.purge_after(KEPT_MS);
    world.found(&[("carts", options.replicas(3))]);
    world.run_for(SECOND_US);
    assert!(world.nodes().into_iter().all(|node| world.is_serving(node)));
    world
}

pub(super) fn siblings() -> World {
    founded(3, TableOptions::siblings())
}

pub(super) fn write(world: &mut World, node: u64, put: Put) -> Result<Written, WriteError> {
    let request = world.put(NodeId(node), put);
    match world.finish(request) {
        Answer::Written(outcome) => outcome,
        other => panic!("a write has ended as {other:?}"),
    }
}

pub(super) fn put(world: &mut World, node: u64, name: &str, value: &'static str, consistency: Consistency) -> Written {
    let put = Put { consistency, ..put_of(world, name, value, None) };
    write(world, node, put).expect("it can be written")
}

pub(super) fn delete(
    world: &mut World,
    node: u64,
    name: &str,
    context: Option<CausalContext>,
    consistency: Consistency,
) -> Written {
    let put = Put { payload: Payload::Tombstone, consistency, ..put_of(world, name, "", context) };
    write(world, node, put).expect("it can be deleted")
}

pub(super) fn read(world: &mut World, node: u64, name: &str) -> Read {
    let get = Get { key: key_of(world, name), consistency: Consistency::All, floor: None };
    let request = world.get(NodeId(node), get);
    match world.finish(request) {
        Answer::Read(Ok(read)) => read,
        other => panic!("a read has ended as {other:?}"),
    }
}

pub(super) fn cut_off(world: &mut World, node: u64) {
    for other in world.nodes().into_iter().filter(|other| *other != NodeId(node)) {
        world.cut(NodeId(node), other);
        world.cut(other, NodeId(node));
    }
}

pub(super) fn cut_between(world: &mut World, one: u64, other: u64) {
    world.cut(NodeId(one), NodeId(other));
    world.cut(NodeId(other), NodeId(one));
}

pub(super) fn held(world: &World, name: &str) -> Vec<Option<Record>> {
    let key = key_of(world, name);
    let table = world.table("carts").expect("a table");
    table.replicas_of(key.token()).iter().map(|node| world.record_at(*node, &key)).collect()
}

pub(super) fn is_forgotten(world: &World, name: &str) -> bool {
    held(world, name).iter().all(Option::is_none)
}

/// Waits for up to half a minute.
pub(super) fn forgotten(world: &mut World, name: &str) -> Result<(), String> {
    for _ in 0..300 {
        if is_forgotten(world, name) {
            return sound(world);
        }
        world.run_for(SECOND_US / 10);
    }
    Err(format!("{name} is still there: {:?}, {:?}", held(world, name), purges(world)))
}

pub(super) fn sound(world: &World) -> Result<(), String> {
    let wrong = world.wrong_floors().into_iter().chain(world.wrong_hashes());
    wrong.chain(world.ledger().violations().iter().cloned()).next().map_or(Ok(()), Err)
}

pub(super) fn purges(world: &World) -> Vec<PurgeStatus> {
    world.nodes().into_iter().filter_map(|node| world.status(node)).map(|status| status.purge).collect()
}

pub(super) fn place_of(world: &World, name: &str) -> Place {
    world.place_of(&key_of(world, name))
}
