//! `mlflow-artifacts/artifacts/…`, `get-artifact`, and the listings of a run's or a logged model's files.

use std::io;

use axum::Json;
use axum::body::Body;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use storage::tracking::artifacts::Entry;

use super::input::Input;
use super::paging::answer;
use super::ranges;
use super::refusal::{Code, Refusal};
use super::{Answer, done, logged_models, rules, runs};
use crate::artifacts::{ArtifactPath, Failure, Store};
use crate::metrics::Metrics;
use crate::{Error, Registry};

/// The path that a client names, if it is one.
pub(super) fn path(text: &str) -> Result<ArtifactPath, Refusal> {
    ArtifactPath::parse(text).ok_or_else(|| Refusal::invalid(format!("Invalid path: {text}")))
}

pub(super) fn store(registry: &Registry) -> Result<Store<'_>, Refusal> {
    Store::of(&registry.context, registry.project()).map_err(|failure| refused("", failure))
}

/// A file that cannot be had is the client's mistake if it is not there, and ours otherwise.
pub(super) fn refused(path: &str, failure: Failure) -> Refusal {
    match failure {
        Failure::Absent => Refusal::missing(format!("No such artifact: '{path}'")),
        Failure::InTheWay => {
            Refusal::invalid(format!("'{path}' is a directory, or a file stands in its way"))
        }
        Failure::BrokeOff => Refusal::new(Code::BadRequest, "the body broke off"),
        Failure::Database(error) => error.into(),
        Failure::Place(error) if error.kind() == io::ErrorKind::NotFound => {
            Refusal::missing(format!("No such artifact: '{path}'"))
        }
        Failure::Place(error)
            if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
        {
            tracing::error!(%error, path, "no room for artifacts");
            Refusal::new(Code::TemporarilyUnavailable, "the server has no room left for artifacts")
        }
        Failure::Place(error) => {
            tracing::error!(%error, path, "an artifact could not be read or written");
            Refusal::new(Code::InternalError, "the server failed; its log says why")
        }
    }
}

pub(crate) async fn upload(
    registry: Registry,
    Path(text): Path<String>,
    body: Body,
) -> Result<Response, Refusal> {
    put(&registry, &text, body).await
}

pub(super) async fn put(registry: &Registry, text: &str, body: Body) -> Result<Response, Refusal> {
    let path = path(text)?;
    let written = store(registry)?.write(&path, body.into_data_stream()).await;
    let artifact = written.map_err(|failure| refused(text, failure))?;
    Metrics::of(&registry.context).uploaded_bytes.inc_by(artifact.size_bytes.try_into().unwrap_or_default());
    Ok(([(axum::http::header::ETAG, format!("\"{}\"", artifact.sha256))], ()).into_response())
}

pub(crate) async fn download(
    registry: Registry,
    Path(text): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    send(&registry, &path(&text)?, &headers).await
}

/// A file, or the part of it that the headers ask for.
pub(super) async fn send(
    registry: &Registry,
    path: &ArtifactPath,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let file = store(registry)?.open(path).await.map_err(|failure| refused(path.as_str(), failure))?;
    ranges::answer(&file, path.file_name(), headers).await.map_err(|failure| refused(path.as_str(), failure))
}

pub(crate) async fn delete(registry: Registry, Path(text): Path<String>) -> Answer {
    let path = path(&text)?;
    store(&registry)?.remove(&path).await.map_err(|failure| refused(&text, failure))?;
    done()
}

/// Files with paths below `prefix`.
fn files(listed: Vec<Entry>, prefix: &str) -> Vec<Value> {
    let path = |name: String| if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
    let file = |entry: Entry| match entry.size_bytes {
        Some(size) => json!({ "path": path(entry.name), "is_dir": false, "file_size": size }),
        None => json!({ "path": path(entry.name), "is_dir": true }),
    };
    listed.into_iter().map(file).collect()
}

/// The entries of a directory, with paths relative to it.
pub(crate) async fn list(registry: Registry, input: Input) -> Answer {
    let text = input.text("path")?.unwrap_or_default().trim_end_matches('/');
    let path = if text.is_empty() { None } else { Some(path(text)?) };
    let listed = store(&registry)?.list(path.as_ref()).await.map_err(|failure| refused(text, failure))?;
    Ok(Json(answer("files", files(listed, ""), None)))
}

/// Where the files of a run are.
pub(super) async fn root_of_run(registry: &Registry, run_id: &str) -> Result<String, Refusal> {
    let mut conn = registry.context.db.acquire().await?;
    let root = storage::tracking::runs::artifact_uri_of(&mut conn, registry.project(), run_id).await?;
    root.ok_or_else(|| runs::no_run(run_id))
}

/// The path below an artifact URI of this server.
pub(super) fn below(root_uri: &str, below: &str) -> Result<ArtifactPath, Refusal> {
    let elsewhere = || Refusal::invalid(format!("the files at '{root_uri}' are not kept by this server"));
    let root = root_uri.strip_prefix("mlflow-artifacts:").ok_or_else(elsewhere)?.trim_start_matches('/');
    let invalid = || Refusal::invalid(format!("Invalid path: {below}"));
    path(root)?.join(below.trim_end_matches('/')).ok_or_else(invalid)
}

/// The entries of a directory of a run, with paths relative to the run's root.
pub(crate) async fn list_of_run(registry: Registry, input: Input) -> Answer {
    let root = root_of_run(&registry, input.run_id()?).await?;
    list_below(&registry, &root, input.text("path")?.unwrap_or_default()).await
}

/// The entries of a directory of a logged model, with paths relative to the model's root.
pub(crate) async fn list_of_model(registry: Registry, Path(id): Path<String>, input: Input) -> Answer {
    let mut conn = registry.context.db.acquire().await?;
    let model = logged_models::find(&registry, &mut conn, &id).await?;
    drop(conn);
    list_below(&registry, &model.artifact_uri, input.text("artifact_directory_path")?.unwrap_or_default())
        .await
}

async fn list_below(registry: &Registry, root_uri: &str, text: &str) -> Answer {
    let text = text.trim_end_matches('/');
    let directory = below(root_uri, text)?;
    let listed = store(registry)?.list(Some(&directory)).await.map_err(|failure| refused(text, failure))?;
    let mut body = answer("files", files(listed, text), None);
    body["root_uri"] = Value::from(root_uri);
    Ok(Json(body))
}

/// `get-artifact?run_id=…&path=…`: a file of a run.
pub(crate) async fn get_of_run(
    registry: Registry,
    headers: HeaderMap,
    input: Input,
) -> Result<Response, Refusal> {
    let (run_id, text) = (input.run_id()?, input.required("path")?);
    let root = root_of_run(&registry, run_id).await?;
    send(&registry, &below(&root, text)?, &headers).await
}

/// `model-versions/get-artifact?name=…&version=…&path=…`: a file of a version.
pub(crate) async fn get_of_version(
    registry: Registry,
    headers: HeaderMap,
    input: Input,
) -> Result<Response, Refusal> {
    let (name, version) = (input.required("name")?, rules::version(input.required("version")?)?);
    let text = input.required("path")?;
    let mut conn = registry.context.db.acquire().await?;
    let found = storage::models::find_version(&mut conn, registry.project(), name, version).await?;
    drop(conn);
    let found = found.ok_or_else(|| Error::no_version(name, version))?;
    send(&registry, &below(&found.storage_uri, text)?, &headers).await
}
