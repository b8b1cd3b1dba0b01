//! The command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use domain::definitions::{Query, Source};
use feature_store::sources::QueryRows;
use serde_json::json;
use service_kit::{Config, provenance, shutdown, telemetry};

use crate::backtest::{self, Backtest, Optimism};
use crate::client::{Client, definition_files};
use crate::dataset::{self, Dataset};
use crate::demo::{self, DemoOptions};
use crate::features::{self, Features};
use crate::gpt::{self, GptCommand, PlanOptions};
use crate::jobs::{self, Jobs};
use crate::loops::{self, Loop};
use crate::monitor::{self, Monitor};
use crate::registry::{self, Registry};
use crate::scaling::{self, ScalingOptions};
use crate::schedules::{self, Schedules};
use crate::tokens::{self, Tokens};
use crate::up::{Database, Platform, Service};
use crate::{Failure, backup, doctor, garbage, metrics};

/// A feature store, a GPT training and inference worker, drift and calibration monitors, and a model registry. Nothing from
/// the future.
#[derive(Debug, Parser)]
#[command(name = "foretime", version, about, max_term_width = 100)]
pub struct Command {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    action: Action,
}

/// The settings file, unless another is named.
const USUAL_FILE: &str = "foretime.toml";

/// What is laid over the settings.
#[derive(Debug, Args)]
struct Flags {
    /// The settings file; environment variables FORETIME_… come over it.
    #[arg(long, global = true, default_value = USUAL_FILE, env = "FORETIME_CONFIG")]
    config: PathBuf,
    /// Where files and the private Postgres live.
    #[arg(long, global = true)]
    data_dir: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, global = true)]
    listen: Option<std::net::SocketAddr>,
}

#[derive(Debug, Subcommand)]
enum Action {
    #[command(flatten)]
    Do(Box<Deed>),
    /// Look at the settings.
    #[command(subcommand)]
    Config(Settings),
    /// Print every metric that the services expose at /metrics, as a table in Markdown.
    Metrics,
}

/// What needs settings that can be used.
#[derive(Debug, Subcommand)]
enum Deed {
    /// Run everything in one process, with a private Postgres unless `database_url` is set.
    Up,
    /// Run one service alone, against the Postgres of `database_url`. It refuses a schema it does not know.
    Run {
        /// Which one.
        service: Service,
    },
    /// See it all at work on the 2013 New York flights.
    Demo(DemoOptions),
    /// Apply the definition files of a folder to a running Foretime.
    Apply {
        /// The folder with *.toml files.
        folder: PathBuf,
        /// Only show what would change.
        #[arg(long)]
        dry_run: bool,
        /// Let a view whose stored rows cannot be read under its new definition go on as a new version, without rows.
        #[arg(long)]
        allow_new_versions: bool,
    },
    /// Push the rows of a source's file into a running Foretime.
    Ingest(Ingest),
    /// Build a training set and train a model on it.
    Train {
        /// The model definition.
        model: String,
        /// Register the version and ask its gate.
        #[arg(long)]
        promote: bool,
    },
    /// Walk a model's path from an origin that moves on, and print what each fold came to.
    Backtest(Backtest),
    /// Print what a random split would have claimed of a model, beside the later truth.
    Optimism(Optimism),
    /// Look at, fill, read and erase the features of a running Foretime.
    #[command(subcommand)]
    Features(Features),
    /// Make training sets, out of plain files without a server or on a running Foretime.
    #[command(subcommand)]
    Dataset(Dataset),
    /// Say what has moved.
    #[command(subcommand)]
    Monitor(Monitor),
    /// See what starts by itself, hold it still or start it now.
    #[command(subcommand)]
    Schedules(Schedules),
    /// See each model's way from training set to champion.
    #[command(subcommand)]
    Loop(Loop),
    /// See the work behind the scenes, end a job or try one again.
    #[command(subcommand)]
    Jobs(Jobs),
    /// See what serves and how it came to, and change it.
    #[command(subcommand)]
    Registry(Registry),
    /// Check, measure and run models of text and events, without a server.
    #[command(subcommand)]
    Gpt(GptCommand),
    /// Say what a training run will take: parameters, operations, memory, time.
    Plan(PlanOptions),
    /// Train a grid of small models on a text, fit how loss falls with size and data, and test that on the largest of them.
    Scaling(ScalingOptions),
    /// Say who may ask, and for what.
    #[command(subcommand)]
    Tokens(Tokens),
    /// Show who changed what: definitions, aliases, tokens, erasures, jobs.
    Audit {
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Write everything into a folder: the database and all files, as of one moment, while it all runs.
    Backup {
        /// A new or empty folder.
        folder: PathBuf,
    },
    /// Put a backup into an empty database and data directory, after its hashes were checked.
    Restore {
        /// The folder.
        folder: PathBuf,
    },
    /// Forget what is finished and older than `retention` in the settings keeps: jobs, ticks, kept answers, served predictions.
    Gc {
        /// Only say what would go.
        #[arg(long)]
        dry_run: bool,
    },
    /// Apply the migrations that `database_url` lacks.
    Migrate,
    /// Say what is wrong with this machine or configuration, and how to mend it.
    Doctor,
}

/// Looking at the settings.
#[derive(Debug, Subcommand)]
enum Settings {
    /// Print every setting, and whether it is a default, of the file or of a variable; secrets are not printed.
    Explain,
}

#[derive(Debug, Args)]
struct Ingest {
    /// The source definition.
    source: String,
    /// The folder of definition files that declares it; paths in it start there.
    #[arg(long, default_value = "definitions")]
    definitions: PathBuf,
    /// Read this Parquet file instead of the declared one.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Which stores take the rows: `online`, `offline` or `online_and_offline`.
    #[arg(long, default_value = "online_and_offline")]
    to: String,
    /// Makes a repeated push answer what the first one answered.
    #[arg(long)]
    idempotency_key: Option<String>,
}

/// Runs a command; a failure is told on standard error.
pub fn run(command: Command) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return told(&Failure(format!("no runtime can be started: {error}"))),
    };
    match runtime.block_on(act(command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => told(&failure),
    }
}

