//! `foretime schedules …`: what starts by itself, when next and what came of it; holding it still, starting it now.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::Failure;
use crate::client::Client;

/// What starts by itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Schedules {
    /// List the schedules, with when each ticks next.
    List,
    /// Show one: when it ticks, and what became of its latest ticks.
    Show {
        /// Which one.
        name: String,
    },
    /// Hold one still; what passes meanwhile is forgiven.
    Pause {
        /// Which one.
        name: String,
    },
    /// Let one go on.
    Resume {
        /// Which one.
        name: String,
    },
    /// Let one tick now, also one that is held still.
    Run {
        /// Which one.
        name: String,
    },
}

/// Does what was asked.
pub(crate) async fn run(client: &Client, asked: Schedules) -> Result<(), Failure> {
    let path = |name: &str, what: &str| format!("/v1/schedules/{name}{what}");
    match asked {
        Schedules::List => list(&client.json(Method::GET, "/v1/schedules", None).await?),
        Schedules::Show { name } => show(&client.json(Method::GET, &path(&name, ""), None).await?),
        Schedules::Pause { name } => show(&client.post(&path(&name, "/pause"), &json!({})).await?),
        Schedules::Resume { name } => show(&client.post(&path(&name, "/resume"), &json!({})).await?),
        Schedules::Run { name } => show(&client.post(&path(&name, "/run"), &json!({})).await?),
    }
    Ok(())
}

fn list(schedules: &Value) {
    println!("{:<20} {:<22} {:<20} {:<24} STARTS", "SCHEDULE", "NEXT", "CRON", "ZONE");
    for schedule in schedules.as_array().into_iter().flatten() {
        println!(
            "{:<20} {:<22} {:<20} {:<24} {}",
            text(&schedule["name"]),
            next(schedule),
            text(&schedule["cron"]),
            text(&schedule["time_zone"]),
            starts(&schedule["action"])
        );
    }
}

fn show(schedule: &Value) {
    println!("{} starts {}", text(&schedule["name"]), starts(&schedule["action"]));
    println!("  cron      {} in {}", text(&schedule["cron"]), text(&schedule["time_zone"]));
    println!("  missed    {}; overlap: {}", text(&schedule["catch_up"]), text(&schedule["overlap"]));
    if !schedule["jitter"].is_null() {
        println!("  jitter    up to {}", text(&schedule["jitter"]));
    }
    match schedule["paused_by"].as_str() {
        Some(who) => println!("  held      since {} by {who}", text(&schedule["paused_at"])),
        None => {
            let next: Vec<String> = schedule["next"].as_array().into_iter().flatten().map(text).collect();
            println!("  next      {}", next.join(", "));
        }
    }
    for tick in schedule["ticks"].as_array().into_iter().flatten() {
        let job = tick["job"].as_str().map(|job| format!("{job} ({})", text(&tick["job_state"])));
        let said = [job.unwrap_or_default(), text(&tick["why"])].join("  ");
        println!("  {}  {:<9} {}", text(&tick["tick_at"]), text(&tick["state"]), said.trim());
    }
}

fn next(schedule: &Value) -> String {
    match schedule["paused_at"].as_str() {
        Some(_) => "held still".to_owned(),
        None => text(&schedule["next"][0]),
    }
}

/// `train late`, `backup scheduled`.
fn starts(action: &Value) -> String {
    let parts = action.as_object().into_iter().flatten();
    let words = parts.map(|(kind, what)| match what {
        Value::String(name) => format!("{kind} {name}"),
        other => format!("{kind} {}", text(&other["folder"])),
    });
    words.collect::<Vec<_>>().join(", ")
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
