//! Where a version comes from: version → run → training set → the files it was made of.

use domain::evaluation::Evaluation;
use serde_json::{Value, json};
use service_kit::Context;
use sqlx::PgConnection;
use storage::models::Version;

use crate::Error;
use crate::aliases::evidence_of;

/// The lineage of a version, as far as it is known.
pub(crate) async fn of(context: &Context, project: &str, version: &Version) -> Result<Value, Error> {
    let mut conn = context.db.acquire().await?;
    let evidence = evidence_of(&mut conn, project, version).await?;
    let run = match &version.run_id {
        Some(run_id) => storage::tracking::runs::find(&mut conn, project, run_id).await?,
        None => None,
    };
    let training_set = match &evidence {
        Some(evidence) => training_set(&mut conn, project, evidence).await?,
        None => Value::Null,
    };
    Ok(json!({
        "model": version.model,
        "version": version.version,
        "source": version.source,
        "run": run.map(|run| json!({
            "run_id": run.id,
            "name": run.name,
            "status": run.status,
            "artifact_uri": run.artifact_uri,
        })),
        "training_set": training_set,
        "evaluation_file": evidence.as_ref().map(|evidence| json!({
            "path": evidence.predictions_path,
            "sha256": evidence.predictions_sha256,
        })),
    }))
}

/// The training set that the evidence names, down to its files' hashes; of one that is gone only the name is left.
async fn training_set(conn: &mut PgConnection, project: &str, evidence: &Evaluation) -> Result<Value, Error> {
    let named = json!({
        "training_set_id": evidence.training_set,
        "dataset": evidence.dataset,
        "schema_fingerprint": evidence.schema_fingerprint,
    });
    match storage::training_sets::get(conn, project, evidence.training_set).await {
        Err(storage::Error::NotFound { .. }) => Ok(named),
        Err(error) => Err(error.into()),
        Ok(set) => Ok(json!({
            "training_set_id": set.id,
            "dataset": set.dataset,
            "schema_fingerprint": evidence.schema_fingerprint,
            "spec_hash": set.spec_hash,
            "max_seq": set.max_seq,
            "as_of": set.as_of,
            "rows": set.rows,
            "path": set.path,
            "sha256": set.sha256,
            "history_path": set.history_path,
            "history_sha256": set.history_sha256,
        })),
    }
}
