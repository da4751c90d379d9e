//! Optimistic transactions: they see one state and their own writes, and those that commit could have run one after the
//! other.

mod append;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use kv_lsm::disk::MemDisk;
use kv_lsm::{Background, Batch, Database, Durability, Error, Keyspace, KeyspaceOptions, Transaction, WriteOptions};

use append::Append;

fn open(background: Background) -> (Database, Keyspace) {
    open_with(background, 4000)
}

fn open_with(background: Background, memtable_bytes: u64) -> (Database, Keyspace) {
    let db = Database::builder(Path::new("/db"))
        .disk(MemDisk::new())
        .background(background)
        .durability(Durability::Buffered)
        .memtable_bytes(memtable_bytes)
        .log_segment_bytes(4000)
        .block_bytes(256)
        .table_bytes(2000)
        .level0_tables(2)
        .level1_bytes(4000)
        .open()
        .unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions::default().merge(Arc::new(Append))).unwrap();
    (db, keyspace)
}

fn conflicts(result: &Result<(), Error>) -> bool {
    match result {
        Ok(()) => false,
        Err(Error::Conflict { .. }) => true,
        Err(error) => panic!("{error}"),
    }
}

/// Found by the battery: a transaction whose only write was the deletion of an empty range, and a synced batch without
/// operations before it, were acknowledged as durable while what came before them was not.
#[test]
fn a_synced_commit_without_writes_syncs_what_came_before() {
    let (db, keyspace) = open(Background::Manual);
    keyspace.put("a", "1").unwrap();
    let commit = |durability| {
        let mut transaction = db.transaction();
        transaction.delete_range(&keyspace, "b".."b");
        transaction.commit_with(WriteOptions::durability(durability)).unwrap();
    };
    commit(Durability::Buffered);
    assert_eq!(db.durable_sequence().unwrap(), 0, "nobody asked for a sync");
    commit(Durability::Sync);
    assert_eq!(db.durable_sequence().unwrap(), 1);
    keyspace.put("a", "2").unwrap();
    db.write_with(Batch::new(), WriteOptions::durability(Durability::Sync)).unwrap();
    assert_eq!(db.durable_sequence().unwrap(), 2);
}

/// How what was written since gets from the memtable to tables.
#[derive(Copy, Clone, Debug)]
enum Where {
    Memtable,
    Flushed,
    Compacted,
}

impl Where {
    fn go(self, db: &Database, keyspace: &Keyspace) {
        match self {
            Self::Memtable => {}
            Self::Flushed => db.flush().unwrap(),
            Self::Compacted => keyspace.compact_range(..).unwrap(),
        }
    }
}

type Read = fn(&Transaction, &Keyspace);
type Write = fn(&Keyspace);

#[test]
fn engine_rule_15_whatever_changes_what_was_read_is_a_conflict_wherever_it_lies() {
    let reads: [(&str, Read); 6] = [
        ("a present key", |tx, ks| assert!(tx.get(ks, "c").unwrap().is_some())),
        ("an absent key", |tx, ks| assert!(!tx.contains_key(ks, "cc").unwrap())),
        ("a range", |tx, ks| assert_eq!(tx.range(ks, "b".."d").count(), 2)),
        ("an empty range", |tx, ks| assert_eq!(tx.range(ks, "ca"..="cz").count(), 0)),
        ("a range from behind", |tx, ks| assert_eq!(tx.range(ks, "b"..).rev().take(2).count(), 2)),
        ("a prefix", |tx, ks| assert_eq!(tx.prefix(ks, "c").count(), 1)),
    ];
    // What was written, and which of the reads it must conflict with.
    let writes: [(&str, Write, [bool; 6]); 7] = [
        ("overwrites c", |ks| ks.put("c", "2").unwrap(), [true, false, true, false, true, true]),
        ("deletes c", |ks| ks.delete("c").unwrap(), [true, false, true, false, true, true]),
        ("merges onto c", |ks| ks.merge("c", "2").unwrap(), [true, false, true, false, true, true]),
        ("a phantom cc", |ks| ks.put("cc", "2").unwrap(), [false, true, true, true, true, true]),
        ("deletes a range", |ks| ks.delete_range("c".."cd").unwrap(), [true, true, true, true, true, true]),
        ("writes outside", |ks| ks.put("a", "2").unwrap(), [false; 6]),
        ("deletes a range outside", |ks| ks.delete_range("a".."b").unwrap(), [false; 6]),
    ];
    for place in [Where::Memtable, Where::Flushed, Where::Compacted] {
        for before in [Where::Memtable, Where::Compacted] {
            for (write_name, write, expected) in &writes {
                for ((read_name, read), expected) in reads.iter().zip(expected) {
                    let (db, ks) = open(Background::Manual);
                    for key in ["a", "b", "c", "d"] {
                        ks.put(key, "1").unwrap();
                    }
                    before.go(&db, &ks);
                    let mut tx = db.transaction();
                    read(&tx, &ks);
                    tx.put(&ks, "result", "1");
                    write(&ks);
                    place.go(&db, &ks);
                    let result = tx.commit();
                    assert_eq!(conflicts(&result), *expected, "{read_name} read, then {write_name}, {place:?}");
                    assert_eq!(ks.contains_key("result").unwrap(), !expected, "all or nothing");
                }
            }
        }
    }
}

