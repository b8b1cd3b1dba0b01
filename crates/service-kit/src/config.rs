//! Settings: defaults < `foretime.toml` < environment (`FORETIME_…`, sections joined by `__`) < flags.
//!
//! Unknown keys are refused. Secrets are [`SecretString`]s and never printed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::{Fault, Remedy};
use figment::providers::{Env, Format, Serialized, Toml};
use figment::{Figment, Provider};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// All settings of a process.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where files and the private Postgres live.
    pub data_dir: PathBuf,
    /// A Postgres to use instead of a private one.
    pub database_url: Option<SecretString>,
    /// Connections per process.
    pub database_connections: u32,
    /// The project that definitions belong to unless they say otherwise.
    pub project: String,
    /// The HTTP surface.
    pub http: HttpConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// The job loop.
    pub jobs: JobsConfig,
    /// Model training and serving.
    pub worker: WorkerConfig,
    /// Where uploaded artifacts are kept.
    pub artifacts: ArtifactsConfig,
    /// Messages about changes of models.
    pub webhooks: WebhooksConfig,
    /// Where parts and training sets lie.
    pub offline: OfflineConfig,
    /// Online features.
    pub features: FeaturesConfig,
    /// How long what is over is kept.
    pub retention: RetentionConfig,
    /// HTTP over TLS.
    #[serde(default)]
    pub tls: TlsConfig,
    /// Traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Databases that definitions' queries name: `postgres://…`, by name. They are only read.
    #[serde(default)]
    pub connections: BTreeMap<String, SecretString>,
}

/// Where uploaded artifacts are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactsConfig {
    /// `s3://bucket/prefix`; without it, the data directory.
    pub url: Option<String>,
    /// The bucket's server, if it is not AWS.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: Option<String>,
    /// Who asks; without it, what the environment and the machine's role say.
    pub access_key_id: Option<String>,
    /// The proof of it.
    pub secret_access_key: Option<SecretString>,
    /// Whether the bucket's server may be asked without TLS.
    pub allow_http: bool,
    /// How long contents that nothing names any more are kept, in seconds.
    pub keep_unreferenced_seconds: u64,
}

/// Messages about changes of models.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhooksConfig {
    /// Whether receivers may be reached without TLS.
    pub allow_http: bool,
    /// Whether receivers may have addresses that are not public: loopback, private and link-local ones.
    pub allow_private: bool,
}

/// Where parts and training sets lie.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OfflineConfig {
    /// An object store such as `s3://bucket/prefix`, with credentials in `AWS_…` variables; without one, the data directory.
    pub url: Option<String>,
    /// Where files lie that datasets start from; without it, `files` under the data directory.
    pub files: Option<PathBuf>,
    /// How long files that no row names are kept, in seconds. What takes half as long to write is refused.
    pub keep_unlisted_seconds: u64,
}

impl Default for OfflineConfig {
    fn default() -> Self {
        Self { url: None, files: None, keep_unlisted_seconds: 24 * 60 * 60 }
    }
}

/// The HTTP surface.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Where to listen. Anything but loopback needs a `token`.
    pub listen: SocketAddr,
    /// What a client must show: `Authorization: Bearer TOKEN`, or basic authentication with it as the password.
    pub token: Option<SecretString>,
    /// The largest JSON or Arrow body, in bytes. Artifacts are streamed and not bounded by this.
    pub body_limit_bytes: usize,
    /// How long a request may take, in seconds.
    pub timeout_seconds: u64,
    /// So many requests are worked on at once; one more is told to come again.
    pub concurrency: usize,
    /// How long requests and jobs in hand may take to end once the process is told to stop, in seconds.
    pub drain_seconds: u64,
}

/// HTTP over TLS. Without a certificate, HTTP is plain.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// The certificate and those above it, as PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key, as PEM.
    pub key: Option<PathBuf>,
    /// The name that the certificate is made for: by it commands call the server. `localhost` unless said.
    pub name: Option<String>,
}

