//! `foretime monitor …` against a running Foretime: runs, incidents, silences, channels.

use clap::{Args, Subcommand};
use domain::ids::IncidentId;
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};
use service_kit::Config;

use crate::Failure;
use crate::client::Client;

/// What can be asked of the monitors of a running Foretime.
#[derive(Debug, Subcommand)]
pub(crate) enum Watch {
    /// Judge what has ended and was not judged, and wait for it.
    Run {
        /// The monitor.
        monitor: String,
        /// Only windows that ended by then (RFC 3339).
        #[arg(long)]
        until: Option<String>,
    },
    /// Say what a rule would have done over what was served. Nothing is changed and nobody is told.
    Backtest(Backtest),
    /// List incidents, newest first.
    Incidents {
        /// Only those in this state: firing, acknowledged, silenced, recovering or resolved.
        #[arg(long)]
        state: Option<String>,
    },
    /// Say all that is known of an incident: what moved, what happened, who was told.
    Explain {
        /// The incident.
        incident: IncidentId,
    },
    /// Take an incident.
    Ack {
        /// The incident.
        incident: IncidentId,
        /// Who takes it.
        #[arg(long, env = "USER")]
        by: String,
        /// What to remember.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Hear no more of an incident's monitor, model and cause for a while.
    Silence {
        /// The incident.
        incident: IncidentId,
        /// Until when (RFC 3339).
        #[arg(long)]
        until: String,
        /// Who wants it.
        #[arg(long, env = "USER")]
        by: String,
        /// Why.
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// Send a test message to a channel and say what its receiver answered.
    TestChannel {
        /// The channel.
        channel: String,
    },
}

/// A rule to try; what is left out is as the monitor has it.
#[derive(Debug, Args, Serialize)]
pub(crate) struct Backtest {
    /// The monitor.
    #[serde(skip)]
    monitor: String,
    /// Only windows that begin then or later (RFC 3339); 30 days back unless said.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Only windows that ended by then (RFC 3339).
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// The false-alarm level.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    alpha: Option<f64>,
    /// The smallest effect worth calling drift.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    min_effect: Option<f64>,
    /// Fewer rows than this in a window give `insufficient data`.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    min_rows: Option<u64>,
    /// The smallest change of the label rate worth an incident.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    min_rate_change: Option<f64>,
    /// How many windows in a row must look well before an incident resolves.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_windows: Option<u32>,
}

/// Does what was asked.
pub(crate) async fn run(config: &Config, asked: Watch) -> Result<(), Failure> {
    let client = Client::of(config)?;
    match asked {
        Watch::Run { monitor, until } => judge(&client, &monitor, until.as_deref()).await,
        Watch::Backtest(rule) => backtest(&client, &rule).await,
        Watch::Incidents { state } => list(&client, state.as_deref()).await,
        Watch::Explain { incident } => {
            let whole = client.json(Method::GET, &format!("/v1/incidents/{incident}"), None).await?;
            explain(&whole);
            Ok(())
        }
        Watch::Ack { incident, by, note } => {
            let path = format!("/v1/incidents/{incident}/acknowledge");
            let taken = client.post(&path, &json!({ "by": by, "note": note })).await?;
            println!("{}: {}", text(&taken, "state"), text(&taken, "summary"));
            Ok(())
        }
        Watch::Silence { incident, until, by, comment } => {
            let body = json!({ "until": until, "by": by, "comment": comment });
            let silence = client.post(&format!("/v1/incidents/{incident}/silence"), &body).await?;
            println!("silence {} until {}", text(&silence, "id"), text(&silence, "ends_at"));
            Ok(())
        }
        Watch::TestChannel { channel } => {
            let answer = client.post(&format!("/v1/channels/{channel}/test"), &json!({})).await?;
            println!("delivered as {}", text(&answer, "delivered"));
            Ok(())
        }
    }
}

async fn judge(client: &Client, monitor: &str, until: Option<&str>) -> Result<(), Failure> {
    let body = until.map_or_else(|| json!({}), |until| json!({ "until": until }));
    let promised = client.post(&format!("/v1/monitors/{monitor}/run"), &body).await?;
    let job = serde_json::from_value(promised["job_id"].clone())
        .map_err(|error| Failure(format!("the answer names no job: {error}")))?;
    let summary = client.wait(job, |_| {}).await?;
    println!(
        "{} windows judged by inputs, {} by labels, {} versions without a reference",
        summary["windows"], summary["labelled_windows"], summary["versions_without_reference"]
    );
    Ok(())
}

async fn backtest(client: &Client, rule: &Backtest) -> Result<(), Failure> {
    let path = format!("/v1/monitors/{}/backtest", rule.monitor);
    let came = client.post(&path, &json!(rule)).await?;
    let incidents = came["incidents"].as_array().map_or(0, Vec::len);
    println!("{} windows, {incidents} incidents", came["windows"]);
    for would in came["incidents"].as_array().into_iter().flatten() {
        let resolved = would["resolved_at"].as_str().unwrap_or("still open");
        println!(
            "{} → {resolved}  {:<6} {}",
            text(would, "opened_at"),
            text(would, "severity"),
            text(would, "summary")
        );
    }
    Ok(())
}

async fn list(client: &Client, state: Option<&str>) -> Result<(), Failure> {
    let path =
        state.map_or_else(|| "/v1/incidents".to_owned(), |state| format!("/v1/incidents?state={state}"));
    let incidents = client.json(Method::GET, &path, None).await?;
    for incident in incidents.as_array().into_iter().flatten() {
        let (id, state, severity) =
            (text(incident, "id"), text(incident, "state"), text(incident, "severity"));
        println!("{id}  {state:<12} {severity:<6} {}", text(incident, "summary"));
    }
    Ok(())
}

fn explain(whole: &Value) {
    println!("{} ({}, {})", text(whole, "summary"), text(whole, "state"), text(whole, "severity"));
    for moved in whole["evidence"].as_array().into_iter().flatten() {
        let (column, measure) = (text(moved, "column"), text(moved, "measure"));
        println!("  {column} {measure} {} [{}, {}]", moved["effect"], moved["low"], moved["high"]);
    }
    for row in whole["history"].as_array().into_iter().flatten() {
        println!("{}  {}", text(row, "happened_at"), text(row, "change"));
    }
    for note in whole["notifications"].as_array().into_iter().flatten() {
        let (channel, event, state) = (text(note, "channel"), text(note, "event"), text(note, "state"));
        let failure = note["failure"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
        println!("  told `{channel}` that it {event}: {state} after {} tries{failure}", note["attempts"]);
    }
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}
