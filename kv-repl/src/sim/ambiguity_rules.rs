//! What a write that failed may still do (lesson 10, rule P10), as scenarios: right with the rule on, and wrong with it off.

use kv_core::NodeId;
use kv_core::record::Record;
use kv_core::time::Millis;

use super::rules::{Scenario, key_of, put_of, values};
use super::*;
use crate::quorum::Consistency;
use crate::request::{Get, WriteError};
use crate::table_options::TableOptions;

/// Every switch, and the scenario that it must break.
const RULES: &[(Sabotage, &str, Scenario)] = &[
    (
        Sabotage::MintRetriesAgain,
        "lesson_10_a_retry_of_an_ambiguous_write_has_no_second_effect",
        retried_when_ambiguous,
    ),
    (Sabotage::BeginTooLate, "lesson_10_a_write_whose_time_is_up_is_not_begun", begun_too_late),
];

#[test]
fn every_rule_of_ambiguity_holds() {
    for (_, name, scenario) in RULES {
        assert_eq!(scenario(), Ok(()), "{name}");
    }
}

#[test]
fn every_rule_of_ambiguity_is_missed_when_it_is_off() {
    for (sabotage, name, scenario) in RULES {
        let noticed = sabotage.during(scenario);
        assert!(noticed.is_err(), "{name} does not notice {sabotage:?}");
    }
}

/// Four nodes, three of which hold each key.
fn four(options: TableOptions) -> World {
    let mut world = World::new(2, 4, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    world.found(&[("carts", options)]);
    world.run_for(1_000_000);
    world
}

fn replicas(world: &World) -> Vec<NodeId> {
    let key = key_of(world, "k");
    world.table("carts").expect("it was created").replicas_of(key.token()).to_vec()
}

fn held(world: &World) -> usize {
    let key = key_of(world, "k");
    world.nodes().into_iter().filter(|node| world.record_at(*node, &key).is_some()).count()
}

/// The coordinator is cut off in the middle of a write; its client hears that nobody knows, and asks it again later.
fn retried_when_ambiguous() -> Result<(), String> {
    for options in [TableOptions::siblings(), TableOptions::last_write_wins()] {
        let mut world = four(options);
        let [coordinator, others @ ..] = &replicas(&world)[..] else { panic!("three replicas") };
        for other in others {
            world.cut(*coordinator, *other);
        }
        let put = put_of(&mut world, "k", "value", None);
        let request = world.put(*coordinator, put.clone());
        let Answer::Written(Err(error)) = world.finish(request) else { panic!("nobody else has acknowledged") };
        let expected = WriteError::Ambiguous { operation: put.operation, acknowledged: 1, fallbacks: 0, required: 2 };
        assert_eq!(error, expected, "the coordinator itself holds it");
        assert_eq!(held(&world), 1, "as many as were told");
        let before = world.record_at(*coordinator, &put.key);
        world.heal_links();
        world.run_for(2_000_000);
        let request = world.put(*coordinator, put.clone());
        let Answer::Written(Ok(written)) = world.finish(request) else { panic!("everybody is up") };
        world.run_for(1_000_000);
        let get = Get { key: put.key.clone(), consistency: Consistency::All, floor: None };
        let request = world.get(others[0], get);
        let Answer::Read(Ok(read)) = world.finish(request) else { panic!("everybody is up") };
        let minted = |record: &Record| record.versions().iter().map(|(dot, _)| *dot).collect::<Vec<_>>();
        let after = read.record().map(minted).unwrap_or_default();
        if read.record() != before.as_ref() || after != [written.dot] {
            return Err(format!("{after:?} of one operation, acknowledged as {:?}", written.dot));
        }
    }
    Ok(())
}

/// A client gives a write no time, at a replica and at a node that has to pass it on.
fn begun_too_late() -> Result<(), String> {
    let mut world = four(TableOptions::siblings());
    for node in world.nodes() {
        let put = put_of(&mut world, "k", "late", None);
        let request = world.put_within(node, put, Millis::ZERO);
        let Answer::Written(Err(error)) = world.finish(request) else { return Err("acknowledged".to_owned()) };
        world.run_for(1_000_000);
        let held = values(&mut world, 1, "k").expect("everybody is up");
        if error != WriteError::DeadlinePassed || !held.is_empty() {
            return Err(format!("{node} says: {error}; {held:?} is there"));
        }
    }
    Ok(())
}