#[test]
fn engine_rule_15_only_what_an_iterator_passed_was_read() {
    let (db, ks) = open(Background::Manual);
    for key in ["a", "c", "e", "g"] {
        ks.put(key, "1").unwrap();
    }
    let try_write = |take: usize, take_back: usize, key: &str| {
        let mut tx = db.transaction();
        {
            let mut entries = tx.range(&ks, "a".."h");
            for _ in 0..take {
                entries.next().unwrap().unwrap();
            }
            for _ in 0..take_back {
                entries.next_back().unwrap().unwrap();
            }
        }
        tx.put(&ks, "zz", "1");
        ks.put(key, "2").unwrap();
        let conflict = conflicts(&tx.commit());
        ks.delete("b").unwrap();
        ks.delete("d").unwrap();
        ks.delete("f").unwrap();
        conflict
    };
    for (take, take_back, key, expected) in [
        (0, 0, "a", false),
        (1, 0, "a", true),
        (1, 0, "b", false),
        (2, 0, "b", true),
        (2, 0, "d", false),
        (0, 1, "g", true),
        (0, 1, "f", false),
        (0, 2, "f", true),
        (1, 1, "d", false),
        (2, 2, "d", false),
    ] {
        assert_eq!(try_write(take, take_back, key), expected, "{take} and {take_back} taken, {key} written");
    }
}

#[test]
fn blind_writes_and_pure_reads_never_conflict() {
    let (db, ks) = open(Background::Manual);
    ks.put("a", "1").unwrap();
    let mut blind = db.transaction();
    blind.put(&ks, "a", "2");
    blind.merge(&ks, "b", "+");
    blind.delete_range(&ks, "c".."d");
    let own = blind.get(&ks, "a").unwrap();
    assert_eq!(own.as_deref(), Some(&b"2"[..]), "what it wrote itself is not a read");
    assert_eq!(blind.get(&ks, "c").unwrap(), None);
    let reader = db.transaction();
    assert_eq!(reader.iter(&ks).count(), 1);
    for key in ["a", "b", "c"] {
        ks.put(key, "3").unwrap();
    }
    assert_eq!(reader.iter(&ks).count(), 1, "a transaction sees one state");
    reader.commit().unwrap();
    blind.commit_with(WriteOptions::durability(Durability::Sync)).unwrap();
    let all: Vec<_> = ks.iter().map(|entry| entry.unwrap()).map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
    assert_eq!(all, [(b"a".to_vec(), b"2".to_vec()), (b"b".to_vec(), b"3+".to_vec())]);
    let metrics = db.metrics();
    assert_eq!((metrics.transactions, metrics.conflicts), (2, 0));
}

