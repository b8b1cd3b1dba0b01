//! The feature store: definitions, ingest, training sets, online features.
//!
//! Belongs here: parsing requests, the order of "files first, rows second", answers. Not here: joins and files (`frames`),
//! SQL (`storage`), what a definition means (`domain`).
//!
//! Invariants: a part's file is whole and synced before its row makes it visible; part and online rows become visible
//! together; nothing known later than now is accepted.

mod apply;
pub mod compact;
mod error;
mod ingest;
mod metrics;
mod online;
mod parts;
mod snapshot;
mod training;

use axum::Router;
use axum::routing::{get, post, put};
pub use error::Error;
use service_kit::Context;
use service_kit::jobs::Handlers;
pub use training::{BuildTrainingSet, JOB_KIND};

/// What the handlers share.
#[derive(Clone)]
struct FeatureStore {
    context: Context,
    metrics: metrics::Metrics,
}

/// The feature store's routes.
pub fn router(context: &Context) -> Router {
    let store = FeatureStore { context: context.clone(), metrics: metrics::Metrics::of(context) };
    Router::new()
        .route("/v1/definitions", put(apply::apply).get(apply::list))
        .route("/v1/sources/{source}/rows", post(ingest::ingest))
        .route("/v1/datasets/{dataset}/online", post(online::online))
        .route("/v1/training-sets", post(training::request).get(training::list))
        .route("/v1/training-sets/{id}", get(training::show))
        .route("/v1/training-sets/{id}/rows", get(training::export))
        .route("/v1/freshness", get(online::freshness))
        .with_state(store)
}

/// Starts the feature store's job loop.
pub fn start(context: &Context) {
    let store = FeatureStore { context: context.clone(), metrics: metrics::Metrics::of(context) };
    let context_of = |store: &FeatureStore| store.context.clone();
    let (merging, retaining) = (context_of(&store), context_of(&store));
    let handlers = Handlers::default()
        .on(JOB_KIND, move |job| training::build(store.clone(), job))
        .on(compact::JOB_KIND, move |job| compact::run(merging.clone(), job))
        .on(compact::RETAIN_KIND, move |job| compact::run_retention(retaining.clone(), job));
    service_kit::jobs::start(context, handlers);
    context.tasks.spawn(compact::watch_retention(context.clone()));
}
