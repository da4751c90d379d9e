//! The contract of `kv_core::Store`, as the engine keeps it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kv_core::store::{
    Batch, CommitError, Corrupt, Direction, Fold, Folded, KeyRange, MergeOperator, Sequence, Space, SpaceOptions,
    Store, StoreError, View,
};
use kv_core::time::Millis;
use kv_lsm::disk::{CallKind, Effect, Fault, MemDisk, OsDisk, SimDisk, Survival};
use kv_lsm::{Background, Builder, Database, Error, KeyspaceOptions, LsmStore};

/// Values and operands are lists of `name@expiry`. A complete fold leaves out what has expired.
struct Expiring;

fn parse(bytes: &[u8]) -> Result<Vec<(&str, u64)>, Corrupt> {
    let text = std::str::from_utf8(bytes).map_err(|_| Corrupt::new("not text"))?;
    text.split(',')
        .map(|item| {
            let (name, expiry) = item.split_once('@').ok_or_else(|| Corrupt::new("no expiry"))?;
            Ok((name, expiry.parse().map_err(|_| Corrupt::new("expiry is no number"))?))
        })
        .collect()
}

impl MergeOperator for Expiring {
    fn fold(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        oldest_first: &[&[u8]],
        how: Fold,
        out: &mut Vec<u8>,
    ) -> Result<Folded, Corrupt> {
        let mut all = Vec::new();
        for part in base.into_iter().chain(oldest_first.iter().copied()) {
            all.extend(parse(part)?);
        }
        if let Fold::Complete { as_of } = how {
            all.retain(|(_, expiry)| *expiry > as_of.0);
        }
        let items: Vec<String> = all.iter().map(|(name, expiry)| format!("{name}@{expiry}")).collect();
        out.extend_from_slice(items.join(",").as_bytes());
        Ok(if all.is_empty() { Folded::Absent } else { Folded::Value })
    }
}

const SPACES: [Space; 2] = [Space::META, Space::DATA];

fn open(builder: Builder) -> LsmStore {
    let merged = SpaceOptions { merge: Some(Arc::new(Expiring)) };
    LsmStore::open(builder, &[(SPACES[0], "meta", SpaceOptions::default()), (SPACES[1], "data", merged)]).unwrap()
}

fn manual(disk: &SimDisk) -> Builder {
    Database::builder(Path::new("/db")).disk(disk.clone()).background(Background::Manual)
}

fn get(view: &(impl View + ?Sized), space: Space, key: &str) -> Option<String> {
    let mut value = None;
    let found = view.get(space, key.as_bytes(), &mut |bytes| value = Some(String::from_utf8(bytes.to_vec()).unwrap()));
    assert_eq!(found.unwrap(), value.is_some(), "what get returns says whether it called back");
    value
}

fn scan(view: &(impl View + ?Sized), space: Space, range: KeyRange<'_>, direction: Direction) -> Vec<String> {
    let mut entries = Vec::new();
    let each = &mut |key: &[u8], value: &[u8]| {
        entries.push(format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value)));
        ControlFlow::Continue(())
    };
    view.scan(space, range, direction, each).unwrap();
    entries
}

#[test]
fn a_commit_is_visible_at_once_across_spaces_and_a_snapshot_stays() {
    let store = open(Database::builder(Path::new("/db")).disk(MemDisk::new()));
    let mut batch = Batch::new();
    batch.put(Space::META, b"a", b"1");
    batch.merge(Space::DATA, b"k", b"3@100");
    batch.merge(Space::DATA, b"l", b"4@100000000000000");
    let first = store.commit(&batch).unwrap();
    let snapshot = store.snapshot();
    batch.clear();
    batch.delete(Space::META, b"a");
    batch.merge(Space::DATA, b"l", b"9@100000000000001");
    batch.put(Space::META, b"b", b"2");
    let second = store.commit(&batch).unwrap();
    assert!(second > first);
    assert_eq!(get(&store, Space::META, "a"), None);
    assert_eq!(get(&store, Space::DATA, "k"), None, "expired on a complete fold");
    assert_eq!(get(&store, Space::DATA, "l").unwrap(), "4@100000000000000,9@100000000000001");
    assert_eq!(get(&*snapshot, Space::META, "a").unwrap(), "1");
    assert_eq!(get(&*snapshot, Space::DATA, "l").unwrap(), "4@100000000000000");
    assert_eq!(scan(&*snapshot, Space::META, KeyRange::ALL, Direction::Forward), ["a=1"]);
    assert_eq!(scan(&store, Space::META, KeyRange::ALL, Direction::Reverse), ["b=2"]);
    assert!(matches!(store.get(Space(77), b"a", &mut |_| {}), Err(StoreError::UnknownSpace(77))));
}