/// Traces of requests and jobs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// The OpenTelemetry collector that traces are sent to over HTTP, such as `http://127.0.0.1:4318`; also what
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` says. Without one there are no traces.
    pub otlp_endpoint: Option<String>,
}

/// How long what is over is kept: a schedule with `collect = "garbage"`, or `foretime gc`, forgets what is older.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Finished jobs and their logs, in days, once all of their chain is as old.
    pub jobs_days: u32,
    /// What became of each tick of a schedule, in days.
    pub ticks_days: u32,
    /// Answers to batches with an idempotency key, in days: a batch that is sent again later is taken anew.
    pub answers_days: u32,
    /// Files of served predictions with their inputs, in days. Monitors look back in them; what labels join to stays.
    pub predictions_days: u32,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { jobs_days: 30, ticks_days: 90, answers_days: 30, predictions_days: 400 }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// A `tracing` filter, such as `info,sqlx=warn`.
    pub filter: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

/// The job loop.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobsConfig {
    /// How long a lease lasts unless it is extended, in seconds. It is extended every third of that.
    pub lease_seconds: u64,
    /// How often to look for work when nobody knocks, in seconds.
    pub poll_seconds: u64,
    /// How long a job that was asked to end may go on, in seconds; then its task is ended.
    pub cancel_grace_seconds: u64,
    /// How many light jobs a service works on at once.
    pub hands: NonZeroUsize,
    /// How many heavy ones beside them: training, backtests, training sets, merges of parts, backups, each of which holds cores or
    /// memory.
    pub heavy_hands: NonZeroUsize,
}

/// Model training and serving.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConfig {
    /// What models compute on: `cpu`, or `cuda:0` and on in a program built with the Cargo feature `cuda`.
    pub device: String,
    /// Rows of logged predictions that are gathered into one file, unless `flush_seconds` pass first.
    pub log_rows: usize,
    /// The longest that a logged prediction waits for its file, in seconds. Until then it lies in `spool` below the data
    /// directory, where the end of the process does not reach it; a loss of power may.
    pub flush_seconds: u64,
    /// How many model versions are kept in memory; beyond it the one that was asked for longest ago is let go.
    pub loaded_models: usize,
    /// How often a training keeps how far its pretraining is, in seconds: another try of its job goes on from there.
    pub checkpoint_seconds: u64,
    /// How many texts of events are written at a time; past it, requests are told to come back.
    pub generations: usize,
    /// Of one request in this many to a model with a GPT, how unexpected its histories were, a token of each and random features
    /// of their vectors are logged for monitors (`gpt.surprise` in nats a token, `gpt.token`, `gpt.embedding.1` and on); 0 logs
    /// none. It costs a pass of its own.
    pub surprise_one_in: u64,
    /// How requests share passes through a model.
    pub batching: BatchingConfig,
}

/// How requests share passes through a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchingConfig {
    /// How many requests may wait for a model; past it, they are told to come back.
    pub queue: usize,
    /// How many rows one pass answers, at most; 1 answers each request alone.
    pub rows: usize,
    /// How long a pass waits for requests whose features are still being fetched, in milliseconds. A lone one never waits.
    pub wait_milliseconds: u64,
    /// How long a request may wait for its answer, in milliseconds.
    pub deadline_milliseconds: u64,
}

/// Online features.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeaturesConfig {
    /// Of one entity in this many, what is served is logged and recomputed from the offline store; 0 logs nothing.
    pub sample_one_in: u64,
}

impl JobsConfig {
    /// How long a lease lasts.
    pub fn lease(&self) -> chrono::TimeDelta {
        chrono::TimeDelta::seconds(self.lease_seconds.try_into().unwrap_or(i64::MAX / 1_000))
    }

    /// How often to look for work when nobody knocks.
    pub fn poll(&self) -> Duration {
        Duration::from_secs(self.poll_seconds)
    }

    /// How long a job that was asked to end may go on.
    pub fn cancel_grace(&self) -> Duration {
        Duration::from_secs(self.cancel_grace_seconds)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("foretime-data"),
            database_url: None,
            database_connections: 20,
            project: "default".to_owned(),
            http: HttpConfig {
                listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8640),
                token: None,
                body_limit_bytes: 256 << 20,
                timeout_seconds: 120,
                concurrency: 512,
                drain_seconds: 20,
            },
            log: LogConfig { filter: "info,sqlx=warn,tokio_cron_scheduler=warn".to_owned(), json: false },
            jobs: JobsConfig {
                lease_seconds: 30,
                poll_seconds: 5,
                cancel_grace_seconds: 30,
                hands: const { NonZeroUsize::new(8).expect("eight is not zero") },
                heavy_hands: NonZeroUsize::MIN,
            },
            worker: WorkerConfig {
                device: "cpu".to_owned(),
                log_rows: 10_000,
                flush_seconds: 5,
                loaded_models: 8,
                checkpoint_seconds: 30,
                generations: 4,
                surprise_one_in: 16,
                batching: BatchingConfig {
                    queue: 256,
                    rows: 256,
                    wait_milliseconds: 10,
                    deadline_milliseconds: 10_000,
                },
            },
            artifacts: ArtifactsConfig {
                url: None,
                endpoint: None,
                region: None,
                access_key_id: None,
                secret_access_key: None,
                allow_http: false,
                keep_unreferenced_seconds: 24 * 60 * 60,
            },
            webhooks: WebhooksConfig { allow_http: false, allow_private: false },
            offline: OfflineConfig::default(),
            features: FeaturesConfig { sample_one_in: 1_000 },
            retention: RetentionConfig::default(),
            tls: TlsConfig::default(),
            telemetry: TelemetryConfig::default(),
            connections: BTreeMap::new(),
        }
    }
}

/// The settings could not be read, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or variable does not fit.
    #[error("the configuration does not fit: {0}")]
    Unreadable(Box<figment::Error>),
    /// A certificate without its key, or a key without its certificate.
    #[error("`tls.{0}` is set and `tls.{1}` is not; TLS needs both")]
    HalfTls(&'static str, &'static str),
    /// What traces are sent to is not the address of a collector.
    #[error(
        "`telemetry.otlp_endpoint` must begin with http:// or https:// and name no user; what proves who sends goes into OTEL_EXPORTER_OTLP_HEADERS"
    )]
    NoCollector,
    /// A public address without authentication.
    #[error(
        "`http.listen` is {0}, which other machines can reach, and no `http.token` is set; set FORETIME_HTTP__TOKEN, or listen on 127.0.0.1"
    )]
    Unprotected(SocketAddr),
}

impl Fault for ConfigError {
    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "configuration",
            Self::HalfTls(..) => "half-tls",
            Self::NoCollector => "no-collector",
            Self::Unprotected(_) => "unprotected-listener",
        }
    }
}

impl Config {
    /// Reads `file` (if it exists) and the environment over the defaults.
    ///
    /// # Errors
    /// [`ConfigError`] names the key and where it came from.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let config: Self =
            layers(file).extract().map_err(|error| ConfigError::Unreadable(Box::new(error)))?;
        config.checked()
    }

    /// The same settings, if they may be used.
    ///
    /// # Errors
    /// [`ConfigError::Unprotected`], [`ConfigError::HalfTls`], [`ConfigError::NoCollector`].
    pub fn checked(mut self) -> Result<Self, ConfigError> {
        if !self.http.listen.ip().is_loopback() && self.http.token.is_none() {
            return Err(ConfigError::Unprotected(self.http.listen));
        }
        match (&self.tls.certificate, &self.tls.key) {
            (Some(_), None) => return Err(ConfigError::HalfTls("certificate", "key")),
            (None, Some(_)) => return Err(ConfigError::HalfTls("key", "certificate")),
            _ => {}
        }
        let telemetry = &mut self.telemetry;
        telemetry.otlp_endpoint = telemetry.otlp_endpoint.take().filter(|endpoint| !endpoint.is_empty());
        if telemetry.otlp_endpoint.as_deref().is_some_and(|endpoint| !may_collect(endpoint)) {
            return Err(ConfigError::NoCollector);
        }
        Ok(self)
    }
}

/// Whether that is an address without a user in it, which errors in the log would show.
fn may_collect(endpoint: &str) -> bool {
    let rest = ["http://", "https://"].iter().find_map(|scheme| endpoint.strip_prefix(scheme));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('@'))
}

/// What is laid over what.
pub(crate) fn layers(file: &Path) -> Figment {
    Figment::from(defaults()).merge(Toml::file(file)).merge(standard()).merge(environment())
}

/// The settings that nobody made; no secret is among them.
pub(crate) fn defaults() -> impl Provider {
    Serialized::defaults(Defaults::from(Config::default()))
}

/// The variable by which OpenTelemetry names a collector, to every program alike.
pub(crate) const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

fn standard() -> Env {
    let named = |key: &figment::value::UncasedStr| key == OTLP_ENDPOINT;
    Env::raw().filter(named).map(|_| "telemetry.otlp_endpoint".into())
}

/// `FORETIME_…` variables, but not those that name this file or what tests need.
fn environment() -> Env {
    let ours = |key: &figment::value::UncasedStr| {
        key != "config" && !key.as_str().to_ascii_lowercase().starts_with("test_")
    };
    Env::prefixed("FORETIME_").filter(ours).split("__")
}

/// The defaults as figment wants them: secrets are never serialised, and none has a default.
#[derive(Serialize)]
struct Defaults {
    data_dir: PathBuf,
    database_connections: u32,
    project: String,
    http: HttpDefaults,
    log: LogConfig,
    jobs: JobsConfig,
    worker: WorkerConfig,
    artifacts: ArtifactsDefaults,
    webhooks: WebhooksConfig,
    offline: OfflineConfig,
    features: FeaturesConfig,
    retention: RetentionConfig,
}

#[derive(Serialize)]
struct ArtifactsDefaults {
    allow_http: bool,
    keep_unreferenced_seconds: u64,
}

#[derive(Serialize)]
struct HttpDefaults {
    listen: SocketAddr,
    body_limit_bytes: usize,
    timeout_seconds: u64,
    concurrency: usize,
    drain_seconds: u64,
}

impl From<Config> for Defaults {
    fn from(config: Config) -> Self {
        Self {
            data_dir: config.data_dir,
            database_connections: config.database_connections,
            project: config.project,
            http: HttpDefaults {
                listen: config.http.listen,
                body_limit_bytes: config.http.body_limit_bytes,
                timeout_seconds: config.http.timeout_seconds,
                concurrency: config.http.concurrency,
                drain_seconds: config.http.drain_seconds,
            },
            log: config.log,
            jobs: config.jobs,
            worker: config.worker,
            artifacts: ArtifactsDefaults {
                allow_http: config.artifacts.allow_http,
                keep_unreferenced_seconds: config.artifacts.keep_unreferenced_seconds,
            },
            webhooks: config.webhooks,
            offline: config.offline,
            features: config.features,
            retention: config.retention,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str) -> Result<Config, ConfigError> {
        let figment =
            Figment::from(Serialized::defaults(Defaults::from(Config::default()))).merge(Toml::string(text));
        let config: Config = figment.extract().map_err(|error| ConfigError::Unreadable(Box::new(error)))?;
        config.checked()
    }

    #[test]
    fn the_defaults_can_be_used() {
        assert_eq!(with_file("").unwrap().project, "default");
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let refusal = with_file("[http]\nlisen = \"127.0.0.1:1\"").unwrap_err().to_string();
        assert!(refusal.contains("lisen"), "{refusal}");
    }

    #[test]
    fn no_hands_are_refused_by_name() {
        let refusal = with_file("[jobs]\nheavy_hands = 0").unwrap_err().to_string();
        assert!(refusal.contains("jobs.heavy_hands"), "{refusal}");
    }

    #[test]
    fn a_public_address_without_a_token_is_refused() {
        let refusal = with_file("[http]\nlisten = \"0.0.0.0:8640\"").unwrap_err().to_string();
        assert!(refusal.contains("FORETIME_HTTP__TOKEN"), "{refusal}");
        assert!(with_file("[http]\nlisten = \"0.0.0.0:8640\"\ntoken = \"long and random\"").is_ok());
    }

    #[test]
    fn a_collector_is_an_address_that_holds_no_secret() {
        let endpoint = |text: &str| with_file(&format!("[telemetry]\notlp_endpoint = '{text}'"));
        assert_eq!(endpoint("").unwrap().telemetry.otlp_endpoint, None);
        let found = endpoint("http://127.0.0.1:4318").unwrap().telemetry.otlp_endpoint;
        assert_eq!(found.as_deref(), Some("http://127.0.0.1:4318"));
        for wrong in ["127.0.0.1:4318", "https://", "https://u:PLANTED@collector"] {
            let refusal = endpoint(wrong).unwrap_err().to_string();
            assert!(
                refusal.contains("OTEL_EXPORTER_OTLP_HEADERS") && !refusal.contains("PLANTED"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let config = with_file("[http]\ntoken = \"long and random\"").unwrap();
        assert!(!format!("{config:?}").contains("long and random"));
    }
}
