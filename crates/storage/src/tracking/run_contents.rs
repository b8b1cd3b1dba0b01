//! SQL over what is logged into a run: parameters, tags, data sets and models. Metrics: `metrics`.

use std::collections::{BTreeMap, HashMap};

use sqlx::PgConnection;
use sqlx::types::Json;

use super::{Metric, Pair, columns};
use crate::Error;

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
    if params.is_empty() {
        return Ok(());
    }
    let (keys, values) = columns(params);
    let changed = sqlx::query!(
        r#"
        with given as (select * from unnest($3::text[], $4::text[]) as given (key, value)),
        kept as (
            insert into run_params (project, run_id, key, value) select $1, $2, key, value from given
            on conflict (project, run_id, key) do nothing
        )
        select stored.key, stored.value, given.value as "attempted!"
        from given join run_params stored on stored.project = $1 and stored.run_id = $2 and stored.key = given.key
        where stored.value <> given.value order by stored.key limit 1
        "#,
        project,
        run_id,
        &keys,
        &values,
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
    if tags.is_empty() {
        return Ok(());
    }
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

/// The value of one tag of a run, if it has it.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn tag_of(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
    key: &str,
) -> Result<Option<String>, Error> {
    Ok(sqlx::query_scalar!(
        "select value from run_tags where project = $1 and run_id = $2 and key = $3 for update",
        project,
        run_id,
        key,
    )
    .fetch_optional(conn)
    .await?)
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

/// Notes that a run read a data set. What was noted first stays.
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
            insert into run_datasets (project, run_id, name, digest, source_type, source, schema, profile, tags)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            on conflict (project, run_id, name, digest) do nothing
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

/// A data set that runs of an experiment read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetSummary {
    /// The experiment.
    pub experiment_id: i64,
    /// The data set's name.
    pub name: String,
    /// Its digest.
    pub digest: String,
    /// What it was used for, if that was said.
    pub context: Option<String>,
}

/// The data sets that runs of these experiments read, at most a thousand.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn datasets_of(
    conn: &mut PgConnection,
    project: &str,
    experiments: &[i64],
) -> Result<Vec<DatasetSummary>, Error> {
    Ok(sqlx::query_as!(
        DatasetSummary,
        r#"
        select distinct r.experiment_id, d.name, d.digest, d.tags ->> 'mlflow.data.context' as context
        from runs r join run_datasets d on d.project = r.project and d.run_id = r.run_id
        where r.project = $1 and r.experiment_id = any($2) and r.lifecycle_stage = 'active'
        order by 1, 2, 3, 4 limit 1000
        "#,
        project,
        experiments,
    )
    .fetch_all(conn)
    .await?)
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

/// All that was logged into these runs, in one statement: a row is a metric, parameter, tag, data set or model.
pub(super) async fn contents_of(
    conn: &mut PgConnection,
    project: &str,
    ids: &[String],
) -> Result<HashMap<String, Contents>, Error> {
    let rows = sqlx::query!(
        r#"
        select 'metric' as "kind!", run_id as "run_id!", key as "key!", '' as "value!", value as "number",
               timestamp_ms as "timestamp_ms", step, null::jsonb as "dataset: Json<Described>"
        from run_latest_metrics where project = $1 and run_id = any($2)
        union all
        select 'param', run_id, key, value, null, null, null, null
        from run_params where project = $1 and run_id = any($2)
        union all
        select 'tag', run_id, key, value, null, null, null, null
        from run_tags where project = $1 and run_id = any($2)
        union all
        select 'dataset', run_id, name, digest, null, null, null,
               jsonb_build_object('source_type', source_type, 'source', source, 'schema', schema, 'profile', profile,
                                  'tags', tags)
        from run_datasets where project = $1 and run_id = any($2)
        union all
        select role, run_id, model_id, '', null, null, step, null
        from run_models where project = $1 and run_id = any($2)
        order by 3, 4
        "#,
        project,
        ids,
    );
    let mut contents: HashMap<String, Contents> = HashMap::new();
    for row in rows.fetch_all(conn).await? {
        let of_run = contents.entry(row.run_id).or_default();
        let step = row.step.unwrap_or_default();
        match row.kind.as_str() {
            "metric" => of_run.metrics.push(Metric {
                key: row.key,
                value: row.number.unwrap_or(f64::NAN),
                timestamp_ms: row.timestamp_ms.unwrap_or_default(),
                step,
            }),
            "param" => of_run.params.push((row.key, row.value)),
            "tag" => of_run.tags.push((row.key, row.value)),
            "input" => of_run.models.push(ModelLink { model_id: row.key, role: Role::Input, step }),
            "output" => of_run.models.push(ModelLink { model_id: row.key, role: Role::Output, step }),
            _ => of_run.datasets.extend(row.dataset.map(|described| described.0.named(row.key, row.value))),
        }
    }
    for of_run in contents.values_mut() {
        of_run.models.sort_by(|one, other| (one.step, &one.model_id).cmp(&(other.step, &other.model_id)));
    }
    Ok(contents)
}

/// What is known of a data set besides its name and digest.
#[derive(Debug, serde::Deserialize)]
struct Described {
    source_type: String,
    source: String,
    schema: Option<String>,
    profile: Option<String>,
    tags: BTreeMap<String, String>,
}

impl Described {
    fn named(self, name: String, digest: String) -> Dataset {
        let Self { source_type, source, schema, profile, tags } = self;
        Dataset { name, digest, source_type, source, schema, profile, tags }
    }
}
