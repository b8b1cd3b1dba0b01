//! The picture of a grid: loss against tokens, a colour a size, the law as lines and what was foretold as crosses.

use ::gpt::scaling::{Cell, Point, Scaling};
use plotters::prelude::*;

use crate::report::plots::{CLAIM, TRUTH, axes, draw, extent, legend};

/// The lightest shade, of the smallest model; the largest is drawn in [`TRUTH`].
const LIGHT: RGBColor = RGBColor(160, 188, 216);
/// Points of a line.
const STEPS: usize = 60;

pub(super) fn picture(runs: &[(Cell, Point)], scaling: &Scaling) -> String {
    let sizes = sizes(runs);
    let (from, to) = extent(runs.iter().map(|(_, run)| run.tokens.log10()));
    let law = |parameters: f64, x: f64| scaling.law.loss(parameters, 10f64.powf(x));
    let ends = sizes.iter().flat_map(|size| [from, to].map(|x| law(size.1, x)));
    let foretold = scaling.held_out.iter().map(|told| told.predicted);
    let (low, high) = extent(runs.iter().map(|(_, run)| run.loss).chain(ends).chain(foretold));
    let room = (high - low).max(1e-3) * 0.08;
    let aside = (to - from).max(1e-3) * 0.03;
    draw((960, 520), |root| {
        let mut chart = ChartBuilder::on(root)
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(66)
            .build_cartesian_2d((from - aside)..(to + aside), (low - room)..(high + room))?;
        let amount = |x: &f64| format!("{:.1e}", 10f64.powf(*x));
        axes(&mut chart, "tokens", "loss in nats a token", 6, &amount, &|y| format!("{y:.2}"))?;
        for (at, ((layers, width), parameters)) in sizes.iter().enumerate() {
            let color = shade(at as f64 / (sizes.len() - 1).max(1) as f64);
            let line = (0..=STEPS).map(|step| {
                let x = from + (to - from) * step as f64 / STEPS as f64;
                (x, law(*parameters, x))
            });
            chart
                .draw_series(LineSeries::new(line, color.stroke_width(2)))?
                .label(format!("{layers}x{width}: {parameters} parameters"))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
            let own = runs.iter().filter(|(cell, _)| (cell.layers, cell.width) == (*layers, *width));
            chart.draw_series(
                own.map(|(_, run)| Circle::new((run.tokens.log10(), run.loss), 4, color.filled())),
            )?;
        }
        let crosses = scaling
            .held_out
            .iter()
            .map(|told| Cross::new((told.run.tokens.log10(), told.predicted), 6, CLAIM.stroke_width(2)));
        chart
            .draw_series(crosses)?
            .label("foretold by a law that has not seen these runs")
            .legend(|(x, y)| Cross::new((x + 9, y), 5, CLAIM.stroke_width(2)));
        legend(&mut chart, SeriesLabelPosition::UpperRight)
    })
}

/// The sizes in their order: (layers, width), and how many parameters.
fn sizes(runs: &[(Cell, Point)]) -> Vec<((usize, usize), f64)> {
    let mut sizes: Vec<_> =
        runs.iter().map(|(cell, run)| ((cell.layers, cell.width), run.parameters)).collect();
    sizes.dedup();
    sizes
}

/// From [`LIGHT`] at 0 to [`TRUTH`] at 1.
fn shade(at: f64) -> RGBColor {
    let mix =
        |light: u8, dark: u8| (f64::from(light) + at * (f64::from(dark) - f64::from(light))).round() as u8;
    RGBColor(mix(LIGHT.0, TRUTH.0), mix(LIGHT.1, TRUTH.1), mix(LIGHT.2, TRUTH.2))
}
