//! Rules of sloppy tables (lesson 08, rule P13) as scenarios: right with the rule on, and wrong with it off. Nobody compares replicas at
//! intervals in these worlds: what one has missed comes over as a hint.

use kv_core::NodeId;
use kv_core::crdt::{Kind, Update};
use kv_core::record::OperationId;

use super::hint_rules::{LONG_US, PLENTY, cut_off, nothing_left, sound};
use super::rules::{Scenario, key_of, put_of};
use super::*;
use crate::quorum::Consistency;
use crate::request::{Attempt, Get, Modify, Put, Read, ReadError, WriteError, Written};
use crate::session::state::{SessionState, Subject};
use crate::table_options::TableOptions;

/// Every switch, and the scenario that it must break.
const RULES: &[(Sabotage, &str, Scenario)] = &[
    (Sabotage::FallBackUnasked, "lesson_08_a_strict_table_has_no_fallbacks", written_to_a_strict_table),
    (Sabotage::NeverFallBack, "fallbacks_keep_a_write_and_bring_it_over", brought_over_without_the_coordinator),
    (
        Sabotage::TellFallbacksAsReplicas,
        "lesson_08_protocol_rule_13_who_may_be_missed_by_strict_reads_is_told_so",
        missed_by_a_strict_read,
    ),
    (Sabotage::CountUnsyncedHints, "protocol_rule_03_a_fallback_counts_when_its_hint_is_durable", kept_and_crashed),
    (Sabotage::CountShedHints, "a_fallback_without_room_does_not_count", kept_without_room),
    (Sabotage::FallBackTwice, "protocol_rule_13_a_node_stands_in_for_one_replica", one_for_two),
    (Sabotage::FallBackOnReplicas, "protocol_rule_13_a_replica_stands_in_for_none", replica_for_replica),
    (Sabotage::FallBackAnywhere, "protocol_rule_13_at_a_level_of_zones_fallbacks_are_of_the_zone", other_zone_away),
    (Sabotage::AnswerWithoutHolding, "one_replica_at_least_holds_what_is_acknowledged", held_by_nobody),
    (Sabotage::LetGoOfOldFallbacks, "a_fallback_keeps_a_write_until_it_is_brought_over", away_for_long),
    (Sabotage::SettleByFallbacks, "protocol_rule_17_a_session_reads_what_fallbacks_keep", read_in_a_session),
    (Sabotage::AdmitAll, "a_fallback_that_has_too_much_to_do_says_so", kept_by_the_busy),
];

#[test]
fn every_rule_of_sloppy_tables_holds() {
    for (_, name, scenario) in RULES {
        assert_eq!(scenario(), Ok(()), "{name}");
    }
}

#[test]
fn every_rule_of_sloppy_tables_is_missed_when_it_is_off() {
    for (sabotage, name, scenario) in RULES {
        let noticed = sabotage.during(scenario);
        assert!(noticed.is_err(), "{name} does not notice {sabotage:?}");
    }
}

/// A cluster in which three nodes hold the key "k": the first coordinates, the others may be cut off.
struct Stage {
    world: World,
    replicas: [NodeId; 3],
    others: Vec<NodeId>,
}

impl Stage {
    fn new(nodes: u64, options: TableOptions) -> Self {
        Self::from_seed(2, nodes, options)
    }

    fn from_seed(seed: u64, nodes: u64, options: TableOptions) -> Self {
        let mut world = World::new(seed, nodes, NetworkFaults::default(), 50, Box::new(MemStores::new()));
        world.bound_hints(PLENTY, PLENTY);
        world.found(&[("carts", options.replicas(3))]);
        world.run_for(1_000_000);
        let key = key_of(&world, "k");
        let table = world.table("carts").expect("a table");
        let replicas = <[NodeId; 3]>::try_from(table.replicas_of(key.token())).expect("three replicas");
        let others = world.nodes().into_iter().filter(|node| !replicas.contains(node)).collect();
        Self { world, replicas, others }
    }

    /// The same, and all replicas but the coordinator are cut off.
    fn alone(nodes: u64, options: TableOptions) -> Self {
        let mut stage = Self::new(nodes, options);
        stage.leave_alone();
        stage
    }

