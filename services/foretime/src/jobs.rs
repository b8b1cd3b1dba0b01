//! `foretime jobs …`: what is queued, running and done; ending a job, and trying one again.

use std::time::Duration;

use clap::Subcommand;
use domain::ids::JobId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::Failure;
use crate::client::{Client, part};

/// How often a log that is followed is asked for.
const EVERY: Duration = Duration::from_secs(1);

/// The id of a job, as a person types it.
fn job_id(text: &str) -> Result<JobId, String> {
    text.parse().map_err(|_| "a job's id is a UUID; `foretime jobs list` shows them".to_owned())
}

/// The work behind the scenes.
#[derive(Debug, Subcommand)]
pub(crate) enum Jobs {
    /// List jobs, the newest first.
    List {
        /// Only those in this state.
        #[arg(long, value_parser = ["queued", "running", "succeeded", "dead", "cancelled"])]
        state: Option<String>,
        /// Only those of this kind, such as `train`.
        #[arg(long)]
        kind: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Show everything about a job.
    Show {
        /// Which one.
        #[arg(value_parser = job_id)]
        id: JobId,
    },
    /// Print what a job has said.
    Logs {
        /// Which one.
        #[arg(value_parser = job_id)]
        id: JobId,
        /// Go on until the job ends.
        #[arg(long, short)]
        follow: bool,
    },
    /// Ask a job to end; one that goes on for too long is ended.
    Cancel {
        /// Which one.
        #[arg(value_parser = job_id)]
        id: JobId,
    },
    /// Queue a dead or cancelled job again.
    Retry {
        /// Which one.
        #[arg(value_parser = job_id)]
        id: JobId,
    },
}

/// Does what was asked.
pub(crate) async fn run(client: &Client, asked: Jobs) -> Result<(), Failure> {
    match asked {
        Jobs::List { state, kind, limit } => list(client, state, kind, limit).await,
        Jobs::Show { id } => {
            let job = client.json(Method::GET, &format!("/v1/jobs/{id}"), None).await?;
            println!("{}", serde_json::to_string_pretty(&job).unwrap_or_else(|_| job.to_string()));
            Ok(())
        }
        Jobs::Logs { id, follow } => logs(client, id, follow).await,
        Jobs::Cancel { id } => told(&client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await?),
        Jobs::Retry { id } => told(&client.post(&format!("/v1/jobs/{id}/retry"), &json!({})).await?),
    }
}

fn told(job: &Value) -> Result<(), Failure> {
    let asked = if job["cancel_requested"] == json!(true) && job["state"] == "running" {
        ", and was asked to end"
    } else {
        ""
    };
    println!("{} is {}{asked}", text(&job["id"]), text(&job["state"]));
    Ok(())
}

async fn list(
    client: &Client,
    state: Option<String>,
    kind: Option<String>,
    limit: u32,
) -> Result<(), Failure> {
    let wanted = [("state", state), ("kind", kind)];
    let wanted: String = wanted
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| format!("&{name}={}", part(&value))))
        .collect();
    let jobs = client.json(Method::GET, &format!("/v1/jobs?limit={limit}{wanted}"), None).await?;
    println!("{:<36}  {:<16} {:<10} {:<27} {:>5}  LAST WORD", "JOB", "KIND", "STATE", "CREATED", "TRIES");
    for job in jobs.as_array().into_iter().flatten() {
        println!(
            "{:<36}  {:<16} {:<10} {:<27} {:>5}  {}",
            text(&job["id"]),
            text(&job["kind"]),
            text(&job["state"]),
            text(&job["created_at"]),
            format!("{}/{}", job["attempts"], job["max_attempts"]),
            last_word(job)
        );
    }
    Ok(())
}

/// What there is to say of a job in a line: why it failed, or how far it is.
fn last_word(job: &Value) -> String {
    let word = [&job["failure"], &job["progress"]].into_iter().find(|word| !word.is_null());
    let word = word.map(text).unwrap_or_default();
    match word.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word,
    }
}

async fn logs(client: &Client, id: JobId, follow: bool) -> Result<(), Failure> {
    let mut shown = 0;
    loop {
        // The job first: lines that were said before it ended are then surely among those that are asked for after.
        let job = client.json(Method::GET, &format!("/v1/jobs/{id}"), None).await?;
        let lines = client.json(Method::GET, &format!("/v1/jobs/{id}/logs"), None).await?;
        let lines = lines.as_array().cloned().unwrap_or_default();
        for line in lines.iter().skip(shown) {
            println!("{}  {}", text(&line["logged_at"]), text(&line["line"]));
        }
        shown = lines.len();
        let lives = ["queued", "running"].contains(&job["state"].as_str().unwrap_or_default());
        if !follow || !lives {
            return Ok(());
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
