//! The shares of a column, reference beside current, as an SVG picture.

use std::fmt::Write;

use super::ColumnReport;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 120.0;

/// Pairs of bars; empty without shares.
pub(super) fn bars(column: &ColumnReport) -> String {
    if column.shares.is_empty() {
        return String::new();
    }
    let most = column.shares.iter().map(|share| share.reference.max(share.current)).fold(1e-12, f64::max);
    let step = WIDTH / column.shares.len() as f64;
    let mut svg = format!(
        r##"<svg role="img" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"><title>{}: reference grey, current blue</title>"##,
        escaped(&column.name)
    );
    for (place, share) in column.shares.iter().enumerate() {
        let left = step * place as f64;
        let said =
            format!("{}: {:.2} % → {:.2} %", share.label, share.reference * 100.0, share.current * 100.0);
        let _ = write!(svg, "<g><title>{}</title>", escaped(&said));
        for (offset, value, fill) in [(0.08, share.reference, "#b6bfcc"), (0.5, share.current, "#2f6fde")] {
            let height = (HEIGHT - 2.0) * value / most;
            let _ = write!(
                svg,
                r##"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="{height:.1}" fill="{fill}"/>"##,
                left + step * offset,
                HEIGHT - height,
                step * 0.42
            );
        }
        svg.push_str("</g>");
    }
    svg.push_str("</svg>");
    svg
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
