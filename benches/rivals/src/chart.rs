//! Charts of a run: throughput and slowest percent of every workload beside the best rival's, and long runs over time.

use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::engine::{Failure, Name};
use crate::row::{Line, Row};
use crate::summary::{Cell, Comparison, Summary};

const WIDTH: u32 = 1100;
const HEAD: i32 = 96;
const LEFT: i32 = 220;
const RIGHT: i32 = 1070;
const ROW: i32 = 26;
const INK: RGBColor = RGBColor(40, 44, 52);
const FAINT: RGBColor = RGBColor(225, 228, 232);

/// Told apart by the colour-blind as well (after Okabe and Ito, 2008).
const fn colour(engine: Name) -> RGBColor {
    match engine {
        Name::KvLsm => RGBColor(213, 94, 0),
        Name::RocksDb => RGBColor(0, 114, 178),
        Name::Fjall => RGBColor(0, 158, 115),
        Name::SurrealKv => RGBColor(204, 121, 167),
        Name::Redb => RGBColor(148, 155, 164),
        Name::Lmdb => RGBColor(40, 44, 52),
        Name::Sled => RGBColor(230, 159, 0),
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws what there is into the directory, and returns the files.
pub(crate) fn draw_all(lines: &[Line], directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let summary = Summary::of(lines);
    let mut drawn = Vec::new();
    if !summary.comparisons.is_empty() {
        let path = directory.join("throughput.svg");
        let title = "Throughput, best rival = 1 (further right is better)";
        draw_dots(&summary, title, &Comparison::speed, &path)?;
        drawn.push(path);
        let path = directory.join("p99.svg");
        let title = "99th percentile of latency, best rival in throughput = 1 (further left is better)";
        draw_dots(&summary, title, &p99, &path)?;
        drawn.push(path);
    }
    let series: Vec<&Row> = lines
        .iter()
        .filter_map(|line| if let Line::Row(row) = line { Some(&**row) } else { None })
        .filter(|row| row.round == 0 && row.series.len() > 1)
        .collect();
    if !series.is_empty() {
        let path = directory.join("overwrite-long.svg");
        draw_series(&series, &path)?;
        drawn.push(path);
    }
    Ok(drawn)
}

fn p99(cell: &Cell) -> f64 {
    cell.median(|row| row.latency.map_or(f64::NAN, |latency| latency.p99_us))
}

/// The axis: two powers of ten to the left of one, and one to the right.
const LOWEST: f64 = 0.01;
const HIGHEST: f64 = 10.0;

fn place(value: f64) -> i32 {
    let part = (value.clamp(LOWEST, HIGHEST) / LOWEST).log10() / (HIGHEST / LOWEST).log10();
    LEFT + (f64::from(RIGHT - LEFT) * part).round() as i32
}

/// One line for each workload, a dot on it for each engine, on a logarithmic axis. What is not compared is hollow.
fn draw_dots(summary: &Summary, title: &str, value: &dyn Fn(&Cell) -> f64, path: &Path) -> Result<(), Failure> {
    let rows = i32::try_from(summary.comparisons.len())?;
    let bottom = HEAD + rows * ROW;
    let height = u32::try_from(bottom + 40)?;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    draw_head(&area, title, &summary.engines)?;
    let small = ("sans-serif", 14).into_font().color(&INK);
    for (mark, label) in
        [(0.01, "1/100"), (0.1, "1/10"), (0.5, "1/2"), (1.0, "1"), (2.0, "2"), (5.0, "5"), (10.0, "10")]
    {
        let x = place(mark);
        let line = if mark == 1.0 { INK } else { FAINT };
        area.draw(&PathElement::new(vec![(x, HEAD - 8), (x, bottom)], line))?;
        area.draw(&Text::new(label, (x, bottom + 8), small.clone().pos(Pos::new(HPos::Center, VPos::Top))))?;
    }
    let right = small.pos(Pos::new(HPos::Right, VPos::Center));
    for (y, comparison) in (HEAD + ROW / 2..).step_by(ROW as usize).zip(&summary.comparisons) {
        area.draw(&Text::new(comparison.name.clone(), (LEFT - 12, y), right.clone()))?;
        area.draw(&PathElement::new(vec![(LEFT, y), (RIGHT, y)], FAINT))?;
        let Some(best) = comparison.best_rival().map(value).filter(|best| *best > 0.0) else { continue };
        // This project's engine last, so that nothing lies over it.
        for cell in comparison.cells.iter().rev() {
            let relative = value(cell) / best;
            if !relative.is_finite() {
                continue;
            }
            let style = colour(cell.engine);
            let style = if cell.refusal.is_none() { style.filled() } else { style.stroke_width(2) };
            area.draw(&Circle::new((place(relative), y), 6, style))?;
        }
    }
    Ok(area.present()?)
}

fn draw_head(area: &Area<'_>, title: &str, engines: &[Name]) -> Result<(), Failure> {
    area.draw(&Text::new(title.to_owned(), (24, 16), ("sans-serif", 20).into_font().color(&INK)))?;
    for (x, engine) in (30..).step_by(130).zip(engines) {
        area.draw(&Circle::new((x, 60), 6, colour(*engine).filled()))?;
        let label = ("sans-serif", 15).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(engine.to_string(), (x + 12, 60), label))?;
    }
    Ok(())
}

/// Operations per second over time.
fn draw_series(rows: &[&Row], path: &Path) -> Result<(), Failure> {
    let area = SVGBackend::new(path, (WIDTH, 520)).into_drawing_area();
    area.fill(&WHITE)?;
    let engines: Vec<Name> = rows.iter().map(|row| row.engine).collect();
    let (head, body) = area.split_vertically(HEAD);
    draw_head(&head, "Overwriting random keys: operations per second over time, in seconds", &engines)?;
    let seconds = rows.iter().map(|row| row.series.len()).max().unwrap_or(1) as f64;
    let highest = rows.iter().flat_map(|row| &row.series).copied().fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&body)
        .margin(16)
        .x_label_area_size(28)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..seconds, 0.0..highest * 1.05)?;
    let label = ("sans-serif", 14).into_font().color(&INK);
    chart
        .configure_mesh()
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(label)
        .y_label_formatter(&|per_second| format!("{:.0} k", per_second / 1e3))
        .draw()?;
    for row in rows {
        let points = (0u32..).zip(&row.series).map(|(second, value)| (f64::from(second) + 0.5, *value));
        chart.draw_series(LineSeries::new(points, colour(row.engine).stroke_width(2)))?;
    }
    Ok(area.present()?)
}
