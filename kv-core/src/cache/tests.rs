use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use proptest::prelude::*;

use super::*;
use crate::MemStore;
use crate::evict::{Candidate, Policy, PolicyKind};
use crate::expiry::InvalidTtl;
use crate::store::{Batch, Space, SpaceOptions, Store, View};

/// A clock that a test sets.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }

    fn clock(&self) -> WallClock {
        let time = Arc::clone(&self.0);
        Arc::new(move || Millis(time.load(Ordering::Relaxed)))
    }
}

/// A cache of one shard that holds so many entries of one byte of key and none of value.
fn small(entries: u64, eviction: Eviction, hand: &Hand) -> Cache {
    Cache::builder(entries * (ENTRY_BYTES + 1)).eviction(eviction).clock(hand.clock()).shards(1).build().unwrap()
}

fn assert_adds_up(statistics: Statistics) {
    let Statistics { insertions, entries, evictions, expirations, removals, .. } = statistics;
    assert_eq!(insertions, entries + evictions + expirations + removals, "{statistics:?}");
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    assert_eq!(Cache::builder(0).build().unwrap_err(), InvalidCache::ZeroCapacity);
    assert_eq!(Cache::builder(1 << 20).shards(0).build().unwrap_err(), InvalidCache::ZeroShards);
    assert_eq!(
        Cache::builder(1000).shards(11).build().unwrap_err(),
        InvalidCache::ShardTooSmall { shard_bytes: 90, shard_bytes_min: ENTRY_BYTES }
    );
    let only_expiring = Eviction::OnlyExpiring(PolicyKind::Lru);
    assert_eq!(Cache::builder(1 << 20).eviction(only_expiring).build().unwrap_err(), InvalidCache::NoClock);
}

#[test]
fn what_could_never_fit_is_refused_and_the_old_value_stays() {
    let cache = Cache::builder(1000).shards(1).build().unwrap();
    cache.put(b"k", "old").unwrap();
    cache.put(b"other", "value").unwrap();
    let refused = cache.put(b"k", vec![0; 1000 - 96]).unwrap_err();
    assert_eq!(refused, PutError::TooLarge { bytes: 1001, bytes_max: 1000 });
    assert_eq!(cache.get(b"k").as_deref(), Some(&b"old"[..]));
    assert_eq!(cache.statistics().rejected, 1);
    assert_eq!(cache.len(), 2, "nothing was evicted for it");
    cache.put(b"k", vec![0; 1000 - 97]).unwrap();
    assert_eq!((cache.len(), cache.bytes()), (1, 1000));
}

#[test]
fn times_to_live_that_cannot_be_meant_are_refused() {
    let hand = Hand::default();
    hand.set(5);
    let cache = small(4, Eviction::default(), &hand);
    cache.put(b"k", "").unwrap();
    assert_eq!(cache.put_with_ttl(b"k", "x", Millis::ZERO), Err(PutError::Ttl(TtlError::Invalid(InvalidTtl::Zero))));
    assert_eq!(
        cache.put_with_ttl(b"k", "x", std::time::Duration::MAX),
        Err(PutError::Ttl(TtlError::Invalid(InvalidTtl::Overflow)))
    );
    assert_eq!(cache.touch(b"k", Millis::ZERO), Err(TtlError::Invalid(InvalidTtl::Zero)));
    assert_eq!(cache.touch(b"k", Millis(u64::MAX)), Err(TtlError::Invalid(InvalidTtl::Overflow)));
    assert_eq!(cache.get(b"k").as_deref(), Some(&b""[..]));
    assert_eq!(cache.ttl(b"k"), Some(TimeToLive::Forever));

    let timeless = Cache::builder(1000).build().unwrap();
    assert_eq!(timeless.put_with_ttl(b"k", "", Millis(1)), Err(PutError::Ttl(TtlError::NoClock)));
    assert_eq!(timeless.touch(b"k", Millis(1)), Err(TtlError::NoClock));
    assert_eq!(timeless.expire_at(b"k", Millis(1)), Err(TtlError::NoClock));
    assert!(timeless.expire(10) && timeless.is_empty());
}

