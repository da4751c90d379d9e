//! Rules of hinted handoff as scenarios: right with the rule on, and wrong with it off. Nobody compares replicas at intervals
//! in these worlds, and nobody reads: what one has missed comes over as a hint, or by a comparison that is owed.

use std::collections::BTreeSet;

use kv_core::NodeId;
use kv_core::hlc::Stamp;
use kv_core::record::Record;
use kv_core::store::Space;

use super::rules::{Scenario, key_of, put_of};
use super::*;
use crate::comparison::Place;
use crate::hints::scenarios;
use crate::quorum::Consistency;
use crate::request::{Put, Written};
use crate::table_options::TableOptions;

/// Every switch, and the scenario that it must break.
const RULES: &[(Sabotage, &str, Scenario)] = &[
    (Sabotage::NeverHint, "hints_bring_over_what_a_replica_has_missed", missed_by_one),
    (Sabotage::DeleteHintBeforeAck, "a_hint_stays_until_it_is_acknowledged", delivered_through_losses),
    (
        Sabotage::ReplyBeforeDurable,
        "protocol_rule_03_a_hint_stays_until_its_delivery_is_durable",
        delivered_and_crashed,
    ),
    (Sabotage::DropGrownHint, "a_hint_that_grew_on_its_way_stays", grown_on_its_way),
    (Sabotage::ShedWithoutMark, "lesson_17_what_is_shed_is_owed", shed_for_want_of_room),
    (Sabotage::FailWhenHintsAreFull, "lesson_17_a_full_hint_queue_fails_no_write", written_without_room),
    (Sabotage::ForgetMarks, "lesson_17_what_is_owed_outlives_the_node_that_owes_it", owed_over_a_crash),
    (Sabotage::IgnoreHintBounds, "hints_stay_within_their_bounds_of_bytes", missed_more_than_there_is_room_for),
    (Sabotage::IgnoreHintBounds, "hints_stay_within_their_bounds_of_age", missed_for_too_long),
    (Sabotage::ForgetBirth, "protocol_rule_07_lesson_06_a_hint_tells_the_oldest_birth_in_it", births_of_a_hint),
    (Sabotage::ClearMarkOfLaterSheds, "a_comparison_pays_what_was_owed_when_it_began", scenarios::shed_meanwhile),
    (Sabotage::ReplayToFormerReplica, "a_hint_goes_to_those_that_hold_the_record_now", scenarios::moved_away),
];

#[test]
fn every_rule_of_hints_holds() {
    for (_, name, scenario) in RULES {
        assert_eq!(scenario(), Ok(()), "{name}");
    }
}

#[test]
fn every_rule_of_hints_is_missed_when_it_is_off() {
    for (sabotage, name, scenario) in RULES {
        let noticed = sabotage.during(scenario);
        assert!(noticed.is_err(), "{name} does not notice {sabotage:?}");
    }
}

pub(super) const PLENTY: u64 = 1 << 20;
/// Longer than any request keeps asking.
pub(super) const LONG_US: u64 = 4_000_000;

fn founded(seed: u64, nodes: u64, bytes_max: u64) -> World {
    founded_on(seed, nodes, bytes_max, Box::new(MemStores::new()))
}

pub(super) fn founded_on(seed: u64, nodes: u64, bytes_max: u64, stores: Box<dyn StoreFactory>) -> World {
    let mut world = World::new(seed, nodes, NetworkFaults::default(), 50, stores);
    world.bound_hints(bytes_max, PLENTY);
    world.found(&[("carts", TableOptions::siblings().replicas(3))]);
    world.run_for(1_000_000);
    assert!(world.nodes().into_iter().all(|node| world.is_serving(node)));
    world
}

pub(super) fn cut_off(world: &mut World, node: u64) {
    for other in world.nodes().into_iter().filter(|other| *other != NodeId(node)) {
        world.cut(NodeId(node), other);
        world.cut(other, NodeId(node));
    }
}

