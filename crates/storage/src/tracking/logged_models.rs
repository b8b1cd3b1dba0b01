//! SQL over `logged_models`: the files of a model as a run wrote them, before anybody registers a version.

use std::collections::HashMap;

use sqlx::PgConnection;
use sqlx::types::Json;

use super::metrics::clipped;
use super::{Metric, Pair, Tags, columns, pairs};
use crate::Error;

/// A logged model.
#[derive(Clone, Debug)]
pub struct LoggedModel {
    /// Which one; begins with `m-`.
    pub id: String,
    /// The experiment it belongs to.
    pub experiment_id: i64,
    /// Its name.
    pub name: String,
    /// Where its files are, as a URI.
    pub artifact_uri: String,
    /// `LOGGED_MODEL_PENDING`, `LOGGED_MODEL_READY` or `LOGGED_MODEL_UPLOAD_FAILED`.
    pub status: String,
    /// What the client calls its kind.
    pub model_type: String,
    /// The run that wrote it.
    pub source_run_id: Option<String>,
    /// When it was created, in milliseconds.
    pub created_ms: i64,
    /// When it last changed, in milliseconds.
    pub updated_ms: i64,
    /// Its tags, by key.
    pub tags: Vec<Pair>,
    /// Its parameters, by key.
    pub params: Vec<Pair>,
    /// Its metrics.
    pub metrics: Vec<ModelMetric>,
}

/// A point of a metric of a logged model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelMetric {
    /// The point.
    pub metric: Metric,
    /// The run that measured it.
    pub run_id: String,
    /// The data set it was measured on.
    pub dataset_name: Option<String>,
    /// That data set's digest.
    pub dataset_digest: Option<String>,
}

/// What is known of a logged model when it is created.
#[derive(Clone, Debug)]
pub struct NewLoggedModel<'a> {
    /// The experiment it belongs to.
    pub experiment_id: i64,
    /// Its name.
    pub name: &'a str,
    /// What the client calls its kind.
    pub model_type: &'a str,
    /// The run that writes it.
    pub source_run_id: Option<&'a str>,
    /// Its first tags.
    pub tags: &'a [Pair],
    /// Its first parameters.
    pub params: &'a [Pair],
}

/// Creates a logged model; answers its id.
///
/// # Errors
/// [`Error::NotFound`] if there is no such experiment.
pub async fn create(
    conn: &mut PgConnection,
    project: &str,
    model: &NewLoggedModel<'_>,
    now_ms: i64,
) -> Result<String, Error> {
    let id = format!("m-{}", uuid::Uuid::new_v4().simple());
    let done = sqlx::query!(
        r#"
        insert into logged_models (project, model_id, experiment_id, name, artifact_uri, status, model_type,
                                   source_run_id, created_ms, updated_ms)
        select $1, $2, experiment_id, $4, rtrim(artifact_location, '/') || '/models/' || $2 || '/artifacts',
               'LOGGED_MODEL_PENDING', $5, $6, $7, $7
        from experiments where project = $1 and experiment_id = $3
        "#,
        project,
        id,
        model.experiment_id,
        model.name,
        model.model_type,
        model.source_run_id,
        now_ms,
    )
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() == 0 {
        return Err(Error::not_found(format!("experiment {}", model.experiment_id)));
    }
    set_tags(conn, project, &id, model.tags).await?;
    set_params(conn, project, &id, model.params).await?;
    Ok(id)
}

