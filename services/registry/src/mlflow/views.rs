//! How experiments, metrics and logged models look on the wire. What is absent is left out, as MLflow's protobuf does.

use serde_json::{Map, Value, json};
use storage::tracking::experiments::Experiment;
use storage::tracking::logged_models::LoggedModel;
use storage::tracking::{DatasetSummary, Metric, Pair, RunMetric};

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