    fn leave_alone(&mut self) {
        let [_, away @ ..] = self.replicas;
        away.into_iter().for_each(|node| cut_off(&mut self.world, node.0));
        self.world.run_for(3_000_000);
    }

    fn sloppy(nodes: u64) -> Self {
        Self::alone(nodes, TableOptions::siblings().sloppy())
    }

    fn write(&mut self, put: Put) -> Result<Written, WriteError> {
        let request = self.world.put(self.replicas[0], put);
        match self.world.finish(request) {
            Answer::Written(outcome) => outcome,
            other => panic!("a write has ended as {other:?}"),
        }
    }

    fn put(&mut self, consistency: Consistency) -> Result<Written, WriteError> {
        let put = Put { consistency, ..put_of(&mut self.world, "k", "value", None) };
        self.write(put)
    }

    fn read(&mut self, node: NodeId, get: Get) -> Result<Read, ReadError> {
        let request = self.world.get(node, get);
        match self.world.finish(request) {
            Answer::Read(outcome) => outcome,
            other => panic!("a read has ended as {other:?}"),
        }
    }

    fn get(&mut self, node: NodeId) -> Result<Read, ReadError> {
        let get = Get { key: key_of(&self.world, "k"), consistency: Consistency::Quorum, floor: None };
        self.read(node, get)
    }

    /// The coordinator is gone for good, the other replicas are back, and nothing comes to them from elsewhere.
    fn back_by_themselves(&mut self) {
        let [gone, back @ ..] = self.replicas;
        self.world.crash(gone);
        self.world.heal_links();
        for other in self.others.clone() {
            back.iter().for_each(|node| {
                self.world.cut(other, *node);
                self.world.cut(*node, other);
            });
        }
        self.world.run_for(2_000_000);
    }

    /// How many of the replicas that were away hold the key.
    fn reached(&self) -> usize {
        let key = key_of(&self.world, "k");
        self.replicas[1..].iter().filter(|node| self.world.record_at(**node, &key).is_some()).count()
    }

    /// How many changes were kept in the place of replicas, by everybody.
    fn stood_in(&self) -> u64 {
        self.world.nodes().into_iter().map(|node| self.world.hints(node).stood_in).sum()
    }
}

fn written_to_a_strict_table() -> Result<(), String> {
    let mut stage = Stage::alone(6, TableOptions::siblings());
    let strict = Err(WriteError::Unavailable { reachable: 1, required: 2 });
    let outcome = stage.put(Consistency::Quorum);
    if outcome != strict || stage.stood_in() > 0 {
        return Err(format!("{outcome:?}, and {} were kept elsewhere", stage.stood_in()));
    }
    // In a sloppy table a write may ask for as much.
    let mut stage = Stage::sloppy(6);
    let put = Put { strict: true, ..put_of(&mut stage.world, "k", "value", None) };
    assert_eq!(stage.write(put), strict);
    assert_eq!(stage.stood_in(), 0);
    Ok(())
}

/// The coordinator never comes back.
fn brought_over_without_the_coordinator() -> Result<(), String> {
    let mut stage = Stage::sloppy(6);
    let written = stage.put(Consistency::Quorum).map_err(|error| error.to_string())?;
    assert!(written.acknowledged == 1 && written.fallbacks > 0, "{written:?}");
    stage.world.run_for(LONG_US);
    sound(&mut stage.world)?;
    stage.world.crash(stage.replicas[0]);
    stage.world.heal_links();
    stage.world.run_for(10_000_000);
    sound(&mut stage.world)?;
    assert_eq!(stage.reached(), 2, "each had a fallback");
    stage.world.start(stage.replicas[0]);
    stage.world.run_for(10_000_000);
    nothing_left(&stage.world)
}

/// Two replicas that have missed a write are a quorum. Whoever wrote it was told that it might be missed.
fn missed_by_a_strict_read() -> Result<(), String> {
    let mut stage = Stage::sloppy(6);
    let written = stage.put(Consistency::Quorum).expect("three others are there");
    stage.back_by_themselves();
    let read = stage.get(stage.replicas[1]).expect("two replicas are there");
    assert!(read.values().is_empty(), "nobody has brought it over yet");
    if written.fallbacks == 0 || written.acknowledged > 1 {
        return Err(format!("a read at quorum misses what was told as {written:?}"));
    }
    stage.world.heal_links();
    stage.world.run_for(10_000_000);
    let read = stage.get(stage.replicas[1]).expect("two replicas are there");
    assert_eq!(read.values(), ["value"]);
    Ok(())
}

