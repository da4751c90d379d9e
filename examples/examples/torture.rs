//! Tortures the engine for as long as is wanted: cuts the power, makes the disk fail, damages files, compares with a model, kills
//! processes. See `docs/testing.md`.
//!
//! ```text
//! cargo run --release --example torture -- crash --seconds 60
//! cargo run --release --example torture -- crash --seed 1234 --cases 1      # repeats one case
//! ```
//!
//! The last line is JSON. Each violation is printed as it is found, with the seed that repeats it.

#[path = "../../kv-lsm/tests/crash/allocation.rs"]
mod allocation;

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use kv_lsm::battery::session::{Case, Session, silence_panics};
use kv_lsm::battery::{corruption, kill, model, power_cuts, refusals};

/// Tortures the engine.
#[derive(Parser)]
struct Arguments {
    /// What is done to it
    #[arg(value_enum)]
    suite: Suite,

    /// For how long new cases begin
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    /// The first seed; each case has the next one. By default another in every run
    #[arg(long)]
    seed: Option<u64>,

    /// At most so many cases
    #[arg(long, default_value_t = u64::MAX)]
    cases: u64,

    /// How many run at once
    #[arg(long, default_value_t = 2)]
    threads: usize,

    /// A case that takes so many seconds hangs
    #[arg(long, default_value_t = 120)]
    hang_seconds: u64,
}

#[derive(Copy, Clone, ValueEnum)]
enum Suite {
    /// Power cuts at every call, and inside recovery
    Crash,
    /// Calls to the disk that fail
    Errors,
    /// Damaged files
    Corrupt,
    /// Against sorted maps
    Model,
    /// Processes that are killed
    Kill,
}

impl Suite {
    const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Errors => "errors",
            Self::Corrupt => "corrupt",
            Self::Model => "model",
            Self::Kill => "kill",
        }
    }

    const fn case(self) -> Case {
        match self {
            Self::Crash => power_cuts::case,
            Self::Errors => refusals::case,
            Self::Corrupt => corruption::case,
            Self::Model => model::case,
            Self::Kill => kill::case,
        }
    }
}

/// Nothing that the battery does needs more at once; a damaged length that is believed would.
const ALLOCATION_BYTES_MAX: usize = 64 << 20;

fn main() -> ExitCode {
    // The hidden mode: what the suite `kill` starts and kills.
    if let Some(order) = kill::order_of_child() {
        kill::child(&order);
    }
    let arguments = Arguments::parse();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let session = Session {
        seed: arguments.seed.unwrap_or(now.as_secs() % 1_000_000 * 1_000_000),
        duration: Duration::from_secs(arguments.seconds),
        cases_max: arguments.cases,
        threads: arguments.threads,
        hang: Duration::from_secs(arguments.hang_seconds),
    };
    silence_panics();
    let began = Instant::now();
    let suite = arguments.suite.name();
    let mut report = session.run(arguments.suite.case(), &mut |violation| {
        println!("violation: {violation}");
        let seed = violation.trim_start_matches("seed ").split(':').next().unwrap_or_default();
        println!("repeat it: torture {suite} --seed {seed} --cases 1");
    });
    let largest = allocation::largest_bytes();
    if largest > ALLOCATION_BYTES_MAX {
        let violation = format!("{largest} bytes were allocated at once");
        println!("violation: {violation}");
        report.violations.push(violation);
    }
    println!(
        "{{\"suite\":\"{suite}\",\"seed\":{},\"seconds\":{},\"threads\":{},\"largest_allocation_bytes\":{largest},{}}}",
        session.seed,
        began.elapsed().as_secs(),
        session.threads,
        report.json_members()
    );
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
