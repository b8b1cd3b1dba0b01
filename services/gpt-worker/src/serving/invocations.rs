//! MLflow's scoring server: `/invocations` in its input forms, and `/ping`.
//!
//! Of the forms: `dataframe_split`, `dataframe_records`, `instances`, `inputs`, and `text/csv`. A model's inputs have names, so
//! lists without names are refused. As MLflow's own server reads them, a bare `NaN` is a value that is not there, and so is what
//! pandas takes for one in the fields of a CSV file that are no text. `?model=` says which registered model answers, `?alias=` or `?version=` which version;
//! without `model`, the only one that the definitions know.

use std::borrow::Cow;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::definitions::ValueType;
use domain::{Fault, Remedy};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use service_kit::WholeBody;
use service_kit::problem::log_if_ours;

use super::Naming;
use super::question::Columns;
use crate::{Error, Worker};

/// Which model answers.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    #[serde(default)]
    model: Option<String>,
    #[serde(flatten)]
    naming: Text,
}

/// A query string holds texts only.
#[derive(Debug, Deserialize)]
struct Text {
    #[serde(default)]
    alias: Option<String>,
    #[serde(default)]
    version: Option<String>,
}

/// A refusal in MLflow's shape.
pub(crate) struct Refusal(Error);

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        log_if_ours(&self.0);
        let (status, code) = match self.0.remedy() {
            Remedy::FixRequest | Remedy::SendLess | Remedy::SendInTime | Remedy::ResolveConflict => {
                (StatusCode::BAD_REQUEST, "BAD_REQUEST")
            }
            Remedy::LookElsewhere => (StatusCode::NOT_FOUND, "RESOURCE_DOES_NOT_EXIST"),
            Remedy::AskPermission => (StatusCode::FORBIDDEN, "PERMISSION_DENIED"),
            Remedy::SlowDown => (StatusCode::TOO_MANY_REQUESTS, "REQUEST_LIMIT_EXCEEDED"),
            Remedy::RetryLater | Remedy::MakeRoom => {
                (StatusCode::SERVICE_UNAVAILABLE, "TEMPORARILY_UNAVAILABLE")
            }
            Remedy::ReportBug => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
        };
        let message = match status {
            StatusCode::INTERNAL_SERVER_ERROR => "the server failed; its log says why".to_owned(),
            _ => self.0.to_string(),
        };
        let mut response = (status, Json(json!({ "error_code": code, "message": message }))).into_response();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

/// Whether a model could answer.
pub(crate) async fn ping(State(worker): State<Worker>) -> Result<&'static str, Refusal> {
    worker.context.db.acquire().await.map_err(storage::Error::from)?;
    Ok("\n")
}

#[tracing::instrument(name = "gpt_worker.invocations", skip_all)]
pub(crate) async fn invocations(
    State(worker): State<Worker>,
    Query(target): Query<Target>,
    headers: HeaderMap,
    WholeBody(body): WholeBody,
) -> Result<Json<Value>, Refusal> {
    let model = worker.only_model(target.model).await?;
    let version = target.naming.version.map(|text| text.parse()).transpose();
    let version = version.map_err(|_| Error::BadRequest("`version` is a whole number".to_owned()))?;
    let which = Naming { alias: target.naming.alias, version }.which()?;
    let serving = worker.serving(&model, &which).await?;
    let columns = worker.columns(&serving).await?;
    let rows = if is_csv(&headers)? { from_csv(&body, &columns)? } else { from_json(&body)? };
    if rows.is_empty() {
        return Ok(Json(json!({ "predictions": [] })));
    }
    let told = worker.foretell(serving, &rows).await?;
    Ok(Json(json!({
        "predictions": told.probabilities,
        "foretime": {
            "model": model,
            "version": told.serving.version,
            "cutoff": told.cutoff,
            "prediction_ids": told.ids,
            "statuses": (0..rows.len()).map(|row| told.statuses.of(row)).collect::<Vec<_>>(),
        },
    })))
}

impl Worker {
    /// The registered model that is named, or the only one that the definitions know.
    async fn only_model(&self, named: Option<String>) -> Result<String, Error> {
        if let Some(named) = named {
            return Ok(named);
        }
        let catalogue = self.catalogues.now(self.project()).await?;
        let models = catalogue.definitions.names("model");
        let models = models.into_iter().filter_map(|name| catalogue.definitions.model(name));
        let mut known: Vec<&str> = models.map(|model| model.registered_model.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        match known[..] {
            [only] => Ok(only.to_owned()),
            [] => Err(Error::BadRequest("no model is defined; say which one with `?model=`".to_owned())),
            _ => Err(Error::BadRequest(format!(
                "say which model with `?model=`; there are: {}",
                known.join(", ")
            ))),
        }
    }
}

fn is_csv(headers: &HeaderMap) -> Result<bool, Error> {
    let kind =
        headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("application/json");
    match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "text/csv" => Ok(true),
        "application/json" | "" => Ok(false),
        other => Err(Error::BadRequest(format!(
            "this predictor takes application/json and text/csv, not `{other}`"
        ))),
    }
}

