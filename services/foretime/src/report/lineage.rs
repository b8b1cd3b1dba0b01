//! The graph of lineage as SVG text: views → training set → run → version → alias.
//!
//! Belongs here: boxes and arrows. Not here: what they say about each other (`registry`).

use std::fmt::Write;

use super::Lineage;
use super::html::text;

const WIDTH: u32 = 1050;
const BOX_WIDTH: u32 = 172;
const BOX_HEIGHT: u32 = 64;
const COLUMN: u32 = 217;
const ROW: u32 = 76;

/// One box: what it is, its name, and the small print.
struct Node<'a> {
    kind: &'a str,
    name: String,
    detail: String,
}

/// Draws where a version comes from, from left to right.
pub(super) fn graph(lineage: &Lineage) -> String {
    let rows = u32::try_from(lineage.views.len()).unwrap_or(u32::MAX / ROW).clamp(1, 40);
    let height = rows * ROW + 24;
    let middle = height / 2 - BOX_HEIGHT / 2;
    let mut svg = format!(
        r#"<svg role="img" xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" class="lineage">"#
    );
    for (row, (view, parts)) in (0..rows).zip(&lineage.views) {
        let top = 12 + row * ROW;
        let node = Node { kind: "feature view", name: view.clone(), detail: parts_of(*parts) };
        arrow(&mut svg, 8 + BOX_WIDTH, top + BOX_HEIGHT / 2, 8 + COLUMN, middle + BOX_HEIGHT / 2);
        block(&mut svg, 8, top, &node);
    }
    for (column, node) in (1..).zip(chain(lineage)) {
        let left = 8 + column * COLUMN;
        if column < 4 {
            let level = middle + BOX_HEIGHT / 2;
            arrow(&mut svg, left + BOX_WIDTH, level, left + COLUMN, level);
        }
        block(&mut svg, left, middle, &node);
    }
    svg.push_str("</svg>");
    svg
}

fn parts_of(parts: i64) -> String {
    if parts == 1 { "1 part".to_owned() } else { format!("{parts} parts") }
}

fn chain(lineage: &Lineage) -> [Node<'_>; 4] {
    let sha256 = format!("sha256 {}", short(&lineage.sha256, 12));
    [
        Node { kind: "training set", name: short(&lineage.training_set, 14), detail: sha256 },
        Node {
            kind: "run",
            name: short(&lineage.run_id, 14),
            detail: format!("up to seq {}", lineage.max_seq),
        },
        Node { kind: "version", name: lineage.model_version.clone(), detail: "passed its gate".to_owned() },
        Node { kind: "alias", name: "champion".to_owned(), detail: "serves".to_owned() },
    ]
}

fn block(svg: &mut String, left: u32, top: u32, node: &Node<'_>) {
    let x = left + 12;
    let (name, detail) = (text(&short(&node.name, 22)), text(&node.detail));
    let _ = write!(
        svg,
        r#"<rect x="{left}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/><text class="kind" x="{x}" y="{}">{}</text><text class="name" x="{x}" y="{}">{name}</text><text class="kind" x="{x}" y="{}">{detail}</text>"#,
        top + 19,
        text(node.kind),
        top + 37,
        top + 54,
    );
}

fn arrow(svg: &mut String, from_x: u32, from_y: u32, to_x: u32, to_y: u32) {
    let (half, end) = (from_x.midpoint(to_x), to_x - 6);
    let _ = write!(
        svg,
        r#"<path class="edge" d="M{from_x} {from_y} C{half} {from_y} {half} {to_y} {end} {to_y}"/><path class="tip" d="M{to_x} {to_y} l-8 -4 v8 z"/>"#
    );
}

/// At most `most` characters of a long name.
fn short(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars().take(most - 1).chain(['…']).collect()
}