#[test]
fn what_was_rolled_back_or_refused_leaves_nothing() {
    let (db, ks) = open(Background::Manual);
    let before = db.metrics().visible_sequence;
    let mut tx = db.transaction();
    tx.put(&ks, "a", "1");
    tx.rollback();
    let mut tx = db.transaction();
    tx.put(&ks, "a", "1");
    drop(tx);
    let mut tx = db.transaction();
    tx.put(&ks, "a", vec![0; kv_lsm::limits::KEY_BYTES_MAX]);
    tx.put(&ks, vec![0; kv_lsm::limits::KEY_BYTES_MAX + 1], "1");
    assert!(matches!(tx.commit(), Err(Error::TooLarge { what: "key", .. })));
    let (other, _) = open(Background::Manual);
    let mut tx = other.transaction();
    assert!(matches!(tx.get(&ks, "a"), Err(Error::UnknownKeyspace { .. })));
    tx.put(&ks, "a", "1");
    assert!(matches!(tx.commit(), Err(Error::UnknownKeyspace { .. })));
    let plain = db.keyspace("plain", KeyspaceOptions::default()).unwrap();
    let mut tx = db.transaction();
    tx.merge(&plain, "a", "1");
    assert!(matches!(tx.get(&plain, "a"), Err(Error::NoMergeOperator { .. })));
    assert!(matches!(tx.commit(), Err(Error::NoMergeOperator { .. })));
    assert_eq!((ks.iter().count(), plain.iter().count()), (0, 0));
    assert_eq!((db.metrics().visible_sequence, db.metrics().snapshots), (before, 0));
}

#[test]
fn engine_rule_15_a_read_set_has_a_limit() {
    let db = Database::builder(Path::new("/db"))
        .disk(MemDisk::new())
        .background(Background::Manual)
        .transaction_read_bytes(1000)
        .open()
        .unwrap();
    let ks = db.keyspace("k", KeyspaceOptions::default()).unwrap();
    ks.put("key 3", "1").unwrap();
    let mut tx = db.transaction();
    let refused = (0..100).position(|key| match tx.get(&ks, format!("key {key}")) {
        Ok(_) => false,
        Err(Error::TooLarge { what: "read set", bytes_max: 1000, .. }) => true,
        Err(error) => panic!("{error}"),
    });
    assert!((8..16).contains(&refused.unwrap()), "{refused:?}");
    assert!(matches!(tx.iter(&ks).next(), Some(Err(Error::TooLarge { .. }))));
    // It goes on with what it has.
    assert!(tx.get(&ks, "key 3").unwrap().is_some());
    tx.put(&ks, "result", "1");
    ks.put("key 99", "1").unwrap();
    tx.commit().unwrap();
}

/// A random program for one transaction, as far as it got.
struct Running {
    transaction: Transaction,
    /// What there was when it began.
    base: BTreeMap<u8, Vec<u8>>,
    /// What it must see.
    view: BTreeMap<u8, Vec<u8>>,
    /// Which keys of its view do not come from the snapshot.
    own: [bool; KEYS as usize],
    /// Which keys it has read of the snapshot.
    read: [bool; KEYS as usize],
    /// How many writes there were when it began.
    began: usize,
    wrote: bool,
}

const KEYS: u8 = 14;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u8) -> u8 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u8::try_from((mixed ^ (mixed >> 31)) % u64::from(bound)).unwrap()
    }
}

fn key(number: u8) -> [u8; 2] {
    [b'k', number]
}

impl Running {
    /// One step of the program. Returns the keys that it wrote.
    fn step(&mut self, ks: &Keyspace, random: &mut Random, unique: usize) -> Vec<u8> {
        let value = format!("{unique};").into_bytes();
        let (a, b) = (random.below(KEYS), random.below(KEYS));
        let wrote: Vec<u8> = match random.below(12) {
            0..=3 => {
                let found = self.transaction.get(ks, key(a)).unwrap();
                assert_eq!(found.as_deref(), self.view.get(&a).map(Vec::as_slice), "a transaction sees one state");
                self.read[usize::from(a)] |= !self.own[usize::from(a)];
                return Vec::new();
            }
            4..=6 => {
                self.scan(ks, a, b, random);
                return Vec::new();
            }
            7 | 8 => {
                self.transaction.put(ks, key(a), &value);
                self.view.insert(a, value);
                self.own[usize::from(a)] = true;
                vec![a]
            }
            9 => {
                self.transaction.merge(ks, key(a), &value);
                self.view.entry(a).or_default().extend(value);
                vec![a]
            }
            10 => {
                self.transaction.delete(ks, key(a));
                self.view.remove(&a);
                self.own[usize::from(a)] = true;
                vec![a]
            }
            _ => {
                self.transaction.delete_range(ks, key(a)..key(b));
                self.view.retain(|&key, _| key < a || key >= b);
                (a..b).for_each(|key| self.own[usize::from(key)] = true);
                (a..b).collect()
            }
        };
        self.wrote |= !wrote.is_empty();
        wrote
    }