#[test]
fn ttl_persist_touch_and_expire_at() {
    let hand = Hand::default();
    hand.set(1000);
    let cache = small(100, Eviction::default(), &hand);
    assert_eq!(cache.ttl(b"k"), None);
    assert!(!cache.persist(b"k") && !cache.touch(b"k", Millis(1)).unwrap());
    assert!(!cache.expire_at(b"k", Millis(2000)).unwrap());

    cache.put_with_ttl(b"k", "", Millis(100)).unwrap();
    assert_eq!(cache.ttl(b"k"), Some(TimeToLive::Left(Millis(100))));
    hand.set(1099);
    assert_eq!(cache.ttl(b"k"), Some(TimeToLive::Left(Millis(1))));
    assert!(cache.touch(b"k", Millis(100)).unwrap(), "from now, not from the put");
    assert_eq!(cache.ttl(b"k"), Some(TimeToLive::Left(Millis(100))));
    assert!(cache.persist(b"k"));
    assert!(!cache.persist(b"k"), "there is nothing to take away any more");
    hand.set(1_000_000);
    assert_eq!(cache.ttl(b"k"), Some(TimeToLive::Forever));
    assert!(cache.expire_at(b"k", Millis(1_000_010)).unwrap());
    assert!(cache.contains_key(b"k"));
    hand.set(1_000_010);
    assert_eq!(cache.ttl(b"k"), None);
    assert!(!cache.touch(b"k", Millis(5)).unwrap(), "what has expired is not brought back");
    assert!(!cache.persist(b"k"));

    cache.put(b"k", "").unwrap();
    assert!(cache.expire_at(b"k", Millis(3)).unwrap(), "a time that has passed");
    assert_eq!((cache.get(b"k"), cache.len()), (None, 0));
    cache.put_with_ttl(b"k", "", Millis(5)).unwrap();
    cache.put(b"k", "").unwrap();
    assert_eq!(cache.ttl(b"k"), Some(TimeToLive::Forever), "a plain put clears it");
    assert_adds_up(cache.statistics());
}

#[test]
fn a_caller_s_time_takes_the_place_of_the_clock_s() {
    let hand = Hand::default();
    let cache = small(4, Eviction::default(), &hand);
    cache.put_with_ttl(b"k", "", Millis(10)).unwrap();
    assert!(cache.get_at(b"k", Millis(9)).is_some());
    assert!(cache.get_at(b"k", Millis(10)).is_none());
    hand.set(10);
    assert!(cache.get(b"k").is_none());
}

#[test]
fn lesson_48_what_has_expired_is_hidden_at_once_and_its_bytes_come_back_without_being_asked_for() {
    let hand = Hand::default();
    let cache = small(1000, Eviction::default(), &hand);
    for number in 0..100_u8 {
        cache.put_with_ttl(&[number], "", Millis(1000 + u64::from(number))).unwrap();
    }
    hand.set(5000);
    for number in 0..100_u8 {
        assert_eq!(cache.get(&[number]), None);
        assert!(!cache.contains_key(&[number]) && cache.ttl(&[number]).is_none());
        assert_eq!(cache.remove(&[number + 100]), None);
    }
    assert_eq!(cache.len(), 100, "reads take nothing out");
    // Idle: the host's timer, in small portions.
    let mut portions = 0;
    while !cache.expire(10) {
        portions += 1;
        assert!(portions < 100, "each portion gets on");
    }
    assert!(portions >= 9, "and is bounded: {portions}");
    assert_eq!((cache.len(), cache.bytes()), (0, 0));

    // Busy: puts alone keep up with what they bring in.
    for number in 0..20_000_u64 {
        hand.set(5000 + number);
        cache.put_with_ttl(&number.to_le_bytes(), "", Millis(50)).unwrap();
        assert!(cache.len() <= 51, "{} are held at {number}", cache.len());
    }
    assert_eq!(cache.statistics().evictions, 0);
    assert_adds_up(cache.statistics());
}

#[test]
fn expiry_in_portions_visits_every_shard() {
    let hand = Hand::default();
    let cache = Cache::builder(1 << 20).shards(8).clock(hand.clock()).build().unwrap();
    for number in 0..800_u64 {
        cache.put_with_ttl(&number.to_le_bytes(), "", Millis(10)).unwrap();
    }
    hand.set(10);
    for _ in 0..800 {
        cache.expire(1);
    }
    assert!(cache.expire(1));
    assert_eq!(cache.len(), 0);
}

