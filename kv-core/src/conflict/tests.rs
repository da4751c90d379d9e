use super::*;
use crate::NodeId;
use crate::expiry::{Expiring, Expiry, Ttl};
use crate::hlc::Stamp;
use crate::record::{OperationId, Payload, Version};
use crate::version::{Actor, Incarnation, VersionVector};

fn actor(node: u64) -> Actor {
    Actor { node: NodeId(node), incarnation: Incarnation(1), epoch: 0 }
}

fn value(birth: u64, text: &'static str) -> Version {
    Version {
        birth: Stamp(birth),
        payload: Payload::Value(Bytes::from_static(text.as_bytes())),
        expiry: Expiry::NEVER,
        operation: None,
    }
}

fn siblings(texts: &[&'static str]) -> Record {
    let mut record = Record::empty(Rule::Siblings);
    for (birth, text) in (1..).zip(texts) {
        let change = record.sibling(actor(birth), 0, &VersionVector::new(), value(birth, text));
        record = record.join(&change).unwrap();
    }
    record
}

/// The union of words.
fn union(_key: &[u8], values: &[&Bytes]) -> Bytes {
    let texts: Vec<_> = values.iter().map(|value| String::from_utf8_lossy(value)).collect();
    let words: std::collections::BTreeSet<&str> = texts.iter().flat_map(|text| text.split_whitespace()).collect();
    words.into_iter().collect::<Vec<_>>().join(" ").into()
}

#[test]
fn lesson_01_no_rule_but_last_write_wins_loses_a_write_that_nobody_had_seen() {
    let writes = ["milk", "bread", "eggs"];
    let record = siblings(&writes);
    assert_eq!(Conflict::Siblings.resolve(b"cart", &record, Millis(0)).values, writes);

    let merged = Conflict::Merged(Arc::new(union)).resolve(b"cart", &record, Millis(0));
    assert_eq!(merged, Resolved { values: vec!["bread eggs milk".into()], is_new: true });

    let last = |birth, text| Record::last_write(actor(birth), value(birth, text));
    let lww = last(1, "milk").join(&last(3, "eggs")).unwrap().join(&last(2, "bread")).unwrap();
    assert_eq!(Conflict::LastWriteWins.resolve(b"cart", &lww, Millis(0)).values, ["eggs"], "as its name says");
}

#[test]
fn lesson_02_a_full_record_refuses_writes_that_replace_nothing_and_drops_nothing() {
    let full = siblings(&["a", "b", "c"]);
    let blind = full.sibling(actor(1), 0, &VersionVector::new(), value(9, "d"));
    assert_eq!(admit(&full, &blind, 3), Err(NotAdmitted::TooManySiblings { held: 3, held_max: 3 }));
    assert_eq!(admit(&full, &blind, 4).unwrap().versions().len(), 4);
    // What others have acknowledged is joined all the same, and one that replaces as much as it adds is taken above the limit.
    let over = full.join(&blind).unwrap();
    assert_eq!(over.versions().len(), 4);
    let (seen, _) = over.versions()[0].clone();
    let replaces_one = over.sibling(actor(1), 0, &VersionVector::of(seen), value(10, "e"));
    assert_eq!(admit(&over, &replaces_one, 3).unwrap().versions().len(), 4);
    let settles = over.sibling(actor(2), 0, over.context(), value(11, "all"));
    assert_eq!(admit(&over, &settles, 3).unwrap().versions().len(), 1);
}

#[test]
fn lesson_02_copies_of_one_operation_are_one_value() {
    let retried = |birth, node, record: &Record| {
        let version = Version { operation: Some(OperationId(5)), ..value(birth, "milk") };
        record.join(&record.sibling(actor(node), 0, &VersionVector::new(), version)).unwrap()
    };
    let twice = retried(2, 2, &retried(1, 1, &Record::empty(Rule::Siblings)));
    assert_eq!(twice.versions().len(), 2, "two replicas minted it");
    assert_eq!(Conflict::Siblings.resolve(b"k", &twice, Millis(0)).values, ["milk"]);
    assert!(!Conflict::Merged(Arc::new(union)).resolve(b"k", &twice, Millis(0)).is_new, "nothing to merge");
}

#[test]
fn a_merge_that_readers_cannot_agree_on_is_found_out() {
    let [a, b, c] = ["x", "y", "x z"].map(Bytes::from);
    let check = |merge: &dyn Merge| unfair(merge, b"k", [&a, &b, &c]);
    assert_eq!(check(&union), None);
    assert_eq!(check(&|_: &[u8], values: &[&Bytes]| values[0].clone()), Some(Unfair::Order));
    let concat = |_: &[u8], values: &[&Bytes]| {
        let mut sorted = values.to_vec();
        sorted.sort();
        Bytes::from(sorted.into_iter().flat_map(|value| value.to_vec()).collect::<Vec<u8>>())
    };
    assert_eq!(check(&concat), Some(Unfair::Repetition));
    let longest_or_tie = |_: &[u8], values: &[&Bytes]| {
        let longest = values.iter().max_by_key(|value| (value.len(), **value)).expect("values");
        if values.len() > 2 { Bytes::from_static(b"many") } else { (*longest).clone() }
    };
    assert_eq!(check(&longest_or_tie), Some(Unfair::Grouping));
}

#[test]
fn records_of_two_rules_do_not_meet() {
    let counter = Record::empty(Conflict::Crdt(Kind::Counter).rule());
    let set = Record::empty(Conflict::Crdt(Kind::Set).rule());
    assert!(matches!(admit(&counter, &set, 9), Err(NotAdmitted::RuleMismatch(_))));
    assert!(counter.join(&Record::empty(Rule::Siblings)).is_err());
}

#[test]
fn lesson_15_expiry_is_in_the_version_and_replicas_agree_whatever_their_clocks_say() {
    let short = Version { expiry: Expiry::at(Millis(100)), ..value(1, "session") };
    let born = Record::empty(Rule::Siblings).sibling(actor(1), 0, &VersionVector::new(), short);
    // One replica reads after the time has come, the other before: both hold, join and send the same bytes.
    assert!(born.values(Millis(100)).is_empty());
    assert_eq!(born.values(Millis(99)), ["session"]);
    let joined = born.join(&born).unwrap();
    assert_eq!(joined.to_bytes(), born.to_bytes());

    // What replaced an older value hides it for ever: expiry uncovers nothing, and a stale replica restores nothing.
    let older = siblings(&["older"]);
    let replacing = Version { expiry: Expiry::at(Millis(100)), ..value(2, "newer") };
    let newer = older.join(&older.sibling(actor(1), 0, older.context(), replacing)).unwrap();
    let repaired = newer.join(&older).unwrap();
    assert_eq!(repaired, newer);
    assert!(repaired.values(Millis(500)).is_empty());
}

#[test]
fn persist_touch_and_expire_at_replace_what_is_seen_by_itself_with_another_expiry() {
    let now = Millis(1000);
    let mut record = siblings(&["a", "b"]);
    assert_eq!(record.ttl(now), Some(Ttl::Forever));
    let concurrent = record.sibling(actor(3), 0, &VersionVector::new(), value(3, "c"));

    let touched = Expiring::Touch(Millis(50)).expiry(now).unwrap();
    let change = record.expiring(actor(1), 0, Stamp(10), now, touched).unwrap();
    record = record.join(&change).unwrap();
    assert_eq!(record.values(now), ["a", "b"]);
    assert_eq!(record.ttl(now), Some(Ttl::Left(Millis(50))));
    assert_eq!(record.ttl(Millis(1050)), None, "nothing is left to see");
    assert_eq!(record.expiring(actor(1), 0, Stamp(11), Millis(1050), Expiry::NEVER), None);

    let beside = record.join(&concurrent).unwrap();
    assert_eq!(beside.values(Millis(2000)), ["c"], "what was written meanwhile keeps its own expiry");
    assert_eq!(beside.ttl(now), Some(Ttl::Forever));

    let persisted = Expiring::Persist.expiry(now).unwrap();
    record = record.join(&record.expiring(actor(2), 0, Stamp(12), now, persisted).unwrap()).unwrap();
    assert_eq!((record.values(now).len(), record.ttl(now)), (2, Some(Ttl::Forever)));
    assert_eq!(Record::decode(&record.to_bytes()).unwrap(), record);

    let last = Record::last_write(actor(1), value(5, "v"));
    let at = Expiring::At(Millis(1010)).expiry(now).unwrap();
    let last = last.join(&last.expiring(actor(2), 0, Stamp(6), now, at).unwrap()).unwrap();
    assert_eq!((last.values(now), last.ttl(now)), (vec![&Bytes::from("v")], Some(Ttl::Left(Millis(10)))));
    let deleted = Record::last_write(actor(1), Version { payload: Payload::Tombstone, ..value(9, "") });
    assert_eq!(deleted.expiring(actor(1), 0, Stamp(10), now, Expiry::NEVER), None, "a tombstone stays one");
}
