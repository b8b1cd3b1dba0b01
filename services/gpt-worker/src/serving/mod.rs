//! Serving: the version that an alias names or a caller pins, loaded once, behind a queue of its own.
//!
//! Belongs here: which version answers, its features, batching, the shapes of answers. Not here: what a model is
//! (`model_file`), how answers are kept (`prediction_log`).
//!
//! An alias is looked up for every request, so a moved alias is seen by the next one; a request keeps the version that it
//! began with until it is answered, however the alias moves meanwhile.

mod document;
mod embeddings;
mod engine;
mod generate;
mod inference;
mod invocations;
mod predict;
mod question;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::routing::{get, post};
use domain::ids::PredictionId;
use frames::as_of::Status;
use serde::Deserialize;
use serde_json::{Map, Value};
use service_kit::openapi::Listed;

pub(crate) use document::DOCUMENT;
pub(crate) use engine::{Engine, Wants};
pub(crate) use question::{Columns, Question};

use crate::model_file::Servable;
use crate::{Error, Worker, prediction_log};

/// Rows in one request, at most.
pub(crate) const MAX_ROWS: usize = 10_000;

/// Our own serving surface; the document describes it.
pub(crate) fn routes() -> Listed<Worker> {
    Listed::default()
        .route("/v1/predict", post(predict::predict))
        .route("/v1/prediction-log/flush", post(predict::flush))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/generate", post(generate::generate))
}

/// The surfaces that others have defined: MLflow's scoring server, and the Open Inference Protocol.
pub(crate) fn foreign() -> axum::Router<Worker> {
    let versioned = "/v2/models/{name}/versions/{version}";
    axum::Router::new()
        .route("/invocations", post(invocations::invocations))
        .route("/ping", get(invocations::ping))
        .route("/v2", get(inference::server))
        .route("/v2/health/live", get(inference::live))
        .route("/v2/health/ready", get(inference::ready))
        .route("/v2/models/{name}", get(inference::model))
        .route("/v2/models/{name}/ready", get(inference::model_ready))
        .route("/v2/models/{name}/infer", post(inference::infer))
        .route(versioned, get(inference::version))
        .route(&format!("{versioned}/ready"), get(inference::version_ready))
        .route(&format!("{versioned}/infer"), post(inference::infer_version))
}

/// Which version of a registered model is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one that an alias names.
    Alias(String),
    /// This one.
    Version(i32),
}

/// `alias` and `version` of a request: at most one of them, `champion` if neither.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Naming {
    #[serde(default)]
    pub(crate) alias: Option<String>,
    #[serde(default)]
    pub(crate) version: Option<i32>,
}

impl Naming {
    /// What is named.
    ///
    /// # Errors
    /// [`Error::BadRequest`] if both are.
    pub(crate) fn which(self) -> Result<Which, Error> {
        match (self.alias, self.version) {
            (Some(_), Some(_)) => {
                Err(Error::BadRequest("name an `alias` or a `version`, not both".to_owned()))
            }
            (_, Some(version)) => Ok(Which::Version(version)),
            (alias, None) => Ok(Which::Alias(alias.unwrap_or_else(|| "champion".to_owned()))),
        }
    }
}

/// A version that serves.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) model: String,
    pub(crate) version: i32,
    pub(crate) servable: Arc<Servable>,
    engine: Engine,
    /// What its rows may bring, since which apply.
    columns: Mutex<Option<(i64, Arc<Columns>)>>,
}

/// Loaded versions. What was asked for last stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Models {
    loaded: Arc<Mutex<HashMap<(String, i32), Loaded>>>,
    loading: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Loaded {
    serving: Arc<Serving>,
    asked: Instant,
}

impl Models {
    fn find(&self, model: &str, version: i32) -> Option<Arc<Serving>> {
        let mut loaded = self.loaded.lock().expect("no holder of this lock can panic");
        let found = loaded.get_mut(&(model.to_owned(), version))?;
        found.asked = Instant::now();
        Some(Arc::clone(&found.serving))
    }

    /// Keeps a version, and lets go those that were asked for longest ago beyond `most`. Who is being answered by one of them
    /// still is.
    fn keep(&self, serving: &Arc<Serving>, most: usize) {
        let mut loaded = self.loaded.lock().expect("no holder of this lock can panic");
        let key = (serving.model.clone(), serving.version);
        loaded.insert(key, Loaded { serving: Arc::clone(serving), asked: Instant::now() });
        while loaded.len() > most.max(1) {
            let oldest = loaded.iter().min_by_key(|(_, loaded)| loaded.asked).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            loaded.remove(&oldest);
        }
    }
}

/// Everything that is answered about some rows.
pub(crate) struct Foretold {
    pub(crate) serving: Arc<Serving>,
    pub(crate) cutoff: domain::AsOf,
    pub(crate) ids: Vec<PredictionId>,
    pub(crate) probabilities: Vec<f64>,
    pub(crate) statuses: Statuses,
}

/// What became of each row's question to each view.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statuses(pub(crate) Vec<(String, Vec<Status>)>);

impl Statuses {
    /// Of one row, by view.
    pub(crate) fn of(&self, row: usize) -> Map<String, Value> {
        self.0.iter().map(|(view, statuses)| (view.clone(), statuses[row].name().into())).collect()
    }
}

