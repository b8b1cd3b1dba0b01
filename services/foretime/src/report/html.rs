//! The findings of a run as one page: no script, no network, nothing beside the file.
//!
//! Belongs here: sections and tables. Not here: charts (`plots`), the graph of lineage (`lineage`), colours (`page.css`).
//! Every piece of text goes through [`text`] before it becomes part of the page.

use std::fmt::{Display, Write};

use super::{IncidentReport, ModelReport, Report, lineage, plots};

const STYLE: &str = include_str!("page.css");

/// A section: its anchor, its title, and its body.
struct Section {
    id: &'static str,
    title: &'static str,
    body: String,
}

/// The whole page.
pub fn html(report: &Report) -> String {
    let sections = sections(report);
    let menu: String =
        sections.iter().map(|section| format!(r##"<a href="#{}">{}</a>"##, section.id, section.id)).collect();
    let bodies: String = sections.iter().map(section).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Foretime: what this run found</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header><div><h1>Foretime: what this run found</h1><p>{}</p><nav>{menu}</nav></div></header>\n\
         <main>\n{}\n{bodies}<footer>All times are UTC. Intervals are 95 %.</footer>\n</main>\n</body>\n</html>\n",
        subtitle(report),
        tiles(report),
    )
}

/// What may stand in the page: `<`, `>`, `&` and quotes mean nothing any more.
pub(super) fn text(value: &(impl Display + ?Sized)) -> String {
    let mut safe = String::new();
    for letter in value.to_string().chars() {
        match letter {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

fn sections(report: &Report) -> Vec<Section> {
    let all = [
        ("optimism", "What a random split would have claimed", optimism(report)),
        ("models", "Models and their gates", models(report)),
        ("reliability", "Does a probability mean what it says?", reliability(report)),
        ("training", "Training curves", training(report)),
        ("importance", "Which inputs mattered", importance(report)),
        ("drift", "The replay, day by day", drift(report)),
        ("columns", "Drift of the inputs by month", columns(report)),
        ("incidents", "Incidents", incidents(report)),
        ("retraining", "Retraining", retraining(report)),
        ("lineage", "Where the champion comes from", origin(report)),
        ("steps", "What was done", steps(report)),
    ];
    all.into_iter()
        .filter(|(_, _, body)| !body.is_empty())
        .map(|(id, title, body)| Section { id, title, body })
        .collect()
}

fn section(section: &Section) -> String {
    format!("<section id=\"{}\"><h2>{}</h2>\n{}</section>\n", section.id, section.title, section.body)
}

fn subtitle(report: &Report) -> String {
    let kind = if report.quick { "A quick run on a sample" } else { "A whole run" };
    format!(
        "{kind}: {} seconds, at most {} MB of memory. Champion: {}.",
        number(report.seconds, 1),
        number(report.peak_rss_mb, 0),
        text(&report.champion)
    )
}

fn tiles(report: &Report) -> String {
    let champion = report.models.iter().rev().find(|model| model.gate.passed);
    let mut tiles = vec![
        (grouped(report.rows_out), "training rows, point in time".to_owned()),
        (grouped(report.leaked_values), "values from the future".to_owned()),
        (grouped(report.incidents.len() as u64), "incidents".to_owned()),
        (grouped(report.notifications_delivered), "notifications delivered".to_owned()),
    ];
    if let Some(model) = champion {
        let interval = format!("AUC of v{}, {}", model.version, interval(model.auc_low, model.auc_high));
        tiles.insert(2, (number(model.auc, 3), interval));
        let null = format!("its calibration error (chance: up to {})", number(model.ece_null_high, 4));
        tiles.insert(3, (number(model.ece, 4), null));
    }
    let tiles: String = tiles
        .iter()
        .map(|(value, says)| {
            format!(r#"<div class="tile"><b>{}</b><span>{}</span></div>"#, text(value), text(says))
        })
        .collect();
    format!(r#"<div class="tiles">{tiles}</div>"#)
}

fn optimism(report: &Report) -> String {
    let found = &report.optimism;
    format!(
        "{}{}<table><tr><th></th>{}</tr>{}{}</table>",
        lead(
            "The same model, 24 hours ahead, judged on rows drawn at random among its training days and on rows later than \
             all of them. The difference is what shuffling would have promised and time would have taken back."
        ),
        plots::optimism(found),
        numbers_head(&["rows", "base rate", "AUC", "log-loss", "Brier", "ECE"]),
        scores_row("random split", &found.random),
        scores_row("later data", &found.temporal),
    )
}

fn scores_row(name: &str, scores: &domain::evaluation::Scores) -> String {
    let auc = scores.auc.as_ref().map_or_else(
        || "–".to_owned(),
        |auc| format!("{} <small>{}</small>", number(auc.value, 3), interval(auc.low, auc.high)),
    );
    let cells = [
        grouped(scores.rows),
        number(scores.base_rate, 3),
        auc,
        number(scores.log_loss, 4),
        number(scores.brier, 4),
        number(scores.ece, 4),
    ];
    format!("<tr><td>{}</td>{}</tr>", text(name), numbers(&cells))
}

fn models(report: &Report) -> String {
    let rows: String = report.models.iter().map(model_row).collect();
    let checks: String = report.models.iter().map(checks).collect();
    format!(
        "{}<table><tr><th>model</th>{}<th>gate</th></tr>{rows}</table>{checks}",
        lead(
            "In the order in which they asked to become champion. Every score is on days later than all that the model saw."
        ),
        numbers_head(&["AUC", "log-loss", "Brier", "ECE", "train rows", "seconds"]),
    )
}

fn model_row(model: &ModelReport) -> String {
    let cells = [
        format!("{}<br><small>{}</small>", number(model.auc, 3), interval(model.auc_low, model.auc_high)),
        number(model.log_loss, 4),
        number(model.brier, 4),
        format!("{}<br><small>chance: ≤ {}</small>", number(model.ece, 4), number(model.ece_null_high, 4)),
        grouped(model.train_rows),
        number(model.train_seconds, 1),
    ];
    let calibrator = &model.evaluation.calibrator;
    let kept = if calibrator.kept { "kept" } else { "not kept" };
    format!(
        "<tr><td><b>{}</b> v{}<br><small>{}; {} {kept}</small></td>{}<td>{}</td></tr>",
        text(&model.name),
        model.version,
        text(&model.kind),
        text(&calibrator.kind),
        numbers(&cells),
        verdict(model.gate.passed),
    )
}

fn checks(model: &ModelReport) -> String {
    let heading = format!("<h3>{} v{} at the gate</h3>", text(&model.name), model.version);
    let Some(verdict) = &model.gate.verdict else {
        let says =
            if model.gate.reasons.is_empty() { "No evidence was returned." } else { &model.gate.reasons };
        return format!("{heading}<p>{}</p>", text(says));
    };
    let rows: String = verdict
        .checks
        .iter()
        .map(|check| {
            format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
                self::verdict(check.passed),
                text(&check.check),
                text(&check.evidence)
            )
        })
        .collect();
    format!("{heading}<table><tr><th></th><th>check</th><th>evidence</th></tr>{rows}</table>")
}

fn verdict(passed: bool) -> &'static str {
    if passed {
        r#"<span class="badge good">passed</span>"#
    } else {
        r#"<span class="badge bad">refused</span>"#
    }
}

fn reliability(report: &Report) -> String {
    let diagrams = figures(report.models.iter().map(|model| (label(model), plots::reliability(model))));
    let months: Vec<&String> = report.models.iter().flat_map(|model| model.ece_by_month.keys()).collect();
    let by_month = if months.is_empty() { String::new() } else { ece_by_month(&report.models) };
    lead(
        "On the diagonal, three of ten flights called 30 % come late. The band is what that many rows can tell.",
    ) + &diagrams
        + &by_month
}

fn ece_by_month(models: &[ModelReport]) -> String {
    let months: std::collections::BTreeSet<&str> =
        models.iter().flat_map(|model| model.ece_by_month.keys().map(String::as_str)).collect();
    let rows: String = models
        .iter()
        .map(|model| {
            let errors: Vec<String> = months
                .iter()
                .map(|month| {
                    model.ece_by_month.get(*month).map_or("–".to_owned(), |error| number(*error, 4))
                })
                .collect();
            format!("<tr><td>{}</td>{}</tr>", label(model), numbers(&errors))
        })
        .collect();
    let head = numbers_head(&months.into_iter().collect::<Vec<_>>());
    format!("<h3>Expected calibration error by month</h3><table><tr><th>model</th>{head}</tr>{rows}</table>")
}

fn training(report: &Report) -> String {
    let taught: Vec<&ModelReport> = report.models.iter().filter(|model| !model.curve.is_empty()).collect();
    if taught.is_empty() {
        return lead("No model of this run reported a curve.");
    }
    figures(taught.into_iter().map(|model| (label(model), plots::curves(&model.curve))))
}

fn importance(report: &Report) -> String {
    let tables = report.models.iter().filter(|model| !model.importance.is_empty()).map(|model| {
        let most = model.importance.iter().map(|(_, share)| *share).fold(f64::MIN_POSITIVE, f64::max);
        let rows: String =
            model.importance.iter().take(12).map(|(name, share)| bar(name, *share, most)).collect();
        (label(model), format!("<table>{rows}</table>"))
    });
    figures(tables)
}

fn bar(name: &str, share: f64, most: f64) -> String {
    let width = if share.is_finite() { (share / most * 260.0).clamp(0.0, 260.0) } else { 0.0 };
    format!(
        r#"<tr><td>{}</td><td><span class="bar" style="width:{width:.0}px"></span></td><td class="n">{}</td></tr>"#,
        text(name),
        number(share, 3)
    )
}

fn drift(report: &Report) -> String {
    let lead = lead(
        "What the champion answered against what came true, and the inputs that had moved away from the training window. \
         Vertical lines are incidents, where they began.",
    );
    if report.days.is_empty() {
        return lead + "<p>No day was replayed.</p>";
    }
    let key = r#"<p class="key"><span class="truth">came late</span><span class="claim">mean predicted probability</span></p>"#;
    lead + key + &plots::over_time(&report.days, &report.incidents)
}

fn columns(report: &Report) -> String {
    if report.drift_by_month.is_empty() {
        return String::new();
    }
    let months: std::collections::BTreeSet<&str> =
        report.drift_by_month.values().flat_map(|by_month| by_month.keys().map(String::as_str)).collect();
    let head: String = months.iter().map(|month| format!("<th>{}</th>", text(month))).collect();
    let most = |column: &str| report.drift_by_month[column].values().copied().fold(0.0, f64::max);
    let mut moved: Vec<&String> = report.drift_by_month.keys().filter(|column| most(column) > 0.0).collect();
    moved.sort_by(|a, b| most(b).total_cmp(&most(a)));
    let mut rows = String::new();
    for column in &moved {
        let by_month = &report.drift_by_month[*column];
        let cells: String = months.iter().map(|month| heat(by_month.get(*month).copied())).collect();
        let _ = write!(rows, "<tr><td>{}</td>{cells}</tr>", text(column));
    }
    let still = report.drift_by_month.len() - moved.len();
    lead("Share of a month's windows in which a column was called drifted, most first.")
        + &format!(r#"<table class="heat"><tr><th></th>{head}</tr>{rows}</table>"#)
        + &format!("<p>{still} of {} columns never were.</p>", report.drift_by_month.len())
}

fn heat(share: Option<f64>) -> String {
    let Some(share) = share.filter(|share| share.is_finite()) else { return "<td>–</td>".to_owned() };
    let (alpha, ink) = (share.clamp(0.0, 1.0), if share > 0.55 { "#fff" } else { "#1b2733" });
    format!(r#"<td style="background:rgba(190,38,51,{alpha:.2});color:{ink}">{:.0} %</td>"#, share * 100.0)
}

fn incidents(report: &Report) -> String {
    if report.incidents.is_empty() {
        return "<p>The monitors opened none.</p>".to_owned();
    }
    let rows: String = report.incidents.iter().map(incident_row).collect();
    format!(
        "<table><tr><th>severity</th><th>cause</th><th>what it says</th><th>first seen</th><th>state</th></tr>{rows}</table>"
    )
}

fn incident_row(incident: &IncidentReport) -> String {
    let resolved =
        incident.resolved_at.as_ref().map_or(String::new(), |at| format!("<br><small>{}</small>", text(at)));
    format!(
        "<tr><td><span class=\"badge {0}\">{0}</span></td><td>{1}</td><td>{2}<br><small><code>{3}</code></small></td>\
         <td>{4}</td><td>{5}{resolved}</td></tr>",
        text(&incident.severity),
        text(&incident.cause),
        text(&incident.summary),
        text(&incident.id),
        text(&incident.first_seen),
        text(&incident.state),
    )
}

fn retraining(report: &Report) -> String {
    let found = &report.retraining;
    let version = found.version.map_or("none".to_owned(), |version| format!("v{version}"));
    definitions(&[
        ("triggered by", text(&found.triggered_by)),
        ("new version", version),
        ("gate", text(&found.gate)),
        ("outcome", text(&found.outcome)),
    ])
}

fn origin(report: &Report) -> String {
    let from = &report.lineage;
    let facts = definitions(&[
        ("version", text(&from.model_version)),
        ("run", format!("<code>{}</code>", text(&from.run_id))),
        ("training set", format!("<code>{}</code>", text(&from.training_set))),
        ("sha256 of its file", format!("<code>{}</code>", text(&from.sha256))),
        ("ingested up to", format!("seq {}", from.max_seq)),
        ("rows", format!("{} in, {} out", grouped(report.rows_in), grouped(report.rows_out))),
    ]);
    lineage::graph(from) + &facts
}

fn steps(report: &Report) -> String {
    let rows: String = report
        .steps
        .iter()
        .map(|step| {
            let seconds = number(step.seconds, 2);
            format!(
                "<tr><td>{}</td><td>{}</td><td class=\"n\">{seconds}</td></tr>",
                text(&step.name),
                text(&step.measured)
            )
        })
        .collect();
    format!("<table><tr><th>step</th><th>measured</th><th class=\"n\">seconds</th></tr>{rows}</table>")
}

fn label(model: &ModelReport) -> String {
    format!("{} v{}", text(&model.name), model.version)
}

fn lead(says: &str) -> String {
    format!(r#"<p class="lead">{}</p>"#, text(says))
}

fn figures(figures: impl Iterator<Item = (String, String)>) -> String {
    let figures: String = figures
        .map(|(caption, body)| format!("<figure><figcaption>{caption}</figcaption>{body}</figure>"))
        .collect();
    if figures.is_empty() { figures } else { format!(r#"<div class="figures">{figures}</div>"#) }
}

fn definitions(pairs: &[(&str, String)]) -> String {
    let pairs: String =
        pairs.iter().map(|(name, says)| format!("<dt>{}</dt><dd>{says}</dd>", text(name))).collect();
    format!("<dl>{pairs}</dl>")
}

fn numbers(cells: &[String]) -> String {
    cells.iter().map(|cell| format!("<td class=\"n\">{cell}</td>")).collect()
}

fn numbers_head(names: &[&str]) -> String {
    names.iter().map(|name| format!("<th class=\"n\">{}</th>", text(name))).collect()
}

fn interval(low: f64, high: f64) -> String {
    format!("{} to {}", number(low, 3), number(high, 3))
}

fn number(value: f64, digits: usize) -> String {
    if value.is_finite() { format!("{value:.digits$}") } else { "–".to_owned() }
}

/// `327346` as `327,346`.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
