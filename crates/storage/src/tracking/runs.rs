//! SQL over `runs`: what each is and how it ended. What was logged into it: `run_contents`.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::run_contents::{Contents, contents_of};
use super::{Dataset, Metric, ModelLink, Pair};
use crate::Error;
use crate::search::{self, Place, RUNS, Search};

/// How many runs a statement loads: their contents arrive as one row, which may not pass a gigabyte.
const AT_ONCE: usize = 250;

/// A run with all that its clients logged, save the history of its metrics.
#[derive(Clone, Debug)]
pub struct Run {
    /// Which one.
    pub id: String,
    /// The experiment it belongs to.
    pub experiment_id: i64,
    /// Its name.
    pub name: String,
    /// Who started it, as the client said.
    pub user_id: String,
    /// `RUNNING`, `SCHEDULED`, `FINISHED`, `FAILED` or `KILLED`.
    pub status: String,
    /// When it began, in milliseconds.
    pub start_ms: i64,
    /// When it ended, in milliseconds.
    pub end_ms: Option<i64>,
    /// Where its files are, as a URI.
    pub artifact_uri: String,
    /// `active` or `deleted`.
    pub lifecycle_stage: String,
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

/// What is known of a run when it begins.
#[derive(Clone, Debug)]
pub struct NewRun<'a> {
    /// The experiment it belongs to.
    pub experiment_id: i64,
    /// Its name.
    pub name: &'a str,
    /// Who started it.
    pub user_id: &'a str,
    /// When it began, in milliseconds.
    pub start_ms: i64,
    /// Its first tags.
    pub tags: &'a [Pair],
}

/// Begins a run; answers its id. Its files go below its experiment's location, in `<run id>/artifacts`.
///
/// # Errors
/// [`Error::NotFound`] if there is no such experiment.
pub async fn create(conn: &mut PgConnection, project: &str, run: &NewRun<'_>) -> Result<String, Error> {
    let id = uuid::Uuid::new_v4().simple().to_string();
    let done = sqlx::query!(
        r#"
        insert into runs (project, run_id, experiment_id, name, user_id, status, start_ms, artifact_uri)
        select $1, $2, experiment_id, $4, $5, 'RUNNING', $6, rtrim(artifact_location, '/') || '/' || $2 || '/artifacts'
        from experiments where project = $1 and experiment_id = $3
        "#,
        project,
        id,
        run.experiment_id,
        run.name,
        run.user_id,
        run.start_ms,
    )
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() == 0 {
        return Err(Error::not_found(format!("experiment {}", run.experiment_id)));
    }
    let mut tags = run.tags.to_vec();
    tags.push(("mlflow.runName".to_owned(), run.name.to_owned()));
    super::set_tags(conn, project, &id, &tags).await?;
    Ok(id)
}

/// Ends a run.
///
/// # Errors
/// [`Error::NotFound`] if there is none of that id.
pub async fn finish(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
    status: &str,
    end_ms: i64,
) -> Result<(), Error> {
    update(conn, project, run_id, Some(status), Some(end_ms), None).await
}

/// Ends the runs with this tag as killed, also those that had finished: whoever opened them is gone, and what they made was
/// not told to anybody. Another run takes their place.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn end_tagged(
    conn: &mut PgConnection,
    project: &str,
    key: &str,
    value: &str,
    end_ms: i64,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update runs set status = 'KILLED', end_ms = $4
        from run_tags t
        where t.project = $1 and t.key = $2 and t.value = $3
          and runs.project = t.project and runs.run_id = t.run_id and runs.status in ('RUNNING', 'FINISHED')
        "#,
        project,
        key,
        value,
        end_ms,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Changes what is given.
///
/// # Errors
/// [`Error::NotFound`] if there is no run of that id.
pub async fn update(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
    status: Option<&str>,
    end_ms: Option<i64>,
    name: Option<&str>,
) -> Result<(), Error> {
    let done = sqlx::query!(
        r#"
        update runs set status = coalesce($3, status), end_ms = coalesce($4, end_ms), name = coalesce($5, name)
        where project = $1 and run_id = $2
        "#,
        project,
        run_id,
        status,
        end_ms,
        name,
    )
    .execute(conn)
    .await?;
    if done.rows_affected() == 0 {
        return Err(Error::not_found(format!("run {run_id}")));
    }
    Ok(())
}