#[test]
fn lesson_49_an_expired_value_does_not_uncover_the_one_it_replaced() {
    let hand = Hand::default();
    let cache = small(4, Eviction::default(), &hand);
    cache.put(b"k", "").unwrap();
    cache.put_with_ttl(b"k", "", Millis(10)).unwrap();
    hand.set(10);
    assert_eq!(cache.get(b"k"), None);
    cache.expire(100);
    assert_eq!(cache.get(b"k"), None);
}

#[test]
fn what_has_expired_makes_room_before_a_put_is_refused_or_a_living_entry_goes() {
    for eviction in [Eviction::Never, Eviction::OnlyExpiring(PolicyKind::Lru), Eviction::AllKeys(PolicyKind::Fifo)] {
        let hand = Hand::default();
        let cache = small(200, eviction, &hand);
        cache.put(&[255], "").unwrap();
        for number in 0..199_u8 {
            cache.put_with_ttl(&[number], "", Millis(100_000)).unwrap();
        }
        hand.set(100_000);
        // As large as everything that has expired.
        let value = vec![0; usize::try_from(199 * (ENTRY_BYTES + 1) - ENTRY_BYTES - 1).unwrap()];
        let evicts = matches!(eviction, Eviction::AllKeys(_));
        cache.put(&[250], value).unwrap();
        assert!(cache.contains_key(&[250]), "{eviction:?}");
        if !evicts {
            assert!(cache.contains_key(&[255]), "{eviction:?}");
        }
        assert_adds_up(cache.statistics());
    }
}

/// Compiles only while [`Cache`] does not implement [`Store`]: if it did, which `holds` is meant would be unclear.
trait NoStore<Reason> {
    fn holds() -> bool {
        true
    }
}
impl<T: ?Sized> NoStore<()> for T {}
struct Implemented;
impl<T: ?Sized + Store> NoStore<Implemented> for T {}

#[test]
fn lesson_20_a_cache_is_no_store_and_the_store_evicts_nothing() {
    assert!(<Cache as NoStore<_>>::holds());

    // What would be far over the bound of a cache is all there in the store.
    let (space, key) = (Space(1), |number: u32| number.to_be_bytes());
    let store = MemStore::new([(space, SpaceOptions::default())]);
    let cache = Cache::builder(100 * (ENTRY_BYTES + 104)).build().unwrap();
    for number in 0..10_000 {
        let mut batch = Batch::new();
        batch.put(space, &key(number), &[0; 100]);
        store.commit(&batch).unwrap();
        cache.put(&key(number), vec![0; 100]).unwrap();
    }
    let found = (0..10_000).filter(|number| store.get(space, &key(*number), &mut |_| ()).unwrap()).count();
    assert_eq!((found, cache.len()), (10_000, 100));
}

#[test]
fn never_evicting_loses_no_key() {
    let hand = Hand::default();
    let cache = small(50, Eviction::Never, &hand);
    for number in 0..200_u8 {
        let put = cache.put(&[number], "");
        assert_eq!(put, if number < 50 { Ok(()) } else { Err(PutError::Full { bytes: ENTRY_BYTES + 1 }) });
    }
    assert!((0..50).all(|number| cache.contains_key(&[number])));
    assert_eq!(cache.put(&[3], "longer"), Err(PutError::Full { bytes: ENTRY_BYTES + 7 }));
    assert_eq!(cache.get(&[3]).as_deref(), Some(&b""[..]), "the old value is still there");
    cache.put(&[3], "").expect("in place of itself there is room");
    assert_eq!(cache.remove(&[4]).as_deref(), Some(&b""[..]));
    cache.put(&[200], "").unwrap();
    assert_eq!((cache.statistics().evictions, cache.statistics().rejected), (0, 151));
}

