//! The engine beside its rivals. See README.md for how to run it, and `docs/performance.md` for what comes out.

mod assignment;
mod chart;
mod data;
mod drive;
mod engine;
mod kill;
mod ledger;
mod long;
mod machine;
mod measure;
mod process;
mod row;
mod run;
mod settings;
mod stage;
mod stream;
mod summary;
mod table;
mod verify;
mod workload;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::engine::Failure;
use crate::row::Line;
use crate::settings::Settings;
use crate::table::{Style, report};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, assignment] = &arguments[..]
        && flag == process::FLAG
    {
        return process::carry_out(assignment);
    }
    match compare(&Settings::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failures) => {
            eprintln!("{failures} failed: see above");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs, prints and draws. Returns how many things failed.
fn compare(settings: &Settings) -> Result<usize, Failure> {
    if settings.list {
        for workload in settings.workloads()? {
            println!("{}", workload.name);
        }
        return Ok(0);
    }
    let lines = match &settings.from {
        Some(path) => read(path)?,
        None => run::run(settings)?,
    };
    let style = if settings.markdown { Style::Markdown } else { Style::Text };
    print!("{}", report(&lines, style));
    fs::create_dir_all(&settings.out)?;
    fs::write(settings.out.join("results.md"), report(&lines, Style::Markdown))?;
    for chart in chart::draw_all(&lines, &settings.out)? {
        eprintln!("drawn: {}", chart.display());
    }
    Ok(lines.iter().filter(|line| matches!(line, Line::Failed { .. })).count())
}

/// The results of an earlier run.
fn read(path: &Path) -> Result<Vec<Line>, Failure> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = BufReader::new(file).lines().zip(1..).map(|(line, number)| {
        let line: Line =
            serde_json::from_str(&line?).map_err(|error| format!("{}:{number}: {error}", path.display()))?;
        Ok(line)
    });
    lines.collect()
}
