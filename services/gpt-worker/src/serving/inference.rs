//! The Open Inference Protocol, version 2, over HTTP: `/v2/health/…` and `/v2/models/…`.
//!
//! A model's inputs are its columns, each a tensor of shape `[rows]` or `[rows, 1]`; columns that are left out are fetched. It
//! answers `probability` and `prediction_id`. `parameters.alias` chooses a version where the path does not.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::definitions::ValueType;
use domain::{Fault, Remedy};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use service_kit::JsonBody;
use service_kit::problem::{log_if_ours, status_of};

use super::question::Columns;
use super::{Serving, Which};
use crate::{Error, Worker};

/// A refusal in the protocol's shape.
pub(crate) struct Refusal(Error);

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        log_if_ours(&self.0);
        let status = match self.0.remedy() {
            Remedy::FixRequest => StatusCode::BAD_REQUEST,
            other => status_of(other),
        };
        let said = match status {
            StatusCode::INTERNAL_SERVER_ERROR => "the server failed; its log says why".to_owned(),
            _ => self.0.to_string(),
        };
        let mut response = (status, Json(json!({ "error": said }))).into_response();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

type Answer = Result<Json<Value>, Refusal>;

pub(crate) async fn server() -> Json<Value> {
    Json(json!({ "name": "foretime", "version": env!("CARGO_PKG_VERSION"), "extensions": [] }))
}

pub(crate) async fn live() -> Json<Value> {
    Json(json!({ "live": true }))
}

pub(crate) async fn ready(State(worker): State<Worker>) -> Answer {
    worker.context.db.acquire().await.map_err(storage::Error::from)?;
    Ok(Json(json!({ "ready": true })))
}

fn champion() -> Which {
    Which::Alias("champion".to_owned())
}

pub(crate) async fn model(State(worker): State<Worker>, Path(name): Path<String>) -> Answer {
    described(&worker, &name, &champion()).await
}

pub(crate) async fn version(
    State(worker): State<Worker>,
    Path((name, version)): Path<(String, i32)>,
) -> Answer {
    described(&worker, &name, &Which::Version(version)).await
}

async fn described(worker: &Worker, name: &str, which: &Which) -> Answer {
    let serving = worker.serving(name, which).await?;
    let columns = worker.columns(&serving).await?;
    let tensor = |name: &str, datatype: &str| json!({ "name": name, "datatype": datatype, "shape": [-1] });
    let inputs = columns.features.iter().map(|(name, kind)| tensor(name, datatype(*kind)));
    Ok(Json(json!({
        "name": name,
        "versions": [serving.version.to_string()],
        "platform": format!("foretime-{}", serving.servable.card.kind),
        "inputs": inputs.collect::<Vec<_>>(),
        "outputs": [tensor("probability", "FP64"), tensor("prediction_id", "BYTES")],
    })))
}

pub(crate) async fn model_ready(State(worker): State<Worker>, Path(name): Path<String>) -> Answer {
    is_ready(&worker, &name, &champion()).await
}

pub(crate) async fn version_ready(
    State(worker): State<Worker>,
    Path((name, version)): Path<(String, i32)>,
) -> Answer {
    is_ready(&worker, &name, &Which::Version(version)).await
}

async fn is_ready(worker: &Worker, name: &str, which: &Which) -> Answer {
    worker.serving(name, which).await?;
    Ok(Json(json!({ "name": name, "ready": true })))
}

/// What is asked.
#[derive(Deserialize)]
pub(crate) struct Request {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
    inputs: Vec<Tensor>,
    #[serde(default)]
    outputs: Option<Vec<Wanted>>,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    datatype: String,
    data: Vec<Value>,
}

#[derive(Deserialize)]
struct Wanted {
    name: String,
}

#[derive(Serialize)]
struct Output {
    name: &'static str,
    shape: [usize; 1],
    datatype: &'static str,
    data: Value,
}

pub(crate) async fn infer(
    State(worker): State<Worker>,
    Path(name): Path<String>,
    JsonBody(request): JsonBody<Request>,
) -> Answer {
    let which = match request.parameters.get("alias") {
        None => champion(),
        Some(Value::String(alias)) => Which::Alias(alias.clone()),
        Some(_) => return Err(Error::BadRequest("`parameters.alias` is a text".to_owned()).into()),
    };
    inferred(&worker, &name, &which, request).await
}

pub(crate) async fn infer_version(
    State(worker): State<Worker>,
    Path((name, version)): Path<(String, i32)>,
    JsonBody(request): JsonBody<Request>,
) -> Answer {
    inferred(&worker, &name, &Which::Version(version), request).await
}

