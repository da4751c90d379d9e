//! Any operations, in any order with flushes, compactions and reopening, under any options: every kind of read gives what a
//! plain sorted map gives, at every live snapshot.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use kv_core::store::{Corrupt, Fold, Folded, MergeOperator};
use kv_core::time::Millis;
use kv_lsm::disk::{Disk, MemDisk};
use kv_lsm::{
    Background, Batch, Compression, Database, Durability, Iter, Keyspace, KeyspaceOptions, Snapshot, WriteOptions,
};
use proptest::prelude::*;

/// Concatenates in order, which shows any operand that is lost, doubled or out of place. A value that ends in `x` is absent.
struct Append;

impl MergeOperator for Append {
    fn fold(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        oldest_first: &[&[u8]],
        how: Fold,
        out: &mut Vec<u8>,
    ) -> Result<Folded, Corrupt> {
        assert!(base.is_none() || how != Fold::Partial, "a partial fold has no base");
        assert!(!oldest_first.is_empty(), "there is something to fold");
        out.extend_from_slice(base.unwrap_or_default());
        oldest_first.iter().for_each(|operand| out.extend_from_slice(operand));
        let absent = matches!(how, Fold::Complete { .. }) && out.ends_with(b"x");
        Ok(if absent { Folded::Absent } else { Folded::Value })
    }
}

#[derive(Clone, Debug)]
enum Write {
    Put(u8, u16),
    Merge(u8, u8),
    Delete(u8),
    DeleteRange(u8, u8),
}

#[derive(Clone, Debug)]
enum Step {
    Write { operations: Vec<(bool, Write)>, sync: bool },
    Snapshot,
    DropSnapshot(prop::sample::Index),
    Flush,
    Background,
    Compact(u8, u8),
    Reopen,
    Check,
}

#[derive(Clone, Debug)]
struct Options {
    memtable_bytes: u64,
    log_segment_bytes: u64,
    block_bytes: usize,
    table_bytes: u64,
    level0_tables: usize,
    level1_bytes: u64,
    manifest_bytes: u64,
    cache_bytes: u64,
    compressed: bool,
}

