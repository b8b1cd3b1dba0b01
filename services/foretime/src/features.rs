//! `foretime features`: the online side of a running Foretime from a terminal.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::Failure;
use crate::client::Client;

/// What to do about features.
#[derive(Debug, Subcommand)]
pub(crate) enum Features {
    /// List feature views, with what is stored of each.
    List {
        /// Only views with this tag.
        #[arg(long)]
        tag: Option<String>,
        /// Only views of this owner.
        #[arg(long)]
        owner: Option<String>,
    },
    /// Show one view: its features, its rows and what they hold.
    Show {
        /// The view.
        view: String,
    },
    /// Push rows of a source: `{"rows": […]}` in a .json file, one JSON object a line otherwise.
    Ingest(Ingest),
    /// Read features at this moment.
    ///
    /// As in `foretime features get --entity shop=a --entity shop=b visits:amount visits:count_1d`.
    Get(Get),
    /// Erase entities from both stores, and print the receipt.
    ///
    /// They are gone from online reads at once; the command waits until the files are rewritten.
    Erase(Erase),
}

#[derive(Debug, Args)]
pub(crate) struct Ingest {
    /// The source definition.
    source: String,
    /// The file with rows; `-` reads standard input, one JSON object a line.
    file: PathBuf,
    /// Makes a repeated push answer what the first one answered.
    #[arg(long)]
    idempotency_key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The features, as `view:feature`.
    #[arg(required = true)]
    features: Vec<String>,
    /// An entity, as `key=value`, or `key=value,other=value` if its key has several columns; may be given more than once.
    #[arg(long, required = true, value_name = "KEY=VALUE")]
    entity: Vec<String>,
    /// Print the whole answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Erase {
    /// The entity definition.
    entity: String,
    /// Whom, as `key=value`, or `key=value,other=value` if the key has several columns; may be given more than once.
    #[arg(long, required = true, value_name = "KEY=VALUE")]
    key: Vec<String>,
    /// Why; it is kept with the receipt.
    #[arg(long, default_value = "")]
    reason: String,
    /// Really do it: nothing can bring the rows back.
    #[arg(long)]
    yes: bool,
}

/// Runs a `features` command.
pub(crate) async fn run(client: &Client, command: Features) -> Result<(), Failure> {
    match command {
        Features::List { tag, owner } => list(client, tag, owner).await,
        Features::Show { view } => show(client, &view).await,
        Features::Ingest(asked) => ingest(client, asked).await,
        Features::Get(asked) => get(client, asked).await,
        Features::Erase(asked) => erase(client, asked).await,
    }
}

async fn list(client: &Client, tag: Option<String>, owner: Option<String>) -> Result<(), Failure> {
    let found = client.json(Method::GET, "/v1/definitions?kind=feature_view", None).await?;
    let freshness = client.json(Method::GET, "/v1/freshness", None).await?;
    let tagged = |view: &Value| {
        tag.as_ref()
            .is_none_or(|tag| view["tags"].as_array().is_some_and(|tags| tags.iter().any(|t| t == tag)))
    };
    let owned = |view: &Value| owner.as_ref().is_none_or(|owner| view["owner"] == **owner);
    let views = found["feature_view"].as_array().map(Vec::as_slice).unwrap_or_default();
    println!("{:<32} {:<16} {:>12}  newest event", "view", "entity", "rows");
    for view in views.iter().filter(|view| tagged(view) && owned(view)) {
        let name = text(&view["name"]);
        let stored = freshness.as_array().into_iter().flatten().find(|stored| stored["view"] == view["name"]);
        let (rows, newest) = stored.map_or(("0".to_owned(), "-".to_owned()), |stored| {
            (stored["rows"].to_string(), text(&stored["newest_event"]))
        });
        println!("{name:<32} {:<16} {rows:>12}  {newest}", text(&view["entity"]));
    }
    Ok(())
}

