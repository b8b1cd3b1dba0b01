//! What is logged into a run: `runs/log-…`, `set-tag`, `delete-tag`, `outputs`.

use serde_json::Value;
use sqlx::PgConnection;
use storage::tracking::logged_models::{self, ModelMetric};
use storage::tracking::{self, Dataset, Metric, ModelLink, Pair, Role};

use super::input::Input;
use super::refusal::Refusal;
use super::runs::{RUN_NAME, active, begin_logging};
use super::{Answer, done, rules};
use crate::Registry;

const BATCH_BYTES: usize = 1_000_000;

/// A point, and the logged model it is about.
struct Point {
    metric: Metric,
    model_id: Option<String>,
    dataset_name: Option<String>,
    dataset_digest: Option<String>,
}

fn point(input: &Input, path: &str) -> Result<Point, Refusal> {
    let key = input.present("key")?;
    rules::metric_key(path, key)?;
    let timestamp_ms = input.required_whole("timestamp")?;
    if timestamp_ms < 0 {
        return Err(Refusal::invalid(format!(
            "Invalid value {timestamp_ms} for parameter 'timestamp' supplied: metric '{key}'. Timestamp must be a \
             nonnegative long (64-bit integer) "
        )));
    }
    let metric = Metric {
        key: key.to_owned(),
        value: input.required_number("value")?,
        timestamp_ms,
        step: input.whole("step")?.unwrap_or_default(),
    };
    let text = |key| Ok::<_, Refusal>(input.text(key)?.filter(|text| !text.is_empty()).map(str::to_owned));
    Ok(Point {
        metric,
        model_id: text("model_id")?,
        dataset_name: text("dataset_name")?,
        dataset_digest: text("dataset_digest")?,
    })
}

async fn save_points(
    registry: &Registry,
    conn: &mut PgConnection,
    run_id: &str,
    points: Vec<Point>,
) -> Result<(), Refusal> {
    let metrics: Vec<Metric> = points.iter().map(|point| point.metric.clone()).collect();
    tracking::log_metrics(conn, registry.project(), run_id, &metrics).await?;
    for point in points {
        let Some(model_id) = point.model_id else { continue };
        let measured = ModelMetric {
            metric: point.metric,
            run_id: run_id.to_owned(),
            dataset_name: point.dataset_name,
            dataset_digest: point.dataset_digest,
        };
        if !logged_models::log_metric(conn, registry.project(), &model_id, &measured).await? {
            return Err(super::logged_models::no_model(&model_id));
        }
    }
    Ok(())
}

async fn save_params(
    registry: &Registry,
    conn: &mut PgConnection,
    run_id: &str,
    params: &[Pair],
) -> Result<(), Refusal> {
    match tracking::log_params(conn, registry.project(), run_id, params).await {
        Err(storage::Error::Conflict { what }) => Err(Refusal::invalid(what)),
        other => Ok(other?),
    }
}

async fn save_tags(
    registry: &Registry,
    conn: &mut PgConnection,
    run_id: &str,
    tags: &[Pair],
) -> Result<(), Refusal> {
    tracking::set_tags(conn, registry.project(), run_id, tags).await?;
    if let Some((_, name)) = tags.iter().rev().find(|(key, _)| key == RUN_NAME) {
        tracking::runs::update(conn, registry.project(), run_id, None, None, Some(name)).await?;
    }
    Ok(())
}

pub(crate) async fn log_metric(registry: Registry, input: Input) -> Answer {
    let (run_id, point) = (input.run_id()?, point(&input, "name")?);
    if point.model_id.is_none() {
        let mut conn = registry.context.db.acquire().await?;
        let stage = tracking::log_metric(&mut conn, registry.project(), run_id, &point.metric).await?;
        return active(run_id, stage.as_deref()).and_then(|()| done());
    }
    let mut tx = registry.context.db.begin().await?;
    begin_logging(&registry, &mut tx, run_id).await?;
    save_points(&registry, &mut tx, run_id, vec![point]).await?;
    tx.commit().await?;
    done()
}

