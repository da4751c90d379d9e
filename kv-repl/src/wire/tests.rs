use std::sync::Arc;

use kv_core::context::CausalContext;
use kv_core::crdt::{CounterOverflow, Field, Kind, Update, UpdateRefused};
use kv_core::evict::PolicyKind;
use kv_core::expiry::Expiry;
use kv_core::hash::Token;
use kv_core::hlc::{ClockDrift, Stamp};
use kv_core::key::{Key, RecordKey, TableId};
use kv_core::record::{OperationId, Payload};
use kv_core::time::Millis;
use kv_core::version::{Actor, Dot, VersionVector};
use proptest::prelude::*;

use super::*;
use crate::catalog::{Founding, FoundingMember, TableSchema};
use crate::comparison::{Answer, Branch, Differing, Entry, FloorAnswer, FloorStep, Level, Page, Place, Question};
use crate::digest::digest;
use crate::liveness::{Claim, Liveness, Rumour};
use crate::member::Member;
use crate::message::{Refusal, Unwelcome};
use crate::quorum::TooFewReplicas;
use crate::request::{Attempt, ClusterError, Modify, Put, WriteError, Written};
use crate::scan::listing::{Listed, Listing};
use crate::sight::{HeldRecord, HeldVersion, KeptHint, PeerSight, Sight};
use crate::status::Standing;
use crate::table_options::TableOptions;
use crate::{Consistency, NodeId};

fn header() -> Header {
    Header {
        cluster: ClusterId(0x0f),
        from: NodeId(1),
        from_incarnation: Incarnation(0x11),
        from_boot: Boot(2),
        to_incarnation: Incarnation(0x22),
        to_boot: Boot(3),
    }
}

fn key() -> RecordKey {
    RecordKey::new(TableId(1), &Key::from(("user", "mail"))).unwrap()
}

fn founding() -> Founding {
    let members = [1, 2, 3].map(|node| {
        let member = Member::new(NodeId(node), format!("127.0.0.1:{node}")).zone("a").weight(2);
        FoundingMember::new(member, Incarnation(node * 7))
    });
    Founding { cluster: ClusterId(5), epoch: 1, partitions: 16, members: members.to_vec() }
}

fn replaced() -> Founding {
    let mut founding = founding();
    founding.succeed(NodeId(2), Incarnation(99), Millis(1_700_000_000_000));
    founding
}

/// One of each.
fn rumours() -> Vec<Rumour> {
    [(2, Liveness::Alive, 2), (3, Liveness::Suspect, 2), (300, Liveness::Dead, 1)]
        .map(|(about, liveness, by)| Rumour {
            about: NodeId(about),
            incarnation: Incarnation(about * 7),
            claim: Claim { boot: Boot(4), refutations: 1 },
            liveness,
            by: NodeId(by),
        })
        .to_vec()
}

fn asking(question: Question) -> Message {
    let place = Place { table: TableId(1), partition: kv_ring::PartitionId(3) };
    Message::RepairAsk { tag: 300, epoch: 1, place, question }
}

fn branch() -> Branch {
    Branch::new(4, 9).unwrap()
}

/// One of each, with every optional part both there and not.
fn questions() -> Vec<Question> {
    let record = (key(), Bytes::from_static(b"record"));
    vec![
        Question::Compare(vec![(Branch::ROOT, 1 << 100), (branch(), 7)]),
        Question::List { branch: branch(), after: None },
        Question::List { branch: Branch::ROOT, after: Some(key()) },
        Question::Fetch { branch: branch(), after: Some(key()), keys: vec![5, 6] },
        Question::Join(vec![record.clone(), record]),
    ]
}

/// As [`questions`].
fn answers() -> Vec<Answer> {
    let entries = vec![Entry { key: 5, state: 6 }, Entry { key: 7, state: 8 }];
    vec![
        Answer::Working,
        Answer::Differ { differing: vec![Differing { position: 1, records: 300 }], settled: Stamp::ZERO },
        Answer::List(Page { entries: entries.clone(), end: None }),
        Answer::List(Page { entries, end: Some(key()) }),
        Answer::Records(vec![(key(), Bytes::from_static(b"record"))]),
        Answer::Joined(vec![0, 300]),
        Answer::Differ { differing: vec![Differing { position: 1, records: 300 }], settled: Stamp(1 << 20) },
    ]
}

