//! The registry: MLflow-compatible tracking and model registry, artifacts, gates, lineage, alias history.
//!
//! Belongs here: parsing requests, the order of "judge, then move, and write down either", answers. Not here: SQL
//! (`storage`), what a gate asks (`domain`), how two models are compared (`statistics`).
//!
//! Invariants: an alias moves in one place, [`aliases`], under the lock of its model's row; a guarded alias moves only if its
//! gate passes, and is never merely taken away; every move and every refusal is a row of the hash-chained history; a path
//! that a client names never leaves the artifact root.

mod aliases;
mod artifacts;
mod card;
mod error;
mod evidence;
mod files;
mod lineage;
mod metrics;
mod mlflow;
mod promotion;
mod signing;
mod v1;
mod verify;
mod webhooks;

use std::sync::Arc;

use axum::Router;
use service_kit::Context;
use service_kit::jobs::Handlers;

pub use aliases::Ask;
pub use error::Error;
pub use promotion::{JOB_KIND, PromoteJob, promote};

/// What the handlers share.
#[derive(Clone)]
struct Registry {
    context: Context,
    /// The configured project, or the workspace that a request names.
    project: Arc<str>,
    kept_runs: mlflow::KeptRuns,
    kept_verdicts: mlflow::KeptVerdicts,
}

impl Registry {
    fn over(context: &Context) -> Self {
        Self {
            context: context.clone(),
            project: context.config.project.as_str().into(),
            kept_runs: context.shared(|_| mlflow::KeptRuns::default()),
            kept_verdicts: context.shared(|_| mlflow::KeptVerdicts::default()),
        }
    }

    fn project(&self) -> &str {
        &self.project
    }

    /// Now, as MLflow counts it.
    fn now_ms(&self) -> i64 {
        self.context.clock.now().timestamp_millis()
    }
}

/// The registry's routes: MLflow's own, and `/v1/models`.
pub fn router(context: &Context) -> Router {
    service_kit::openapi::describe(context, v1::DOCUMENT);
    mlflow::routes().merge(v1::routes().router).with_state(Registry::over(context))
}

/// Makes this service's metrics, for a process that only tells of them.
pub fn make_metrics(metering: &service_kit::metrics::Metering) {
    metrics::Metrics::made(metering);
}

/// Starts the registry's job loop.
pub fn start(context: &Context) {
    let shared = context.clone();
    let (collecting, telling) = (context.clone(), context.clone());
    let handlers = Handlers::default()
        .on(JOB_KIND, move |job| promotion::work(shared.clone(), job))
        .on(artifacts::COLLECT, move |job| artifacts::collect(collecting.clone(), job));
    service_kit::jobs::start(context, handlers);
    // in hands of their own: no promotion waits for a receiver
    let deliveries =
        Handlers::default().on(storage::webhooks::DELIVER, move |job| webhooks::work(telling.clone(), job));
    service_kit::jobs::start(context, deliveries);
    artifacts::schedule(context);
}