fn write() -> impl Strategy<Value = Write> {
    let key = 0_u8..24;
    prop_oneof![
        4 => (key.clone(), any::<u16>()).prop_map(|(key, value)| Write::Put(key, value)),
        4 => (key.clone(), b'a'..=b'z').prop_map(|(key, operand)| Write::Merge(key, operand)),
        2 => key.clone().prop_map(Write::Delete),
        1 => (key.clone(), key).prop_map(|(a, b)| Write::DeleteRange(a, b)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (prop::collection::vec((any::<bool>(), write()), 1..6), any::<bool>())
            .prop_map(|(operations, sync)| Step::Write { operations, sync }),
        2 => Just(Step::Snapshot),
        1 => any::<prop::sample::Index>().prop_map(Step::DropSnapshot),
        2 => Just(Step::Flush),
        3 => Just(Step::Background),
        1 => (0_u8..24, 0_u8..24).prop_map(|(a, b)| Step::Compact(a, b)),
        1 => Just(Step::Reopen),
        2 => Just(Step::Check),
    ]
}

fn options() -> impl Strategy<Value = Options> {
    (
        prop::sample::select(vec![200_u64, 1000, 100_000]),
        prop::sample::select(vec![300_u64, 100_000]),
        prop::sample::select(vec![256_usize, 16384]),
        prop::sample::select(vec![1_u64, 500, 1 << 20]),
        1_usize..4,
        prop::sample::select(vec![1_u64, 2000, 1 << 20]),
        prop::sample::select(vec![1_u64, 1 << 20]),
        prop::sample::select(vec![0_u64, 1 << 20]),
        any::<bool>(),
    )
        .prop_map(
            |(
                memtable_bytes,
                log_segment_bytes,
                block_bytes,
                table_bytes,
                level0_tables,
                level1_bytes,
                manifest_bytes,
                cache_bytes,
                compressed,
            )| {
                Options {
                    memtable_bytes,
                    log_segment_bytes,
                    block_bytes,
                    table_bytes,
                    level0_tables,
                    level1_bytes,
                    manifest_bytes,
                    cache_bytes,
                    compressed,
                }
            },
        )
}

fn key(number: u8) -> Vec<u8> {
    // Some keys are prefixes of others, and some hold zeros.
    match number % 3 {
        0 => format!("k{:02}", number / 3).into_bytes(),
        1 => [format!("k{:02}", number / 3).as_bytes(), &[0]].concat(),
        _ => [format!("k{:02}", number / 3).as_bytes(), b"/a-longer-tail-than-eight"].concat(),
    }
}

/// Values as they would be without any folding ahead of time: what was put, and the operands since.
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn apply(model: &mut Model, write: &Write) {
    match write {
        Write::Put(number, value) => {
            model.insert(key(*number), value.to_string().into_bytes());
        }
        Write::Merge(number, operand) => {
            // A value that ends in x reads as absent, but later operands join what it was, unless a complete fold came
            // between: both are allowed by the operator, so the model avoids it by never merging onto one.
            model.entry(key(*number)).or_default().push(*operand);
        }
        Write::Delete(number) => {
            model.remove(&key(*number));
        }
        Write::DeleteRange(a, b) => {
            let (start, end) = (key(*a), key(*b));
            model.retain(|key, _| *key < start || *key >= end);
        }
    }
}

fn open(disk: &MemDisk, options: &Options) -> (Database, [Keyspace; 2]) {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let db = Database::builder(Path::new("/db"))
        .disk(shared)
        .background(Background::Manual)
        .durability(Durability::Buffered)
        .memtable_bytes(options.memtable_bytes)
        .log_segment_bytes(options.log_segment_bytes)
        .block_bytes(options.block_bytes)
        .table_bytes(options.table_bytes)
        .level0_tables(options.level0_tables)
        .level1_bytes(options.level1_bytes)
        .manifest_bytes(options.manifest_bytes)
        .cache_bytes(options.cache_bytes)
        .compression(if options.compressed { Compression::Lz4 } else { Compression::None })
        .clock(Arc::new(|| Millis(1)))
        .open()
        .unwrap();
    let merge = || KeyspaceOptions::default().merge(Arc::new(Append));
    let keyspaces = [db.keyspace("a", merge()).unwrap(), db.keyspace("b", merge()).unwrap()];
    (db, keyspaces)
}

fn collect(
    iter: impl Iterator<Item = Result<(kv_lsm::Slice, kv_lsm::Slice), kv_lsm::Error>>,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    iter.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
}

/// Forward, reverse, from both ends at once, and point by point.
fn check(keyspace: &Keyspace, snapshot: Option<&Snapshot>, model: &Model, seed: u8) {
    let expected: Vec<(Vec<u8>, Vec<u8>)> = model
        .iter()
        .filter(|(_, value)| !value.ends_with(b"x"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let all = || match snapshot {
        Some(snapshot) => snapshot.iter(keyspace),
        None => keyspace.iter(),
    };
    assert_eq!(collect(all()), expected, "forward");
    let mut reversed = collect(all().rev());
    reversed.reverse();
    assert_eq!(reversed, expected, "reverse");
    assert_eq!(both_ends(all(), seed), expected, "from both ends");
    for number in 0..24 {
        let key = key(number);
        let expected = model.get(&key).filter(|value| !value.ends_with(b"x"));
        let got = match snapshot {
            Some(snapshot) => snapshot.get(keyspace, &key).unwrap(),
            None => keyspace.get(&key).unwrap(),
        };
        assert_eq!(got.as_deref(), expected.map(Vec::as_slice), "point {key:?}");
    }
    let (a, b) = (key(seed % 24), key(seed / 11));
    let bounds = [
        (Bound::Included(&a), Bound::Excluded(&b)),
        (Bound::Excluded(&a), Bound::Included(&b)),
        (Bound::Unbounded, Bound::Included(&b)),
        (Bound::Included(&a), Bound::Unbounded),
    ];
    for bounds in bounds {
        let range = || match snapshot {
            Some(snapshot) => snapshot.range(keyspace, as_slices(bounds)),
            None => keyspace.range(as_slices(bounds)),
        };
        let within: Vec<_> = expected
            .iter()
            .filter(|(key, _)| std::ops::RangeBounds::<Vec<u8>>::contains(&(bounds.0.cloned(), bounds.1.cloned()), key))
            .cloned()
            .collect();
        assert_eq!(collect(range()), within, "range {bounds:?}");
        let mut reversed = collect(range().rev());
        reversed.reverse();
        assert_eq!(reversed, within, "range {bounds:?} reversed");
    }
    let prefix = &key(seed % 24)[..3];
    let within: Vec<_> = expected.iter().filter(|(key, _)| key.starts_with(prefix)).cloned().collect();
    let entries = match snapshot {
        Some(snapshot) => snapshot.prefix(keyspace, prefix),
        None => keyspace.prefix(prefix),
    };
    assert_eq!(collect(entries), within, "prefix");
}

fn as_slices<'a>(bounds: (Bound<&'a Vec<u8>>, Bound<&'a Vec<u8>>)) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (bounds.0.map(Vec::as_slice), bounds.1.map(Vec::as_slice))
}

fn both_ends(mut iter: Iter, seed: u8) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut front, mut back) = (Vec::new(), Vec::new());
    let mut coin = u32::from(seed) | 1;
    loop {
        coin = coin.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let from_front = coin & 0x8000 == 0;
        let item = if from_front { iter.next() } else { iter.next_back() };
        let Some(item) = item else { break };
        let (key, value) = item.unwrap();
        if from_front { &mut front } else { &mut back }.push((key.to_vec(), value.to_vec()));
    }
    assert!(iter.next().is_none() && iter.next_back().is_none(), "over is over");
    back.reverse();
    front.extend(back);
    front
}

