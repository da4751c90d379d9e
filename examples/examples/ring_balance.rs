//! How even partitioned layouts and the classical strategies are, what they move when a node joins or leaves, and how fast they are.
//!
//! ```text
//! cargo run --release --example ring_balance
//! cargo run --release --example ring_balance -- --svg balance.svg
//! ```
//!
//! Prints tables, and draws the load of every node before and after.

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;
use kv_examples::{ring_balance, ring_chart};

/// Balance and movement of layouts and the classical strategies.
#[derive(Parser)]
struct Options {
    /// Where to draw the loads.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/ring_balance.svg"))]
    svg: PathBuf,
    /// How many keys to place.
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    keys: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let comparison = ring_balance::compare(options.keys)?;
    println!("{comparison}");
    if let Some(directory) = options.svg.parent() {
        std::fs::create_dir_all(directory)?;
    }
    ring_chart::draw(&comparison, &options.svg)?;
    println!("loads drawn to {}", options.svg.display());
    Ok(())
}