fn told(failure: &Failure) -> ExitCode {
    eprintln!("foretime: {failure}");
    ExitCode::FAILURE
}

/// Refuses a settings file that was named and is not there; the usual one may be missing.
fn check_file(file: &Path) -> Result<(), Failure> {
    if file == Path::new(USUAL_FILE) || file.exists() {
        return Ok(());
    }
    Err(Failure(format!(
        "there is no settings file `{}`; correct --config or FORETIME_CONFIG",
        file.display()
    )))
}

fn explain(given: &Flags) -> Result<(), Failure> {
    check_file(&given.config)?;
    let flags = [
        ("data_dir", "--data-dir", given.data_dir.as_ref().map(|folder| folder.display().to_string())),
        ("http.listen", "--listen", given.listen.map(|address| address.to_string())),
    ];
    for setting in provenance::explain(&given.config)? {
        let flag = flags.iter().find(|(key, _, value)| *key == setting.key && value.is_some());
        let (value, source) = match flag {
            Some((_, flag, value)) => (value.clone(), (*flag).to_owned()),
            None => (setting.value, setting.source),
        };
        println!("{:<38} {:<40} {source}", setting.key, value.as_deref().unwrap_or("(set, and not shown)"));
    }
    Ok(())
}

async fn act(command: Command) -> Result<(), Failure> {
    match command.action {
        Action::Config(Settings::Explain) => explain(&command.flags), // also of settings that cannot be used
        Action::Metrics => {
            print!("{}", metrics::document());
            Ok(())
        }
        Action::Do(deed) => act_with(settings(command.flags)?, *deed).await,
    }
}

/// The settings, with the flags over them.
fn settings(flags: Flags) -> Result<Config, Failure> {
    check_file(&flags.config)?;
    let mut config = Config::load(&flags.config)?;
    if let Some(data_dir) = flags.data_dir {
        config.data_dir = data_dir;
    }
    if let Some(listen) = flags.listen {
        config.http.listen = listen;
    }
    Ok(config.checked()?)
}

async fn act_with(config: Config, deed: Deed) -> Result<(), Failure> {
    match deed {
        Deed::Up => up(config).await,
        Deed::Run { service } => run_one(config, service).await,
        Deed::Demo(options) => demo::run(options).await,
        Deed::Apply { folder, dry_run, allow_new_versions } => {
            apply(&config, &folder, dry_run, allow_new_versions).await
        }
        Deed::Features(features) => features::run(&Client::of(&config)?, features).await,
        Deed::Ingest(ingest) => push(&config, ingest).await,
        Deed::Train { model, promote } => train(&config, &model, promote).await,
        Deed::Backtest(asked) => backtest::run(&Client::of(&config)?, &asked).await,
        Deed::Optimism(asked) => backtest::optimism(&Client::of(&config)?, &asked).await,
        Deed::Dataset(dataset) => dataset::run(&config, dataset).await,
        Deed::Monitor(asked) => monitor::run(&config, asked).await,
        Deed::Jobs(asked) => jobs::run(&Client::of(&config)?, asked).await,
        Deed::Schedules(asked) => schedules::run(&Client::of(&config)?, asked).await,
        Deed::Loop(asked) => loops::run(&Client::of(&config)?, asked).await,
        Deed::Registry(asked) => registry::run(&config, asked).await,
        Deed::Gpt(asked) => gpt::run(asked),
        Deed::Plan(asked) => gpt::plan(&asked),
        Deed::Scaling(asked) => scaling::run(&asked),
        Deed::Tokens(asked) => tokens::run(&Client::of(&config)?, asked).await,
        Deed::Audit { limit } => tokens::audit(&Client::of(&config)?, limit).await,
        Deed::Backup { folder } => backup::take(&config, &folder).await,
        Deed::Restore { folder } => backup::put_back(&config, &folder).await,
        Deed::Gc { dry_run } => garbage::run(&config, dry_run).await,
        Deed::Migrate => migrate(&config).await,
        Deed::Doctor => doctor::run(&config).await,
    }
}

