//! The year with hindsight: apply, ingest, training sets, training, optimism; and registering what was trained.

use std::collections::BTreeMap;
use std::time::Instant;

use domain::evaluation::{Evaluation, Scores};
use domain::gate::Verdict;
use frames::training_set::Manifest;
use reqwest::Method;
use serde_json::{Value, json};

use super::Stage;
use super::data::{Feed, sources};
use super::progress::Steps;
use crate::Failure;
use crate::report::{CurvePoint, GateReport, ModelReport, Optimism};

/// What the study found.
pub(super) struct Studied {
    pub(super) optimism: Optimism,
    pub(super) manifest: Manifest,
    pub(super) training_set: String,
    pub(super) models: Vec<Trained>,
}

/// What one training job answered.
pub(super) struct Trained {
    name: String,
    answer: Value,
}

/// A model that asked the gate.
pub(super) struct Registered {
    pub(super) report: ModelReport,
    pub(super) run_id: String,
}

pub(super) async fn run(
    stage: &Stage<'_>,
    files: &BTreeMap<String, String>,
    steps: &mut Steps,
) -> Result<Studied, Failure> {
    apply(stage, files, steps).await?;
    ingest(stage, steps).await?;
    let (training_set, manifest) = training_set(stage, "late_2h", steps).await?;
    if manifest.leaked_values != 0 {
        return Err(Failure(format!(
            "{} values come from the future: {:?}",
            manifest.leaked_values, manifest.leak_audit
        )));
    }
    let mut models = Vec::new();
    for name in ["late_fusion", "late_boosting"] {
        stage.check()?;
        models.push(train(stage, name, &training_set, steps).await?);
    }
    stage.check()?;
    let optimism = optimism(stage, steps).await?;
    Ok(Studied { optimism, manifest, training_set, models })
}

async fn apply(
    stage: &Stage<'_>,
    files: &BTreeMap<String, String>,
    steps: &mut Steps,
) -> Result<(), Failure> {
    let began = Instant::now();
    let answer = stage.client.apply(files, false).await?;
    let objects = answer["plan"].as_array().map_or(0, Vec::len);
    steps.done("apply the definitions", &format!("{objects} objects from {} files", files.len()), began);
    Ok(())
}

async fn ingest(stage: &Stage<'_>, steps: &mut Steps) -> Result<(), Failure> {
    let began = Instant::now();
    let folder = stage.options.example.join("definitions");
    let names = sources(stage.definitions);
    steps.doing("ingest", names.len() as u64);
    let mut rows = 0;
    for (at, name) in names.iter().enumerate() {
        stage.check()?;
        let feed = Feed::read(stage.definitions, name, &folder, stage.options.quick)?;
        let key = format!("demo-{name}");
        let answer = stage.client.push(name, &feed.rows, "offline", Some(&key)).await?;
        if answer["rejected_invalid"] != 0 {
            return Err(Failure(format!("rows of `{name}` were rejected: {}", answer["first_reason"])));
        }
        rows += feed.rows.rows();
        steps.at(at as u64 + 1);
    }
    let measured = format!("{rows} rows of {} sources, each known when it was learned", names.len());
    steps.done("ingest flights, weather, planes", &measured, began);
    Ok(())
}

async fn training_set(
    stage: &Stage<'_>,
    dataset: &str,
    steps: &mut Steps,
) -> Result<(String, Manifest), Failure> {
    let began = Instant::now();
    let outcome = stage.client.work("/v1/training-sets", &json!({ "dataset": dataset }), |_| {}).await?;
    let id = outcome["training_set"].as_str().unwrap_or_default().to_owned();
    let row = stage.client.json(Method::GET, &format!("/v1/training-sets/{id}"), None).await?;
    let manifest: Manifest = read(row["manifest"].clone(), "manifest")?;
    let windows: Vec<String> =
        manifest.windows.iter().map(|(window, found)| format!("{window:?} {}", found.rows)).collect();
    let measured = format!(
        "{} rows in, {} out, {} leaked values, {} features; {}",
        manifest.rows_in,
        manifest.rows_out,
        manifest.leaked_values,
        manifest.schema.len(),
        windows.join(", ").to_lowercase()
    );
    steps.done(&format!("training set `{dataset}`"), &measured, began);
    Ok((id, manifest))
}

async fn train(
    stage: &Stage<'_>,
    name: &str,
    training_set: &str,
    steps: &mut Steps,
) -> Result<Trained, Failure> {
    let began = Instant::now();
    let request = json!({ "model": name, "training_set": training_set });
    let stop = stage.stop.clone();
    let training = stage.client.work("/v1/training-jobs", &request, |reported| steps.training(reported));
    let answer = tokio::select! {
        answer = training => answer?,
        () = stop.cancelled() => return Err(Failure("stopped".to_owned())),
    };
    let evaluation: Evaluation = read(answer["evaluation"].clone(), "evaluation")?;
    let Scores { log_loss, ece, auc, .. } = evaluation.overall;
    let auc = auc.map_or_else(
        || "undefined".to_owned(),
        |auc| format!("{:.4} [{:.4}, {:.4}]", auc.value, auc.low, auc.high),
    );
    let measured = format!(
        "test AUC {auc}, log-loss {log_loss:.4}, ECE {ece:.4}, {} training rows",
        answer["train_rows"]
    );
    steps.done(&format!("train `{name}`, calibrate, evaluate"), &measured, began);
    Ok(Trained { name: name.to_owned(), answer })
}

