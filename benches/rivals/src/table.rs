//! Tables for a terminal, and for a page.

use crate::engine::Name;
use crate::row::{Line, Row};
use crate::summary::{CUT, Cell, Comparison, Summary};

/// How a table is written.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Style {
    Text,
    Markdown,
}

const NOTES: &str = "Operations per second (`reopen`: seconds), median of the rounds, ± the larger distance from it; in brackets \
                     the 99th percentile in µs. k: a kill lost writes that had returned. d: background work had not ended, or a \
                     long run was not steady. What is marked so is not compared. t: ended by the clock. `with debt ×` is the ratio \
                     when the time until the background was at rest is counted too, to whoever is the best then.";

/// All tables of a run.
pub(crate) fn report(lines: &[Line], style: Style) -> String {
    let summary = Summary::of(lines);
    let mut parts = Vec::new();
    for line in lines {
        if let Line::Run(run) = line {
            let versions: Vec<_> = run.versions.iter().map(|(engine, version)| format!("{engine} {version}")).collect();
            let (keys, rounds, seed) = (run.keys, run.rounds, run.seed);
            parts.push(format!(
                "{}. {keys} keys, rounds: {rounds}, seed: {seed}. {}.",
                run.machine,
                versions.join(", ")
            ));
        }
    }
    parts.push(throughput(&summary).write(style));
    parts.push(NOTES.to_owned());
    parts.push(resources(&summary).write(style));
    let item = if style == Style::Markdown { "- " } else { "" };
    let mut facts = Vec::new();
    for line in lines {
        match line {
            Line::Kill { engine, acknowledged, lost } => {
                facts.push(format!(
                    "{item}{engine}, killed: {lost} lost of {acknowledged} writes that had returned without a sync"
                ));
            }
            Line::Failed { engine, what } => facts.push(format!("{item}{engine} FAILED: {what}")),
            Line::Run(_) | Line::Options { .. } | Line::Phase { .. } | Line::Row(_) => {}
        }
    }
    for engine in &summary.engines {
        let options = lines.iter().find_map(|line| match line {
            Line::Options { engine: of, options, .. } if of == engine => Some(options),
            _ => None,
        });
        facts.extend(options.map(|options| format!("{item}{engine}, first opened with: {options}")));
    }
    parts.push(facts.join("\n"));
    parts.join("\n\n") + "\n"
}

/// Who is how fast.
fn throughput(summary: &Summary) -> Grid {
    let mut header = vec!["workload".to_owned()];
    header.extend(summary.engines.iter().map(Name::to_string));
    header.extend(["best rival", "kv-lsm ×", "with debt ×"].map(str::to_owned));
    let row = |comparison: &Comparison| {
        let mut row = vec![comparison.name.clone()];
        let cell = |engine: &Name| comparison.cell(*engine).map_or(String::new(), |cell| speed(comparison, cell));
        row.extend(summary.engines.iter().map(cell));
        row.push(comparison.best_rival().map_or("–".to_owned(), |cell| cell.engine.to_string()));
        let is_alone = comparison.cell(Name::KvLsm).is_none() || comparison.cells.len() == 1;
        let none = if is_alone { "–" } else { "refused" };
        row.push(comparison.ratio().map_or(none.to_owned(), |ratio| format!("{:.2}", ratio.times)));
        // The best may be another one then.
        let with_debt = comparison.ratio_with_debt();
        row.push(with_debt.map_or("–".to_owned(), |ratio| format!("{:.2} {}", ratio.times, ratio.rival)));
        row
    };
    Grid { header, rows: summary.comparisons.iter().map(row).collect() }
}

fn speed(comparison: &Comparison, cell: &Cell) -> String {
    let seconds = comparison.is_in_seconds();
    let spread = if seconds { cell.spread(|row| row.seconds) } else { cell.spread(Row::per_second) };
    let mut text = if seconds { format!("{:.3} s", spread.median) } else { short(spread.median) };
    if cell.rows.len() > 1 {
        text.push_str(&format!(" ±{:.0}%", spread.percent()));
    }
    if !seconds && cell.rows.iter().all(|row| row.latency.is_some()) {
        let p99 = cell.median(|row| row.latency.map_or(0.0, |latency| latency.p99_us));
        text.push_str(&format!(" ({})", short(p99)));
    }
    let marks = cell.refusal.map(|refusal| refusal.mark()).into_iter().chain(cell.is_cut().then_some(CUT));
    let marks: String = marks.collect();
    if marks.is_empty() { text } else { format!("{text} {marks}") }
}

