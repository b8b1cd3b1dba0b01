//! Everything a service may use, built once and handed in.

use std::path::PathBuf;
use std::sync::Arc;

use domain::{Clock, SystemClock};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::jobs::Wake;

/// Everything a service may use.
#[derive(Clone)]
pub struct Context {
    /// The database they all meet in.
    pub db: PgPool,
    /// The platform's time: what is "now" for features, labels, monitors and schedules.
    pub clock: Arc<dyn Clock>,
    /// The machine's time, for leases and durations only: a replay must not let a lease run out.
    pub machine_clock: Arc<dyn Clock>,
    /// Where files live.
    pub data_dir: PathBuf,
    /// The settings.
    pub config: Arc<Config>,
    /// The metrics this process shows at `/metrics`.
    pub metrics: prometheus::Registry,
    /// What tells the job loops of new work.
    pub wake: Wake,
    /// Cancelled when the process should stop.
    pub stop: CancellationToken,
    /// Everything that must have ended before the process may.
    pub tasks: TaskTracker,
}

impl Context {
    /// A context over `db` that tells the machine's time.
    pub fn new(db: PgPool, config: Config) -> Self {
        Self {
            db,
            clock: Arc::new(SystemClock),
            machine_clock: Arc::new(SystemClock),
            data_dir: config.data_dir.clone(),
            config: Arc::new(config),
            metrics: prometheus::Registry::new(),
            wake: Wake::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// The same context on another clock.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Runs `work` until it ends or the process stops; the process waits for it.
    pub fn spawn<F>(&self, name: &'static str, work: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                ended = work => if let Err(error) = ended {
                    tracing::error!(task = name, error = format!("{error:#}"), "a background task ended; the process stops");
                    stop.cancel();
                }
            }
        });
    }
}
