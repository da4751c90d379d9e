//! Rules of forgetting (rules 5, 7 and 8): what is deleted goes once every replica knows, and stays deleted.

mod lives;
mod stage;

use kv_core::NodeId;
use kv_core::key::{Key, RecordKey};
use kv_core::record::Record;
use kv_core::time::Millis;

use self::lives::{
    raised_while_one_crashes, replaced_after_a_floor, replaced_and_cut_off_at_once, started_anew_unnoticed,
};
use self::stage::*;
use super::rules::{Scenario, key_of, put_of, values};
use super::*;
use crate::comparison::Place;
use crate::message::Message;
use crate::quorum::Consistency;
use crate::request::{Get, Put};
use crate::table_options::TableOptions;
use crate::wire::{FrameWriter, Header};

/// Every switch, and the scenario that it must break.
const RULES: &[(Sabotage, &str, Scenario)] = &[
    (
        Sabotage::PurgeUnconfirmed,
        "lesson_05_a_node_that_is_away_holds_back_what_is_forgotten",
        deleted_while_one_is_away,
    ),
    (
        Sabotage::PromiseOverHints,
        "lesson_06_a_floor_stays_below_the_oldest_hint_of_every_node",
        deleted_while_a_hint_is_kept,
    ),
    (
        Sabotage::RaiseAfterOnePass,
        "protocol_rule_07_what_one_replica_has_is_at_all_before_a_place_is_settled",
        deleted_at_the_last_that_is_asked,
    ),
    (
        Sabotage::PurgeAtOnce,
        "protocol_rule_07_a_delete_outlives_what_it_replaced_whatever_the_clocks",
        deleted_by_a_slow_clock,
    ),
    (
        Sabotage::TakeBelowFloor,
        "protocol_rule_07_what_was_read_before_a_delete_was_forgotten_is_refused",
        read_before_it_was_forgotten,
    ),
    (
        Sabotage::MintBelowPromise,
        "protocol_rule_07_a_clock_that_goes_back_mints_nothing_below_the_floor",
        clock_goes_back,
    ),
    (Sabotage::CountAnew, "protocol_rule_05_an_old_context_never_covers_a_value_that_came_later", context_of_before),
    (
        Sabotage::MixLives,
        "protocol_rule_07_a_place_is_settled_among_lives_that_know_each_other",
        started_anew_unnoticed,
    ),
    (
        Sabotage::ImportWithoutFloor,
        "protocol_rule_08_a_new_storage_knows_the_floor_before_it_counts",
        replaced_after_a_floor,
    ),
    (
        Sabotage::RiseWhileImporting,
        "protocol_rule_08_a_new_storage_takes_in_what_was_settled_before_it_is_settled",
        replaced_and_cut_off_at_once,
    ),
    (Sabotage::LeaveBehind, "protocol_rule_07_one_that_misses_a_raise_is_told_of_it", raised_while_one_crashes),
];

#[test]
fn every_rule_of_forgetting_holds() {
    for (_, name, scenario) in RULES {
        assert_eq!(scenario(), Ok(()), "{name}");
    }
}

#[test]
fn every_rule_of_forgetting_is_missed_when_it_is_off() {
    for (sabotage, name, scenario) in RULES {
        let noticed = sabotage.during(scenario);
        assert!(noticed.is_err(), "{name} does not notice {sabotage:?}");
    }
}

/// The value is at all three, the delete at two.
fn deleted_while_one_is_away() -> Result<(), String> {
    let mut world = siblings();
    put(&mut world, 1, "k", "value", Consistency::All);
    cut_off(&mut world, 3);
    delete(&mut world, 1, "k", None, Consistency::Quorum);
    world.run_for(15 * SECOND_US);
    if held(&world, "k").iter().any(Option::is_none) {
        return Err("the delete was forgotten while node 3 had not heard of it".to_owned());
    }
    let status = world.status(NodeId(1)).expect("it runs").purge;
    assert!(status.held_back > 0 && status.held_back_by == [NodeId(3)], "{status:?}");
    world.heal_links();
    forgotten(&mut world, "k")?;
    assert_eq!(world.status(NodeId(1)).expect("it runs").purge.held_back, 0);
    match values(&mut world, 3, "k") {
        Ok(values) if values.is_empty() => Ok(()),
        other => Err(format!("what was deleted is read: {other:?}")),
    }
}

