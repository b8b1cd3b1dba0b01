//! `foretime demo`: one real thread through every room, on the 2013 New York flights.
//!
//! First a study of the whole year with hindsight: ingest, training sets, training, evaluation, the optimism report. Then the
//! clock goes back to November 1 and the last two months are replayed: predictions as they would have been served, labels
//! when the flights landed, monitors and schedules on the simulated clock. The bitemporal store makes that honest: whoever
//! asks at a moment sees what was known at that moment. With `--decade` the replay is of March to September 2023 instead, with
//! the model of 2013 and nobody retraining.

mod data;
mod progress;
mod replay;
mod sink;
mod study;
mod summary;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use domain::ManualClock;
use domain::definitions::Definitions;
use service_kit::{Config, shutdown, telemetry};
use tokio_util::sync::CancellationToken;

pub use data::declared;

use crate::client::{Client, definition_files};
use crate::up::{Database, Platform, Service};
use crate::{Failure, report};
use progress::Steps;
use sink::Sink;

/// When the study looks back: every flight of the year has landed.
const HINDSIGHT: &str = "2014-01-03T00:00:00Z";

/// The months that are replayed.
#[derive(Clone, Copy)]
struct Span {
    from: DateTime<Utc>,
    until: DateTime<Utc>,
}

/// The definition file that holds the schedules.
const SCHEDULES: &str = "monitoring.toml";

/// How the demo runs.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoOptions {
    /// Take an eighth of the aircraft and small models: a minute and a half instead of several.
    #[arg(long)]
    pub quick: bool,
    /// Ten years later: train on 2013, then replay March to September 2023 with nobody retraining.
    #[arg(long)]
    pub decade: bool,
    /// The day (UTC) on which the replay begins, such as 2023-07-01; the data must reach back from it.
    #[arg(long)]
    pub from: Option<NaiveDate>,
    /// The day before which the replay ends.
    #[arg(long)]
    pub until: Option<NaiveDate>,
    /// Leave everything running at the end, to look around; stop it with Ctrl-C.
    #[arg(long)]
    pub keep: bool,
    /// Where report.html and report.json go.
    #[arg(long, default_value = "foretime-demo")]
    pub out: PathBuf,
    /// The folder of the example: its `definitions` and `data`.
    #[arg(long, default_value = "examples/flights")]
    pub example: PathBuf,
}

impl DemoOptions {
    fn span(&self) -> Result<Span, Failure> {
        let (from, until) =
            if self.decade { ("2023-03-01", "2023-10-01") } else { ("2013-11-01", "2014-01-01") };
        let midnight = |asked: Option<NaiveDate>, usual: &str| {
            let day =
                asked.unwrap_or_else(|| usual.parse().expect("the demo's days are written in ISO 8601"));
            day.and_time(NaiveTime::MIN).and_utc()
        };
        let span = Span { from: midnight(self.from, from), until: midnight(self.until, until) };
        if span.from >= span.until || span.from < midnight(None, from) {
            return Err(Failure(format!(
                "the replay would go from {} to {}; it begins at {from} or later, and before it ends",
                span.from.date_naive(),
                span.until.date_naive()
            )));
        }
        Ok(span)
    }
}

/// What the parts of the demo share.
struct Stage<'a> {
    options: &'a DemoOptions,
    client: Client,
    context: service_kit::Context,
    clock: Arc<ManualClock>,
    definitions: &'a Definitions,
    span: Span,
    stop: CancellationToken,
}

impl Stage<'_> {
    /// Ends the run if somebody asked for that.
    fn check(&self) -> Result<(), Failure> {
        if self.stop.is_cancelled() { Err(Failure("stopped".to_owned())) } else { Ok(()) }
    }
}

/// Runs the demo.
///
/// # Errors
/// What went wrong, and what to do.
pub async fn run(options: DemoOptions) -> Result<(), Failure> {
    let log = service_kit::config::LogConfig { filter: "warn,sqlx=error".to_owned(), json: false };
    telemetry::start(&log);
    let stop = CancellationToken::new();
    shutdown::on_signal(stop.clone())
        .map_err(|error| Failure(format!("signals cannot be handled: {error}")))?;
    let folder = std::env::temp_dir().join(format!("foretime-demo-{}", std::process::id()));
    let look = async |url: &str, _: &sqlx::PgPool| {
        if options.keep {
            println!("\neverything is left running at {url}; Ctrl-C stops it");
            stop.cancelled().await;
        }
    };
    let outcome = thread(&options, &folder, &stop, look).await;
    if let Err(error) = std::fs::remove_dir_all(&folder)
        && folder.exists()
    {
        tracing::warn!(%error, folder = %folder.display(), "the demo's data could not be removed");
    }
    outcome.map(|_| ())
}

