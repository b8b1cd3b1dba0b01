//! `mlflow-artifacts/artifacts/…` and the listings of a run's or a logged model's files.

use std::io;

use axum::Json;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use storage::tracking::artifacts::{self, Artifact};
use tokio_util::io::ReaderStream;

use super::input::Input;
use super::paging::answer;
use super::refusal::{Code, Refusal};
use super::{Answer, done, logged_models, runs};
use crate::Registry;
use crate::artifacts::{ArtifactPath, Listed, is_absent};
use crate::metrics::Metrics;

/// How much of a file is read at a time.
const CHUNK_BYTES: usize = 64 << 10;

fn path(text: &str) -> Result<ArtifactPath, Refusal> {
    ArtifactPath::parse(text).ok_or_else(|| Refusal::invalid(format!("Invalid path: {text}")))
}

/// A file that cannot be had is the client's mistake if it is not there, and ours otherwise.
fn refused(path: &ArtifactPath, error: &io::Error) -> Refusal {
    match error.kind() {
        _ if is_absent(error) => Refusal::missing(format!("No such artifact: '{}'", path.as_str())),
        io::ErrorKind::IsADirectory | io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
            Refusal::invalid(format!("'{}' is a directory, or a file stands in its way", path.as_str()))
        }
        io::ErrorKind::ConnectionAborted => Refusal::new(Code::BadRequest, "the body broke off"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            tracing::error!(%error, path = path.as_str(), "no room for artifacts");
            Refusal::new(Code::TemporarilyUnavailable, "the server has no room left for artifacts")
        }
        _ => {
            tracing::error!(%error, path = path.as_str(), "an artifact could not be read or written");
            Refusal::new(Code::InternalError, "the server failed; its log says why")
        }
    }
}

pub(crate) async fn upload(
    registry: Registry,
    Path(text): Path<String>,
    body: Body,
) -> Result<Response, Refusal> {
    let path = path(&text)?;
    let written = registry.artifacts().write(&path, body.into_data_stream()).await.map_err(|error| {
        let in_the_way = matches!(error.kind(), io::ErrorKind::NotADirectory);
        if in_the_way {
            Refusal::invalid(format!("a file stands in the way of '{text}'"))
        } else {
            refused(&path, &error)
        }
    })?;
    Metrics::of(&registry.context).uploaded_bytes.inc_by(written.size_bytes);
    let artifact = Artifact {
        sha256: written.sha256,
        size_bytes: i64::try_from(written.size_bytes).unwrap_or(i64::MAX),
    };
    let mut conn = registry.context.db.acquire().await?;
    let now = registry.context.clock.now();
    artifacts::save(&mut conn, registry.project(), path.as_str(), &artifact, now).await?;
    Ok(([(header::ETAG, format!("\"{}\"", artifact.sha256))], ()).into_response())
}

pub(crate) async fn download(registry: Registry, Path(text): Path<String>) -> Result<Response, Refusal> {
    let path = path(&text)?;
    let (file, length) = registry.artifacts().open(&path).await.map_err(|error| refused(&path, &error))?;
    let mut conn = registry.context.db.acquire().await?;
    let noted = artifacts::find(&mut conn, registry.project(), path.as_str()).await?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path.file_name())));
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CONTENT_DISPOSITION, disposition(path.file_name()));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(etag) = noted.and_then(|noted| HeaderValue::from_str(&format!("\"{}\"", noted.sha256)).ok()) {
        headers.insert(header::ETAG, etag);
    }
    Ok((headers, Body::from_stream(ReaderStream::with_capacity(file, CHUNK_BYTES))).into_response())
}

/// Text that people read is text; nothing is ever a page that a browser would run.
fn content_type(name: &str) -> &'static str {
    const TEXT: [&str; 13] =
        ["txt", "log", "err", "cfg", "conf", "ini", "json", "yaml", "yml", "md", "csv", "toml", "py"];
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension {
        Some(extension) if TEXT.contains(&extension.as_str()) => "text/plain",
        None if name == "MLmodel" => "text/plain",
        _ => "application/octet-stream",
    }
}

fn disposition(name: &str) -> HeaderValue {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_graphic() && c != '"' || c == ' ' { c } else { '_' }).collect();
    HeaderValue::from_str(&format!("attachment; filename=\"{plain}\""))
        .unwrap_or_else(|_| HeaderValue::from_static("attachment"))
}

pub(crate) async fn delete(registry: Registry, Path(text): Path<String>) -> Answer {
    let path = path(&text)?;
    registry.artifacts().remove(&path).await.map_err(|error| refused(&path, &error))?;
    let mut conn = registry.context.db.acquire().await?;
    artifacts::delete(&mut conn, registry.project(), path.as_str()).await?;
    done()
}

/// Files with paths below `prefix`.
fn files(listed: Vec<Listed>, prefix: &str) -> Vec<Value> {
    let path = |name: String| if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
    let file = |entry: Listed| match entry.size_bytes {
        Some(size) => json!({ "path": path(entry.name), "is_dir": false, "file_size": size }),
        None => json!({ "path": path(entry.name), "is_dir": true }),
    };
    listed.into_iter().map(file).collect()
}

/// The entries of a directory, with paths relative to it.
pub(crate) async fn list(registry: Registry, input: Input) -> Answer {
    let text = input.text("path")?.unwrap_or_default().trim_end_matches('/');
    let path = if text.is_empty() { None } else { Some(path(text)?) };
    let listed = registry.artifacts().list(path.as_ref()).await.map_err(|error| match &path {
        Some(path) => refused(path, &error),
        None => Refusal::new(Code::InternalError, "the server failed; its log says why"),
    })?;
    Ok(Json(answer("files", files(listed, ""), None)))
}

/// The entries of a directory of a run, with paths relative to the run's root.
pub(crate) async fn list_of_run(registry: Registry, input: Input) -> Answer {
    let run_id = input.run_id()?;
    let mut conn = registry.context.db.acquire().await?;
    let root = storage::tracking::runs::artifact_uri_of(&mut conn, registry.project(), run_id).await?;
    drop(conn);
    list_below(&registry, &root.ok_or_else(|| runs::no_run(run_id))?, input.text("path")?.unwrap_or_default())
        .await
}

/// The entries of a directory of a logged model, with paths relative to the model's root.
pub(crate) async fn list_of_model(registry: Registry, Path(id): Path<String>, input: Input) -> Answer {
    let mut conn = registry.context.db.acquire().await?;
    let model = logged_models::find(&registry, &mut conn, &id).await?;
    drop(conn);
    list_below(&registry, &model.artifact_uri, input.text("artifact_directory_path")?.unwrap_or_default())
        .await
}

async fn list_below(registry: &Registry, root_uri: &str, below: &str) -> Answer {
    let elsewhere = || Refusal::invalid(format!("the files at '{root_uri}' are not kept by this server"));
    let root = root_uri.strip_prefix("mlflow-artifacts:").ok_or_else(elsewhere)?.trim_start_matches('/');
    let below = below.trim_end_matches('/');
    let directory =
        path(root)?.join(below).ok_or_else(|| Refusal::invalid(format!("Invalid path: {below}")))?;
    let listed =
        registry.artifacts().list(Some(&directory)).await.map_err(|error| refused(&directory, &error))?;
    let mut body = answer("files", files(listed, below), None);
    body["root_uri"] = Value::from(root_uri);
    Ok(Json(body))
}
