//! Rules of hints that need another layout, or a moment between two turns: the machine alone, with a store.

use bytes::Bytes;
use kv_core::hlc::Stamp;
use kv_core::key::{Key, RecordKey, TableId};
use kv_core::record::{Payload, Record, Version};
use kv_core::store::SpaceOptions;
use kv_core::time::Now;
use kv_core::version::{Actor, Incarnation};
use kv_core::{Expiry, MemStore, Store};

use super::format::{is_marked, read_hint_key};
use super::*;
use crate::catalog::{Founding, FoundingMember, TableSchema};
use crate::config::Config;
use crate::identity::{Boot, ClusterId};
use crate::member::Member;
use crate::message::Refusal;
use crate::peers::Peers;
use crate::status::Standing;
use crate::table_options::TableOptions;

const TABLE: TableId = TableId(1);

/// Node 1 of a cluster of `nodes` with one table of three replicas, all of whose peers can be reached.
struct One<'a> {
    hints: Hints,
    store: &'a MemStore,
    catalog: Catalog,
    me: Identity,
    peers: Peers,
    now: Millis,
    /// What it has said to be moot.
    moot: Vec<(NodeId, Place)>,
}

fn catalog<const N: usize>(nodes: [u64; N]) -> Catalog {
    let members =
        nodes.into_iter().map(|node| FoundingMember::new(Member::new(NodeId(node), "in memory"), Incarnation(node)));
    let founding = Founding { cluster: ClusterId(5), epoch: 1, partitions: 4, members: members.collect() };
    let layout = founding.lay_out(3).expect("three of them").into();
    let mut catalog = Catalog::new(founding);
    let options = TableOptions::last_write_wins().replicas(3);
    catalog.add(TableSchema { id: TABLE, name: "table".to_owned(), options, layout }.into());
    catalog
}

fn key() -> RecordKey {
    key_of(0)
}

fn key_of(number: u64) -> RecordKey {
    RecordKey::new(TABLE, &Key::from(format!("key {number}"))).expect("a short key")
}

fn change(birth: u64) -> Bytes {
    let actor = Actor { node: NodeId(1), incarnation: Incarnation(1), epoch: 1 };
    let payload = Payload::Value(Bytes::from_static(b"value"));
    let version = Version { birth: Stamp(birth << 16), payload, expiry: Expiry::NEVER, operation: None };
    Record::last_write(actor, version).to_bytes()
}

impl<'a> One<'a> {
    fn new(store: &'a MemStore, catalog: Catalog, bytes_max: u64) -> Self {
        Self::within(store, catalog, &Config { hint_bytes_max: bytes_max, ..Config::default() }, Vec::new())
    }

    fn within(store: &'a MemStore, catalog: Catalog, config: &Config, marks: Vec<(NodeId, Place)>) -> Self {
        let settings = Settings::check(config, 64 * 1024).expect("they are valid");
        let (incarnation, boot) = (Incarnation(1), Boot(1));
        let me = Identity { node: NodeId(1), incarnation, boot, nonce: 1, epoch: 1, quarantined: false };
        let hints = Hints::restore(&settings, &me, Some(&catalog), marks, store).expect("a store in memory reads");
        let mut peers = Peers::default();
        (2..=9).for_each(|node| peers.greeted(NodeId(node)));
        Self { hints, store, catalog, me, peers, now: Millis(1_000), moot: Vec::new() }
    }