async fn show(client: &Client, view: &str) -> Result<(), Failure> {
    let statistics = client.json(Method::GET, &format!("/v1/views/{view}/statistics"), None).await?;
    println!(
        "{view}, version {}: {} rows of {} entities in {} parts",
        statistics["version"], statistics["rows"], statistics["entities"], statistics["parts"]
    );
    println!(
        "{:<28} {:<8} {:>9} {:>9} {:>14} {:>14} {:>14}",
        "column", "type", "nulls", "distinct", "min", "median", "max"
    );
    for column in statistics["columns"].as_array().into_iter().flatten() {
        let numbers = &column["numbers"];
        let number = |value: &Value| value.as_f64().map_or("-".to_owned(), |value| format!("{value:.6}"));
        println!(
            "{:<28} {:<8} {:>9} {:>9} {:>14} {:>14} {:>14}",
            text(&column["name"]),
            text(&column["kind"]),
            column["nulls"].to_string(),
            column["distinct"].to_string(),
            number(&numbers["min"]),
            number(&numbers["quantiles"][2][1]),
            number(&numbers["max"]),
        );
    }
    Ok(())
}

async fn ingest(client: &Client, asked: Ingest) -> Result<(), Failure> {
    let body = contents(&asked.file)?;
    let json = asked.file.extension().is_some_and(|extension| extension == "json");
    let kind = if json { "application/json" } else { "application/x-ndjson" };
    let answer = client.push_text(&asked.source, kind, body, asked.idempotency_key.as_deref()).await?;
    println!(
        "{} taken (seq {}), {} of them older than what is served; {} refused, {} erased before",
        answer["accepted"],
        answer["seq"],
        answer["rejected_stale"],
        answer["rejected_invalid"],
        answer["rejected_erased"]
    );
    match answer["first_reason"].as_str() {
        Some(reason) => Err(Failure(format!("not all rows were taken: {reason}"))),
        None => Ok(()),
    }
}

fn contents(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| Failure(format!("`{}`: {error}", file.display())))?;
    Ok(text)
}

async fn get(client: &Client, asked: Get) -> Result<(), Failure> {
    let entities = keys(&asked.entity)?;
    let request = json!({
        "features": asked.features, "entities": entities, "full_feature_names": true, "include_metadata": true,
    });
    let answer = client.post("/v1/features/online", &request).await?;
    if asked.json {
        println!("{answer:#}");
        return Ok(());
    }
    for (entity, row) in asked.entity.iter().zip(answer["rows"].as_array().into_iter().flatten()) {
        println!("{entity}");
        for (name, status) in row["__status"].as_object().into_iter().flatten() {
            let since = text(&row["__event_timestamp"][name]);
            println!("  {name:<40} {:<24} {:<10} {since}", row[name].to_string(), text(status));
        }
    }
    Ok(())
}

async fn erase(client: &Client, asked: Erase) -> Result<(), Failure> {
    let keys = keys(&asked.key)?;
    if !asked.yes {
        return Err(Failure(format!(
            "this takes {} `{}` out of both stores for ever; say --yes if you mean it",
            keys.len(),
            asked.entity
        )));
    }
    let path = format!("/v1/entities/{}/erase", asked.entity);
    let receipt = client.work(&path, &json!({ "keys": keys, "reason": asked.reason }), |_| {}).await?;
    println!("{receipt:#}");
    Ok(())
}

/// Entities as `key=value,other=value`. A value that is a whole number is one.
fn keys(written: &[String]) -> Result<Vec<Map<String, Value>>, Failure> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Failure(format!("`{pair}` names no entity; write the key's column and its value, as in `shop=a`"))
        })?;
        let value =
            value.parse::<i64>().map_or_else(|_| json!(value.trim_matches('"')), |value| json!(value));
        Ok((key.to_owned(), value))
    };
    written.iter().map(|entity| entity.split(',').map(pair).collect()).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_read_as_they_are_written() {
        let read = keys(&["origin=JFK,flight=11".to_owned(), "code=\"7\"".to_owned()]).unwrap();
        assert_eq!(json!(read), json!([{ "origin": "JFK", "flight": 11 }, { "code": "7" }]));
        let refusal = keys(&["JFK".to_owned()]).unwrap_err().to_string();
        assert!(refusal.contains("`JFK`") && refusal.contains("shop=a"), "{refusal}");
    }
}
