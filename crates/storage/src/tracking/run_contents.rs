//! SQL over what is logged into a run: metrics, parameters, tags, data sets and models.

use std::collections::{BTreeMap, HashMap};

use sqlx::PgConnection;
use sqlx::types::Json;

use super::{Pair, columns};
use crate::Error;

/// One point of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its key.
    pub key: String,
    /// Its value; infinities are stored as the largest finite number of their sign.
    pub value: f64,
    /// When it was measured, in milliseconds.
    pub timestamp_ms: i64,
    /// The step of training.
    pub step: i64,
}

/// A data set that a run read.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the words are MLflow's")]
pub struct Dataset {
    pub name: String,
    pub digest: String,
    pub source_type: String,
    pub source: String,
    pub schema: Option<String>,
    pub profile: Option<String>,
    /// What the run used it for, among other tags.
    pub tags: BTreeMap<String, String>,
}

/// How a run used a logged model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It read it.
    Input,
    /// It wrote it.
    Output,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// A logged model that a run read or wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelLink {
    /// Which one.
    pub model_id: String,
    /// How it was used.
    pub role: Role,
    /// At which step.
    pub step: i64,
}

#[derive(Default)]
pub(super) struct Contents {
    pub(super) metrics: Vec<Metric>,
    pub(super) params: Vec<Pair>,
    pub(super) tags: Vec<Pair>,
    pub(super) datasets: Vec<Dataset>,
    pub(super) models: Vec<ModelLink>,
}

/// Writes parameters; each may be written once.
///
/// # Errors
/// [`Error::Conflict`], in MLflow's words, if one was written before with another value.
pub async fn log_params(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
    params: &[Pair],
) -> Result<(), Error> {
    let (keys, values) = columns(params);
    sqlx::query!(
        r#"
        insert into run_params (project, run_id, key, value)
        select $1, $2, key, value from unnest($3::text[], $4::text[]) as given (key, value)
        on conflict (project, run_id, key) do nothing
        "#,
        project,
        run_id,
        &keys,
        &values,
    )
    .execute(&mut *conn)
    .await?;
    refuse_changed_params(conn, project, run_id, &keys, &values).await
}

async fn refuse_changed_params(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
    keys: &[String],
    values: &[String],
) -> Result<(), Error> {
    let changed = sqlx::query!(
        r#"
        select stored.key, stored.value, given.value as "attempted!"
        from unnest($3::text[], $4::text[]) as given (key, value)
        join run_params stored on stored.project = $1 and stored.run_id = $2 and stored.key = given.key
        where stored.value <> given.value order by stored.key limit 1
        "#,
        project,
        run_id,
        keys,
        values,
    )
    .fetch_optional(conn)
    .await?;
    match changed {
        None => Ok(()),
        Some(row) => Err(Error::Conflict {
            what: format!(
                "Changing param values is not allowed. Param with key='{}' was already logged with value='{}' \
                 for run ID='{run_id}'. Attempted logging new value '{}'.",
                row.key, row.value, row.attempted
            ),
        }),
    }
}

