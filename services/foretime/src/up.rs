//! Composition: a database, a context, some services, one port.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::gpt::allocator;
use axum::Router;
use domain::Clock;
use secrecy::ExposeSecret;
use service_kit::{Config, Context, http, shutdown};
use storage::private_postgres::PrivatePostgres;
use tokio::task::JoinHandle;

use crate::failure::said;
use crate::{Failure, operations};

/// A service that can run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Service {
    /// Definitions, ingest, training sets, online features.
    FeatureStore,
    /// Training jobs and predictions.
    GptWorker,
    /// Drift, calibration, incidents, schedules.
    Monitor,
    /// Runs, models, gates, history; what MLflow's clients talk to.
    Registry,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::FeatureStore, Self::GptWorker, Self::Monitor, Self::Registry];

    /// What it is called beside the programs of others.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FeatureStore => "foretime-feature-store",
            Self::GptWorker => "foretime-gpt-worker",
            Self::Monitor => "foretime-monitor",
            Self::Registry => "foretime-registry",
        }
    }

    fn add(self, context: &Context, routes: Router) -> anyhow::Result<Router> {
        Ok(match self {
            Self::FeatureStore => {
                feature_store::start(context);
                routes.merge(feature_store::router(context))
            }
            Self::GptWorker => {
                let worker = gpt_worker::Worker::new(context)?;
                worker.start();
                routes.merge(worker.router())
            }
            Self::Monitor => {
                monitor::start(context)?;
                operations::work(context);
                routes.merge(monitor::router(context.clone()))
            }
            Self::Registry => {
                registry::start(context);
                routes.merge(registry::router(context))
            }
        })
    }
}

/// The database: ours, private and stopped with us, or the user's.
#[derive(Debug)]
pub struct Database {
    url: String,
    private: Option<PrivatePostgres>,
}

impl Database {
    /// The configured database, or a private one under the data directory.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        if let Some(url) = &config.database_url {
            return Ok(Self { url: url.expose_secret().to_owned(), private: None });
        }
        check_data_dir(&config.data_dir)?;
        let folder = config.data_dir.canonicalize().unwrap_or_else(|_| config.data_dir.clone());
        if PrivatePostgres::running(&folder.join("postgres"), "postgres").is_some() {
            return Err(Failure(format!(
                "a Foretime runs on `{}` already; stop it, or choose another folder with --data-dir or FORETIME_DATA_DIR",
                folder.display()
            )));
        }
        let postgres = PrivatePostgres::start(&folder.join("postgres"))?;
        Ok(Self { url: postgres.url("postgres"), private: Some(postgres) })
    }

    /// The same, or the private one that a running Foretime has started.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub fn attach(config: &Config) -> Result<Self, Failure> {
        let folder = config.data_dir.canonicalize().unwrap_or_else(|_| config.data_dir.clone());
        match PrivatePostgres::running(&folder.join("postgres"), "postgres") {
            Some(url) if config.database_url.is_none() => Ok(Self { url, private: None }),
            _ => Self::open(config),
        }
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops the server, if it is ours.
    ///
    /// # Errors
    /// If its process cannot be waited for.
    pub fn close(self) -> Result<(), Failure> {
        match self.private {
            Some(postgres) => {
                postgres.stop().map_err(|error| Failure(format!("Postgres did not stop: {error}")))
            }
            None => Ok(()),
        }
    }
}

/// Refuses a data directory that cannot be written.
fn check_data_dir(folder: &Path) -> Result<(), Failure> {
    let probe = folder.join(".foretime-probe");
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&probe, b"probe"));
    written.and_then(|()| std::fs::remove_file(&probe)).map_err(|cause| {
        Failure(format!(
            "`{}` cannot be used as a data directory: {cause}; choose one that is writable and has room, with --data-dir \
             or FORETIME_DATA_DIR",
            folder.display()
        ))
    })
}

/// Services that run in this process.
pub struct Platform {
    /// What they share.
    pub context: Context,
    address: SocketAddr,
    server: JoinHandle<anyhow::Result<()>>,
}

impl Platform {
    /// Starts `services` over the database at `url`, on the configured address.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub async fn start(
        config: Config,
        url: &str,
        clock: Option<Arc<dyn Clock>>,
        services: &[Service],
        migrate: bool,
    ) -> Result<Self, Failure> {
        check_data_dir(&config.data_dir)?;
        let db = connect(url, config.database_connections).await?;
        if migrate {
            storage::migrate(&db).await?;
        }
        storage::pool::require_current_schema(&db).await?;
        let mut context = Context::new(db, config);
        if let Some(clock) = clock {
            context = context.with_clock(clock);
        }
        stay_small(&context);
        let listener = http::listen(&context).await?;
        let address = listener.local_addr().map_err(|error| Failure(error.to_string()))?;
        let added = services.iter().try_fold(Router::new(), |routes, service| service.add(&context, routes));
        let routes = added.map_err(|error| said(&error))?;
        let serving = context.clone();
        let server = tokio::spawn(async move { http::run(&serving, listener, routes).await });
        Ok(Self { context, address, server })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        let scheme = if self.context.config.tls.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Waits until something stops the platform, and for everything in hand.
    ///
    /// # Errors
    /// If the listener failed.
    pub async fn run_until_stopped(self) -> Result<(), Failure> {
        let served = self.server.await;
        shutdown::drain(&self.context).await;
        self.context.db.close().await;
        match served {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(said(&error)),
            Err(error) => Err(Failure(format!("the server ended early: {error}"))),
        }
    }

    /// Stops the services and waits for everything in hand.
    ///
    /// # Errors
    /// If the listener failed.
    pub async fn stop(self) -> Result<(), Failure> {
        self.context.stop.cancel();
        self.run_until_stopped().await
    }
}

/// How often memory that is free between blocks in use is given back.
const TIDY_EVERY: Duration = Duration::from_secs(30);

/// Keeps the memory of a process that runs for long near what it uses.
fn stay_small(context: &Context) {
    allocator::be_frugal();
    let stop = context.stop.clone();
    context.tasks.spawn(async move {
        let mut ticks = tokio::time::interval(TIDY_EVERY);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let _ = tokio::task::spawn_blocking(allocator::give_back).await; // the next one tries again
        }
    });
}

async fn connect(url: &str, connections: u32) -> Result<sqlx::PgPool, Failure> {
    storage::connect(url, connections).await.map_err(|error| {
        let Failure(text) = error.into();
        Failure(format!(
            "no database answers at the configured address: {text}; start it, or correct `database_url`"
        ))
    })
}
