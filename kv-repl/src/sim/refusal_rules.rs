//! What becomes of writes and of hints when a node's store refuses a commit, as a full disk makes it do: rules as scenarios,
//! right with the rule on, and wrong with it off. Nobody compares replicas at intervals in these worlds, and nobody reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use kv_core::key::{Key, RecordKey, TableId};
use kv_core::record::Payload;
use kv_core::store::{
    Batch, CommitError, Direction, KeyRange, Operation, Poisoned, ScanFn, Sequence, Space, StoreError,
};
use kv_core::{NodeId, Store, View};

use super::hint_rules::{LONG_US, PLENTY, all_equal, cut_off, founded_on, kept_and_owed, nothing_left, write};
use super::rules::{Scenario, key_of, put_of};
use super::*;
use crate::hints::scenarios;
use crate::quorum::Consistency;
use crate::request::{Get, Put, ReadError};

/// Every switch, and the scenario that it must break.
const RULES: &[(Sabotage, &str, Scenario)] = &[
    (Sabotage::ForgetRefusedHints, "a_hint_that_is_refused_with_its_write_is_owed", refused_with_its_write),
    (Sabotage::ForgetRefusedHints, "a_hint_that_is_refused_at_the_end_of_its_write_is_owed", refused_at_the_end),
    (Sabotage::StoreOnce, "a_write_that_its_coordinator_could_not_store_is_stored_again", refused_once),
    (Sabotage::RescanWithoutRest, "a_full_disk_does_not_have_all_hints_read_over_and_over", refused_all_the_time),
    (Sabotage::RescanWithoutRest, "what_is_refused_of_records_does_not_put_hints_in_doubt", refused_records),
    (Sabotage::SwallowAnswers, "a_commit_that_is_refused_takes_no_answer_with_it", refused_beside_another),
    (Sabotage::KeepRefusedFloors, "a_sweep_that_is_refused_is_made_again", refused_sweep),
    (Sabotage::KeepRefusedFloors, "a_new_storage_that_cannot_store_a_floor_does_not_count", refused_floor),
    (Sabotage::LeaveWalksOpen, "a_walk_ends_when_its_last_hint_is_taken_back", scenarios::taken_back_on_its_way),
];

#[test]
fn every_rule_of_refused_commits_holds() {
    for (_, name, scenario) in RULES {
        assert_eq!(scenario(), Ok(()), "{name}");
    }
}

#[test]
fn every_rule_of_refused_commits_is_missed_when_it_is_off() {
    for (sabotage, name, scenario) in RULES {
        let noticed = sabotage.during(scenario);
        assert!(noticed.is_err(), "{name} does not notice {sabotage:?}");
    }
}

// ---- a store that refuses ----

type Refuses = fn(&Operation<'_>) -> bool;

/// What the store of one node does not take, and what it has done.
struct Picky {
    node: NodeId,
    refuses: Mutex<Option<Refuses>>,
    refused: AtomicU64,
    scans_of_hints: AtomicU64,
}

impl Picky {
    fn new(node: u64) -> Arc<Self> {
        Arc::new(Self {
            node: NodeId(node),
            refuses: Mutex::new(None),
            refused: AtomicU64::new(0),
            scans_of_hints: AtomicU64::new(0),
        })
    }

    fn refuse(&self, refuses: Option<Refuses>) {
        *self.refuses.lock().expect("nobody panics with it") = refuses;
    }

    fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn scans(&self) -> u64 {
        self.scans_of_hints.load(Ordering::Relaxed)
    }

    /// A node that cannot store what it knows about itself halts: that is another story.
    fn takes(&self, batch: &Batch) -> bool {
        let Some(refuses) = *self.refuses.lock().expect("nobody panics with it") else { return true };
        let vital = |operation: &Operation<'_>| {
            operation.space() == Space::META && !is_mark(operation) && !is_floor(operation) && !is_leaf(operation)
        };
        let refused = batch.iter().any(|operation| refuses(&operation)) && !batch.iter().any(|other| vital(&other));
        self.refused.fetch_add(u64::from(refused), Ordering::Relaxed);
        !refused
    }
}

/// What a node keeps about itself under keys that begin so.
fn is_kept(operation: &Operation<'_>, prefix: &[u8]) -> bool {
    match operation {
        Operation::Put { space: Space::META, key, .. } | Operation::Delete { space: Space::META, key } => {
            key.starts_with(prefix)
        }
        _ => false,
    }
}

fn is_mark(operation: &Operation<'_>) -> bool {
    is_kept(operation, b"owed/")
}

fn is_floor(operation: &Operation<'_>) -> bool {
    is_kept(operation, b"floor/")
}

fn is_leaf(operation: &Operation<'_>) -> bool {
    is_kept(operation, b"leaf/")
}

const fn is_removal(operation: &Operation<'_>) -> bool {
    matches!(operation, Operation::Delete { space: Space::DATA, .. })
}

