//! What every store must do, whatever it is made of. A store's own tests call [`conformance`]; what only some stores can
//! show (crashes, failed syncs, flushes) is tested beside them.

mod model;

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use self::model::agrees_with_the_model;
use super::{
    Batch, CommitError, Corrupt, Direction, Fold, Folded, KeyRange, MergeOperator, Sequence, Space, SpaceOptions,
    Store, StoreError, View,
};
use crate::limits::{STORE_KEY_BYTES_MAX, STORE_VALUE_BYTES_MAX};
use crate::time::Millis;

/// A space without an operator.
const PLAIN: Space = Space(1);
/// A space that concatenates.
const MERGED: Space = Space(2);
/// A space that no store of the suite declares.
const UNDECLARED: Space = Space(77);

/// How long a requested sync may take before the suite calls it lost.
const SYNC_PATIENCE: Duration = Duration::from_secs(30);

/// Runs the suite. `open` gives an empty store with the given spaces, a new one at each call.
///
/// # Panics
/// When the store breaks a promise of [`Store`] or [`View`]; the message names it.
pub fn conformance(open: &mut dyn FnMut(Vec<(Space, SpaceOptions)>) -> Arc<dyn Store>) {
    let mut store = || {
        let merge: Arc<dyn MergeOperator> = Arc::new(Concatenate);
        open(vec![(PLAIN, SpaceOptions::default()), (MERGED, SpaceOptions { merge: Some(merge) })])
    };
    reads_see_the_last_write(&*store());
    operations_of_a_batch_apply_in_order(&*store());
    scans_are_ordered_and_bounded(&*store());
    merges_fold_oldest_first(&*store());
    a_corrupt_fold_fails_the_read_and_not_the_commit(&*store());
    a_refused_batch_changes_nothing(&*store());
    sizes_up_to_the_limits_are_taken(&*store());
    snapshots_do_not_move(&*store());
    a_callback_may_use_the_store(&*store());
    sequences_grow_and_become_durable(&*store());
    readers_never_see_half_a_batch(&*store());
    for seed in 0..24 {
        agrees_with_the_model(&*store(), seed);
    }
}

/// Appends operands to the base. An operand that starts with 0xff cannot be folded; an empty result is absence.
struct Concatenate;

impl MergeOperator for Concatenate {
    fn fold(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        oldest_first: &[&[u8]],
        how: Fold,
        out: &mut Vec<u8>,
    ) -> Result<Folded, Corrupt> {
        assert!(out.is_empty(), "a store hands the operator an empty buffer");
        for part in base.iter().chain(oldest_first) {
            if part.first() == Some(&0xff) {
                return Err(Corrupt::new("an operand of the suite that cannot be folded"));
            }
            out.extend_from_slice(part);
        }
        Ok(if out.is_empty() && matches!(how, Fold::Complete { .. }) { Folded::Absent } else { Folded::Value })
    }
}

fn batch(fill: impl FnOnce(&mut Batch)) -> Batch {
    let mut batch = Batch::new();
    fill(&mut batch);
    batch
}

fn commit(store: &dyn Store, fill: impl FnOnce(&mut Batch)) -> Sequence {
    store.commit(&batch(fill)).expect("a well-formed batch is taken")
}

fn try_get(view: &(impl View + ?Sized), space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let mut value = None;
    let mut calls = 0;
    let found = view.get(space, key, &mut |bytes| {
        calls += 1;
        value = Some(bytes.to_vec());
    })?;
    assert_eq!(calls, usize::from(found), "found is called once for a key that is there and never for one that is not");
    Ok(value)
}

