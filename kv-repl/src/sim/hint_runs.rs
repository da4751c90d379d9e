//! What hinted handoff comes to without any rule switched off: splits that hints alone, debts alone, and both together mend, and
//! what hints cost.

use std::collections::BTreeSet;

use kv_core::NodeId;
use kv_core::store::Space;

use super::hint_rules::{LONG_US, PLENTY, all_equal, cut_off, founded, held, miss, names, nothing_left, sound, write};
use super::rules::put_of;
use super::*;
use crate::hints::scenarios;
use crate::message::Refusal;
use crate::quorum::Consistency;
use crate::request::Put;

/// Splits of five nodes, with writes on both sides. Nobody dies in the middle of a write.
fn splits(seed: u64, bytes_max: u64, age_max_ms: u64) -> World {
    let mut world = founded(seed, 5, bytes_max);
    world.age_hints(age_max_ms);
    world.network.faults = NetworkFaults { loss: 0.05, duplication: 0.1, delay_max_us: 5_000, straggler: 0.02 };
    let names = names(12);
    for _ in 0..6 {
        let side: BTreeSet<NodeId> = world.nodes().into_iter().filter(|_| world.random.bool()).collect();
        for from in world.nodes() {
            for to in world.nodes() {
                if side.contains(&from) != side.contains(&to) {
                    world.cut(from, to);
                }
            }
        }
        for _ in 0..20 {
            let node = NodeId(world.random.u64(1..=5));
            let name = names[world.random.usize(..names.len())].clone();
            let consistency = if world.random.bool() { Consistency::One } else { Consistency::Quorum };
            let put = Put { consistency, ..put_of(&mut world, &name, "value", None) };
            world.put(node, put);
            world.run_for(50_000);
            assert_eq!(sound(&mut world), Ok(()), "seed {seed}");
        }
        let pause = world.random.u64(..3_000_000);
        world.run_for(pause);
        world.heal_links();
        let pause = world.random.u64(..2_000_000);
        world.run_for(pause);
    }
    world.run_for(LONG_US);
    world.network.faults = NetworkFaults::default();
    world
}

fn equal_at_last(world: &mut World) -> Result<(), String> {
    let names = names(12);
    let mut outcome = Ok(());
    for _ in 0..60 {
        let written: Vec<String> =
            names.iter().filter(|name| held(world, name).iter().any(Option::is_some)).cloned().collect();
        outcome = all_equal(world, &written).and_then(|()| nothing_left(world));
        if outcome.is_ok() {
            break;
        }
        world.run_for(1_000_000);
    }
    outcome
}

#[test]
fn hints_alone_make_replicas_equal_after_splits() {
    for seed in 0..12 {
        let mut world = splits(seed, PLENTY, 3_600_000);
        assert_eq!(equal_at_last(&mut world), Ok(()), "seed {seed}");
        assert_eq!(world.hint_totals().shed, 0, "seed {seed}");
    }
}

#[test]
fn what_is_owed_alone_makes_replicas_equal_after_splits() {
    for seed in 0..12 {
        let mut world = splits(seed, 0, 3_600_000);
        assert_eq!(equal_at_last(&mut world), Ok(()), "seed {seed}");
        assert!(world.hint_totals().shed > 0, "seed {seed}");
    }
}

#[test]
fn hints_and_debts_make_replicas_equal_after_splits() {
    for seed in 0..12 {
        let mut world = splits(seed, 1_500, 3_000);
        assert_eq!(equal_at_last(&mut world), Ok(()), "seed {seed}");
    }
}

#[test]
fn hints_outlive_the_node_that_keeps_them() {
    for seed in 0..8 {
        let mut world = founded(seed, 3, PLENTY);
        assert_eq!(miss(&mut world, &names(20)), Ok(()));
        for node in world.nodes() {
            world.crash(node);
        }
        for node in world.nodes() {
            world.start(node);
        }
        world.heal_links();
        world.run_for(10_000_000);
        assert_eq!(all_equal(&mut world, &names(20)), Ok(()), "seed {seed}");
        assert_eq!(nothing_left(&world), Ok(()), "seed {seed}");
    }
}

#[test]
fn a_record_that_is_written_often_costs_one_hint() {
    let mut world = founded(1, 3, PLENTY);
    assert_eq!(miss(&mut world, &vec!["key 0".to_owned(); 20]), Ok(()));
    let hints = [1, 2].map(|node| world.hints(NodeId(node)));
    assert!(hints.iter().all(|hints| hints.targets.len() == 1 && hints.targets[0].hints == 1), "{hints:?}");
    assert!(hints.iter().map(|hints| hints.kept).sum::<u64>() >= 20);
}

#[test]
fn a_late_acknowledgement_takes_the_hint_back() {
    let mut world = founded(1, 3, PLENTY);
    world.set_sync(NodeId(3), 3_000_000);
    for name in names(20) {
        write(&mut world, 1, &name, Consistency::Quorum).expect("two of three are quick");
    }
    world.run_for(LONG_US);
    let hints = world.hints(NodeId(1));
    assert!(hints.kept > 0, "it took longer than a retry");
    assert!(hints.targets.is_empty() && hints.delivered < hints.kept, "{hints:?}");
    assert_eq!(all_equal(&mut world, &names(20)), Ok(()));
}

#[test]
fn one_that_is_away_leaves_room_for_the_next() {
    let mut world = founded(1, 5, 4_000);
    cut_off(&mut world, 4);
    world.run_for(3_000_000);
    for name in names(200) {
        let put = Put { consistency: Consistency::One, ..put_of(&mut world, &name, "value", None) };
        world.put(NodeId(1), put);
        world.run_for(10_000);
    }
    cut_off(&mut world, 5);
    world.run_for(3_000_000);
    for name in names(200) {
        let put = Put { consistency: Consistency::One, ..put_of(&mut world, &name, "value", None) };
        world.put(NodeId(1), put);
        world.run_for(10_000);
    }
    assert_eq!(sound(&mut world), Ok(()));
    let kept = |target| {
        let targets = world.hints(NodeId(1)).targets;
        targets.iter().find(|hints| hints.target == NodeId(target)).map_or(0, |hints| hints.bytes)
    };
    assert!(kept(4) > 2_500 && kept(5) > 400, "{} {}", kept(4), kept(5));
}

#[test]
fn a_store_without_a_space_for_hints_owes_instead() {
    let view = kv_core::MemStore::new([(Space::META, kv_core::store::SpaceOptions::default())]);
    assert_eq!(scenarios::owed_without_a_space(&view), Ok(()));
}

#[test]
fn what_a_replica_refuses_of_a_fallback_does_not_hold_up_the_rest() {
    assert_eq!(scenarios::kept_after_refusals(Refusal::Damaged), 1, "it may be the last of an acknowledged write");
    assert_eq!(scenarios::kept_after_refusals(Refusal::BelowFloor), 0, "everybody knows what became of it");
}
