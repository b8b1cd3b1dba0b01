//! SQL over `runs`: what each is and how it ended. What was logged into it: `run_contents`.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::Pair;
use crate::Error;
use crate::search::{self, Condition, Place, RUNS, Search};

/// A run, without what its clients logged into it.
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
    /// Another one after everything that is logged into the run.
    pub contents_etag: Uuid,
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

/// Begins to log into a run: holds its row until the transaction ends, so that nobody logs into it between, and answers its life
/// stage, if it is there.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn begin_logging(
    conn: &mut PgConnection,
    project: &str,
    run_id: &str,
) -> Result<Option<String>, Error> {
    Ok(sqlx::query_scalar!("select begin_logging($1, $2)", project, run_id).fetch_one(conn).await?)
}

/// One run, if it is there.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn find(conn: &mut PgConnection, project: &str, run_id: &str) -> Result<Option<Run>, Error> {
    Ok(sqlx::query_as!(
        Run,
        r#"
        select run_id as id, experiment_id, name, user_id, status, start_ms, end_ms, artifact_uri, lifecycle_stage,
               contents_etag
        from runs where project = $1 and run_id = $2
        "#,
        project,
        run_id,
    )
    .fetch_optional(conn)
    .await?)
}

/// What [`found`] reads.
const SELECTED: &str = "it.run_id, it.experiment_id, it.name, it.user_id, it.status, it.start_ms, it.end_ms, it.artifact_uri, \
                        it.lifecycle_stage, it.contents_etag";

/// The runs that a search finds, in its order and with their places in it.
///
/// # Errors
/// As [`search::find`].
pub async fn search(
    conn: &mut PgConnection,
    project: &str,
    search: &Search,
) -> Result<Vec<(Run, Place)>, Error> {
    let rows = search::rows(conn, &RUNS, project, search, SELECTED).await?;
    rows.iter().map(|row| Ok((found(row)?, search::place(row)?))).collect()
}

/// At most so many of the runs that a search looks at next, whatever was logged into them: of its conditions only those on the run
/// itself hold. `None` unless the search is of one experiment, the youngest runs first.
///
/// # Errors
/// As [`search::find`].
pub async fn next(
    conn: &mut PgConnection,
    project: &str,
    search: &Search,
    most: i64,
) -> Result<Option<Vec<Next>>, Error> {
    let rows = search::next(conn, &RUNS, project, search, SELECTED, most).await?;
    Ok(rows.map(|rows| rows.into_iter().map(Next).collect()))
}

/// A run that a search looks at: read in full only if it is found.
pub struct Next(PgRow);

impl Next {
    /// Which one.
    ///
    /// # Errors
    /// [`Error::Database`] if the row is not of a run; so below.
    pub fn id(&self) -> Result<&str, Error> {
        Ok(self.0.try_get(0)?)
    }

    /// Its [`contents_etag`](Run::contents_etag).
    ///
    /// # Errors
    /// As [`id`](Self::id).
    pub fn contents_etag(&self) -> Result<Uuid, Error> {
        Ok(self.0.try_get(9)?)
    }

    /// All of it, and where it is in the order of its search.
    ///
    /// # Errors
    /// As [`id`](Self::id).
    pub fn read(&self) -> Result<(Run, Place), Error> {
        let run = found(&self.0)?;
        let place = vec![Some(run.start_ms.to_string()), Some(run.id.clone())];
        Ok((run, place))
    }
}

/// Whether what was logged into a run meets the conditions of a search.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The run.
    pub id: String,
    /// Its [`contents_etag`](Run::contents_etag) at that moment.
    pub contents_etag: Uuid,
    /// Whether the conditions hold that are not on the run itself.
    pub fits: bool,
}

/// Judges runs by what was logged into them, in any order; those that are gone are left out.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn judge(
    conn: &mut PgConnection,
    project: &str,
    conditions: &[Condition],
    ids: &[String],
) -> Result<Vec<Judged>, Error> {
    let rows = search::judged(conn, &RUNS, project, conditions, "it.run_id, it.contents_etag", ids).await?;
    let judged = |row: &PgRow| {
        Ok(Judged { id: row.try_get(0)?, contents_etag: row.try_get(1)?, fits: row.try_get(2)? })
    };
    rows.iter().map(judged).collect()
}

/// A run as a search finds it: columns in the order in which they are selected.
fn found(row: &PgRow) -> Result<Run, Error> {
    Ok(Run {
        id: row.try_get(0)?,
        experiment_id: row.try_get(1)?,
        name: row.try_get(2)?,
        user_id: row.try_get(3)?,
        status: row.try_get(4)?,
        start_ms: row.try_get(5)?,
        end_ms: row.try_get(6)?,
        artifact_uri: row.try_get(7)?,
        lifecycle_stage: row.try_get(8)?,
        contents_etag: row.try_get(9)?,
    })
}
