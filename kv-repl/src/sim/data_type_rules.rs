//! Rules of replicated data types as scenarios: right with the rule on, and wrong with it off.

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::context::CausalContext;
use kv_core::crdt::{Crdt, Kind, Update, UpdateRefused};
use kv_core::key::{Key, RecordKey};
use kv_core::record::OperationId;

use super::rules::{Scenario, search};
use super::*;
use crate::quorum::Consistency;
use crate::request::{Attempt, Get, Modify, Read, WriteError, Written};
use crate::table_options::TableOptions;

/// Every switch, and the scenario that it must break.
const RULES: &[(Sabotage, &str, Scenario)] = &[
    (Sabotage::CountRetriedUpdates, "lesson_16_a_retried_increment_counts_once", retried_at_the_same_replica),
    (
        Sabotage::CountRetriedUpdates,
        "lesson_16_an_increment_retried_after_many_others_counts_once",
        retried_after_many_others,
    ),
    (
        Sabotage::CountRetriedUpdates,
        "protocol_rule_10_a_retry_that_nobody_can_vouch_for_is_ambiguous",
        retried_at_another_replica,
    ),
    (Sabotage::KeepActorAfterCrash, "lesson_16_lesson_03_a_counter_goes_on_after_a_crash", counted_through_a_crash),
    (
        Sabotage::ClearUnseen,
        "protocol_rule_18_lesson_16_a_delete_removes_only_what_it_observed",
        deleted_with_an_old_context,
    ),
    (Sabotage::RemoveByDelta, "protocol_rule_18_an_acknowledged_removal_holds_whatever_happened_before", removed_twice),
    (
        Sabotage::OfferNothing,
        "protocol_rule_18_an_acknowledged_offer_is_topped_wherever_it_was_acknowledged",
        offered_less,
    ),
    (Sabotage::CountRetriedUpdates, "protocol_rule_10_chaos_counts_nothing_twice", counting_in_chaos),
    (
        Sabotage::SpendWithoutBudget,
        "removals_that_wait_for_other_replicas_ask_again_within_a_budget",
        removed_while_nobody_answers,
    ),
];

#[test]
fn every_rule_of_data_types_holds() {
    for (_, name, scenario) in RULES {
        assert_eq!(scenario(), Ok(()), "{name}");
    }
}

#[test]
fn every_rule_of_data_types_is_missed_when_it_is_off() {
    for (sabotage, name, scenario) in RULES {
        let noticed = sabotage.during(scenario);
        assert!(noticed.is_err(), "{name} does not notice {sabotage:?}");
    }
}

/// Longer than any request keeps asking.
pub(super) const LONG_US: u64 = 4_000_000;

pub(super) fn founded(seed: u64, nodes: u64) -> World {
    let mut world = World::new(seed, nodes, NetworkFaults::default(), 5, Box::new(MemStores::new()));
    let table = |kind| TableOptions::crdt(kind).replicas(3);
    world.found(&[
        ("counters", table(Kind::Counter)),
        ("sets", table(Kind::Set)),
        ("notes", table(Kind::MvRegister)),
        ("peaks", table(Kind::MaxRegister)),
    ]);
    // Everybody serves.
    world.run_for(2_000_000);
    world
}

pub(super) fn key_in(world: &World, table: &str, name: &str) -> RecordKey {
    RecordKey::new(world.table(table).expect("a table").id, &Key::from(name)).expect("a short key")
}

/// A key that a node does not hold, and who does.
pub(super) fn elsewhere(world: &World, table: &str, node: NodeId) -> (RecordKey, Vec<NodeId>) {
    let schema = world.table(table).expect("a table");
    let keys = (0..).map(|number| key_in(world, table, &format!("key {number}")));
    let mut placed = keys.map(|key| (schema.replicas_of(key.token()).to_vec(), key));
    let (replicas, key) = placed.find(|(replicas, _)| !replicas.contains(&node)).expect("some key lies elsewhere");
    (key, replicas)
}

pub(super) fn change_of(world: &mut World, table: &str, update: Update, context: Option<&CausalContext>) -> Modify {
    Modify {
        key: key_in(world, table, "k"),
        update,
        context: context.cloned(),
        after: None,
        operation: OperationId(world.random.u128(..)),
        attempt: Attempt::First,
        consistency: Consistency::Quorum,
        strict: false,
    }
}