/// The forms of the JSON body; exactly one is given.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    dataframe_split: Option<Split>,
    #[serde(default)]
    dataframe_records: Option<Vec<Map<String, Value>>>,
    #[serde(default)]
    instances: Option<Value>,
    #[serde(default)]
    inputs: Option<Value>,
    /// Parameters of inference, of which there are none; an empty object is what clients send.
    #[serde(default)]
    params: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Split {
    columns: Vec<String>,
    data: Vec<Vec<Value>>,
}

type Rows = Vec<Map<String, Value>>;

/// The words that Python writes for what JSON has no number for, and what they are here.
const WORDS: [(&[u8], &[u8]); 3] =
    [(b"NaN", b"null"), (b"-Infinity", b"\"-Infinity\""), (b"Infinity", b"\"Infinity\"")];

/// A body with Python's words outside of texts written as JSON can say them.
fn plain(body: &[u8]) -> Cow<'_, [u8]> {
    let (mut out, mut kept, mut at) = (Vec::new(), 0, 0);
    let mut inside = false;
    while at < body.len() {
        match body[at] {
            b'\\' if inside => at += 1, // what follows is part of the text
            b'"' => inside = !inside,
            b'N' | b'-' | b'I' if !inside => {
                if let Some((word, said)) = WORDS.iter().find(|(word, _)| body[at..].starts_with(word)) {
                    out.extend_from_slice(&body[kept..at]);
                    out.extend_from_slice(said);
                    at += word.len();
                    kept = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if kept == 0 {
        return Cow::Borrowed(body);
    }
    out.extend_from_slice(&body[kept..]);
    Cow::Owned(out)
}

fn from_json(body: &[u8]) -> Result<Rows, Error> {
    let body: Body = serde_json::from_slice(&plain(body))
        .map_err(|error| Error::BadRequest(format!("the body is not what `/invocations` takes: {error}")))?;
    if let Some(name) = body.params.iter().flat_map(Map::keys).next() {
        return Err(Error::BadRequest(format!("there is no parameter of inference `{name}`")));
    }
    match (body.dataframe_split, body.dataframe_records, body.instances, body.inputs) {
        (Some(split), None, None, None) => from_split(split),
        (None, Some(records), None, None) => Ok(records),
        (None, None, Some(instances), None) => from_instances(instances),
        (None, None, None, Some(inputs)) => from_inputs(inputs),
        _ => Err(Error::BadRequest(
            "give exactly one of `dataframe_split`, `dataframe_records`, `instances` and `inputs`".to_owned(),
        )),
    }
}

fn from_split(split: Split) -> Result<Rows, Error> {
    let row = |(at, data): (usize, Vec<Value>)| {
        if data.len() != split.columns.len() {
            let (found, wanted) = (data.len(), split.columns.len());
            return Err(Error::BadRequest(format!("row {at} has {found} values for {wanted} columns")));
        }
        Ok(split.columns.iter().cloned().zip(data).collect())
    };
    split.data.into_iter().enumerate().map(row).collect()
}

fn unnamed() -> Error {
    Error::BadRequest("this model's inputs have names: send objects, or columns by name".to_owned())
}

/// Rows as objects.
fn from_instances(instances: Value) -> Result<Rows, Error> {
    serde_json::from_value(instances).map_err(|_| unnamed())
}

/// Columns by name, each a list or, of one row, a value; or rows as objects.
fn from_inputs(inputs: Value) -> Result<Rows, Error> {
    let Value::Object(columns) = inputs else { return from_instances(inputs) };
    let count = columns.values().map(|column| column.as_array().map_or(1, Vec::len)).max().unwrap_or(0);
    let cell = |(name, column): (&String, &Value), row: usize| match column {
        Value::Array(values) if values.len() == count => Ok((name.clone(), values[row].clone())),
        Value::Array(values) => {
            Err(Error::BadRequest(format!("`{name}` has {} values where others have {count}", values.len())))
        }
        value if count == 1 => Ok((name.clone(), value.clone())),
        _ => Err(Error::BadRequest(format!("`{name}` is one value where others have {count}"))),
    };
    (0..count).map(|row| columns.iter().map(|column| cell(column, row)).collect()).collect()
}

/// What pandas takes for a value that is not there, besides an empty field.
const NOTHING: [&str; 18] = [
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
    "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// Lines under a header; an empty field is null.
fn from_csv(body: &[u8], columns: &Columns) -> Result<Rows, Error> {
    let refused = |error: csv::Error| Error::BadRequest(format!("the body is not CSV: {error}"));
    let mut reader = csv::Reader::from_reader(body);
    let names: Vec<String> = reader.headers().map_err(refused)?.iter().map(str::to_owned).collect();
    let mut rows = Rows::new();
    for record in reader.records() {
        let record = record.map_err(refused)?;
        let cells = names.iter().zip(&record);
        let cells = cells.map(|(name, text)| Ok((name.clone(), typed(name, text, columns.kind(name))?)));
        rows.push(cells.collect::<Result<_, Error>>()?);
    }
    Ok(rows)
}

fn typed(name: &str, text: &str, kind: Option<ValueType>) -> Result<Value, Error> {
    let number = || match text.trim() {
        "inf" => Ok(json!("Infinity")),
        "-inf" => Ok(json!("-Infinity")),
        plain => serde_json::from_str(plain)
            .map(Value::Number)
            .map_err(|_| Error::BadRequest(format!("`{text}` in column `{name}` is no number"))),
    };
    match kind {
        _ if text.is_empty() => Ok(Value::Null),
        Some(other) if other != ValueType::Text && NOTHING.contains(&text.trim()) => Ok(Value::Null),
        Some(ValueType::Boolean) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err(Error::BadRequest(format!("`{text}` in column `{name}` is neither true nor false"))),
        },
        Some(ValueType::Number | ValueType::Integer | ValueType::Float32 | ValueType::Int32) => number(),
        _ => Ok(Value::String(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(body: &Value) -> Result<Value, String> {
        from_json(body.to_string().as_bytes()).map(|rows| json!(rows)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_forms_say_the_same_rows() {
        let expected = json!([{ "origin": "LGA", "n": 1 }, { "origin": null, "n": 2 }]);
        for body in [
            json!({ "dataframe_split": { "columns": ["origin", "n"], "index": [0, 1], "data": [["LGA", 1], [null, 2]] } }),
            json!({ "dataframe_records": expected }),
            json!({ "instances": expected, "params": {} }),
            json!({ "inputs": { "origin": ["LGA", null], "n": [1, 2] } }),
            json!({ "inputs": expected }),
        ] {
            assert_eq!(rows(&body).unwrap(), expected, "{body}");
        }
        let columns = Columns {
            spine: vec![("origin".into(), ValueType::Text)],
            features: vec![("n".into(), ValueType::Number)],
            events: None,
        };
        let csv = from_csv(b"origin,n\nLGA,1\n,2\n", &columns).unwrap();
        assert_eq!(json!(csv), expected);
        let cell = |text: &str, kind| typed("n", text, Some(kind)).map_err(|error| error.to_string());
        for word in NOTHING {
            assert_eq!(cell(word, ValueType::Number), Ok(Value::Null));
            assert_eq!(cell(word, ValueType::Text), Ok(json!(word)), "a carrier may be called so");
        }
        assert_eq!(cell("-inf", ValueType::Number), Ok(json!("-Infinity")));
        assert!(cell("north", ValueType::Number).unwrap_err().contains("`north` in column `n`"));
        assert_eq!(rows(&json!({ "inputs": { "n": 3 } })).unwrap(), json!([{ "n": 3 }]));
    }

    #[test]
    fn pythons_words_for_no_number_are_read_outside_of_texts_and_nowhere_else() {
        let said = |body: &str| String::from_utf8(plain(body.as_bytes()).into_owned()).unwrap();
        assert_eq!(said(r#"{"a": [NaN, -Infinity,Infinity]}"#), r#"{"a": [null, "-Infinity","Infinity"]}"#);
        for same in
            [r#"{"a": "NaN", "b\"NaN": ["\\", -1, "Infinity \\\" -Infinity"]}"#, "N", "-", "Inf", "\"\\", ""]
        {
            assert_eq!(said(same), same);
        }
        assert_eq!(said("NaNaN"), "nullaN");
    }

    proptest! {
        #[test]
        fn json_stays_as_it_is_and_whatever_comes_is_read_or_refused(
            text in any::<String>(),
            words in r#"[-NaIfinty"\\:{}\[\], ]{0,40}"#,
        ) {
            let json = json!([{ "text": text }, text, -1.5, null, "NaN"]).to_string();
            prop_assert_eq!(&*plain(json.as_bytes()), json.as_bytes());
            let once = plain(words.as_bytes()).into_owned();
            prop_assert_eq!(&*plain(&once), once.as_slice());
            let _ = from_json(words.as_bytes());
        }
    }

    #[test]
    fn what_is_no_form_is_refused_with_what_would_be() {
        for (body, expected) in [
            (json!({}), "exactly one of"),
            (json!({ "inputs": {}, "instances": [] }), "exactly one of"),
            (json!({ "data": [] }), "`data`"),
            (json!({ "instances": [[1.0, 2.0]] }), "have names"),
            (
                json!({ "dataframe_split": { "columns": ["a"], "data": [[1, 2]] } }),
                "row 0 has 2 values for 1",
            ),
            (json!({ "inputs": { "a": [1, 2], "b": [1] } }), "`b` has 1 values"),
            (json!({ "instances": [], "params": { "top": 1 } }), "`top`"),
        ] {
            let said = rows(&body).unwrap_err();
            assert!(said.contains(expected), "{said}");
        }
    }
}