/// The disks of the fallbacks do not sync, and then their power goes, which leaves what chance will have it.
fn kept_and_crashed() -> Result<(), String> {
    (0..8).try_for_each(|seed| {
        let mut stage = Stage::from_seed(seed, 6, TableOptions::siblings().sloppy());
        stage.leave_alone();
        stage.others.clone().into_iter().for_each(|node| stage.world.set_sync(node, u64::MAX / 4));
        match stage.put(Consistency::Quorum) {
            Err(WriteError::Ambiguous { acknowledged: 1, fallbacks: 0, .. }) => return Ok(()),
            Err(other) => panic!("the write was sent to fallbacks: {other}"),
            Ok(_) => {}
        }
        for node in stage.others.clone() {
            stage.world.crash(node);
            stage.world.set_sync(node, 1_000);
            stage.world.start(node);
        }
        sound(&mut stage.world)
    })
}

fn kept_without_room() -> Result<(), String> {
    let mut stage = Stage::sloppy(6);
    stage.world.bound_hints(0, PLENTY);
    let outcome = stage.put(Consistency::Quorum);
    match outcome {
        Err(WriteError::Ambiguous { acknowledged: 1, fallbacks: 0, required: 2, .. }) => sound(&mut stage.world),
        other => Err(format!("nobody has room, and the outcome is {other:?}")),
    }
}

/// One node is left that is no replica, and two replicas are away.
fn one_for_two() -> Result<(), String> {
    let mut stage = Stage::sloppy(5);
    stage.world.crash(stage.others[1]);
    stage.world.run_for(3_000_000);
    assert!(stage.put(Consistency::Quorum).is_ok(), "it stands in for one");
    match stage.put(Consistency::All) {
        Err(WriteError::Unavailable { reachable: 2, required: 3 }) => Ok(()),
        other => Err(format!("two nodes are left, and the outcome at All is {other:?}")),
    }
}

/// Nobody is left but two replicas.
fn replica_for_replica() -> Result<(), String> {
    let mut stage = Stage::new(4, TableOptions::siblings().sloppy());
    cut_off(&mut stage.world, stage.replicas[2].0);
    cut_off(&mut stage.world, stage.others[0].0);
    stage.world.run_for(3_000_000);
    match stage.put(Consistency::All) {
        Err(WriteError::Unavailable { reachable: 2, required: 3 }) => Ok(()),
        other => Err(format!("two replicas are left, and the outcome at All is {other:?}")),
    }
}

/// A key has one replica in each of two zones.
fn other_zone_away() -> Result<(), String> {
    let mut world = World::new(2, 6, NetworkFaults::default(), 50, Box::new(MemStores::new()));
    world.bound_hints(PLENTY, PLENTY);
    world.found_in_zones(2, &[("carts", TableOptions::siblings().replicas(2).sloppy())]);
    world.run_for(1_000_000);
    let key = key_of(&world, "k");
    let replicas = world.table("carts").expect("a table").replicas_of(key.token()).to_vec();
    let put = |world: &mut World| {
        let put = Put { consistency: Consistency::EachQuorum, ..put_of(world, "k", "value", None) };
        let request = world.put(replicas[0], put);
        let Answer::Written(outcome) = world.finish(request) else { panic!("not the outcome of a write") };
        outcome
    };
    cut_off(&mut world, replicas[1].0);
    world.run_for(3_000_000);
    let written = put(&mut world).expect("two more are in the zone of the one that is away");
    assert_eq!((written.acknowledged, written.fallbacks), (1, 1));
    let is_there = |node: &NodeId| node.0 % 2 == replicas[1].0 % 2;
    world.nodes().into_iter().filter(is_there).for_each(|node| cut_off(&mut world, node.0));
    world.run_for(3_000_000);
    match put(&mut world) {
        Err(WriteError::Unavailable { reachable: 1, required: 2 }) => Ok(()),
        other => Err(format!("one zone is away, and the outcome at EachQuorum is {other:?}")),
    }
}

