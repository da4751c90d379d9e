//! Two replicas, and nothing between them but the bytes of their frames.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use kv_core::hlc::Stamp;
use kv_core::key::{Key, RecordKey, TableId};
use kv_core::record::{Payload, Record, Version};
use kv_core::store::{Space, SpaceOptions};
use kv_core::time::Now;
use kv_core::version::{Actor, Incarnation};
use kv_core::{Expiry, MemStore, Store, View};

use super::*;
use crate::catalog::{Catalog, Founding, FoundingMember, TableSchema};
use crate::comparison::{Differing, Page};
use crate::config::Config;
use crate::identity::Boot;
use crate::machine::{Origin, Outcome};
use crate::member::Member;
use crate::peers::Peers;
use crate::repair_request::{RepairReport, RepairScope};
use crate::table_options::TableOptions;
use crate::wire::{FrameWriter, Header};

struct Side {
    machine: Repairs,
    store: MemStore,
    me: Identity,
    peers: Peers,
}

/// Both replicas of a table of one partition.
struct Pair {
    sides: [Side; 2],
    catalog: Catalog,
    now: Millis,
    inboxes: [VecDeque<Message>; 2],
    /// What was sent, frames and all.
    bytes: usize,
    /// In so many messages.
    messages: usize,
    outcome: Option<Result<RepairReport, RepairError>>,
    /// Every so many messages one is lost.
    loses: Option<usize>,
}

const TABLE: TableId = TableId(1);

impl Pair {
    fn new() -> Self {
        Self::throttled(1 << 40)
    }

    fn throttled(repair_bytes_per_second: u64) -> Self {
        let members = [1, 2].map(|node| FoundingMember::new(Member::new(NodeId(node), "in memory"), Incarnation(node)));
        let founding = Founding { cluster: ClusterId(9 << 70 | 5), epoch: 1, partitions: 1, members: members.to_vec() };
        let layout = founding.lay_out(2).expect("two of two").into();
        let mut catalog = Catalog::new(founding);
        let options = TableOptions::last_write_wins().replicas(2);
        catalog.add(TableSchema { id: TABLE, name: "table".to_owned(), options, layout }.into());
        let config = Config { repair_every: Duration::MAX, repair_bytes_per_second, ..Config::default() };
        let settings = Settings::check(&config, 64 * 1024).expect("they are valid");
        let sides = [1, 2].map(|node| {
            let (incarnation, boot) = (Incarnation(node), Boot(1));
            let me = Identity { node: NodeId(node), incarnation, boot, nonce: node, epoch: 1, quarantined: false };
            let mut peers = Peers::default();
            peers.greeted(NodeId(3 - node));
            let store = MemStore::new([Space::META, Space::DATA].map(|space| (space, SpaceOptions::default())));
            Side { machine: Repairs::new(&settings, &me), store, me, peers }
        });
        let now = Millis(1);
        Self { sides, catalog, now, inboxes: Default::default(), bytes: 0, messages: 0, outcome: None, loses: None }
    }

    fn put(&mut self, sides: &[usize], numbers: impl Iterator<Item = u64>, birth: u64) {
        let mut batch = Batch::new();
        for number in numbers {
            batch.put(Space::DATA, key(number).as_bytes(), &record(birth));
        }
        for side in sides {
            let marks = self.sides[*side].machine.touch(&batch);
            let whole = [&batch, &marks].into_iter().fold(Batch::new(), |mut whole, part| {
                whole.append(part);
                whole
            });
            self.sides[*side].store.commit(&whole).expect("a store in memory takes a batch");
        }
    }