fn floor_ask(step: FloorStep) -> Message {
    let place = Place { table: TableId(1), partition: kv_ring::PartitionId(3) };
    Message::FloorAsk { tag: 13, epoch: 1, place, step }
}

/// One of each.
fn floor_messages() -> Vec<Message> {
    let level = Level { settled: Stamp(5 << 16), purged: Stamp(4 << 16) };
    let told = |answer| Message::FloorTold { tag: 13, answer };
    vec![
        floor_ask(FloorStep::Promise { up_to: Stamp(9 << 16), level }),
        floor_ask(FloorStep::Raise(level)),
        told(Ok(FloorAnswer::Promised { lives: 7 })),
        told(Ok(FloorAnswer::Able(Stamp(8 << 16)))),
        told(Ok(FloorAnswer::Unequal(level))),
        told(Ok(FloorAnswer::Raised { clock: Stamp(10 << 16) })),
        told(Err(Refusal::Importing)),
    ]
}

fn together() -> Message {
    Message::Together(vec![
        Message::Write { tag: 9, epoch: 1, key: key(), record: Bytes::from_static(b"record") },
        Message::Read { tag: 10, epoch: 1, key: key(), digest: true },
    ])
}

/// With every optional part both there and not.
fn described() -> Message {
    let actor = Actor { node: NodeId(1), incarnation: Incarnation(9), epoch: 1 };
    let value = HeldVersion {
        dot: Dot { actor, counter: 4 },
        birth: Stamp(1 << 20),
        is_tombstone: false,
        bytes: 5,
        expiry: Expiry::at(Millis(1000)),
        operation: Some(OperationId(77)),
    };
    let tombstone = HeldVersion { is_tombstone: true, bytes: 0, expiry: Expiry::NEVER, operation: None, ..value };
    let record = HeldRecord {
        digest: 1 << 100,
        bytes: 40,
        birth_max: Stamp(1 << 20),
        context: VersionVector::of(value.dot),
        versions: vec![value, tombstone],
    };
    let knows = PeerSight {
        peer: NodeId(2),
        hint: Some(KeptHint { bytes: 60, oldest: Stamp(1 << 20) }),
        owed: true,
        compared_ago: Some(Millis(900)),
    };
    let nothing = PeerSight { peer: NodeId(300), hint: None, owed: false, compared_ago: None };
    Message::Described { tag: 11, outcome: Ok(Box::new(Sight { record: Some(record), peers: vec![knows, nothing] })) }
}

fn scan() -> Message {
    let (from, until) = (key().as_bytes().clone(), key().as_bytes().slice(..key().as_bytes().len() - 4));
    let until = Some([&until[..], b"n"].concat().into());
    Message::Scan { tag: 12, epoch: 1, from, until, keys_max: 36, bytes_max: 1000, digests: true }
}

fn listed() -> Message {
    let other = RecordKey::new(TableId(1), &Key::from(("user", "name"))).unwrap();
    let entries = vec![
        (key(), Listed::Record(Bytes::from_static(b"record"))),
        (other.clone(), Listed::Digest(digest(Some(b"record")))),
    ];
    Message::Listed { tag: 12, outcome: Ok(Listing { entries, end: Some(other) }) }
}

fn keep() -> Message {
    Message::Keep { tag: 9, epoch: 1, target: NodeId(3), key: key(), record: Bytes::from_static(b"record") }
}

fn create_sloppy() -> Message {
    Message::CreateTable { tag: 5, name: "carts".to_owned(), options: TableOptions::siblings().sloppy() }
}

fn forward_update(modify: Modify) -> Message {
    Message::ForwardUpdate { tag: 8, settled_below: 7, time_left: Millis(50), modify: Box::new(modify) }
}

/// One of each, with every optional part both there and not.
fn changes() -> Vec<Modify> {
    let counted = Modify {
        after: None,
        key: key(),
        update: Update::Add(-3),
        context: None,
        operation: OperationId(77),
        attempt: Attempt::Again { asked: Some((NodeId(2), Boot(3))) },
        consistency: Consistency::Quorum,
        strict: false,
    };
    let context = Some(CausalContext::seal(&key(), &VersionVector::new()));
    let nested = Update::In(Field { kind: Kind::Set, name: Bytes::from_static(b"tags") }, Box::new(Update::Clear));
    vec![
        counted.clone(),
        Modify { attempt: Attempt::Again { asked: None }, update: Update::Insert(Bytes::new()), ..counted.clone() },
        Modify { after: context.clone(), ..counted.clone() },
        Modify { strict: true, ..counted.clone() },
        Modify { attempt: Attempt::First, update: nested, after: context.clone(), context, ..counted },
    ]
}

