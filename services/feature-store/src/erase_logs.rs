//! The part of an erasure that is about what was served: rows of prediction logs that hold the entity's key are blanked, file by
//! file. What a worker still gathers (`worker.flush_seconds`), or has left in its spool when it was killed, is not in such a file
//! yet; publishing it starts the job again.

use std::collections::{BTreeSet, HashMap};

use domain::definitions::{Columns, Definitions, Object, ViewVersion};
use serde_json::{Value, json};
use storage::erasures::{Erasure, RedactedLog};
use storage::predictions::StoredLog;

use crate::{Error, FeatureStore};

/// Blanks what the project's prediction logs hold of erased entities, and removes the files that were replaced.
pub(crate) async fn redact(
    store: &FeatureStore,
    project: &str,
    erasure: &Erasure,
    versions: &[ViewVersion],
    horizons: &HashMap<Vec<u8>, i64>,
) -> Result<(), Error> {
    let mut conn = store.context.db.acquire().await?;
    let definitions = storage::definitions::load(&mut conn, project).await?;
    let logs = storage::predictions::stored(&mut conn, project, erasure.horizon).await?;
    drop(conn);
    let keys: BTreeSet<&Columns> = versions.iter().map(|version| &version.layout.keys).collect();
    for log in logs {
        for key in &keys {
            let columns = columns_of(&definitions, &log.registered_model, key);
            if redact_one(store, erasure, &log, columns, horizons).await? {
                break; // the file is another one now; the next erasure finds it by its new name
            }
        }
    }
    let mut conn = store.context.db.acquire().await?;
    for path in storage::erasures::replaced_logs(&mut conn, erasure.id).await? {
        store.remove_file(&path).await;
    }
    Ok(())
}

/// The columns of a model's log that hold a key's parts: features that are nothing but these, or else columns of their names.
fn columns_of(definitions: &Definitions, registered_model: &str, key: &Columns) -> Columns {
    let datasets = definitions.objects().filter_map(|located| match &located.object {
        Object::Model(model) if model.registered_model == registered_model => {
            definitions.dataset(&model.dataset)
        }
        _ => None,
    });
    let features: Vec<(&String, &String)> = datasets.flat_map(|dataset| &dataset.features).collect();
    let called = |part: &String| {
        let plain = features.iter().find(|(_, expression)| expression.trim() == part);
        plain.map_or_else(|| part.clone(), |(name, _)| (*name).clone())
    };
    key.iter().map(|(part, kind)| (called(part), *kind)).collect()
}

/// Blanks one file's rows; whether there were any.
async fn redact_one(
    store: &FeatureStore,
    erasure: &Erasure,
    log: &StoredLog,
    key: Columns,
    horizons: &HashMap<Vec<u8>, i64>,
) -> Result<bool, Error> {
    let data_dir = store.context.data_dir.clone();
    let (old, horizons) = (log.clone(), horizons.clone());
    let path = format!("{}-{}.arrow", log.path.trim_end_matches(".arrow"), erasure.id);
    let to = path.clone();
    let written = tokio::task::spawn_blocking(move || -> Result<_, Error> {
        let file = data_dir.join(&old.path);
        frames::files::verify(&file, &old.sha256)?;
        let gone = |key: &[u8], cutoff: i64| horizons.get(key).is_some_and(|horizon| cutoff <= *horizon);
        let Some((left, rows)) = frames::redact::redact(&frames::files::read_arrow(&file)?, &key, gone)?
        else {
            return Ok(None);
        };
        Ok(Some((frames::files::write_arrow(&data_dir.join(to), &left)?, rows)))
    })
    .await??;
    let Some((written, rows)) = written else { return Ok(false) };
    let redacted = RedactedLog {
        registered_model: log.registered_model.clone(),
        version: log.version,
        old_path: log.path.clone(),
        old_sha256: log.sha256.clone(),
        new_sha256: written.sha256.clone(),
        rows_redacted: rows as i64,
    };
    let mut tx = store.context.db.begin().await?;
    storage::predictions::replace_file(&mut tx, log.id, &path, &written.sha256).await?;
    storage::erasures::note_log(&mut tx, erasure.id, &redacted).await?;
    tx.commit().await?;
    Ok(true)
}

/// The views of other entities that hold parts of the key among their values: their files are as they were.
pub(crate) fn not_rewritten(all: &[ViewVersion], erasure: &Erasure) -> Vec<Value> {
    let own: BTreeSet<&str> = all
        .iter()
        .filter(|version| version.layout.entity == erasure.entity)
        .flat_map(|version| version.layout.keys.iter().map(|(name, _)| name.as_str()))
        .collect();
    let held = |version: &ViewVersion| -> Vec<String> {
        let columns = version.layout.keys.iter().chain(&version.layout.values);
        columns.filter(|(name, _)| own.contains(name.as_str())).map(|(name, _)| name.clone()).collect()
    };
    let others = all.iter().filter(|version| version.layout.entity != erasure.entity);
    let named = others.map(|version| (version, held(version))).filter(|(_, columns)| !columns.is_empty());
    named
        .map(|(version, columns)| json!({ "view": version.view, "version": version.version, "columns": columns }))
        .collect()
}
