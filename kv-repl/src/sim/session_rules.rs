//! The guarantees of sessions as scenarios: right with the rule on, and wrong with it off.

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::context::CausalContext;
use kv_core::crdt::{Kind, Update};
use kv_core::record::{OperationId, Payload};

use super::rules::{Scenario, key_of, put_of};
use super::*;
use crate::quorum::Consistency;
use crate::request::{Attempt, Get, Modify, Put, Read, ReadError, WriteError, Written};
use crate::session::KEYS_MAX;
use crate::session::state::{SessionState, Subject};
use crate::table_options::TableOptions;

/// Every switch, and the scenario that it must break.
const RULES: &[(Sabotage, &str, Scenario)] = &[
    (Sabotage::ForgetSessionWrites, "protocol_rule_17_a_session_reads_its_writes", read_after_own_write),
    (Sabotage::ForgetSessionReads, "protocol_rule_17_reads_of_a_session_are_monotonic", read_after_read),
    (Sabotage::AnswerBelowSession, "protocol_rule_17_a_replica_that_is_behind_does_not_answer", read_after_read),
    (Sabotage::WriteOutsideSession, "protocol_rule_17_writes_of_a_session_follow_its_reads", write_after_read),
    (
        Sabotage::WriteOutsideSession,
        "protocol_rule_16_17_a_stamp_lies_above_what_the_session_has_read",
        stamp_after_read,
    ),
    (Sabotage::ForgetSessionWrites, "protocol_rule_17_a_session_reads_what_it_counted", read_after_own_count),
    (
        Sabotage::WriteOutsideSession,
        "protocol_rule_17_18_a_removal_takes_what_its_session_has_seen",
        remove_after_own_insert,
    ),
    (
        Sabotage::WriteOutsideSession,
        "protocol_rule_17_18_an_entry_is_set_above_what_its_session_has_seen",
        set_after_own_set,
    ),
    (Sabotage::ForgetOverflow, "protocol_rule_17_what_a_session_had_to_forget_is_read_at_quorum", read_after_overflow),
    (Sabotage::SettleUnheld, "protocol_rule_17_a_retry_settles_only_what_its_copy_holds", read_after_a_retry),
    (Sabotage::SettleUnheld, "protocol_rule_17_a_change_settles_only_itself", read_after_a_change),
];

#[test]
fn every_rule_of_sessions_holds() {
    for (_, name, scenario) in RULES {
        assert_eq!(scenario(), Ok(()), "{name}");
    }
}

#[test]
fn every_rule_of_sessions_is_missed_when_it_is_off() {
    for (sabotage, name, scenario) in RULES {
        let noticed = sabotage.during(scenario);
        assert!(noticed.is_err(), "{name} does not notice {sabotage:?}");
    }
}

/// Three nodes that hold everything and do not compare what they hold.
struct Cluster {
    world: World,
    options: TableOptions,
}

impl Cluster {
    fn new(options: TableOptions) -> Self {
        let mut world = World::new(2, 3, NetworkFaults::default(), 5, Box::new(MemStores::new()));
        world.found(&[("carts", options.clone())]);
        world.run_for(1_000_000);
        Self { world, options }
    }

    /// Whatever node 1 writes does not come to node 3, which reaches node 2.
    fn keep_from_the_third(&mut self) {
        for (from, to) in [(1, 3), (3, 1)] {
            self.world.cut(NodeId(from), NodeId(to));
        }
    }

    fn put(
        &mut self,
        session: &mut SessionState,
        node: u64,
        name: &str,
        value: &'static str,
        consistency: Consistency,
    ) -> Result<Written, WriteError> {
        let put = Put { consistency, ..put_of(&mut self.world, name, value, None) };
        self.try_put(session, node, put)
    }

