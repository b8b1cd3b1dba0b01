//! Rows that another service computed and left in a file, taken in by a job: how services give each other features without
//! calling each other.
//!
//! The file is whole and its hash is in the payload. The batch's idempotency key makes a second run answer what the first one
//! did; the file goes when its rows are in. Where a model's version computed them, lineage says so.

use frames::Frame;
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_kit::jobs::{Failure, Job, Outcome};
use storage::governance::{VersionKey, publications};

use crate::intake::{self, Accepted, Batch, To};
use crate::{Error, FeatureStore};

/// The job kind that takes a file in.
pub(crate) const JOB_KIND: &str = "ingest-file";

/// Which file, and whose rows it holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IngestFile {
    project: String,
    source: String,
    /// An Arrow IPC file, relative to the data directory.
    path: String,
    /// Its SHA-256, in hex.
    sha256: String,
    idempotency_key: String,
    /// Who computed the rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made_by: Option<MadeBy>,
}

/// A version of a registered model.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MadeBy {
    model: String,
    version: i32,
}

/// Handles one job.
pub(crate) async fn run(store: FeatureStore, job: Job) -> Result<Outcome, Failure> {
    let request: IngestFile = job.payload()?;
    let accepted = take_in(&store, &request).await?;
    if let Some(made_by) = &request.made_by {
        note_maker(&store, &request, made_by, accepted.seq).await?;
    }
    store.remove_file(&request.path).await;
    Ok(Outcome { answer: json!(accepted), next: vec![] })
}

async fn take_in(store: &FeatureStore, request: &IngestFile) -> Result<Accepted, Error> {
    if request.project != store.project() {
        let (asked, own) = (&request.project, store.project());
        return Err(Error::BadRequest(format!("the file is of project `{asked}`, this store keeps `{own}`")));
    }
    let path = &request.path;
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(Error::BadRequest(format!("`{path}` does not lie in the data directory")));
    }
    let (file, sha256) = (store.context.data_dir.join(path), request.sha256.clone());
    if !file.exists()
        && let Some(earlier) = earlier(store, request).await?
    {
        return Ok(earlier); // an earlier run took it in and removed it
    }
    let rows = tokio::task::spawn_blocking(move || -> Result<Frame, Error> {
        frames::files::verify(&file, &sha256)?;
        Ok(frames::files::read_arrow(&file)?)
    })
    .await??;
    let (source, idempotency_key) = (request.source.clone(), Some(request.idempotency_key.clone()));
    intake::take_in(store, Batch { source, to: To::OnlineAndOffline, idempotency_key, rows }).await
}

/// Writes down whose rows the ingest took in; a second run finds it written.
async fn note_maker(
    store: &FeatureStore,
    request: &IngestFile,
    made_by: &MadeBy,
    seq: i64,
) -> Result<(), Error> {
    let mut conn = store.context.db.acquire().await?;
    let key = VersionKey { project: store.project(), model: &made_by.model, version: made_by.version };
    let now = store.context.clock.now();
    Ok(publications::record(&mut conn, key, (seq, &request.sha256), now).await?)
}

async fn earlier(store: &FeatureStore, request: &IngestFile) -> Result<Option<Accepted>, Error> {
    let mut conn = store.context.db.acquire().await?;
    let (source, key) = (&request.source, &request.idempotency_key);
    let found = storage::features::earlier_answer(&mut conn, store.project(), source, key).await?;
    Ok(found.and_then(|answer| serde_json::from_value(answer).ok()))
}