pub(crate) async fn log_param(registry: Registry, input: Input) -> Answer {
    let run_id = input.run_id()?;
    let param = (input.required("key")?.to_owned(), input.text("value")?.unwrap_or_default().to_owned());
    let param = rules::param("key", param)?;
    let mut tx = registry.context.db.begin().await?;
    begin_logging(&registry, &mut tx, run_id).await?;
    save_params(&registry, &mut tx, run_id, &[param]).await?;
    tx.commit().await?;
    done()
}

pub(crate) async fn log_batch(registry: Registry, input: Input) -> Answer {
    let run_id = input.run_id()?;
    let Batch { points, params, tags } = batch(&input)?;
    let mut tx = registry.context.db.begin().await?;
    begin_logging(&registry, &mut tx, run_id).await?;
    save_params(&registry, &mut tx, run_id, &params).await?;
    save_points(&registry, &mut tx, run_id, points).await?;
    save_tags(&registry, &mut tx, run_id, &tags).await?;
    tx.commit().await?;
    done()
}

struct Batch {
    points: Vec<Point>,
    params: Vec<Pair>,
    tags: Vec<Pair>,
}

fn batch(input: &Input) -> Result<Batch, Refusal> {
    if input.size_bytes > BATCH_BYTES {
        return Err(Refusal::invalid(format!(
            "Batched logging API requests must be at most {BATCH_BYTES} bytes, got a request of size {}.",
            input.size_bytes
        )));
    }
    let (metrics, params, tags) = (input.items("metrics")?, input.pairs("params")?, input.pairs("tags")?);
    at_most("metrics", 1_000, metrics.len())?;
    at_most("params", 100, params.len())?;
    at_most("tags", 100, tags.len())?;
    at_most("metrics, params, and tags", 1_000, metrics.len() + params.len() + tags.len())?;
    let points =
        metrics.iter().enumerate().map(|(index, metric)| point(metric, &format!("metrics[{index}].name")));
    let points = points.collect::<Result<Vec<_>, _>>()?;
    let params = params
        .into_iter()
        .enumerate()
        .map(|(index, param)| rules::param(&format!("params[{index}].key"), param))
        .collect::<Result<Vec<_>, _>>()?;
    refuse_repeated(&params)?;
    let tags =
        tags.into_iter().enumerate().map(|(index, tag)| rules::run_tag(&format!("tags[{index}].key"), tag));
    Ok(Batch { points, params, tags: tags.collect::<Result<Vec<_>, _>>()? })
}

fn at_most(what: &str, limit: usize, found: usize) -> Result<(), Refusal> {
    if found <= limit {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "A batch logging request can contain at most {limit} {what}. Got {found} {what}. Please split up {what} across \
         multiple requests and try again."
    )))
}

fn refuse_repeated(params: &[Pair]) -> Result<(), Refusal> {
    let mut seen = std::collections::BTreeSet::new();
    let repeated: Vec<&str> =
        params.iter().filter(|(key, _)| !seen.insert(key)).map(|(key, _)| key.as_str()).collect();
    if repeated.is_empty() {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "Duplicate parameter keys have been submitted: {repeated:?}. Please ensure the request contains only one param \
         value per param key."
    )))
}

pub(crate) async fn set_tag(registry: Registry, input: Input) -> Answer {
    let run_id = input.run_id()?;
    let tag = (input.required("key")?.to_owned(), input.text("value")?.unwrap_or_default().to_owned());
    let tag = rules::run_tag("key", tag)?;
    let mut tx = registry.context.db.begin().await?;
    begin_logging(&registry, &mut tx, run_id).await?;
    save_tags(&registry, &mut tx, run_id, &[tag]).await?;
    tx.commit().await?;
    done()
}

pub(crate) async fn delete_tag(registry: Registry, input: Input) -> Answer {
    let (run_id, key) = (input.required("run_id")?, input.required("key")?);
    let mut tx = registry.context.db.begin().await?;
    begin_logging(&registry, &mut tx, run_id).await?;
    if !tracking::delete_tag(&mut tx, registry.project(), run_id, key).await? {
        return Err(Refusal::missing(format!("No tag with name: {key} in run with id {run_id}")));
    }
    tx.commit().await?;
    done()
}

