use kv_core::NodeId;
use kv_core::context::CausalContext;
use kv_core::hlc::Stamp;
use kv_core::key::{Key, TableId};
use kv_core::time::Millis;
use kv_core::version::{Actor, Incarnation};

use super::*;

fn key() -> RecordKey {
    RecordKey::new(TableId(1), &Key::from("k")).unwrap()
}

fn version(value: &'static str, birth: u64) -> Version {
    let payload = Payload::Value(Bytes::from_static(value.as_bytes()));
    Version { birth: Stamp(birth), payload, expiry: kv_core::Expiry::NEVER, operation: Some(OperationId(birth.into())) }
}

const ACTOR: Actor = Actor { node: NodeId(1), incarnation: Incarnation(1), epoch: 1 };

/// A write that had seen `seen`, acknowledged at `now`; returns the record with it.
fn write(history: &mut History, state: &Record, seen: &VersionVector, value: &'static str, now: u64) -> Record {
    let change = match state.rule() {
        Rule::Siblings => state.sibling(ACTOR, 0, seen, version(value, now)),
        Rule::LastWriteWins => Record::last_write(ACTOR, version(value, now)),
        Rule::Crdt(kind) => unreachable!("these tests put values, and a {kind:?} takes updates"),
    };
    let index = history.write_begins(&key(), Some(value.into()), OperationId(now.into()), Some(seen.clone()));
    let (dot, version) = &change.versions()[0];
    let context = CausalContext::seal(&key(), change.context());
    let written = Written { dot: *dot, birth: version.birth, context, acknowledged: 2, fallbacks: 0 };
    history.write_acknowledged(index, now, state.rule(), &written);
    state.join(&change).unwrap()
}

fn read(history: &mut History, state: &Record, now: u64) -> usize {
    let before = history.tally().violations.len();
    let begun = history.read_begins(&key(), now);
    history.read_ends(&begun, state.rule(), &Read::new(&key(), Some(state.clone()), Millis(0)));
    history.tally().violations.len() - before
}

#[test]
fn a_right_history_has_no_violations() {
    let mut history = History::default();
    let none = VersionVector::new();
    let first = write(&mut history, &Record::empty(Rule::Siblings), &none, "a", 1);
    let second = write(&mut history, &first, &none, "b", 2);
    assert_eq!(read(&mut history, &second, 3), 0);
    let third = write(&mut history, &second, second.context(), "c", 4);
    assert_eq!(read(&mut history, &third, 5), 0);
}

#[test]
fn a_lost_write_is_found() {
    let mut history = History::default();
    let none = VersionVector::new();
    let first = write(&mut history, &Record::empty(Rule::Siblings), &none, "a", 1);
    let _second = write(&mut history, &first, &none, "b", 2);
    assert!(read(&mut history, &first, 3) > 0, "b is missing");
}

#[test]
fn a_write_covered_by_nobody_who_had_seen_it_is_found() {
    let mut history = History::default();
    let none = VersionVector::new();
    let first = write(&mut history, &Record::empty(Rule::Siblings), &none, "a", 1);
    let second = write(&mut history, &first, &none, "b", 2);
    // A broken replica lets c cover both, although its writer had seen nothing.
    let broken = second.sibling(ACTOR, 0, second.context(), version("c", 3));
    history.write_begins(&key(), Some("c".into()), OperationId(3), Some(none));
    assert!(read(&mut history, &second.join(&broken).unwrap(), 4) > 0);
}

#[test]
fn a_read_that_goes_back_in_time_is_found() {
    let mut history = History::default();
    let none = VersionVector::new();
    let first = write(&mut history, &Record::empty(Rule::Siblings), &none, "a", 1);
    // A write that nobody acknowledged, but a read saw.
    let change = first.sibling(ACTOR, 0, &none, version("b", 2));
    history.write_begins(&key(), Some("b".into()), OperationId(2), Some(none));
    assert_eq!(read(&mut history, &first.join(&change).unwrap(), 3), 0);
    assert!(read(&mut history, &first, 4) > 0);
}

#[test]
fn a_version_that_comes_back_is_found() {
    let mut history = History::default();
    let none = VersionVector::new();
    let first = write(&mut history, &Record::empty(Rule::Siblings), &none, "a", 1);
    let second = write(&mut history, &first, first.context(), "b", 2);
    let dots: Vec<_> = first.versions().iter().chain(second.versions()).cloned().collect();
    let set = kv_core::DottedVersionSet::from_parts(second.context().clone(), dots).unwrap();
    let both = Record::of_siblings(set);
    assert!(read(&mut history, &both, 3) > 0);
}

#[test]
fn an_older_last_write_is_found() {
    let mut history = History::default();
    let none = VersionVector::new();
    let first = write(&mut history, &Record::empty(Rule::LastWriteWins), &none, "a", 1);
    let second = write(&mut history, &first, &none, "b", 2);
    assert_eq!(read(&mut history, &second, 3), 0);
    assert!(read(&mut history, &first, 4) > 0);
}

#[test]
fn made_up_values_are_found() {
    let mut history = History::default();
    let made_up = Record::last_write(ACTOR, version("from nowhere", 1));
    assert!(read(&mut history, &made_up, 2) > 0);
}