pub(super) fn make(world: &mut World, node: u64, modify: &Modify) -> Result<Written, WriteError> {
    let request = world.modify(NodeId(node), modify.clone());
    match world.finish(request) {
        Answer::Written(outcome) => outcome,
        other => panic!("a change has ended as {other:?}"),
    }
}

pub(super) fn change(world: &mut World, node: u64, table: &str, update: Update) -> Written {
    let modify = change_of(world, table, update, None);
    make(world, node, &modify).expect("a healthy quorum takes a change")
}

fn read(world: &mut World, node: u64, table: &str) -> Read {
    let get = Get { key: key_in(world, table, "k"), consistency: Consistency::Quorum, floor: None };
    let request = world.get(NodeId(node), get);
    match world.finish(request) {
        Answer::Read(Ok(read)) => read,
        other => panic!("a read has ended as {other:?}"),
    }
}

fn count(world: &mut World, node: u64) -> i128 {
    read(world, node, "counters").counter().expect("a table of counters")
}

pub(super) fn elements(world: &mut World, node: u64) -> Vec<Bytes> {
    let read = read(world, node, "sets");
    read.set().expect("a table of sets").into_iter().cloned().collect()
}

pub(super) fn insert(element: &'static str) -> Update {
    Update::Insert(Bytes::from_static(element.as_bytes()))
}

pub(super) fn remove(element: &'static str) -> Update {
    Update::Remove(Bytes::from_static(element.as_bytes()))
}

pub(super) const AGAIN: Attempt = Attempt::Again { asked: None };

fn counts(world: &mut World, node: u64, expected: i128) -> Result<(), String> {
    match count(world, node) {
        counted if counted == expected => Ok(()),
        counted => Err(format!("{counted} instead of {expected}")),
    }
}

pub(super) fn cut_off(world: &mut World, node: u64) {
    for other in world.nodes().into_iter().filter(|other| *other != NodeId(node)) {
        world.cut(NodeId(node), other);
        world.cut(other, NodeId(node));
    }
}

/// A client does not hear that it was counted, and asks again: where it asked before, and where the change has arrived.
fn retried_at_the_same_replica() -> Result<(), String> {
    let mut world = founded(1, 3);
    let first = change_of(&mut world, "counters", Update::Add(1), None);
    make(&mut world, 1, &first).expect("a healthy cluster counts");
    world.run_for(100_000);
    for (node, attempt) in [(1, AGAIN), (1, Attempt::First), (2, AGAIN), (3, Attempt::First)] {
        let again = Modify { attempt, ..first.clone() };
        make(&mut world, node, &again).expect("it is known there");
        world.run_for(50_000);
    }
    counts(&mut world, 2, 1)
}

/// The record names the last few operations of an actor only; the replica that made them remembers more.
fn retried_after_many_others() -> Result<(), String> {
    let mut world = founded(1, 3);
    let first = change_of(&mut world, "counters", Update::Add(1), None);
    make(&mut world, 1, &first).expect("a healthy cluster counts");
    for _ in 0..20 {
        change(&mut world, 1, "counters", Update::Add(100));
    }
    make(&mut world, 1, &Modify { attempt: AGAIN, ..first }).expect("it is known there");
    counts(&mut world, 2, 2001)
}

/// A replica counts, and is cut off before anybody has heard of it; its client asks another one again.
fn retried_at_another_replica() -> Result<(), String> {
    let mut world = founded(2, 3);
    change(&mut world, 2, "counters", Update::Add(100));
    world.run_for(100_000);
    cut_off(&mut world, 1);
    let first = change_of(&mut world, "counters", Update::Add(1), None);
    let lost = make(&mut world, 1, &first);
    assert!(matches!(lost, Err(WriteError::Ambiguous { acknowledged: 1, .. })), "{lost:?}");
    let again = make(&mut world, 2, &Modify { attempt: AGAIN, ..first });
    world.heal_links();
    world.run_for(LONG_US);
    // Whoever reads from everybody has it once.
    let key = key_in(&world, "counters", "k");
    let request = world.get(NodeId(3), Get { key, consistency: Consistency::All, floor: None });
    assert!(matches!(world.finish(request), Answer::Read(Ok(_))));
    counts(&mut world, 3, 101)?;
    match again {
        Err(WriteError::Ambiguous { acknowledged: 0, required: 2, .. }) => Ok(()),
        other => Err(format!("nobody could know: {other:?}")),
    }
}

