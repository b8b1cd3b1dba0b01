//! `foretime registry …`: what serves, how it came to serve, and how to change that.

use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Subcommand;
use domain::ids::TrainingSetId;
use reqwest::Method;
use serde_json::{Value, json};
use service_kit::Config;

use crate::Failure;
use crate::client::{Client, part};
use crate::dataset::training_set;

/// Models, aliases and their history.
#[derive(Debug, Subcommand)]
pub(crate) enum Registry {
    /// List the registered models, their versions and aliases.
    List,
    /// Show every move of a model's aliases, and what the gates said.
    History {
        /// The registered model.
        model: String,
    },
    /// Say which version an alias pointed at at a moment.
    At {
        /// The registered model.
        model: String,
        /// The moment, such as `2013-11-05T00:00:00Z`.
        time: String,
        /// The alias.
        #[arg(long, default_value = "champion")]
        alias: String,
    },
    /// Point an alias at a version, if its gate passes.
    Promote {
        /// The registered model.
        model: String,
        /// The version.
        version: i32,
        /// The alias.
        #[arg(long, default_value = "champion")]
        alias: String,
        /// Why; it stays in the history.
        #[arg(long)]
        reason: Option<String>,
        /// Ask the gate, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Move even if the gate refuses; needs an administrator and a reason.
        #[arg(long = "override", requires = "reason")]
        override_gate: bool,
    },
    /// Point an alias again at what it pointed at before.
    Rollback {
        /// The registered model.
        model: String,
        /// The alias.
        #[arg(long, default_value = "champion")]
        alias: String,
        /// Why; it stays in the history.
        #[arg(long)]
        reason: String,
    },
    /// Judge a version that was trained elsewhere, so that a gate can: what it foretold of rows of its training set, beside
    /// what that set says came true.
    Judge {
        /// The registered model.
        model: String,
        /// The version.
        version: i32,
        /// The training set that it learned from.
        #[arg(long, value_parser = training_set)]
        training_set: TrainingSetId,
        /// The newest outcome that training, early stopping or calibration saw, such as `2013-10-31T00:00:00Z`.
        #[arg(long)]
        trained_through: DateTime<Utc>,
        /// A Parquet or Arrow file with the columns `row` and `cutoff` (or `__row` and `__cutoff`, as the exported set names
        /// them) and `probability`.
        #[arg(long)]
        predictions: PathBuf,
    },
    /// Re-compute the history's chain of hashes; with a version, read and hash everything behind it again.
    Verify {
        /// The registered model.
        model: String,
        /// The version.
        version: Option<i32>,
    },
    /// Show where a version comes from.
    Lineage {
        /// The registered model.
        model: String,
        /// The version.
        version: i32,
        /// Draw it into this file instead, as SVG.
        #[arg(long)]
        svg: Option<PathBuf>,
    },
    /// Write a version's model card into a file: HTML, or Markdown if its name ends in `.md`.
    Card {
        /// The registered model.
        model: String,
        /// The version.
        version: i32,
        /// The file.
        #[arg(long)]
        out: PathBuf,
    },
    /// Sign a version's files, and write the bundle and the public key beside each other.
    Sign {
        /// The registered model.
        model: String,
        /// The version.
        version: i32,
        /// The bundle; the key goes beside it as `.pub`.
        #[arg(long, default_value = "model.sig")]
        out: PathBuf,
    },
}

/// Does what was asked.
pub(crate) async fn run(config: &Config, asked: Registry) -> Result<(), Failure> {
    let client = Client::of(config)?;
    match asked {
        Registry::List => list(&client).await,
        Registry::History { model } => history(&client, &model).await,
        Registry::At { model, time, alias } => at(&client, &model, &time, &alias).await,
        Registry::Promote { model, version, alias, reason, dry_run, override_gate } => {
            let body = json!({ "version": version, "reason": reason, "override": override_gate });
            let path = format!("/v1/models/{}/aliases/{}?dry_run={dry_run}", part(&model), part(&alias));
            promoted(&client, &path, &body, dry_run).await
        }
        Registry::Rollback { model, alias, reason } => {
            let path = format!("/v1/models/{}/aliases/{}/rollback", part(&model), part(&alias));
            let answer = client.post(&path, &json!({ "reason": reason })).await?;
            println!("{alias} of {model}: version {} → {}", answer["from_version"], answer["version"]);
            Ok(())
        }
        Registry::Judge { model, version, training_set, trained_through, predictions } => {
            let path = behind(&model, version, "evidence");
            let through = trained_through.to_rfc3339_opts(SecondsFormat::Micros, true);
            let path = format!("{path}?training_set={training_set}&trained_through={through}");
            judge(&client, &path, &predictions).await
        }
        Registry::Verify { model, version: None } => verify_history(&client, &model).await,
        Registry::Verify { model, version: Some(version) } => verify_version(&client, &model, version).await,
        Registry::Lineage { model, version, svg: None } => {
            let lineage = client.json(Method::GET, &behind(&model, version, "lineage"), None).await?;
            println!("{}", pretty(&lineage));
            Ok(())
        }
        Registry::Lineage { model, version, svg: Some(file) } => {
            keep(&file, &client.text(&behind(&model, version, "lineage.svg")).await?)
        }
        Registry::Card { model, version, out } => {
            let markdown = out.extension().is_some_and(|extension| extension == "md");
            let format = if markdown { "markdown" } else { "html" };
            let path = behind(&model, version, &format!("card?format={format}"));
            keep(&out, &client.text(&path).await?)
        }
        Registry::Sign { model, version, out } => sign(&client, &model, version, out).await,
    }
}

