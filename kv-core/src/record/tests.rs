use proptest::prelude::*;

use super::*;
use crate::NodeId;
use crate::codec::Reader;
use crate::store::{Fold, Folded, MergeOperator};
use crate::time::Millis;
use crate::version::Incarnation;

fn actor(index: u64) -> Actor {
    Actor { node: NodeId(index), incarnation: Incarnation(0x1122_3344_5566_7788), epoch: 1 }
}

fn value(birth: u64, text: &'static str) -> Version {
    Version {
        birth: Stamp(birth),
        payload: Payload::Value(Bytes::from_static(text.as_bytes())),
        expiry: Expiry::NEVER,
        operation: None,
    }
}

fn tombstone(birth: u64) -> Version {
    Version { payload: Payload::Tombstone, ..value(birth, "") }
}

fn fold(base: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, crate::store::Corrupt> {
    let mut out = Vec::new();
    let folded = RecordJoin.fold(b"key", base, operands, Fold::Complete { as_of: Millis(0) }, &mut out)?;
    assert_eq!(folded, Folded::Value);
    Ok(out)
}

#[test]
fn last_write_wins_ties_go_to_the_delete_then_the_actor_then_the_bytes() {
    let join = |a: &Record, b: &Record| {
        let joined = a.join(b).unwrap();
        assert_eq!(joined, b.join(a).unwrap());
        joined
    };
    let early = Record::last_write(actor(9), value(1, "early"));
    let late = Record::last_write(actor(1), value(2, "late"));
    assert_eq!(join(&early, &late), late);
    let deleted = Record::last_write(actor(1), tombstone(2));
    assert_eq!(join(&deleted, &Record::last_write(actor(9), value(2, "same time"))), deleted);
    let other_actor = Record::last_write(actor(2), value(2, "a"));
    assert_eq!(join(&late, &other_actor), other_actor);
    assert_eq!(join(&late, &Record::empty(Rule::LastWriteWins)), late);
}

#[test]
fn records_of_different_rules_do_not_join() {
    let siblings = Record::empty(Rule::Siblings).sibling(actor(1), 0, &VersionVector::new(), value(1, "x"));
    let last = Record::last_write(actor(1), value(1, "x"));
    assert!(siblings.join(&last).is_err());
    assert!(fold(Some(&siblings.to_bytes()), &[&last.to_bytes()]).is_err());
}

fn versions() -> impl Strategy<Value = Version> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| Payload::Value(bytes.into())),
        Just(Payload::Tombstone)
    ];
    (1_u64..6, payload, prop::option::of(0_u64..900), prop::option::of(any::<u128>())).prop_map(
        |(birth, payload, expiry, operation)| Version {
            birth: Stamp(birth),
            payload,
            expiry: expiry.map_or(Expiry::NEVER, |at| Expiry::at(Millis(at))),
            operation: operation.map(OperationId),
        },
    )
}

/// Changes of one siblings key, minted in turn by three replicas that know different prefixes of the history.
fn histories() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec((0_u64..3, 0_usize..8, versions()), 1..8).prop_map(|writes| {
        let mut changes: Vec<Record> = Vec::new();
        for (minter, seen_changes, version) in writes {
            let state = changes.iter().fold(Record::empty(Rule::Siblings), |a, b| a.join(b).unwrap());
            let seen = changes.iter().take(seen_changes).fold(VersionVector::new(), |a, b| a.join(b.context()));
            changes.push(state.sibling(actor(minter), 0, &seen, version));
        }
        changes
    })
}

