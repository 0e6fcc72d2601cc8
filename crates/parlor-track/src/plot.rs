//! `loss.svg`: the training loss (raw in a light line, smoothed in a bold one), the evaluation loss as
//! points, and the learning rate in a second panel.
//!
//! Drawn by `plotters`. A style sheet, added afterwards, gives each colour a counterpart for dark mode. No
//! fonts are embedded.

use std::error::Error;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::curves::{LossCurves, Point, smoothed, thinned};
use crate::error::TrackError;

const SIZE: (u32, u32) = (960, 600);
const HEADER: i32 = 64;
const LOSS_HEIGHT: i32 = 380;
/// Margins in pixels: left of the panels, for numbers, and right of them.
const LEFT: i32 = 70;
const RIGHT: i32 = 28;
const FONT: &str = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif";
/// Maximum number of points of a line; more than the width in pixels would not show.
const MOST_POINTS: usize = 1600;

const PAPER: RGBColor = RGBColor(252, 252, 251);
const INK: RGBColor = RGBColor(11, 11, 11);
const QUIET_INK: RGBColor = RGBColor(82, 81, 78);
const GRID: RGBColor = RGBColor(232, 231, 227);
const AXIS: RGBColor = RGBColor(181, 180, 175);
const TRAIN: RGBColor = RGBColor(42, 120, 214);
const EVAL: RGBColor = RGBColor(235, 104, 52);
const RATE: RGBColor = RGBColor(27, 175, 122);

/// Each colour with its counterpart for dark mode.
const DARK: [(RGBColor, RGBColor); 8] = [
    (PAPER, RGBColor(26, 26, 25)),
    (INK, RGBColor(255, 255, 255)),
    (QUIET_INK, RGBColor(195, 194, 183)),
    (GRID, RGBColor(48, 48, 46)),
    (AXIS, RGBColor(94, 93, 88)),
    (TRAIN, RGBColor(72, 150, 240)),
    (EVAL, RGBColor(240, 118, 68)),
    (RATE, RGBColor(25, 158, 112)),
];

/// Draws the curves; `None` when there is no loss yet.
///
/// # Errors
/// When the drawing library fails.
pub fn loss_svg(curves: &LossCurves) -> Result<Option<String>, TrackError> {
    if curves.train.is_empty() && curves.eval.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    draw(curves, &mut svg).map_err(|error| TrackError::Plot(error.to_string()))?;
    Ok(Some(with_style(&svg, &curves.title)))
}

fn draw(curves: &LossCurves, svg: &mut String) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&PAPER)?;
    let (header, panels) = root.split_vertically(HEADER);
    let steps = step_range(curves);
    let has_rate = !curves.learning_rate.is_empty();
    let bold = smoothed(&curves.train);
    draw_header(&header, curves, bold.last(), has_rate)?;

    let (upper, lower) = panels.split_vertically(if has_rate { LOSS_HEIGHT } else { SIZE.1 as i32 - HEADER });
    let range = loss_range(curves, &bold);
    let mut chart = ChartBuilder::on(&upper)
        .margin_right(RIGHT)
        .margin_top(6)
        .set_label_area_size(LabelAreaPosition::Left, LEFT)
        .set_label_area_size(LabelAreaPosition::Bottom, if has_rate { 16 } else { 44 })
        .build_cartesian_2d(steps.clone(), range.clone())?;
    let mut mesh = chart.configure_mesh();
    mesh.bold_line_style(GRID).light_line_style(TRANSPARENT).axis_style(AXIS).label_style(label());
    mesh.y_label_formatter(&short).x_labels(8).y_labels(8).axis_desc_style(label());
    mesh.x_label_formatter(&step_label);
    if has_rate {
        mesh.x_label_formatter(&no_label).set_tick_mark_size(LabelAreaPosition::Bottom, 0);
    } else {
        mesh.x_desc("step");
    }
    mesh.draw()?;
    // A spike above the panel is drawn along its edge.
    let clamp = |(step, value): &Point| (*step as f64, value.clamp(range.start, range.end));
    let faint = thinned(&curves.train, MOST_POINTS);
    chart.draw_series(LineSeries::new(faint.iter().map(clamp), TRAIN.mix(0.3).stroke_width(1)))?;
    let bold = thinned(&bold, MOST_POINTS);
    chart.draw_series(LineSeries::new(bold.iter().map(clamp), TRAIN.stroke_width(2)))?;
    let eval = thinned(&curves.eval, 200);
    if eval.len() > 1 {
        chart.draw_series(LineSeries::new(eval.iter().map(clamp), EVAL.mix(0.5).stroke_width(1)))?;
    }
    // A ring separates a point from the lines under it.
    chart.draw_series(eval.iter().map(|point| Circle::new(clamp(point), 6, PAPER.filled())))?;
    chart.draw_series(eval.iter().map(|point| Circle::new(clamp(point), 4, EVAL.filled())))?;
    if curves.train.len() == 1 {
        chart.draw_series(curves.train.iter().map(|point| Circle::new(clamp(point), 4, TRAIN.filled())))?;
    }

    if has_rate {
        draw_rate(&lower, curves, steps)?;
    }
    root.present()?;
    Ok(())
}