    fn handle(&mut self, side: usize, event: Event) {
        let mut out = Vec::new();
        let Side { machine, store, me, peers } = &mut self.sides[side];
        let environment = Environment {
            now: Now { monotonic: self.now, wall: self.now },
            view: store,
            me,
            standing: Standing::Serving,
            catalog: Some(&self.catalog),
            peers,
            imports: &Imports::default(),
            floors: &crate::floors::Floors::default(),
            caches: &crate::caches::Caches::new(Millis(500)),
            overload: None,
        };
        machine.handle(&environment, event, &mut out);
        for action in out {
            match action {
                Action::Store { mut batch, .. } => {
                    let marks = machine.touch(&batch);
                    batch.append(&marks);
                    store.commit(&batch).expect("a store in memory takes a batch");
                }
                Action::Send { message, .. } => {
                    self.bytes += frame_bytes(&message);
                    self.messages += 1;
                    if self.loses.is_none_or(|every| !self.messages.is_multiple_of(every)) {
                        self.inboxes[1 - side].push_back(message);
                    }
                }
                Action::Reply { outcome: Outcome::Repair(outcome), .. } => self.outcome = Some(outcome),
                Action::Reply { .. } | Action::Notify(_) | Action::Cache { .. } | Action::Read { .. } => {}
            }
        }
        if let Some(notes) = machine.note(self.now) {
            store.commit(&notes).expect("a store in memory takes a batch");
        }
    }

    /// Repairs everything, asked for at the first one, and returns what it came to and how many bytes it took.
    fn repair(&mut self) -> (Result<RepairReport, RepairError>, usize) {
        let before = self.bytes;
        let request = Request::Repair(RepairScope::Everything);
        self.handle(0, Event::Request { origin: Origin::Client(1), deadline: Millis::MAX, request });
        for _ in 0..10_000_000 {
            if let Some(outcome) = self.outcome.take() {
                return (outcome, self.bytes - before);
            }
            for side in [0, 1] {
                while let Some(message) = self.inboxes[side].pop_front() {
                    self.handle(side, Event::Message { from: NodeId(2 - side as u64), message });
                }
                if self.sides[side].machine.next_deadline().is_some_and(|at| at <= self.now) {
                    self.handle(side, Event::Deadline);
                }
            }
            if self.inboxes.iter().all(VecDeque::is_empty) {
                let next = self.sides.iter().filter_map(|side| side.machine.next_deadline()).min();
                self.now = self.now.max(next.expect("somebody has something to do"));
            }
        }
        panic!("a repair without an end");
    }

    fn contents(&self, side: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut contents = Vec::new();
        let whole = kv_core::store::KeyRange::ALL;
        let store = &self.sides[side].store;
        let scanned = store.scan(Space::DATA, whole, kv_core::store::Direction::Forward, &mut |key, record| {
            contents.push((key.to_vec(), record.to_vec()));
            std::ops::ControlFlow::Continue(())
        });
        scanned.expect("memory reads");
        contents
    }

    fn are_equal(&self) -> bool {
        let cluster = self.catalog.founding().cluster;
        for side in &self.sides {
            assert_eq!(side.machine.check(&side.store, cluster), None);
        }
        self.contents(0) == self.contents(1)
    }
}

fn key(number: u64) -> RecordKey {
    RecordKey::new(TABLE, &Key::from(format!("user:{number:012}"))).expect("a short key")
}

/// A value of a hundred bytes.
fn record(birth: u64) -> bytes::Bytes {
    let actor = Actor { node: NodeId(1), incarnation: Incarnation(1), epoch: 1 };
    let payload = Payload::Value(bytes::Bytes::from(vec![7; 100]));
    let version = Version { birth: Stamp(birth), payload, expiry: Expiry::NEVER, operation: None };
    Record::last_write(actor, version).to_bytes()
}

fn frame_bytes(message: &Message) -> usize {
    let (from, to) = (Incarnation(u64::MAX / 3), Incarnation(u64::MAX / 5));
    let header = Header {
        cluster: ClusterId(u128::MAX / 7),
        from: NodeId(1),
        from_incarnation: from,
        from_boot: Boot(300),
        to_incarnation: to,
        to_boot: Boot(300),
    };
    let mut frame = FrameWriter::new(&header);
    assert!(frame.push(message, 64 * 1024), "it fits the smallest frame that anybody offers by default");
    frame.finish().len()
}