#[test]
fn a_refused_put_evicts_nothing() {
    let hand = Hand::default();
    let cache = small(10, Eviction::OnlyExpiring(PolicyKind::Lru), &hand);
    for number in 0..8_u8 {
        cache.put(&[number], "").unwrap();
    }
    cache.put_with_ttl(&[8], "", Millis(10)).unwrap();
    cache.put_with_ttl(&[9], "", Millis(10)).unwrap();
    let three = vec![0; usize::try_from(2 * (ENTRY_BYTES + 1)).unwrap()];
    assert!(matches!(cache.put(&[10], three.clone()), Err(PutError::Full { .. })));
    assert_eq!(cache.len(), 10, "two may go, and three would have to");
    assert!(matches!(cache.put(&[8], three.clone()), Err(PutError::Full { .. })));
    assert!(cache.contains_key(&[8]), "and growing is a put like any other");
    cache.expire_at(&[7], Millis(20)).unwrap();
    cache.put(&[10], three).unwrap();
    assert_eq!(cache.len(), 8);
    assert!((0..7).all(|number| cache.contains_key(&[number])));
}

#[test]
fn clearing_leaves_an_empty_cache_that_works() {
    for kind in PolicyKind::ALL {
        let cache = small(20, Eviction::AllKeys(kind), &Hand::default());
        for round in 0..2 {
            for number in 0..50_u8 {
                cache.put(&[number], "").unwrap();
            }
            assert_eq!(cache.len(), 20, "{kind:?}, round {round}");
            cache.clear();
            assert_eq!((cache.len(), cache.bytes()), (0, 0));
        }
        assert_adds_up(cache.statistics());
    }
}

#[test]
fn a_policy_of_the_caller_s_is_asked() {
    /// Last in, first out.
    #[derive(Debug, Default)]
    struct Newest(Vec<Slot>);
    impl Policy for Newest {
        fn insert(&mut self, slot: Slot, _: Candidate) {
            self.0.push(slot);
        }
        fn update(&mut self, _: Slot, _: Candidate) {}
        fn remove(&mut self, slot: Slot) {
            self.0.retain(|other| *other != slot);
        }
        fn evict(&mut self, _: u32) -> Option<Slot> {
            self.0.pop()
        }
    }
    let newest = |only_expiring| Eviction::Custom { make: |_, _| Box::new(Newest::default()), only_expiring };
    let cache = small(3, newest(false), &Hand::default());
    for number in 0..6_u8 {
        cache.put(&[number], "").unwrap();
    }
    let held: Vec<u8> = (0..6).filter(|number| cache.contains_key(&[*number])).collect();
    assert_eq!(held, [0, 1, 5]);
    let cache = small(3, newest(true), &Hand::default());
    cache.put(&[0], "").unwrap();
    cache.put_with_ttl(&[1], "", Millis(10)).unwrap();
    for number in 2..5_u8 {
        let put = cache.put(&[number], "");
        assert_eq!(put.is_ok(), number < 4, "one has a time to live, and one place was free");
    }
    assert!(!cache.contains_key(&[1]) && cache.contains_key(&[0]));
}

#[test]
fn a_peek_is_no_use() {
    let hand = Hand::default();
    let cache = small(3, Eviction::AllKeys(PolicyKind::Lru), &hand);
    for number in 0..3_u8 {
        cache.put(&[number], "").unwrap();
    }
    let before = cache.statistics();
    assert!(cache.peek(&[0]).is_some() && cache.peek(&[9]).is_none());
    assert_eq!(cache.statistics(), before, "neither a hit nor a miss");
    cache.put(&[3], "").unwrap();
    assert!(!cache.contains_key(&[0]), "it is the one not used for longest all the same");
    cache.put_with_ttl(&[4], "", Millis(10)).unwrap();
    assert!(cache.peek(&[4]).is_some());
    hand.set(10);
    assert!(cache.peek(&[4]).is_none(), "expired");
}

#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Put(u8, u16),
    PutWithTtl(u8, u16, u64),
    Remove(u8),
    Persist(u8),
    Touch(u8, u64),
    ExpireAt(u8, u64),
    Pass(u64),
    Expire(usize),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || prop_oneof![0..8u8, 0..60u8];
    let ttl = || prop_oneof![1..20u64, 1..5000u64];
    prop_oneof![
        8 => key().prop_map(Step::Get),
        6 => (key(), 0..300u16).prop_map(|(key, len)| Step::Put(key, len)),
        6 => (key(), 0..300u16, ttl()).prop_map(|(key, len, ttl)| Step::PutWithTtl(key, len, ttl)),
        1 => key().prop_map(Step::Remove),
        1 => key().prop_map(Step::Persist),
        1 => (key(), ttl()).prop_map(|(key, ttl)| Step::Touch(key, ttl)),
        1 => (key(), 0..8000u64).prop_map(|(key, at)| Step::ExpireAt(key, at)),
        3 => prop_oneof![0..10u64, 0..1000u64].prop_map(Step::Pass),
        1 => (0..20usize).prop_map(Step::Expire),
        1 => prop_oneof![50 => Just(Step::Pass(0)), 1 => Just(Step::Clear)],
    ]
}