/// What it costs.
fn resources(summary: &Summary) -> Grid {
    let header = [
        "workload",
        "engine",
        "p50 µs",
        "p99",
        "p99.9",
        "max",
        "CPU µs/op",
        "written ×",
        "disk MB",
        "peak MB",
        "of it mapped",
        "rest s",
        "with debt",
        "probe max ms",
    ];
    let mut rows = Vec::new();
    for comparison in &summary.comparisons {
        for cell in &comparison.cells {
            let latency = |of: fn(&Row) -> Option<f64>| {
                let known = cell.rows.iter().all(|row| of(row).is_some());
                known.then(|| cell.median(|row| of(row).unwrap_or(0.0)))
            };
            let or_dash = |value: Option<f64>| value.map_or("–".to_owned(), short);
            let megabytes = |bytes: u64| bytes as f64 / 1e6;
            let has_debt = cell.rows.iter().all(|row| row.settle_seconds.is_some());
            rows.push(vec![
                comparison.name.clone(),
                cell.engine.to_string(),
                or_dash(latency(|row| row.latency.map(|latency| latency.p50_us))),
                or_dash(latency(|row| row.latency.map(|latency| latency.p99_us))),
                or_dash(latency(|row| row.latency.map(|latency| latency.p999_us))),
                or_dash(latency(|row| row.latency.map(|latency| latency.max_us))),
                short(cell.median(|row| row.cpu_us)),
                or_dash(latency(Row::write_amplification)),
                short(cell.median(|row| megabytes(row.disk_bytes))),
                short(cell.median(|row| megabytes(row.peak_bytes()))),
                short(cell.median(|row| megabytes(row.memory.mapped_bytes))),
                or_dash(latency(|row| row.settle_seconds)),
                if has_debt { short(cell.median(Row::per_second_with_debt)) } else { "–".to_owned() },
                or_dash(latency(|row| row.probe_max_ms)),
            ]);
        }
    }
    Grid { header: header.map(str::to_owned).to_vec(), rows }
}

/// Three digits and a unit.
fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        large if large >= 999_500.0 => (value / 1e6, "M"),
        middle if middle >= 9_995.0 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        large if large >= 99.95 => 0,
        middle if middle >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}{unit}")
}

struct Grid {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    fn write(&self, style: Style) -> String {
        let all = || std::iter::once(&self.header).chain(&self.rows);
        let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate();
            let padded = cells.map(|(column, (cell, width))| match (column, style) {
                (_, Style::Markdown) => cell.clone(),
                (0, Style::Text) => format!("{cell:<width$}"),
                (_, Style::Text) => format!("{cell:>width$}"),
            });
            let padded: Vec<String> = padded.collect();
            match style {
                Style::Text => padded.join("  ").trim_end().to_owned(),
                Style::Markdown => format!("| {} |", padded.join(" | ")),
            }
        };
        let mut lines: Vec<String> = all().map(line).collect();
        let rule = match style {
            Style::Text => "-".repeat(lines.iter().map(|line| line.chars().count()).max().unwrap_or(0)),
            Style::Markdown => format!("|---|{}", "---:|".repeat(self.header.len() - 1)),
        };
        lines.insert(1, rule);
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.123, 9.994, 12.34, 123.4, 9_994.0, 12_345.0, 999_499.0, 999_500.0, 12_345_678.0].map(short);
        assert_eq!(shown, ["0.00", "0.12", "9.99", "12.3", "123", "9994", "12.3k", "999k", "1.00M", "12.3M"]);
    }

    #[test]
    fn columns_are_aligned_or_left_to_markdown() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let grid = Grid { header: row(["name", "µs"]), rows: vec![row(["a", "1"]), row(["longer", "123"])] };
        assert_eq!(grid.write(Style::Text), "name     µs\n-----------\na         1\nlonger  123");
        assert_eq!(grid.write(Style::Markdown), "| name | µs |\n|---|---:|\n| a | 1 |\n| longer | 123 |");
    }
}