fn get(view: &(impl View + ?Sized), space: Space, key: &[u8]) -> Option<Vec<u8>> {
    try_get(view, space, key).expect("the read works")
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn scan(
    view: &(impl View + ?Sized),
    space: Space,
    range: KeyRange<'_>,
    direction: Direction,
    limit: usize,
) -> Result<Pairs, StoreError> {
    let mut pairs = Vec::new();
    if limit == 0 {
        return Ok(pairs);
    }
    view.scan(space, range, direction, &mut |key, value| {
        assert!(pairs.len() < limit, "a scan that was broken off goes no further");
        pairs.push((key.to_vec(), value.to_vec()));
        if pairs.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(pairs)
}

fn scan_all(view: &(impl View + ?Sized), space: Space) -> Pairs {
    scan(view, space, KeyRange::ALL, Direction::Forward, usize::MAX).expect("the scan works")
}

fn keys(pairs: &Pairs) -> Vec<&[u8]> {
    pairs.iter().map(|(key, _)| &key[..]).collect()
}

fn reads_see_the_last_write(store: &dyn Store) {
    assert_eq!(get(store, PLAIN, b"k"), None, "a new store is empty");
    commit(store, |batch| batch.put(PLAIN, b"k", b"1"));
    assert_eq!(get(store, PLAIN, b"k").as_deref(), Some(&b"1"[..]));
    assert_eq!(get(store, MERGED, b"k"), None, "spaces are apart");
    commit(store, |batch| batch.put(PLAIN, b"k", b"2"));
    assert_eq!(get(store, PLAIN, b"k").as_deref(), Some(&b"2"[..]));
    commit(store, |batch| batch.put(PLAIN, b"", b""));
    assert_eq!(
        get(store, PLAIN, b"").as_deref(),
        Some(&b""[..]),
        "an empty key and an empty value are a key and a value"
    );
    commit(store, |batch| batch.delete(PLAIN, b"k"));
    assert_eq!(get(store, PLAIN, b"k"), None);
    commit(store, |batch| batch.delete(PLAIN, b"never there"));
    assert_eq!(keys(&scan_all(store, PLAIN)), [b""]);
}

fn operations_of_a_batch_apply_in_order(store: &dyn Store) {
    commit(store, |batch| {
        batch.put(PLAIN, b"a", b"first");
        batch.put(PLAIN, b"a", b"second");
        batch.put(PLAIN, b"b", b"swept");
        batch.delete_range(PLAIN, b"b", b"c");
        batch.put(PLAIN, b"bb", b"after the sweep");
        batch.put(MERGED, b"m", b"base");
        batch.merge(MERGED, b"m", b"+1");
        batch.delete(MERGED, b"m");
        batch.merge(MERGED, b"m", b"+2");
    });
    assert_eq!(get(store, PLAIN, b"a").as_deref(), Some(&b"second"[..]));
    assert_eq!(get(store, PLAIN, b"b"), None);
    assert_eq!(get(store, PLAIN, b"bb").as_deref(), Some(&b"after the sweep"[..]));
    assert_eq!(get(store, MERGED, b"m").as_deref(), Some(&b"+2"[..]), "a delete cuts the operands before it");
    commit(store, |batch| batch.delete_range(MERGED, b"", b"z"));
    commit(store, |batch| batch.merge(MERGED, b"m", b"+3"));
    assert_eq!(get(store, MERGED, b"m").as_deref(), Some(&b"+3"[..]), "so does a range delete");
}

fn scans_are_ordered_and_bounded(store: &dyn Store) {
    for key in [&b"c"[..], b"a", b"\xff\xff", b"b", b"ab", b"\x00"] {
        commit(store, |batch| batch.put(PLAIN, key, key));
    }
    let forward = |range, limit| {
        let found = scan(store, PLAIN, range, Direction::Forward, limit).expect("the scan works");
        found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    let reverse = |range, limit| {
        let found = scan(store, PLAIN, range, Direction::Reverse, limit).expect("the scan works");
        found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    let all = [&b"\x00"[..], b"a", b"ab", b"b", b"c", b"\xff\xff"];
    assert_eq!(forward(KeyRange::ALL, usize::MAX), all);
    assert_eq!(reverse(KeyRange::ALL, usize::MAX), all.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(forward(KeyRange::half_open(b"a", b"b"), usize::MAX), [&b"a"[..], b"ab"]);
    assert_eq!(reverse(KeyRange::half_open(b"a", b"c"), 2), [&b"b"[..], b"ab"]);
    assert_eq!(forward(KeyRange::from(b"b"), 1), [b"b"]);
    let inside = KeyRange { start: Bound::Excluded(b"a"), end: Bound::Included(b"c") };
    assert_eq!(forward(inside, usize::MAX), [&b"ab"[..], b"b", b"c"]);
    assert_eq!(reverse(inside, usize::MAX), [&b"c"[..], b"b", b"ab"]);
    let wrong_way = KeyRange { start: Bound::Included(b"c"), end: Bound::Included(b"a") };
    let touching = KeyRange { start: Bound::Excluded(b"a"), end: Bound::Excluded(b"a") };
    for empty in [wrong_way, touching, KeyRange::half_open(b"a", b"a"), KeyRange::half_open(b"ac", b"ad")] {
        assert_eq!(forward(empty, usize::MAX), [b""; 0]);
        assert_eq!(reverse(empty, usize::MAX), [b""; 0]);
    }
}

fn merges_fold_oldest_first(store: &dyn Store) {
    commit(store, |batch| batch.merge(MERGED, b"alone", b"x"));
    assert_eq!(get(store, MERGED, b"alone").as_deref(), Some(&b"x"[..]));
    commit(store, |batch| batch.put(MERGED, b"k", b"0"));
    let mut expected = b"0".to_vec();
    for number in 1..=40_u8 {
        commit(store, |batch| batch.merge(MERGED, b"k", &[number]));
        expected.push(number);
        assert_eq!(get(store, MERGED, b"k").as_ref(), Some(&expected));
    }
    let both = scan_all(store, MERGED);
    assert_eq!(both, [(b"alone".to_vec(), b"x".to_vec()), (b"k".to_vec(), expected)], "scans fold too");
    commit(store, |batch| batch.merge(MERGED, b"nothing", b""));
    assert_eq!(get(store, MERGED, b"nothing"), None, "the operator called it absent");
    assert_eq!(keys(&scan_all(store, MERGED)), [&b"alone"[..], b"k"]);
    commit(store, |batch| batch.put(MERGED, b"k", b"again"));
    assert_eq!(get(store, MERGED, b"k").as_deref(), Some(&b"again"[..]), "a put cuts the operands before it");
}

fn a_corrupt_fold_fails_the_read_and_not_the_commit(store: &dyn Store) {
    commit(store, |batch| {
        batch.put(MERGED, b"a", b"fine");
        batch.put(MERGED, b"z", b"fine");
    });
    for _ in 0..20 {
        commit(store, |batch| batch.merge(MERGED, b"bad", b"\xff"));
    }
    assert!(matches!(try_get(store, MERGED, b"bad"), Err(StoreError::Corrupt(_))));
    assert_eq!(get(store, MERGED, b"a").as_deref(), Some(&b"fine"[..]), "other keys can still be read");
    for (direction, first) in [(Direction::Forward, b"a"), (Direction::Reverse, b"z")] {
        let mut seen = Vec::new();
        let outcome = store.scan(MERGED, KeyRange::ALL, direction, &mut |key, _| {
            seen.push(key.to_vec());
            ControlFlow::Continue(())
        });
        assert!(matches!(outcome, Err(StoreError::Corrupt(_))));
        assert_eq!(seen, [first], "nothing follows the error");
        assert_eq!(scan(store, MERGED, KeyRange::ALL, direction, 1).expect("it ended before the error").len(), 1);
    }
    commit(store, |batch| batch.put(MERGED, b"bad", b"healed"));
    assert_eq!(get(store, MERGED, b"bad").as_deref(), Some(&b"healed"[..]));
}

fn a_refused_batch_changes_nothing(store: &dyn Store) {
    commit(store, |batch| batch.put(PLAIN, b"k", b"kept"));
    let before = commit(store, |batch| batch.merge(MERGED, b"m", b"kept"));
    let long_key = vec![b'k'; STORE_KEY_BYTES_MAX + 1];
    let refuse = |last: &dyn Fn(&mut Batch)| {
        let refused = store.commit(&batch(|batch| {
            batch.put(PLAIN, b"k", b"lost");
            batch.merge(MERGED, b"m", b"lost");
            batch.delete_range(PLAIN, b"", b"\xff");
            last(batch);
        }));
        assert_eq!(scan_all(store, PLAIN), [(b"k".to_vec(), b"kept".to_vec())]);
        assert_eq!(scan_all(store, MERGED), [(b"m".to_vec(), b"kept".to_vec())]);
        refused.expect_err("the batch is refused")
    };
    let unknown = refuse(&|batch| batch.put(UNDECLARED, b"k", b"v"));
    assert!(matches!(unknown, CommitError::Store(StoreError::UnknownSpace(77))), "{unknown:?}");
    let merge = refuse(&|batch| batch.merge(PLAIN, b"k", b"v"));
    assert!(matches!(merge, CommitError::NoMergeOperator(space) if space == PLAIN.0), "{merge:?}");
    for space in [PLAIN, MERGED] {
        let expiring = refuse(&|batch| batch.put_expiring(space, b"k", Millis::MAX, b"v"));
        assert!(matches!(expiring, CommitError::Expiring(refused) if refused == space.0), "{expiring:?}");
    }
    let too_long: [&dyn Fn(&mut Batch); 5] = [
        &|batch| batch.put(PLAIN, &long_key, b"v"),
        &|batch| batch.merge(MERGED, &long_key, b"v"),
        &|batch| batch.delete(PLAIN, &long_key),
        &|batch| batch.delete_range(PLAIN, b"a", &long_key),
        &|batch| batch.delete_range(PLAIN, &long_key, b"l"),
    ];
    for last in too_long {
        let error = refuse(last);
        let CommitError::TooLarge { what: "key", bytes, bytes_max: STORE_KEY_BYTES_MAX } = error else {
            panic!("a key that is too long gave {error:?}");
        };
        assert_eq!(bytes, long_key.len());
    }
    let long_value = vec![0; STORE_VALUE_BYTES_MAX + 1];
    let error = refuse(&|batch| batch.put(PLAIN, b"k", &long_value));
    assert!(matches!(error, CommitError::TooLarge { what: "value", .. }), "{error:?}");
    drop(long_value);
    assert!(matches!(try_get(store, UNDECLARED, b"k"), Err(StoreError::UnknownSpace(77))));
    let unknown = scan(store, UNDECLARED, KeyRange::ALL, Direction::Forward, 1);
    assert!(matches!(unknown, Err(StoreError::UnknownSpace(77))));
    assert!(commit(store, |batch| batch.put(PLAIN, b"k", b"next")) > before);
}

fn sizes_up_to_the_limits_are_taken(store: &dyn Store) {
    let key = vec![7; STORE_KEY_BYTES_MAX];
    let value: Vec<u8> = (0..=250).cycle().take(1 << 20).collect();
    commit(store, |batch| batch.put(PLAIN, &key, &value));
    assert_eq!(get(store, PLAIN, &key).as_ref(), Some(&value));
}

fn snapshots_do_not_move(store: &dyn Store) {
    commit(store, |batch| {
        batch.put(PLAIN, b"k", b"old");
        batch.merge(MERGED, b"m", b"old");
    });
    let snapshot = store.snapshot();
    commit(store, |batch| {
        batch.put(PLAIN, b"k", b"new");
        batch.put(PLAIN, b"later", b"new");
        batch.merge(MERGED, b"m", b"new");
    });
    let second = store.snapshot();
    commit(store, |batch| {
        batch.delete_range(PLAIN, b"", b"z");
        batch.delete(MERGED, b"m");
    });
    assert_eq!(scan_all(&*snapshot, PLAIN), [(b"k".to_vec(), b"old".to_vec())]);
    assert_eq!(get(&*snapshot, MERGED, b"m").as_deref(), Some(&b"old"[..]));
    assert_eq!(get(&*snapshot, PLAIN, b"later"), None);
    assert_eq!(keys(&scan_all(&*second, PLAIN)), [&b"k"[..], b"later"]);
    assert_eq!(get(&*second, MERGED, b"m").as_deref(), Some(&b"oldnew"[..]));
    assert_eq!(scan_all(store, PLAIN), []);
    assert_eq!(get(store, MERGED, b"m"), None);
    assert!(matches!(try_get(&*snapshot, UNDECLARED, b"k"), Err(StoreError::UnknownSpace(77))));
}

fn a_callback_may_use_the_store(store: &dyn Store) {
    commit(store, |batch| {
        batch.put(PLAIN, b"a", b"1");
        batch.put(PLAIN, b"b", b"2");
    });
    let mut seen = Vec::new();
    let scanned = store.scan(PLAIN, KeyRange::ALL, Direction::Forward, &mut |key, _| {
        seen.push(key.to_vec());
        assert!(get(store, PLAIN, key).is_some());
        commit(store, |batch| batch.put(PLAIN, &[key, b"+"].concat(), b""));
        ControlFlow::Continue(())
    });
    scanned.expect("the scan works");
    assert_eq!(seen, [b"a", b"b"], "a scan is one state, whatever is committed meanwhile");
    assert_eq!(scan_all(store, PLAIN).len(), 4);
}

fn sequences_grow_and_become_durable(store: &dyn Store) {
    let (wake, woken) = mpsc::channel();
    store.on_durable(Arc::new(move || {
        let _ = wake.send(());
    }));
    let mut last = store.durable_sequence().expect("a new store is sound");
    for round in 0..20_u8 {
        let mut through = last;
        for key in 0..=round {
            let sequence = commit(store, |batch| batch.put(PLAIN, &[key], &[round]));
            assert!(sequence > through, "later commits have higher numbers");
            through = sequence;
        }
        store.request_sync(through);
        loop {
            let durable = store.durable_sequence().expect("no sync failed");
            assert!(durable >= last, "the durable number never goes back");
            assert!(durable <= through, "nothing is durable before it is committed");
            last = durable;
            if durable >= through {
                break;
            }
            woken.recv_timeout(SYNC_PATIENCE).expect("a requested sync completes and wakes whoever registered");
        }
    }
    let (wake, woken) = mpsc::channel();
    store.on_durable(Arc::new(move || {
        let _ = wake.send(());
    }));
    store.request_sync(commit(store, |batch| batch.put(PLAIN, b"once more", b"")));
    woken.recv_timeout(SYNC_PATIENCE).expect("the wake registered last is the one that is called");
}

fn readers_never_see_half_a_batch(store: &dyn Store) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0_u64;
            while !done.load(Ordering::Acquire) || looks == 0 {
                let snapshot = store.snapshot();
                let left = get(&*snapshot, PLAIN, b"left");
                assert_eq!(left, get(&*snapshot, PLAIN, b"right"), "a snapshot split a batch");
                let operands = get(&*snapshot, MERGED, b"count").map_or(0, |value| value.len());
                let count = left.map_or(0, |left| u64::from_le_bytes(left.try_into().expect("eight bytes")));
                assert_eq!(count, u64::try_from(operands).expect("small"), "a snapshot split a batch across spaces");
                let seen = scan_all(store, PLAIN);
                assert!(seen.windows(2).all(|pair| pair[0].1 == pair[1].1), "a scan split a batch");
                looks += 1;
            }
        });
        for number in 1..=400_u64 {
            commit(store, |batch| {
                batch.put(PLAIN, b"left", &number.to_le_bytes());
                batch.put(PLAIN, b"right", &number.to_le_bytes());
                batch.merge(MERGED, b"count", b"x");
            });
        }
        done.store(true, Ordering::Release);
        reader.join().expect("the reader saw whole batches");
    });
}
