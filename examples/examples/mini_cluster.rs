//! A whole cluster in one process: real sockets, real files, quorum reads and writes, and a node that loses its power.
//!
//! ```text
//! cargo run --release --example mini_cluster
//! cargo run --release --example mini_cluster -- --input FILE
//! cargo run --release --example mini_cluster -- --chaos --seconds 60
//! ```

use std::process::ExitCode;

use clap::Parser;
use kv_examples::mini_cluster;
use kv_examples::options::Options;
use kv_examples::report::Screen;

fn main() -> ExitCode {
    let options = Options::parse();
    if options.chaos {
        return chaos(&options);
    }
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

/// Nodes die, pause, are cut off and lose their disks, and everything that was acknowledged is read in the end.
fn chaos(options: &Options) -> ExitCode {
    let report = match mini_cluster::run_chaos(options) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("mini_cluster: {error}");
            return ExitCode::FAILURE;
        }
    };
    let failures = report.failures();
    for failure in &failures {
        eprintln!("mini_cluster: {failure}");
    }
    let findings = report.findings;
    println!(
        "{} writes and deletes acknowledged, {} reads answered, {} requests given up; {} pauses",
        findings.acknowledged, findings.reads, findings.given_up, report.pauses
    );
    println!("{report}");
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
