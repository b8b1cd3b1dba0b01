//! The charts of the report as SVG text.
//!
//! Belongs here: axes, lines, bars, legends, also for other charts of this crate. Not here: what stands around them (`html`), the graph of lineage (`lineage`).
//! A value that is not a finite number is left out, never drawn.

use std::io;

use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;

use super::{CurvePoint, Day, IncidentReport, ModelReport, Optimism};

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(crate) type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

pub(crate) const TRUTH: RGBColor = RGBColor(15, 76, 129);
pub(crate) const CLAIM: RGBColor = RGBColor(214, 106, 47);
const QUIET: RGBColor = RGBColor(148, 158, 170);
const TEXT: RGBColor = RGBColor(71, 82, 96);
const GRID: RGBColor = RGBColor(232, 236, 241);
const FONT: &str = "system-ui, sans-serif";

/// Observed against predicted shares with Wilson bands; the diagonal is what true probabilities would do.
pub(super) fn reliability(model: &ModelReport) -> String {
    let bins: Vec<_> = model.evaluation.reliability.iter().filter(|bin| bin.predicted.is_finite()).collect();
    let most = bins.iter().map(|bin| bin.rows).max().unwrap_or(1).max(1);
    draw((480, 410), |root| {
        let mut chart = ChartBuilder::on(root)
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
        axes(&mut chart, "predicted probability", "share that came true", 6, &|x| format!("{x:.1}"), &|y| {
            format!("{y:.1}")
        })?;
        let mut band: Vec<(f64, f64)> = bins.iter().map(|bin| (bin.predicted, bin.observed.low)).collect();
        band.extend(bins.iter().rev().map(|bin| (bin.predicted, bin.observed.high)));
        chart
            .draw_series([Polygon::new(finite(band), TRUTH.mix(0.16))])?
            .label("95 % Wilson band")
            .legend(|(x, y)| Rectangle::new([(x, y - 5), (x + 18, y + 5)], TRUTH.mix(0.16).filled()));
        chart
            .draw_series(DashedLineSeries::new([(0.0, 0.0), (1.0, 1.0)], 6, 5, QUIET.stroke_width(1)))?
            .label("true probabilities")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], QUIET));
        chart
            .draw_series(LineSeries::new(
                finite(bins.iter().map(|bin| (bin.predicted, bin.observed.value)).collect()),
                TRUTH.stroke_width(2),
            ))?
            .label("this model (a dot's area: rows)")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], TRUTH.stroke_width(2)));
        chart.draw_series(bins.iter().filter(|bin| bin.observed.value.is_finite()).map(|bin| {
            let radius = 3.0 + 6.0 * (bin.rows as f64 / most as f64).sqrt();
            Circle::new((bin.predicted, bin.observed.value), radius as i32, TRUTH.filled())
        }))?;
        legend(&mut chart, SeriesLabelPosition::UpperLeft)
    })
}

/// What a random split claims beside the later truth: ranking on the left, calibration on the right.
pub(super) fn optimism(optimism: &Optimism) -> String {
    draw((1020, 310), |root| {
        let halves = root.split_evenly((1, 2));
        pair(&halves[0], "AUC (0.5 is guessing)", 0.5, optimism.random_auc, optimism.temporal_auc)?;
        pair(&halves[1], "expected calibration error", 0.0, optimism.random_ece, optimism.temporal_ece)
    })
}