/// A key, some of them too long for an inline place.
fn key(number: u8) -> Vec<u8> {
    vec![number; if number.is_multiple_of(4) { 40 } else { 3 }]
}

/// A map that is told what may be gone, and forbids everything else.
fn check(eviction: Eviction, shards: usize, steps: Vec<Step>) {
    let hand = Hand::default();
    let cache = Cache::builder(4000).eviction(eviction).shards(shards).clock(hand.clock()).build().unwrap();
    let mut model: BTreeMap<u8, (Bytes, Option<u64>)> = BTreeMap::new();
    let (mut now, mut stamp) = (0, 0_u64);
    let alive = |at: &Option<u64>, now: u64| at.is_none_or(|at| at > now);
    let may_vanish = |at: Option<u64>| match eviction {
        Eviction::Never => false,
        Eviction::AllKeys(_) => true,
        Eviction::OnlyExpiring(_) => at.is_some(),
        Eviction::Custom { only_expiring, .. } => !only_expiring || at.is_some(),
    };
    let mut value_of = |len: u16| {
        stamp += 1;
        let mut value = stamp.to_le_bytes().to_vec();
        value.resize(8 + usize::from(len), 0);
        Bytes::from(value)
    };
    for step in steps {
        let evictions = cache.statistics().evictions;
        match step {
            Step::Get(number) => {
                let before = cache.statistics();
                let got = cache.get(&key(number));
                let after = cache.statistics();
                assert_eq!(
                    (after.hits - before.hits, after.misses - before.misses),
                    (got.is_some().into(), got.is_none().into())
                );
                let expected = model.get(&number).filter(|(_, at)| alive(at, now)).map(|(value, _)| value);
                assert_eq!(got.as_ref(), expected);
            }
            Step::Put(number, len) => {
                let value = value_of(len);
                if cache.put(&key(number), value.clone()).is_ok() {
                    model.insert(number, (value, None));
                }
            }
            Step::PutWithTtl(number, len, ttl) => {
                let value = value_of(len);
                if cache.put_with_ttl(&key(number), value.clone(), Millis(ttl)).is_ok() {
                    model.insert(number, (value, Some(now + ttl)));
                }
            }
            Step::Remove(number) => {
                let removed = cache.remove(&key(number));
                let expected = model.remove(&number).filter(|(_, at)| alive(at, now)).map(|(value, _)| value);
                assert_eq!(removed, expected);
            }
            Step::Persist(number) => {
                let expected = model.get(&number).is_some_and(|(_, at)| at.is_some() && alive(at, now));
                assert_eq!(cache.persist(&key(number)), expected);
                if expected && let Some((_, at)) = model.get_mut(&number) {
                    *at = None;
                }
            }
            Step::Touch(number, ttl) => {
                let found = cache.touch(&key(number), Millis(ttl)).unwrap();
                assert_eq!(found, model.get(&number).is_some_and(|(_, at)| alive(at, now)));
                if let Some((_, at)) = model.get_mut(&number).filter(|_| found) {
                    *at = Some(now + ttl);
                }
            }
            Step::ExpireAt(number, time) => {
                let found = cache.expire_at(&key(number), Millis(time)).unwrap();
                assert_eq!(found, model.get(&number).is_some_and(|(_, at)| alive(at, now)));
                if let Some((_, at)) = model.get_mut(&number).filter(|_| found) {
                    *at = Some(time);
                }
            }
            Step::Pass(by) => {
                now += by;
                hand.set(now);
            }
            Step::Expire(budget) => {
                if cache.expire(budget) {
                    let living = model.values().filter(|(_, at)| alive(at, now)).count();
                    assert_eq!(cache.len(), living, "all that had expired is reclaimed");
                }
            }
            Step::Clear => {
                cache.clear();
                model.clear();
            }
        }
        model.retain(|_, (_, at)| alive(at, now));
        let statistics = cache.statistics();
        assert_adds_up(statistics);
        assert!(statistics.bytes <= cache.capacity_bytes(), "the bound holds after every step");
        let mut evicted = statistics.evictions - evictions;
        // What the cache has not any more was evicted, and could be.
        model.retain(|number, (value, at)| {
            let held = cache.ttl(&key(*number));
            if held.is_none() {
                assert!(may_vanish(*at), "{number} had to stay");
                assert!(evicted > 0, "{number} is gone, and nothing was evicted");
                evicted -= 1;
                return false;
            }
            let left = at.map_or(TimeToLive::Forever, |at| TimeToLive::Left(Millis(at - now)));
            assert_eq!(held, Some(left), "{number} with {} bytes", value.len());
            true
        });
        if statistics.expirations == 0 {
            let bytes: u64 = model.iter().map(|(number, (value, _))| entry::cost(&key(*number), value)).sum();
            assert!(bytes <= statistics.bytes);
        }
    }
    while !cache.expire(100) {}
    let bytes: u64 = model.iter().map(|(number, (value, _))| entry::cost(&key(*number), value)).sum();
    assert_eq!((cache.len(), cache.bytes()), (model.len(), bytes), "bytes are those of what is held");
}