/// Fills both replicas with as many keys, makes some of them differ, and returns how many bytes it takes to mend that.
fn cost(keys: u64, differing: u64) -> usize {
    let mut pair = Pair::new();
    for start in (0..keys).step_by(10_000) {
        pair.put(&[0, 1], start..(start + 10_000).min(keys), 1);
    }
    // Trees are there, as in a cluster that has run for a while.
    assert!(matches!(pair.repair(), (Ok(_), _)));
    // Half of what differs was missed by one replica, half by the other.
    let step = keys / differing.max(1);
    pair.put(&[0], (0..differing / 2).map(|number| number * step), 2);
    pair.put(&[1], (differing / 2..differing).map(|number| number * step), 2);
    assert_eq!(pair.are_equal(), differing == 0);
    let (outcome, bytes) = pair.repair();
    assert_eq!(outcome.expect("both are there").equal, 1);
    assert!(pair.are_equal());
    bytes
}

#[test]
fn the_cost_of_a_repair_grows_with_the_difference() {
    let bytes = [0, 1, 10, 100, 1_000].map(|differing| cost(20_000, differing));
    println!("20000 keys; 0, 1, 10, 100 and 1000 of them differ: {bytes:?} bytes exchanged");
    assert!(bytes.is_sorted());
    assert!(bytes[0] < 300, "{bytes:?}");
    assert!(bytes[1] < 16 * 1024, "{bytes:?}");
    // Every leaf has a difference in the last case: all that is sent is a list of everything and what differs.
    assert!(bytes[4] < 20_000 * 25 + 1_000 * 2 * 200, "{bytes:?}");
    // The data is a hundred times the difference, and the cost is not.
    let [small, large] = [5_000, 40_000].map(|keys| cost(keys, 1));
    assert!(large < small * 3, "{small} bytes with 5000 keys, {large} with 40000");
}

/// `cargo test --release -p kv-repl --lib million -- --ignored --nocapture`
#[test]
#[ignore = "takes a gigabyte of memory"]
fn one_differing_key_among_a_million_costs_less_than_64_kib() {
    for differing in [0, 1, 10, 100] {
        #[expect(clippy::disallowed_methods, reason = "to be told, not to be tested")]
        let start = Instant::now();
        let bytes = cost(1_000_000, differing);
        println!("1000000 keys, {differing} differ: {bytes} bytes exchanged ({:?} with filling)", start.elapsed());
        assert!(differing > 1 || bytes <= 64 * 1024);
    }
}

#[test]
fn what_one_replica_lost_comes_back_whole() {
    let mut pair = Pair::new();
    pair.put(&[0], 0..6_000, 1);
    pair.put(&[1], 5_500..7_000, 1);
    let (outcome, _) = pair.repair();
    let report = outcome.expect("both are there");
    assert!(pair.are_equal());
    assert_eq!(pair.contents(0).len(), 7_000);
    assert_eq!((report.traffic.records_sent, report.traffic.records_received), (5_500, 1_000));
}

#[test]
fn a_repair_takes_the_time_that_its_bytes_and_its_reading_take() {
    let mut pair = Pair::throttled(100_000);
    pair.put(&[0], 0..6_000, 1);
    let (outcome, bytes) = pair.repair();
    assert!(outcome.is_ok() && pair.are_equal());
    // The one that begins counts what it sends and what it receives.
    let least = bytes as u64 * 1000 / 100_000;
    assert!(pair.now.0 > least * 9 / 10, "{bytes} bytes in {:?}", pair.now);

    let mut pair = Pair::new();
    pair.put(&[0, 1], 0..20_000, 1);
    let (outcome, _) = pair.repair();
    assert!(outcome.is_ok());
    let read = pair.sides[0].machine.status().records_hashed;
    assert!((20_000..60_000).contains(&read), "{read} records read, some twice where leaves were cut");
    let slices = read.div_ceil(SLICE_RECORDS as u64);
    assert!(pair.now.0 >= (slices - 1) * SLICE_PAUSE.0, "{slices} slices in {:?}", pair.now);
}

