//! Ingest over HTTP: rows of a source, as an Arrow IPC stream or JSON, become parts and online rows of every view that the
//! source feeds. What happens to them is in [`intake`](crate::intake).

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use domain::definitions::Source;
use frames::Frame;
use serde::Deserialize;
use serde_json::{Map, Value};
use service_kit::{Problem, WholeBody};

use crate::intake::{self, Accepted, Batch, To};
use crate::{Error, FeatureStore};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    #[serde(default)]
    to: To,
}

/// Rows as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    rows: Vec<Map<String, Value>>,
}

#[tracing::instrument(name = "feature_store.ingest", skip_all, fields(source = %name))]
pub(crate) async fn ingest(
    State(store): State<FeatureStore>,
    Path(name): Path<String>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    WholeBody(body): WholeBody,
) -> Result<Json<Accepted>, Problem> {
    let key = idempotency_key(&headers)?;
    let catalogue = store.catalogue().await?;
    let source = store.source(&catalogue, &name)?.clone();
    let format = Format::of(&headers);
    let rows =
        tokio::task::spawn_blocking(move || read(format, &source, &body)).await.map_err(Error::from)??;
    let batch = Batch { source: name, to: options.to, idempotency_key: key, rows };
    Ok(Json(intake::take_in(&store, batch).await?))
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `{"rows": […]}`.
    Json,
    /// One JSON object a line.
    JsonLines,
    /// An Arrow IPC stream; also what a request gets that does not say.
    Arrow,
}

impl Format {
    fn of(headers: &HeaderMap) -> Self {
        let kind =
            headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "application/json" => Self::Json,
            "application/x-ndjson" | "application/jsonl" => Self::JsonLines,
            _ => Self::Arrow,
        }
    }
}

fn read(format: Format, source: &Source, body: &[u8]) -> Result<Frame, Error> {
    let columns: Vec<_> = source.columns.iter().map(|(name, kind)| (name.clone(), *kind)).collect();
    let rows = match format {
        Format::Arrow => return Ok(frames::wire::read_stream_as(body, &columns)?),
        Format::Json => serde_json::from_slice::<Rows>(body).map_err(|error| malformed(&error))?.rows,
        Format::JsonLines => serde_json::Deserializer::from_slice(body)
            .into_iter::<Map<String, Value>>()
            .collect::<Result<_, _>>()
            .map_err(|error| malformed(&error))?,
    };
    Ok(frames::rows::pushed(&rows, &columns)?)
}

fn malformed(error: &serde_json::Error) -> Error {
    Error::BadRequest(format!("the body is not the JSON that rows are pushed in: {error}"))
}

/// What makes a repeated batch answer what the first one answered.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(Error::BadRequest("`Idempotency-Key` must be 1 to 255 visible ASCII characters".to_owned())),
    }
}