fn pair(area: &Area<'_>, title: &str, floor: f64, random: f64, temporal: f64) -> Drawn {
    let bars = [("random split", random, CLAIM), ("later data", temporal, TRUTH)];
    let top = extent(bars.iter().map(|bar| bar.1)).1.max(floor + 1e-3);
    let top = floor + (top - floor) * 1.25;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(title, (FONT, 18, &TEXT))
        .x_label_area_size(30)
        .y_label_area_size(48)
        .build_cartesian_2d((0..1u32).into_segmented(), floor..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(QUIET)
        .y_labels(5)
        .x_labels(2)
        .y_label_formatter(&|y| format!("{y:.2}"))
        .x_label_formatter(&|segment| match segment {
            SegmentValue::CenterOf(at) => {
                bars.get(*at as usize).map_or(String::new(), |bar| bar.0.to_owned())
            }
            _ => String::new(),
        })
        .label_style((FONT, 15, &TEXT))
        .draw()?;
    chart.draw_series(bars.iter().enumerate().filter(|(_, bar)| bar.1.is_finite()).map(|(at, bar)| {
        let at = at as u32;
        let corners = [(SegmentValue::Exact(at), floor), (SegmentValue::Exact(at + 1), bar.1)];
        let mut rectangle = Rectangle::new(corners, bar.2.filled());
        rectangle.set_margin(0, 0, 70, 70);
        rectangle
    }))?;
    chart.draw_series(bars.iter().enumerate().filter(|(_, bar)| bar.1.is_finite()).map(|(at, bar)| {
        let style = (FONT, 19).into_font().color(&bar.2).pos(centred_above());
        Text::new(
            format!("{:.3}", bar.1),
            (SegmentValue::CenterOf(at as u32), bar.1 + (top - floor) * 0.02),
            style,
        )
    }))?;
    Ok(())
}

/// What was answered against what came true, day by day, with incidents; below, how many columns drifted.
pub(super) fn over_time(days: &[Day], incidents: &[IncidentReport]) -> String {
    draw((1040, 430), |root| {
        let (upper, lower) = root.split_vertically(270);
        rates(&upper, days, incidents)?;
        drifted(&lower, days)
    })
}

fn rates(area: &Area<'_>, days: &[Day], incidents: &[IncidentReport]) -> Drawn {
    let late = series(days, |day| day.late_rate);
    let said = series(days, |day| Some(day.mean_probability));
    let top = extent(late.iter().chain(&said).map(|point| point.1)).1.max(0.05) * 1.3;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(48)
        .x_label_area_size(26)
        .y_label_area_size(66)
        .build_cartesian_2d(0.0..last_day(days), 0.0..top)?;
    axes(&mut chart, "", "share late", 8, &|x| day_at(days, *x), &|y| format!("{:.0} %", y * 100.0))?;
    chart.draw_series(LineSeries::new(late, TRUTH.stroke_width(2)))?;
    chart.draw_series(LineSeries::new(said, CLAIM.stroke_width(2)))?;
    for mark in marks(days, incidents) {
        draw_mark(&mut chart, &mark, top)?;
    }
    Ok(())
}

/// The incidents that began on one day.
struct Mark {
    at: usize,
    causes: String,
    severity: String,
}

/// One mark a day: its causes, coloured by the most severe.
fn marks(days: &[Day], incidents: &[IncidentReport]) -> Vec<Mark> {
    let mut marks: Vec<Mark> = Vec::new();
    for incident in incidents {
        let Some(at) = position(days, &incident.first_seen) else { continue };
        match marks.iter_mut().find(|mark| mark.at == at) {
            Some(mark) => {
                mark.causes = format!("{}, {}", mark.causes, incident.cause);
                if rank(&incident.severity) > rank(&mark.severity) {
                    mark.severity.clone_from(&incident.severity);
                }
            }
            None => {
                marks.push(Mark { at, causes: incident.cause.clone(), severity: incident.severity.clone() });
            }
        }
    }
    marks
}

fn draw_mark<X, Y>(chart: &mut Chart<'_, '_, X, Y>, mark: &Mark, top: f64) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let (at, color) = (mark.at as f64, severity(&mark.severity));
    chart.draw_series(DashedLineSeries::new([(at, 0.0), (at, top)], 4, 3, color.stroke_width(1)))?;
    chart.draw_series([TriangleMarker::new((at, top * 0.015), 6, color.filled())])?;
    let style = (FONT, 15).into_font().transform(FontTransform::Rotate90).color(&color).pos(beside());
    chart.draw_series([Text::new(mark.causes.clone(), (at, top * 0.98), style)])?;
    Ok(())
}

fn drifted(area: &Area<'_>, days: &[Day]) -> Drawn {
    let top = days.iter().map(|day| day.drifted_columns).max().unwrap_or(0).max(4) as f64 * 1.1;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_top(4)
        .margin_right(48)
        .x_label_area_size(40)
        .y_label_area_size(66)
        .build_cartesian_2d(0.0..last_day(days), 0.0..top)?;
    axes(&mut chart, "day (UTC)", "columns drifted", 8, &|x| day_at(days, *x), &|y| format!("{y:.0}"))?;
    chart.draw_series(days.iter().enumerate().map(|(at, day)| {
        let at = at as f64;
        Rectangle::new([(at - 0.4, 0.0), (at + 0.4, day.drifted_columns as f64)], TRUTH.mix(0.55).filled())
    }))?;
    Ok(())
}

/// Loss against steps, one chart a stage, beside each other.
pub(super) fn curves(curve: &[CurvePoint]) -> String {
    let mut stages: Vec<&str> = Vec::new();
    for point in curve {
        if !stages.contains(&point.stage.as_str()) {
            stages.push(&point.stage);
        }
    }
    let columns = stages.len().max(1);
    draw((347 * columns.max(2) as u32, 280), |root| {
        for (area, stage) in root.split_evenly((1, columns)).iter().zip(&stages) {
            stage_curve(area, stage, curve)?;
        }
        Ok(())
    })
}