impl Worker {
    /// The version that is asked, loaded.
    ///
    /// # Errors
    /// [`Error::NothingServes`] or [`Error::NoSuchModel`] if there is none.
    pub(crate) async fn serving(&self, model: &str, which: &Which) -> Result<Arc<Serving>, Error> {
        let version = self.version_of(model, which).await?;
        if let Some(serving) = self.models.find(model, version) {
            return Ok(serving);
        }
        let _loading = self.models.loading.lock().await; // many ask for a new champion at once; one loads it
        if let Some(serving) = self.models.find(model, version) {
            return Ok(serving);
        }
        let mut conn = self.context.db.acquire().await?;
        let folder = crate::record::folder_of(&mut conn, self.project(), model, version).await?;
        drop(conn);
        let folder = folder.map(|folder| self.context.data_dir.join(folder));
        let here = |folder: &Path| folder.join(crate::model_file::FILE).exists();
        let folder = folder
            .filter(|folder| here(folder))
            .ok_or_else(|| Error::NoSuchModel { model: model.to_owned(), version })?;
        let device = self.device.clone();
        let loaded = tokio::task::spawn_blocking(move || Servable::load(&folder, &device));
        let servable = Arc::new(loaded.await??);
        let engine =
            Engine::start(model, version, &servable, &self.context.config.worker.batching, &self.metrics)?;
        let columns = Mutex::default();
        let serving = Arc::new(Serving { model: model.to_owned(), version, servable, engine, columns });
        self.models.keep(&serving, self.context.config.worker.loaded_models);
        Ok(serving)
    }

    /// Whether the histories of this request are to be looked at: one request in so many.
    fn is_looked_at(&self) -> bool {
        let every = self.context.config.worker.surprise_one_in;
        every > 0 && self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(every)
    }

    async fn version_of(&self, model: &str, which: &Which) -> Result<i32, Error> {
        match which {
            Which::Version(version) => Ok(*version),
            Which::Alias(alias) => {
                let mut conn = self.context.db.acquire().await?;
                let found = storage::models::alias_of(&mut conn, self.project(), model, alias).await?;
                let (model, alias) = (model.to_owned(), alias.clone());
                found.ok_or(Error::NothingServes { model, alias })
            }
        }
    }

    /// Answers rows by a version, and logs what was answered.
    ///
    /// # Errors
    /// What is wrong with the rows, or that the model has no time for them.
    pub(crate) async fn foretell(
        &self,
        serving: Arc<Serving>,
        rows: &[Map<String, Value>],
    ) -> Result<Foretold, Error> {
        let began = Instant::now();
        bounded(rows.len())?;
        let coming = serving.engine.announce();
        let question = self.question(&serving, rows).await?;
        let Question { asked, features, statuses, now } = question;
        let reads = serving.servable.learned.reader().is_some();
        let looked = reads && self.is_looked_at();
        let wants = if looked { Wants::Readings } else { Wants::Probabilities };
        let said = coming.ask(asked, wants).await?;
        let cutoff = domain::Cutoff(now);
        let predictions: Vec<_> =
            said.probabilities.iter().map(|p| prediction_log::answer(cutoff, *p)).collect();
        let ids = predictions.iter().map(|prediction| prediction.id).collect();
        let mut features = prediction_log::with_statuses(features, &statuses);
        if reads {
            features = crate::reading::with_readings(features, &serving.servable, &said.readings);
        }
        let version = prediction_log::Version { model: serving.model.clone(), version: serving.version };
        if self.log.add(version, features, predictions)? {
            self.log.flush().await?;
        }
        let (model, version) = (serving.model.as_str(), serving.version.to_string());
        self.metrics
            .predictions
            .with_label_values(&[model, &version])
            .inc_by(said.probabilities.len() as u64);
        self.metrics.predict_seconds.with_label_values(&[model]).observe(began.elapsed().as_secs_f64());
        let probabilities = said.probabilities;
        Ok(Foretold { serving, cutoff: domain::AsOf(now), ids, probabilities, statuses })
    }
}

/// Refuses no rows, and too many.
fn bounded(rows: usize) -> Result<(), Error> {
    if (1..=MAX_ROWS).contains(&rows) {
        return Ok(());
    }
    Err(Error::BadRequest(format!("`rows` must hold 1 to {MAX_ROWS} rows")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_every_route_and_no_other() {
        let paths = [routes().paths, crate::jobs().paths].concat();
        assert_eq!(service_kit::openapi::faults(DOCUMENT, &paths), [""; 0]);
    }

    #[test]
    fn an_alias_or_a_version_is_named_or_the_champion_is_meant() {
        let named = |alias: Option<&str>, version| Naming { alias: alias.map(str::to_owned), version };
        assert_eq!(named(None, None).which().unwrap(), Which::Alias("champion".to_owned()));
        assert_eq!(named(Some("trial"), None).which().unwrap(), Which::Alias("trial".to_owned()));
        assert_eq!(named(None, Some(3)).which().unwrap(), Which::Version(3));
        assert!(named(Some("trial"), Some(3)).which().is_err());
    }
}
