//! Embeddings as features: the vector of every history that is known now, by a served version, left as a file of a source's rows
//! for the feature store to take in.
//!
//! A vector was learned when it was computed, and says so: it happened now and is known from now on, so no training set sees it
//! at an earlier cutoff. Model and version stand beside it where the source has columns for them, and in the lineage of both.

use domain::definitions::{Definitions, FeatureView, Source, ValueType};
use frames::exact::Exact;
use frames::online::all_histories;
use frames::{Frame, Values};
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_kit::catalogue::Catalogue;
use service_kit::jobs::{Failure, Job, Outcome};
use storage::jobs::NewJob;

use crate::serving::{Naming, Serving};
use crate::{Error, Worker};

/// The job kind that publishes embeddings.
pub const PUBLISH_JOB: &str = "publish-embeddings";

/// Histories that are read at a time.
const ROWS_AT_ONCE: usize = 2_048;

/// Which model's vectors, as rows of which source.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishEmbeddings {
    /// The registered model.
    pub model: String,
    /// Which of its versions, by alias; `champion` if neither is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Which of its versions, by number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
    /// The source whose rows they become.
    pub source: String,
}

impl PublishEmbeddings {
    fn naming(&self) -> Naming {
        Naming { alias: self.alias.clone(), version: self.version }
    }
}

/// Where vectors come from and go to.
struct Plan<'a> {
    view: &'a FeatureView,
    source: &'a Source,
    /// The source's column that holds the vector.
    column: String,
    width: u16,
}

/// Refuses what could not be done, before a job is made of it.
pub(crate) async fn check(worker: &Worker, request: &PublishEmbeddings) -> Result<(), Error> {
    let serving = worker.serving(&request.model, &request.naming().which()?).await?;
    let catalogue = worker.catalogues.now(worker.project()).await?;
    plan(&catalogue.definitions, &serving, request).map(|_| ())
}

/// Handles one job.
pub(crate) async fn handle(worker: Worker, job: Job) -> Result<Outcome, Failure> {
    let request: PublishEmbeddings = job.payload()?;
    let which = request.naming().which()?;
    let serving = worker.serving(&request.model, &which).await?;
    let catalogue = worker.catalogues.now(worker.project()).await.map_err(Error::from)?;
    let key = format!("embeddings-{}", job.leased.id);
    let path = format!("embeddings/{}/{}/{key}.arrow", worker.project(), request.source);
    let rows = vectors(&worker, &catalogue, serving.clone(), &request, &job).await?;
    let (count, file) = (rows.rows(), worker.context.data_dir.join(&path));
    let written = tokio::task::spawn_blocking(move || frames::files::write_arrow(&file, &rows));
    let written = written.await.map_err(Error::from)?.map_err(Error::from)?;
    job.say(format!("{count} vectors of `{}` version {}", request.model, serving.version));
    let next = NewJob {
        project: worker.project().to_owned(),
        kind: "ingest-file".to_owned(),
        payload: json!({
            "project": worker.project(),
            "source": request.source,
            "path": path,
            "sha256": written.sha256,
            "idempotency_key": key,
            "made_by": { "model": request.model, "version": serving.version },
        }),
        dedup_key: None,
        priority: 0,
        max_attempts: 3,
    };
    let answer = json!({
        "model": request.model, "version": serving.version, "source": request.source, "rows": count,
        "sha256": written.sha256,
    });
    Ok(Outcome { answer, next: vec![next] })
}