/// Sets the life stage of a run.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn set_lifecycle(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
    stage: &str,
) -> Result<(), Error> {
    sqlx::query!(
        "update runs set lifecycle_stage = $3 where project = $1 and run_id = $2",
        project,
        run_id,
        stage,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The life stage of a run, if it is there.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn lifecycle_of(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
) -> Result<Option<String>, Error> {
    Ok(sqlx::query_scalar!(
        "select lifecycle_stage from runs where project = $1 and run_id = $2",
        project,
        run_id,
    )
    .fetch_optional(conn)
    .await?)
}

/// Where a run's files are, if it is there.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn artifact_uri_of(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
) -> Result<Option<String>, Error> {
    Ok(sqlx::query_scalar!(
        "select artifact_uri from runs where project = $1 and run_id = $2",
        project,
        run_id,
    )
    .fetch_optional(conn)
    .await?)
}

/// One run, if it is there.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn find(conn: &mut PgConnection, project: &str, run_id: &str) -> Result<Option<Run>, Error> {
    let row = sqlx::query!(
        r#"
        select experiment_id, name, user_id, status, start_ms, end_ms, artifact_uri, lifecycle_stage
        from runs where project = $1 and run_id = $2
        "#,
        project,
        run_id,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mut run = Run {
        id: run_id.to_owned(),
        experiment_id: row.experiment_id,
        name: row.name,
        user_id: row.user_id,
        status: row.status,
        start_ms: row.start_ms,
        end_ms: row.end_ms,
        artifact_uri: row.artifact_uri,
        lifecycle_stage: row.lifecycle_stage,
        metrics: vec![],
        params: vec![],
        tags: vec![],
        datasets: vec![],
        models: vec![],
    };
    fill(conn, project, std::slice::from_mut(&mut run)).await?;
    Ok(Some(run))
}

/// The runs that a search finds, in its order and with their places in it; what was logged into them is left out: see [`fill`].
///
/// # Errors
/// As [`search::find`].
pub async fn search(
    conn: &mut PgConnection,
    project: &str,
    search: &Search,
) -> Result<Vec<(Run, Place)>, Error> {
    let selected = "it.run_id, it.experiment_id, it.name, it.user_id, it.status, it.start_ms, it.end_ms, it.artifact_uri, \
                    it.lifecycle_stage";
    let rows = search::rows(conn, &RUNS, project, search, selected).await?;
    rows.iter().map(|row| Ok((bare(row)?, search::place(row)?))).collect()
}

/// A run as a search finds it.
fn bare(row: &PgRow) -> Result<Run, Error> {
    Ok(Run {
        id: row.try_get("run_id")?,
        experiment_id: row.try_get("experiment_id")?,
        name: row.try_get("name")?,
        user_id: row.try_get("user_id")?,
        status: row.try_get("status")?,
        start_ms: row.try_get("start_ms")?,
        end_ms: row.try_get("end_ms")?,
        artifact_uri: row.try_get("artifact_uri")?,
        lifecycle_stage: row.try_get("lifecycle_stage")?,
        metrics: vec![],
        params: vec![],
        tags: vec![],
        datasets: vec![],
        models: vec![],
    })
}

/// Adds to runs what was logged into them.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn fill(conn: &mut PgConnection, project: &str, runs: &mut [Run]) -> Result<(), Error> {
    for some in runs.chunks_mut(AT_ONCE) {
        let ids: Vec<String> = some.iter().map(|run| run.id.clone()).collect();
        let contents = contents_of(conn, project, &ids).await?;
        for (run, Contents { metrics, params, tags, datasets, models }) in some.iter_mut().zip(contents) {
            (run.metrics, run.params, run.tags) = (metrics, params, tags);
            (run.datasets, run.models) = (datasets, models);
        }
    }
    Ok(())
}
