//! One document, written twice: as Markdown and as a page that stands alone.

use std::fmt::Write;

/// A piece of a document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Block {
    /// A heading; 1 is the title.
    Heading(u8, String),
    /// Running text.
    Text(String),
    /// Names and what they are.
    Facts(Vec<(String, String)>),
    /// Column names, and rows of as many cells.
    Table(Vec<String>, Vec<Vec<String>>),
}

/// The document as GitHub-flavoured Markdown.
pub(super) fn markdown(blocks: &[Block]) -> String {
    let mut text = String::new();
    for block in blocks {
        match block {
            Block::Heading(level, title) => {
                let _ = writeln!(text, "{} {}\n", "#".repeat(usize::from(*level)), plain(title));
            }
            Block::Text(words) => {
                let _ = writeln!(text, "{}\n", plain(words));
            }
            Block::Facts(facts) => {
                for (name, value) in facts {
                    let _ = writeln!(text, "- **{}**: {}", plain(name), plain(value));
                }
                text.push('\n');
            }
            Block::Table(columns, rows) => markdown_table(&mut text, columns, rows),
        }
    }
    text
}

fn markdown_table(text: &mut String, columns: &[String], rows: &[Vec<String>]) {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| plain(cell)).collect();
        format!("| {} |", cells.join(" | "))
    };
    let _ = writeln!(text, "{}\n|{}", line(columns), "---|".repeat(columns.len()));
    for row in rows {
        let _ = writeln!(text, "{}", line(row));
    }
    text.push('\n');
}

/// Text in which no character means anything to Markdown or to a page that shows it.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '`' | '*' | '[' | ']' | '|' | '#' => plain.extend(['\\', character]),
            '<' => plain.push_str("&lt;"),
            '&' => plain.push_str("&amp;"),
            '\n' | '\r' => plain.push(' '),
            other => plain.push(other),
        }
    }
    plain
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color:#1b2230}table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #ccd3df;padding:.3rem .6rem;\
text-align:left;font-variant-numeric:tabular-nums}th{background:#f4f6fa}dt{font-weight:600}dd{margin:0 0 .5rem;\
overflow-wrap:anywhere}h1,h2{line-height:1.2}";

/// The document as a page without anything to load.
pub(super) fn html(title: &str, blocks: &[Block]) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title><style>{STYLE}</style></head><body>",
        escaped(title)
    );
    for block in blocks {
        match block {
            Block::Heading(level, title) => {
                let _ = write!(page, "<h{level}>{}</h{level}>", escaped(title));
            }
            Block::Text(words) => {
                let _ = write!(page, "<p>{}</p>", escaped(words));
            }
            Block::Facts(facts) => {
                page.push_str("<dl>");
                for (name, value) in facts {
                    let _ = write!(page, "<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(value));
                }
                page.push_str("</dl>");
            }
            Block::Table(columns, rows) => html_table(&mut page, columns, rows),
        }
    }
    page.push_str("</body></html>");
    page
}

fn html_table(page: &mut String, columns: &[String], rows: &[Vec<String>]) {
    let cells = |tag: &str, cells: &[String]| -> String {
        cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect()
    };
    let _ = write!(page, "<table><thead><tr>{}</tr></thead><tbody>", cells("th", columns));
    for row in rows {
        let _ = write!(page, "<tr>{}</tr>", cells("td", row));
    }
    page.push_str("</tbody></table>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Vec<Block> {
        vec![
            Block::Heading(1, "late <1>".into()),
            Block::Facts(vec![("run".into(), "a|b".into())]),
            Block::Table(vec!["AUC".into()], vec![vec!["0.76 [0.75, 0.77]".into()]]),
        ]
    }

    #[test]
    fn markdown_keeps_its_tables_whatever_the_cells_hold() {
        let text = markdown(&document());
        assert!(text.starts_with("# late &lt;1>\n\n- **run**: a\\|b\n"), "{text}");
        assert!(text.contains("| AUC |\n|---|\n| 0.76 \\[0.75, 0.77\\] |"), "{text}");
    }

    #[test]
    fn the_page_shows_markup_as_text() {
        let page = html("<x>", &document());
        assert!(
            page.contains("<h1>late &lt;1&gt;</h1>") && page.contains("<td>0.76 [0.75, 0.77]</td>"),
            "{page}"
        );
        assert!(!page.contains("<x>"));
    }
}