/// Node 2 keeps the value for node 3, while the delete is everywhere.
fn deleted_while_a_hint_is_kept() -> Result<(), String> {
    let mut world = founded(3, TableOptions::last_write_wins());
    world.bound_hints(1 << 20, 1 << 20);
    world.cut(NodeId(2), NodeId(3));
    put(&mut world, 2, "k", "value", Consistency::Quorum);
    world.run_for(LONG_US);
    delete(&mut world, 1, "k", None, Consistency::All);
    let place = place_of(&world, "k");
    let birth = world.oldest_hint(NodeId(2), place).expect("node 2 keeps a hint");
    for _ in 0..100 {
        world.run_for(SECOND_US / 10);
        sound(&world)?;
    }
    assert!(world.settled(&key_of(&world, "k")) < birth, "or it would be unsound");
    world.heal_links();
    forgotten(&mut world, "k")
}

/// Two names in one place.
fn neighbours(world: &World) -> [String; 2] {
    let mut first_of: std::collections::BTreeMap<Place, String> = std::collections::BTreeMap::new();
    for number in 0..1000 {
        let name = format!("key {number}");
        if let Some(first) = first_of.insert(place_of(world, &name), name.clone()) {
            return [first, name];
        }
    }
    panic!("sixteen partitions and a thousand keys");
}

/// Only the replica that is compared last holds the delete.
fn deleted_at_the_last_that_is_asked() -> Result<(), String> {
    let mut world = siblings();
    let [name, other] = neighbours(&world);
    let table = world.table("carts").expect("a table");
    let replicas = table.replicas_of(key_of(&world, &name).token()).to_vec();
    let last = *replicas.iter().rfind(|node| **node != NodeId(1)).expect("three replicas");
    put(&mut world, 1, &name, "value", Consistency::All);
    // The one that leads looks at its own: there is something else.
    put(&mut world, 1, &other, "value", Consistency::All);
    cut_off(&mut world, last.0);
    delete(&mut world, last.0, &name, None, Consistency::One);
    world.run_for(LONG_US);
    world.heal_links();
    world.run_for(2 * SECOND_US);
    delete(&mut world, 1, &other, None, Consistency::All);
    forgotten(&mut world, &name)?;
    forgotten(&mut world, &other)
}

/// A name of which node 4 holds nothing, and its replicas.
fn elsewhere(world: &World) -> (String, [NodeId; 3]) {
    let table = world.table("carts").expect("a table");
    let placed = (0..1000).map(|number| {
        let name = format!("key {number}");
        let replicas = table.replicas_of(key_of(world, &name).token());
        (name, <[NodeId; 3]>::try_from(replicas).expect("three replicas"))
    });
    placed.into_iter().find(|(_, replicas)| !replicas.contains(&NodeId(4))).expect("three of four hold each key")
}

/// Node 4 reads a value that two replicas hold, and does nothing for a while with what the third one answers, which lacks it. It
/// will write it there.
fn asleep_over_a_read(world: &mut World, name: &str, lacking: NodeId, asleep_us: u64) {
    world.cut(lacking, NodeId(4));
    let get = Get { key: key_of(world, name), consistency: Consistency::All, floor: None };
    world.get(NodeId(4), get);
    world.run_for(50_000);
    world.heal_links();
    let asked = world.request_messages(NodeId(4), lacking);
    // It is asked again, for its record.
    while world.request_messages(NodeId(4), lacking) == asked {
        world.step();
    }
    world.pause(NodeId(4), asleep_us);
    world.run_for(2 * SECOND_US);
}

/// The clock of a replica is twenty seconds ahead. A client has what was written there deleted by another one, which has not heard of it,
/// and whose clock is right.
fn deleted_by_a_slow_clock() -> Result<(), String> {
    let mut world = founded(4, TableOptions::siblings());
    let (name, [ahead, _, behind]) = elsewhere(&world);
    world.set_skew(ahead, 20_000);
    world.cut(ahead, behind);
    let written = put(&mut world, ahead.0, &name, "value", Consistency::Quorum);
    world.run_for(LONG_US);
    asleep_over_a_read(&mut world, &name, behind, 10 * SECOND_US);
    let deleted = delete(&mut world, behind.0, &name, Some(written.context.clone()), Consistency::All);
    assert!(deleted.birth < written.birth, "{deleted:?} after {written:?}");
    for _ in 0..15 {
        world.run_for(SECOND_US);
        match values(&mut world, behind.0, &name) {
            Ok(values) if values.is_empty() => {}
            other => return Err(format!("what was deleted is read: {other:?}")),
        }
    }
    forgotten(&mut world, &name)
}