    fn try_put(&mut self, session: &mut SessionState, node: u64, put: Put) -> Result<Written, WriteError> {
        let subject =
            Subject { key: &put.key, rule: self.options.rule, replicas: self.options.replicas, sloppy: false };
        let (ticket, context) = session.write(subject, put.consistency, None);
        let put = Put { consistency: ticket.consistency, context, ..put };
        let (key, is_tombstone) = (put.key.clone(), put.payload == Payload::Tombstone);
        let request = self.world.put(NodeId(node), put);
        let Answer::Written(outcome) = self.world.finish(request) else { panic!("not the outcome of a write") };
        match &outcome {
            Ok(written) => session.wrote(&ticket, is_tombstone, &key, written),
            Err(_) => session.abandon(&ticket),
        }
        outcome
    }

    fn update(
        &mut self,
        session: &mut SessionState,
        (node, name): (u64, &str),
        update: Update,
        consistency: Consistency,
    ) -> Result<Written, WriteError> {
        self.update_with(session, (node, name), (update, None), consistency)
    }

    /// The same of a client that says what it has seen.
    fn update_with(
        &mut self,
        session: &mut SessionState,
        (node, name): (u64, &str),
        (update, context): (Update, Option<CausalContext>),
        consistency: Consistency,
    ) -> Result<Written, WriteError> {
        let key = key_of(&self.world, name);
        let subject = Subject { key: &key, rule: self.options.rule, replicas: self.options.replicas, sloppy: false };
        let (ticket, after) = session.update(subject, consistency);
        let operation = OperationId(self.world.random.u128(..));
        let (consistency, attempt) = (ticket.consistency, Attempt::First);
        let modify =
            Modify { key: key.clone(), update, context, after, operation, attempt, consistency, strict: false };
        let request = self.world.modify(NodeId(node), modify);
        let Answer::Written(outcome) = self.world.finish(request) else { panic!("not the outcome of a write") };
        match &outcome {
            Ok(written) => session.wrote(&ticket, false, &key, written),
            Err(_) => session.abandon(&ticket),
        }
        outcome
    }

    fn get(
        &mut self,
        session: &mut SessionState,
        node: u64,
        name: &str,
        consistency: Consistency,
    ) -> Result<Read, ReadError> {
        let key = key_of(&self.world, name);
        let subject = Subject { key: &key, rule: self.options.rule, replicas: self.options.replicas, sloppy: false };
        let (ticket, floor) = session.read(subject, consistency);
        let get = Get { key: key.clone(), consistency: ticket.consistency, floor: Some(floor) };
        let request = self.world.get(NodeId(node), get);
        let Answer::Read(outcome) = self.world.finish(request) else { panic!("not the outcome of a read") };
        match &outcome {
            Ok(read) => session.saw(&ticket, read),
            Err(_) => session.abandon(&ticket),
        }
        outcome
    }
}