/// Sets the status; `false` if there is no active model of that id.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn set_status(
    conn: &mut PgConnection,
    project: &str,
    id: &str,
    status: &str,
    now_ms: i64,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        r#"
        update logged_models set status = $3, updated_ms = $4
        where project = $1 and model_id = $2 and lifecycle_stage = 'active'
        "#,
        project,
        id,
        status,
        now_ms,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Marks a model as deleted; `false` if there is no active one of that id.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delete(conn: &mut PgConnection, project: &str, id: &str, now_ms: i64) -> Result<bool, Error> {
    let done = sqlx::query!(
        r#"
        update logged_models set lifecycle_stage = 'deleted', updated_ms = $3
        where project = $1 and model_id = $2 and lifecycle_stage = 'active'
        "#,
        project,
        id,
        now_ms,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Sets tags.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn set_tags(conn: &mut PgConnection, project: &str, id: &str, tags: &[Pair]) -> Result<(), Error> {
    if tags.is_empty() {
        return Ok(());
    }
    let (keys, values) = columns(tags);
    sqlx::query!(
        r#"
        insert into logged_model_tags (project, model_id, key, value)
        select $1, $2, key, value from unnest($3::text[], $4::text[]) as given (key, value)
        on conflict (project, model_id, key) do update set value = excluded.value
        "#,
        project,
        id,
        &keys,
        &values,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes a tag; `false` if there is none of that key.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delete_tag(conn: &mut PgConnection, project: &str, id: &str, key: &str) -> Result<bool, Error> {
    let done = sqlx::query!(
        "delete from logged_model_tags where project = $1 and model_id = $2 and key = $3",
        project,
        id,
        key,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes parameters; each may be written once.
///
/// # Errors
/// [`Error::Conflict`] if one was written before with another value.
pub async fn set_params(
    conn: &mut PgConnection,
    project: &str,
    id: &str,
    params: &[Pair],
) -> Result<(), Error> {
    if params.is_empty() {
        return Ok(());
    }
    let (keys, values) = columns(params);
    sqlx::query!(
        r#"
        insert into logged_model_params (project, model_id, key, value)
        select $1, $2, key, value from unnest($3::text[], $4::text[]) as given (key, value)
        on conflict (project, model_id, key) do nothing
        "#,
        project,
        id,
        &keys,
        &values,
    )
    .execute(&mut *conn)
    .await?;
    let changed = sqlx::query_scalar!(
        r#"
        select given.key as "key!" from unnest($3::text[], $4::text[]) as given (key, value)
        join logged_model_params stored on stored.project = $1 and stored.model_id = $2 and stored.key = given.key
        where stored.value <> given.value order by given.key limit 1
        "#,
        project,
        id,
        &keys,
        &values,
    )
    .fetch_optional(conn)
    .await?;
    match changed {
        None => Ok(()),
        Some(key) => Err(Error::Conflict {
            what: format!(
                "Changing param values is not allowed. Param with key='{key}' of model '{id}' has another value."
            ),
        }),
    }
}

/// Adds a point of a metric; the same point again replaces the value. `false` if there is no model of that id.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn log_metric(
    conn: &mut PgConnection,
    project: &str,
    id: &str,
    point: &ModelMetric,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        r#"
        insert into logged_model_metrics (project, model_id, run_id, key, timestamp_ms, step, value,
                                          dataset_name, dataset_digest)
        select project, model_id, $3, $4, $5, $6, $7, $8, $9 from logged_models where project = $1 and model_id = $2
        on conflict (project, model_id, run_id, key, timestamp_ms, step) do update
        set value = excluded.value, dataset_name = excluded.dataset_name, dataset_digest = excluded.dataset_digest
        "#,
        project,
        id,
        point.run_id,
        point.metric.key,
        point.metric.timestamp_ms,
        point.metric.step,
        clipped(point.metric.value),
        point.dataset_name,
        point.dataset_digest,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// One active model, if it is there.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn find(conn: &mut PgConnection, project: &str, id: &str) -> Result<Option<LoggedModel>, Error> {
    Ok(load(conn, project, &[id.to_owned()]).await?.pop())
}

/// The active models of these ids, in that order; those that are not there are left out.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn load(conn: &mut PgConnection, project: &str, ids: &[String]) -> Result<Vec<LoggedModel>, Error> {
    let mut metrics = metrics_of(conn, project, ids).await?;
    let rows = sqlx::query!(
        r#"
        select model_id, experiment_id, name, artifact_uri, status, model_type, source_run_id, created_ms, updated_ms,
               (select jsonb_object_agg(t.key, t.value) from logged_model_tags t
                where t.project = m.project and t.model_id = m.model_id) as "tags: Json<Tags>",
               (select jsonb_object_agg(p.key, p.value) from logged_model_params p
                where p.project = m.project and p.model_id = m.model_id) as "params: Json<Tags>"
        from logged_models m where project = $1 and model_id = any($2) and lifecycle_stage = 'active'
        order by array_position($2, model_id)
        "#,
        project,
        ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| LoggedModel {
            tags: pairs(row.tags),
            params: pairs(row.params),
            metrics: metrics.remove(&row.model_id).unwrap_or_default(),
            id: row.model_id,
            experiment_id: row.experiment_id,
            name: row.name,
            artifact_uri: row.artifact_uri,
            status: row.status,
            model_type: row.model_type,
            source_run_id: row.source_run_id,
            created_ms: row.created_ms,
            updated_ms: row.updated_ms,
        })
        .collect())
}

async fn metrics_of(
    conn: &mut PgConnection,
    project: &str,
    ids: &[String],
) -> Result<HashMap<String, Vec<ModelMetric>>, Error> {
    let rows = sqlx::query!(
        r#"
        select model_id, run_id, key, timestamp_ms, step, value, dataset_name, dataset_digest
        from logged_model_metrics where project = $1 and model_id = any($2) order by key, timestamp_ms, step
        "#,
        project,
        ids,
    );
    let mut metrics: HashMap<String, Vec<ModelMetric>> = HashMap::new();
    for row in rows.fetch_all(conn).await? {
        let metric =
            Metric { key: row.key, value: row.value, timestamp_ms: row.timestamp_ms, step: row.step };
        metrics.entry(row.model_id).or_default().push(ModelMetric {
            metric,
            run_id: row.run_id,
            dataset_name: row.dataset_name,
            dataset_digest: row.dataset_digest,
        });
    }
    Ok(metrics)
}