#[test]
fn a_scan_goes_both_ways_and_stops_when_told() {
    let store = open(Database::builder(Path::new("/db")).disk(MemDisk::new()));
    let mut batch = Batch::new();
    for key in ["a", "b", "c", "d"] {
        batch.put(Space::META, key.as_bytes(), b"");
    }
    batch.delete_range(Space::META, b"c", b"d");
    store.commit(&batch).unwrap();
    let range = KeyRange::half_open(b"a", b"d");
    assert_eq!(scan(&store, Space::META, range, Direction::Forward), ["a=", "b="]);
    assert_eq!(scan(&store, Space::META, range, Direction::Reverse), ["b=", "a="]);
    assert_eq!(scan(&store, Space::META, KeyRange::half_open(b"d", b"a"), Direction::Forward), [""; 0]);
    let mut seen = 0;
    let each = &mut |_: &[u8], _: &[u8]| {
        seen += 1;
        ControlFlow::Break(())
    };
    store.scan(Space::META, KeyRange::ALL, Direction::Forward, each).unwrap();
    assert_eq!(seen, 1);
}

#[test]
fn refused_commits_change_nothing() {
    let store = open(Database::builder(Path::new("/db")).disk(MemDisk::new()));
    let refused = |fill: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::new();
        batch.put(Space::META, b"whole", b"or not at all");
        fill(&mut batch);
        let error = store.commit(&batch).unwrap_err();
        assert_eq!(get(&store, Space::META, "whole"), None);
        error
    };
    let long = vec![0; 65_536];
    let key = refused(&|batch| batch.put(Space::DATA, &long, b""));
    assert!(matches!(key, CommitError::TooLarge { what: "key", bytes: 65_536, bytes_max: 65_535 }), "{key}");
    let end = refused(&|batch| batch.delete_range(Space::DATA, b"", &long));
    assert!(matches!(end, CommitError::TooLarge { what: "key", .. }), "{end}");
    let merge = refused(&|batch| batch.merge(Space::META, b"k", b"1@1"));
    assert!(matches!(merge, CommitError::NoMergeOperator(0)), "{merge}");
    let space = refused(&|batch| batch.put(Space(9), b"k", b""));
    assert!(matches!(space, CommitError::Store(StoreError::UnknownSpace(9))), "{space}");
    assert_eq!(store.commit(&Batch::new()).unwrap(), Sequence(0), "an empty batch is no write");
}

#[test]
fn engine_rule_17_syncs_are_asked_for_stepped_and_coalesced() {
    let disk = SimDisk::new(1);
    let store = open(manual(&disk));
    let woken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&woken);
    store.on_durable(Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    let mut last = Sequence(0);
    for number in 0..10_u8 {
        let mut batch = Batch::new();
        batch.put(Space::META, &[number], b"v");
        last = store.commit(&batch).unwrap();
        store.request_sync(last);
    }
    assert_eq!(store.durable_sequence().unwrap(), Sequence(0), "nothing is synced by commit or request");
    assert_eq!(get(&open(manual(&disk.reboot(Survival::None))), Space::META, "\u{1}"), None);
    let syncs = store.database().metrics().syncs;
    assert!(store.step().unwrap());
    assert_eq!(store.durable_sequence().unwrap(), last);
    assert_eq!(store.database().metrics().syncs, syncs + 1, "ten requests, one sync");
    assert_eq!(woken.load(Ordering::SeqCst), 1);
    let calls = disk.mutating_calls();
    store.request_sync(last);
    store.request_sync(Sequence(u64::MAX));
    assert!(!store.step().unwrap(), "what is durable needs no sync, and what was never written cannot be waited for");
    assert_eq!(disk.mutating_calls(), calls);
    let after = open(manual(&disk.reboot(Survival::None)));
    assert_eq!(scan(&after, Space::META, KeyRange::ALL, Direction::Forward).len(), 10);
}