fn stage_curve(area: &Area<'_>, stage: &str, curve: &[CurvePoint]) -> Drawn {
    let points: Vec<&CurvePoint> = curve.iter().filter(|point| point.stage == stage).collect();
    let loss = finite(points.iter().map(|point| (point.step as f64, point.loss)).collect());
    let validation =
        finite(points.iter().filter_map(|point| Some((point.step as f64, point.validation_loss?))).collect());
    let (low, high) = extent(loss.iter().chain(&validation).map(|point| point.1));
    let room = ((high - low) * 0.15).max(1e-3);
    let steps = points.iter().map(|point| point.step.max(point.steps)).max().unwrap_or(1).max(1);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(stage, (FONT, 18, &TEXT))
        .x_label_area_size(40)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..steps as f64, (low - room)..(high + room * 2.0))?;
    axes(&mut chart, "step", "loss in nats", 5, &|x| format!("{x:.0}"), &|y| format!("{y:.3}"))?;
    let dots = if loss.len() > 12 { 0 } else { 2 }; // a line through one point cannot be seen
    chart
        .draw_series(LineSeries::new(loss, TRUTH.stroke_width(2)).point_size(dots))?
        .label("training")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], TRUTH.stroke_width(2)));
    if !validation.is_empty() {
        chart
            .draw_series(LineSeries::new(validation.iter().copied(), CLAIM.stroke_width(2)).point_size(2))?
            .label("validation")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], CLAIM.stroke_width(2)));
    }
    legend(&mut chart, SeriesLabelPosition::UpperRight)
}

pub(crate) type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

pub(crate) fn draw(size: (u32, u32), paint: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let drawn = paint(&root).and_then(|()| root.present());
        drawn.expect("every chart has room for its axes, and memory takes all that is written");
    }
    svg.replacen("<svg ", "<svg role=\"img\" ", 1)
}

pub(crate) fn axes<X, Y>(
    chart: &mut Chart<'_, '_, X, Y>,
    x_says: &str,
    y_says: &str,
    x_labels: usize,
    x_format: &dyn Fn(&f64) -> String,
    y_format: &dyn Fn(&f64) -> String,
) -> Drawn
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(QUIET)
        .x_desc(x_says)
        .y_desc(y_says)
        .x_labels(x_labels)
        .y_labels(6)
        .x_label_formatter(&x_format)
        .y_label_formatter(&y_format)
        .label_style((FONT, 15, &TEXT))
        .axis_desc_style((FONT, 15, &TEXT))
        .draw()
}

pub(crate) fn legend<'a, 'b: 'a, X, Y>(
    chart: &mut Chart<'a, 'b, X, Y>,
    position: SeriesLabelPosition,
) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .label_font((FONT, 15, &TEXT))
        .margin(8)
        .draw()
}

fn centred_above() -> plotters::style::text_anchor::Pos {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    Pos::new(HPos::Center, VPos::Bottom)
}

/// To the right of a line that a text runs down along.
fn beside() -> plotters::style::text_anchor::Pos {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    Pos::new(HPos::Left, VPos::Bottom)
}

fn rank(severity: &str) -> u8 {
    match severity {
        "page" => 2,
        "ticket" => 1,
        _ => 0,
    }
}

fn severity(name: &str) -> RGBColor {
    match name {
        "page" => RGBColor(190, 38, 51),
        "ticket" => RGBColor(176, 120, 0),
        _ => RGBColor(95, 105, 118),
    }
}

fn finite(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.into_iter().filter(|point| point.0.is_finite() && point.1.is_finite()).collect()
}

fn series(days: &[Day], value: impl Fn(&Day) -> Option<f64>) -> Vec<(f64, f64)> {
    finite(days.iter().enumerate().filter_map(|(at, day)| Some((at as f64, value(day)?))).collect())
}

/// The least and the greatest finite value; 0 and 1 if there is none.
pub(crate) fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low <= high { (low, high) } else { (0.0, 1.0) }
}

fn last_day(days: &[Day]) -> f64 {
    days.len().saturating_sub(1).max(1) as f64
}

fn day_at(days: &[Day], at: f64) -> String {
    let whole = (at - at.round()).abs() < 1e-6;
    days.get(at.round() as usize).filter(|_| whole).map_or(String::new(), |day| day.day.clone())
}

/// Where a moment lies among the days: the first day that is not before its date.
fn position(days: &[Day], moment: &str) -> Option<usize> {
    let date = moment.get(..10)?;
    days.iter().position(|day| day.day.as_str() >= date)
}
