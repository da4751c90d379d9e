//! A shopping cart on both sides of a network partition, under three conflict rules: what each shows, and what each loses.
//!
//! ```text
//! cargo run --release --example conflicts
//! ```

use std::io::{IsTerminal, stdout};
use std::process::ExitCode;

use kv_examples::conflicts;

fn main() -> ExitCode {
    match conflicts::run(&mut stdout().lock(), stdout().is_terminal()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conflicts: {error}");
            ExitCode::FAILURE
        }
    }
}
