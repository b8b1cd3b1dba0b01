//! `foretime dataset`: training sets, out of plain files without a server, or of a running Foretime.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use domain::ids::TrainingSetId;
use frames::Tz;
use frames::plain_join::{Knowledge, Options, Report, View, join, pack, zone};

use frames::training_set::Manifest;
use reqwest::Method;
use serde_json::{Value, json};
use service_kit::Config;

use crate::Failure;
use crate::client::Client;

/// What to do about a training set.
#[derive(Debug, Subcommand)]
pub(crate) enum Dataset {
    /// Join features in files to labels, each as of its own moment.
    ///
    /// Writes the label columns, then `VIEW__FEATURE…` and `VIEW__status` of each view, one row a label, in the labels'
    /// order. A status is PRESENT, NULL (a row was found, but all its features are null), EXPIRED (older than `max_age`),
    /// DELETED or NOT_FOUND. Files are Parquet, Arrow IPC or CSV, on a disk or at `s3://bucket/key`; `*` matches several.
    Join(Join),
    /// Lay the rows of a view's files out as the offline store does: one sorted Parquet file a bucket of keys.
    ///
    /// Joins of such files need less memory. Read them with
    /// `path=FOLDER/*.parquet,event_time=__event_time,known_time=__known_time,seq=__seq,op=__op`.
    Pack(Pack),
    /// Build the training set of a dataset definition on a running Foretime, and wait for it.
    Build {
        /// The dataset definition.
        dataset: String,
        /// Only labels known by then, as in `2013-11-01T00:00:00Z`; now, if not said.
        #[arg(long)]
        as_of: Option<String>,
        /// How its rows are kept on the server, `arrow` or `parquet`, if not as the definition says.
        #[arg(long, value_parser = ["arrow", "parquet"])]
        format: Option<String>,
    },
    /// Show what a training set holds; without an id, list the latest ones.
    Show {
        /// The training set.
        #[arg(value_parser = training_set)]
        id: Option<TrainingSetId>,
        /// Everything, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetch the rows of a training set: Parquet if the file's name ends so, else Arrow IPC.
    Export {
        /// The training set.
        #[arg(value_parser = training_set)]
        id: TrainingSetId,
        /// The file to write.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Pack {
    /// The files, as `dataset join --view` reads them.
    #[arg(long, value_name = "SETTINGS")]
    view: View,
    /// Into how many buckets keys are cut: a power of two.
    #[arg(long, default_value_t = 16)]
    buckets: u32,
    /// The folder to write to.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The file with one row a label.
    #[arg(long)]
    labels: String,
    /// The label column with the moment after which nothing may be seen.
    #[arg(long, value_name = "COLUMN")]
    cutoff: String,
    /// The zone of label times that name none, such as `America/New_York`; without it they are refused.
    #[arg(long, value_parser = zone, value_name = "ZONE")]
    labels_zone: Option<Tz>,
    /// Files with features; may be given more than once. Without it the labels are written as they are.
    ///
    /// As in `name=w,path=f.parquet,keys=k1+k2,event_time=ts,known_time=created,max_age=7d,boundary=inclusive,features=a+b`.
    /// Only the first four are required: a row is then known when it happened, never too old, counts at its very moment, and
    /// all its columns are features. `keys=` makes every row one about every label, `keys=origin:airport` compares the label
    /// column `origin` with the view's `airport`. `op=COLUMN` marks rows that take their entity away, `seq=COLUMN` says which
    /// of two rows with equal times was accepted later, `zone=ZONE` is the zone of times that name none.
    #[arg(long = "view", value_name = "SETTINGS")]
    views: Vec<View>,
    /// From when a label looks at what was known: `cutoff`, `off` (also at what was learned later), or `column:NAME`.
    #[arg(long, default_value = "cutoff", value_name = "WHEN")]
    as_of: Knowledge,
    /// The file to write: Arrow IPC if it ends in `.arrow`, CSV if in `.csv`, else Parquet.
    #[arg(long)]
    out: PathBuf,
}

/// Runs a `dataset` command.
pub(crate) async fn run(config: &Config, command: Dataset) -> Result<(), Failure> {
    match command {
        Dataset::Join(asked) => apart(move || join_files(asked)).await,
        Dataset::Pack(asked) => apart(move || pack_files(&asked)).await,
        Dataset::Build { dataset, as_of, format } => {
            let asked = json!({ "dataset": dataset, "as_of": as_of, "format": format });
            build(&Client::of(config)?, &asked).await
        }
        Dataset::Show { id: None, .. } => list(&Client::of(config)?).await,
        Dataset::Show { id: Some(id), json } => show(&Client::of(config)?, &id.to_string(), json).await,
        Dataset::Export { id, out } => export(&Client::of(config)?, id, &out).await,
    }
}

/// A training set's id, as it is written.
pub(crate) fn training_set(written: &str) -> Result<TrainingSetId, String> {
    written.parse().map_err(|_| "not the id of a training set; `foretime dataset show` lists them".to_owned())
}

/// Work on files, on a thread that may block.
async fn apart(work: impl FnOnce() -> Result<(), Failure> + Send + 'static) -> Result<(), Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure(format!("the work on files ended early: {error}")))?
}

async fn build(client: &Client, asked: &Value) -> Result<(), Failure> {
    let set = client.work("/v1/training-sets", asked, |_| {}).await?;
    show(client, set["training_set"].as_str().unwrap_or_default(), false).await
}

async fn list(client: &Client) -> Result<(), Failure> {
    let sets = client.json(Method::GET, "/v1/training-sets", None).await?;
    if sets.as_array().is_none_or(Vec::is_empty) {
        println!("no training sets yet: `foretime dataset build` makes one");
    }
    for set in sets.as_array().into_iter().flatten() {
        let text = |key: &str| set[key].as_str().unwrap_or_default().to_owned();
        println!(
            "{}  {:<24} {:>9} rows  seq {}  {}",
            text("id"),
            text("dataset"),
            set["rows"],
            set["max_seq"],
            text("created_at")
        );
    }
    Ok(())
}

async fn show(client: &Client, id: &str, json: bool) -> Result<(), Failure> {
    let set = client.json(Method::GET, &format!("/v1/training-sets/{id}"), None).await?;
    if json {
        println!("{set:#}");
        return Ok(());
    }
    let manifest: Manifest = serde_json::from_value(set["manifest"].clone())
        .map_err(|error| Failure(format!("the server's manifest cannot be read: {error}")))?;
    println!("training set {id} of dataset {}", set["dataset"].as_str().unwrap_or_default());
    println!(
        "{} rows, knowledge up to seq {}, sha256 {}",
        set["rows"],
        set["max_seq"],
        set["sha256"].as_str().unwrap_or_default()
    );
    println!("{} of its values were learned after their cutoff", manifest.leaked_values);
    for (window, found) in &manifest.windows {
        println!("{window:?}: {} rows, base rate {:.4}", found.rows, found.base_rate);
    }
    for (view, rates) in &manifest.status_rates {
        let rates: Vec<String> =
            rates.iter().map(|(status, rate)| format!("{status} {:.1} %", rate * 100.0)).collect();
        println!("{view}: {}", rates.join(", "));
    }
    Ok(())
}

async fn export(client: &Client, id: TrainingSetId, out: &Path) -> Result<(), Failure> {
    let parquet = out.extension().is_some_and(|extension| extension == "parquet");
    let format = if parquet { "parquet" } else { "arrow" };
    let bytes = client.download(&format!("/v1/training-sets/{id}/rows?format={format}"), out).await?;
    println!("{bytes} bytes written to `{}`", out.display());
    Ok(())
}

fn pack_files(asked: &Pack) -> Result<(), Failure> {
    let written = pack(&asked.view, &asked.out, asked.buckets)?;
    let rows: usize = written.iter().map(|part| part.rows).sum();
    println!("{rows} rows written to {} files in `{}`", written.len(), asked.out.display());
    Ok(())
}

fn join_files(asked: Join) -> Result<(), Failure> {
    let options =
        Options { cutoff: asked.cutoff, knowledge: asked.as_of, zone: asked.labels_zone, views: asked.views };
    let report = join(&asked.labels, &options, &asked.out)?;
    tell(&report);
    println!("written to `{}`", asked.out.display());
    Ok(())
}

fn tell(report: &Report) {
    println!("{} rows in, {} rows out", report.rows_in, report.rows_out);
    for view in &report.views {
        let counts: Vec<String> =
            view.statuses.iter().map(|(status, count)| format!("{} {count}", status.name())).collect();
        println!("{}: {}", view.view, counts.join(", "));
        if view.labels_after_watermark > 0 {
            eprintln!(
                "warning: labels_after_watermark: {} labels lie after the latest event of `{}`; is its file up to date?",
                view.labels_after_watermark, view.view
            );
        }
    }
}
