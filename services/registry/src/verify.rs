//! Reading everything behind a version again, and hashing it again.

use std::sync::Arc;

use domain::evaluation::Evaluation;
use frames::store::Store;
use serde::Serialize;
use sqlx::PgConnection;
use storage::governance::files::files_of;
use storage::governance::inputs::parts_of;
use storage::models::Version;
use storage::training_sets::TrainingSet;

use crate::aliases::evidence_of;
use crate::files::{folder_of, frozen, hashed, key_of};
use crate::{Error, Registry, signing};

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It is what it was.
    Intact,
    /// It is there, and has other contents.
    Altered,
    /// It is gone.
    Missing,
    /// It is there, and was not before.
    Added,
    /// It was merged into another part or outlived its retention, as the manifest says: its rows are accounted for.
    Retired,
}

/// One file that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Looked {
    /// What it is: `model file`, `training set`, `histories`, `evaluation`, `part` or `signature`.
    pub(crate) what: &'static str,
    /// Where it is.
    pub(crate) path: String,
    /// SHA-256 as it was written down.
    pub(crate) expected: Option<String>,
    /// SHA-256 now.
    pub(crate) found: Option<String>,
    /// What became of it.
    pub(crate) state: State,
}

/// What a second look at a version found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Whether nothing is altered, missing or added.
    pub(crate) intact: bool,
    /// Everything that was looked at.
    pub(crate) files: Vec<Looked>,
}

/// Reads everything behind a version again: its files, its evaluation, its training set and the parts of that.
pub(crate) async fn verify(registry: &Registry, version: &Version) -> Result<Report, Error> {
    let mut files = model_files(registry, version).await?;
    let mut conn = registry.context.db.acquire().await?;
    let evidence = evidence_of(&mut conn, registry.project(), version).await?;
    drop(conn);
    if let Some(evidence) = evidence {
        let here = Arc::new(Store::Folder(registry.context.data_dir.clone()));
        files
            .push(look(&here, "evaluation", &evidence.predictions_path, &evidence.predictions_sha256).await?);
        files.extend(training(registry, &evidence).await?);
    }
    files.extend(signing::look(registry, version).await?);
    let intact = files.iter().all(|file| matches!(file.state, State::Intact | State::Retired));
    Ok(Report { intact, files })
}

async fn model_files(registry: &Registry, version: &Version) -> Result<Vec<Looked>, Error> {
    let mut conn = registry.context.db.acquire().await?;
    let folder = match folder_of(&mut conn, registry.project(), version).await {
        Ok(folder) => folder,
        Err(Error::Invalid(_)) => return Ok(vec![]), // the files are elsewhere; nothing was promised about them
        Err(error) => return Err(error),
    };
    let known = files_of(&mut conn, key_of(registry.project(), version)).await?;
    drop(conn);
    let now = hashed(registry, &folder).await?;
    if now.is_empty() && known.is_empty() {
        return Ok(vec![]); // nothing was ever uploaded
    }
    let before = frozen(registry, version).await?;
    let found = |path: &str| now.iter().find(|file| file.path == path).map(|file| file.sha256.clone());
    let known = before.iter().map(|file| {
        let found = found(&file.path);
        let state = compared(&file.sha256, found.as_deref());
        Looked {
            what: "model file",
            path: file.path.clone(),
            expected: Some(file.sha256.clone()),
            found,
            state,
        }
    });
    let new = now.iter().filter(|file| before.iter().all(|known| known.path != file.path));
    let added = new.map(|file| Looked {
        what: "model file",
        path: file.path.clone(),
        expected: None,
        found: Some(file.sha256.clone()),
        state: State::Added,
    });
    Ok(known.chain(added).collect())
}

async fn training(registry: &Registry, evidence: &Evaluation) -> Result<Vec<Looked>, Error> {
    let mut conn = registry.context.db.acquire().await?;
    let project = registry.project();
    let set = match storage::training_sets::get(&mut conn, project, evidence.training_set).await {
        Err(storage::Error::NotFound { .. }) => return Ok(vec![]),
        found => found?,
    };
    let parts = parts_of(&mut conn, project, set.id).await?;
    let listed = listed(&mut conn, project, &parts).await?;
    drop(conn);
    let store = offline(registry)?;
    let mut looked = set_files(&store, &set).await?;
    for (part, listed) in parts.iter().zip(listed) {
        let mut file = look(&store, "part", &part.path, &part.sha256).await?;
        if file.state == State::Missing && !listed {
            file.state = State::Retired;
        }
        looked.push(file);
    }
    Ok(looked)
}

async fn listed(
    conn: &mut PgConnection,
    project: &str,
    parts: &[storage::governance::inputs::PartUsed],
) -> Result<Vec<bool>, Error> {
    let ids: Vec<_> = parts.iter().map(|part| part.part_id).collect();
    let known = storage::governance::inputs::listed(conn, project, &ids).await?;
    Ok(ids.iter().map(|id| known.contains(id)).collect())
}

async fn set_files(store: &Arc<Store>, set: &TrainingSet) -> Result<Vec<Looked>, Error> {
    let mut looked = vec![look(store, "training set", &set.path, &set.sha256).await?];
    if let (Some(path), Some(sha256)) = (&set.history_path, &set.history_sha256) {
        looked.push(look(store, "histories", path, sha256).await?);
    }
    Ok(looked)
}

/// Where training sets and parts lie: a folder or a bucket.
fn offline(registry: &Registry) -> Result<Arc<Store>, Error> {
    let url = registry.context.config.offline.url.as_deref();
    Ok(Arc::new(Store::at(url, &registry.context.data_dir)?))
}

async fn look(store: &Arc<Store>, what: &'static str, path: &str, expected: &str) -> Result<Looked, Error> {
    let (reader, wanted) = (Arc::clone(store), path.to_owned());
    let hashing = tokio::task::spawn_blocking(move || reader.sha256(&wanted));
    let found =
        hashing.await.map_err(|error| Error::Unreadable(format!("hashing ended early: {error}")))??;
    let state = compared(expected, found.as_deref());
    Ok(Looked { what, path: path.to_owned(), expected: Some(expected.to_owned()), found, state })
}

fn compared(expected: &str, found: Option<&str>) -> State {
    match found {
        Some(found) if found == expected => State::Intact,
        Some(_) => State::Altered,
        None => State::Missing,
    }
}