#[test]
fn a_thread_answers_requests_and_wakes_the_host() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(open(Database::builder(directory.path()).disk(OsDisk::new())));
    let (sender, woken) = channel();
    let sender = Mutex::new(sender);
    store.on_durable(Arc::new(move || sender.lock().unwrap().send(()).unwrap()));
    for number in 0..200_u64 {
        let mut batch = Batch::new();
        batch.put(Space::META, &number.to_be_bytes(), b"v");
        let sequence = store.commit(&batch).unwrap();
        store.request_sync(sequence);
        while store.durable_sequence().unwrap() < sequence {
            woken.recv_timeout(Duration::from_secs(20)).expect("each request is answered and the host woken");
        }
    }
    assert!(store.database().metrics().syncs >= 200);
}

#[test]
fn lesson_40_poison_wakes_the_host_and_hides_what_is_not_durable() {
    let disk = SimDisk::new(1);
    let store = open(manual(&disk));
    let woken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&woken);
    store.on_durable(Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    let write = |key: &str| {
        let mut batch = Batch::new();
        batch.put(Space::META, key.as_bytes(), b"v");
        store.commit(&batch)
    };
    let durable = write("durable").unwrap();
    store.request_sync(durable);
    while store.step().unwrap() {}
    let lost = write("lost").unwrap();
    store.request_sync(lost);
    disk.inject(Fault::new(Effect::Fail(std::io::ErrorKind::Other)).on(CallKind::Sync));
    assert!(matches!(store.step(), Err(Error::Poisoned { .. })));
    assert_eq!(woken.load(Ordering::SeqCst), 2, "who waits is told that it is in vain");
    assert!(store.durable_sequence().is_err());
    assert!(matches!(write("later"), Err(CommitError::Poisoned(_))));
    assert_eq!(get(&store, Space::META, "durable").unwrap(), "v");
    let read = store.get(Space::META, b"lost", &mut |_| panic!("not durable, and may be gone"));
    assert!(matches!(read, Err(StoreError::Poisoned(_))), "{read:?}");
    let scanned = store.scan(Space::META, KeyRange::ALL, Direction::Forward, &mut |_, _| ControlFlow::Continue(()));
    assert!(matches!(scanned, Err(StoreError::Poisoned(_))));
    store.request_sync(lost);
    assert!(matches!(store.step(), Err(Error::Poisoned { .. })));
    assert_eq!(woken.load(Ordering::SeqCst), 3, "a request after the poison is answered, once");
    assert!(store.step().is_err() && woken.load(Ordering::SeqCst) == 3);
    let late = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&late);
    store.on_durable(Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    assert_eq!(late.load(Ordering::SeqCst), 1, "who comes late is told as well");
    let calls = disk.mutating_calls();
    drop(store);
    assert_eq!(disk.mutating_calls(), calls, "nothing is written after poison, on drop either");
}