/// A replica counts, spreads it, and forgets it in a crash; then it counts again.
fn counted_through_a_crash() -> Result<(), String> {
    (0..8).try_for_each(|seed| {
        let mut world = founded(seed, 3);
        change(&mut world, 1, "counters", Update::Add(1));
        world.set_sync(NodeId(1), u64::MAX / 4);
        world.run_for(5_000);
        let second = change_of(&mut world, "counters", Update::Add(10), None);
        world.modify(NodeId(1), second);
        world.run_for(100_000);
        world.crash(NodeId(1));
        world.set_sync(NodeId(1), 1_000);
        world.start(NodeId(1));
        world.run_for(2_000_000);
        change(&mut world, 1, "counters", Update::Add(100));
        counts(&mut world, 2, 111).map_err(|what| format!("seed {seed}: {what}"))
    })
}

/// Somebody deletes what was there when it looked; others have gone on.
fn deleted_with_an_old_context() -> Result<(), String> {
    let mut world = founded(1, 3);
    change(&mut world, 1, "counters", Update::Add(1));
    change(&mut world, 1, "sets", insert("milk"));
    let counted = read(&mut world, 3, "counters").context().clone();
    let stored = read(&mut world, 3, "sets").context().clone();
    change(&mut world, 2, "counters", Update::Add(10));
    change(&mut world, 2, "sets", insert("bread"));
    world.run_for(100_000);
    for (table, context) in [("counters", &counted), ("sets", &stored)] {
        let delete = change_of(&mut world, table, Update::Clear, Some(context));
        make(&mut world, 3, &delete).expect("a healthy cluster deletes");
    }
    counts(&mut world, 2, 10)?;
    match elements(&mut world, 1) {
        held if held == ["bread"] => {}
        held => return Err(format!("bread was put in later: {held:?}")),
    }
    // Again, by a client that has seen all; then it counts from the start.
    change(&mut world, 1, "counters", Update::Clear);
    change(&mut world, 1, "counters", Update::Add(5));
    counts(&mut world, 3, 5)
}

/// A removal that reaches nobody else, and then another one of the same element at the same replica, which is acknowledged.
fn removed_twice() -> Result<(), String> {
    let mut world = founded(2, 3);
    let written = change(&mut world, 2, "sets", insert("milk"));
    world.run_for(100_000);
    cut_off(&mut world, 1);
    let first = change_of(&mut world, "sets", remove("milk"), None);
    let lost = make(&mut world, 1, &first);
    assert!(matches!(lost, Err(WriteError::Ambiguous { acknowledged: 1, .. })), "{lost:?}");
    world.run_for(LONG_US);
    world.heal_links();
    cut_off(&mut world, 3);
    world.run_for(LONG_US);
    let second = change_of(&mut world, "sets", remove("milk"), Some(&written.context));
    make(&mut world, 1, &second).expect("two of three are connected");
    world.heal_links();
    cut_off(&mut world, 1);
    world.run_for(LONG_US);
    match elements(&mut world, 3) {
        held if held.is_empty() => Ok(()),
        held => Err(format!("what was removed is back: {held:?}")),
    }
}

/// An offer that reaches nobody else, and then a lesser one at the same replica, which is acknowledged.
fn offered_less() -> Result<(), String> {
    let mut world = founded(2, 3);
    cut_off(&mut world, 1);
    let greater = change_of(&mut world, "peaks", Update::Offer(9), None);
    let lost = make(&mut world, 1, &greater);
    assert!(matches!(lost, Err(WriteError::Ambiguous { acknowledged: 1, .. })), "{lost:?}");
    world.run_for(LONG_US);
    world.heal_links();
    cut_off(&mut world, 3);
    world.run_for(LONG_US);
    let lesser = change_of(&mut world, "peaks", Update::Offer(5), None);
    make(&mut world, 1, &lesser).expect("two of three are connected");
    world.heal_links();
    cut_off(&mut world, 1);
    world.run_for(LONG_US);
    match read(&mut world, 3, "peaks").number().expect("a table of max registers") {
        Some(5..) => Ok(()),
        held => Err(format!("5 was acknowledged, and what is held is {held:?}")),
    }
}