async fn optimism(stage: &Stage<'_>, steps: &mut Steps) -> Result<Optimism, Failure> {
    let (training_set, _) = training_set(stage, "late_24h", steps).await?;
    let began = Instant::now();
    let request = json!({ "model": "late_day_ahead", "training_set": training_set });
    let answer = stage.client.work("/v1/optimism-reports", &request, |_| {}).await?;
    let random: Scores = read(answer["random"].clone(), "scores")?;
    let temporal: Scores = read(answer["temporal"].clone(), "scores")?;
    let auc = |scores: &Scores| scores.auc.map_or(f64::NAN, |auc| auc.value);
    let optimism = Optimism {
        random_auc: auc(&random),
        temporal_auc: auc(&temporal),
        random_ece: random.ece,
        temporal_ece: temporal.ece,
        random,
        temporal,
    };
    let measured = format!(
        "a random split claims AUC {:.3} and ECE {:.3}; the later truth is AUC {:.3} and ECE {:.3}",
        optimism.random_auc, optimism.random_ece, optimism.temporal_auc, optimism.temporal_ece
    );
    steps.done("optimism report, 24 hours ahead", &measured, began);
    Ok(optimism)
}

/// Registers each model through MLflow's routes and asks for the alias; the gate decides.
pub(super) async fn register(
    stage: &Stage<'_>,
    models: Vec<Trained>,
    steps: &mut Steps,
) -> Result<Vec<Registered>, Failure> {
    let mut registered = Vec::new();
    for trained in models {
        let began = Instant::now();
        let model = offer(stage, trained).await?;
        let gate = &model.report.gate;
        let measured = if gate.passed {
            format!("version {} passes the gate and is champion", model.report.version)
        } else {
            format!("version {} is refused: {}", model.report.version, gate.reasons)
        };
        steps.done(&format!("register `{}`", model.report.name), &measured, began);
        registered.push(model);
    }
    Ok(registered)
}

async fn offer(stage: &Stage<'_>, trained: Trained) -> Result<Registered, Failure> {
    const MLFLOW: &str = "/api/2.0/mlflow";
    let answer = &trained.answer;
    let model = answer["registered_model"].as_str().unwrap_or_default();
    let created = stage
        .client
        .call(Method::POST, &format!("{MLFLOW}/registered-models/create"), Some(&json!({ "name": model })))
        .await?;
    if !created.status.is_success() && created.body["error_code"] != "RESOURCE_ALREADY_EXISTS" {
        return Err(Failure(created.said()));
    }
    let version = json!({ "name": model, "source": answer["source"], "run_id": answer["run_id"] });
    let version =
        stage.client.json(Method::POST, &format!("{MLFLOW}/model-versions/create"), Some(&version)).await?;
    let version: i32 =
        version["model_version"]["version"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
    let alias = json!({ "name": model, "alias": "champion", "version": version.to_string() });
    let moved =
        stage.client.call(Method::POST, &format!("{MLFLOW}/registered-models/alias"), Some(&alias)).await?;
    if !moved.status.is_success() && moved.status.as_u16() != 409 {
        return Err(Failure(moved.said()));
    }
    let gate = GateReport {
        passed: moved.status.is_success(),
        reasons: if moved.status.is_success() { String::new() } else { moved.said() },
        verdict: verdict(stage, model, version).await?,
    };
    let report = model_report(&trained, version, gate)?;
    Ok(Registered { report, run_id: answer["run_id"].as_str().unwrap_or_default().to_owned() })
}

/// What the gate said of a version, from the registry's history.
async fn verdict(stage: &Stage<'_>, model: &str, version: i32) -> Result<Option<Verdict>, Failure> {
    let history = stage.client.json(Method::GET, &format!("/v1/models/{model}/history"), None).await?;
    let entries = history["history"].as_array().cloned().unwrap_or_default();
    let entry = entries.into_iter().rev().find(|entry| entry["to_version"] == version);
    Ok(entry.and_then(|entry| serde_json::from_value(entry["verdict"].clone()).ok()))
}

fn model_report(trained: &Trained, version: i32, gate: GateReport) -> Result<ModelReport, Failure> {
    let answer = &trained.answer;
    let evaluation: Evaluation = read(answer["evaluation"].clone(), "evaluation")?;
    let overall = &evaluation.overall;
    let (auc, auc_low, auc_high) =
        overall.auc.map_or((f64::NAN, f64::NAN, f64::NAN), |auc| (auc.value, auc.low, auc.high));
    let curve: Vec<CurvePoint> = read(answer["curve"].clone(), "curve")?;
    Ok(ModelReport {
        name: trained.name.clone(),
        kind: answer["kind"].as_str().unwrap_or_default().to_owned(),
        version,
        auc,
        auc_low,
        auc_high,
        log_loss: overall.log_loss,
        brier: overall.brier,
        ece: overall.ece,
        ece_null_high: overall.ece_null_high,
        ece_by_month: evaluation.by_month.iter().map(|(month, scores)| (month.clone(), scores.ece)).collect(),
        gate,
        train_rows: answer["train_rows"].as_u64().unwrap_or_default(),
        train_seconds: answer["seconds"].as_f64().unwrap_or_default(),
        curve,
        importance: read(answer["importance"].clone(), "importance")?,
        evaluation,
    })
}

/// Reads a part of an answer.
pub(super) fn read<T: serde::de::DeserializeOwned>(value: Value, what: &str) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| Failure(format!("the {what} cannot be read: {error}")))
}
