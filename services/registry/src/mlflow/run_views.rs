//! How runs look on the wire. What is absent is left out, as MLflow's protobuf does.

use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use storage::tracking::runs::{NewRun, Run};
use storage::tracking::{Contents, Dataset, Metric, ModelLink, Pair, Role};

use super::written::{Pairs, digits, number};

/// What was logged into a run, as it is sent.
#[derive(Debug)]
pub(crate) struct Logged {
    data: Box<RawValue>,
    inputs: Box<RawValue>,
    outputs: Box<RawValue>,
}

impl Logged {
    /// The JSON of a run's contents.
    pub(crate) fn of(contents: &Contents) -> Self {
        let (params, tags) = (Pairs(&contents.params), Pairs(&contents.tags));
        Self {
            data: raw(&Data { metrics: &contents.metrics, params, tags }),
            inputs: raw(&Inputs {
                dataset_inputs: contents.datasets.iter().map(dataset).collect(),
                model_inputs: links(&contents.models, Role::Input),
            }),
            outputs: raw(&Outputs { model_outputs: links(&contents.models, Role::Output) }),
        }
    }

    /// How long the JSON is.
    pub(crate) fn size_bytes(&self) -> usize {
        self.data.get().len() + self.inputs.get().len() + self.outputs.get().len()
    }
}

fn raw(part: &impl Serialize) -> Box<RawValue> {
    to_raw_value(part).expect("answers have texts for keys")
}

#[derive(Serialize)]
pub(crate) struct RunView<'a> {
    info: RunInfo<'a>,
    data: &'a RawValue,
    inputs: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    outputs: Option<&'a RawValue>,
}

#[derive(Serialize)]
pub(crate) struct RunInfo<'a> {
    run_id: &'a str,
    run_uuid: &'a str,
    #[serde(serialize_with = "digits")]
    experiment_id: i64,
    run_name: &'a str,
    user_id: &'a str,
    status: &'a str,
    start_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<i64>,
    artifact_uri: &'a str,
    lifecycle_stage: &'a str,
}

#[derive(Serialize)]
struct Data<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "metrics")]
    metrics: &'a [Metric],
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    params: Pairs<'a>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    tags: Pairs<'a>,
}

#[derive(Serialize)]
struct Inputs<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dataset_inputs: Vec<DatasetInput<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_inputs: Vec<Link<'a>>,
}

#[derive(Serialize)]
struct Outputs<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_outputs: Vec<Link<'a>>,
}

#[derive(Serialize)]
struct Link<'a> {
    model_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<i64>,
}

#[derive(Serialize)]
struct DatasetInput<'a> {
    dataset: DatasetView<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "pairs")]
    tags: Vec<Pair>,
}

#[derive(Serialize)]
struct DatasetView<'a> {
    name: &'a str,
    digest: &'a str,
    source_type: &'a str,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a str>,
}

#[derive(Serialize)]
struct MetricView<'a> {
    key: &'a str,
    #[serde(serialize_with = "number")]
    value: f64,
    timestamp: i64,
    step: i64,
}

fn metrics<S: Serializer>(metrics: &&[Metric], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(metrics.iter().map(|metric| MetricView {
        key: &metric.key,
        value: metric.value,
        timestamp: metric.timestamp_ms,
        step: metric.step,
    }))
}

fn pairs<S: Serializer>(pairs: &[Pair], serializer: S) -> Result<S::Ok, S::Error> {
    Pairs(pairs).serialize(serializer)
}

/// What a run is and how it ended, without what was logged into it.
pub(crate) fn run_info(run: &Run) -> RunInfo<'_> {
    RunInfo {
        run_id: &run.id,
        run_uuid: &run.id,
        experiment_id: run.experiment_id,
        run_name: &run.name,
        user_id: &run.user_id,
        status: &run.status,
        start_time: run.start_ms,
        end_time: run.end_ms,
        artifact_uri: &run.artifact_uri,
        lifecycle_stage: &run.lifecycle_stage,
    }
}