pub(super) fn write(world: &mut World, node: u64, name: &str, consistency: Consistency) -> Result<Written, String> {
    let put = Put { consistency, ..put_of(world, name, "value", None) };
    let request = world.put(NodeId(node), put);
    match world.finish(request) {
        Answer::Written(Ok(written)) => Ok(written),
        other => Err(format!("a write has ended as {other:?}")),
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key {number}")).collect()
}

/// Writes keys at nodes 1 and 2 that node 3 does not hear of.
fn miss(world: &mut World, names: &[String]) -> Result<(), String> {
    cut_off(world, 3);
    world.run_for(3_000_000);
    for (number, name) in names.iter().enumerate() {
        write(world, 1 + number as u64 % 2, name, Consistency::Quorum)?;
    }
    world.run_for(LONG_US);
    sound(world)
}

fn sound(world: &mut World) -> Result<(), String> {
    world.wrong_hints().first().map_or(Ok(()), |wrong| Err(wrong.clone()))
}

fn held(world: &World, name: &str) -> Vec<Option<Record>> {
    let key = key_of(world, name);
    let table = world.table("carts").expect("a table");
    table.replicas_of(key.token()).iter().map(|node| world.record_at(*node, &key)).collect()
}

pub(super) fn all_equal(world: &mut World, names: &[String]) -> Result<(), String> {
    sound(world)?;
    for name in names {
        let held = held(world, name);
        if held[0].is_none() || held.iter().any(|record| *record != held[0]) {
            return Err(format!("{name}: {held:?}"));
        }
    }
    Ok(())
}

/// How much is kept, and owed, by everybody.
pub(super) fn kept_and_owed(world: &World) -> (u64, usize) {
    let all: Vec<_> = world.nodes().into_iter().flat_map(|node| world.hints(node).targets).collect();
    (all.iter().map(|target| target.hints).sum(), all.iter().map(|target| target.owed_partitions).sum())
}

pub(super) fn nothing_left(world: &World) -> Result<(), String> {
    match kept_and_owed(world) {
        (0, 0) => Ok(()),
        left => Err(format!("hints and marks are left: {left:?}")),
    }
}

fn missed_by_one() -> Result<(), String> {
    let mut world = founded(1, 3, PLENTY);
    let names = names(40);
    miss(&mut world, &names)?;
    assert!(all_equal(&mut world, &names).is_err(), "node 3 has heard of nothing");
    world.heal_links();
    world.run_for(6_000_000);
    all_equal(&mut world, &names)?;
    assert_eq!(world.hint_totals().shed, 0, "there was room");
    nothing_left(&world)
}

/// Hints of one slice travel in one frame, and few frames get lost, hence the seeds.
fn delivered_through_losses() -> Result<(), String> {
    let faults = NetworkFaults { loss: 0.5, duplication: 0.3, straggler: 0.1, ..NetworkFaults::default() };
    (0..12).try_for_each(|seed| {
        let mut world = founded(seed, 3, PLENTY);
        let names = names(40);
        miss(&mut world, &names)?;
        world.network.faults = faults;
        world.heal_links();
        world.run_for(6_000_000);
        world.network.faults = NetworkFaults::default();
        world.run_for(10_000_000);
        all_equal(&mut world, &names).and_then(|()| nothing_left(&world)).map_err(|what| format!("seed {seed}: {what}"))
    })
}

/// The node that is back takes everything, and its disk does not sync; then its power goes.
fn delivered_and_crashed() -> Result<(), String> {
    (0..8).try_for_each(|seed| {
        let mut world = founded(seed, 3, PLENTY);
        miss(&mut world, &names(3))?;
        world.set_sync(NodeId(3), u64::MAX / 4);
        world.heal_links();
        world.run_for(4_000_000);
        world.crash(NodeId(3));
        world.set_sync(NodeId(3), 1_000);
        world.start(NodeId(3));
        world.run_for(20_000_000);
        all_equal(&mut world, &names(3)).map_err(|what| format!("seed {seed}: {what}"))
    })
}

/// Node 3 takes a hint, and its disk is slow; meanwhile it misses another write of the same record.
fn grown_on_its_way() -> Result<(), String> {
    (0..24).try_for_each(|seed| {
        let mut world = founded(seed, 3, PLENTY);
        miss(&mut world, &["key 0".to_owned()])?;
        world.heal_links();
        world.set_sync(NodeId(3), 400_000);
        let delivering = |world: &World| {
            let targets = world.hints(NodeId(1)).targets;
            targets.iter().any(|target| target.delivering)
        };
        for _ in 0..10_000 {
            if delivering(&world) {
                break;
            }
            world.run_for(1_000);
        }
        assert!(delivering(&world), "a node that is back is handed what it has missed");
        world.run_for(1_000);
        world.cut(NodeId(1), NodeId(3));
        world.cut(NodeId(2), NodeId(3));
        write(&mut world, 1, "key 0", Consistency::Quorum)?;
        world.run_for(LONG_US);
        world.set_sync(NodeId(3), 1_000);
        world.heal_links();
        world.run_for(20_000_000);
        all_equal(&mut world, &names(1)).map_err(|what| format!("seed {seed}: {what}"))
    })
}

fn shed_for_want_of_room() -> Result<(), String> {
    let mut world = founded(1, 3, 1_000);
    let names = names(40);
    miss(&mut world, &names)?;
    assert!(world.hint_totals().shed > 0, "a thousand bytes are not enough");
    world.heal_links();
    world.run_for(20_000_000);
    all_equal(&mut world, &names)?;
    nothing_left(&world)
}

/// With no room at all, writes take as long as ever.
fn written_without_room() -> Result<(), String> {
    let mut world = founded(1, 3, 0);
    cut_off(&mut world, 3);
    world.run_for(3_000_000);
    for name in names(40) {
        let before = world.now_us();
        write(&mut world, 1, &name, Consistency::Quorum)?;
        let took = world.now_us() - before;
        if took > 50_000 {
            return Err(format!("a write took {took} microseconds"));
        }
    }
    assert!(world.hint_totals().shed >= 40);
    Ok(())
}

fn owed_over_a_crash() -> Result<(), String> {
    let mut world = founded(1, 3, 0);
    let names = names(40);
    miss(&mut world, &names)?;
    for node in [1, 2].map(NodeId) {
        world.crash(node);
        world.start(node);
    }
    world.heal_links();
    world.run_for(20_000_000);
    all_equal(&mut world, &names)?;
    nothing_left(&world)
}

fn missed_more_than_there_is_room_for() -> Result<(), String> {
    let mut world = founded(1, 3, 2_000);
    miss(&mut world, &names(100))?;
    for node in [1, 2].map(NodeId) {
        let bytes = world.hints(node).bytes;
        // One node that is away leaves a quarter for the next.
        if bytes == 0 || bytes > 1_500 {
            return Err(format!("{node} keeps {bytes} bytes"));
        }
    }
    Ok(())
}

fn missed_for_too_long() -> Result<(), String> {
    let mut world = founded(1, 3, PLENTY);
    world.age_hints(6_000);
    miss(&mut world, &names(20))?;
    let (kept, owed) = kept_and_owed(&world);
    assert!(kept == 20 && owed == 0, "{kept} {owed}");
    world.run_for(6_000_000);
    sound(&mut world)?;
    let (kept, owed) = kept_and_owed(&world);
    if kept > 0 || owed == 0 {
        return Err(format!("{kept} hints are kept for too long, {owed} partitions are owed"));
    }
    world.heal_links();
    world.run_for(20_000_000);
    all_equal(&mut world, &names(20))?;
    nothing_left(&world)
}

/// The oldest birth that a node tells of what it keeps of a key's partition.
fn told(world: &World, node: u64, name: &str) -> Option<Stamp> {
    let (key, table) = (key_of(world, name), world.table("carts").expect("a table"));
    world.oldest_hint(NodeId(node), Place { table: table.id, partition: table.layout.partition_of(key.token()) })
}

/// One replica misses two writes that stand side by side: the hint holds both.
fn births_of_a_hint() -> Result<(), String> {
    let mut world = founded(1, 3, PLENTY);
    cut_off(&mut world, 3);
    world.run_for(3_000_000);
    let first = write(&mut world, 1, "k", Consistency::Quorum)?.birth;
    world.run_for(1_000_000);
    write(&mut world, 1, "k", Consistency::Quorum)?;
    world.run_for(LONG_US);
    let holds = |world: &mut World, when: &str| {
        sound(world)?;
        match told(world, 1, "k") {
            Some(oldest) if oldest <= first => Ok(()),
            other => Err(format!("{when} a hint of {first:?} is told as {other:?}")),
        }
    };
    holds(&mut world, "when it is kept")?;
    world.crash(NodeId(1));
    world.start(NodeId(1));
    world.run_for(2_000_000);
    holds(&mut world, "after a restart")?;
    world.heal_links();
    world.run_for(10_000_000);
    match told(&world, 1, "k") {
        None => all_equal(&mut world, &["k".to_owned()]),
        still => Err(format!("nothing is kept any more, and {still:?} is told")),
    }
}

// ---- rules without a switch of their own ----

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
fn hints_are_delivered_no_faster_than_is_allowed() {
    let mut world = founded(1, 3, PLENTY);
    assert_eq!(miss(&mut world, &names(100)), Ok(()));
    let before: u64 = [1, 2].map(|node| world.hints(NodeId(node)).bytes).iter().sum();
    world.bound_hints(PLENTY, 1_000);
    world.heal_links();
    world.run_for(5_000_000);
    let after: u64 = [1, 2].map(|node| world.hints(NodeId(node)).bytes).iter().sum();
    assert!(after < before && before - after < 2 * 6_000, "{before} {after}");
    world.run_for(20_000_000);
    assert_eq!(all_equal(&mut world, &names(100)), Ok(()));
}

#[test]
fn a_late_acknowledgement_takes_the_hint_back() {
    let mut world = founded(1, 3, PLENTY);
    world.set_sync(NodeId(3), 1_000_000);
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
