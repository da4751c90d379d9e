//! What versions, clocks, records and replicated data types cost: each by itself, in memory.
//!
//! `cargo bench --bench kv_core`, or with `-- --quick` for a first impression.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use kv_core::codec::Reader;
use kv_core::context::CausalContext;
use kv_core::crdt::{DotStore, Dotted, EnableWinsFlag, LwwMap, MaxRegister, MvRegister, OrMap, OrSet, PnCounter};
use kv_core::hlc::{Hlc, Stamp};
use kv_core::key::{Key, RecordKey, TableId};
use kv_core::record::{OperationId, Payload, Record, Rule, Version};
use kv_core::time::Millis;
use kv_core::version::{Actor, Dot, Incarnation, VersionVector};
use kv_core::{Expiry, NodeId};

fn actor(node: u64) -> Actor {
    Actor { node: NodeId(node), incarnation: Incarnation(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(node)), epoch: 1 }
}

/// A context of `actors`, each of which counted to about a thousand; those in `ahead` by one more.
fn context(actors: u64, ahead: &[u64]) -> VersionVector {
    (1..=actors)
        .flat_map(|node| {
            let last = 1000 + node + u64::from(ahead.contains(&node));
            (1..=last).map(move |counter| Dot { actor: actor(node), counter })
        })
        .collect()
}

/// What the machine does in the same minutes, to measure the rest by.
fn machine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("machine");
    let bytes = vec![7_u8; 200];
    group.bench_function("allocate, copy and free 200 bytes", |bencher| bencher.iter(|| black_box(&bytes).clone()));
    let page = vec![7_u8; 4096];
    group.bench_function("XXH3 of 4 KiB", |bencher| bencher.iter(|| kv_core::hash::seeded(black_box(&page), 0)));
    group.finish();
}

fn contexts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("context");
    for actors in [1_u64, 5, 20] {
        let equal = (context(actors, &[]), context(actors, &[]));
        let newer = (context(actors, &[1]), context(actors, &[]));
        let concurrent = (context(actors, &[1]), context(actors, &[actors]));
        let mut with_gap = context(actors, &[]);
        with_gap.insert(Dot { actor: actor(actors), counter: 5000 });
        let gap = (with_gap, context(actors, &[1]));
        for (name, (a, b)) in [("equal", &equal), ("after", &newer), ("concurrent", &concurrent), ("gap", &gap)] {
            group.bench_function(BenchmarkId::new(format!("compare, {name}"), actors), |bencher| {
                bencher.iter(|| black_box(a).compare(black_box(b)));
            });
            group.bench_function(BenchmarkId::new(format!("join, {name}"), actors), |bencher| {
                bencher.iter(|| black_box(a).join(black_box(b)));
            });
            // Without the cost of a new context.
            group.bench_function(BenchmarkId::new(format!("join in place, {name}"), actors), |bencher| {
                let mut seen = a.clone();
                bencher.iter(|| black_box(&mut seen).absorb(black_box(b)));
            });
        }
        group.bench_function(BenchmarkId::new("contains", actors), |bencher| {
            let dot = Dot { actor: actor(actors), counter: 500 };
            bencher.iter(|| black_box(&equal.0).contains(black_box(dot)));
        });
        let mut bytes = Vec::new();
        equal.0.encode(&mut bytes);
        group.bench_function(BenchmarkId::new("encode", actors), |bencher| {
            let mut out = Vec::with_capacity(1024);
            bencher.iter(|| {
                out.clear();
                black_box(&equal.0).encode(&mut out);
                out.len()
            });
        });
        group.bench_function(BenchmarkId::new("decode", actors), |bencher| {
            bencher.iter(|| VersionVector::decode(&mut Reader::new(black_box(&bytes))).expect("a vector"));
        });
    }
    let key = RecordKey::new(TableId(1), &Key::from("user:00000001")).expect("a short key");
    let seen = context(5, &[]);
    let sealed = CausalContext::seal(&key, &seen);
    group.bench_function("seal, 5 actors", |bencher| {
        bencher.iter(|| CausalContext::seal(black_box(&key), black_box(&seen)));
    });
    group.bench_function("open, 5 actors", |bencher| bencher.iter(|| black_box(&sealed).open(black_box(&key))));
    group.finish();
}

fn clock(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hlc");
    group.bench_function("mint", |bencher| {
        let mut clock = Hlc::new(Stamp::ZERO, Hlc::DRIFT_MAX);
        let mut ticks = 0_u64;
        bencher.iter(|| {
            ticks += 1;
            // A millisecond passes every thousand stamps.
            clock.mint(black_box(Millis(1_000_000 + ticks / 1000)), Stamp::ZERO).expect("no drift")
        });
    });
    group.bench_function("observe", |bencher| {
        let mut clock = Hlc::new(Stamp::ZERO, Hlc::DRIFT_MAX);
        bencher.iter(|| clock.observe(black_box(Stamp::at(Millis(1_000_100))), black_box(Millis(1_000_000))));
    });
    group.finish();
}