/// The rows of the source: keys, times, vector, model and version.
async fn vectors(
    worker: &Worker,
    catalogue: &Catalogue,
    serving: std::sync::Arc<Serving>,
    request: &PublishEmbeddings,
    job: &Job,
) -> Result<Frame, Error> {
    let plan = plan(&catalogue.definitions, &serving, request)?;
    let (column, width) = (plan.column.clone(), plan.width);
    let version = catalogue
        .views
        .get(&plan.view.name)
        .ok_or_else(|| Error::Undefined { kind: "feature_view", name: plan.view.name.clone() })?;
    let now = worker.context.clock.now().timestamp_micros();
    let mut conn = worker.context.db.acquire().await?;
    let online = storage::online::all(&mut conn, version.id).await?;
    drop(conn);
    let (keys, history) = all_histories(&catalogue.definitions, &catalogue.views, plan.view, &online, now)?;
    let (model, number, job) = (request.model.clone(), i64::from(serving.version), job.clone());
    let times = [plan.source.event_time.clone(), plan.source.known_time.clone()];
    let lineage = plan.lineage();
    tokio::task::spawn_blocking(move || {
        let reader = serving.servable.reader(&model)?;
        let mut vectors = Vec::with_capacity(history.rows());
        let places: Vec<usize> = (0..history.rows()).collect();
        for part in places.chunks(ROWS_AT_ONCE) {
            if job.cancelled.is_cancelled() {
                return Err(Error::Cancelled);
            }
            vectors.extend(reader.vectors(&history.take(part), &vec![now; part.len()])?);
            job.report(json!({ "stage": "embed", "step": vectors.len(), "steps": places.len() }));
        }
        let mut rows = keys;
        for name in times {
            rows.set(name, Values::Time(vec![now; vectors.len()]));
        }
        rows.set(column, Values::Exact(Exact::vectors(width, vectors.iter().map(Vec::as_slice))));
        if lineage[0] {
            rows.set("model", Values::text(vectors.iter().map(|_| Some(model.as_str()))));
        }
        if lineage[1] {
            rows.set("model_version", Values::Integer(vec![number; vectors.len()]));
        }
        Ok(rows)
    })
    .await?
}

/// Which view's histories become rows of which source, if the source is declared for it.
fn plan<'a>(
    definitions: &'a Definitions,
    serving: &Serving,
    request: &PublishEmbeddings,
) -> Result<Plan<'a>, Error> {
    let width = serving.servable.reader(&request.model)?.width();
    let undefined = |kind, name: &str| Error::Undefined { kind, name: name.to_owned() };
    let name = &serving.servable.card.dataset;
    let dataset = definitions.dataset(name).ok_or_else(|| undefined("dataset", name))?;
    let stream = dataset.history.as_deref().ok_or_else(|| Error::NoHistory(request.model.clone()))?;
    let stream = definitions.event_stream(stream).ok_or_else(|| undefined("event_stream", stream))?;
    let view =
        definitions.feature_view(&stream.view).ok_or_else(|| undefined("feature_view", &stream.view))?;
    let entity = definitions.entity(&view.entity).ok_or_else(|| undefined("entity", &view.entity))?;
    let source = definitions.source(&request.source).ok_or_else(|| undefined("source", &request.source))?;
    let wanted = u16::try_from(width).map(ValueType::Vector);
    let column = source.columns.iter().find(|(_, kind)| wanted == Ok(**kind)).map(|(name, _)| name.clone());
    let known = |name: &String| {
        entity.keys.contains(name)
            || *name == source.event_time
            || *name == source.known_time
            || Some(name) == column.as_ref()
            || ["model", "model_version"].contains(&name.as_str())
    };
    let fits = entity.keys.iter().all(|key| source.columns.contains_key(key))
        && source.columns.get("model").is_none_or(|kind| *kind == ValueType::Text)
        && source.columns.get("model_version").is_none_or(|kind| *kind == ValueType::Integer)
        && source.columns.keys().all(known);
    match (column, u16::try_from(width)) {
        (Some(column), Ok(width)) if fits => Ok(Plan { view, source, column, width }),
        _ => Err(Error::BadRequest(format!(
            "source `{}` cannot hold these vectors: declare the columns {}, its two times, one of type \
             vector({width}), and, for their lineage, `model` = \"text\" and `model_version` = \"integer\"",
            source.name,
            entity.keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "),
        ))),
    }
}

impl Plan<'_> {
    /// Whether the source keeps the model's name, and its version.
    fn lineage(&self) -> [bool; 2] {
        ["model", "model_version"].map(|name| self.source.columns.contains_key(name))
    }
}