/// One of each, with every optional part both there and not.
fn messages() -> Vec<Message> {
    let actor = Actor { node: NodeId(1), incarnation: Incarnation(9), epoch: 1 };
    let dot = Dot { actor, counter: 4 };
    let context = CausalContext::seal(&key(), &VersionVector::of(dot));
    let put = Put {
        key: key(),
        payload: Payload::Value(Bytes::from_static(b"value")),
        context: Some(context.clone()),
        ttl: Some(Millis(1000)),
        operation: OperationId(77),
        consistency: Consistency::Quorum,
        strict: false,
    };
    let strict = Put { strict: true, ..put.clone() };
    let bare =
        Put { payload: Payload::Tombstone, context: None, ttl: None, consistency: Consistency::All, ..put.clone() };
    let options = TableOptions::siblings().replicas(3);
    let layout = Arc::new(founding().lay_out(3).unwrap());
    let table = TableSchema { id: TableId(1), name: "carts".to_owned(), options: options.clone(), layout };
    let forward = |put: Put| Message::Forward { tag: 8, settled_below: 7, time_left: Millis(50), put: Box::new(put) };
    let written = Written { dot, birth: Stamp(1 << 20), context, acknowledged: 2, fallbacks: 0 };
    let kept = Written { acknowledged: 1, fallbacks: 300, ..written.clone() };
    let failures = [
        WriteError::RecordTooLarge { bytes: 10, bytes_max: 9 },
        WriteError::TooManySiblings { held: 5, held_max: 5 },
        WriteError::Unavailable { reachable: 1, required: 2 },
        WriteError::Ambiguous { operation: OperationId(3), acknowledged: 1, fallbacks: 0, required: 2 },
        WriteError::Ambiguous { operation: OperationId(3), acknowledged: 1, fallbacks: 1, required: 3 },
        WriteError::ClockDrift(ClockDrift { ahead: Millis(900), drift_max: Millis(500) }),
        WriteError::UnknownTable,
        WriteError::DeadlinePassed,
        WriteError::Overloaded { retry_after: Millis(300) },
        WriteError::NotServing(Standing::Quarantined),
        WriteError::Store("why".to_owned()),
        WriteError::Update(UpdateRefused::WrongKind(Kind::Set)),
        WriteError::Update(UpdateRefused::ContextAhead),
        WriteError::CacheFull,
        WriteError::Importing,
        WriteError::Update(UpdateRefused::Overflow(CounterOverflow { actor, total: i64::MAX, amount: -1 })),
        WriteError::Update(UpdateRefused::TooDeep),
        WriteError::TooFewReplicas(TooFewReplicas { consistency: Consistency::LocalOne, replicas: 0, required: 1 }),
    ];
    let creations = [
        Ok(4),
        Err(ClusterError::TableExists),
        Err(ClusterError::InvalidTable("why".to_owned())),
        Err(ClusterError::Incomplete { missing: vec![NodeId(2), NodeId(300)] }),
        Err(ClusterError::NotServing(Standing::Confirming)),
    ];
    let refusals = [
        Refusal::Fenced { epoch: 2 },
        Refusal::UnknownTable,
        Refusal::NotReplica,
        Refusal::NotServing,
        Refusal::Damaged,
        Refusal::Full,
        Refusal::Overloaded { retry_after: Millis(300) },
        Refusal::Importing,
        Refusal::Early,
        Refusal::BelowFloor,
    ];
    let mut all = vec![
        Message::Hello { nonce: 1, catalog_version: 2, address: String::new() },
        Message::Hello { nonce: 1, catalog_version: 2, address: "127.0.0.1:9".to_owned() },
        Message::HelloReply { nonce: 1, own_nonce: 3, catalog_version: 2 },
        Message::Found(Box::new(founding())),
        Message::Found(Box::new(replaced())),
        Message::Replace { nonce: 4 },
        Message::CatalogPush { after: 0, tables: vec![Arc::new(table)] },
        Message::CatalogHave { version: 1 },
        Message::CreateTable { tag: 5, name: "carts".to_owned(), options },
        Message::CreateTable {
            tag: 5,
            name: "x".to_owned(),
            options: TableOptions::last_write_wins().default_ttl(std::time::Duration::from_secs(9)),
        },
        Message::CreateTable { tag: 5, name: "likes".to_owned(), options: TableOptions::crdt(Kind::Counter) },
        Message::CreateTable {
            tag: 5,
            name: "sessions".to_owned(),
            options: TableOptions::cache(PolicyKind::Lru).ttl_max(std::time::Duration::from_secs(9)),
        },
        forward(put),
        forward(bare),
        forward(strict),
        Message::Forwarded { tag: 8, outcome: Ok(written) },
        Message::Forwarded { tag: 8, outcome: Ok(kept) },
        keep(),
        Message::Kept { tag: 9, target: NodeId(3), refused: None },
        create_sloppy(),
        Message::Write { tag: 9, epoch: 1, key: key(), record: Bytes::from_static(b"record") },
        Message::WriteReply { tag: 9, refused: None },
        Message::Read { tag: 1 << 63, epoch: 1, key: key(), digest: false },
        Message::ReadReply { tag: 1 << 63, outcome: Ok(None) },
        Message::DigestReply { tag: 1 << 63, outcome: Ok(u128::MAX - 1) },
        Message::Read { tag: 1 << 63, epoch: 1, key: key(), digest: true },
        Message::ReadReply { tag: 1 << 63, outcome: Ok(Some(Bytes::from_static(b"record"))) },
        Message::Ping { sequence: 1, rumours: rumours() },
        Message::Ping { sequence: 300, rumours: Vec::new() },
        Message::PingRequest { sequence: 2, target: NodeId(3), rumours: rumours() },
        Message::Ack { sequence: 2, rumours: rumours() },
        Message::Nack { sequence: 2 },
        Message::News { rumours: rumours() },
        Message::Exchange { asks: true, rumours: rumours() },
        Message::Exchange { asks: false, rumours: Vec::new() },
        together(),
        Message::Together(Vec::new()),
        Message::Describe { tag: 11, epoch: 1, key: key() },
        described(),
        Message::Described { tag: 11, outcome: Ok(Box::new(Sight { record: None, peers: Vec::new() })) },
        Message::Described { tag: 11, outcome: Err(Refusal::NotReplica) },
        scan(),
        listed(),
        Message::Scan {
            tag: 12,
            epoch: 1,
            from: Bytes::copy_from_slice(&RecordKey::range_start(TableId(1), Token(0))),
            until: None,
            keys_max: 1,
            bytes_max: 1 << 20,
            digests: false,
        },
        Message::Listed { tag: 12, outcome: Ok(Listing { entries: Vec::new(), end: None }) },
        Message::Listed { tag: 12, outcome: Err(Refusal::Fenced { epoch: 2 }) },
    ];
    all.extend(
        [Unwelcome::OtherIncarnation, Unwelcome::RolledBack, Unwelcome::Stranger]
            .map(|reason| Message::Unwelcome { nonce: 6, reason }),
    );
    all.extend(failures.map(|error| Message::Forwarded { tag: 8, outcome: Err(error) }));
    all.extend(creations.map(|outcome| Message::TableCreated { tag: 5, outcome }));
    all.extend(refusals.map(|refusal| Message::WriteReply { tag: 9, refused: Some(refusal) }));
    all.extend(refusals.map(|refusal| Message::Kept { tag: 9, target: NodeId(3), refused: Some(refusal) }));
    all.extend(changes().into_iter().map(forward_update));
    all.extend(questions().into_iter().map(asking));
    all.extend(answers().into_iter().map(|answer| Message::RepairAnswer { tag: 300, answer: Ok(answer) }));
    all.push(Message::RepairAnswer { tag: 300, answer: Err(Refusal::NotServing) });
    all.extend(floor_messages());
    all.extend(refusals.map(|refusal| Message::DigestReply { tag: 9, outcome: Err(refusal) }));
    all.extend(refusals.map(|refusal| Message::ReadReply { tag: 9, outcome: Err(refusal) }));
    all
}