    fn scan(&mut self, ks: &Keyspace, a: u8, b: u8, random: &mut Random) {
        let mut iter = self.transaction.range(ks, key(a)..key(b));
        let mut expected: std::collections::VecDeque<(u8, Vec<u8>)> =
            self.view.iter().filter(|(key, _)| (a..b).contains(key)).map(|(k, v)| (*k, v.clone())).collect();
        // What was passed from each end.
        let (mut front, mut back) = (a, b.max(a));
        for _ in 0..random.below(8) {
            let reverse = random.below(2) == 0;
            let got = if reverse { iter.next_back() } else { iter.next() };
            let wanted = if reverse { expected.pop_back() } else { expected.pop_front() };
            let got = got.map(|entry| entry.unwrap()).map(|(key, value)| (key[1], value.to_vec()));
            assert_eq!(got, wanted, "a scan of a transaction, reverse: {reverse}");
            match (got, reverse) {
                (Some((key, _)), false) => front = key + 1,
                (Some((key, _)), true) => back = key,
                (None, _) => front = back,
            }
        }
        // Tracked even where its own writes hide the snapshot.
        (a..front).chain(back..b).for_each(|key| self.read[usize::from(key)] = true);
    }
}

/// One thread interleaves transactions at random. Each that commits must have read what is there at its commit, and each that is
/// refused must have read something that was written since.
#[test]
fn engine_rule_15_interleaved_transactions_are_serializable_and_conflict_only_when_they_must() {
    let (mut committed, mut refused) = (0, 0);
    for seed in 0..250_u64 {
        let mut random = Random(seed);
        let (db, ks) = open(Background::Manual);
        let mut model: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        // The keys of every write that is in the model.
        let mut written: Vec<Vec<u8>> = Vec::new();
        let mut running: Vec<(Running, Vec<u8>)> = Vec::new();
        for unique in 0..250 {
            match random.below(20) {
                0 => db.flush().unwrap(),
                1 => ks.compact_range(..).unwrap(),
                2 => drop(db.step().unwrap()),
                3..=5 if running.len() < 4 => {
                    let transaction = db.transaction();
                    let began = written.len();
                    let (own, read) = ([false; KEYS as usize], [false; KEYS as usize]);
                    let (base, view) = (model.clone(), model.clone());
                    running.push((Running { transaction, base, view, own, read, began, wrote: false }, Vec::new()));
                }
                6 | 7 if !running.is_empty() => {
                    let at = usize::from(random.below(4)) % running.len();
                    let (run, wrote) = running.remove(at);
                    let touched =
                        written[run.began..].iter().flatten().any(|&key| run.wrote && run.read[usize::from(key)]);
                    let conflict = conflicts(&run.transaction.commit());
                    assert!(touched || !conflict, "seed {seed}, step {unique}: nothing that it read was written");
                    if conflict {
                        refused += 1;
                        continue;
                    }
                    committed += 1;
                    // What was written and deleted again may be gone without a trace: then it reads as before.
                    for number in (0..KEYS).filter(|&number| run.wrote && run.read[usize::from(number)]) {
                        assert_eq!(model.get(&number), run.base.get(&number), "seed {seed}: not serializable");
                    }
                    // Its writes take effect on what is there now: merges on keys that it had not read, too.
                    model = ks.iter().map(|entry| entry.unwrap()).map(|(k, v)| (k[1], v.to_vec())).collect();
                    for &key in &wrote {
                        if run.own[usize::from(key)] || run.read[usize::from(key)] {
                            assert_eq!(model.get(&key), run.view.get(&key), "seed {seed}: a write is not as it was");
                        }
                    }
                    written.push(wrote);
                }
                8 => {
                    let number = random.below(KEYS);
                    ks.put(key(number), format!("{unique}:")).unwrap();
                    model.insert(number, format!("{unique}:").into_bytes());
                    written.push(vec![number]);
                }
                _ if !running.is_empty() => {
                    let at = usize::from(random.below(4)) % running.len();
                    let (run, wrote) = &mut running[at];
                    let more = run.step(&ks, &mut random, unique);
                    wrote.extend(more);
                }
                _ => {}
            }
        }
    }
    assert!(committed > 1000 && refused > 500, "{committed} committed, {refused} refused");
}

