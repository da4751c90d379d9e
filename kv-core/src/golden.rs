//! The examples of `docs/protocol.md` are what this crate writes, byte for byte, and what it reads.

use bytes::Bytes;

use crate::NodeId;
use crate::codec::Reader;
use crate::context::CausalContext;
use crate::crdt::{Crdt, DotStore, Field, Kind, Update};
use crate::expiry::Expiry;
use crate::hlc::Stamp;
use crate::key::{Key, RecordKey, TableId};
use crate::record::{OperationId, Payload, Record, Rule, Version};
use crate::time::Millis;
use crate::version::{Actor, Dot, Incarnation, VersionVector};

/// The bytes of the example `name`: what stands before the bar in each line of the block that begins with `hex NAME`.
fn example(name: &str) -> Vec<u8> {
    let document = include_str!("../../docs/protocol.md");
    let begin = format!("```hex {name}\n");
    let at = document.find(&begin).unwrap_or_else(|| panic!("docs/protocol.md has no example {name}")) + begin.len();
    let block = &document[at..at + document[at..].find("```").expect("the example ends")];
    let digits = block.lines().flat_map(|line| line.split('|').next().unwrap_or_default().split_whitespace());
    digits.map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits")).collect()
}

#[track_caller]
fn assert_same(name: &str, written: &[u8]) {
    let hex = |bytes: &[u8]| -> Vec<String> {
        bytes.chunks(16).map(|line| line.iter().map(|byte| format!("{byte:02x} ")).collect()).collect()
    };
    assert_eq!(hex(written), hex(&example(name)), "the example {name} of docs/protocol.md");
}

const ACTOR: Actor = Actor { node: NodeId(1), incarnation: Incarnation(0x1122_3344_5566_7788), epoch: 1 };

fn seen() -> VersionVector {
    [1, 2, 3, 4, 6].into_iter().map(|counter| Dot { actor: ACTOR, counter }).collect()
}

#[test]
fn a_context() {
    let key = RecordKey::new(TableId(7), &Key::from("user")).unwrap();
    let context = CausalContext::seal(&key, &seen());
    assert_same("context", context.as_bytes());
    assert_eq!(CausalContext::from_bytes(example("context").into()).open(&key), Ok(seen()));
}

#[test]
fn records_of_versions() {
    let version = Version {
        birth: Stamp(9),
        payload: Payload::Value(Bytes::from_static(b"cart")),
        expiry: Expiry::at(Millis(300)),
        operation: Some(OperationId(2)),
    };
    let siblings = Record::empty(Rule::Siblings).sibling(ACTOR, 0, &seen(), version);
    assert_same("siblings", &siblings.to_bytes());
    assert_eq!(Record::decode_slice(&example("siblings")), Ok(siblings));

    let deleted = Version { birth: Stamp(9), payload: Payload::Tombstone, expiry: Expiry::NEVER, operation: None };
    let last = Record::last_write(ACTOR, deleted);
    assert_same("last-write", &last.to_bytes());
    assert_eq!(Record::decode_slice(&example("last-write")), Ok(last));
}

fn field(kind: Kind, name: &'static str) -> Field {
    Field { kind, name: Bytes::from_static(name.as_bytes()) }
}

fn into(kind: Kind, name: &'static str, update: Update) -> Update {
    Update::In(field(kind, name), Box::new(update))
}

#[test]
fn a_record_of_every_data_type() {
    let mut record = Record::empty(Rule::Crdt(Kind::Map));
    let updates = [
        into(Kind::Counter, "n", Update::Add(10)),
        into(Kind::Counter, "n", Update::Clear),
        into(Kind::Counter, "n", Update::Add(-3)),
        into(Kind::Set, "s", Update::Insert("milk".into())),
        into(Kind::LwwMap, "l", Update::Put { key: "k".into(), value: "v".into() }),
        into(Kind::Map, "m", into(Kind::EnableWinsFlag, "e", Update::Switch(true))),
        into(Kind::DisableWinsFlag, "d", Update::Switch(false)),
        into(Kind::MaxRegister, "x", Update::Offer(70)),
        into(Kind::MinRegister, "i", Update::Offer(-70)),
        into(Kind::MvRegister, "r", Update::Write("one".into())),
    ];
    for (birth, update) in (1..).zip(updates) {
        let operation = (birth == 3).then_some(OperationId(2));
        let change = record.updated(ACTOR, 0, Stamp(birth), operation, None, &update).unwrap();
        record = record.join(&change).unwrap();
    }
    assert!(record.crdt().is_some_and(Crdt::is_live));
    assert_same("crdt", &record.to_bytes());
    assert_eq!(Record::decode_slice(&example("crdt")), Ok(record));
}

#[test]
fn an_update() {
    let update = into(Kind::Counter, "n", Update::Add(-3));
    let mut out = Vec::new();
    update.encode(&mut out);
    assert_same("update", &out);
    let bytes = example("update");
    let mut reader = Reader::new(&bytes);
    assert_eq!(Update::decode(&mut reader), Ok(update));
    assert_eq!(reader.remaining(), 0);
}
