//! Rules of hinted handoff as scenarios: right with the rule on, and wrong with it off. Nobody compares replicas at intervals
//! in these worlds, and nobody reads: what one has missed comes over as a hint, or by a comparison that is owed.

use kv_core::NodeId;
use kv_core::hlc::Stamp;
use kv_core::record::Record;

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
    (Sabotage::ForgetCrashes, "what_a_coordinator_forgets_in_a_crash_is_owed", crashed_before_the_first_retry),
    (Sabotage::IgnoreHintBounds, "hints_stay_within_their_bounds_of_bytes", missed_more_than_there_is_room_for),
    (Sabotage::IgnoreHintBounds, "hints_stay_within_their_bounds_of_age", missed_for_too_long),
    (Sabotage::ForgetBirth, "protocol_rule_07_lesson_06_a_hint_tells_the_oldest_birth_in_it", births_of_a_hint),
    (Sabotage::ClearMarkOfLaterSheds, "a_comparison_pays_what_was_owed_when_it_began", scenarios::shed_meanwhile),
    (Sabotage::IgnoreHintRate, "hints_are_delivered_no_faster_than_is_allowed", delivered_slowly),
    (Sabotage::ServeTheFirst, "nodes_that_are_back_are_served_in_turn", scenarios::served_in_turn),
    (Sabotage::RedirectForFree, "hints_change_hands_no_faster_than_they_are_delivered", scenarios::redirected_slowly),
    (Sabotage::RememberMootDebts, "nothing_is_compared_with_a_node_that_left", scenarios::owed_to_one_that_left),
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

pub(super) fn founded(seed: u64, nodes: u64, bytes_max: u64) -> World {
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

pub(super) fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key {number}")).collect()
}

/// Writes keys at nodes 1 and 2 that node 3 does not hear of.
pub(super) fn miss(world: &mut World, names: &[String]) -> Result<(), String> {
    cut_off(world, 3);
    world.run_for(3_000_000);
    for (number, name) in names.iter().enumerate() {
        write(world, 1 + number as u64 % 2, name, Consistency::Quorum)?;
    }
    world.run_for(LONG_US);
    sound(world)
}

pub(super) fn sound(world: &mut World) -> Result<(), String> {
    world.wrong_hints().first().map_or(Ok(()), |wrong| Err(wrong.clone()))
}

pub(super) fn held(world: &World, name: &str) -> Vec<Option<Record>> {
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
        // After a crash it would get them by comparisons, too.
        if kept_and_owed(&world).0 < 3 {
            return Err(format!("seed {seed}: what is not durable at node 3 is not kept for it any more"));
        }
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
        // In order: after a crash all would be owed.
        world.begin_stop(node);
        world.run_for(100_000);
        world.kill(node);
        world.start(node);
    }
    world.heal_links();
    world.run_for(20_000_000);
    all_equal(&mut world, &names)?;
    nothing_left(&world)
}

/// A coordinator has its write acknowledged, and its power goes before it knows that node 3 has missed it.
fn crashed_before_the_first_retry() -> Result<(), String> {
    (0..4).try_for_each(|seed| {
        let mut world = founded(seed, 3, PLENTY);
        world.cut(NodeId(1), NodeId(3));
        world.cut(NodeId(2), NodeId(3));
        write(&mut world, 1, "key 0", Consistency::Quorum)?;
        world.crash(NodeId(1));
        world.heal_links();
        world.start(NodeId(1));
        world.run_for(20_000_000);
        all_equal(&mut world, &names(1))
            .and_then(|()| nothing_left(&world))
            .map_err(|what| format!("seed {seed}: {what}"))
    })
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

/// All of it takes eight seconds at the rate that is allowed.
fn delivered_slowly() -> Result<(), String> {
    let mut world = founded(1, 3, PLENTY);
    let kept = |world: &World| -> u64 { [1, 2].map(|node| world.hints(NodeId(node)).bytes).iter().sum() };
    miss(&mut world, &names(200))?;
    let before = kept(&world);
    assert!(before > 15_000, "{before}");
    world.bound_hints(PLENTY, 1_000);
    world.heal_links();
    world.run_for(5_000_000);
    let delivered = before - kept(&world);
    if !(1_000..12_000).contains(&delivered) {
        return Err(format!("{delivered} of {before} bytes in five seconds, from two nodes at a thousand each"));
    }
    world.run_for(20_000_000);
    all_equal(&mut world, &names(200))
}
