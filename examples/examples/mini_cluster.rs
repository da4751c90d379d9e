//! A whole cluster in one process: real sockets, real files, quorum reads and writes, and a node that loses its power.
//!
//! ```text
//! cargo run --release --example mini_cluster
//! cargo run --release --example mini_cluster -- --input FILE
//! ```

use std::process::ExitCode;

use clap::Parser;
use kv_examples::mini_cluster;
use kv_examples::options::Options;
use kv_examples::report::Screen;

fn main() -> ExitCode {
    let options = Options::parse();
    let screen = Screen::terminal();
    let outcome = match mini_cluster::run(&options, &screen) {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("mini_cluster: {error}");
            return ExitCode::FAILURE;
        }
    };
    let failures = outcome.failures();
    for failure in &failures {
        eprintln!("mini_cluster: {failure}");
    }
    screen.outcome(&outcome);
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
