//! What a card says, gathered from evidence.

use domain::evaluation::{Evaluation, Interval, Scores};
use serde_json::Value;
use storage::models::Version;
use storage::tracking;

use super::render::Block;
use crate::aliases::evidence_of;
use crate::files::frozen;
use crate::lineage::{self, Lineage};
use crate::{Error, Registry};

/// The blocks of the card of a version.
pub(super) async fn gather(registry: &Registry, version: &Version) -> Result<Vec<Block>, Error> {
    let lineage = lineage::of(registry, version).await?;
    let mut conn = registry.context.db.acquire().await?;
    let evidence = evidence_of(&mut conn, registry.project(), version).await?;
    let runs: Vec<String> = version.run_id.iter().cloned().collect();
    let logged = tracking::contents_of(&mut conn, registry.project(), &runs).await?;
    let params = logged.into_iter().flat_map(|logged| logged.params).collect();
    let manifest = match &evidence {
        Some(evidence) => storage::training_sets::get(&mut conn, registry.project(), evidence.training_set)
            .await
            .map(|set| set.manifest)
            .unwrap_or_default(),
        None => Value::Null,
    };
    drop(conn);
    let mut blocks = vec![Block::Heading(1, format!("{} version {}", version.model, version.version))];
    blocks.extend(identity(version, &lineage, params));
    blocks.extend(learned_from(&lineage, &manifest));
    match &evidence {
        Some(evidence) => blocks.extend(judged(evidence)),
        None => blocks.extend([
            Block::Heading(2, "Evaluation".into()),
            Block::Text(
                "This version was never evaluated on later data: nothing is known of how it predicts.".into(),
            ),
        ]),
    }
    blocks.extend(limits(evidence.as_ref()));
    blocks.extend(files(registry, version).await?);
    Ok(blocks)
}

