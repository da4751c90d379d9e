//! Runs simulated clusters, one for each seed, over the real engine on simulated disks, with faults of network, nodes,
//! clocks and disks, and checks what their clients see.
//!
//! ```text
//! cargo run --release --example simulate -- --seeds 0..200
//! ```
//!
//! The last line is JSON. A seed with a violation is printed with it, and repeats it exactly.

use std::ops::Range;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use kv_examples::sim_stores::LsmStores;
use kv_repl::sim::{MemStores, Options, Report, StoreFactory, run};

/// Clusters in one thread, from seeds.
#[derive(Parser)]
struct Arguments {
    /// Which seeds to run, the last one excluded
    #[arg(long, default_value = "0..200", value_parser = seeds)]
    seeds: Range<u64>,

    /// How long clients and faults go on in each run, in simulated seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,

    /// What the nodes store on
    #[arg(long, value_enum, default_value_t = Stores::Lsm)]
    stores: Stores,

    /// Run each seed twice and require equal traces
    #[arg(long)]
    replay: bool,
}

#[derive(Copy, Clone, ValueEnum)]
enum Stores {
    /// The engine, on simulated disks
    Lsm,
    /// Maps in memory
    Memory,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let (start, end) = text.split_once("..").ok_or("a range of seeds is written 0..200")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let range = number(start)?..number(end)?;
    if range.is_empty() { Err("a range without seeds".to_owned()) } else { Ok(range) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let bar = ProgressBar::new(arguments.seeds.end - arguments.seeds.start);
    bar.set_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {msg}, {eta} left").expect("a fixed template"),
    );
    let mut totals = Totals::default();
    for seed in arguments.seeds {
        let report = simulate(&arguments.stores, seed, arguments.seconds);
        if arguments.replay && simulate(&arguments.stores, seed, arguments.seconds).trace_hash != report.trace_hash {
            totals.violations += 1;
            bar.suspend(|| println!("seed {seed}: a second run of it went another way"));
        }
        for violation in &report.violations {
            bar.suspend(|| println!("seed {seed}: {violation}"));
        }
        totals.add(&report);
        bar.set_message(format!("{} operations, {} violations", totals.operations, totals.violations));
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!("{}", totals.json());
    if totals.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn simulate(stores: &Stores, seed: u64, seconds: u64) -> Report {
    let factory: Box<dyn StoreFactory> = match stores {
        Stores::Lsm => Box::new(LsmStores::new()),
        Stores::Memory => Box::new(MemStores::new()),
    };
    run(&Options { duration_ms: seconds * 1000, ..Options::from_seed(seed) }, factory)
}

#[derive(Default)]
struct Totals {
    seeds: u64,
    operations: u64,
    acknowledged: u64,
    reads: u64,
    cache_hits: u64,
    session_reads: u64,
    failures: u64,
    faults: u64,
    hints_delivered: u64,
    hints_shed: u64,
    by_fallbacks: u64,
    violations: usize,
    trace_hash: u64,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.operations += report.operations;
        self.acknowledged += report.acknowledged;
        self.reads += report.reads;
        self.cache_hits += report.cache_hits;
        self.session_reads += report.session_reads;
        self.failures += report.failures;
        self.faults += report.faults.total();
        self.hints_delivered += report.hints.delivered;
        self.hints_shed += report.hints.shed;
        self.by_fallbacks += report.by_fallbacks;
        self.violations += report.violations.len();
        self.trace_hash = self.trace_hash.rotate_left(1) ^ report.trace_hash;
    }

    fn json(&self) -> String {
        format!(
            "{{\"seeds\":{},\"operations\":{},\"acknowledged\":{},\"reads\":{},\"cache_hits\":{},\"session_reads\":{},\
             \"failures\":{},\"faults\":{},\"hints_delivered\":{},\"hints_shed\":{},\"by_fallbacks\":{},\
             \"violations\":{},\"trace_hash\":\"{:016x}\"}}",
            self.seeds,
            self.operations,
            self.acknowledged,
            self.reads,
            self.cache_hits,
            self.session_reads,
            self.failures,
            self.faults,
            self.hints_delivered,
            self.hints_shed,
            self.by_fallbacks,
            self.violations,
            self.trace_hash
        )
    }
}
