//! The worker: leases training jobs, serves predictions, owns the device.
//!
//! Belongs here: the path train → calibrate → evaluate → record, and serving what the registry calls champion. Not here:
//! learning itself (`gpt`, `boosting`), estimators (`statistics`), joins and files (`frames`), SQL (`storage`).
//!
//! Invariants: a model is judged only on rows later than everything it learned from; a calibrator serves only if a later
//! window says that it helps; every answer is logged with the exact version that gave it.

mod backtest;
mod calibrate;
mod checkpoint;
mod error;
mod kinds;
mod metrics;
mod model_file;
mod optimism;
mod path;
mod prediction_log;
mod publish;
mod reading;
mod record;
mod requests;
mod serving;
mod train;
mod training_data;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;
use axum::routing::post;
pub use backtest::{BACKTEST_JOB, Backtest};
pub use error::Error;
pub use optimism::{OPTIMISM_JOB, Optimism};
pub use publish::{PUBLISH_JOB, PublishEmbeddings};
use service_kit::Context;
use service_kit::catalogue::Catalogues;
use service_kit::jobs::Handlers;
use service_kit::online::Reader;
use service_kit::openapi::{Listed, describe};
use tokio::sync::Semaphore;
pub use train::{TRAIN_JOB, Train};

/// The worker's routes and the state behind them.
#[derive(Clone)]
pub struct Worker {
    context: Context,
    /// What models compute on.
    device: gpt::Device,
    metrics: metrics::Metrics,
    models: serving::Models,
    generations: Arc<Semaphore>,
    /// How many requests came, to look at one in so many.
    asked: Arc<AtomicU64>,
    log: prediction_log::PredictionLog,
    catalogues: Catalogues,
    reader: Reader,
}

impl Worker {
    /// A worker over this context, on the device of its settings.
    ///
    /// # Errors
    /// [`Error::Gpt`] if that device cannot be used.
    pub fn new(context: &Context) -> Result<Self, Error> {
        Ok(Self {
            context: context.clone(),
            device: gpt::device::open(&context.config.worker.device)?,
            metrics: metrics::Metrics::of(context),
            models: context.shared(|_| serving::Models::default()),
            generations: Arc::new(Semaphore::new(context.config.worker.generations.max(1))),
            asked: Arc::default(),
            log: prediction_log::PredictionLog::new(context),
            catalogues: Catalogues::of(context),
            reader: Reader::of(context),
        })
    }

    /// The worker's routes.
    pub fn router(&self) -> Router {
        describe(&self.context, serving::DOCUMENT);
        serving::routes().router.merge(jobs().router).merge(serving::foreign()).with_state(self.clone())
    }

    fn project(&self) -> &str {
        &self.context.config.project
    }

    /// Starts the job loop and the prediction log's clock.
    pub fn start(&self) {
        let [train, optimism, backtest, publish] = [(); 4].map(|()| self.clone());
        let handlers = Handlers::default()
            .heavy(TRAIN_JOB, move |job| train::handle(train.clone(), job))
            .heavy(OPTIMISM_JOB, move |job| optimism::handle(optimism.clone(), job))
            .heavy(BACKTEST_JOB, move |job| backtest::handle(backtest.clone(), job))
            .heavy(PUBLISH_JOB, move |job| publish::handle(publish.clone(), job));
        service_kit::jobs::start(&self.context, handlers);
        self.log.start();
    }
}

/// Makes this service's metrics, for a process that only tells of them.
pub fn make_metrics(metering: &service_kit::metrics::Metering) {
    metrics::Metrics::made(metering);
}

/// Asking for work; `openapi.json` describes it.
fn jobs() -> Listed<Worker> {
    Listed::default()
        .route("/v1/training-jobs", post(requests::train))
        .route("/v1/optimism-reports", post(requests::optimism))
        .route("/v1/backtests", post(requests::backtest))
        .route("/v1/embedding-jobs", post(requests::publish))
}