const fn is_hint(operation: &Operation<'_>) -> bool {
    matches!(operation, Operation::Put { space: Space::HINTS, .. })
}

const fn is_record(operation: &Operation<'_>) -> bool {
    matches!(operation.space(), Space::DATA)
}

fn is_hint_or_mark(operation: &Operation<'_>) -> bool {
    is_hint(operation) || is_mark(operation)
}

struct PickyStore {
    inner: Arc<dyn Store>,
    picky: Arc<Picky>,
}

impl View for PickyStore {
    fn get(&self, space: Space, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
        self.inner.get(space, key, found)
    }

    fn scan(
        &self,
        space: Space,
        range: KeyRange<'_>,
        direction: Direction,
        each: &mut ScanFn<'_>,
    ) -> Result<(), StoreError> {
        self.picky.scans_of_hints.fetch_add(u64::from(space == Space::HINTS), Ordering::Relaxed);
        self.inner.scan(space, range, direction, each)
    }
}

impl Store for PickyStore {
    fn snapshot(&self) -> Arc<dyn View + Send + Sync> {
        self.inner.snapshot()
    }

    fn commit(&self, batch: &Batch) -> Result<Sequence, CommitError> {
        if self.picky.takes(batch) { self.inner.commit(batch) } else { Err(CommitError::NoSpace) }
    }

    fn request_sync(&self, through: Sequence) {
        self.inner.request_sync(through);
    }

    fn durable_sequence(&self) -> Result<Sequence, Poisoned> {
        self.inner.durable_sequence()
    }

    fn on_durable(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.inner.on_durable(wake);
    }
}

struct PickyStores(MemStores, Arc<Picky>);

impl StoreFactory for PickyStores {
    fn open(&mut self, node: NodeId) -> Arc<dyn Store> {
        let inner = self.0.open(node);
        if node == self.1.node { Arc::new(PickyStore { inner, picky: Arc::clone(&self.1) }) } else { inner }
    }

    fn crash(&mut self, node: NodeId, chance: u64) {
        self.0.crash(node, chance);
    }

    fn kill(&mut self, node: NodeId) {
        self.0.kill(node);
    }

    fn wipe(&mut self, node: NodeId) {
        self.0.wipe(node);
    }

    fn restore(&mut self, node: NodeId) {
        self.0.restore(node);
    }

    fn remember(&mut self, node: NodeId) {
        self.0.remember(node);
    }

    fn step(&mut self, node: NodeId) -> bool {
        self.0.step(node)
    }
}

/// Three nodes; the store of one of them can be told to refuse.
fn picky(node: u64) -> (World, Arc<Picky>) {
    let picky = Picky::new(node);
    let stores = PickyStores(MemStores::new(), Arc::clone(&picky));
    (founded_on(1, 3, PLENTY, Box::new(stores)), picky)
}

/// Another write has just raised the mark of the clock, so that the next one changes nothing of what its node knows of itself.
fn warm_up(world: &mut World, node: u64) -> Result<(), String> {
    write(world, node, "another", Consistency::One).map(|_| world.run_for(20_000))
}

fn one_name() -> Vec<String> {
    vec!["name".to_owned()]
}

/// A known absentee: the hint goes down with the record, in one turn. The record is stored again.
fn refused_with_its_write() -> Result<(), String> {
    let (mut world, picky) = picky(1);
    cut_off(&mut world, 3);
    world.run_for(3_000_000);
    warm_up(&mut world, 1)?;
    picky.refuse(Some(is_hint));
    let put = Put { consistency: Consistency::Quorum, ..put_of(&mut world, "name", "value", None) };
    let request = world.put(NodeId(1), put);
    world.run_for(50_000);
    assert_eq!(picky.refused(), 1, "what is written and kept at a time is refused at a time");
    picky.refuse(None);
    world.finish(request);
    world.run_for(LONG_US);
    world.heal_links();
    world.run_for(10_000_000);
    all_equal(&mut world, &one_name()).and_then(|()| nothing_left(&world))
}

/// Nobody knew: the hint is kept at the first retry and refused until the write is over.
fn refused_at_the_end() -> Result<(), String> {
    let (mut world, picky) = picky(1);
    warm_up(&mut world, 1)?;
    cut_off(&mut world, 3);
    picky.refuse(Some(is_hint_or_mark));
    write(&mut world, 1, "name", Consistency::Quorum)?;
    world.run_for(LONG_US);
    assert!(picky.refused() > 0, "a hint is refused");
    picky.refuse(None);
    world.run_for(10_000_000);
    world.heal_links();
    world.run_for(10_000_000);
    all_equal(&mut world, &one_name()).and_then(|()| nothing_left(&world))
}

