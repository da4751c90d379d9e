//! Three nodes as three processes under load, beside a Redis primary with two replicas in the same run.
//!
//! ```text
//! cargo run --release --example cluster_bench
//! cargo run --release --example cluster_bench -- --only put --seconds 5 --rounds 5
//! ```
//!
//! Both speak the Redis protocol to the same driver, on loopback. A put of ours is answered when a majority of three nodes has it on
//! disk; one of Redis when the primary has synced it and a replica has received it. The last line is JSON.

use std::process::ExitCode;

use clap::Parser;
use kv_examples::cluster_bench::node_process;
use kv_examples::cluster_bench::servers::Redis;
use kv_examples::cluster_bench::{self, Arguments, NodeCommand};
use serde_json::json;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(NodeCommand::Node(node)) = &arguments.command {
        return match node_process::run(node) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("node {}: {error}", node.id);
                ExitCode::FAILURE
            }
        };
    }
    match Redis::installed() {
        Some(version) if !arguments.no_redis => println!("beside redis-server {version}"),
        _ => println!("without redis-server"),
    }
    let rows = match cluster_bench::run(&arguments, &mut |done| eprintln!("{done}")) {
        Ok(rows) => rows,
        Err(error) => {
            eprintln!("cluster_bench: {error}");
            return ExitCode::FAILURE;
        }
    };
    for line in cluster_bench::table(&rows) {
        println!("{line}");
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "load": row.scenario.to_string(),
                "ours": row.ours.rate.round(),
                "redis": row.redis.as_ref().map(|side| side.rate.round()),
                "ratio": row.ratio(),
                "syncs_per_put": row.syncs_per_put,
            })
        })
        .collect();
    println!("{}", json!({ "rounds": arguments.rounds, "seconds": arguments.seconds, "rows": rows }));
    ExitCode::SUCCESS
}