async fn up(config: Config) -> Result<(), Failure> {
    let _telemetry = telemetry::start_with_traces(&config.log, &config.telemetry, "foretime");
    let database = Database::open(&config)?;
    let platform = Platform::start(config, database.url(), None, &Service::ALL, true).await?;
    serve(platform).await?;
    database.close()
}

async fn run_one(config: Config, service: Service) -> Result<(), Failure> {
    let _telemetry = telemetry::start_with_traces(&config.log, &config.telemetry, service.name());
    if config.database_url.is_none() {
        return Err(Failure(
            "a service that runs alone needs a database that others share; set FORETIME_DATABASE_URL"
                .to_owned(),
        ));
    }
    let database = Database::open(&config)?;
    serve(Platform::start(config, database.url(), None, &[service], false).await?).await
}

async fn serve(platform: Platform) -> Result<(), Failure> {
    let stop = platform.context.stop.clone();
    shutdown::on_signal(stop).map_err(|error| Failure(format!("signals cannot be handled: {error}")))?;
    println!("foretime listens on {}", platform.url());
    platform.run_until_stopped().await
}

async fn migrate(config: &Config) -> Result<(), Failure> {
    let database = Database::open(config)?;
    let pool = storage::connect(database.url(), 1).await?;
    storage::migrate(&pool).await?;
    let newest = storage::pool::newest_migration(&pool).await?;
    println!("the schema is at migration {}", newest.unwrap_or_default());
    pool.close().await;
    database.close()
}

async fn apply(config: &Config, folder: &Path, dry_run: bool, new_versions: bool) -> Result<(), Failure> {
    let files = definition_files(folder)?;
    let answer = Client::of(config)?.apply_with(&files, dry_run, new_versions).await?;
    for change in answer["plan"].as_array().into_iter().flatten() {
        let text = |key: &str| change[key].as_str().unwrap_or_default().to_owned();
        let keys = change["keys"].as_array().filter(|keys| !keys.is_empty());
        let keys = keys.map(|keys| format!(" {}", json!(keys))).unwrap_or_default();
        println!("{:<11} {} `{}`{keys}", text("change"), text("kind"), text("name"));
        for said in ["rows", "why"].map(text).iter().filter(|said| !said.is_empty()) {
            println!("{:<11} {said}", "");
        }
    }
    for refused in answer["refused"].as_array().into_iter().flatten() {
        println!("would be refused: {}", refused.as_str().unwrap_or_default());
    }
    println!("{}", if dry_run { "nothing was applied: this was a dry run" } else { "applied" });
    Ok(())
}

async fn push(config: &Config, ingest: Ingest) -> Result<(), Failure> {
    let declared = demo::declared(&definition_files(&ingest.definitions)?)?;
    let mut source = declared.source(&ingest.source).cloned().ok_or_else(|| {
        let hint = domain::words::did_you_mean(&ingest.source, declared.names("source"));
        Failure(format!(
            "no file in `{}` declares source `{}`{hint}",
            ingest.definitions.display(),
            ingest.source
        ))
    })?;
    if let Some(file) = &ingest.file {
        let file = file.canonicalize().map_err(|error| Failure(format!("`{}`: {error}", file.display())))?;
        source.path = Some(file.to_string_lossy().into_owned());
        source.query = None;
    }
    let client = Client::of(config)?;
    if let Some(query) = &source.query {
        return push_query(config, &client, &source, query, &ingest).await;
    }
    let rows = frames::source_file::read(&source, &ingest.definitions)?;
    let answer = client.push(&ingest.source, &rows, &ingest.to, ingest.idempotency_key.as_deref()).await?;
    println!("{answer}");
    Ok(())
}

/// Pushes the result of a query as it streams in. A repeat under the same key pushes nothing twice, if it gives the same rows.
async fn push_query(
    config: &Config,
    client: &Client,
    source: &Source,
    query: &Query,
    ingest: &Ingest,
) -> Result<(), Failure> {
    let mut result = QueryRows::begin(config, source, query).await?;
    let mut batch = 0;
    while let Some(rows) = result.next().await? {
        batch += 1;
        let key = ingest.idempotency_key.as_ref().map(|key| format!("{key}-{batch}"));
        println!("{}", client.push(&ingest.source, &rows, &ingest.to, key.as_deref()).await?);
    }
    Ok(())
}

async fn train(config: &Config, model: &str, promote: bool) -> Result<(), Failure> {
    let client = Client::of(config)?;
    let set = backtest::training_set(&client, model).await?;
    let request = json!({ "model": model, "training_set": set, "promote": promote });
    let trained = client.work("/v1/training-jobs", &request, |_| {}).await?;
    println!("run {} on training set {set}", trained["run_id"]);
    println!("{}", trained["evaluation"]["overall"]);
    Ok(())
}