#[test]
fn records_that_share_a_token_are_listed_page_by_page() {
    let mut pair = Pair::new();
    let mut batch = Batch::new();
    for number in 0..5_000 {
        let key = RecordKey::new(TABLE, &Key::from(("one", format!("{number:06}")))).expect("a short key");
        batch.put(Space::DATA, key.as_bytes(), &record(1));
    }
    pair.sides[1].store.commit(&batch).expect("a store in memory takes a batch");
    assert!(matches!(pair.repair(), (Ok(_), _)));
    assert!(pair.are_equal());
    assert_eq!(pair.contents(0).len(), 5_000);
}

#[test]
fn lost_messages_are_asked_for_again() {
    for loses in [3, 4, 5] {
        let mut pair = Pair::new();
        pair.put(&[0, 1], 0..3_000, 1);
        pair.put(&[0], 100..130, 2);
        pair.put(&[1], 2_000..2_050, 2);
        pair.loses = Some(loses);
        let (outcome, _) = pair.repair();
        assert!(outcome.is_ok(), "{outcome:?}");
        assert!(pair.are_equal());
    }
}

#[test]
fn an_answer_that_cannot_be_ends_the_comparison_and_nothing_else() {
    let page = |end| Answer::List(Page { entries: Vec::new(), end });
    let differ =
        |position| Answer::Differ { differing: vec![Differing { position, records: 1 }], settled: Stamp::ZERO };
    let stray = (RecordKey::new(TableId(2), &Key::from("x")).expect("a short key"), record(1));
    for answer in
        [page(None), page(Some(key(1))), differ(1), Answer::Joined(vec![7]), Answer::Records(vec![stray.clone()])]
    {
        let mut pair = Pair::new();
        pair.put(&[0], 0..10, 1);
        let request = Request::Repair(RepairScope::Everything);
        pair.handle(0, Event::Request { origin: Origin::Client(1), deadline: Millis::MAX, request });
        pair.handle(0, Event::Deadline);
        let Some(Message::RepairAsk { tag, .. }) = pair.inboxes[1].pop_front() else { panic!("it asks first") };
        let before = pair.contents(0);
        pair.handle(0, Event::Message { from: NodeId(2), message: Message::RepairAnswer { tag, answer: Ok(answer) } });
        pair.handle(0, Event::Deadline);
        let Some(Err(RepairError::Incomplete(report))) = pair.outcome.take() else { panic!("it has failed") };
        assert_eq!(report.unfinished[0].why, UnfinishedReason::Refused);
        assert_eq!(pair.contents(0), before);
        assert!(matches!(pair.repair(), (Ok(_), _)), "the next one goes well");
        assert!(pair.are_equal());
    }
    // A record of another table is not taken from somebody who asks, either.
    let mut pair = Pair::new();
    let place = Place { table: TABLE, partition: kv_ring::PartitionId(0) };
    let message = Message::RepairAsk { tag: 1, epoch: 1, place, question: Question::Join(vec![stray]) };
    pair.handle(0, Event::Message { from: NodeId(2), message });
    assert!(pair.contents(0).is_empty());
    assert_eq!(pair.sides[0].machine.status().records_unfit, 1);
    for (epoch, partition, refusal) in
        [(2, 0, Refusal::Fenced { epoch: 1 }), (1, 1, Refusal::NotReplica), (1, u32::MAX, Refusal::NotReplica)]
    {
        let place = Place { table: TABLE, partition: kv_ring::PartitionId(partition) };
        let question = Question::Compare(vec![(crate::comparison::Branch::ROOT, 0)]);
        let message = Message::RepairAsk { tag: 1, epoch, place, question };
        pair.inboxes[1].clear();
        pair.handle(0, Event::Message { from: NodeId(2), message });
        assert_eq!(pair.inboxes[1].pop_back(), Some(Message::RepairAnswer { tag: 1, answer: Err(refusal) }));
    }
}
