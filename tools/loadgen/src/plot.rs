//! Latencies of reports as a picture for the documents.

use std::path::PathBuf;

use anyhow::Context;
use plotters::{
    coord::{
        ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter},
        types::RangedCoordf64,
    },
    prelude::*,
};

use crate::report::{Report, Series, to_ms};

const SIZE: (u32, u32) = (900, 500);
const FONT: &str = "sans-serif";
/// From the colour of one line to that of the next, of a full circle: the golden ratio keeps them apart.
const HUE_STEP: f64 = 0.618;
/// The last percentile that is drawn has so many nines.
const NINES_MAX: f64 = 5.0;
/// The least latency that is drawn.
const MS_MIN: f64 = 0.01;

/// What is drawn, and where to.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Parameters {
    /// The picture.
    #[arg(long)]
    out: PathBuf,
    /// Only latencies with this in their name.
    #[arg(long, default_value = "")]
    only: String,
    /// Reports, as `--json` wrote them.
    #[arg(required = true)]
    reports: Vec<PathBuf>,
}

/// A line of the picture: nines of the percentile, and milliseconds.
#[derive(Debug, PartialEq)]
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Draws it.
pub(crate) fn run(parameters: &Parameters) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for path in &parameters.reports {
        let report = Report::read(path)?;
        let wanted = report.latencies.iter().filter(|series| series.name.contains(&parameters.only));
        lines.extend(wanted.map(|series| line(&report.name, series)).filter(|line| line.points.len() > 1));
    }
    anyhow::ensure!(!lines.is_empty(), "the reports have no such latencies");
    let mut svg = String::new();
    draw(&mut svg, &lines).context("cannot draw")?;
    std::fs::write(&parameters.out, svg).with_context(|| format!("cannot write {}", parameters.out.display()))
}

fn line(report: &str, series: &Series) -> Line {
    let points = series.latencies.distribution.iter();
    let points = points.map(|(quantile, us)| (nines(*quantile), to_ms(*us).max(MS_MIN)));
    let points = points.filter(|(nines, _)| *nines <= NINES_MAX).collect();
    Line { name: format!("{report}: {}", series.name), points }
}

/// How many nines a quantile has: 0.9 has one, 0.99 two, 0 none.
fn nines(quantile: f64) -> f64 {
    // Not -0 for the fastest.
    -(1.0 - quantile).log10() + 0.0
}

/// The percentile that has so many nines.
fn percentile(nines: f64) -> String {
    let digits = if nines > 2.0 { nines.ceil() } else { 2.0 };
    let text = format!("{:.*}", usize_of(digits) - 2, 100.0 - 100.0 * 10_f64.powf(-nines));
    format!("{text} %")
}

#[expect(clippy::as_conversions, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "2 to 5")]
fn usize_of(digits: f64) -> usize {
    digits as usize
}

fn draw(svg: &mut String, lines: &[Line]) -> anyhow::Result<()> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let highest = points().map(|point| point.1).fold(MS_MIN * 10.0, f64::max);
    let lowest = points().map(|point| point.1).fold(highest, f64::min);
    let last = points().map(|point| point.0).fold(1.0, f64::max).ceil();
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(20)
        .x_label_area_size(45)
        .y_label_area_size(70)
        .build_cartesian_2d(Percentiles(last), (lowest / 2.0..highest * 2.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("percentile")
        .y_desc("latency, ms")
        .y_label_formatter(&|ms| format!("{ms}"))
        .label_style((FONT, 14))
        .draw()?;
    for (number, line) in (0_u32..).zip(lines) {
        let hue = (f64::from(number) * HUE_STEP).fract();
        let style = HSLColor(hue, 0.8, 0.4).stroke_width(2);
        let key = move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], style);
        chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?.label(&line.name).legend(key);
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .label_font((FONT, 14))
        .draw()?;
    root.present()?;
    Ok(())
}

/// The axis of percentiles, as far as so many nines.
struct Percentiles(f64);

impl Ranged for Percentiles {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, nines: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range()).map(nines, limit)
    }

    /// 0 %, 50 %, 90 %, 99 % and so on.
    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        let whole = std::iter::successors(Some(1.0), |nines| Some(nines + 1.0)).take_while(|nines| *nines <= self.0);
        [0.0, nines(0.5)].into_iter().chain(whole).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        0.0..self.0
    }
}

impl ValueFormatter<f64> for Percentiles {
    fn format(nines: &f64) -> String {
        percentile(*nines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latencies::Latencies;

    #[test]
    fn percentiles_are_named_as_people_know_them() {
        let names: Vec<_> = Percentiles(4.0).key_points(5).into_iter().map(percentile).collect();
        assert_eq!(names, ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn every_series_is_a_line_that_ends_where_there_are_too_few_messages() {
        let distribution = vec![(0.0, 900), (0.9, 1_500), (0.999, 40_000), (1.0, 50_000)];
        let series = Series { name: "ack".to_owned(), latencies: Latencies { distribution, ..Latencies::default() } };
        let line = line("500/s", &series);
        assert_eq!((line.name.as_str(), line.points.len()), ("500/s: ack", 3));
        let mut svg = String::new();
        draw(&mut svg, &[line]).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("500/s: ack") && svg.contains("99.9 %"), "{svg}");
    }
}
