//! What it costs to route a key, and to build, plan, encode and decode a layout; beside it the classical strategies, ours and those
//! of other crates, with their balance and their movement.
//!
//! `cargo bench --bench ring`, or with `-- --quick` for a first impression.

mod balance;
mod contenders;

use std::hint::black_box;

use contenders::CONTENDERS;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use kv_ring::{
    Change, HashRing, Layout, LayoutBuilder, NodeId, Rendezvous, Token, TokenHash, Weight, Zone,
    classic::{Jump, Maglev, Strategy},
    token_of,
};

/// Cluster sizes, with the partitions that give every node a hundred slots or so.
const CLUSTERS: [(u64, u32); 4] = [(5, 1024), (100, 4096), (300, 16_384), (1000, 16_384)];

fn members(nodes: u64) -> LayoutBuilder {
    (1..=nodes).fold(Layout::builder(3), |builder, node| {
        builder.node(NodeId(node), Weight(1 << (node % 3)), Zone::new(["a", "b", "c"][(node / 3 % 3) as usize]))
    })
}

/// Short keys, enough of them that neither branches nor tables are learned by heart.
fn keys() -> Vec<String> {
    (0..4096).map(|number| format!("user:{number:08}")).collect()
}

fn weighted(nodes: u64) -> Vec<(NodeId, Weight)> {
    (1..=nodes).map(|node| (NodeId(node), Weight(1 << (node % 3)))).collect()
}

fn route(criterion: &mut Criterion) {
    let keys = keys();
    let mut group = criterion.benchmark_group("route");
    for (nodes, partitions) in CLUSTERS {
        let layout = members(nodes).partitions(partitions).build().expect("a layout");
        let mut at = 0;
        group.bench_function(BenchmarkId::new("token_of + replicas_of", nodes), |bencher| {
            bencher.iter(|| {
                at = (at + 1) % keys.len();
                let token = layout.token_of(black_box(keys[at].as_bytes()));
                layout.replicas_of(token)[0]
            });
        });
    }
    let tokens: Vec<Token> = keys.iter().map(|key| token_of(key.as_bytes())).collect();
    for (nodes, _) in CLUSTERS {
        let maglev = Maglev::new(weighted(nodes), Maglev::PLACES_DEFAULT);
        let strategies: [(&str, Box<dyn Strategy>); 4] = [
            ("maglev", Box::new(maglev)),
            ("ring, 128 places per weight", Box::new(HashRing::new(weighted(nodes), 128))),
            ("rendezvous", Box::new(Rendezvous::new(weighted(nodes)))),
            ("jump", Box::new(Jump::new((1..=nodes).map(NodeId)))),
        ];
        for (name, strategy) in strategies {
            let mut at = 0;
            let mut list = Vec::new();
            group.bench_function(BenchmarkId::new(format!("{name}, 3 nodes"), nodes), |bencher| {
                bencher.iter(|| {
                    at = (at + 1) % tokens.len();
                    strategy.preference_list(black_box(tokens[at]), 3, &mut list);
                    list[0]
                });
            });
        }
    }
    group.finish();
}

/// From a key to one node, all of equal weight: ours and those of other crates.
fn contend(criterion: &mut Criterion) {
    balance::print();
    let keys = keys();
    let mut group = criterion.benchmark_group("key to node");
    for nodes in [10, 100, 1000] {
        let ids: Vec<u64> = (1..=nodes).collect();
        for (name, make) in CONTENDERS {
            let contender = make(&ids, None);
            let mut at = 0;
            group.bench_function(BenchmarkId::new(name, nodes), |bencher| {
                bencher.iter(|| {
                    at = (at + 1) % keys.len();
                    contender.node_of(black_box(&keys[at]))
                });
            });
        }
    }
    group.finish();
    let mut group = criterion.benchmark_group("token");
    for (name, hash) in [("XXH3-64", TokenHash::default()), ("SipHash-2-4", TokenHash::Secret([7; 16]))] {
        let mut at = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                at = (at + 1) % keys.len();
                hash.token_of(black_box(keys[at].as_bytes()))
            });
        });
    }
    group.finish();
}

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("layout");
    group.sample_size(10);
    for (nodes, partitions) in CLUSTERS {
        let name = format!("{nodes} nodes, {partitions} partitions");
        group.bench_function(BenchmarkId::new("build", &name), |bencher| {
            bencher.iter_batched(
                || members(nodes).partitions(partitions),
                |builder| builder.build().expect("a layout"),
                BatchSize::SmallInput,
            );
        });
        let layout = members(nodes).partitions(partitions).build().expect("a layout");
        let added = (NodeId(nodes + 1), Weight(1), Zone::new("b"));
        for (what, change) in [
            ("plan one added", Change::new().add(added.0, added.1, added.2.clone())),
            ("plan one removed", Change::new().remove(NodeId(nodes / 2))),
        ] {
            group.bench_function(BenchmarkId::new(what, &name), |bencher| {
                bencher.iter(|| layout.plan(black_box(&change)).expect("a plan"));
            });
        }
        let plan = layout.plan(&Change::new().add(added.0, added.1, added.2)).expect("a plan");
        let sizes = (layout.encode().len(), layout.delta_to(plan.next()).expect("a delta").encode().len());
        println!("{name}: {} bytes, the delta of an added node {} bytes", sizes.0, sizes.1);
        group.bench_function(BenchmarkId::new("encode", &name), |bencher| bencher.iter(|| layout.encode()));
        let bytes = layout.encode();
        group.bench_function(BenchmarkId::new("decode", &name), |bencher| {
            bencher.iter(|| Layout::decode(black_box(&bytes)).expect("a layout"));
        });
    }
    group.finish();
}

criterion_group!(benches, contend, route, build);
criterion_main!(benches);