fn any_kind() -> impl Strategy<Value = PolicyKind> {
    (0..PolicyKind::ALL.len()).prop_map(|at| PolicyKind::ALL[at])
}

proptest! {
    #[test]
    fn any_steps_when_any_key_may_go(
        kind in any_kind(),
        shards in 1..3usize,
        steps in prop::collection::vec(step(), 1..150),
    ) {
        check(Eviction::AllKeys(kind), shards, steps);
    }

    #[test]
    fn only_keys_with_a_time_to_live_ever_go(kind in any_kind(), steps in prop::collection::vec(step(), 1..150)) {
        check(Eviction::OnlyExpiring(kind), 1, steps);
    }

    #[test]
    fn no_key_goes_when_none_may(steps in prop::collection::vec(step(), 1..150)) {
        check(Eviction::Never, 1, steps);
    }
}

#[test]
fn threads_at_once_keep_the_bound_and_the_counts() {
    const THREADS: u64 = 4;
    const CALLS: u64 = 8_000;
    for kind in PolicyKind::ALL {
        let hand = Hand::default();
        let cache =
            Cache::builder(20_000).eviction(Eviction::AllKeys(kind)).shards(2).clock(hand.clock()).build().unwrap();
        let over = AtomicBool::new(false);
        let gets: u64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (cache, hand, over) = (&cache, &hand, &over);
                    scope.spawn(move || {
                        let mut gets = 0;
                        for call in 0..CALLS {
                            let drawn = seeded(&call.to_le_bytes(), thread);
                            let key = (drawn % 400).min((drawn >> 16) % 400).to_le_bytes();
                            match drawn >> 48 & 15 {
                                0..=9 => {
                                    gets += 1;
                                    if let Some(value) = cache.get(&key) {
                                        assert_eq!(value[..8], key, "a value under its own key");
                                    }
                                }
                                10..=12 => cache.put(&key, [&key[..], &[0; 40]].concat()).unwrap(),
                                13 => cache.put_with_ttl(&key, key.to_vec(), Millis(5)).unwrap(),
                                14 => drop(cache.remove(&key)),
                                _ => {
                                    hand.set(call / 10);
                                    cache.expire(5);
                                }
                            }
                            if cache.bytes() > cache.capacity_bytes() {
                                over.store(true, Ordering::Relaxed);
                            }
                        }
                        gets
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        let statistics = cache.statistics();
        assert!(!over.load(Ordering::Relaxed), "{kind:?}");
        assert_eq!(statistics.hits + statistics.misses, gets, "{kind:?}: every get is counted once");
        assert!(statistics.evictions > 0 && statistics.hits > 0 && statistics.expirations > 0);
        assert_adds_up(statistics);
        cache.clear();
        assert_eq!((cache.len(), cache.bytes()), (0, 0), "{kind:?}");
    }
}

#[test]
fn a_cache_goes_where_threads_go() {
    fn anywhere<T: Send + Sync + 'static>() {}
    anywhere::<Cache>();
}