fn draw_rate(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    curves: &LossCurves,
    steps: Range<f64>,
) -> Result<(), Box<dyn Error>> {
    let highest = highest(&curves.learning_rate).max(0.0);
    let top = if highest > 0.0 { highest * 1.12 } else { 1.0 };
    let mut chart = ChartBuilder::on(area)
        .margin_right(RIGHT)
        .margin_top(6)
        .set_label_area_size(LabelAreaPosition::Left, LEFT)
        .set_label_area_size(LabelAreaPosition::Bottom, 44)
        .build_cartesian_2d(steps, 0.0..top)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(AXIS)
        .label_style(label())
        .x_labels(8)
        .y_labels(4)
        .x_label_formatter(&step_label)
        .y_label_formatter(&short)
        .x_desc("step")
        .axis_desc_style(label())
        .draw()?;
    let points = thinned(&curves.learning_rate, MOST_POINTS);
    let line = points.iter().map(|(step, rate)| (*step as f64, rate.clamp(0.0, top)));
    if points.len() == 1 {
        chart.draw_series(line.map(|point| Circle::new(point, 3, RATE.filled())))?;
    } else {
        chart.draw_series(LineSeries::new(line, RATE.stroke_width(2)))?;
    }
    Ok(())
}

/// The title, and a legend with the last value of each line.
fn draw_header(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    curves: &LossCurves,
    last_train: Option<&Point>,
    has_rate: bool,
) -> Result<(), Box<dyn Error>> {
    let title = (FONT, 22).into_font().color(&INK);
    area.draw(&Text::new(shortened(&curves.title, 80), (LEFT, 14), title))?;
    let mut x = LEFT;
    let mut entry = |colour: RGBColor, round: bool, text: String| -> Result<(), Box<dyn Error>> {
        if round {
            area.draw(&Circle::new((x + 9, 48), 4, colour.filled()))?;
        } else {
            area.draw(&PathElement::new(vec![(x, 48), (x + 18, 48)], colour.stroke_width(3)))?;
        }
        area.draw(&Text::new(text.clone(), (x + 25, 40), label()))?;
        // There is no font to measure with; 6.6 pixels per letter suffice for all of the named fonts.
        x += 25 + (text.chars().count() as f64 * 6.6) as i32 + 22;
        Ok(())
    };
    if let Some((_, loss)) = last_train {
        entry(TRAIN, false, format!("training loss, smoothed: {}", number(*loss)))?;
    }
    if let Some((_, loss)) = curves.eval.last() {
        entry(EVAL, true, format!("evaluation loss: {}", number(*loss)))?;
    }
    if let (true, Some((_, rate))) = (has_rate, curves.learning_rate.last()) {
        entry(RATE, false, format!("learning rate: {}", number(*rate)))?;
    }
    Ok(())
}

fn label() -> TextStyle<'static> {
    (FONT, 15).into_font().color(&QUIET_INK)
}

fn step_range(curves: &LossCurves) -> Range<f64> {
    let all = || curves.train.iter().chain(&curves.eval).map(|point| point.0);
    let first = all().min().unwrap_or(0);
    let last = all().max().unwrap_or(0);
    // From zero, unless most of the plot would be empty: a run whose early rows are lost.
    let start = if first <= 1 + last / 2 { 0.0 } else { first as f64 };
    start..(last as f64).max(start * 1.001 + 1.0)
}

/// The range of the axis: all values, except single spikes far above the smoothed curve.
fn loss_range(curves: &LossCurves, bold: &[Point]) -> Range<f64> {
    let low = lowest(&curves.train).min(lowest(&curves.eval));
    let calm = highest(bold).max(highest(&curves.eval));
    let high = highest(&curves.train).min(calm + 0.35 * (calm - low)).max(calm);
    let room = ((high - low) * 0.06).max(high.abs() * 1e-3).max(1e-9);
    let start = if low >= 0.0 { (low - room).max(0.0) } else { low - room };
    start..high + room
}

fn lowest(points: &[Point]) -> f64 {
    points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min)
}

fn highest(points: &[Point]) -> f64 {
    points.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max)
}

fn no_label(_: &f64) -> String {
    String::new()
}

/// `1500`, `25k`, `1.5M`.
fn step_label(step: &f64) -> String {
    match *step {
        step if step.fract().abs() > 1e-9 => String::new(),
        step if step >= 1e6 => format!("{}M", number(step / 1e6)),
        step if step >= 1e4 => format!("{}k", number(step / 1e3)),
        step => number(step),
    }
}

fn short(value: &f64) -> String {
    number(*value)
}

/// Four significant digits without trailing zeros: `2.134`, `5e-5`, `0`.
fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude < 1e-12 {
        return "0".to_owned();
    }
    if !(1e-3..1e6).contains(&magnitude) {
        let text = format!("{value:.3e}");
        return match text.split_once('e') {
            Some((digits, exponent)) => format!("{}e{exponent}", without_zeros(digits)),
            None => text,
        };
    }
    let decimals = (3 - magnitude.log10().floor() as i32).clamp(0, 6) as usize;
    without_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn without_zeros(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

fn shortened(text: &str, most: usize) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).collect();
    if clean.chars().count() <= most {
        return clean;
    }
    clean.chars().take(most - 1).chain(['…']).collect()
}

/// Adds the title for screen readers and the colours for dark mode.
fn with_style(svg: &str, title: &str) -> String {
    let mut dark = String::new();
    for (light, on_dark) in DARK {
        for property in ["fill", "stroke"] {
            dark.push_str(&format!("[{property}=\"{}\"]{{{property}:{}}}", hex(light), hex(on_dark)));
        }
    }
    let head = format!(
        "<title>{}</title>\n<style>@media (prefers-color-scheme: dark){{{dark}}}</style>",
        escaped(&shortened(title, 200))
    );
    match svg.find("<svg").and_then(|start| Some(start + svg[start..].find('>')? + 1)) {
        Some(at) => format!("{}\n{head}{}", &svg[..at], &svg[at..]),
        None => svg.to_owned(),
    }
}

fn hex(colour: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
