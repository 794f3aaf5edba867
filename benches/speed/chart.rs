//! Charts of what was measured, as SVG.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::comparison::{Amount, Summary};
use crate::reach::Reach;

/// Pixels.
const WIDTH: u32 = 960;
const WORK: u32 = 540;
const LINE: u32 = 30;
const PANEL: u32 = 300;
const COLUMNS: u32 = 2;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Sixteen times better or worse is as far as bars go.
const FARTHEST: f64 = 16.0;

const BETTER: RGBColor = RGBColor(46, 125, 80);
const WORSE: RGBColor = RGBColor(190, 70, 50);
const OWN: RGBColor = RGBColor(28, 100, 180);
const DOCKER: RGBColor = RGBColor(214, 120, 30);
const OTHERS: [RGBColor; 3] = [RGBColor(120, 120, 120), RGBColor(130, 70, 160), RGBColor(40, 140, 120)];

/// How far each row is from what was to be reached: to the right of the line it is better by that factor.
pub(crate) fn reached(rows: &[&Reach]) -> String {
    let height = LINE * u32::try_from(rows.len() + 3).expect("there are few");
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH + WORK / 4, height)).into_drawing_area();
    draw_reached(&area, rows).expect("a string takes every drawing");
    drop(area);
    svg
}

fn draw_reached(area: &Area<'_>, rows: &[&Reach]) -> Drawn {
    area.fill(&WHITE)?;
    #[expect(clippy::cast_precision_loss, reason = "there are few")]
    let places = 0.0..rows.len().max(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(LINE + 10)
        .y_label_area_size(WORK)
        .build_cartesian_2d((1.0 / FARTHEST..FARTHEST).log_scale().base(2.0), places)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(TRANSPARENT)
        .x_labels(9)
        .x_label_formatter(&|margin| format!("{margin} ×"))
        .label_style(("sans-serif", 15))
        .x_desc("better than what was to be reached, by this factor")
        .draw()?;
    let mut top = 0.0;
    for row in rows.iter().rev() {
        let margin = row.margin().clamp(1.0 / FARTHEST, FARTHEST);
        let color = if row.is_reached() { BETTER } else { WORSE };
        let bar = [(margin.min(1.0), top + 0.2), (margin.max(1.0), top + 0.8)];
        chart.draw_series([Rectangle::new(bar, color.filled())])?;
        let (x, y) = chart.backend_coord(&(1.0 / FARTHEST, top + 0.5));
        let style = ("sans-serif", 15).into_text_style(area).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw_text(&format!("{}: {}", row.work, row.measured()), &style, (x - 10, y))?;
        top += 1.0;
    }
    chart.draw_series([PathElement::new([(1.0, 0.0), (1.0, top)], BLACK.stroke_width(2))])?;
    area.present()?;
    Ok(())
}

/// Each comparison over several sizes as a panel with a line for everybody. Kinds of requests are no sizes.
pub(crate) fn curves(summaries: &[&Summary]) -> String {
    let is_curve = |summary: &&&Summary| summary.points.len() >= 3 && summary.axis != "request";
    let curves: Vec<_> = summaries.iter().filter(is_curve).collect();
    let rows = u32::try_from(curves.len()).expect("there are few").div_ceil(COLUMNS).max(1);
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH, rows * PANEL)).into_drawing_area();
    area.fill(&WHITE).expect("a string takes every drawing");
    let panels = area.split_evenly((rows as usize, COLUMNS as usize));
    for (panel, summary) in panels.iter().zip(curves) {
        draw_curve(panel, summary).expect("a string takes every drawing");
    }
    area.present().expect("a string takes every drawing");
    drop(panels);
    drop(area);
    svg
}

fn draw_curve(area: &Area<'_>, summary: &Summary) -> Drawn {
    let (unit, scale) = match summary.amount {
        Amount::Bytes => ("MiB/s", 1.0 / f64::from(1 << 20)),
        Amount::Operations => ("per second", 1.0),
        Amount::Times => ("ms", 1e3),
    };
    let all =
        || summary.points.iter().flat_map(|point| &point.contenders).map(|figures| figures.middle * scale);
    let (low, high) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
    // The names stand above the lines, in a third of the height.
    let above = high * (4.0 * high / low).sqrt();
    let first = summary.points.first().map_or(1.0, |point| point.x).max(1.0);
    let last = summary.points.last().map_or(2.0, |point| point.x).max(first * 2.0);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .caption(&summary.title, ("sans-serif", 16))
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d((first..last).log_scale(), (low / 2.0..above).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 14))
        .x_desc(&summary.axis)
        .y_desc(unit)
        .x_labels(5)
        .y_labels(5)
        .x_label_formatter(&|x| short(*x))
        .y_label_formatter(&|y| short(*y))
        .draw()?;
    let names = summary.points.first().into_iter().flat_map(|point| &point.contenders);
    let mut others = OTHERS.into_iter().cycle();
    for who in names {
        let color = match who.name.as_str() {
            "orlop" => OWN,
            "docker-registry" => DOCKER,
            _ => others.next().unwrap_or(BLACK),
        };
        let points: Vec<_> = summary
            .points
            .iter()
            .filter_map(|point| {
                let figures = point.contenders.iter().find(|figures| figures.name == who.name)?;
                Some((point.x, figures.middle * scale))
            })
            .collect();
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, color.filled())))?;
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(&who.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .label_font(("sans-serif", 14))
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(TRANSPARENT)
        .draw()?;
    Ok(())
}

/// A number of any size in few letters.
fn short(number: f64) -> String {
    match number {
        1e9.. => format!("{:.0}G", number / 1e9),
        1e6.. => format!("{:.0}M", number / 1e6),
        1e3.. => format!("{:.0}k", number / 1e3),
        1.0.. => format!("{number:.0}"),
        _ => format!("{number}"),
    }
}
