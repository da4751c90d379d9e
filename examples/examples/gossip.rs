//! Failure detection among ten to a thousand nodes, simulated: what it costs, how soon a death is noticed, and how often the
//! living are doubted.
//!
//! ```text
//! cargo run --release --example gossip
//! cargo run --release --example gossip -- --nodes 100 --loss 0.05 --periods 3600
//! ```
//!
//! Every node is the real machine and every message a real frame; the network and the clock are simulated. The last line is
//! JSON.

use std::process::ExitCode;

use clap::Parser;
use kv_repl::sim::{NetworkFaults, Seen, Swarm};
use kv_repl::{Liveness, NodeId};
use serde_json::json;

/// Periods until everybody has met and the first exchanges are over.
const WARM_UP_PERIODS: u64 = 40;
/// How long to wait for a death to be noticed.
const NOTICE_PERIODS_MAX: u64 = 200;
/// How long to wait until a node that has started again is alive to all.
const RETURN_PERIODS: u64 = 30;

/// What failure detection costs and achieves.
#[derive(Parser)]
struct Arguments {
    /// Sizes of clusters
    #[arg(long, value_delimiter = ',', default_values_t = [10, 30, 100, 300, 1000], value_parser = clap::value_parser!(u64).range(3..=10_000))]
    nodes: Vec<u64>,

    /// Share of frames that are lost
    #[arg(long, default_value_t = 0.0)]
    loss: f64,

    /// How long nothing happens and frames are counted, in periods of a second
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    periods: u64,

    /// How many nodes die, one after the other
    #[arg(long, default_value_t = 5)]
    deaths: u64,

    /// Decides everything that is left to chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A quiet time, and then some deaths.
struct Row {
    nodes: u64,
    frames_per_period: f64,
    bytes_per_period: f64,
    /// Of the quiet time and the deaths together.
    seen: Seen,
    /// Periods until the last one suspected each dead node, and believed it dead.
    suspected: Vec<u64>,
    dead: Vec<u64>,
    violations: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    println!(
        "{:>6}{:>14}{:>14}{:>22}{:>22}{:>14}{:>14}",
        "nodes", "frames per", "bytes per", "suspected by all", "dead to all", "living that", "living that"
    );
    println!(
        "{:>6}{:>14}{:>14}{:>22}{:>22}{:>14}{:>14}",
        "", "node, period", "node, period", "mean, most periods", "mean, most periods", "are suspected", "are dead"
    );
    let rows: Vec<Row> = arguments.nodes.iter().map(|nodes| measure(&arguments, *nodes)).inspect(Row::print).collect();
    println!("{}", json!({ "loss": arguments.loss, "rows": rows.iter().map(Row::json).collect::<Vec<_>>() }));
    if rows.iter().all(Row::is_sound) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(arguments: &Arguments, nodes: u64) -> Row {
    let faults = NetworkFaults { loss: arguments.loss, delay_max_us: 20_000, ..NetworkFaults::default() };
    let mut swarm = Swarm::new(arguments.seed, nodes, 1_000, faults);
    swarm.run(WARM_UP_PERIODS);
    let before = swarm.seen();
    swarm.run(arguments.periods);
    let after = swarm.seen();
    let node_periods = (arguments.periods * nodes) as f64;

    let (mut suspected, mut dead) = (Vec::new(), Vec::new());
    for death in 0..arguments.deaths {
        let victim = NodeId(1 + death * 7 % nodes);
        swarm.kill(victim);
        let others = swarm.nodes().len() - 1;
        let doubted = swarm.run_until(NOTICE_PERIODS_MAX, |swarm| swarm.believing(victim, Liveness::Alive) == 0);
        let doubted = doubted.unwrap_or(NOTICE_PERIODS_MAX);
        let given_up = swarm.run_until(NOTICE_PERIODS_MAX, |swarm| swarm.believing(victim, Liveness::Dead) == others);
        suspected.push(doubted);
        dead.push(doubted + given_up.unwrap_or(NOTICE_PERIODS_MAX));
        swarm.start(victim);
        swarm.run(RETURN_PERIODS);
    }
    Row {
        nodes,
        frames_per_period: (after.frames - before.frames) as f64 / node_periods,
        bytes_per_period: (after.bytes - before.bytes) as f64 / node_periods,
        seen: swarm.seen(),
        suspected,
        dead,
        violations: swarm.violations().len(),
    }
}

impl Row {
    fn print(&self) {
        let spread = |periods: &[u64]| {
            let mean = periods.iter().sum::<u64>() as f64 / periods.len().max(1) as f64;
            format!("{mean:.1}, {}", periods.iter().max().unwrap_or(&0))
        };
        println!(
            "{:>6}{:>14.2}{:>14.0}{:>22}{:>22}{:>14}{:>14}",
            self.nodes,
            self.frames_per_period,
            self.bytes_per_period,
            spread(&self.suspected),
            spread(&self.dead),
            self.seen.suspicions_of_the_living,
            self.seen.deaths_of_the_living
        );
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "nodes": self.nodes,
            "frames_per_node_and_period": self.frames_per_period,
            "bytes_per_node_and_period": self.bytes_per_period,
            "periods_until_suspected_by_all": self.suspected,
            "periods_until_dead_to_all": self.dead,
            "suspicions_of_the_living": self.seen.suspicions_of_the_living,
            "deaths_of_the_living": self.seen.deaths_of_the_living,
            "violations": self.violations,
        })
    }

    /// Whether nobody who lives was believed dead, every death was noticed, and no belief went back.
    fn is_sound(&self) -> bool {
        let noticed = self.dead.iter().all(|periods| *periods < NOTICE_PERIODS_MAX);
        self.seen.deaths_of_the_living == 0 && noticed && self.violations == 0
    }
}