/// Money is moved between accounts by threads; the sum never changes, for any transaction.
#[test]
fn engine_rule_15_transfers_keep_the_sum() {
    const ACCOUNTS: u8 = 8;
    let (db, ks) = open(Background::Threads);
    for account in 0..ACCOUNTS {
        ks.put(key(account), 100_u32.to_be_bytes()).unwrap();
    }
    let amount = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    let sum = |tx: &Transaction| tx.iter(&ks).map(|entry| amount(&entry.unwrap().1)).sum::<u32>();
    thread::scope(|scope| {
        for worker in 0..4_u64 {
            let (db, ks) = (&db, &ks);
            scope.spawn(move || {
                let mut random = Random(worker);
                for _ in 0..300 {
                    let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
                    let moved = u32::from(random.below(30));
                    db.transact(|tx| {
                        let have = amount(&tx.get(ks, key(from))?.unwrap());
                        if have < moved || from == to {
                            return Ok(());
                        }
                        let other = amount(&tx.get(ks, key(to))?.unwrap());
                        tx.put(ks, key(from), (have - moved).to_be_bytes());
                        tx.put(ks, key(to), (other + moved).to_be_bytes());
                        Ok(())
                    })
                    .unwrap();
                }
            });
        }
        for _ in 0..200 {
            assert_eq!(sum(&db.transaction()), u32::from(ACCOUNTS) * 100);
        }
    });
    assert_eq!(sum(&db.transaction()), u32::from(ACCOUNTS) * 100);
    assert!(db.metrics().transactions >= 1200);
}

/// Each withdraws only when the sum of both accounts allows it: under snapshot isolation both would.
#[test]
fn engine_rule_15_no_write_skew() {
    // All of it stays in one memtable, so that a validation has to walk over it.
    let (db, ks) = open_with(Background::Threads, 64 << 20);
    let padding = db.keyspace("padding", KeyspaceOptions::default()).unwrap();
    for number in 0..20_000_u32 {
        padding.put(number.to_be_bytes(), "1").unwrap();
    }
    for round in 0..100_u32 {
        let name = |which: &str| format!("{round} {which}");
        ks.put(name("a"), [50]).unwrap();
        ks.put(name("b"), [50]).unwrap();
        let gate = std::sync::Barrier::new(2);
        thread::scope(|scope| {
            for which in ["a", "b"] {
                let (db, ks, padding, gate) = (&db, &ks, &padding, &gate);
                scope.spawn(move || {
                    let mut tx = db.transaction();
                    let (a, b) =
                        (tx.get(ks, name("a")).unwrap().unwrap()[0], tx.get(ks, name("b")).unwrap().unwrap()[0]);
                    let mine = if which == "a" { a } else { b };
                    if a + b >= 60 {
                        tx.put(ks, name(which), [mine.saturating_sub(60)]);
                        tx.put(ks, name(&format!("{which} paid")), [60]);
                    }
                    // Every other time both are validated at length, and at once: then the last look decides.
                    let long = round % 5 == 0;
                    if long {
                        assert_eq!(tx.iter(padding).count(), 20_000);
                    }
                    gate.wait();
                    if long && which == "a" {
                        ks.put("unrelated", "").unwrap();
                    }
                    gate.wait();
                    let _ = conflicts(&tx.commit());
                });
            }
        });
        let paid = ["a paid", "b paid"].iter().filter(|which| ks.contains_key(name(which)).unwrap()).count();
        assert_eq!(paid, 1, "round {round}: both were paid out, or nobody");
    }
}

