//! A report as a page that stands alone.

use std::fmt::Write;

use super::plots::{bars, escaped};
use super::{ColumnReport, ColumnVerdict, Report, Together};

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1b2230}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}td,th{padding:.3rem .6rem;text-align:left;\
border-bottom:1px solid #dde2ea}section{margin:1.5rem 0;padding:1rem;border:1px solid #dde2ea;border-radius:8px}\
.ok{color:#1a7f45}.drift{color:#b3261e}.broken{color:#8a1c7c}.insufficient{color:#6b7280}details{margin-top:.5rem}";

/// The report as HTML, without anything to load.
pub fn page(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Comparison</title><style>{STYLE}</style></head><body><h1>Comparison</h1>"
    );
    let drifted = report.columns.iter().filter(|column| column.verdict == ColumnVerdict::Drift).count();
    let _ = write!(
        page,
        "<p>{} rows beside {} of the reference; {drifted} of {} columns drifted. Drift is an effect above {} at level {}.</p>",
        report.rows_current,
        report.rows_reference,
        report.columns.len(),
        report.bounds.min_effect,
        report.bounds.alpha
    );
    overview(&mut page, report);
    if let Some(together) = &report.together {
        in_words(&mut page, together);
    }
    let mut columns: Vec<&ColumnReport> = report.columns.iter().collect();
    columns.sort_by_key(|column| std::cmp::Reverse(column.verdict));
    columns.into_iter().for_each(|column| section(&mut page, column));
    page.push_str("</body></html>");
    page
}

fn overview(page: &mut String, report: &Report) {
    page.push_str(
        "<table><thead><tr><th>Column</th><th>Kind</th><th>Verdict</th><th>Effect</th></tr></thead><tbody>",
    );
    for column in &report.columns {
        let _ = write!(
            page,
            "<tr><td><a href=\"#{0}\">{0}</a></td><td>{1}</td><td>{2}</td><td>{3}</td></tr>",
            escaped(&column.name),
            column.kind,
            verdict(column.verdict),
            effect(column)
        );
    }
    page.push_str("</tbody></table>");
}

fn in_words(page: &mut String, together: &Together) {
    let _ = write!(
        page,
        "<section><h2>{} columns of numbers together · {}</h2><p>A classifier tells current rows from the reference's with an \
         AUC of {:.4} [{:.4}, {:.4}]; 0.5 is not at all. Rows lie {:.4} standard deviations from the reference's principal \
         components, those of the reference {:.4}.</p></section>",
        together.columns,
        verdict(together.verdict),
        together.domain_classifier_auc,
        together.auc_low,
        together.auc_high,
        together.reconstruction_error_current,
        together.reconstruction_error_reference
    );
}

fn verdict(verdict: ColumnVerdict) -> &'static str {
    match verdict {
        ColumnVerdict::Ok => "<span class=\"ok\">ok</span>",
        ColumnVerdict::InsufficientData => "<span class=\"insufficient\">insufficient data</span>",
        ColumnVerdict::Drift => "<span class=\"drift\">drift</span>",
        ColumnVerdict::Broken => "<span class=\"broken\">broken</span>",
    }
}

fn effect(column: &ColumnReport) -> String {
    match (column.effect, column.effect_low, column.effect_high) {
        (Some(effect), Some(low), Some(high)) => format!("{effect:.4} [{low:.4}, {high:.4}]"),
        _ => "–".to_owned(),
    }
}

fn section(page: &mut String, column: &ColumnReport) {
    let _ = write!(
        page,
        "<section id=\"{0}\"><h2>{0} · {1}</h2>{2}<ul>",
        escaped(&column.name),
        verdict(column.verdict),
        bars(column)
    );
    for cause in &column.causes {
        let p = cause.p_value.map(|p| format!(" (p = {p:.2e})")).unwrap_or_default();
        let _ = write!(page, "<li><b>{}</b>: {}{p}</li>", escaped(&cause.name), escaped(&cause.evidence));
    }
    page.push_str("</ul><details><summary>measures</summary><table>");
    for (name, value) in &column.measures {
        let _ = write!(page, "<tr><td>{}</td><td>{value}</td></tr>", escaped(name));
    }
    page.push_str("</table></details></section>");
}
