//! `foretime tokens …` and `foretime audit`: who may ask, and who changed what.

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Subcommand, ValueEnum};
use domain::{Clock, SystemClock};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Failure;
use crate::client::Client;

/// Who may ask, and for what.
#[derive(Debug, Subcommand)]
pub(crate) enum Tokens {
    /// Make a token; it is printed once, and only its hash is kept.
    Create {
        /// Who will show it.
        name: String,
        /// What they may do.
        #[arg(long, value_enum)]
        role: Role,
        /// The only project that it opens; all of them without.
        #[arg(long)]
        project: Option<String>,
        /// When it stops to open anything, such as `2027-01-01T00:00:00Z`; never without.
        #[arg(long)]
        expires: Option<DateTime<Utc>>,
    },
    /// List the tokens, without their secrets.
    List,
    /// End a token; processes notice within five seconds.
    Revoke {
        /// Which one; `list` shows it.
        id: Uuid,
    },
    /// Make a token like this one, and let this one end.
    Rotate {
        /// Which one.
        id: Uuid,
        /// How long the old one still opens, in seconds.
        #[arg(long, default_value_t = 0)]
        overlap_seconds: u32,
    },
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    /// Look.
    Reader,
    /// Change things.
    Writer,
    /// Change who may do what, and go past a gate.
    Admin,
}

/// Does what was asked.
pub(crate) async fn run(client: &Client, asked: Tokens) -> Result<(), Failure> {
    match asked {
        Tokens::Create { name, role, project, expires } => {
            let role = role.to_possible_value().map(|value| value.get_name().to_owned());
            let body = json!({ "name": name, "role": role, "project": project, "expires_at": expires });
            show(&client.post("/v1/tokens", &body).await?);
            Ok(())
        }
        Tokens::List => list(client).await,
        Tokens::Revoke { id } => {
            client.post(&format!("/v1/tokens/{id}/revoke"), &json!({})).await?;
            println!("{id} is revoked");
            Ok(())
        }
        Tokens::Rotate { id, overlap_seconds } => {
            let body = json!({ "overlap_seconds": overlap_seconds });
            show(&client.post(&format!("/v1/tokens/{id}/rotate"), &body).await?);
            Ok(())
        }
    }
}

fn show(made: &Value) {
    eprintln!(
        "token {} of {}; keep what follows, it is not shown again",
        text(&made["token_id"]),
        text(&made["name"])
    );
    println!("{}", text(&made["token"]));
}

async fn list(client: &Client) -> Result<(), Failure> {
    let tokens = client.json(Method::GET, "/v1/tokens", None).await?;
    let now = SystemClock.now().to_rfc3339_opts(SecondsFormat::Micros, true);
    for token in tokens.as_array().into_iter().flatten() {
        let state = match (&token["revoked_at"], &token["expires_at"]) {
            (Value::String(at), _) => format!("revoked {at}"),
            (_, Value::String(at)) if *at <= now => format!("expired {at}"),
            (_, Value::String(at)) => format!("until {at}"),
            _ => "good".to_owned(),
        };
        println!(
            "{}  {:<7} {:<16} {:<20} {state}",
            text(&token["token_id"]),
            text(&token["role"]),
            token["project"].as_str().unwrap_or("every project"),
            text(&token["name"]),
        );
    }
    Ok(())
}

/// Prints the latest changes, the newest first.
pub(crate) async fn audit(client: &Client, limit: u32) -> Result<(), Failure> {
    let entries = client.json(Method::GET, &format!("/v1/audit?limit={limit}"), None).await?;
    for entry in entries.as_array().into_iter().flatten() {
        println!(
            "{}  {:<7} {:<20} {} {} → {}",
            text(&entry["at"]),
            text(&entry["role"]),
            text(&entry["actor"]),
            text(&entry["method"]),
            text(&entry["path"]),
            entry["status"]
        );
    }
    Ok(())
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