fn counting_in_chaos() -> Result<(), String> {
    search(0..40, |seed| Options {
        chaos_every_ms: 150,
        duration_ms: 10_000,
        clients: 9,
        keys: 1,
        ..Options::from_seed(seed)
    })
}

// ---- rules without a switch of their own ----

/// Many removals of what node 1 has not seen, while nobody tells it.
fn removed_while_nobody_answers() -> Result<(), String> {
    let mut world = founded(2, 3);
    cut_off(&mut world, 1);
    change(&mut world, 2, "sets", insert("tea"));
    let seen = read(&mut world, 2, "sets");
    world.heal_links();
    world.run_for(LONG_US);
    for node in [2, 3] {
        world.pause(NodeId(node), 20_000_000);
    }
    let extra = |world: &World| world.status(NodeId(1)).expect("it is up").extra;
    let (before, begun) = (extra(&world), world.now_us());
    let removals: Vec<u64> = (0..100)
        .map(|_| {
            let removal = change_of(&mut world, "sets", remove("tea"), Some(seen.context()));
            world.modify(NodeId(1), removal)
        })
        .collect();
    for removal in removals {
        let answer = world.finish(removal);
        assert!(matches!(answer, Answer::Written(Err(_))), "{answer:?}");
    }
    let (after, seconds) = (extra(&world), (world.now_us() - begun).div_ceil(1_000_000));
    let (needed, retries) = (after.needed - before.needed, after.retries - before.retries);
    assert!(needed >= 200, "each asks two others: {needed}");
    // A tenth, ten a second, and what is saved at first.
    let allowed = needed / 10 + 10 * seconds + 100;
    if retries > allowed { Err(format!("{retries} messages again for {needed} in {seconds} s")) } else { Ok(()) }
}

#[test]
fn a_removal_by_somebody_who_has_seen_more_waits_until_its_replica_has_caught_up() {
    let mut world = founded(2, 3);
    cut_off(&mut world, 3);
    let written = change(&mut world, 1, "sets", insert("milk"));
    world.run_for(LONG_US);
    world.heal_links();
    world.run_for(2_000_000);
    assert_eq!(world.record_at(NodeId(3), &key_in(&world, "sets", "k")), None, "nobody asks it again");
    let removal = change_of(&mut world, "sets", remove("milk"), Some(&written.context));
    make(&mut world, 3, &removal).expect("it asks the others");
    assert!(elements(&mut world, 2).is_empty());
    // With nobody to ask, nothing is written.
    cut_off(&mut world, 3);
    let written = change(&mut world, 1, "sets", insert("milk"));
    let removal = change_of(&mut world, "sets", remove("milk"), Some(&written.context));
    let refused = make(&mut world, 3, &Modify { consistency: Consistency::One, ..removal });
    assert_eq!(refused, Err(WriteError::Update(UpdateRefused::ContextAhead)));
    assert_eq!(elements(&mut world, 1), ["milk"]);
}

#[test]
fn a_write_of_a_register_replaces_what_its_writer_had_seen() {
    let mut world = founded(1, 3);
    let value = |text: &'static str| Update::Write(Bytes::from_static(text.as_bytes()));
    change(&mut world, 1, "notes", value("first"));
    let seen = read(&mut world, 1, "notes").context().clone();
    for text in ["left", "right"] {
        let write = change_of(&mut world, "notes", value(text), Some(&seen));
        make(&mut world, 2, &write).expect("a healthy cluster writes");
    }
    let both = read(&mut world, 3, "notes");
    let mut values: Vec<_> = both.register().unwrap().into_iter().cloned().collect();
    values.sort();
    assert_eq!(values, ["left", "right"], "neither writer had seen the other");
    let write = change_of(&mut world, "notes", value("one"), Some(both.context()));
    make(&mut world, 3, &write).expect("a healthy cluster writes");
    assert_eq!(read(&mut world, 1, "notes").register().unwrap(), ["one"]);
}

