//! `foretime loop show`: each model's way from training set to champion in one place.

use std::collections::BTreeSet;

use clap::Subcommand;
use domain::words::did_you_mean;
use reqwest::Method;
use serde_json::Value;

use crate::Failure;
use crate::client::{Client, part};

/// The closed loop.
#[derive(Debug, Subcommand)]
pub(crate) enum Loop {
    /// Show what serves, what is being made to take its place, and what that waits for.
    Show {
        /// A model definition, a registered model, or the project; all models, unless said.
        name: Option<String>,
        /// The project; the one that is served, unless said.
        #[arg(long)]
        project: Option<String>,
        /// Print the whole answer as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Does what was asked.
pub(crate) async fn run(client: &Client, asked: Loop) -> Result<(), Failure> {
    let Loop::Show { name, project, json } = asked;
    let path = project
        .map_or_else(|| "/v1/loop".to_owned(), |project| format!("/v1/loop?project={}", part(&project)));
    let mut loops = client.json(Method::GET, &path, None).await?;
    if let Some(name) = name {
        keep_only(&mut loops, &name)?;
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&loops).unwrap_or_else(|_| loops.to_string()));
        return Ok(());
    }
    println!("project {} as of {}", text(&loops["project"]), text(&loops["as_of"]));
    if list(&loops["models"]).next().is_none() {
        println!("no model is defined in it: `foretime apply` brings definitions");
    }
    for one in list(&loops["models"]) {
        show(one);
    }
    Ok(())
}

/// Leaves the loops of the models that are defined or registered under a name; all of them, if it is the project's and no model's.
///
/// # Errors
/// If nothing has that name: what there is.
fn keep_only(loops: &mut Value, name: &str) -> Result<(), Failure> {
    let goes_by = |one: &Value| one["model"] == name || one["registered_model"] == name;
    if list(&loops["models"]).any(goes_by) {
        loops["models"].as_array_mut().into_iter().for_each(|models| models.retain(goes_by));
        return Ok(());
    }
    if loops["project"] == name {
        return Ok(());
    }
    let project = text(&loops["project"]);
    let models = list(&loops["models"]).flat_map(|one| [text(&one["model"]), text(&one["registered_model"])]);
    let known: BTreeSet<String> = models.chain([project.clone()]).collect();
    let hint = did_you_mean(name, known.iter().map(String::as_str));
    Err(Failure(format!("`{name}` is no model, no registered model and not the project `{project}`{hint}")))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The models whose loops are left when one asks for a name, or what is said then.
    fn asked_for(name: &str) -> Result<Vec<String>, String> {
        let model = |name: &str, registered: &str| json!({ "model": name, "registered_model": registered });
        let models = [model("trees", "late"), model("fusion", "late"), model("default", "ahead")];
        let mut loops = json!({ "project": "default", "models": models });
        keep_only(&mut loops, name).map_err(|failure| failure.0)?;
        Ok(list(&loops["models"]).map(|one| text(&one["model"])).collect())
    }

    #[test]
    fn a_loop_is_asked_for_by_its_model_by_the_registered_model_or_by_the_project() {
        assert_eq!(asked_for("trees").unwrap(), ["trees"]);
        assert_eq!(asked_for("late").unwrap(), ["trees", "fusion"]);
        assert_eq!(asked_for("default").unwrap(), ["default"], "a model goes before the project");
        let mut alone = json!({ "project": "flights", "models": [{ "model": "a" }, { "model": "b" }] });
        keep_only(&mut alone, "flights").unwrap();
        assert_eq!(list(&alone["models"]).count(), 2);
    }

    #[test]
    fn a_name_of_nothing_is_answered_with_what_there_is() {
        assert!(asked_for("tree").unwrap_err().ends_with("did you mean `trees`?"));
        let said = asked_for("flights").unwrap_err();
        assert!(said.contains("`flights`") && said.contains("ahead, default, fusion, late, trees"), "{said}");
    }
}