fn run(options: &Options, steps: &[Step]) {
    let disk = MemDisk::new();
    let (mut db, mut keyspaces) = open(&disk, options);
    let mut models = [Model::new(), Model::new()];
    let mut snapshots: Vec<(Snapshot, [Model; 2])> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let seed = u8::try_from(index % 251).unwrap();
        match step {
            Step::Write { operations, sync } => {
                let mut batch = Batch::new();
                for (second, write) in operations {
                    let which = usize::from(*second);
                    let keyspace = &keyspaces[which];
                    match write {
                        Write::Merge(number, _)
                            if models[which].get(&key(*number)).is_some_and(|v| v.ends_with(b"x")) =>
                        {
                            continue;
                        }
                        Write::Put(number, value) => batch.put(keyspace, key(*number), value.to_string()),
                        Write::Merge(number, operand) => batch.merge(keyspace, key(*number), [*operand]),
                        Write::Delete(number) => batch.delete(keyspace, key(*number)),
                        Write::DeleteRange(a, b) => batch.delete_range(keyspace, key(*a)..key(*b)),
                    }
                    apply(&mut models[which], write);
                }
                let durability = if *sync { Durability::Sync } else { Durability::Buffered };
                db.write_with(batch, WriteOptions::durability(durability)).unwrap();
            }
            Step::Snapshot => snapshots.push((db.snapshot(), models.clone())),
            Step::DropSnapshot(which) => {
                if !snapshots.is_empty() {
                    snapshots.remove(which.index(snapshots.len()));
                }
            }
            Step::Flush => db.flush().unwrap(),
            Step::Background => {
                db.step().unwrap();
            }
            Step::Compact(a, b) => keyspaces[0].compact_range(key(*a)..key(*b)).unwrap(),
            Step::Reopen => {
                snapshots.clear();
                drop((db, keyspaces));
                (db, keyspaces) = open(&disk, options);
            }
            Step::Check => {
                for which in 0..2 {
                    check(&keyspaces[which], None, &models[which], seed);
                    for (snapshot, models) in &snapshots {
                        check(&keyspaces[which], Some(snapshot), &models[which], seed);
                    }
                }
            }
        }
    }
    let iterators = [keyspaces[0].iter(), keyspaces[1].iter()];
    for keyspace in &keyspaces {
        keyspace.compact_range(..).unwrap();
    }
    while db.step().unwrap() {}
    for (which, iterator) in iterators.into_iter().enumerate() {
        check(&keyspaces[which], None, &models[which], 7);
        for (snapshot, models) in &snapshots {
            check(&keyspaces[which], Some(snapshot), &models[which], 7);
        }
        let expected: Vec<_> =
            models[which].iter().filter(|(_, v)| !v.ends_with(b"x")).map(|(k, v)| (k.clone(), v.clone())).collect();
        assert_eq!(collect(iterator), expected, "an iterator owns the state that it reads");
    }
    let metrics = db.metrics();
    if snapshots.is_empty() {
        let entries: u64 = metrics.keyspaces.iter().flat_map(|k| &k.levels).map(|level| level.entries).sum();
        let live: usize = models.iter().flat_map(BTreeMap::values).filter(|value| !value.ends_with(b"x")).count();
        assert_eq!(entries, live as u64, "a full compaction leaves one version of each live key, and nothing else");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_reads_as_a_sorted_map_does(options in options(), steps in prop::collection::vec(step(), 1..80)) {
        run(&options, &steps);
    }
}
