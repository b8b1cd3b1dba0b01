//! Everything a service may use, built once and handed in.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use domain::{Clock, SystemClock};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::jobs::Wake;
use crate::metrics::Metering;

/// One value a type.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<HashMap<TypeId, Box<dyn Any + Send>>>>);

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
    pub metrics: Metering,
    shared: Shared,
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
            metrics: Metering::default(),
            shared: Shared::default(),
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

    /// The one `T` of this process, made the first time it is asked for: metrics must be registered once and then shared.
    pub fn shared<T: Clone + Send + Sync + 'static>(&self, make: impl FnOnce(&Metering) -> T) -> T {
        let mut known = self.shared.0.lock().expect("no holder of this lock can panic");
        let entry = known.entry(TypeId::of::<T>()).or_insert_with(|| Box::new(make(&self.metrics)));
        entry.downcast_ref::<T>().expect("it is stored under its own type").clone()
    }
}
