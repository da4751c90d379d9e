//! The loads of [`crate::ring_balance`] as a picture.

use std::error::Error;
use std::path::Path;

use kv_ring::NodeId;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::ring_balance::{Comparison, Moment, Outcome};

const WIDTH: u32 = 1240;
const HEIGHT: u32 = 1020;
const HEADER: u32 = 92;
const INK: RGBColor = RGBColor(40, 44, 52);
const FAINT: RGBColor = RGBColor(225, 228, 232);

/// The top of the scale, in percent; the boldest strategy goes a little beyond its double.
const TOP: f64 = 200.0;

/// A colour for each moment, told apart by the colour-blind as well (after Okabe and Ito, 2008).
const fn colour(moment: Moment) -> RGBColor {
    match moment {
        Moment::Before => RGBColor(148, 155, 164),
        Moment::Added => RGBColor(0, 114, 178),
        Moment::Removed => RGBColor(230, 159, 0),
    }
}

/// Draws one panel for each strategy: the load of every node before, with a node added, and with a node removed.
///
/// # Errors
/// When the file cannot be written.
pub fn draw(comparison: &Comparison, path: &Path) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (WIDTH, HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let (header, body) = root.split_vertically(HEADER);
    draw_header(&header)?;
    let rows = comparison.outcomes.len().div_ceil(2);
    for (outcome, panel) in comparison.outcomes.iter().zip(body.split_evenly((rows, 2))) {
        draw_panel(outcome, &panel)?;
    }
    root.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw_header(area: &Area<'_>) -> Result<(), Box<dyn Error>> {
    let title = ("sans-serif", 24).into_font().style(FontStyle::Bold).color(&INK);
    area.draw(&Text::new("Load of every node, in percent of its target", (28, 18), title))?;
    let legend = [(Moment::Before, "twelve nodes"), (Moment::Added, "n13 added"), (Moment::Removed, "n5 removed")];
    let font = ("sans-serif", 17).into_font().color(&INK);
    for (place, (moment, label)) in (0..).zip(legend) {
        let left = 30 + 170 * place;
        area.draw(&Rectangle::new([(left, 60), (left + 18, 76)], colour(moment).filled()))?;
        area.draw(&Text::new(label, (left + 26, 60), font.clone()))?;
    }
    Ok(())
}

fn draw_panel(outcome: &Outcome, area: &Area<'_>) -> Result<(), Box<dyn Error>> {
    let nodes: Vec<NodeId> = outcome.loads[Moment::Added as usize].keys().copied().collect();
    let right = nodes.len() as f64 + 0.5;
    let mut chart = ChartBuilder::on(area)
        .margin_left(16)
        .margin_right(20)
        .margin_bottom(12)
        .caption(outcome.name, ("sans-serif", 19).into_font().color(&INK))
        .x_label_area_size(28)
        .y_label_area_size(56)
        .build_cartesian_2d(0.5..right, 0.0..TOP)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .x_labels(0)
        .y_labels(5)
        .y_label_formatter(&|percent| format!("{percent:.0} %"))
        .y_label_style(("sans-serif", 15).into_font().color(&INK))
        .draw()?;

    const BAR: f64 = 0.26;
    for (place, node) in nodes.iter().enumerate() {
        let middle = place as f64 + 1.0;
        for (number, moment) in Moment::ALL.into_iter().enumerate() {
            let Some(load) = outcome.loads[number].get(node) else { continue };
            let left = middle + (number as f64 - 1.5) * BAR;
            let height = (load * 100.0).min(TOP);
            let bar = [(left + 0.01, 0.0), (left + BAR - 0.01, height)];
            chart.draw_series(std::iter::once(Rectangle::new(bar, colour(moment).filled())))?;
        }
        let (x, y) = chart.backend_coord(&(middle, 0.0));
        let (origin_x, origin_y) = area.get_base_pixel();
        let style = ("sans-serif", 15).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Top));
        area.draw(&Text::new(node.to_string(), (x - origin_x, y - origin_y + 7), style))?;
    }
    let line = [(0.5, 100.0), (right, 100.0)];
    chart.draw_series(LineSeries::new(line, INK.stroke_width(1)))?;
    Ok(())
}