/// A run as it was just created: without outputs.
pub(crate) fn new_run<'a>(
    id: &'a str,
    artifact_uri: &'a str,
    new: &'a NewRun<'_>,
    logged: &'a Logged,
) -> RunView<'a> {
    let info = RunInfo {
        run_id: id,
        run_uuid: id,
        experiment_id: new.experiment_id,
        run_name: new.name,
        user_id: new.user_id,
        status: "RUNNING",
        start_time: new.start_ms,
        end_time: None,
        artifact_uri,
        lifecycle_stage: "active",
    };
    RunView { info, data: &logged.data, inputs: &logged.inputs, outputs: None }
}

/// A run with all that was logged into it.
pub(crate) fn run<'a>(run: &'a Run, logged: &'a Logged) -> RunView<'a> {
    RunView {
        info: run_info(run),
        data: &logged.data,
        inputs: &logged.inputs,
        outputs: Some(&logged.outputs),
    }
}

fn links(links: &[ModelLink], wanted: Role) -> Vec<Link<'_>> {
    links
        .iter()
        .filter(|link| link.role == wanted)
        .map(|link| Link { model_id: &link.model_id, step: (wanted == Role::Output).then_some(link.step) })
        .collect()
}

fn dataset(dataset: &Dataset) -> DatasetInput<'_> {
    DatasetInput {
        dataset: DatasetView {
            name: &dataset.name,
            digest: &dataset.digest,
            source_type: &dataset.source_type,
            source: &dataset.source,
            schema: dataset.schema.as_deref(),
            profile: dataset.profile.as_deref(),
        },
        tags: dataset.tags.clone().into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn bare() -> Run {
        Run {
            id: "r".to_owned(),
            experiment_id: 7,
            name: "n".to_owned(),
            user_id: String::new(),
            status: "RUNNING".to_owned(),
            start_ms: 1,
            end_ms: None,
            artifact_uri: "a".to_owned(),
            lifecycle_stage: "active".to_owned(),
            contents_etag: uuid::Uuid::nil(),
        }
    }

    fn seen(contents: &Contents) -> Value {
        serde_json::to_value(run(&bare(), &Logged::of(contents))).unwrap()
    }

    #[test]
    fn what_was_not_logged_is_left_out() {
        let logged = Logged::of(&Contents::default());
        let new = NewRun { experiment_id: 7, name: "n", user_id: "", start_ms: 1, tags: &[] };
        let created = serde_json::to_value(new_run("r", "a", &new, &logged)).unwrap();
        let mut shown = seen(&Contents::default());
        for part in ["data", "inputs", "outputs"] {
            assert_eq!(shown[part], json!({}), "{part}");
        }
        assert_eq!(shown["info"]["experiment_id"], "7");
        assert!(shown["info"].get("end_time").is_none());
        shown.as_object_mut().unwrap().remove("outputs");
        assert_eq!(created, shown);
    }

    #[test]
    fn a_metric_that_is_no_number_is_the_text_nan() {
        let metric = |key: &str, value| Metric { key: key.to_owned(), value, timestamp_ms: 2, step: 3 };
        let metrics = vec![metric("a", f64::NAN), metric("b", 0.5)];
        let expected = json!([
            { "key": "a", "value": "NaN", "timestamp": 2, "step": 3 },
            { "key": "b", "value": 0.5, "timestamp": 2, "step": 3 },
        ]);
        assert_eq!(seen(&Contents { metrics, ..Contents::default() })["data"]["metrics"], expected);
    }

    #[test]
    fn a_model_that_was_read_is_an_input_and_one_that_was_written_an_output_at_its_step() {
        let link = |model_id: &str, role| ModelLink { model_id: model_id.to_owned(), role, step: 4 };
        let models = vec![link("m-1", Role::Input), link("m-2", Role::Output)];
        let shown = seen(&Contents { models, ..Contents::default() });
        assert_eq!(shown["inputs"], json!({ "model_inputs": [{ "model_id": "m-1" }] }));
        assert_eq!(shown["outputs"], json!({ "model_outputs": [{ "model_id": "m-2", "step": 4 }] }));
    }
}
