//! Merges, deleted ranges, expiry and separated values, all on three keys: whatever is flushed, compacted, collected and
//! reopened in between, every read gives what a sorted map gives, at every live snapshot. And that the battery notices when
//! rule E13 is broken.

mod append;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_core::time::Millis;
use kv_lsm::battery::report::Report;
use kv_lsm::battery::session::{Case, run_case, silence_panics};
use kv_lsm::battery::{Sabotage, model, power_cuts};
use kv_lsm::disk::MemDisk;
use kv_lsm::{Background, Database, Iter, Keyspace, KeyspaceOptions, Snapshot};
use proptest::prelude::*;

use append::Append;

const KEYS: u8 = 3;
const TTL_MS: u64 = 10;
const HEAD_BYTES: u32 = 3;
/// Index of the keyspace whose operands append, and of the one whose entries expire.
const MERGED: usize = 1;
const EXPIRING: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Put(usize, u8, usize),
    /// Of the merged keyspace.
    Merge(u8, usize),
    Delete(usize, u8),
    DeleteRange(usize, u8, u8),
    Pass(u64),
    Snapshot,
    DropSnapshot(prop::sample::Index),
    Flush,
    Background,
    Compact(usize),
    Reopen,
}

#[derive(Copy, Clone, Debug)]
struct Settings {
    separate_from: u32,
    file_bytes: u64,
    garbage_percent: u8,
    level0_tables: usize,
    table_bytes: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let (keyspace, key, size) = (0..3_usize, 0..KEYS, prop::sample::select(vec![0_usize, 5, 12, 40, 300]));
    prop_oneof![
        8 => (keyspace.clone(), key.clone(), size.clone()).prop_map(|(keyspace, key, size)| Step::Put(keyspace, key, size)),
        4 => (key.clone(), size).prop_map(|(key, size)| Step::Merge(key, size)),
        2 => (keyspace.clone(), key.clone()).prop_map(|(keyspace, key)| Step::Delete(keyspace, key)),
        2 => (keyspace.clone(), key.clone(), key).prop_map(|(keyspace, a, b)| Step::DeleteRange(keyspace, a, b + 1)),
        3 => (1..TTL_MS).prop_map(Step::Pass),
        2 => Just(Step::Snapshot),
        1 => any::<prop::sample::Index>().prop_map(Step::DropSnapshot),
        4 => Just(Step::Flush),
        4 => Just(Step::Background),
        2 => keyspace.prop_map(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    (
        prop::sample::select(vec![1_u32, 10, 100]),
        prop::sample::select(vec![1_u64, 200, 1 << 20]),
        prop::sample::select(vec![1_u8, 50, 100]),
        1..4_usize,
        prop::sample::select(vec![1_u64, 1 << 20]),
    )
        .prop_map(|(separate_from, file_bytes, garbage_percent, level0_tables, table_bytes)| Settings {
            separate_from,
            file_bytes,
            garbage_percent,
            level0_tables,
            table_bytes,
        })
}

/// Of each keyspace, values by key, with the time from which on they are not there.
type Model = [BTreeMap<Vec<u8>, (Vec<u8>, u64)>; 3];

fn open(disk: &MemDisk, settings: Settings, now: &Arc<AtomicU64>) -> (Database, Vec<Keyspace>) {
    let clock = Arc::clone(now);
    let db = Database::builder(Path::new("/db"))
        .disk(disk.clone())
        .background(Background::Manual)
        .memtable_bytes(2000)
        .level0_tables(settings.level0_tables)
        .level1_bytes(2000)
        .table_bytes(settings.table_bytes)
        .blob_file_bytes(settings.file_bytes)
        .blob_garbage_percent(settings.garbage_percent)
        .clock(Arc::new(move || Millis(clock.load(Ordering::Relaxed))))
        .open()
        .unwrap();
    let separated =
        || KeyspaceOptions::default().separate_values_from(settings.separate_from).inline_prefix_bytes(HEAD_BYTES);
    let options =
        [separated(), separated().merge(Arc::new(Append)), separated().default_ttl(Duration::from_millis(TTL_MS))];
    let keyspaces = ["plain", "merged", "expiring"].into_iter().zip(options);
    let keyspaces = keyspaces.map(|(name, options)| db.keyspace(name, options).unwrap()).collect();
    (db, keyspaces)
}

fn key(number: u8) -> Vec<u8> {
    vec![b'k', b'0' + number]
}

fn check(keyspaces: &[Keyspace], snapshot: Option<&Snapshot>, model: &Model, now: u64) {
    for (keyspace, map) in keyspaces.iter().zip(model) {
        let live = map.iter().filter(|(_, (_, expire_at))| *expire_at > now);
        let expected: Vec<_> = live.map(|(key, (value, _))| (key.clone(), value.clone())).collect();
        let all = || snapshot.map_or_else(|| keyspace.iter(), |snapshot| snapshot.iter(keyspace));
        let owned = |entries: Iter| -> Vec<(Vec<u8>, Vec<u8>)> {
            entries.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
        };
        assert_eq!(owned(all()), expected, "forward, {}", keyspace.name());
        let mut heads: Vec<_> = all().heads().rev().map(|entry| entry.unwrap().1.to_vec()).collect();
        heads.reverse();
        let cut = |(_, value): &(Vec<u8>, Vec<u8>)| value[..value.len().min(HEAD_BYTES as usize)].to_vec();
        assert_eq!(heads, expected.iter().map(cut).collect::<Vec<_>>(), "heads backward, {}", keyspace.name());
        for number in 0..KEYS {
            let key = key(number);
            let expected = map.get(&key).filter(|(_, expire_at)| *expire_at > now).map(|(value, _)| value.as_slice());
            let (found, present) = match snapshot {
                Some(snapshot) => (snapshot.get(keyspace, &key), snapshot.contains_key(keyspace, &key)),
                None => (keyspace.get(&key), keyspace.contains_key(&key)),
            };
            assert_eq!(found.unwrap().as_deref(), expected, "{key:?} of {}", keyspace.name());
            assert_eq!(present.unwrap(), expected.is_some(), "{key:?} of {}", keyspace.name());
        }
    }
}

fn run(settings: Settings, steps: &[Step]) {
    let disk = MemDisk::new();
    let now = Arc::new(AtomicU64::new(1000));
    let (mut db, mut keyspaces) = open(&disk, settings, &now);
    let mut model = Model::default();
    let mut snapshots: Vec<(Snapshot, Model, u64)> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let at = now.load(Ordering::Relaxed);
        let text = |size: usize| format!("{number}:{}", "v".repeat(size)).into_bytes();
        match step {
            Step::Put(keyspace, number, size) => {
                keyspaces[*keyspace].put(key(*number), text(*size)).unwrap();
                let expire_at = if *keyspace == EXPIRING { at + TTL_MS } else { u64::MAX };
                model[*keyspace].insert(key(*number), (text(*size), expire_at));
            }
            Step::Merge(number, size) => {
                keyspaces[MERGED].merge(key(*number), text(*size)).unwrap();
                let entry = model[MERGED].entry(key(*number)).or_insert_with(|| (Vec::new(), u64::MAX));
                entry.0.extend_from_slice(&text(*size));
            }
            Step::Delete(keyspace, number) => {
                keyspaces[*keyspace].delete(key(*number)).unwrap();
                model[*keyspace].remove(&key(*number));
            }
            Step::DeleteRange(keyspace, start, end) => {
                keyspaces[*keyspace].delete_range(key(*start)..key(*end)).unwrap();
                model[*keyspace].retain(|found, _| *found < key(*start) || *found >= key(*end));
            }
            Step::Pass(ms) => {
                now.fetch_add(*ms, Ordering::Relaxed);
            }
            Step::Snapshot => snapshots.push((db.snapshot(), model.clone(), at)),
            Step::DropSnapshot(which) => {
                if !snapshots.is_empty() {
                    snapshots.remove(which.index(snapshots.len()));
                }
            }
            Step::Flush => db.flush().unwrap(),
            Step::Background => drop(db.step().unwrap()),
            Step::Compact(keyspace) => keyspaces[*keyspace].compact_range(..).unwrap(),
            Step::Reopen => {
                snapshots.clear();
                drop((db, keyspaces));
                (db, keyspaces) = open(&disk, settings, &now);
            }
        }
        check(&keyspaces, None, &model, now.load(Ordering::Relaxed));
        for (snapshot, model, as_of) in &snapshots {
            check(&keyspaces, Some(snapshot), model, *as_of);
        }
    }
    // Once nothing is wanted any more, nothing is left of it.
    snapshots.clear();
    now.fetch_add(TTL_MS, Ordering::Relaxed);
    for keyspace in &keyspaces {
        keyspace.delete_range(&b"k"[..]..&b"l"[..]).unwrap();
        keyspace.compact_range(..).unwrap();
    }
    while db.step().unwrap() {}
    for keyspace in db.metrics().keyspaces {
        assert_eq!((keyspace.blob_files, keyspace.blob_bytes), (0, 0), "{}", keyspace.name);
    }
    assert_eq!(db.verify().unwrap().problems, []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn merges_deleted_ranges_expiry_and_blobs_read_as_a_sorted_map_does(
        settings in settings(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        run(settings, &steps);
    }
}

fn is_noticed(sabotage: Sabotage, case: Case) -> bool {
    (1..=60).any(|seed| {
        let mut report = Report::default();
        sabotage.during(|| run_case(case, seed, &mut report));
        !report.violations.is_empty()
    })
}

#[test]
fn engine_rule_13_the_battery_notices_when_it_is_broken() {
    silence_panics();
    assert!(is_noticed(Sabotage::FoldOntoPointer, model::case), "operands folded onto pointers");
    assert!(is_noticed(Sabotage::LeaveBlobsUnsynced, power_cuts::case), "values were not there after a power cut");
}
