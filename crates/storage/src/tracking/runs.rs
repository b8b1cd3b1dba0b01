//! SQL over `runs`: what each is and how it ended. What was logged into it: `run_contents`.

use sqlx::PgConnection;

use super::run_contents::{Contents, contents_of};
use super::{Dataset, Metric, ModelLink, Pair};
use crate::Error;

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
    Ok(load(conn, project, &[run_id.to_owned()]).await?.pop())
}

/// The runs of these ids, in that order; those that are not there are left out.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn load(conn: &mut PgConnection, project: &str, ids: &[String]) -> Result<Vec<Run>, Error> {
    let mut runs = Vec::with_capacity(ids.len());
    for some in ids.chunks(AT_ONCE) {
        load_some(conn, project, some, &mut runs).await?;
    }
    Ok(runs)
}

async fn load_some(
    conn: &mut PgConnection,
    project: &str,
    ids: &[String],
    runs: &mut Vec<Run>,
) -> Result<(), Error> {
    let mut contents = contents_of(conn, project, ids).await?;
    let rows = sqlx::query!(
        r#"
        select position as "position!", r.run_id, experiment_id, name, user_id, status, start_ms, end_ms, artifact_uri,
               lifecycle_stage
        from unnest($2::text[]) with ordinality as wanted (run_id, position)
        join runs r on r.project = $1 and r.run_id = wanted.run_id
        order by position
        "#,
        project,
        ids,
    )
    .fetch_all(conn)
    .await?;
    runs.extend(rows.into_iter().map(|row| {
        let index = usize::try_from(row.position - 1).expect("Postgres counts from 1");
        let Contents { metrics, params, tags, datasets, models } = std::mem::take(&mut contents[index]);
        Run {
            id: row.run_id,
            experiment_id: row.experiment_id,
            name: row.name,
            user_id: row.user_id,
            status: row.status,
            start_ms: row.start_ms,
            end_ms: row.end_ms,
            artifact_uri: row.artifact_uri,
            lifecycle_stage: row.lifecycle_stage,
            metrics,
            params,
            tags,
            datasets,
            models,
        }
    }));
    Ok(())
}