/// Nobody has heard of it: what goes to others is decided with what is stored.
fn refused_once() -> Result<(), String> {
    let (mut world, picky) = picky(1);
    warm_up(&mut world, 1)?;
    picky.refuse(Some(is_record));
    let put = Put { consistency: Consistency::One, ..put_of(&mut world, "name", "value", None) };
    let request = world.put(NodeId(1), put);
    world.run_for(50_000);
    assert_eq!(picky.refused(), 1, "the record is refused");
    picky.refuse(None);
    world.finish(request);
    world.run_for(LONG_US);
    assert_eq!(kept_and_owed(&world), (0, 0), "everybody could be reached all the time");
    all_equal(&mut world, &one_name())
}

fn refused_all_the_time() -> Result<(), String> {
    let (mut world, picky) = picky(1);
    warm_up(&mut world, 1)?;
    cut_off(&mut world, 3);
    picky.refuse(Some(is_hint_or_mark));
    write(&mut world, 1, "name", Consistency::Quorum)?;
    let before = picky.scans();
    for _ in 0..20_000 {
        world.run_for(1_000);
        let scans = picky.scans() - before;
        if scans > 20 {
            return Err(format!("hints were read {scans} times within seconds"));
        }
    }
    assert!(picky.refused() > 2, "it goes on trying");
    Ok(())
}

/// Node 2 keeps hints, and cannot store what others write.
fn refused_records() -> Result<(), String> {
    let (mut world, picky) = picky(2);
    cut_off(&mut world, 3);
    world.run_for(3_000_000);
    write(&mut world, 2, "kept", Consistency::One)?;
    world.run_for(LONG_US);
    assert!(kept_and_owed(&world).0 > 0, "something is kept");
    picky.refuse(Some(is_record));
    let before = picky.scans();
    for number in 0..5 {
        write(&mut world, 1, &format!("name {number}"), Consistency::One)?;
        world.run_for(200_000);
    }
    assert!(picky.refused() >= 5, "each is refused");
    match picky.scans() - before {
        0 => Ok(()),
        scans => Err(format!("hints were read {scans} times, and nothing of them was refused")),
    }
}

/// Two clients come in one turn; what one of them writes is refused.
fn refused_beside_another() -> Result<(), String> {
    let (mut world, picky) = picky(1);
    warm_up(&mut world, 1)?;
    picky.refuse(Some(is_record));
    let put = put_of(&mut world, "name", "value", None);
    let nowhere = RecordKey::new(TableId(99), &Key::from("name")).expect("a short key");
    world.put(NodeId(1), put);
    let read = world.get(NodeId(1), Get { key: nowhere, consistency: Consistency::One, floor: None });
    world.run_for(10_000);
    assert_eq!(picky.refused(), 1, "the record is refused");
    match world.take(read) {
        Answer::Read(Err(ReadError::UnknownTable)) => Ok(()),
        other => Err(format!("the answer to the other one is {other:?}")),
    }
}

/// A delete that everybody has, in a world that forgets.
fn deleted(world: &mut World) -> Result<(), String> {
    world.purge_after(2_000);
    write(world, 1, "name", Consistency::All)?;
    let removal = Put { payload: Payload::Tombstone, consistency: Consistency::All, ..put_of(world, "name", "", None) };
    let request = world.put(NodeId(1), removal);
    match world.finish(request) {
        Answer::Written(Ok(_)) => Ok(()),
        other => Err(format!("the delete has ended as {other:?}")),
    }
}

fn forgotten(world: &mut World) -> Result<(), String> {
    let key = key_of(world, "name");
    world.run_for(20_000_000);
    match world.nodes().into_iter().find(|node| world.record_at(*node, &key).is_some()) {
        None => Ok(()),
        Some(node) => Err(format!("{node} has not forgotten what is deleted")),
    }
}

/// Node 2 cannot drop what the others do.
fn refused_sweep() -> Result<(), String> {
    let (mut world, picky) = picky(2);
    deleted(&mut world)?;
    picky.refuse(Some(is_removal));
    world.run_for(20_000_000);
    assert!(picky.refused() > 0, "what is to go is refused");
    picky.refuse(None);
    forgotten(&mut world)
}

/// Node 3 comes back with an empty disk that does not take in how far a place was settled.
fn refused_floor() -> Result<(), String> {
    let (mut world, picky) = picky(3);
    deleted(&mut world)?;
    forgotten(&mut world)?;
    world.wipe(NodeId(3));
    world.start(NodeId(3));
    world.run_for(1_000_000);
    picky.refuse(Some(is_floor));
    let request = world.replace(NodeId(3));
    assert_eq!(world.finish(request), Answer::Cluster(Ok(())));
    world.run_for(10_000_000);
    assert!(picky.refused() > 0, "a floor is refused");
    picky.refuse(None);
    world.run_for(20_000_000);
    assert_eq!(world.status(NodeId(3)).expect("it runs").importing, 0);
    world.crash(NodeId(3));
    world.start(NodeId(3));
    world.run_for(1_000_000);
    world.wrong_floors().into_iter().next().map_or(Ok(()), Err)
}