fn frame(messages: &[Message]) -> Bytes {
    let mut writer = FrameWriter::new(&header());
    for message in messages {
        assert!(writer.push(message, usize::MAX));
    }
    writer.finish()
}

#[test]
fn every_message_comes_back() {
    let sent = messages();
    let received = decode(&frame(&sent)).unwrap();
    assert_eq!(received.header, header());
    assert_eq!(received.messages, sent);
    assert_eq!(received.unknown, 0);
}

#[test]
fn a_frame_that_is_cut_or_altered_anywhere_is_refused() {
    let whole = frame(&messages());
    for at in 0..whole.len() {
        assert!(decode(&whole.slice(..at)).is_err(), "cut at {at}");
        let mut altered = whole.to_vec();
        altered[at] ^= 1;
        assert!(decode(&altered.into()).is_err(), "altered at {at}");
    }
}

#[test]
fn unknown_kinds_are_skipped_and_counted() {
    let mut bytes = frame(&[Message::CatalogHave { version: 1 }]).to_vec();
    bytes.extend_from_slice(&[200, 3, 1, 2, 3]);
    let received = decode(&with_right_checksum(&bytes)).unwrap();
    assert_eq!(received.messages, [Message::CatalogHave { version: 1 }]);
    assert_eq!(received.unknown, 1);
}

