//! `foretime backtest` and `foretime optimism`: how a model would have done, and what a random split would have claimed.

use clap::Args;
use domain::Horizon;
use reqwest::Method;
use serde_json::{Value, json};

use crate::Failure;
use crate::client::Client;

/// How to backtest.
#[derive(Debug, Args)]
pub(crate) struct Backtest {
    /// The model definition.
    model: String,
    /// How many times the origin moves on.
    #[arg(long, default_value_t = 4)]
    folds: usize,
    /// How long each fold is judged, as in `14d`.
    #[arg(long)]
    test: Horizon,
    /// How long before that it stops early and calibrates; as long as `--test`, if not said.
    #[arg(long)]
    validation: Option<Horizon>,
    /// How far back it learns; everything there is, if not said.
    #[arg(long)]
    train: Option<Horizon>,
    #[command(flatten)]
    on: On,
}

/// What a report is made on.
#[derive(Debug, Args)]
struct On {
    /// The training set; a new one, if not said.
    #[arg(long)]
    training_set: Option<String>,
    /// Everything, as JSON.
    #[arg(long)]
    json: bool,
}

/// What to be told the optimism of.
#[derive(Debug, Args)]
pub(crate) struct Optimism {
    /// The model definition.
    model: String,
    #[command(flatten)]
    on: On,
}

impl On {
    /// The training set that was named, or a new one of the model's dataset.
    async fn set(&self, client: &Client, model: &str) -> Result<Value, Failure> {
        match &self.training_set {
            Some(named) => Ok(json!(named)),
            None => training_set(client, model).await,
        }
    }
}

/// Builds a training set of a model's dataset; answers its id.
pub(crate) async fn training_set(client: &Client, model: &str) -> Result<Value, Failure> {
    let definitions = client.json(Method::GET, "/v1/definitions", None).await?;
    let found = definitions["model"].as_array().into_iter().flatten().find(|body| body["name"] == model);
    let dataset = found.and_then(|body| body["dataset"].as_str());
    let dataset =
        dataset.ok_or_else(|| Failure(format!("there is no model `{model}`; apply its definition first")))?;
    let set = client.work("/v1/training-sets", &json!({ "dataset": dataset }), |_| {}).await?;
    Ok(set["training_set"].clone())
}

/// Backtests a model and prints its folds.
pub(crate) async fn run(client: &Client, asked: &Backtest) -> Result<(), Failure> {
    let set = asked.on.set(client, &asked.model).await?;
    let request = json!({
        "model": asked.model,
        "training_set": set,
        "folds": asked.folds,
        "test": asked.test,
        "validation": asked.validation.unwrap_or(asked.test),
        "train": asked.train,
    });
    let report = client.work("/v1/backtests", &request, |_| {}).await?;
    if asked.on.json {
        println!("{report:#}");
    } else {
        print!("{}", table(&report));
    }
    Ok(())
}

/// Makes the optimism report of a model and prints both claims.
pub(crate) async fn optimism(client: &Client, asked: &Optimism) -> Result<(), Failure> {
    let set = asked.on.set(client, &asked.model).await?;
    let request = json!({ "model": asked.model, "training_set": set });
    let report = client.work("/v1/optimism-reports", &request, |_| {}).await?;
    if asked.on.json {
        println!("{report:#}");
        return Ok(());
    }
    println!("{:<16} {}", "", HEAD);
    println!("{:<16} {}", "a random split", line(&report["random"]));
    println!("{:<16} {}", "the later truth", line(&report["temporal"]));
    Ok(())
}

const HEAD: &str = "    rows   rate  AUC (95 %)              log-loss   Brier     ECE";

/// Scores in one line under [`HEAD`].
fn line(scores: &Value) -> String {
    let number = |key: &str| scores[key].as_f64().unwrap_or(f64::NAN);
    format!(
        "{:>8}  {:.3}  {:<22}  {:>8.4}  {:.4}  {:.4}",
        scores["rows"],
        number("base_rate"),
        interval(&scores["auc"]),
        number("log_loss"),
        number("brier"),
        number("ece"),
    )
}

fn interval(found: &Value) -> String {
    let number = |key: &str| found[key].as_f64().unwrap_or(f64::NAN);
    format!("{:.4} ({:.4}–{:.4})", number("value"), number("low"), number("high"))
}

/// The folds of a backtest as a table.
fn table(report: &Value) -> String {
    let mut text = format!("{:<24} {:>8} {HEAD}\n", "judged from", "learned");
    for fold in report["folds"].as_array().into_iter().flatten() {
        let from = fold["split"]["validation_until"].as_str().unwrap_or_default();
        text += &format!("{from:<24} {:>8} {}\n", fold["train_rows"].to_string(), line(&fold["scores"]));
    }
    text += &format!("{:<24} {:>8} {}\n", "all folds", "", line(&report["overall"]));
    for (name, key) in [("AUC", "auc_by_days"), ("log-loss", "log_loss_by_days")] {
        if report[key].is_object() {
            text += &format!("{name} over days drawn with replacement: {}\n", interval(&report[key]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backtest_is_a_table_of_folds_with_what_they_came_to_together() {
        let auc = json!({ "value": 0.7, "low": 0.65, "high": 0.75 });
        let scores =
            json!({ "rows": 100, "base_rate": 0.25, "auc": auc, "log_loss": 0.5, "brier": 0.2, "ece": 0.01 });
        let split = json!({ "train_until": "a", "validation_until": "2013-11-01T00:00:00Z" });
        let fold = json!({ "split": split, "train_rows": 1234, "scores": scores });
        let text = table(
            &json!({ "folds": [fold], "overall": scores, "auc_by_days": auc, "log_loss_by_days": null }),
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1].starts_with("2013-11-01T00:00:00Z") && lines[1].contains("1234"), "{text}");
        assert!(lines[1].contains("0.7000 (0.6500–0.7500)") && lines[2].starts_with("all folds"), "{text}");
        assert_eq!(lines[3], "AUC over days drawn with replacement: 0.7000 (0.6500–0.7500)");
    }
}
