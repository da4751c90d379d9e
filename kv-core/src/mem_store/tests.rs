use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::store::{Corrupt, Fold, Folded, MergeOperator, conformance};

/// Each operand is a little-endian expiry in wall milliseconds; the latest one counts, and a key past it is absent.
struct LatestExpiry;

impl MergeOperator for LatestExpiry {
    fn fold(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        oldest_first: &[&[u8]],
        how: Fold,
        out: &mut Vec<u8>,
    ) -> Result<Folded, Corrupt> {
        let mut latest = 0;
        for part in base.iter().chain(oldest_first) {
            let part: [u8; 8] = (*part).try_into().map_err(|_| Corrupt::new("an expiry of another size"))?;
            latest = latest.max(u64::from_le_bytes(part));
        }
        if let Fold::Complete { as_of } = how
            && as_of.0 >= latest
        {
            return Ok(Folded::Absent);
        }
        out.extend_from_slice(&latest.to_le_bytes());
        Ok(Folded::Value)
    }
}

fn spaces() -> [(Space, SpaceOptions); 2] {
    let merge: Arc<dyn MergeOperator> = Arc::new(LatestExpiry);
    [(Space::META, SpaceOptions::default()), (Space::DATA, SpaceOptions { merge: Some(merge) })]
}

fn put(store: &MemStore, key: &[u8], value: &[u8]) -> Sequence {
    let mut batch = Batch::new();
    batch.put(Space::META, key, value);
    store.commit(&batch).unwrap()
}

fn value(view: &dyn View, space: Space, key: &[u8]) -> Option<Vec<u8>> {
    let mut value = None;
    view.get(space, key, &mut |bytes| value = Some(bytes.to_vec())).unwrap();
    value
}

fn count_wakes(store: &MemStore) -> Arc<AtomicUsize> {
    let wakes = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&wakes);
    store.on_durable(Arc::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    }));
    wakes
}

#[test]
fn it_is_a_store() {
    conformance(&mut |spaces| Arc::new(MemStore::new(spaces)));
}

