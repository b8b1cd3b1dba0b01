//! The feature store: definitions, ingest, training sets, online features.
//!
//! Belongs here: parsing requests, the order of "files first, rows second", answers. Not here: joins and files (`frames`),
//! SQL (`storage`), what a definition means (`domain`).
//!
//! Invariants: a part's file is whole and synced before its row makes it visible; part and online rows become visible
//! together; nothing known later than now is accepted.

mod apply;
pub mod compact;
mod erase;
mod erase_logs;
mod error;
mod feast;
mod ingest;
mod intake;
mod intake_file;
mod materialize;
mod metrics;
mod online;
pub mod orphans;
mod parity;
mod parts;
mod snapshot;
pub mod sources;
mod statistics;
mod sweep;
mod training;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post, put};
use domain::definitions::{FeatureView, Source};
pub use error::Error;
use service_kit::Context;
use service_kit::catalogue::{Catalogue, Catalogues};
use service_kit::jobs::Handlers;
use service_kit::online::Reader;
use service_kit::openapi::{Listed, describe};
pub use training::{BuildTrainingSet, JOB_KIND};

/// What the handlers share.
#[derive(Clone)]
struct FeatureStore {
    context: Context,
    metrics: metrics::Metrics,
    catalogues: Catalogues,
    reader: Reader,
    plans: online::Plans,
    sampler: parity::Sampler,
}

impl FeatureStore {
    /// The store over this context; what it keeps in memory is shared by the whole process.
    fn of(context: &Context) -> Self {
        let sample_one_in = context.config.features.sample_one_in;
        Self {
            context: context.clone(),
            metrics: metrics::Metrics::of(context),
            catalogues: Catalogues::of(context),
            reader: Reader::of(context),
            plans: context.shared(|_| online::Plans::default()),
            sampler: context.shared(|_| parity::Sampler::new(sample_one_in)),
        }
    }

    fn project(&self) -> &str {
        &self.context.config.project
    }

    /// What is declared, as of a moment ago at worst.
    async fn catalogue(&self) -> Result<Arc<Catalogue>, Error> {
        Ok(self.catalogues.now(self.project()).await?)
    }

    fn source<'a>(&self, catalogue: &'a Catalogue, name: &str) -> Result<&'a Source, Error> {
        catalogue.definitions.source(name).ok_or_else(|| self.undefined(catalogue, "source", name))
    }

    fn view<'a>(&self, catalogue: &'a Catalogue, name: &str) -> Result<&'a FeatureView, Error> {
        catalogue
            .definitions
            .feature_view(name)
            .ok_or_else(|| self.undefined(catalogue, "feature_view", name))
    }

    fn undefined(&self, catalogue: &Catalogue, kind: &'static str, name: &str) -> Error {
        Error::undefined(&catalogue.definitions, kind, name, self.project())
    }

    /// Removes a file that no row names any more; one that is gone already is fine.
    async fn remove_file(&self, path: &str) {
        let file = self.context.data_dir.join(path);
        if let Err(error) = tokio::fs::remove_file(&file).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::error!(path = %file.display(), %error, "a file that nothing needs could not be removed");
        }
    }
}

/// The feature store's routes.
pub fn router(context: &Context) -> Router {
    let store = FeatureStore::of(context);
    describe(context, DOCUMENT);
    v1().router.merge(feast::router()).with_state(store)
}

/// Makes this service's metrics, for a process that only tells of them.
pub fn make_metrics(metering: &service_kit::metrics::Metering) {
    metrics::Metrics::made(metering);
}

/// What `/openapi.json` says of our own surface.
const DOCUMENT: &str = include_str!("openapi.json");

/// Our own surface; `openapi.json` describes it.
fn v1() -> Listed<FeatureStore> {
    Listed::default()
        .route("/v1/definitions", put(apply::apply).get(apply::list))
        .route("/v1/sources/{source}/rows", post(ingest::ingest))
        .route("/v1/datasets/{dataset}/online", post(online::dataset_online))
        .route("/v1/features/online", post(online::features_online))
        .route("/v1/views/{view}/statistics", get(statistics::show))
        .route("/v1/training-sets", post(training::request).get(training::list))
        .route("/v1/training-sets/{id}", get(training::show))
        .route("/v1/training-sets/{id}/rows", get(training::export))
        .route("/v1/freshness", get(online::freshness))
        .route("/v1/entities/{entity}/erase", post(erase::request))
        .route("/v1/erasures/{id}", get(erase::show))
        .route("/v1/parity", get(parity::show).post(parity::check_now))
}

/// Starts the feature store's job loop, the recomputation of what was served, and the sweep of events that are past.
pub fn start(context: &Context) {
    let store = FeatureStore::of(context);
    parity::start(&store);
    sweep::start(&store);
    let (erasing, taking, filling) = (store.clone(), store.clone(), store.clone());
    let (merging, retaining) = (context.clone(), context.clone());
    let handlers = Handlers::default()
        .on(intake_file::JOB_KIND, move |job| intake_file::run(taking.clone(), job))
        .heavy(JOB_KIND, move |job| training::build(store.clone(), job))
        .heavy(storage::erasures::JOB_KIND, move |job| erase::run(erasing.clone(), job))
        .heavy(materialize::JOB_KIND, move |job| materialize::run(filling.clone(), job))
        .heavy(compact::JOB_KIND, move |job| compact::run(merging.clone(), job))
        .heavy(compact::RETAIN_KIND, move |job| compact::run_retention(retaining.clone(), job));
    service_kit::jobs::start(context, handlers);
    context.tasks.spawn(compact::watch_retention(context.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_every_route_and_no_other() {
        assert_eq!(service_kit::openapi::faults(DOCUMENT, &v1().paths), [""; 0]);
    }
}