proptest! {
    #[test]
    fn a_record_comes_back(history in histories()) {
        for change in &history {
            prop_assert_eq!(&Record::decode(&change.to_bytes()).unwrap(), change);
            prop_assert_eq!(Record::dead_at_of(&change.to_bytes()).unwrap(), change.dead_at());
        }
    }

    #[test]
    fn folds_in_any_grouping_and_order_give_equal_bytes(history in histories(), split in 0_usize..8, seed in any::<u64>()) {
        let encoded: Vec<Bytes> = history.iter().map(Record::to_bytes).collect();
        let mut operands: Vec<&[u8]> = encoded.iter().map(|bytes| &bytes[..]).collect();
        let at_once = fold(None, &operands).unwrap();
        let split = split.min(operands.len());
        let (older, newer) = operands.split_at(split);
        if !older.is_empty() && !newer.is_empty() {
            let (older, newer) = (fold(None, older).unwrap(), fold(None, newer).unwrap());
            prop_assert_eq!(&fold(Some(&older), &[&newer]).unwrap(), &at_once);
        }
        let turn = usize::try_from(seed % operands.len() as u64).unwrap();
        operands.rotate_left(turn);
        operands.push(operands[0]);
        prop_assert_eq!(fold(None, &operands).unwrap(), at_once, "order and repetition do not matter");
    }

    #[test]
    fn last_writes_join_to_the_greatest(writes in prop::collection::vec((0_u64..3, versions()), 1..6)) {
        let records: Vec<Record> = writes.into_iter().map(|(a, version)| Record::last_write(actor(a), version)).collect();
        let forward = records.iter().fold(Record::empty(Rule::LastWriteWins), |a, b| a.join(b).unwrap());
        let backward = records.iter().rev().fold(Record::empty(Rule::LastWriteWins), |a, b| a.join(b).unwrap());
        prop_assert_eq!(&forward, &backward);
        prop_assert!(records.contains(&forward));
        prop_assert_eq!(&Record::decode(&forward.to_bytes()).unwrap(), &forward);
        prop_assert_eq!(Record::dead_at_of(&forward.to_bytes()).unwrap(), forward.dead_at());
        let bytes: Vec<Bytes> = records.iter().map(Record::to_bytes).collect();
        let operands: Vec<&[u8]> = bytes.iter().map(|bytes| &bytes[..]).collect();
        prop_assert_eq!(&fold(Some(operands[0]), &operands[1..]).unwrap()[..], &forward.to_bytes()[..]);
    }

    #[test]
    fn fronts_of_last_writes_tell_what_whole_records_do(
        by in 0_u64..3,
        version in versions(),
        at in any::<prop::sample::Index>(),
        flip: u8,
    ) {
        let mut bytes = Record::last_write(actor(by), version).to_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let whole = Record::decode_slice(&bytes).ok();
        let whole = whole.as_ref().and_then(|record| record.versions().first());
        let told = whole.map(|(dot, version)| (version.birth, version.payload == Payload::Tombstone, dot.actor));
        prop_assert_eq!(Record::last_write_of(&bytes), told);
    }

    #[test]
    fn altered_bytes_are_refused_or_canonical(history in histories(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut bytes = history.last().unwrap().to_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let (Ok(record), dead_at) = (Record::decode_slice(&bytes), Record::dead_at_of(&bytes)) {
            prop_assert_eq!(dead_at.unwrap(), record.dead_at());
        }
        if let Ok(record) = Record::decode_slice(&bytes) {
            prop_assert_eq!(&record.to_bytes()[..], &bytes[..]);
        }
    }

    #[test]
    fn any_header_is_refused_or_canonical(bytes in prop::collection::vec(0_u8..5, 0..60)) {
        let mut framed = vec![1, 1 + bytes.first().copied().unwrap_or(0) % 2];
        crate::codec::put_prefixed(&mut framed, &bytes);
        prop_assert!(Reader::new(&framed).u8().is_ok());
        if let Ok(record) = Record::decode_slice(&framed) {
            prop_assert_eq!(&record.to_bytes()[..], &framed[..]);
        }
    }
}

#[test]
fn records_of_data_types_fold_in_any_grouping_and_order() {
    use crate::crdt::{Crdt, Kind, Update};
    let mut state = Record::empty(Rule::Crdt(Kind::Set));
    let mut changes = Vec::new();
    let updates = [
        (1, Update::Insert("milk".into())),
        (2, Update::Insert("tea".into())),
        (1, Update::Remove("milk".into())),
        (3, Update::Insert("milk".into())),
        (2, Update::Remove("bread".into())),
    ];
    for (birth, (node, update)) in (1..).zip(updates) {
        let change = state.updated(actor(node), 10, Stamp(birth), None, None, &update).unwrap();
        state = state.join(&change).unwrap();
        changes.push(change.to_bytes());
    }
    assert_eq!(state.birth_max(), Stamp(5));
    assert_eq!(state.context().counter_max(actor(1)), 12, "dots lie above the floor; a removal has one as well");
    assert_eq!(state.context().counter_max(actor(2)), 12);
    let Some(Crdt::Set(set)) = state.crdt() else { panic!("a set") };
    assert!(set.iter().eq(["milk", "tea"].map(Bytes::from).iter()));

    let operands: Vec<&[u8]> = changes.iter().map(|bytes| &bytes[..]).collect();
    let whole = state.to_bytes();
    assert_eq!(fold(None, &operands).unwrap(), whole);
    let (older, newer) = operands.split_at(2);
    let (older, newer) = (fold(None, older).unwrap(), fold(None, newer).unwrap());
    assert_eq!(fold(Some(&newer), &[&older, &newer]).unwrap(), whole);
    let siblings = Record::empty(Rule::Siblings).sibling(actor(1), 0, &VersionVector::new(), value(1, "v")).to_bytes();
    assert!(fold(Some(&whole), &[&siblings]).is_err(), "not of one table");
}
