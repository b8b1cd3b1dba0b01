//! The graph of lineage as an SVG picture that stands alone: inputs → training set → run → version → aliases
//! and the feature views that it made.

use std::fmt::Write;

use super::Lineage;

const BOX_WIDTH: usize = 190;
const BOX_HEIGHT: usize = 58;
const COLUMN: usize = 240;
const ROW: usize = 72;
const MARGIN: usize = 12;
/// More boxes than this in a column are counted in a last one.
const MOST: usize = 30;

/// What a box says: what it is, its name, and the small print.
struct Node {
    kind: String,
    name: String,
    detail: String,
}

fn node(kind: &str, name: impl Into<String>, detail: impl Into<String>) -> Node {
    Node { kind: kind.to_owned(), name: name.into(), detail: detail.into() }
}

/// Draws where a version comes from, from left to right.
pub(crate) fn draw(lineage: &Lineage) -> String {
    let columns: Vec<Vec<Node>> =
        columns(lineage).into_iter().map(cut).filter(|column| !column.is_empty()).collect();
    let rows = columns.iter().map(Vec::len).max().unwrap_or(1);
    let (width, height) =
        (columns.len() * COLUMN - (COLUMN - BOX_WIDTH) + 2 * MARGIN, rows * ROW + 2 * MARGIN);
    let mut svg = format!(
        r##"<svg role="img" xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif"><title>{}</title><rect width="{width}" height="{height}" fill="#ffffff"/>"##,
        escaped(&format!("Lineage of {} version {}", lineage.model, lineage.version))
    );
    for (place, column) in columns.iter().enumerate() {
        for (row, node) in column.iter().enumerate() {
            let (left, top) = (left(place), top(height, column.len(), row));
            if let Some(next) = columns.get(place + 1) {
                for other in 0..next.len() {
                    arrow(&mut svg, left, top, self::left(place + 1), self::top(height, next.len(), other));
                }
            }
            block(&mut svg, left, top, node);
        }
    }
    svg.push_str("</svg>");
    svg
}

fn left(column: usize) -> usize {
    MARGIN + column * COLUMN
}

/// Columns are centred.
fn top(height: usize, boxes: usize, row: usize) -> usize {
    height / 2 + row * ROW + (ROW - BOX_HEIGHT) / 2 - boxes * ROW / 2
}

fn columns(lineage: &Lineage) -> Vec<Vec<Node>> {
    let views = lineage.views.iter().map(|view| {
        let parts =
            if view.parts.len() == 1 { "1 part".to_owned() } else { format!("{} parts", view.parts.len()) };
        let made_by = view.made_by.iter().map(|made| format!(", by {} v{}", made.model, made.version));
        let detail = made_by.fold(parts, |said, maker| said + &maker);
        node("feature view", format!("{} v{}", view.view, view.view_version), detail)
    });
    let inputs = lineage.inputs.iter().map(|input| {
        let detail = input.sha256.as_deref().or(input.uri.as_deref()).unwrap_or("not hashed");
        node(&input.kind, &input.name, detail)
    });
    let set = lineage.training_set.iter().map(|set| {
        let hash = set.sha256.as_deref().map_or_else(|| "gone".to_owned(), |hash| format!("sha256 {hash}"));
        node("training set", set.training_set_id.to_string(), hash)
    });
    let run =
        lineage.run.iter().map(|run| node("run", &run.run_id, format!("{} · {}", run.name, run.status)));
    let version = node("version", format!("{} v{}", lineage.model, lineage.version), &lineage.source);
    let aliases = lineage.aliases.iter().map(|alias| node("alias", alias, "points here"));
    let published = lineage.published.iter().map(|made| {
        let name = format!("{} v{}", made.view, made.view_version);
        node("feature view", name, format!("{} vectors made", made.rows))
    });
    let after = aliases.chain(published).collect();
    vec![views.chain(inputs).collect(), set.collect(), run.collect(), vec![version], after]
}

/// At most [`MOST`] boxes; the last says how many more there are.
fn cut(mut column: Vec<Node>) -> Vec<Node> {
    if column.len() > MOST {
        let more = column.len() - (MOST - 1);
        column.truncate(MOST - 1);
        column.push(node("and", format!("{more} more"), "see the JSON"));
    }
    column
}

fn block(svg: &mut String, left: usize, top: usize, node: &Node) {
    let x = left + 10;
    let _ = write!(
        svg,
        r##"<g><rect x="{left}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" fill="#f4f6fa" stroke="#8794ab"/><text x="{x}" y="{}" font-size="10" fill="#5b6577">{}</text><text x="{x}" y="{}" font-size="13" fill="#1b2230">{}</text><text x="{x}" y="{}" font-size="10" fill="#5b6577">{}</text></g>"##,
        top + 16,
        escaped(&node.kind),
        top + 33,
        escaped(&short(&node.name, 24)),
        top + 49,
        escaped(&short(&node.detail, 32)),
    );
}

fn arrow(svg: &mut String, left: usize, top: usize, to_left: usize, to_top: usize) {
    let (from_x, from_y) = (left + BOX_WIDTH, top + BOX_HEIGHT / 2);
    let (to_x, to_y) = (to_left, to_top + BOX_HEIGHT / 2);
    let (half, end) = (from_x.midpoint(to_x), to_x - 6);
    let _ = write!(
        svg,
        r##"<path d="M{from_x} {from_y} C{half} {from_y} {half} {to_y} {end} {to_y}" fill="none" stroke="#8794ab"/><path d="M{to_x} {to_y} l-8 -4 v8 z" fill="#8794ab"/>"##
    );
}

/// At most `most` characters of a long name.
fn short(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars().take(most - 1).chain(['…']).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::tests::lineage;

    #[test]
    fn every_step_is_drawn_and_names_cannot_break_the_picture() {
        let mut lineage = lineage();
        lineage.model = "<b>&late".to_owned();
        let svg = draw(&lineage);
        for said in
            ["weather v1", "2 parts", "training set", "&lt;b&gt;&amp;late v3", "champion", "vectors v1"]
        {
            assert!(svg.contains(said), "{said}: {svg}");
        }
        assert!(!svg.contains("<b>"));
    }

    #[test]
    fn a_crowd_is_counted() {
        let many = (0..100).map(|number| node("file", number.to_string(), "")).collect();
        let shown = cut(many);
        assert_eq!((shown.len(), shown[29].name.as_str()), (30, "71 more"));
    }
}
