//! How experiments, runs, models and versions look on the wire. What is absent is left out, as MLflow's protobuf does.

use serde_json::{Map, Value, json};
use storage::models::{RegisteredModel, Version};
use storage::tracking::experiments::Experiment;
use storage::tracking::logged_models::LoggedModel;
use storage::tracking::runs::Run;
use storage::tracking::{Dataset, DatasetSummary, Metric, ModelLink, Pair, Role, RunMetric};

/// Members that are there; empty lists are not.
struct Members(Map<String, Value>);

impl Members {
    fn of(value: Value) -> Self {
        match value {
            Value::Object(members) => Self(members),
            _ => Self(Map::new()),
        }
    }

    fn optional(mut self, key: &str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), value.into());
        }
        self
    }

    fn list(self, key: &str, items: Vec<Value>) -> Self {
        self.optional(key, (!items.is_empty()).then_some(items))
    }

    fn done(self) -> Value {
        Value::Object(self.0)
    }
}

/// NaN has no number in JSON.
fn number(value: f64) -> Value {
    if value.is_nan() { Value::from("NaN") } else { Value::from(value) }
}

fn pairs(pairs: &[Pair]) -> Vec<Value> {
    pairs.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

pub(crate) fn metric(metric: &Metric) -> Value {
    json!({
        "key": metric.key,
        "value": number(metric.value),
        "timestamp": metric.timestamp_ms,
        "step": metric.step,
    })
}

pub(crate) fn run_metric(point: &RunMetric) -> Value {
    let mut view = metric(&point.metric);
    view["run_id"] = Value::from(point.run_id.as_str());
    view
}

pub(crate) fn dataset_summary(dataset: &DatasetSummary) -> Value {
    let members = json!({
        "experiment_id": dataset.experiment_id.to_string(),
        "name": dataset.name,
        "digest": dataset.digest,
    });
    Members::of(members).optional("context", dataset.context.clone()).done()
}

pub(crate) fn experiment(experiment: &Experiment, workspace: &str) -> Value {
    let members = json!({
        "experiment_id": experiment.id.to_string(),
        "name": experiment.name,
        "artifact_location": experiment.artifact_location,
        "lifecycle_stage": experiment.lifecycle_stage,
        "creation_time": experiment.created_ms,
        "last_update_time": experiment.updated_ms,
        "workspace": workspace,
    });
    Members::of(members).list("tags", pairs(&experiment.tags)).done()
}

pub(crate) fn run_info(run: &Run) -> Value {
    let members = json!({
        "run_id": run.id,
        "run_uuid": run.id,
        "experiment_id": run.experiment_id.to_string(),
        "run_name": run.name,
        "user_id": run.user_id,
        "status": run.status,
        "start_time": run.start_ms,
        "artifact_uri": run.artifact_uri,
        "lifecycle_stage": run.lifecycle_stage,
    });
    Members::of(members).optional("end_time", run.end_ms).done()
}

/// A run as it was just created: without outputs.
pub(crate) fn new_run(run: &Run) -> Value {
    let mut view = self::run(run);
    view.as_object_mut().expect("a view is an object").remove("outputs");
    view
}

pub(crate) fn run(run: &Run) -> Value {
    let data = Members(Map::new())
        .list("metrics", run.metrics.iter().map(metric).collect())
        .list("params", pairs(&run.params))
        .list("tags", pairs(&run.tags));
    let inputs = Members(Map::new())
        .list("dataset_inputs", run.datasets.iter().map(dataset).collect())
        .list("model_inputs", links(&run.models, Role::Input));
    let outputs = Members(Map::new()).list("model_outputs", links(&run.models, Role::Output));
    json!({ "info": run_info(run), "data": data.done(), "inputs": inputs.done(), "outputs": outputs.done() })
}

fn links(links: &[ModelLink], role: Role) -> Vec<Value> {
    let link = |link: &ModelLink| match role {
        Role::Input => json!({ "model_id": link.model_id }),
        Role::Output => json!({ "model_id": link.model_id, "step": link.step }),
    };
    links.iter().filter(|link| link.role == role).map(link).collect()
}

fn dataset(dataset: &Dataset) -> Value {
    let members = json!({
        "name": dataset.name,
        "digest": dataset.digest,
        "source_type": dataset.source_type,
        "source": dataset.source,
    });
    let described = Members::of(members)
        .optional("schema", dataset.schema.clone())
        .optional("profile", dataset.profile.clone());
    let tags: Vec<Pair> = dataset.tags.clone().into_iter().collect();
    Members::of(json!({ "dataset": described.done() })).list("tags", pairs(&tags)).done()
}

pub(crate) fn logged_model(model: &LoggedModel) -> Value {
    let info = Members::of(json!({
        "model_id": model.id,
        "experiment_id": model.experiment_id.to_string(),
        "name": model.name,
        "creation_timestamp_ms": model.created_ms,
        "last_updated_timestamp_ms": model.updated_ms,
        "artifact_uri": model.artifact_uri,
        "status": model.status,
        "model_type": model.model_type,
        "source_run_id": model.source_run_id.as_deref().unwrap_or_default(),
    }))
    .list("tags", pairs(&model.tags));
    let metrics = model.metrics.iter().map(|point| {
        let members = Members::of(metric(&point.metric))
            .optional("dataset_name", point.dataset_name.clone())
            .optional("dataset_digest", point.dataset_digest.clone());
        members
            .optional("model_id", Some(model.id.clone()))
            .optional("run_id", Some(point.run_id.clone()))
            .done()
    });
    let data = Members(Map::new()).list("params", pairs(&model.params)).list("metrics", metrics.collect());
    json!({ "info": info.done(), "data": data.done() })
}

/// A version with the aliases that point at it.
pub(crate) fn version(version: &Version) -> Value {
    let aliases = version.aliases.iter().map(|alias| Value::from(alias.as_str()));
    Members::of(version_alone(version)).list("aliases", aliases.collect()).done()
}

/// A version as MLflow shows it inside its model: without aliases.
fn version_alone(version: &Version) -> Value {
    let members = json!({
        "name": version.model,
        "version": version.version.to_string(),
        "creation_timestamp": version.created_ms,
        "last_updated_timestamp": version.updated_ms,
        "current_stage": version.stage,
        "description": version.description,
        "source": version.source,
        "run_id": version.run_id.as_deref().unwrap_or_default(),
        "status": "READY",
        "run_link": version.run_link,
    });
    Members::of(members).list("tags", pairs(&version.tags)).done()
}

/// A registered model; `latest` holds the newest version of each of its stages, among those of other models.
pub(crate) fn registered_model(model: &RegisteredModel, latest: &[Version]) -> Value {
    let members = json!({
        "name": model.name,
        "creation_timestamp": model.created_ms,
        "last_updated_timestamp": model.updated_ms,
    });
    let own = latest.iter().filter(|version| version.model == model.name);
    let alias = |(alias, version): (&String, &i32)| json!({ "alias": alias, "version": version.to_string() });
    Members::of(members)
        .optional("description", (!model.description.is_empty()).then(|| model.description.clone()))
        .list("latest_versions", own.map(version_alone).collect())
        .list("tags", pairs(&model.tags))
        .list("aliases", model.aliases.iter().map(alias).collect())
        .done()
}