/// A node has read a value, and writes it to a replica that lacked it then.
fn read_before_it_was_forgotten() -> Result<(), String> {
    let mut world = founded(4, TableOptions::siblings());
    let (name, [writer, _, lacking]) = elsewhere(&world);
    world.cut(writer, lacking);
    put(&mut world, writer.0, &name, "value", Consistency::Quorum);
    world.run_for(LONG_US);
    asleep_over_a_read(&mut world, &name, lacking, 20 * SECOND_US);
    delete(&mut world, writer.0, &name, None, Consistency::All);
    forgotten(&mut world, &name)?;
    world.run_for(25 * SECOND_US);
    match values(&mut world, writer.0, &name) {
        Ok(values) if values.is_empty() && is_forgotten(&world, &name) => sound(&world),
        other => Err(format!("what was deleted is back: {other:?}, {:?}", held(&world, &name))),
    }
}

/// The clock of node 2 goes back behind what it has promised, by less than it may run ahead.
fn clock_goes_back() -> Result<(), String> {
    let mut world = siblings();
    put(&mut world, 1, "k", "value", Consistency::All);
    delete(&mut world, 1, "k", None, Consistency::All);
    forgotten(&mut world, "k")?;
    let (promised, level) = world.floor(NodeId(2), place_of(&world, "k")).expect("it runs");
    assert_eq!(promised, level.settled, "the round is over");
    world.set_skew(NodeId(2), world.skew_to(NodeId(2), Millis(promised.wall().0 - 200)));
    let again = put_of(&mut world, "k", "again", None);
    match write(&mut world, 2, again) {
        Ok(written) if written.birth > promised => sound(&world),
        other => Err(format!("a write after {promised:?} has ended as {other:?}")),
    }
}

/// A client remembers what it saw of a key before it was deleted and forgotten, and that somebody has written since it has not seen.
fn context_of_before() -> Result<(), String> {
    let mut world = siblings();
    let mut context = None;
    for value in ["one", "two", "three"] {
        let put = Put { consistency: Consistency::All, ..put_of(&mut world, "k", value, context) };
        context = Some(write(&mut world, 1, put).expect("all are up").context);
    }
    delete(&mut world, 1, "k", context.clone(), Consistency::All);
    forgotten(&mut world, "k")?;
    put(&mut world, 1, "k", "new", Consistency::All);
    let old = put_of(&mut world, "k", "by an old client", context);
    write(&mut world, 2, old).expect("all are up");
    let read = read(&mut world, 3, "k");
    let read = read.values();
    if read.len() == 2 { sound(&world) } else { Err(format!("a value was replaced by who had not seen it: {read:?}")) }
}

// ---- rules without a switch of their own ----

#[test]
fn what_is_forgotten_takes_no_room() {
    for options in [TableOptions::siblings(), TableOptions::last_write_wins()] {
        let mut world = founded(3, options);
        let names: Vec<String> = (0..40).map(|number| format!("key {number}")).collect();
        for name in &names {
            put(&mut world, 1, name, "value", Consistency::Quorum);
            delete(&mut world, 2, name, None, Consistency::Quorum);
        }
        put(&mut world, 1, "stays", "value", Consistency::Quorum);
        for name in &names {
            assert_eq!(forgotten(&mut world, name), Ok(()));
        }
        assert!(world.nodes().into_iter().all(|node| world.stored_records(node) == 1));
        let dropped: Vec<u64> = purges(&world).iter().map(|purge| purge.records).collect();
        assert_eq!(dropped, [40, 40, 40]);
        assert_eq!(values(&mut world, 3, "stays").expect("all are up"), ["value"]);
        // Nothing is left to be done, and nothing is.
        world.run_for(10 * SECOND_US);
        let before = purges(&world);
        world.run_for(20 * SECOND_US);
        assert_eq!(purges(&world), before);
    }
}