/// The whole thread over a fresh data directory; everything is stopped when it ends. `look` may look around before that: it
/// gets the platform's address and its database.
///
/// # Errors
/// What went wrong, and what to do.
pub async fn thread(
    options: &DemoOptions,
    folder: &Path,
    stop: &CancellationToken,
    look: impl AsyncFnOnce(&str, &sqlx::PgPool),
) -> Result<report::Report, Failure> {
    let began = Instant::now();
    let mut steps = Steps::start();
    let mut sink = Sink::start().await?;
    let span = options.span()?;
    let files = study_files(options, &sink.url())?;
    let definitions = declared(&files)?;
    let mut config = Config { data_dir: folder.to_owned(), ..Config::default() };
    config.http.listen.set_port(0);
    (config.webhooks.allow_http, config.webhooks.allow_private) = (true, true); // the sink is on this machine
    // nobody waits for the answers of a replay, and a machine may be busy
    config.worker.batching.deadline_milliseconds = 1_000 * config.http.timeout_seconds;

    let started = Instant::now();
    let database = Database::open(&config)?;
    let clock = Arc::new(ManualClock::starting_at(at(HINDSIGHT)));
    let platform =
        Platform::start(config.clone(), database.url(), Some(clock.clone()), &Service::ALL, true).await?;
    steps.done("start Foretime", &format!("private Postgres, four services on {}", platform.url()), started);
    let stage = Stage {
        options,
        client: Client::new(&platform.url(), None)?,
        context: platform.context.clone(),
        clock,
        definitions: &definitions,
        span,
        stop: stop.clone(),
    };
    let unscheduled =
        files.iter().filter(|(name, _)| *name != SCHEDULES).map(|(n, t)| (n.clone(), t.clone())).collect();
    let studied = study::run(&stage, &unscheduled, &mut steps).await;
    platform.stop().await?;
    let studied = match studied {
        Ok(studied) => studied,
        Err(failure) => {
            database.close()?;
            return Err(failure);
        }
    };

    let clock = Arc::new(ManualClock::starting_at(stage.span.from));
    let platform = Platform::start(config, database.url(), Some(clock.clone()), &Service::ALL, false).await?;
    // Schedules begin when they are first seen, so they come with the clock that they live by.
    let files = replay_files(options, &sink.url())?;
    let definitions = declared(&files)?;
    let stage = Stage {
        client: Client::new(&platform.url(), None)?,
        context: platform.context.clone(),
        clock,
        definitions: &definitions,
        ..stage
    };
    let told = tell(&stage, &files, studied, &mut sink, &mut steps, began).await;
    if told.is_ok() {
        look(&platform.url(), &platform.context.db).await;
    }
    platform.stop().await?;
    database.close()?;
    told
}

/// Registers, replays, and writes the report.
async fn tell(
    stage: &Stage<'_>,
    files: &BTreeMap<String, String>,
    studied: study::Studied,
    sink: &mut Sink,
    steps: &mut Steps,
    began: Instant,
) -> Result<report::Report, Failure> {
    stage.client.apply(files, false).await?;
    let models = study::register(stage, studied.models, steps).await?;
    let replayed = replay::run(stage, steps).await?;
    let findings = summary::Findings {
        optimism: studied.optimism,
        manifest: studied.manifest,
        training_set: studied.training_set,
        models,
        replayed,
        delivered: sink.received(),
    };
    let report = summary::report(stage, findings, steps, began).await?;
    summary::write(&stage.options.out, &report)?;
    summary::print(&report, &stage.options.out, stage.options.keep);
    Ok(report)
}

/// The example's definition files; a quick run takes smaller models and a monitor for fewer rows. The channel leads to our sink.
fn study_files(options: &DemoOptions, sink: &str) -> Result<BTreeMap<String, String>, Failure> {
    let folder = options.example.join("definitions");
    if !folder.is_dir() {
        return Err(Failure(format!(
            "`{}` is not there; run the demo from the project's root, or name the example's folder with --example",
            folder.display()
        )));
    }
    let mut files = definition_files(&folder)?;
    if options.quick {
        files.extend(definition_files(&options.example.join("quick"))?);
    }
    Ok(told_to(sink, files))
}

/// Those that the replay lives by: ten years later the sources are others, and nobody retrains.
fn replay_files(options: &DemoOptions, sink: &str) -> Result<BTreeMap<String, String>, Failure> {
    let mut files = study_files(options, sink)?;
    if options.decade {
        files.extend(told_to(sink, definition_files(&options.example.join("decade"))?));
    }
    Ok(files)
}

fn told_to(sink: &str, mut files: BTreeMap<String, String>) -> BTreeMap<String, String> {
    for text in files.values_mut() {
        *text = text.replace("http://127.0.0.1:8641", sink);
    }
    files
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("the demo's moments are written in RFC 3339")
}