/// Writes tags; a tag may change.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn set_tags(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
    tags: &[Pair],
) -> Result<(), Error> {
    let (keys, values) = columns(tags);
    sqlx::query!(
        r#"
        insert into run_tags (project, run_id, key, value)
        select $1, $2, key, value from unnest($3::text[], $4::text[]) as given (key, value)
        on conflict (project, run_id, key) do update set value = excluded.value
        "#,
        project,
        run_id,
        &keys,
        &values,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes a tag; `false` if the run has none of that key.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delete_tag(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
    key: &str,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        "delete from run_tags where project = $1 and run_id = $2 and key = $3",
        project,
        run_id,
        key,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Adds points to metrics. Writing the same point again changes nothing.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn log_metrics(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
    metrics: &[Metric],
) -> Result<(), Error> {
    let mut sorted = metrics.to_vec(); // so that two writers cannot deadlock
    sorted.sort_by(|one, other| {
        (&one.key, one.timestamp_ms, one.step).cmp(&(&other.key, other.timestamp_ms, other.step))
    });
    let points = Points::of(sorted.into_iter());
    sqlx::query!(
        r#"
        insert into run_metrics (project, run_id, key, value, timestamp_ms, step)
        select $1, $2, given.* from unnest($3::text[], $4::float8[], $5::bigint[], $6::bigint[]) as given
        on conflict do nothing
        "#,
        project,
        run_id,
        &points.keys,
        &points.values,
        &points.timestamps,
        &points.steps,
    )
    .execute(&mut *conn)
    .await?;
    keep_latest(conn, project, run_id, metrics).await
}

async fn keep_latest(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
    metrics: &[Metric],
) -> Result<(), Error> {
    let mut latest: BTreeMap<&str, &Metric> = BTreeMap::new(); // sorted, so that two writers cannot deadlock
    for metric in metrics {
        let newest = latest.entry(&metric.key).or_insert(metric);
        if is_later(metric, newest) {
            *newest = metric;
        }
    }
    let points = Points::of(latest.into_values().cloned());
    sqlx::query!(
        r#"
        insert into run_latest_metrics as kept (project, run_id, key, value, timestamp_ms, step)
        select $1, $2, given.* from unnest($3::text[], $4::float8[], $5::bigint[], $6::bigint[]) as given
        on conflict (project, run_id, key) do update
        set value = excluded.value, timestamp_ms = excluded.timestamp_ms, step = excluded.step
        where (excluded.step, excluded.timestamp_ms, excluded.value) > (kept.step, kept.timestamp_ms, kept.value)
        "#,
        project,
        run_id,
        &points.keys,
        &points.values,
        &points.timestamps,
        &points.steps,
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn is_later(metric: &Metric, than: &Metric) -> bool {
    let order = (metric.step, metric.timestamp_ms).cmp(&(than.step, than.timestamp_ms));
    order.then(metric.value.total_cmp(&than.value)).is_gt()
}

#[derive(Default)]
struct Points {
    keys: Vec<String>,
    values: Vec<f64>,
    timestamps: Vec<i64>,
    steps: Vec<i64>,
}

impl Points {
    fn of(metrics: impl Iterator<Item = Metric>) -> Self {
        let mut points = Self::default();
        for metric in metrics {
            points.keys.push(metric.key);
            points.values.push(clipped(metric.value));
            points.timestamps.push(metric.timestamp_ms);
            points.steps.push(metric.step);
        }
        points
    }
}

/// Infinities become the largest finite number of their sign, as MLflow's own server stores them.
pub(super) fn clipped(value: f64) -> f64 {
    if value.is_nan() { value } else { value.clamp(f64::MIN, f64::MAX) }
}

/// Points of one metric, oldest first.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn metric_history(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
    key: &str,
    limit: i64,
    offset: i64,
) -> Result<Vec<Metric>, Error> {
    Ok(sqlx::query_as!(
        Metric,
        r#"
        select key, value, timestamp_ms, step from run_metrics
        where project = $1 and run_id = $2 and key = $3
        order by timestamp_ms, step, value limit $4 offset $5
        "#,
        project,
        run_id,
        key,
        limit,
        offset,
    )
    .fetch_all(conn)
    .await?)
}

/// Notes that a run read a data set.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn add_datasets(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
    datasets: &[Dataset],
) -> Result<(), Error> {
    for dataset in datasets {
        sqlx::query!(
            r#"
            insert into run_datasets as kept (project, run_id, name, digest, source_type, source, schema, profile, tags)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            on conflict (project, run_id, name, digest) do update set tags = kept.tags || excluded.tags
            "#,
            project,
            run_id,
            dataset.name,
            dataset.digest,
            dataset.source_type,
            dataset.source,
            dataset.schema,
            dataset.profile,
            Json(&dataset.tags) as _,
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Notes that a run read or wrote logged models.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn link_models(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
    links: &[ModelLink],
) -> Result<(), Error> {
    for link in links {
        sqlx::query!(
            r#"
            insert into run_models (project, run_id, model_id, role, step) values ($1, $2, $3, $4, $5)
            on conflict (project, run_id, role, model_id) do update set step = excluded.step
            "#,
            project,
            run_id,
            link.model_id,
            link.role.word(),
            link.step,
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// All that was logged into these runs, one statement a table.
pub(super) async fn contents_of(
    conn: &mut PgConnection,
    project: &str,
    ids: &[String],
) -> Result<HashMap<String, Contents>, Error> {
    let mut contents: HashMap<String, Contents> = HashMap::new();
    let metrics = sqlx::query!(
        r#"
        select run_id, key, value, timestamp_ms, step from run_latest_metrics
        where project = $1 and run_id = any($2) order by key
        "#,
        project,
        ids,
    );
    for row in metrics.fetch_all(&mut *conn).await? {
        let metric =
            Metric { key: row.key, value: row.value, timestamp_ms: row.timestamp_ms, step: row.step };
        contents.entry(row.run_id).or_default().metrics.push(metric);
    }
    let params = sqlx::query!(
        "select run_id, key, value from run_params where project = $1 and run_id = any($2) order by key",
        project,
        ids,
    );
    for row in params.fetch_all(&mut *conn).await? {
        contents.entry(row.run_id).or_default().params.push((row.key, row.value));
    }
    let tags = sqlx::query!(
        "select run_id, key, value from run_tags where project = $1 and run_id = any($2) order by key",
        project,
        ids,
    );
    for row in tags.fetch_all(&mut *conn).await? {
        contents.entry(row.run_id).or_default().tags.push((row.key, row.value));
    }
    add_inputs(conn, project, ids, &mut contents).await?;
    Ok(contents)
}

async fn add_inputs(
    conn: &mut PgConnection,
    project: &str,
    ids: &[String],
    contents: &mut HashMap<String, Contents>,
) -> Result<(), Error> {
    let datasets = sqlx::query!(
        r#"
        select run_id, name, digest, source_type, source, schema, profile,
               tags as "tags: Json<BTreeMap<String, String>>"
        from run_datasets where project = $1 and run_id = any($2) order by name, digest
        "#,
        project,
        ids,
    );
    for row in datasets.fetch_all(&mut *conn).await? {
        contents.entry(row.run_id).or_default().datasets.push(Dataset {
            name: row.name,
            digest: row.digest,
            source_type: row.source_type,
            source: row.source,
            schema: row.schema,
            profile: row.profile,
            tags: row.tags.0,
        });
    }
    let models = sqlx::query!(
        r#"
        select run_id, model_id, role, step from run_models
        where project = $1 and run_id = any($2) order by step, model_id
        "#,
        project,
        ids,
    );
    for row in models.fetch_all(conn).await? {
        let role = if row.role == "input" { Role::Input } else { Role::Output };
        let link = ModelLink { model_id: row.model_id, role, step: row.step };
        contents.entry(row.run_id).or_default().models.push(link);
    }
    Ok(())
}