fn dataset(input: &Input) -> Result<Dataset, Refusal> {
    let dataset = input.item("dataset")?;
    let tags = input.pairs("tags")?;
    tags.iter().try_for_each(rules::input_tag)?;
    rules::length("name", 500, dataset.required("name")?)?;
    rules::length("digest", 36, dataset.required("digest")?)?;
    Ok(Dataset {
        name: dataset.required("name")?.to_owned(),
        digest: dataset.required("digest")?.to_owned(),
        source_type: dataset.required("source_type")?.to_owned(),
        source: dataset.required("source")?.to_owned(),
        schema: dataset.text("schema")?.map(str::to_owned),
        profile: dataset.text("profile")?.map(str::to_owned),
        tags: tags.into_iter().collect(),
    })
}

pub(crate) async fn log_inputs(registry: Registry, input: Input) -> Answer {
    let run_id = input.required("run_id")?;
    let datasets = input.items("datasets")?.iter().map(dataset).collect::<Result<Vec<_>, _>>()?;
    let links = links(&input, Role::Input)?;
    let mut tx = registry.context.db.begin().await?;
    begin_logging(&registry, &mut tx, run_id).await?;
    tracking::add_datasets(&mut tx, registry.project(), run_id, &datasets).await?;
    tracking::link_models(&mut tx, registry.project(), run_id, &links).await?;
    tx.commit().await?;
    done()
}

pub(crate) async fn log_outputs(registry: Registry, input: Input) -> Answer {
    let run_id = input.required("run_id")?;
    let links = links(&input, Role::Output)?;
    let mut tx = registry.context.db.begin().await?;
    begin_logging(&registry, &mut tx, run_id).await?;
    tracking::link_models(&mut tx, registry.project(), run_id, &links).await?;
    tx.commit().await?;
    done()
}

fn links(input: &Input, role: Role) -> Result<Vec<ModelLink>, Refusal> {
    let link = |item: Input| {
        rules::id("model_id", item.required("model_id")?)?;
        let (model_id, step) =
            (item.required("model_id")?.to_owned(), item.whole("step")?.unwrap_or_default());
        Ok(ModelLink { model_id, role, step })
    };
    input.items("models")?.into_iter().map(link).collect()
}

/// The tag that lists the models of a run, as clients before MLflow 3 wrote them.
const LOGGED_MODELS: &str = "mlflow.log-model.history";

/// `runs/log-model`: adds a model's description to a tag of its run.
pub(crate) async fn log_model(registry: Registry, input: Input) -> Answer {
    let (run_id, text) = (input.required("run_id")?, input.required("model_json")?);
    let malformed = || Refusal::invalid(format!("Malformed model info. \n {text} \n is not a valid JSON."));
    let mut model: Value = serde_json::from_str(text).map_err(|_| malformed())?;
    let members = model.as_object_mut().ok_or_else(malformed)?;
    let mandatory = ["artifact_path", "flavors", "run_id", "utc_time_created"];
    let missing: Vec<&str> = mandatory.into_iter().filter(|field| !members.contains_key(*field)).collect();
    if !missing.is_empty() {
        return Err(Refusal::invalid(format!("Model json is missing mandatory fields: {missing:?}")));
    }
    let mut tx = registry.context.db.begin().await?;
    begin_logging(&registry, &mut tx, run_id).await?;
    let known = tracking::tag_of(&mut tx, registry.project(), run_id, LOGGED_MODELS).await?;
    let mut models: Vec<Value> =
        known.and_then(|known| serde_json::from_str(&known).ok()).unwrap_or_default();
    models.push(model);
    let tag = rules::run_tag("key", (LOGGED_MODELS.to_owned(), Value::Array(models).to_string()))?;
    save_tags(&registry, &mut tx, run_id, &[tag]).await?;
    tx.commit().await?;
    done()
}