fn version(birth: u64) -> Version {
    Version {
        birth: Stamp(birth),
        payload: Payload::Value(Bytes::from(vec![7; 100])),
        expiry: Expiry::NEVER,
        operation: Some(OperationId(birth.into())),
    }
}

fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    let seen = context(5, &[]);
    let stored = Record::empty(Rule::Siblings).sibling(actor(1), 0, &seen, version(1));
    let change = stored.sibling(actor(2), 0, stored.context(), version(2));
    let sibling = stored.sibling(actor(3), 0, &seen, version(3));
    let last = (Record::last_write(actor(1), version(1)), Record::last_write(actor(2), version(2)));
    for (name, a, b) in [
        ("siblings, replacing", &stored, &change),
        ("siblings, concurrent", &change, &sibling),
        ("last write wins", &last.0, &last.1),
    ] {
        group.bench_function(BenchmarkId::new("join", name), |bencher| {
            bencher.iter(|| black_box(a).join(black_box(b)).expect("one rule"));
        });
        let bytes = b.to_bytes();
        group.bench_function(BenchmarkId::new("encode", name), |bencher| bencher.iter(|| black_box(b).to_bytes()));
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            bencher.iter(|| Record::decode(black_box(&bytes)).expect("a record"));
        });
    }
    group.bench_function("mint, 5 actors", |bencher| {
        bencher.iter_batched(
            || version(9),
            |version| black_box(&stored).sibling(actor(1), 0, stored.context(), version),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// How many elements or keys the larger states have.
const ELEMENTS: u64 = 100;

fn update_and_join<S: DotStore>(
    criterion: &mut Criterion,
    name: &str,
    state: &Dotted<S>,
    change: impl Fn(&S, Dot) -> Dotted<S>,
) {
    let mut group = criterion.benchmark_group("crdt");
    let dot = state.next_dot(actor(1), 0);
    group.bench_function(BenchmarkId::new("update", name), |bencher| {
        bencher.iter(|| change(black_box(state.value()), black_box(dot)));
    });
    let delta = change(state.value(), dot);
    group.bench_function(BenchmarkId::new("join a change", name), |bencher| {
        bencher.iter_batched_ref(|| state.clone(), |state| state.absorb(black_box(&delta)), BatchSize::SmallInput);
    });
    let other = state.join(&change(state.value(), state.next_dot(actor(5), 0)));
    let mine = state.join(&delta);
    group.bench_function(BenchmarkId::new("join states", name), |bencher| {
        bencher.iter_batched_ref(|| mine.clone(), |state| state.absorb(black_box(&other)), BatchSize::SmallInput);
    });
    let mut bytes = Vec::new();
    mine.encode(&mut bytes);
    group.bench_function(BenchmarkId::new("encode", name), |bencher| {
        let mut out = Vec::with_capacity(bytes.len());
        bencher.iter(|| {
            out.clear();
            black_box(&mine).encode(&mut out);
            out.len()
        });
    });
    group.bench_function(BenchmarkId::new("decode", name), |bencher| {
        bencher.iter(|| Dotted::<S>::decode(&mut Reader::new(black_box(&bytes))).expect("a state"));
    });
    group.finish();
}

fn crdts(criterion: &mut Criterion) {
    let mut counter = Dotted::<PnCounter>::default();
    let mut set = Dotted::<OrSet<u64>>::default();
    let mut map = Dotted::<LwwMap<u64, u64>>::default();
    let mut nested = Dotted::<OrMap<u64, PnCounter>>::default();
    let mut flag = Dotted::<EnableWinsFlag>::default();
    let mut max = Dotted::<MaxRegister<u64>>::default();
    let mut register = Dotted::<MvRegister<u64>>::default();
    let add = |counter: &PnCounter, dot| counter.add(dot, 1, None).expect("small numbers");
    for step in 0..ELEMENTS {
        let by = actor(1 + step % 5);
        counter.apply(by, add);
        set.apply(by, |set, dot| set.insert(dot, step));
        map.apply(by, |map, dot| map.put(dot, Stamp(step), step, step));
        nested.apply(by, |map, dot| map.update(step, |counter| add(counter, dot)));
        flag.apply(by, |flag, dot| flag.switch(dot, true));
        max.apply(by, |max, dot| max.offer(dot, step));
        register.apply(by, |register, dot| register.write(dot, step));
    }
    update_and_join(criterion, "counter, 5 actors", &counter, add);
    update_and_join(criterion, "set, 100 elements", &set, |set, dot| set.insert(dot, 50));
    update_and_join(criterion, "last-write-wins map, 100 keys", &map, |map, dot| map.put(dot, Stamp(1000), 50, 1));
    update_and_join(criterion, "map of 100 counters", &nested, |map, dot| map.update(50, |counter| add(counter, dot)));
    update_and_join(criterion, "flag", &flag, |flag, dot| flag.switch(dot, false));
    update_and_join(criterion, "max register", &max, |max, dot| max.offer(dot, 1000));
    update_and_join(criterion, "multi-value register", &register, |register, dot| register.write(dot, 7));
}

criterion_group!(benches, machine, contexts, clock, records, crdts);
criterion_main!(benches);
