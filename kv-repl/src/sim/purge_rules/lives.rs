//! Forgetting while nodes start anew, lose power, or come back with an empty disk.

use std::time::Duration;

use kv_core::NodeId;
use kv_core::context::CausalContext;
use kv_core::hlc::Stamp;
use kv_core::time::Millis;
use kv_core::version::VersionVector;

use super::stage::*;
use crate::quorum::Consistency;
use crate::sim::rules::{key_of, values};
use crate::sim::*;
use crate::table_options::TableOptions;

/// Node 3 starts anew, and node 2 does not hear of that.
pub(super) fn started_anew_unnoticed() -> Result<(), String> {
    let mut world = siblings();
    put(&mut world, 1, "k", "value", Consistency::All);
    delete(&mut world, 1, "k", None, Consistency::All);
    world.cut(NodeId(2), NodeId(3));
    world.cut(NodeId(3), NodeId(2));
    world.crash(NodeId(3));
    world.start(NodeId(3));
    for _ in 0..100 {
        world.run_for(SECOND_US / 10);
        let (promised, level) = world.floor(NodeId(1), place_of(&world, "k")).expect("it runs");
        if level.settled > Stamp::ZERO {
            return Err(format!("settled up to {promised:?}, while node 2 may hear of an earlier life of node 3"));
        }
    }
    world.heal_links();
    forgotten(&mut world, "k")
}

pub(super) fn replaced_after_a_floor() -> Result<(), String> {
    let mut world = siblings();
    put(&mut world, 1, "k", "value", Consistency::All);
    put(&mut world, 1, "other", "value", Consistency::All);
    delete(&mut world, 1, "k", None, Consistency::All);
    forgotten(&mut world, "k")?;
    world.wipe(NodeId(3));
    world.start(NodeId(3));
    world.run_for(SECOND_US);
    let request = world.replace(NodeId(3));
    assert_eq!(world.finish(request), Answer::Cluster(Ok(())));
    while world.status(NodeId(3)).is_none_or(|status| status.importing > 0) {
        world.run_for(SECOND_US / 10);
    }
    sound(&world)?;
    // And it takes part in what comes.
    delete(&mut world, 1, "other", None, Consistency::All);
    forgotten(&mut world, "other")
}

/// The one that leads has a new storage. It has heard from node 3 how far its place was settled, and of nothing that is there, when it
/// can ask nobody but node 2 any more.
pub(super) fn replaced_and_cut_off_at_once() -> Result<(), String> {
    let mut world = siblings();
    put(&mut world, 1, "stays", "value", Consistency::All);
    let place = place_of(&world, "stays");
    // It replaces nothing, and is something to settle the place for.
    let unaware = CausalContext::seal(&key_of(&world, "stays"), &VersionVector::new());
    delete(&mut world, 2, "stays", Some(unaware), Consistency::All);
    while world.floor(NodeId(2), place).is_none_or(|(_, level)| level.settled == Stamp::ZERO) {
        world.run_for(SECOND_US / 10);
    }
    world.wipe(NodeId(1));
    world.start(NodeId(1));
    world.run_for(SECOND_US);
    let request = world.replace(NodeId(1));
    while world.status(NodeId(1)).is_none_or(|status| status.importing == 0) {
        world.run_for(10);
    }
    // What it says to itself waits for its disk, and comes after what node 2 says.
    world.set_sync(NodeId(1), 20 * SECOND_US);
    cut_between(&mut world, 1, 2);
    while world.floor(NodeId(1), place).is_none_or(|(promised, _)| promised == Stamp::ZERO) {
        world.run_for(10);
    }
    world.heal_links();
    cut_between(&mut world, 1, 3);
    world.run_for(5 * SECOND_US);
    world.heal_links();
    world.set_sync(NodeId(1), 2_000);
    world.run_for(40 * SECOND_US);
    assert_eq!(world.take(request), Answer::Cluster(Ok(())));
    let importing = world.status(NodeId(1)).expect("it runs").importing;
    if importing > 0 {
        return Err(format!("{importing} places are not taken in"));
    }
    sound(&world)?;
    match world.record_at(NodeId(1), &key_of(&world, "stays")) {
        Some(record) if record.values(Millis::ZERO).len() == 1 => Ok(()),
        other => Err(format!("the new storage holds {other:?}")),
    }
}

/// Node 3 starts anew in the moment in which it should hear that what is deleted can go, and so does the one that leads.
pub(super) fn raised_while_one_crashes() -> Result<(), String> {
    let mut world = founded_comparing(3, TableOptions::siblings(), Duration::from_secs(2));
    put(&mut world, 1, "k", "value", Consistency::All);
    delete(&mut world, 1, "k", None, Consistency::All);
    let place = place_of(&world, "k");
    let purged =
        |world: &World, node| world.floor(NodeId(node), place).is_some_and(|(_, level)| level.purged > Stamp::ZERO);
    while !purged(&world, 1) {
        world.run_for(10);
    }
    world.crash(NodeId(3));
    world.run_for(SECOND_US / 2);
    assert!(purged(&world, 2), "who is up has heard");
    world.kill(NodeId(1));
    world.start(NodeId(1));
    world.start(NodeId(3));
    world.run_for(SECOND_US);
    assert!(!purged(&world, 3) && held(&world, "k").iter().any(Option::is_some), "node 3 has missed it");
    forgotten(&mut world, "k")
}

#[test]
fn a_power_cut_at_any_time_leaves_nothing_half_forgotten() {
    for seed in 0..12 {
        let mut world = siblings();
        let names: Vec<String> = (0..10).map(|number| format!("key {number}")).collect();
        for name in &names {
            put(&mut world, 1, name, "value", Consistency::All);
            delete(&mut world, 2, name, None, Consistency::All);
        }
        for round in 0..6 {
            world.run_for(700_000 + seed * 37_000 + round * 1_000);
            for node in world.nodes() {
                world.crash(node);
            }
            world.nodes().into_iter().for_each(|node| world.start(node));
            assert_eq!(sound(&world), Ok(()), "seed {seed}");
        }
        for name in &names {
            assert_eq!(forgotten(&mut world, name), Ok(()), "seed {seed}");
            assert_eq!(values(&mut world, 3, name).expect("all are up"), Vec::<bytes::Bytes>::new());
        }
    }
}
