//! Where a new version's files are, and whether they are its run's own: only then does the run's evidence speak for it.

use percent_encoding::percent_decode_str;
use sqlx::PgConnection;
use storage::tracking::runs;

use super::refusal::Refusal;
use super::{logged_models, rules};
use crate::{Error, Registry};

/// What is known of a new version's files.
#[derive(Debug, PartialEq)]
pub(crate) struct Source {
    /// Where they are.
    pub(crate) storage_uri: String,
    /// The run that made them.
    pub(crate) run_id: Option<String>,
    /// The logged model they are.
    pub(crate) logged_model_id: Option<String>,
    /// They are known to be that run's own.
    pub(crate) made_by_run: bool,
}

/// Finds out about `source`, as MLflow does, and refuses what MLflow refuses.
pub(crate) async fn resolve(
    registry: &Registry,
    conn: &mut PgConnection,
    source: &str,
    run_id: Option<&str>,
    model_id: Option<&str>,
) -> Result<Source, Refusal> {
    refuse_relative(source)?;
    let scheme = source.split_once(':').map_or("", |(scheme, _)| scheme);
    match (scheme, model_id) {
        ("models", _) => of_model(registry, conn, source, run_id, model_id).await,
        (_, Some(model_id)) => of_logged_model(registry, conn, source, run_id, model_id).await,
        ("runs", None) => of_run(registry, conn, source, run_id).await,
        ("mlflow-artifacts", None) => below_run(registry, conn, source, run_id).await,
        ("" | "file", None) => Err(Refusal::invalid(format!(
            "Invalid model version source: '{source}'. To use a local path as a model version source, the run_id request \
             parameter has to be specified and the local path has to be contained within the artifact directory of the \
             run specified by the run_id."
        ))),
        _ => Ok(Source {
            storage_uri: source.to_owned(),
            run_id: run_id.map(str::to_owned),
            logged_model_id: None,
            made_by_run: false,
        }),
    }
}

fn invalid(source: &str, parameter: &str) -> Refusal {
    Refusal::invalid(format!(
        "Invalid model version source: '{source}'. It must lie within what the request parameter {parameter} names."
    ))
}

/// No `..` in any spelling.
fn refuse_relative(source: &str) -> Result<(), Refusal> {
    let mut text = source.to_owned();
    loop {
        let next = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if next == text {
            break;
        }
        text = next;
    }
    if text.contains('\0') || text.split(['/', '\\']).any(|part| part == "..") {
        return Err(Refusal::invalid(format!(
            "Invalid model version source: '{source}'. If supplying a source as an http, https, local file path, ftp, \
             objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative path references \
             present. Please provide an absolute path."
        )));
    }
    Ok(())
}

/// `models:/m-…` or `models:/name/version`.
async fn of_model(
    registry: &Registry,
    conn: &mut PgConnection,
    source: &str,
    run_id: Option<&str>,
    model_id: Option<&str>,
) -> Result<Source, Refusal> {
    let path = source.strip_prefix("models:/").unwrap_or_default();
    match path.split_once('/') {
        None if path.starts_with("m-") && model_id.is_none_or(|model_id| model_id == path) => {
            of_logged_model(registry, conn, source, run_id, path).await
        }
        Some((name, version)) if model_id.is_none() => copied(registry, conn, name, version, run_id).await,
        _ => Err(invalid(source, "model_id")),
    }
}

async fn of_logged_model(
    registry: &Registry,
    conn: &mut PgConnection,
    source: &str,
    run_id: Option<&str>,
    model_id: &str,
) -> Result<Source, Refusal> {
    let model = logged_models::find(registry, conn, model_id).await?;
    let is_whole = source == format!("models:/{model_id}");
    if !is_whole && !is_below(source, &model.artifact_uri) {
        return Err(invalid(source, "model_id"));
    }
    if let (Some(run_id), Some(maker)) = (run_id, &model.source_run_id)
        && run_id != maker
    {
        return Err(invalid(source, "run_id"));
    }
    Ok(Source {
        storage_uri: if is_whole { model.artifact_uri } else { source.to_owned() },
        run_id: run_id.map(str::to_owned).or_else(|| model.source_run_id.clone()),
        logged_model_id: Some(model.id),
        made_by_run: model.source_run_id.is_some(),
    })
}

/// A copy of another version keeps its run and what is known of it.
async fn copied(
    registry: &Registry,
    conn: &mut PgConnection,
    name: &str,
    version: &str,
    run_id: Option<&str>,
) -> Result<Source, Refusal> {
    let version = rules::version(version)?;
    let original = storage::models::find_version(conn, registry.project(), name, version).await?;
    let original = original.ok_or_else(|| Error::no_version(name, version))?;
    let same_run = run_id.is_none_or(|run_id| original.run_id.as_deref() == Some(run_id));
    Ok(Source {
        storage_uri: original.storage_uri,
        run_id: run_id.map(str::to_owned).or(original.run_id),
        logged_model_id: None,
        made_by_run: original.made_by_run && same_run,
    })
}

/// `runs:/<run id>/path`.
async fn of_run(
    registry: &Registry,
    conn: &mut PgConnection,
    source: &str,
    run_id: Option<&str>,
) -> Result<Source, Refusal> {
    let named = source.strip_prefix("runs:/").and_then(|path| path.split('/').next());
    if run_id.is_none() || named != run_id {
        return Err(invalid(source, "run_id"));
    }
    let made_by_run = match run_id {
        Some(run_id) => runs::lifecycle_of(conn, registry.project(), run_id).await?.is_some(),
        None => false,
    };
    Ok(Source {
        storage_uri: source.to_owned(),
        run_id: run_id.map(str::to_owned),
        logged_model_id: None,
        made_by_run,
    })
}

/// `mlflow-artifacts:/…` below the run's own files.
async fn below_run(
    registry: &Registry,
    conn: &mut PgConnection,
    source: &str,
    run_id: Option<&str>,
) -> Result<Source, Refusal> {
    let Some(run_id) = run_id else { return Err(invalid(source, "run_id")) };
    let root = runs::artifact_uri_of(conn, registry.project(), run_id).await?;
    let root = root.ok_or_else(|| super::runs::no_run(run_id))?;
    if !is_below(source, &root) {
        return Err(invalid(source, "run_id"));
    }
    Ok(Source {
        storage_uri: source.to_owned(),
        run_id: Some(run_id.to_owned()),
        logged_model_id: None,
        made_by_run: true,
    })
}

fn is_below(source: &str, root: &str) -> bool {
    source
        .strip_prefix(root.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_source_is_refused_in_every_spelling() {
        for source in
            ["mlflow-artifacts:/1/../2", "runs:/a/%2e%2e/b", "models:/%252e%252e", "s3://b/..\\x", "a%00"]
        {
            assert!(refuse_relative(source).is_err(), "{source}");
        }
        assert!(refuse_relative("mlflow-artifacts:/1/a..b/artifacts").is_ok());
    }

    #[test]
    fn a_sibling_with_the_same_beginning_is_not_below() {
        assert!(is_below("mlflow-artifacts:/1/a/artifacts/model", "mlflow-artifacts:/1/a/artifacts"));
        assert!(!is_below("mlflow-artifacts:/1/a/artifacts-2", "mlflow-artifacts:/1/a/artifacts"));
    }
}