#[test]
fn only_messages_of_requests_travel_together_and_only_side_by_side() {
    for alone in [Message::Nack { sequence: 2 }, Message::CatalogHave { version: 1 }, Message::Together(Vec::new())] {
        let bytes = frame(&[Message::Together(vec![Message::WriteReply { tag: 9, refused: None }, alone.clone()])]);
        assert!(decode(&bytes).is_err(), "{alone:?}");
    }
    let bytes = frame(&[Message::Together(Vec::new())]).to_vec();
    let mut bytes = bytes[..bytes.len() - 1].to_vec();
    bytes.extend_from_slice(&[7, 200, 1, 7, 12, 2, 9, 0]);
    let received = decode(&with_right_checksum(&bytes)).unwrap();
    let known = Message::Together(vec![Message::WriteReply { tag: 9, refused: None }]);
    assert_eq!(received.messages, [known], "an unknown kind among them is skipped");
}

#[test]
fn messages_that_travel_together_can_be_cut_in_two() {
    let parts = |message| match message {
        Message::Together(parts) => parts,
        message => vec![message],
    };
    let reply = |tag| Message::WriteReply { tag, refused: None };
    for count in 2..6 {
        let all: Vec<Message> = (0..count).map(reply).collect();
        let (first, second) = Message::Together(all.clone()).halves().unwrap();
        assert_eq!([parts(first), parts(second)].concat(), all);
    }
    assert_eq!(reply(1).halves(), None);
    assert_eq!(Message::Together(vec![reply(1)]).halves(), None);
}

#[test]
fn a_message_that_does_not_fit_leaves_the_frame_as_it_was() {
    let mut writer = FrameWriter::new(&header());
    assert!(writer.push(&Message::CatalogHave { version: 1 }, 200));
    let large = Message::Write { tag: 1, epoch: 1, key: key(), record: vec![0; 300].into() };
    assert!(!writer.push(&large, 200));
    assert_eq!(decode(&writer.finish()).unwrap().messages, [Message::CatalogHave { version: 1 }]);
}

#[test]
fn a_write_without_a_name_is_no_outcome() {
    let actor = Actor { node: NodeId(1), incarnation: Incarnation(9), epoch: 1 };
    let context = CausalContext::seal(&key(), &VersionVector::new());
    let outcome = |counter| {
        let dot = Dot { actor, counter };
        let written = Written { dot, birth: Stamp(1), context: context.clone(), acknowledged: 1, fallbacks: 0 };
        decode(&frame(&[Message::Forwarded { tag: 3, outcome: Ok(written) }]))
    };
    assert_eq!(outcome(0).unwrap_err().what, "counter zero names no write");
    assert!(outcome(1).is_ok() && outcome(u64::MAX).is_ok());
}

