//! `foretime loop show`: each model's way from training set to champion in one place.

use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;

use crate::Failure;
use crate::client::Client;

/// The closed loop.
#[derive(Debug, Subcommand)]
pub(crate) enum Loop {
    /// Show what serves, what is being made to take its place, and what that waits for.
    Show {
        /// The project; the one that is served, unless said.
        project: Option<String>,
        /// Print the whole answer as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Does what was asked.
pub(crate) async fn run(client: &Client, asked: Loop) -> Result<(), Failure> {
    let Loop::Show { project, json } = asked;
    let path = project.map_or_else(|| "/v1/loop".to_owned(), |project| format!("/v1/loop?project={project}"));
    let loops = client.json(Method::GET, &path, None).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&loops).unwrap_or_else(|_| loops.to_string()));
        return Ok(());
    }
    println!("project {} as of {}", text(&loops["project"]), text(&loops["as_of"]));
    if list(&loops["models"]).next().is_none() {
        println!("no model is defined in it: `foretime apply` brings definitions");
    }
    for one in loops["models"].as_array().into_iter().flatten() {
        show(one);
    }
    Ok(())
}

fn show(one: &Value) {
    println!("\n{} → {}", text(&one["model"]), text(&one["registered_model"]));
    champion(&one["champion"]);
    let stage = &one["stage"];
    println!("  stage      {}, {}", text(&stage["step"]), text(&stage["state"]));
    println!("  waits for  {}", text(&one["waits_for"]));
    for schedule in list(&one["schedules"]) {
        let next =
            if schedule["paused_at"].is_null() { text(&schedule["next"][0]) } else { "held still".into() };
        println!("  schedule   {}, next {next}", text(&schedule["name"]));
    }
    for monitor in list(&one["monitors"]) {
        let asks = if monitor["retrains"] == true { ", asks for a new model by incident" } else { "" };
        println!("  monitor    {}{asks}", text(&monitor["monitor"]));
    }
    for incident in list(&one["open_incidents"]) {
        let id = text(&incident["id"]);
        println!(
            "  incident   {id} {} ({}): {}",
            text(&incident["state"]),
            text(&incident["cause"]),
            text(&incident["summary"])
        );
    }
    for run in list(&one["runs"]) {
        let reason = if run["reason"].is_null() { "by hand".into() } else { run["reason"].to_string() };
        println!("  {}  {reason}: {}", text(&run["began_at"]), text(&run["outcome"]));
        for step in list(&run["steps"]) {
            println!("    {:<13} {:<10} {}", text(&step["step"]), text(&step["state"]), text(&step["job"]));
        }
    }
}

fn champion(champion: &Value) {
    if champion.is_null() {
        return println!("  champion   none");
    }
    println!(
        "  champion   version {} since {}, by {}",
        champion["version"],
        text(&champion["since"]),
        text(&champion["by"])
    );
    let evidence = &champion["evidence"];
    if !evidence.is_null() {
        println!(
            "  evidence   trained through {}; on {} rows from {} on: AUC {}, log loss {}, ECE {}",
            text(&evidence["trained_through"]),
            evidence["rows"],
            text(&evidence["evaluated_from"]),
            number(&evidence["auc"]),
            number(&evidence["log_loss"]),
            number(&evidence["ece"])
        );
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn number(value: &Value) -> String {
    value.as_f64().map_or_else(|| "unknown".to_owned(), |number| format!("{number:.4}"))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "unknown".to_owned(),
        other => other.to_string(),
    }
}