/// What one committed transaction of a history read and wrote.
#[derive(Clone, Debug)]
struct Committed {
    reads: Vec<(u8, Option<Vec<u8>>)>,
    scanned: Option<Vec<(u8, Vec<u8>)>>,
    writes: Vec<(u8, Vec<u8>)>,
}

/// Whether the transactions can be put in an order in which each reads what it read.
fn has_serial_order(history: &mut Vec<Committed>, state: &mut BTreeMap<u8, Vec<u8>>) -> bool {
    if history.is_empty() {
        return true;
    }
    for at in 0..history.len() {
        let next = &history[at];
        let fits = next.reads.iter().all(|(key, value)| state.get(key) == value.as_ref())
            && next
                .scanned
                .as_ref()
                .is_none_or(|all| state.iter().map(|(k, v)| (*k, v.clone())).eq(all.iter().cloned()));
        if !fits {
            continue;
        }
        let next = history.remove(at);
        let before = state.clone();
        state.extend(next.writes.iter().cloned());
        if has_serial_order(history, state) {
            return true;
        }
        *state = before;
        history.insert(at, next);
    }
    false
}

#[test]
fn engine_rule_15_histories_of_threads_have_a_serial_order() {
    let (mut committed, mut refused) = (0, 0);
    for round in 0..150_u64 {
        let (db, ks) = open(Background::Threads);
        let history = Mutex::new(Vec::new());
        let conflicted = Mutex::new(0);
        thread::scope(|scope| {
            for worker in 0..3_u8 {
                let (db, ks, history, conflicted) = (&db, &ks, &history, &conflicted);
                scope.spawn(move || {
                    let mut random = Random(round * 3 + u64::from(worker));
                    for turn in 0..3 {
                        let mut tx = db.transaction();
                        let mut done = Committed { reads: Vec::new(), scanned: None, writes: Vec::new() };
                        for _ in 0..2 {
                            let number = random.below(4);
                            let value = tx.get(ks, key(number)).unwrap().map(Vec::from);
                            done.reads.push((number, value));
                            thread::yield_now();
                        }
                        if random.below(4) == 0 {
                            let all = tx.iter(ks).map(|entry| entry.unwrap()).map(|(k, v)| (k[1], v.to_vec()));
                            done.scanned = Some(all.collect());
                        }
                        let number = random.below(4);
                        let value = format!("{worker} {turn}").into_bytes();
                        tx.put(ks, key(number), &value);
                        done.writes.push((number, value));
                        if conflicts(&tx.commit()) {
                            *conflicted.lock().unwrap() += 1;
                        } else {
                            history.lock().unwrap().push(done);
                        }
                    }
                });
            }
        });
        let mut history = history.into_inner().unwrap();
        committed += history.len();
        refused += conflicted.into_inner().unwrap();
        let shown = history.clone();
        assert!(has_serial_order(&mut history, &mut BTreeMap::new()), "round {round}: {shown:#?}");
    }
    assert!(committed > 300 && refused > 0, "{committed} committed, {refused} refused");
}

/// Validation goes on outside the lock while others write more than is kept aside.
#[test]
fn a_long_validation_is_not_starved_by_writers() {
    let (db, ks) = open(Background::Threads);
    let other = db.keyspace("other", KeyspaceOptions::default()).unwrap();
    for number in 0..2000_u32 {
        ks.put(number.to_be_bytes(), "1").unwrap();
    }
    let over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0_u32;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                other.put(number.to_be_bytes(), "2").unwrap();
                number += 1;
            }
        });
        for round in 0..20 {
            let mut tx = db.transaction();
            assert_eq!(tx.range(&ks, 0_u32.to_be_bytes()..2000_u32.to_be_bytes()).count(), 2000);
            tx.put(&ks, "result", format!("{round}"));
            tx.commit().unwrap();
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