proptest! {
    /// With the checksum made right again, the decoder itself must hold.
    #[test]
    fn altered_bodies_never_panic(seed in any::<prop::sample::Index>(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let all = messages();
        let mut bytes = frame(&all[seed.index(all.len())..]).to_vec();
        for (at, value) in flips {
            let at = HEADER_AT + at.index(bytes.len() - HEADER_AT);
            bytes[at] = value;
        }
        if let Ok(received) = decode(&with_right_checksum(&bytes)) {
            prop_assert_eq!(decode(&frame(&received.messages)).unwrap().messages, received.messages);
        }
    }
}

#[test]
fn the_examples_in_the_documentation_are_true() {
    let document = include_str!("../../../docs/protocol.md");
    let examples: Vec<(String, Vec<u8>)> = document
        .lines()
        .filter_map(|line| line.strip_prefix("message ").filter(|rest| !rest.starts_with(char::is_whitespace)))
        .map(|line| {
            let (name, hex) = line.split_once(':').expect("a name and its bytes");
            let bytes = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("bytes in hex"));
            (name.trim().to_owned(), bytes.collect())
        })
        .collect();
    let expected = [
        ("hello", Message::Hello { nonce: 1, catalog_version: 2, address: "h:1".to_owned() }),
        ("write", Message::Write { tag: 9, epoch: 1, key: key(), record: Bytes::from_static(b"record") }),
        ("write-reply", Message::WriteReply { tag: 9, refused: None }),
        ("read", Message::Read { tag: 10, epoch: 1, key: key(), digest: false }),
        ("read-digest", Message::Read { tag: 10, epoch: 1, key: key(), digest: true }),
        ("digest-reply", Message::DigestReply { tag: 10, outcome: Ok(digest(Some(b"record"))) }),
        ("read-reply", Message::ReadReply { tag: 10, outcome: Ok(Some(Bytes::from_static(b"record"))) }),
        ("ping", Message::Ping { sequence: 5, rumours: rumours()[1..2].to_vec() }),
        ("ping-request", Message::PingRequest { sequence: 5, target: NodeId(3), rumours: Vec::new() }),
        ("ack", Message::Ack { sequence: 5, rumours: rumours()[..1].to_vec() }),
        ("nack", Message::Nack { sequence: 5 }),
        ("news", Message::News { rumours: rumours() }),
        ("exchange", Message::Exchange { asks: true, rumours: rumours() }),
        ("repair-compare", asking(questions()[0].clone())),
        ("repair-list", asking(questions()[2].clone())),
        ("repair-fetch", asking(questions()[3].clone())),
        ("repair-join", asking(questions()[4].clone())),
        ("repair-differ", Message::RepairAnswer { tag: 300, answer: Ok(answers()[1].clone()) }),
        ("repair-page", Message::RepairAnswer { tag: 300, answer: Ok(answers()[3].clone()) }),
        ("repair-records", Message::RepairAnswer { tag: 300, answer: Ok(answers()[4].clone()) }),
        ("repair-joined", Message::RepairAnswer { tag: 300, answer: Ok(answers()[5].clone()) }),
        ("forward-update", forward_update(changes().remove(0))),
        ("together", together()),
        ("describe", Message::Describe { tag: 11, epoch: 1, key: key() }),
        ("described", described()),
        ("scan", scan()),
        ("listed", listed()),
        ("create-sloppy-table", create_sloppy()),
        ("keep", keep()),
        ("kept", Message::Kept { tag: 9, target: NodeId(3), refused: None }),
        ("floor-promise", floor_messages().remove(0)),
        ("floor-raise", floor_messages().remove(1)),
        ("floor-promised", floor_messages().remove(2)),
        ("floor-unequal", floor_messages().remove(4)),
        ("floor-raised", floor_messages().remove(5)),
    ];
    // To write an example anew: KV_REPL_PRINT_EXAMPLES=1 cargo test -p kv-repl --lib documentation -- --nocapture
    if std::env::var_os("KV_REPL_PRINT_EXAMPLES").is_some() {
        for (name, message) in &expected {
            let hex: Vec<String> =
                frame(std::slice::from_ref(message)).iter().map(|byte| format!("{byte:02x}")).collect();
            println!("message {name}: {}", hex.join(" "));
        }
    }
    assert_eq!(examples.len(), expected.len());
    for ((name, bytes), (expected_name, message)) in examples.iter().zip(expected) {
        assert_eq!(name, expected_name);
        let hex: Vec<String> = frame(std::slice::from_ref(&message)).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            &decode(&bytes.clone().into())
                .unwrap_or_else(|error| panic!("{name}: {error}; it is {}", hex.join(" ")))
                .messages,
            &[message]
        );
        assert_eq!(&frame(&decode(&bytes.clone().into()).unwrap().messages), &bytes[..]);
    }
}