/// The disk of the coordinator does not sync. Its mark of the clock is ahead of the write.
fn held_by_nobody() -> Result<(), String> {
    let mut stage = Stage::sloppy(6);
    stage.put(Consistency::Quorum).expect("three others are there");
    stage.world.run_for(50_000);
    stage.world.set_sync(stage.replicas[0], u64::MAX / 4);
    match stage.put(Consistency::Quorum) {
        Err(WriteError::Ambiguous { acknowledged: 0, fallbacks: 2, .. }) => Ok(()),
        other => Err(format!("no replica holds the write, and its outcome is {other:?}")),
    }
}

/// Longer than hints are kept where they spare a comparison.
fn away_for_long() -> Result<(), String> {
    let mut stage = Stage::sloppy(6);
    stage.world.age_hints(2_000);
    stage.put(Consistency::Quorum).expect("three others are there");
    stage.world.run_for(1_000_000);
    stage.world.crash(stage.replicas[0]);
    stage.world.run_for(10_000_000);
    stage.world.heal_links();
    stage.world.run_for(10_000_000);
    if stage.reached() == 2 { sound(&mut stage.world) } else { Err("an acknowledged write has grown old".to_owned()) }
}

/// A session with room for one key writes two: one that fallbacks keep, and one whose replicas are there.
fn read_in_a_session() -> Result<(), String> {
    let mut stage = Stage::sloppy(8);
    let table = stage.world.table("carts").expect("a table");
    let elsewhere = |name: &String| {
        let key = key_of(&stage.world, name);
        let held = table.replicas_of(key.token());
        !held.iter().any(|node| stage.replicas[1..].contains(node))
    };
    let other = (0..200).map(|number| format!("other {number}")).find(elsewhere).expect("eight nodes are enough");
    let mut session = SessionState::with_room(1);
    let mut write = |session: &mut SessionState, name: &str| {
        let key = key_of(&stage.world, name);
        let subject = Subject { key: &key, rule: table.options.rule, replicas: 3, sloppy: true };
        let (ticket, context) = session.write(subject, Consistency::Quorum, None);
        let put = put_of(&mut stage.world, name, "value", context);
        let written = stage.write(Put { strict: ticket.strict, ..put }).expect("enough are there");
        session.wrote(&ticket, false, &key, &written);
        written
    };
    assert!(write(&mut session, "k").fallbacks > 0);
    assert_eq!(write(&mut session, &other).fallbacks, 0);
    stage.back_by_themselves();
    let key = key_of(&stage.world, "k");
    let subject = Subject { key: &key, rule: table.options.rule, replicas: 3, sloppy: true };
    let (ticket, floor) = session.read(subject, Consistency::One);
    let get = Get { key: key.clone(), consistency: ticket.consistency, floor: Some(floor) };
    match stage.read(stage.replicas[1], get) {
        Err(ReadError::BehindSession { .. }) => Ok(()),
        Ok(read) if read.values() == ["value"] => panic!("nobody has brought it over yet"),
        other => Err(format!("a session reads {other:?} after its write")),
    }
}

/// The disks of the fallbacks are slow, and they may have next to no answers waiting for them.
fn kept_by_the_busy() -> Result<(), String> {
    let mut stage = Stage::sloppy(5);
    stage.world.bound_load(1 << 20, 1 << 30, 100);
    stage.others.clone().into_iter().for_each(|node| stage.world.set_sync(node, 1_000_000));
    let mut requests = Vec::new();
    for _ in 0..4 {
        let put = put_of(&mut stage.world, "k", "value", None);
        requests.push(stage.world.put(stage.replicas[0], put));
        stage.world.run_for(20_000);
    }
    let outcomes: Vec<Answer> = requests.into_iter().map(|request| stage.world.finish(request)).collect();
    let shed = |node: &NodeId| stage.world.status(*node).map_or(0, |status| status.load.shed_for_peers);
    if stage.others.iter().map(shed).sum::<u64>() == 0 {
        return Err(format!("nobody had too much to do: {outcomes:?}"));
    }
    sound(&mut stage.world)
}