#[test]
fn spaces_keep_their_numbers_names_and_operators() {
    let disk = MemDisk::new();
    let builder = || Database::builder(Path::new("/db")).disk(disk.clone());
    {
        let store = open(builder());
        let named = store.database().keyspace("named", KeyspaceOptions::default()).unwrap();
        named.put("k", "v").unwrap();
        let mut batch = Batch::new();
        batch.merge(Space::DATA, b"k", b"1@100000000000000");
        store.commit(&batch).unwrap();
        assert_eq!(store.database().keyspaces(), ["meta", "data", "named"]);
    }
    let plain = SpaceOptions::default;
    let other_name = LsmStore::open(builder(), &[(Space::META, "other", plain())]);
    assert!(matches!(other_name, Err(Error::OptionsMismatch { .. })));
    let other_number = LsmStore::open(builder(), &[(Space::HINTS, "meta", plain())]);
    assert!(matches!(other_number, Err(Error::OptionsMismatch { .. })));
    let no_operator = LsmStore::open(builder(), &[(Space::DATA, "data", plain())]);
    assert!(matches!(no_operator, Err(Error::OptionsMismatch { .. })));
    let reserved = LsmStore::open(builder(), &[(Space(256), "named", plain())]);
    assert!(matches!(reserved, Err(Error::InvalidOptions { .. })));
    let store = open(builder());
    assert_eq!(
        get(&store, Space::DATA, "k").unwrap(),
        "1@100000000000000",
        "an operator is not data: nothing was lost"
    );
    let named = store.database().keyspace("named", KeyspaceOptions::default()).unwrap();
    assert_eq!(named.get("k").unwrap().unwrap(), b"v");
}

#[test]
fn complete_folds_get_the_clock_that_was_given() {
    let now = Arc::new(AtomicU64::new(10));
    let clock = Arc::clone(&now);
    let disk = SimDisk::new(1);
    let store = open(manual(&disk).clock(Arc::new(move || Millis(clock.load(Ordering::SeqCst)))));
    let mut batch = Batch::new();
    batch.merge(Space::DATA, b"k", b"5@50");
    batch.merge(Space::DATA, b"k", b"3@200");
    store.commit(&batch).unwrap();
    assert_eq!(get(&store, Space::DATA, "k").unwrap(), "5@50,3@200");
    now.store(100, Ordering::SeqCst);
    assert_eq!(get(&store, Space::DATA, "k").unwrap(), "3@200");
    store.database().flush().unwrap();
    now.store(10, Ordering::SeqCst);
    assert_eq!(get(&store, Space::DATA, "k").unwrap(), "3@200", "the flush folded to the bottom at its own time");
    now.store(300, Ordering::SeqCst);
    assert_eq!(get(&store, Space::DATA, "k"), Some("3@200".to_owned()), "a folded value is a value");
}

#[test]
fn operands_that_the_operator_refuses_are_reported_and_kept() {
    let store = open(Database::builder(Path::new("/db")).disk(MemDisk::new()).background(Background::Manual));
    let mut batch = Batch::new();
    batch.merge(Space::DATA, b"bad", b"nonsense");
    batch.merge(Space::DATA, b"bad", b"1@1");
    batch.merge(Space::DATA, b"good", b"2@100000000000000");
    store.commit(&batch).unwrap();
    for _ in 0..2 {
        let read = store.get(Space::DATA, b"bad", &mut |_| panic!("there is no value"));
        assert!(matches!(read, Err(StoreError::Corrupt(_))), "{read:?}");
        assert_eq!(get(&store, Space::DATA, "good").unwrap(), "2@100000000000000");
        let mut seen = 0;
        let scanned = store.scan(Space::DATA, KeyRange::ALL, Direction::Forward, &mut |_, _| {
            seen += 1;
            ControlFlow::Continue(())
        });
        assert!(scanned.is_err() && seen == 0, "lesson 52: nothing follows an error");
        store.database().flush().unwrap();
        while store.step().unwrap() {}
    }
}

#[test]
fn engine_rule_16_a_write_in_manual_mode_makes_its_own_room() {
    let store =
        open(manual(&SimDisk::new(1)).memtable_bytes(2000).level0_tables(1).level1_bytes(10_000).table_bytes(4000));
    for number in 0..3000_u32 {
        let mut batch = Batch::new();
        batch.put(Space::META, &number.wrapping_mul(2_654_435_761).to_be_bytes(), &[7; 60]);
        store.commit(&batch).unwrap();
    }
    let metrics = store.database().metrics();
    assert!(metrics.flushes > 10 && metrics.compactions > 0, "{metrics:?}");
    assert!(metrics.sealed_memtables <= 2 && metrics.keyspaces[0].levels[0].tables <= 10, "{metrics:?}");
    assert_eq!(scan(&store, Space::META, KeyRange::ALL, Direction::Forward).len(), 3000);
}