async fn inferred(worker: &Worker, name: &str, which: &Which, request: Request) -> Answer {
    let serving = worker.serving(name, which).await?;
    let columns = worker.columns(&serving).await?;
    let rows = rows(&columns, &request.inputs)?;
    let count = rows.len();
    let told = worker.foretell(serving, &rows).await?;
    let output = |name, datatype, data| Output { name, shape: [count], datatype, data };
    let mut outputs = vec![
        output("probability", "FP64", json!(told.probabilities)),
        output("prediction_id", "BYTES", json!(told.ids)),
    ];
    if let Some(wanted) = &request.outputs {
        outputs.retain(|output| wanted.iter().any(|wanted| wanted.name == output.name));
    }
    let Serving { model, version, .. } = &*told.serving;
    let statuses: Vec<_> = (0..count).map(|row| Value::from(told.statuses.of(row))).collect();
    let mut answer = json!({
        "model_name": model,
        "model_version": version.to_string(),
        "parameters": { "cutoff": told.cutoff, "statuses": json!(statuses).to_string() },
        "outputs": outputs,
    });
    if let Some(id) = request.id {
        answer["id"] = json!(id);
    }
    Ok(Json(answer))
}

/// Tensors as rows.
fn rows(columns: &Columns, inputs: &[Tensor]) -> Result<Vec<Map<String, Value>>, Error> {
    let count = inputs.first().map_or(0, |tensor| tensor.data.len());
    let mut rows = vec![Map::new(); count];
    for tensor in inputs {
        tensor.check(columns, count)?;
        for (row, value) in rows.iter_mut().zip(&tensor.data) {
            row.insert(tensor.name.clone(), value.clone());
        }
    }
    Ok(rows)
}

impl Tensor {
    fn check(&self, columns: &Columns, rows: usize) -> Result<(), Error> {
        let Self { name, shape, datatype: found, data } = self;
        let refused = |why: String| Err(Error::BadRequest(format!("input `{name}`: {why}")));
        if data.len() != rows || (shape[..] != [rows] && shape[..] != [rows, 1]) {
            return refused(format!(
                "its shape is {shape:?} over {} values; here it is [{rows}] or [{rows}, 1]",
                data.len()
            ));
        }
        let Some(kind) = columns.kind(name) else {
            let known = columns.features.iter().map(|(name, _)| name.as_str());
            return refused(format!(
                "the model knows no such input{}",
                domain::words::did_you_mean(name, known)
            ));
        };
        let numeric = |datatype: &str| ["FP", "INT", "UINT"].iter().any(|start| datatype.starts_with(start));
        let fits = match datatype(kind) {
            "BYTES" => found == "BYTES",
            "BOOL" => found == "BOOL",
            _ => numeric(found),
        };
        if fits {
            Ok(())
        } else {
            refused(format!("its datatype is `{found}`, the model reads {}", datatype(kind)))
        }
    }
}

/// The protocol's name of a type.
fn datatype(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Number => "FP64",
        ValueType::Float32 | ValueType::Vector(_) => "FP32",
        ValueType::Integer => "INT64",
        ValueType::Int32 => "INT32",
        ValueType::Boolean => "BOOL",
        ValueType::Text | ValueType::Time | ValueType::Decimal { .. } => "BYTES",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Columns {
        Columns {
            spine: vec![("origin".into(), ValueType::Text)],
            features: vec![("delay".into(), ValueType::Number)],
            events: None,
        }
    }

    fn read(inputs: Value) -> Result<Value, String> {
        let inputs: Vec<Tensor> = serde_json::from_value(inputs).unwrap();
        rows(&columns(), &inputs).map(|rows| json!(rows)).map_err(|error| error.to_string())
    }

    #[test]
    fn tensors_become_rows_and_one_that_does_not_fit_is_named() {
        let delay = json!({ "name": "delay", "shape": [2, 1], "datatype": "FP32", "data": [1.5, null] });
        let origin = json!({ "name": "origin", "shape": [2], "datatype": "BYTES", "data": ["LGA", "JFK"] });
        let expected = json!([{ "delay": 1.5, "origin": "LGA" }, { "delay": null, "origin": "JFK" }]);
        assert_eq!(read(json!([delay, origin])).unwrap(), expected);
        for (tensor, why) in [
            (
                json!({ "name": "delay", "shape": [3], "datatype": "FP64", "data": [1.0, 2.0] }),
                "shape is [3]",
            ),
            (
                json!({ "name": "dely", "shape": [1], "datatype": "FP64", "data": [1.0] }),
                "did you mean `delay`",
            ),
            (
                json!({ "name": "origin", "shape": [1], "datatype": "FP64", "data": ["x"] }),
                "datatype is `FP64`",
            ),
        ] {
            let said = read(json!([tensor])).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
