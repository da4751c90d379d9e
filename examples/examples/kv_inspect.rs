//! Looks into the files of a database, checks them, and copies what is in them out and back in.
//!
//! ```text
//! cargo run --release --example kv_inspect -- stats DIRECTORY
//! cargo run --release --example kv_inspect -- verify DIRECTORY --json
//! cargo run --release --example kv_inspect -- export DIRECTORY --output FILE
//! ```

use std::io;
use std::process::ExitCode;

use clap::Parser;
use kv_examples::kv_inspect::arguments::Arguments;
use kv_examples::kv_inspect::run;

fn main() -> ExitCode {
    match run(&Arguments::parse(), &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kv_inspect: {error}");
            ExitCode::from(2)
        }
    }
}
