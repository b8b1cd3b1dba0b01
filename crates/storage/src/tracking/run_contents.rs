//! SQL over what is logged into a run: parameters, tags, data sets and models. Metrics: `metrics`.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

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

/// How many runs a statement loads: their contents arrive as one row, which may not pass a gigabyte.
const AT_ONCE: usize = 250;

/// All that was logged into a run, save the history of its metrics.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// What the run's [`contents_etag`](super::runs::Run::contents_etag) was at the same moment; none if the run is gone.
    pub etag: Option<Uuid>,
    /// The latest point of each metric, by key.
    pub metrics: Vec<Metric>,
    /// Its parameters, by key.
    pub params: Vec<Pair>,
    /// Its tags, by key.
    pub tags: Vec<Pair>,
    /// The data sets it read.
    pub datasets: Vec<Dataset>,
    /// The logged models it read or wrote.
    pub models: Vec<ModelLink>,
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

/// All that was logged into these runs, in their order.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn contents_of(
    conn: &mut PgConnection,
    project: &str,
    ids: &[String],
) -> Result<Vec<Contents>, Error> {
    let mut contents = Vec::with_capacity(ids.len());
    for some in ids.chunks(AT_ONCE) {
        contents.extend(contents_at_once(conn, project, some).await?);
    }
    Ok(contents)
}

/// All that was logged into these runs, in their order and in one row: a table's columns come as arrays, and `…_of` says to
/// which run, counted from 1, an element belongs. A row for each metric, parameter and tag would cost many times as much.
async fn contents_at_once(
    conn: &mut PgConnection,
    project: &str,
    ids: &[String],
) -> Result<Vec<Contents>, Error> {
    let row = sqlx::query!(
        r#"
        with wanted as (select run_id, position from unnest($2::text[]) with ordinality as wanted (run_id, position))
        select etags.*, metrics.*, params.*, tags.*, datasets.datasets as "datasets: Json<Vec<Described>>",
               models.models as "models: Json<Vec<Linked>>"
        from
        (
            select array_agg(position) as etag_of, array_agg(contents_etag) as etags
            from wanted join runs c on c.project = $1 and c.run_id = wanted.run_id
        ) etags,
        (
            select array_agg(position) as metric_of, array_agg(key) as metric_keys, array_agg(value) as numbers,
                   array_agg(timestamp_ms) as timestamps, array_agg(step) as steps
            from wanted join run_latest_metrics c on c.project = $1 and c.run_id = wanted.run_id
        ) metrics,
        (
            select array_agg(position) as param_of, array_agg(key) as param_keys, array_agg(value) as param_values
            from wanted join run_params c on c.project = $1 and c.run_id = wanted.run_id
        ) params,
        (
            select array_agg(position) as tag_of, array_agg(key) as tag_keys, array_agg(value) as tag_values
            from wanted join run_tags c on c.project = $1 and c.run_id = wanted.run_id
        ) tags,
        (
            select json_agg(json_build_object('of', position, 'name', name, 'digest', digest, 'source_type', source_type,
                       'source', source, 'schema', schema, 'profile', profile, 'tags', tags) order by name, digest)
                   as datasets
            from wanted join run_datasets c on c.project = $1 and c.run_id = wanted.run_id
        ) datasets,
        (
            select json_agg(json_build_object('of', position, 'model_id', model_id, 'role', role, 'step', step)
                       order by step, model_id)
                   as models
            from wanted join run_models c on c.project = $1 and c.run_id = wanted.run_id
        ) models
        "#,
        project,
        ids,
    )
    .fetch_one(conn)
    .await?;
    let mut contents = Every(ids.iter().map(|_| Contents::default()).collect());
    for (of, etag) in row.etag_of.into_iter().flatten().zip(row.etags.into_iter().flatten()) {
        contents.at(of).etag = Some(etag);
    }
    let points = row.metric_keys.into_iter().flatten().zip(row.numbers.into_iter().flatten());
    let places = row.timestamps.into_iter().flatten().zip(row.steps.into_iter().flatten());
    let metrics = points.zip(places);
    for (of, ((key, value), (timestamp_ms, step))) in row.metric_of.into_iter().flatten().zip(metrics) {
        contents.at(of).metrics.push(Metric { key, value, timestamp_ms, step });
    }
    let params = row.param_keys.into_iter().flatten().zip(row.param_values.into_iter().flatten());
    for (of, param) in row.param_of.into_iter().flatten().zip(params) {
        contents.at(of).params.push(param);
    }
    let tags = row.tag_keys.into_iter().flatten().zip(row.tag_values.into_iter().flatten());
    for (of, tag) in row.tag_of.into_iter().flatten().zip(tags) {
        contents.at(of).tags.push(tag);
    }
    for described in row.datasets.into_iter().flat_map(|datasets| datasets.0) {
        contents.at(described.of).datasets.push(described.dataset());
    }
    for linked in row.models.into_iter().flat_map(|models| models.0) {
        contents.at(linked.of).models.push(linked.link());
    }
    Ok(contents.by_key())
}

/// The contents of every wanted run.
struct Every(Vec<Contents>);

impl Every {
    /// Those of the run at a place that the statement counted, from 1.
    fn at(&mut self, of: i64) -> &mut Contents {
        let index = usize::try_from(of - 1).expect("Postgres counts from 1");
        &mut self.0[index]
    }

    /// Aggregates come in the order of an index or in none, so each run's few are put in order here.
    fn by_key(mut self) -> Vec<Contents> {
        for contents in &mut self.0 {
            contents.metrics.sort_unstable_by(|one, other| one.key.cmp(&other.key));
            contents.params.sort_unstable();
            contents.tags.sort_unstable();
        }
        self.0
    }
}

/// A data set as the statement tells of it.
#[derive(Debug, serde::Deserialize)]
struct Described {
    of: i64,
    name: String,
    digest: String,
    source_type: String,
    source: String,
    schema: Option<String>,
    profile: Option<String>,
    tags: BTreeMap<String, String>,
}

impl Described {
    fn dataset(self) -> Dataset {
        let Self { of: _, name, digest, source_type, source, schema, profile, tags } = self;
        Dataset { name, digest, source_type, source, schema, profile, tags }
    }
}

/// A use of a logged model as the statement tells of it.
#[derive(Debug, serde::Deserialize)]
struct Linked {
    of: i64,
    model_id: String,
    role: String,
    step: i64,
}

impl Linked {
    fn link(self) -> ModelLink {
        let role = if self.role == Role::Input.word() { Role::Input } else { Role::Output };
        ModelLink { model_id: self.model_id, role, step: self.step }
    }
}
