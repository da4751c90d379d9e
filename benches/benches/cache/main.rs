//! The cache of kv-core beside quick_cache and moka: hit ratios by policy and trace, throughput on one thread and on
//! two, memory for each entry.
//!
//! `cargo bench --bench cache`. It prints its tables first (`KV_CACHE_TABLES=hits,speed,memory` chooses some of them,
//! and `none` leaves them out), then criterion runs.

mod hit_ratio;
mod memory;
mod subjects;
mod throughput;
mod traces;

use criterion::{Criterion, criterion_group};

criterion_group!(benches, throughput::bench);

fn main() {
    let tables = std::env::var("KV_CACHE_TABLES").unwrap_or_else(|_| "hits,speed,memory".into());
    // A test run of the benches wants to know only that they run.
    let only_a_test = std::env::args().any(|argument| argument == "--test");
    let reports: [(&str, fn()); 3] =
        [("hits", hit_ratio::report), ("speed", throughput::report), ("memory", memory::report)];
    for (name, report) in reports {
        if !only_a_test && tables.split(',').any(|table| table == name) {
            report();
        }
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