/// The replicas hardly ever hold the same of it.
#[test]
fn a_place_with_a_key_that_is_written_a_thousand_times_a_second_is_settled() {
    let mut world = founded(3, TableOptions::last_write_wins());
    let [name, other] = neighbours(&world);
    put(&mut world, 1, &name, "value", Consistency::All);
    delete(&mut world, 1, &name, None, Consistency::All);
    let began = world.now_us();
    for node in (1..=3).cycle() {
        let write = Put { consistency: Consistency::One, ..put_of(&mut world, &other, "value", None) };
        world.put(NodeId(node), write);
        world.run_for(1_000);
        assert!(world.now_us() < began + 30 * SECOND_US, "{:?}, {:?}", held(&world, &name), purges(&world));
        if is_forgotten(&world, &name) {
            break;
        }
    }
    assert_eq!(sound(&world), Ok(()));
}

#[test]
fn what_has_expired_is_forgotten_alike_whatever_the_clocks() {
    let mut world = siblings();
    world.set_skew(NodeId(3), 120_000);
    let short = put_of(&mut world, "k", "short-lived", None);
    let short = Put { ttl: Some(Millis(30_000)), consistency: Consistency::All, ..short };
    write(&mut world, 1, short).expect("all are up");
    world.run_for(20 * SECOND_US);
    assert!(held(&world, "k").iter().all(Option::is_some), "to node 3 alone it has expired");
    world.run_for(8 * SECOND_US);
    assert_eq!(forgotten(&mut world, "k"), Ok(()));
    assert_eq!(values(&mut world, 3, "k").expect("all are up"), Vec::<bytes::Bytes>::new());
}

/// Hands node 1 a change as from node 2.
fn arrive(world: &mut World, key: &RecordKey, record: &Record) {
    let (me, from) = (world.status(NodeId(1)).expect("it runs"), world.status(NodeId(2)).expect("it runs"));
    let header = Header {
        cluster: me.cluster,
        from: NodeId(2),
        from_incarnation: from.incarnation,
        from_boot: from.boot,
        to_incarnation: me.incarnation,
        to_boot: me.boot,
    };
    let mut frame = FrameWriter::new(&header);
    assert!(frame.push(&Message::Write { tag: 1, epoch: 1, key: key.clone(), record: record.to_bytes() }, usize::MAX));
    world.inject(NodeId(2), NodeId(1), frame.finish());
    world.run_for(100_000);
}

#[test]
fn lesson_04_a_late_tombstone_does_not_swallow_a_key_that_was_created_again() {
    for options in [TableOptions::siblings(), TableOptions::last_write_wins()] {
        let mut world = founded(3, options);
        put(&mut world, 1, "k", "value", Consistency::All);
        let key = key_of(&world, "k");
        let value = world.record_at(NodeId(1), &key).expect("it was written");
        delete(&mut world, 1, "k", None, Consistency::All);
        let tombstone = world.record_at(NodeId(1), &key).expect("it is kept for a while");
        assert_eq!(forgotten(&mut world, "k"), Ok(()));
        for late in [&value, &tombstone] {
            arrive(&mut world, &key, late);
            assert!(is_forgotten(&world, "k"), "{late:?}");
        }
        put(&mut world, 1, "k", "again", Consistency::All);
        for late in [&value, &tombstone, &value.join(&tombstone).expect("one rule")] {
            arrive(&mut world, &key, late);
            let read = read(&mut world, 3, "k");
            assert_eq!(read.values(), ["again"], "{late:?}");
        }
        assert_eq!(sound(&world), Ok(()));
    }
}

#[test]
fn a_session_reads_on_after_what_it_saw_was_forgotten() {
    use crate::seen::{Floor, Seen};
    for options in [TableOptions::siblings(), TableOptions::last_write_wins()] {
        let mut world = founded(3, options);
        put(&mut world, 1, "k", "value", Consistency::All);
        delete(&mut world, 1, "k", None, Consistency::All);
        let seen = Seen::of(read(&mut world, 2, "k").record().expect("a tombstone"));
        assert_eq!(forgotten(&mut world, "k"), Ok(()));
        let key = RecordKey::new(world.table("carts").expect("a table").id, &Key::from("k")).expect("a short key");
        let get = Get { key, consistency: Consistency::One, floor: Some(Floor { seen }) };
        let request = world.get(NodeId(3), get);
        let answer = world.finish(request);
        assert!(matches!(&answer, Answer::Read(Ok(read)) if read.is_absent()), "{answer:?}");
    }
}