fn expect(read: &Read, values: &[&'static str]) -> Result<(), String> {
    let held: Vec<Bytes> = read.values().into_iter().cloned().collect();
    if held == values { Ok(()) } else { Err(format!("{held:?} instead of {values:?}")) }
}

/// A session writes at one node and reads at another, which has not heard of the write.
fn read_after_own_write() -> Result<(), String> {
    for options in [TableOptions::siblings(), TableOptions::last_write_wins()] {
        let mut cluster = Cluster::new(options);
        cluster.keep_from_the_third();
        let mut session = SessionState::default();
        cluster.put(&mut session, 1, "k", "mine", Consistency::One).expect("one node is up");
        let read = cluster.get(&mut session, 3, "k", Consistency::One).expect("the second node has it");
        expect(&read, &["mine"])?;
    }
    Ok(())
}

/// A session counts at one node and reads at another, which has not heard of it.
fn read_after_own_count() -> Result<(), String> {
    let mut cluster = Cluster::new(TableOptions::crdt(Kind::Counter));
    cluster.keep_from_the_third();
    let mut session = SessionState::default();
    cluster.update(&mut session, (1, "k"), Update::Add(7), Consistency::One).expect("one node is up");
    let read = cluster.get(&mut session, 3, "k", Consistency::One).expect("the second node has it");
    match read.counter() {
        Ok(7) => Ok(()),
        counted => Err(format!("{counted:?} instead of 7")),
    }
}

/// A session inserts at one node and removes at another, which has not heard of the insert, and holds another element.
fn remove_after_own_insert() -> Result<(), String> {
    let mut cluster = Cluster::new(TableOptions::crdt(Kind::Set));
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    let mut session = SessionState::default();
    cluster
        .update(&mut SessionState::default(), (3, "k"), Update::Insert(bytes("bread")), Consistency::All)
        .expect("all are up");
    cluster.keep_from_the_third();
    cluster.update(&mut session, (1, "k"), Update::Insert(bytes("milk")), Consistency::One).expect("one node is up");
    cluster.world.run_for(100_000);
    for element in ["milk", "bread"] {
        let removed = cluster.update(&mut session, (3, "k"), Update::Remove(bytes(element)), Consistency::Quorum);
        removed.expect("it asks the second");
    }
    cluster.world.heal_links();
    cluster.world.run_for(1_000_000);
    let read = cluster.get(&mut SessionState::default(), 2, "k", Consistency::All).expect("all are up");
    match read.set().expect("a table of sets") {
        held if held.is_empty() => Ok(()),
        held => Err(format!("{held:?} was removed after the session had put it in, or had never seen it")),
    }
}

/// A session sets an entry of a map at a node whose clock is ahead, and again at another one that has not heard of it.
fn set_after_own_set() -> Result<(), String> {
    let mut cluster = Cluster::new(TableOptions::crdt(Kind::LwwMap));
    cluster.keep_from_the_third();
    cluster.world.set_skew(NodeId(1), 200);
    let mut session = SessionState::default();
    for (node, value) in [(1, "first"), (3, "second")] {
        let (key, value) = (Bytes::from_static(b"color"), Bytes::from_static(value.as_bytes()));
        cluster
            .update(&mut session, (node, "k"), Update::Put { key, value }, Consistency::Quorum)
            .expect("two nodes are up");
    }
    cluster.world.heal_links();
    cluster.world.run_for(1_000_000);
    let read = cluster.get(&mut SessionState::default(), 2, "k", Consistency::All).expect("all are up");
    match read.entries().expect("a table of maps")[..] {
        [(_, value)] if value == "second" => Ok(()),
        ref entries => Err(format!("{entries:?}, although the session had seen the first")),
    }
}

/// A session reads somebody's write at one node, and then at another, which has not heard of it.
fn read_after_read() -> Result<(), String> {
    for options in [TableOptions::siblings(), TableOptions::last_write_wins()] {
        let mut cluster = Cluster::new(options);
        cluster.keep_from_the_third();
        cluster.put(&mut SessionState::default(), 1, "k", "theirs", Consistency::One).expect("one node is up");
        let mut session = SessionState::default();
        for node in [1, 3] {
            let read = cluster.get(&mut session, node, "k", Consistency::One).expect("two nodes have it");
            expect(&read, &["theirs"])?;
        }
    }
    Ok(())
}

/// A session reads a write, and writes at a node that has not heard of it.
fn write_after_read() -> Result<(), String> {
    let mut cluster = Cluster::new(TableOptions::siblings());
    cluster.keep_from_the_third();
    cluster.put(&mut SessionState::default(), 1, "k", "before", Consistency::One).expect("one node is up");
    let mut session = SessionState::default();
    let read = cluster.get(&mut session, 1, "k", Consistency::One).expect("the node has it");
    expect(&read, &["before"])?;
    cluster.put(&mut session, 3, "k", "after", Consistency::One).expect("one node is up");
    cluster.world.heal_links();
    cluster.world.run_for(1_000_000);
    let read = cluster.get(&mut SessionState::default(), 2, "k", Consistency::All).expect("everybody is up");
    expect(&read, &["after"])
}

/// The same where the later stamp wins and the clock of the second node is behind.
fn stamp_after_read() -> Result<(), String> {
    let mut cluster = Cluster::new(TableOptions::last_write_wins());
    cluster.world.set_skew(NodeId(1), 400);
    cluster.keep_from_the_third();
    cluster.world.cut(NodeId(1), NodeId(2));
    cluster.put(&mut SessionState::default(), 1, "k", "before", Consistency::One).expect("one node is up");
    let mut session = SessionState::default();
    let read = cluster.get(&mut session, 1, "k", Consistency::One).expect("the node has it");
    expect(&read, &["before"])?;
    cluster.put(&mut session, 3, "k", "after", Consistency::One).expect("one node is up");
    cluster.world.heal_links();
    cluster.world.run_for(1_000_000);
    let read = cluster.get(&mut SessionState::default(), 2, "k", Consistency::All).expect("everybody is up");
    expect(&read, &["after"])
}

/// A session with room for one key uses a second one, and goes back to the first at a node that has not heard of its write.
fn read_after_overflow() -> Result<(), String> {
    let mut cluster = Cluster::new(TableOptions::siblings());
    cluster.keep_from_the_third();
    let mut session = SessionState::with_room(1);
    cluster.put(&mut session, 1, "k", "mine", Consistency::Quorum).expect("two nodes are up");
    cluster.put(&mut session, 1, "j", "other", Consistency::Quorum).expect("two nodes are up");
    assert!(session.has_forgotten());
    let read = cluster.get(&mut session, 3, "k", Consistency::One).expect("two nodes are up");
    expect(&read, &["mine"])
}

/// A session with room for one key has seen at node 3 what nobody else holds, and asks for an older write again. Then it uses
/// another key.
fn read_after_a_retry() -> Result<(), String> {
    let mut cluster = Cluster::new(TableOptions::siblings());
    let mut session = SessionState::with_room(1);
    let put = put_of(&mut cluster.world, "k", "mine", None);
    cluster.try_put(&mut session, 1, put.clone()).expect("everybody is up");
    cluster.world.run_for(1_000_000);
    cut_off(&mut cluster.world, 3);
    cluster.put(&mut SessionState::default(), 3, "k", "theirs", Consistency::One).expect("one node is up");
    let read = cluster.get(&mut session, 3, "k", Consistency::One).expect("the node has both");
    expect(&read, &["mine", "theirs"])?;
    cluster.try_put(&mut session, 1, put).expect("two nodes hold a copy");
    cluster.put(&mut session, 1, "j", "other", Consistency::Quorum).expect("two nodes are up");
    seen_again(&mut cluster, &mut session)
}

/// The same with a counter: what is added at node 1 reaches a quorum, and nothing else that the session has seen.
fn read_after_a_change() -> Result<(), String> {
    let mut cluster = Cluster::new(TableOptions::crdt(Kind::Counter));
    cut_off(&mut cluster.world, 3);
    let mut session = SessionState::with_room(1);
    cluster
        .update(&mut SessionState::default(), (3, "k"), Update::Add(1), Consistency::One)
        .expect("enough nodes are up");
    let read = cluster.get(&mut session, 3, "k", Consistency::One).expect("the node has it");
    let told = (Update::Add(1), Some(read.context().clone()));
    cluster.update_with(&mut session, (1, "k"), told, Consistency::Quorum).expect("enough nodes are up");
    cluster.update(&mut session, (1, "j"), Update::Add(1), Consistency::Quorum).expect("enough nodes are up");
    seen_again(&mut cluster, &mut session)
}

/// Node 3 alone holds what the session has seen: a read elsewhere waits for it.
fn seen_again(cluster: &mut Cluster, session: &mut SessionState) -> Result<(), String> {
    match cluster.get(session, 1, "k", Consistency::One) {
        Err(ReadError::BehindSession { .. }) => {}
        other => return Err(format!("{other:?}, and the session has seen what nodes 1 and 2 do not hold")),
    }
    cluster.world.heal_links();
    cluster.world.run_for(2_000_000);
    cluster.get(session, 1, "k", Consistency::One).map(|_| ()).map_err(|error| error.to_string())
}

fn cut_off(world: &mut World, node: u64) {
    for other in world.nodes().into_iter().filter(|other| *other != NodeId(node)) {
        world.cut(NodeId(node), other);
        world.cut(other, NodeId(node));
    }
}

#[test]
fn a_read_that_nobody_can_answer_says_that_it_is_behind() {
    let mut cluster = Cluster::new(TableOptions::siblings());
    cluster.keep_from_the_third();
    cluster.world.cut(NodeId(1), NodeId(2));
    let mut session = SessionState::default();
    cluster.put(&mut session, 1, "k", "mine", Consistency::One).unwrap();
    let error = cluster.get(&mut session, 3, "k", Consistency::One).unwrap_err();
    assert_eq!(error, ReadError::BehindSession { answered: 2 });
    // Others are not held up by what this one has seen.
    expect(&cluster.get(&mut SessionState::default(), 3, "k", Consistency::One).unwrap(), &[]).unwrap();
    cluster.world.heal_links();
    cluster.world.run_for(2_000_000);
    expect(&cluster.get(&mut session, 3, "k", Consistency::One).unwrap(), &["mine"]).unwrap();
}

#[test]
fn a_read_waits_for_the_replica_that_is_new_enough() {
    let mut cluster = Cluster::new(TableOptions::siblings());
    cluster.keep_from_the_third();
    cluster.world.cut(NodeId(1), NodeId(2));
    let mut session = SessionState::default();
    cluster.put(&mut session, 1, "k", "mine", Consistency::One).unwrap();
    let key = key_of(&cluster.world, "k");
    let subject = Subject { key: &key, rule: cluster.options.rule, replicas: 3, sloppy: false };
    let (ticket, floor) = session.read(subject, Consistency::One);
    let get = Get { key: key.clone(), consistency: ticket.consistency, floor: Some(floor) };
    let request = cluster.world.get(NodeId(3), get);
    cluster.world.run_for(1_000_000);
    assert_eq!(cluster.world.take(request), Answer::Pending);
    cluster.world.heal_links();
    let Answer::Read(Ok(read)) = cluster.world.finish(request) else { panic!("node 1 can be reached again") };
    expect(&read, &["mine"]).unwrap();
}

/// More writers than a session remembers of one key: the read is settled by a quorum before it is answered.
#[test]
fn a_record_that_does_not_fit_into_a_session_is_read_at_quorum() {
    let mut cluster = Cluster::new(TableOptions::siblings());
    // Each life after a crash is another actor.
    for _ in 0..40 {
        cluster.put(&mut SessionState::default(), 1, "k", "x", Consistency::All).ok();
        let read = cluster.get(&mut SessionState::default(), 1, "k", Consistency::Quorum).unwrap();
        let context = Some(read.context().clone());
        let put = put_of(&mut cluster.world, "k", "y", context);
        let request = cluster.world.put(NodeId(1), put);
        cluster.world.finish(request);
        cluster.world.run_for(50_000);
        cluster.world.crash(NodeId(1));
        cluster.world.start(NodeId(1));
        cluster.world.run_for(2_000_000);
    }
    cluster.keep_from_the_third();
    let mut session = SessionState::default();
    let mut others = SessionState::default();
    cluster.put(&mut others, 1, "k", "late", Consistency::One).unwrap();
    let read = cluster.get(&mut session, 1, "k", Consistency::One).unwrap();
    assert!(!crate::seen::Floor::can_remember(read.record()), "{:?}", read.record().map(|record| record.context()));
    assert!(session.has_forgotten() && session.carried_over().has_forgotten());
    let again = cluster.get(&mut session, 3, "k", Consistency::One).unwrap();
    assert!(again.values().iter().any(|value| *value == "late"), "{:?}", again.values());
}

#[test]
fn a_session_that_is_full_of_what_is_not_settled_settles_the_rest() {
    let mut cluster = Cluster::new(TableOptions::siblings());
    let mut session = SessionState::default();
    let names: Vec<String> = (0..KEYS_MAX + 5).map(|key| format!("key {key}")).collect();
    for name in &names {
        cluster.put(&mut session, 1, name, "mine", Consistency::One).unwrap();
    }
    cluster.world.run_for(1_000_000);
    cluster.keep_from_the_third();
    for name in &names {
        let read = cluster.get(&mut session, 3, name, Consistency::One).unwrap();
        expect(&read, &["mine"]).unwrap();
    }
    assert!(session.encode().len() <= crate::session::TOKEN_BYTES_MAX);
}