#[test]
fn with_manual_sync_it_is_a_store_whose_owner_completes_the_syncs() {
    /// Completes each sync when it is asked for, as a simulated disk without delay would.
    struct Prompt(MemStore);
    impl View for Prompt {
        fn get(&self, space: Space, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, StoreError> {
            self.0.get(space, key, found)
        }
        fn scan(
            &self,
            space: Space,
            range: KeyRange<'_>,
            direction: Direction,
            each: &mut ScanFn<'_>,
        ) -> Result<(), StoreError> {
            self.0.scan(space, range, direction, each)
        }
    }
    impl Store for Prompt {
        fn snapshot(&self) -> Arc<dyn View + Send + Sync> {
            self.0.snapshot()
        }
        fn commit(&self, batch: &Batch) -> Result<Sequence, CommitError> {
            self.0.commit(batch)
        }
        fn request_sync(&self, through: Sequence) {
            self.0.request_sync(through);
            self.0.sync_through(self.0.sync_requested().unwrap_or_default());
        }
        fn durable_sequence(&self) -> Result<Sequence, Poisoned> {
            self.0.durable_sequence()
        }
        fn on_durable(&self, wake: Arc<dyn Fn() + Send + Sync>) {
            self.0.on_durable(wake);
        }
    }
    conformance(&mut |spaces| Arc::new(Prompt(MemStore::with_manual_sync(spaces))));
}

#[test]
fn a_commit_is_volatile_until_a_sync_is_asked_for() {
    let store = MemStore::new(spaces());
    let wakes = count_wakes(&store);
    let first = put(&store, b"k", b"v");
    assert_eq!(store.durable_sequence().unwrap(), Sequence(0));
    store.request_sync(first);
    assert_eq!(store.durable_sequence().unwrap(), first);
    assert_eq!(wakes.load(Ordering::Relaxed), 1);
    store.request_sync(first);
    assert_eq!(wakes.load(Ordering::Relaxed), 1, "nothing moved");
}

#[test]
fn with_manual_sync_a_request_is_only_remembered() {
    let store = MemStore::with_manual_sync(spaces());
    let wakes = count_wakes(&store);
    let first = put(&store, b"a", b"1");
    assert_eq!(store.sync_requested(), None);
    store.request_sync(first);
    let second = put(&store, b"b", b"2");
    assert_eq!(store.sync_requested(), Some(first));
    assert_eq!((store.durable_sequence().unwrap(), wakes.load(Ordering::Relaxed)), (Sequence(0), 0));
    store.sync_through(first);
    assert_eq!((store.durable_sequence().unwrap(), wakes.load(Ordering::Relaxed)), (first, 1));
    assert_eq!(store.sync_requested(), None);
    store.sync();
    assert_eq!((store.durable_sequence().unwrap(), wakes.load(Ordering::Relaxed)), (second, 2));
}

#[test]
fn a_crash_takes_back_what_was_not_durable_and_nothing_else() {
    let store = MemStore::with_manual_sync(spaces());
    put(&store, b"kept", b"1");
    put(&store, b"changed", b"1");
    put(&store, b"deleted", b"1");
    let durable = put(&store, b"swept", b"1");
    store.sync_through(durable);
    let wakes = count_wakes(&store);
    let mut batch = Batch::new();
    batch.put(Space::META, b"changed", b"2");
    batch.put(Space::META, b"changed", b"3");
    batch.put(Space::META, b"new", b"1");
    batch.delete(Space::META, b"deleted");
    batch.delete_range(Space::META, b"s", b"t");
    batch.merge(Space::DATA, b"merged", &9_u64.to_le_bytes());
    store.request_sync(store.commit(&batch).unwrap());
    let snapshot = store.snapshot();
    store.crash();
    for key in [&b"kept"[..], b"changed", b"deleted", b"swept"] {
        assert_eq!(value(&store, Space::META, key).as_deref(), Some(&b"1"[..]));
    }
    assert_eq!(value(&store, Space::META, b"new"), None);
    assert_eq!(value(&store, Space::DATA, b"merged"), None);
    assert_eq!(value(&*snapshot, Space::META, b"new").as_deref(), Some(&b"1"[..]), "a snapshot does not move");
    assert_eq!(store.sync_requested(), None, "the request died with the process");
    store.sync();
    assert_eq!(store.durable_sequence().unwrap(), durable);
    assert_eq!(wakes.load(Ordering::Relaxed), 0, "so did its wake");
    assert_eq!(put(&store, b"k", b""), Sequence(durable.0 + 1));
}

#[test]
fn a_failed_sync_poisons_until_the_next_life() {
    let store = MemStore::with_manual_sync(spaces());
    store.sync_through(put(&store, b"a", b"1"));
    put(&store, b"a", b"2");
    let snapshot = store.snapshot();
    let wakes = count_wakes(&store);
    store.fail_syncs("pulled the cable");
    store.fail_syncs("later");
    assert_eq!(wakes.load(Ordering::Relaxed), 2);
    store.sync();
    assert_eq!(store.durable_sequence().unwrap_err().reason, "pulled the cable");
    assert!(matches!(store.commit(&Batch::new()), Err(CommitError::Poisoned(_))));
    for view in [&store as &dyn View, &*snapshot, &*store.snapshot()] {
        assert!(matches!(view.get(Space::META, b"a", &mut |_| panic!("called")), Err(StoreError::Poisoned(_))));
        let scanned = view.scan(Space::META, KeyRange::ALL, Direction::Forward, &mut |_, _| panic!("called"));
        assert!(matches!(scanned, Err(StoreError::Poisoned(_))));
    }
    store.crash();
    assert_eq!(store.durable_sequence().unwrap(), Sequence(1));
    assert_eq!(value(&store, Space::META, b"a").as_deref(), Some(&b"1"[..]));
    assert!(snapshot.get(Space::META, b"a", &mut |_| {}).is_err(), "the old life stays poisoned");
}

#[test]
#[should_panic(expected = "manual sync")]
fn a_store_that_keeps_no_undo_cannot_crash() {
    MemStore::new(spaces()).crash();
}

#[test]
fn folds_are_complete_at_the_time_of_the_read_or_of_the_snapshot() {
    let wall = Arc::new(AtomicU64::new(5));
    let clock = Arc::clone(&wall);
    let store = MemStore::new(spaces()).with_clock(Arc::new(move || Millis(clock.load(Ordering::Relaxed))));
    let mut batch = Batch::new();
    batch.merge(Space::DATA, b"k", &10_u64.to_le_bytes());
    store.commit(&batch).unwrap();
    let snapshot = store.snapshot();
    assert!(value(&store, Space::DATA, b"k").is_some());
    wall.store(10, Ordering::Relaxed);
    assert_eq!(value(&store, Space::DATA, b"k"), None);
    let mut keys = 0;
    store
        .scan(Space::DATA, KeyRange::ALL, Direction::Forward, &mut |_, _| {
            keys += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(keys, 0);
    assert!(value(&*snapshot, Space::DATA, b"k").is_some(), "a snapshot keeps its time");
    assert_eq!(value(&*store.snapshot(), Space::DATA, b"k"), None);
}

#[test]
fn operands_under_one_key_stay_few() {
    let store = MemStore::new(spaces());
    for expiry in 1..=1_000_u64 {
        let mut batch = Batch::new();
        batch.merge(Space::DATA, b"k", &expiry.to_le_bytes());
        store.commit(&batch).unwrap();
        let state = store.read();
        assert!(state.entries(Space::DATA).unwrap().entry(b"k").unwrap().operands() < 8);
    }
    assert_eq!(value(&store, Space::DATA, b"k"), Some(1_000_u64.to_le_bytes().to_vec()));
}

#[test]
fn without_a_snapshot_the_maps_are_not_copied() {
    let store = MemStore::new(spaces());
    put(&store, b"a", b"1");
    let address = |store: &MemStore| Arc::as_ptr(store.read().entries(Space::META).unwrap());
    let before = address(&store);
    put(&store, b"b", b"1");
    assert_eq!(address(&store), before);
    let snapshot = store.snapshot();
    put(&store, b"c", b"1");
    let copied = address(&store);
    assert_ne!(copied, before);
    put(&store, b"d", b"1");
    assert_eq!(address(&store), copied, "one copy for one snapshot");
    drop(snapshot);
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Merge(u8, u64),
    Delete(u8),
    DeleteRange(u8, u8),
    SyncBack(u64),
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0_u8..12;
    prop_oneof![
        4 => (key(), any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        4 => (key(), 1_u64..100).prop_map(|(key, expiry)| Step::Merge(key, expiry)),
        2 => key().prop_map(Step::Delete),
        1 => (key(), key()).prop_map(|(start, end)| Step::DeleteRange(start, end)),
        2 => (0_u64..4).prop_map(Step::SyncBack),
        1 => Just(Step::Crash),
    ]
}

type State = BTreeMap<(u32, u8), Vec<u8>>;

fn contents(view: &dyn View) -> State {
    let mut state = State::new();
    for space in [Space::META, Space::DATA] {
        view.scan(space, KeyRange::ALL, Direction::Forward, &mut |key, value| {
            state.insert((space.0, key[0]), value.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    state
}

proptest! {
    /// The model keeps every state there was, one per commit; a crash goes back to the one that was durable.
    #[test]
    fn any_history_agrees_with_a_list_of_states(steps in prop::collection::vec(step(), 0..120)) {
        let store = MemStore::with_manual_sync(spaces());
        let mut states = vec![State::new()];
        let mut durable = 0;
        let mut snapshots = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let mut batch = Batch::new();
            let mut state = states.last().unwrap().clone();
            match *step {
                Step::Put(key, value) => {
                    batch.put(Space::META, &[key], &[value]);
                    state.insert((0, key), vec![value]);
                }
                Step::Merge(key, expiry) => {
                    batch.merge(Space::DATA, &[key], &expiry.to_le_bytes());
                    let held = state.get(&(1, key)).map_or(0, |held| u64::from_le_bytes(held[..].try_into().unwrap()));
                    state.insert((1, key), held.max(expiry).to_le_bytes().to_vec());
                }
                Step::Delete(key) => {
                    batch.delete(Space::META, &[key]);
                    batch.delete(Space::DATA, &[key]);
                    state.retain(|(_, held), _| *held != key);
                }
                Step::DeleteRange(start, end) => {
                    batch.delete_range(Space::DATA, &[start], &[end]);
                    state.retain(|(space, held), _| *space != 1 || *held < start || *held >= end);
                }
                Step::SyncBack(back) => {
                    let through = (states.len() as u64 - 1).saturating_sub(back);
                    store.sync_through(Sequence(through));
                    durable = durable.max(usize::try_from(through).unwrap());
                }
                Step::Crash => {
                    store.crash();
                    states.truncate(durable + 1);
                }
            }
            if !batch.is_empty() {
                let sequence = store.commit(&batch).unwrap();
                prop_assert_eq!(sequence.0, states.len() as u64);
                states.push(state);
            }
            prop_assert_eq!(store.durable_sequence().unwrap().0, durable as u64);
            prop_assert_eq!(&contents(&store), states.last().unwrap());
            if index % 9 == 0 {
                snapshots.push((store.snapshot(), states.last().unwrap().clone()));
            }
        }
        for (snapshot, state) in &snapshots {
            prop_assert_eq!(&contents(&**snapshot), state);
        }
    }
}