/// A client does not hear of its write, and asks again: where it asked before, and where nobody has heard of it.
#[test]
fn a_write_of_a_register_that_is_asked_for_again_does_not_stand_beside_itself() {
    let mut world = founded(2, 3);
    let seen = change(&mut world, 1, "notes", Update::Write(Bytes::from_static(b"first"))).context;
    world.run_for(100_000);
    cut_off(&mut world, 1);
    let write = change_of(&mut world, "notes", Update::Write(Bytes::from_static(b"second")), Some(&seen));
    let again = Modify { attempt: AGAIN, ..write.clone() };
    let lost = make(&mut world, 1, &write);
    assert!(matches!(lost, Err(WriteError::Ambiguous { acknowledged: 1, .. })), "{lost:?}");
    make(&mut world, 1, &Modify { consistency: Consistency::One, ..again.clone() }).expect("it is one");
    make(&mut world, 2, &again).expect("two of three are connected");
    let held = world.record_at(NodeId(1), &key_in(&world, "notes", "k")).expect("it was written there");
    let Some(Crdt::MvRegister(register)) = held.crdt() else { panic!("a table of registers") };
    assert_eq!(register.values(), ["second"]);
    world.heal_links();
    world.run_for(LONG_US);
    for node in [1, 2, 3] {
        assert_eq!(read(&mut world, node, "notes").register().unwrap(), ["second"]);
    }
}

/// Of those that could tell more, one holds nothing and the other is away: there is nothing to wait for.
#[test]
fn a_replica_that_holds_nothing_answers_somebody_who_is_behind_all_the_same() {
    let mut world = founded(2, 3);
    let written = change(&mut world, 1, "sets", insert("milk"));
    let elsewhere = key_in(&world, "sets", "another");
    let seen = written.context.open(&key_in(&world, "sets", "k")).expect("it is of this key");
    let context = CausalContext::seal(&elsewhere, &seen);
    let removal = Modify { key: elsewhere, ..change_of(&mut world, "sets", remove("milk"), Some(&context)) };
    let begun = world.now_us();
    let refused = make(&mut world, 1, &removal);
    assert_eq!(refused, Err(WriteError::Update(UpdateRefused::ContextAhead)));
    assert!(world.now_us() - begun < 500_000, "both others have said that they hold nothing");
}

/// Whoever adds to a counter has not seen what others have counted at the same replica.
#[test]
fn protocol_rule_18_a_delete_by_somebody_who_has_only_counted_removes_nothing() {
    let mut world = founded(1, 3);
    change(&mut world, 1, "counters", Update::Add(10));
    let written = change(&mut world, 1, "counters", Update::Add(1));
    let delete = change_of(&mut world, "counters", Update::Clear, Some(&written.context));
    make(&mut world, 1, &delete).expect("a healthy cluster deletes");
    assert_eq!(count(&mut world, 2), 11);
}

/// A node that holds no replica remembers whom it has asked; the first attempt was lost on its way there.
#[test]
fn protocol_rule_10_a_retry_is_made_where_the_first_attempt_never_arrived() {
    let mut world = founded(2, 4);
    let (key, replicas) = elsewhere(&world, "counters", NodeId(4));
    let preferred = replicas[0];
    let first = Modify { key: key.clone(), ..change_of(&mut world, "counters", Update::Add(1), None) };
    world.cut(NodeId(4), preferred);
    let lost = make(&mut world, 4, &first);
    assert!(matches!(lost, Err(WriteError::Ambiguous { acknowledged: 0, .. })), "{lost:?}");
    world.heal_links();
    world.run_for(2_000_000);
    let again = Modify { attempt: AGAIN, ..first };
    make(&mut world, 4, &again).expect("nobody else can have made it");
    make(&mut world, 4, &again).expect("it is known");
    let request = world.get(NodeId(4), Get { key, consistency: Consistency::Quorum, floor: None });
    let Answer::Read(Ok(read)) = world.finish(request) else { panic!("a healthy cluster reads") };
    assert_eq!(read.counter(), Ok(1));
}