async fn judge(client: &Client, path: &str, predictions: &Path) -> Result<(), Failure> {
    let foretold = match predictions.extension().and_then(|extension| extension.to_str()) {
        Some("parquet") => frames::files::read_parquet(predictions)?,
        _ => frames::files::read_arrow(predictions)?,
    };
    let answer = client.post_frame(path, &foretold).await?;
    let overall = &answer["evaluation"]["overall"];
    let auc = &overall["auc"];
    println!(
        "judged on {} rows: AUC {} [{}, {}], ECE {}",
        overall["rows"],
        text(&auc["value"]),
        text(&auc["low"]),
        text(&auc["high"]),
        overall["ece"]
    );
    Ok(())
}

fn behind(model: &str, version: i32, what: &str) -> String {
    format!("/v1/models/{}/versions/{version}/{what}", part(model))
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

fn keep(file: &PathBuf, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|error| Failure(format!("`{}`: {error}", file.display())))?;
    println!("wrote {}", file.display());
    Ok(())
}

async fn list(client: &Client) -> Result<(), Failure> {
    let answer = client.json(Method::GET, "/v1/models", None).await?;
    if answer["models"].as_array().is_none_or(Vec::is_empty) {
        println!("no models yet: `foretime train` and MLflow's clients register them");
    }
    for model in answer["models"].as_array().into_iter().flatten() {
        println!("{}", model["name"].as_str().unwrap_or("?"));
        for version in model["versions"].as_array().into_iter().flatten() {
            let aliases: Vec<&str> =
                version["aliases"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            println!("  {:>4}  {}  {}", version["version"], text(&version["created_at"]), aliases.join(", "));
        }
    }
    Ok(())
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "–".to_owned(),
        other => other.to_string(),
    }
}

async fn history(client: &Client, model: &str) -> Result<(), Failure> {
    let mut after = 0;
    loop {
        let path = format!("/v1/models/{}/history?after={after}", part(model));
        let page = client.json(Method::GET, &path, None).await?;
        for entry in page["history"].as_array().into_iter().flatten() {
            print_entry(entry);
        }
        match page["next_after"].as_i64() {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

fn print_entry(entry: &Value) {
    println!(
        "{:>4}  {}  {} {}: {} → {}  by {}{}",
        entry["sequence"],
        text(&entry["at"]),
        text(&entry["alias"]),
        text(&entry["outcome"]).replace('_', " "),
        text(&entry["from_version"]),
        text(&entry["to_version"]),
        text(&entry["actor"]),
        entry["reason"].as_str().map(|reason| format!(" ({reason})")).unwrap_or_default(),
    );
    print_failed(&entry["verdict"]);
}

fn print_failed(verdict: &Value) {
    for check in verdict["checks"].as_array().into_iter().flatten() {
        if check["passed"] == json!(false) {
            println!("      {} failed: {}", text(&check["check"]), text(&check["evidence"]));
        }
    }
}

async fn at(client: &Client, model: &str, time: &str, alias: &str) -> Result<(), Failure> {
    let path = format!("/v1/models/{}/at?time={}&alias={}", part(model), part(time), part(alias));
    let answer = client.json(Method::GET, &path, None).await?;
    match answer["version"].as_i64() {
        Some(version) => println!("version {version}"),
        None => println!("no version"),
    }
    if answer["decided_by"].is_object() {
        print_entry(&answer["decided_by"]);
    }
    Ok(())
}

async fn promoted(client: &Client, path: &str, body: &Value, dry_run: bool) -> Result<(), Failure> {
    let answer = client.post(path, body).await?;
    for check in answer["checks"].as_array().into_iter().flatten() {
        let mark = if check["passed"] == json!(true) { "passed" } else { "failed" };
        println!("{:<15} {mark}  {}", text(&check["check"]), text(&check["evidence"]));
    }
    match (dry_run, answer["passed"] == json!(true), answer["overridden"] == json!(true)) {
        (true, true, _) => println!("it would pass; nothing was moved: this was a dry run"),
        (true, false, _) => println!("it would be refused; nothing was moved: this was a dry run"),
        (false, _, true) => println!("moved past the gate"),
        (false, _, false) => println!("moved"),
    }
    Ok(())
}

async fn verify_history(client: &Client, model: &str) -> Result<(), Failure> {
    let path = format!("/v1/models/{}/history/verify", part(model));
    let audit = client.json(Method::GET, &path, None).await?;
    if audit["intact"] == json!(true) {
        println!("intact: {} rows, the last has the hash {}", audit["rows"], text(&audit["head"]));
        return Ok(());
    }
    Err(Failure(format!("the history is broken at row {}: {}", audit["broken_at"], text(&audit["why"]))))
}

async fn verify_version(client: &Client, model: &str, version: i32) -> Result<(), Failure> {
    let report = client.post(&behind(model, version, "verify"), &json!({})).await?;
    for file in report["files"].as_array().into_iter().flatten() {
        println!("{:<8} {:<12} {}", text(&file["state"]), text(&file["what"]), text(&file["path"]));
    }
    if report["intact"] == json!(true) {
        println!("intact");
        return Ok(());
    }
    Err(Failure(format!("version {version} of `{model}` is not what it was")))
}

async fn sign(client: &Client, model: &str, version: i32, out: PathBuf) -> Result<(), Failure> {
    let path = behind(model, version, "signature");
    client.post(&path, &json!({})).await?;
    keep(&out, &client.text(&path).await?)?;
    keep(&out.with_extension("pub"), &client.text("/v1/signing-key").await?)
}