#[test]
fn a_sloppy_write_is_passed_on_and_its_fallbacks_are_told() {
    let mut stage = Stage::sloppy(6);
    let put = put_of(&mut stage.world, "k", "value", None);
    let request = stage.world.put(stage.others[0], put);
    let Answer::Written(Ok(written)) = stage.world.finish(request) else { panic!("one replica is there") };
    assert_eq!(written.acknowledged, 1);
    assert!(written.fallbacks > 0);
}

#[test]
fn without_any_replica_a_sloppy_write_is_unavailable() {
    let mut stage = Stage::sloppy(6);
    cut_off(&mut stage.world, stage.replicas[0].0);
    stage.world.run_for(3_000_000);
    let put = put_of(&mut stage.world, "k", "value", None);
    let request = stage.world.put(stage.others[0], put);
    let outcome = stage.world.finish(request);
    let expected = WriteError::Unavailable { reachable: 0, required: 2 };
    assert_eq!(outcome, Answer::Written(Err(expected)));
    assert_eq!(stage.stood_in(), 0);
}

/// Nobody knows yet that the others are away: the first retry finds out.
#[test]
fn replicas_that_do_not_answer_have_fallbacks_too() {
    let mut stage = Stage::new(6, TableOptions::siblings().sloppy());
    let [_, away @ ..] = stage.replicas;
    away.into_iter().for_each(|node| cut_off(&mut stage.world, node.0));
    let begun = stage.world.now_us();
    let written = stage.put(Consistency::Quorum).expect("three others are there");
    assert!(written.acknowledged == 1 && written.fallbacks > 0, "{written:?}");
    assert!(stage.world.now_us() - begun < 1_000_000, "long before its deadline");
}

#[test]
fn replicas_that_are_enough_have_no_fallbacks() {
    let mut stage = Stage::new(6, TableOptions::siblings().sloppy());
    cut_off(&mut stage.world, stage.replicas[2].0);
    stage.world.run_for(3_000_000);
    for _ in 0..10 {
        let written = stage.put(Consistency::Quorum).expect("two replicas are there");
        assert_eq!((written.acknowledged, written.fallbacks), (2, 0));
    }
    stage.world.run_for(LONG_US);
    assert_eq!(stage.stood_in(), 0);
}

/// A replica acknowledges after all: it is told as one, and not as one that was stood in for.
#[test]
fn who_has_acknowledged_is_not_stood_in_for() {
    let mut stage = Stage::new(6, TableOptions::siblings().sloppy());
    let [coordinator, slow, away] = stage.replicas;
    cut_off(&mut stage.world, away.0);
    stage.world.run_for(3_000_000);
    stage.others.clone().into_iter().for_each(|node| stage.world.set_sync(node, 1_500_000));
    stage.world.set_sync(slow, 1_500_000);
    for _ in 0..10 {
        let written = stage.put(Consistency::All).expect("two replicas, and three others");
        assert_eq!(written.acknowledged + written.fallbacks, 3, "{coordinator}, {slow}, and {away}: {written:?}");
        stage.world.run_for(LONG_US);
    }
}

#[test]
fn counters_count_what_fallbacks_brought_over() {
    let mut stage = Stage::alone(6, TableOptions::crdt(Kind::Counter).sloppy());
    let mut fallbacks = 0;
    for _ in 0..5 {
        let modify = Modify {
            key: key_of(&stage.world, "k"),
            update: Update::Add(3),
            context: None,
            after: None,
            operation: OperationId(stage.world.random.u128(..)),
            attempt: Attempt::First,
            consistency: Consistency::Quorum,
            strict: false,
        };
        let request = stage.world.modify(stage.replicas[0], modify);
        let Answer::Written(Ok(written)) = stage.world.finish(request) else { panic!("three others are there") };
        fallbacks += written.fallbacks;
    }
    assert!(fallbacks >= 5, "{fallbacks}");
    stage.world.run_for(1_000_000);
    stage.world.crash(stage.replicas[0]);
    stage.world.heal_links();
    stage.world.run_for(10_000_000);
    assert_eq!(stage.get(stage.replicas[1]).expect("two replicas are there").counter(), Ok(15));
}