fn fact(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

fn identity(version: &Version, lineage: &Lineage, params: Vec<(String, String)>) -> Vec<Block> {
    let mut facts = vec![fact("Source", &version.source)];
    if !version.description.is_empty() {
        facts.push(fact("Description", &version.description));
    }
    if let Some(run) = &lineage.run {
        facts.push(fact("Run", format!("{} ({})", run.run_id, run.name)));
    }
    let mut blocks = vec![Block::Heading(2, "What it is".into()), Block::Facts(facts)];
    if !params.is_empty() {
        let rows = params.into_iter().map(|(key, value)| vec![key, value]).collect();
        blocks.push(Block::Table(vec!["Parameter".into(), "Value".into()], rows));
    }
    blocks
}

fn learned_from(lineage: &Lineage, manifest: &Value) -> Vec<Block> {
    let mut blocks = vec![Block::Heading(2, "What it learned from".into())];
    if let Some(set) = &lineage.training_set {
        let number =
            |number: Option<i64>| number.map_or_else(|| "unknown".to_owned(), |number| number.to_string());
        let mut facts = vec![
            fact("Dataset", &set.dataset),
            fact("Training set", set.training_set_id.to_string()),
            fact("Rows", number(set.rows)),
            fact("Holds what was ingested up to", number(set.max_seq)),
        ];
        facts.extend(set.sha256.iter().map(|hash| fact("SHA-256", hash)));
        if let Some(leaked) = manifest["leaked_values"].as_u64() {
            facts.push(fact("Values from the future (leak audit)", leaked.to_string()));
        }
        blocks.push(Block::Facts(facts));
    }
    if !lineage.views.is_empty() {
        let rows = lineage
            .views
            .iter()
            .map(|view| vec![view.view.clone(), view.view_version.to_string(), view.parts.len().to_string()]);
        let columns = ["View", "Version", "Parts"].map(str::to_owned).to_vec();
        blocks.push(Block::Table(columns, rows.collect()));
    }
    if !lineage.inputs.is_empty() {
        let rows = lineage.inputs.iter().map(|input| {
            vec![input.kind.clone(), input.name.clone(), input.sha256.clone().unwrap_or_default()]
        });
        let columns = ["Kind", "Input", "SHA-256"].map(str::to_owned).to_vec();
        blocks.push(Block::Table(columns, rows.collect()));
    }
    if blocks.len() == 1 {
        blocks.push(Block::Text("Nobody said what it learned from.".into()));
    }
    blocks
}

fn judged(evidence: &Evaluation) -> Vec<Block> {
    let calibrator = &evidence.calibrator;
    let kept = if calibrator.kept { "kept" } else { "not kept" };
    let facts = vec![
        fact("Learned from outcomes through", evidence.trained_through.to_string()),
        fact("Judged on cutoffs", format!("{} to {}", evidence.evaluated_from, evidence.evaluated_through)),
        fact(
            "Calibrator",
            format!(
                "{}, {kept}: log-loss of a later window {:.4} without it, {:.4} with it",
                calibrator.kind, calibrator.log_loss_without, calibrator.log_loss_with
            ),
        ),
    ];
    let mut rows = vec![scores("all", &evidence.overall)];
    rows.extend(evidence.by_month.iter().map(|(month, found)| scores(month, found)));
    let columns =
        ["Window", "Rows", "Base rate", "AUC", "Log-loss", "Brier", "ECE", "ECE by chance", "Slope"];
    let mut blocks = vec![
        Block::Heading(2, "Evaluation".into()),
        Block::Facts(facts),
        Block::Table(columns.map(str::to_owned).to_vec(), rows),
    ];
    if !evidence.reliability.is_empty() {
        let rows = evidence
            .reliability
            .iter()
            .map(|bin| vec![format!("{:.3}", bin.predicted), interval(bin.observed), bin.rows.to_string()]);
        let columns = ["Predicted", "Came true", "Rows"].map(str::to_owned).to_vec();
        blocks.extend([Block::Heading(3, "Reliability".into()), Block::Table(columns, rows.collect())]);
    }
    blocks
}

fn scores(window: &str, scores: &Scores) -> Vec<String> {
    vec![
        window.to_owned(),
        scores.rows.to_string(),
        format!("{:.4}", scores.base_rate),
        scores.auc.map_or_else(|| "undefined".to_owned(), interval),
        format!("{:.4}", scores.log_loss),
        format!("{:.4}", scores.brier),
        format!("{:.4}", scores.ece),
        format!("{:.4}", scores.ece_null_high),
        scores.slope.map_or_else(|| "undefined".to_owned(), |slope| format!("{slope:.3}")),
    ]
}

fn interval(Interval { value, low, high }: Interval) -> String {
    format!("{value:.4} [{low:.4}, {high:.4}]")
}

fn limits(evidence: Option<&Evaluation>) -> Vec<Block> {
    let mut said = vec![
        "Intervals are at 95 %. A model is known to predict only what resembles the rows it was judged on."
            .to_owned(),
    ];
    if let Some(evidence) = evidence {
        said.push(format!(
            "Nothing is known of it before {} and after {}, but for what its monitors found since.",
            evidence.evaluated_from, evidence.evaluated_through
        ));
        if evidence.overall.ece > evidence.overall.ece_null_high {
            said.push(
                "Its probabilities were off by more than chance explains: read the reliability table before relying on one."
                    .to_owned(),
            );
        }
    }
    let mut blocks = vec![Block::Heading(2, "Limits".into())];
    blocks.extend(said.into_iter().map(Block::Text));
    blocks
}

async fn files(registry: &Registry, version: &Version) -> Result<Vec<Block>, Error> {
    let files = match frozen(registry, version).await {
        Ok(files) => files,
        Err(Error::Invalid(_)) => return Ok(vec![]), // they are elsewhere
        Err(error) => return Err(error),
    };
    let rows = files.into_iter().map(|file| vec![file.path, file.size_bytes.to_string(), file.sha256]);
    let columns = ["File", "Bytes", "SHA-256"].map(str::to_owned).to_vec();
    Ok(vec![Block::Heading(2, "Files".into()), Block::Table(columns, rows.collect())])
}