    /// Lets the machine do something, and returns the messages that it sends and the tickets under which it owes.
    fn act(
        &mut self,
        act: impl FnOnce(&mut Hints, &Environment<'_>, &mut Vec<Action>),
    ) -> (Vec<(NodeId, Message)>, Vec<u64>) {
        let mut out = Vec::new();
        let environment = Environment {
            now: Now { monotonic: self.now, wall: self.now },
            view: self.store,
            me: &self.me,
            standing: Standing::Serving,
            catalog: Some(&self.catalog),
            peers: &self.peers,
            imports: &crate::imports::Imports::default(),
            floors: &crate::floors::Floors::default(),
            caches: &crate::caches::Caches::new(Millis(500)),
            overload: None,
        };
        act(&mut self.hints, &environment, &mut out);
        let (mut sent, mut tickets) = (Vec::new(), Vec::new());
        for action in out {
            match action {
                Action::Store { batch, .. } => {
                    self.store.commit(&batch).expect("a store in memory takes a batch");
                }
                Action::Send { to, message, .. } => sent.push((to, message)),
                Action::Notify(Notice::Owed { ticket, .. }) => tickets.push(ticket),
                Action::Notify(Notice::Moot { peer, place }) => self.moot.push((peer, place)),
                other => panic!("not what this machine does: {other:?}"),
            }
        }
        (sent, tickets)
    }

    fn miss(&mut self, target: u64, birth: u64) -> Vec<u64> {
        self.act(|hints, env, out| hints.missed(env, NodeId(target), &key(), &change(birth), out)).1
    }

    /// Everybody has answered a greeting, and a while passes. Whatever is sent is acknowledged. Returns to whom it was sent.
    fn deliver(&mut self) -> Vec<NodeId> {
        for target in 2..=9 {
            self.hints.greeted(NodeId(target), self.now);
        }
        let mut reached = Vec::new();
        for _ in 0..100 {
            self.now = self.now.saturating_add(Millis(100));
            let (sent, _) = self.act(|hints, env, out| hints.handle(env, Event::Deadline, out));
            for (to, message) in sent {
                let Message::Write { tag, .. } = message else { panic!("hints travel as writes") };
                assert!(Hints::owns(tag));
                reached.push(to);
                let reply = Message::WriteReply { tag, refused: None };
                self.act(|hints, env, out| hints.handle(env, Event::Message { from: to, message: reply }, out));
            }
        }
        reached
    }

    fn place(&self) -> Place {
        place_of(Some(&self.catalog), &key())
    }

    fn targets(&self) -> Vec<NodeId> {
        let mut targets = Vec::new();
        let scanned = self.store.scan(Space::HINTS, KeyRange::ALL, Direction::Forward, &mut |key, _| {
            targets.extend(read_hint_key(key).map(|(target, _)| target));
            ControlFlow::Continue(())
        });
        scanned.expect("a store in memory reads");
        targets
    }
}

fn store() -> MemStore {
    MemStore::new([Space::META, Space::HINTS].map(|space| (space, SpaceOptions::default())))
}

/// Something is shed while a comparison is under way.
pub(crate) fn shed_meanwhile() -> Result<(), String> {
    let store = store();
    let mut one = One::new(&store, catalog([1, 2, 3]), 0);
    let place = one.place();
    let first = one.miss(2, 1);
    let second = one.miss(2, 2);
    let (&[first], &[second]) = (&first[..], &second[..]) else { panic!("without room both are owed") };
    one.act(|hints, _, out| hints.compared(NodeId(2), place, first, out));
    if !is_marked(&store, NodeId(2), place).expect("it reads") {
        return Err("what was shed later is owed no more".to_owned());
    }
    one.act(|hints, _, out| hints.compared(NodeId(2), place, second, out));
    assert!(!is_marked(&store, NodeId(2), place).expect("it reads"), "it was paid");
    Ok(())
}

/// What was kept for a node that has left goes to those that hold the record now.
pub(crate) fn moved_away() -> Result<(), String> {
    let store = store();
    let mut one = One::new(&store, catalog([1, 2, 3]), 1 << 20);
    one.miss(2, 1);
    assert_eq!(one.targets(), [NodeId(2)]);
    // Node 2 has made way for node 4.
    let mut one = One::new(&store, catalog([1, 3, 4]), 1 << 20);
    let reached = one.deliver();
    if reached.contains(&NodeId(2)) {
        return Err("a hint went to a node that does not hold the record".to_owned());
    }
    let mut expected = vec![NodeId(3), NodeId(4)];
    expected.retain(|node| !reached.contains(node));
    // Those that were found while others were delivered come next.
    let later = if expected.is_empty() { Vec::new() } else { one.deliver() };
    expected.retain(|node| !later.contains(node));
    if !expected.is_empty() || !one.targets().is_empty() {
        return Err(format!("not all who hold the record have it: {reached:?} {later:?}"));
    }
    assert_eq!(one.hints.status().redirected, 1);
    Ok(())
}

/// Records of a hundred keys that `target` has missed.
fn miss_many(one: &mut One<'_>, target: u64) {
    for number in 0..100 {
        one.act(|hints, env, out| hints.missed(env, NodeId(target), &key_of(number), &change(1), out));
    }
}

/// Two nodes are back at a time, and a slice has room for a few hints.
pub(crate) fn served_in_turn() -> Result<(), String> {
    let store = store();
    let config = Config { hint_bytes_per_second: 40_000, ..Config::default() };
    let mut one = One::within(&store, catalog([1, 2, 3]), &config, Vec::new());
    for target in [2, 3] {
        miss_many(&mut one, target);
        one.hints.plans.insert(NodeId(target), one.now);
    }
    let mut sent = Vec::new();
    while sent.len() < 40 {
        one.now = one.now.saturating_add(Millis(10));
        sent.extend(one.act(|hints, env, out| hints.handle(env, Event::Deadline, out)).0);
    }
    let second = sent.iter().filter(|(to, _)| *to == NodeId(2)).count();
    if (10..=30).contains(&second) {
        Ok(())
    } else {
        Err(format!("of {} hints {second} went to one of two nodes", sent.len()))
    }
}

/// What was kept for a node that has left is kept for others, at the pace of deliveries.
pub(crate) fn redirected_slowly() -> Result<(), String> {
    let store = store();
    miss_many(&mut One::new(&store, catalog([1, 2, 3]), 1 << 20), 2);
    let config = Config { hint_bytes_per_second: 1_000, ..Config::default() };
    let mut one = One::within(&store, catalog([1, 3, 4]), &config, Vec::new());
    one.hints.plans.insert(NodeId(2), one.now);
    for _ in 0..100 {
        one.now = one.now.saturating_add(Millis(10));
        one.act(|hints, env, out| hints.handle(env, Event::Deadline, out));
    }
    match one.hints.status().redirected {
        0 => panic!("the first come within a second"),
        some if some < 20 => Ok(()),
        all => Err(format!("{all} hints within a second of a thousand bytes")),
    }
}

/// A comparison is owed to a node that has left.
pub(crate) fn owed_to_one_that_left() -> Result<(), String> {
    let store = store();
    let mut one = One::new(&store, catalog([1, 2, 3]), 0);
    one.miss(2, 1);
    let place = one.place();
    let marks = vec![(NodeId(2), place)];
    let mut one = One::within(&store, catalog([1, 3, 4]), &Config::default(), marks);
    one.act(|hints, env, out| hints.handle(env, Event::Deadline, out));
    assert!(!is_marked(&store, NodeId(2), place).expect("it reads"), "the mark is gone");
    if one.moot == [(NodeId(2), place)] { Ok(()) } else { Err("it is compared for ever".to_owned()) }
}

/// A hint is on its way, and the node says that it holds the change that the hint was kept for.
pub(crate) fn taken_back_on_its_way() -> Result<(), String> {
    let store = store();
    let mut one = One::new(&store, catalog([1, 2, 3]), 1 << 20);
    one.miss(2, 1);
    one.hints.greeted(NodeId(2), one.now);
    let mut sent = Vec::new();
    while sent.is_empty() {
        one.now = one.now.saturating_add(Millis(100));
        sent = one.act(|hints, env, out| hints.handle(env, Event::Deadline, out)).0;
    }
    one.act(|hints, env, out| hints.caught(env, NodeId(2), &key(), &change(1), out));
    assert_eq!(one.targets(), [], "nothing is kept any more");
    if one.hints.walks.is_empty() { Ok(()) } else { Err("a walk waits for what is not there".to_owned()) }
}

/// A store that has no space for hints.
pub(crate) fn owed_without_a_space(store: &MemStore) -> Result<(), String> {
    let mut one = One::new(store, catalog([1, 2, 3]), 1 << 20);
    one.miss(2, 1);
    let (status, place) = (one.hints.status(), one.place());
    if status.bytes_max == 0 && status.shed == 1 && is_marked(store, NodeId(2), place).expect("it reads") {
        Ok(())
    } else {
        Err(format!("{status:?}"))
    }
}

/// A node that is no replica keeps two changes for node 2, which refuses the first one each time. Returns how many it keeps then.
pub(crate) fn kept_after_refusals(refusal: Refusal) -> usize {
    let store = store();
    let mut one = One::new(&store, catalog([1, 2, 3, 4, 5]), 1 << 20);
    let is_there = |key: &RecordKey| {
        let replicas = one.catalog.table(TABLE).expect("the table").replicas_of(key.token());
        replicas.contains(&NodeId(2)) && !replicas.contains(&NodeId(1))
    };
    let mut keys: Vec<RecordKey> = (0..100).map(key_of).filter(is_there).take(2).collect();
    keys.sort_unstable();
    for key in &keys {
        one.act(|hints, env, out| hints.missed(env, NodeId(2), key, &change(1), out));
    }
    assert_eq!(one.targets().len(), 2);
    for _ in 0..50 {
        one.hints.greeted(NodeId(2), one.now);
        one.now = one.now.saturating_add(Millis(100));
        let (sent, _) = one.act(|hints, env, out| hints.handle(env, Event::Deadline, out));
        for (to, message) in sent {
            let Message::Write { tag, key, .. } = message else { panic!("hints travel as writes") };
            let reply = Message::WriteReply { tag, refused: (key == keys[0]).then_some(refusal) };
            one.act(|hints, env, out| hints.handle(env, Event::Message { from: to, message: reply }, out));
        }
    }
    one.targets().len()
}
