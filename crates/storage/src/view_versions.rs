//! SQL over `view_versions`: how stored rows of each view are read. Which change begins a version is decided in
//! `domain::definitions::versions`.

use chrono::{DateTime, Utc};
use domain::definitions::{Columns, Definitions, Layout, Object, ViewVersion, ViewVersions};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use crate::{Error, definitions, online};

struct Row {
    id: i64,
    view: String,
    version: i32,
    layout: Value,
    revisions: Value,
    format: i32,
}

impl Row {
    fn read(self) -> Result<ViewVersion, Error> {
        let unreadable = |why: String| Error::Unreadable {
            what: "view version",
            why: format!("`{}` version {}: {why}", self.view, self.version),
        };
        if self.format != 1 {
            return Err(unreadable(format!("its format is {}, this program knows 1", self.format)));
        }
        fn parse<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
            T::deserialize(value).map_err(|error| error.to_string())
        }
        let layout: Layout = parse(&self.layout).map_err(unreadable)?;
        let revisions: Vec<Columns> = parse(&self.revisions).map_err(unreadable)?;
        Ok(ViewVersion { id: self.id, view: self.view, version: self.version, layout, revisions })
    }
}

/// The newest version of each view.
///
/// # Errors
/// [`Error::Unreadable`] if one cannot be read by this program.
pub async fn current(conn: &mut PgConnection, project: &str) -> Result<ViewVersions, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select distinct on (view) view_version_id as id, view, version, layout, revisions, format
        from view_versions where project = $1 order by view, version desc
        "#,
        project,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(|row| row.read().map(|version| (version.view.clone(), version))).collect()
}

/// Every version of every view, oldest first.
///
/// # Errors
/// [`Error::Unreadable`] if one cannot be read by this program.
pub async fn all(conn: &mut PgConnection, project: &str) -> Result<Vec<ViewVersion>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select view_version_id as id, view, version, layout, revisions, format
        from view_versions where project = $1 order by view, version
        "#,
        project,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Row::read).collect()
}

/// The shape of a version's rows; none if there is no such version.
///
/// # Errors
/// [`Error::Unreadable`] if it cannot be read by this program.
pub(crate) async fn shape_of(
    conn: &mut PgConnection,
    id: i64,
) -> Result<Option<domain::definitions::Shape>, Error> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select view_version_id as id, view, version, layout, revisions, format
        from view_versions where view_version_id = $1
        "#,
        id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Row::read).transpose()?.map(|version| version.layout.shape))
}

/// Begins a version of a view, with its online table.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn begin(
    conn: &mut PgConnection,
    project: &str,
    view: &str,
    version: i32,
    layout: &Layout,
    now: DateTime<Utc>,
) -> Result<ViewVersion, Error> {
    let revisions = vec![layout.values.clone()];
    let id = sqlx::query_scalar!(
        r#"
        insert into view_versions (project, view, version, layout, revisions, created_at)
        values ($1, $2, $3, $4, $5, $6) returning view_version_id
        "#,
        project,
        view,
        version,
        json!(layout),
        json!(revisions),
        now,
    )
    .fetch_one(&mut *conn)
    .await?;
    online::create(conn, id, layout.shape).await?;
    Ok(ViewVersion { id, view: view.to_owned(), version, layout: layout.clone(), revisions })
}

/// Stores a version's layout and revisions after they grew.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn revise(conn: &mut PgConnection, version: &ViewVersion) -> Result<(), Error> {
    sqlx::query!(
        "update view_versions set layout = $2, revisions = $3 where view_version_id = $1",
        version.id,
        json!(version.layout),
        json!(version.revisions),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Gives every view that has no version yet its first one, and moves the rows that older programs kept in `online_latest`
/// and `online_events` into its table. Their payloads are of format 1, which stays readable.
///
/// # Errors
/// [`Error::Unreadable`] if a definition cannot be read by this program.
pub async fn adopt(pool: &PgPool) -> Result<(), Error> {
    let mut conn = pool.acquire().await?;
    let projects =
        sqlx::query_scalar!("select distinct project from definitions where kind = 'feature_view'")
            .fetch_all(&mut *conn)
            .await?;
    for project in projects {
        let mut tx = conn.begin().await?;
        let now = sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(&mut *tx).await?;
        definitions::lock(&mut tx, &project).await?;
        let known = current(&mut tx, &project).await?;
        let declared = definitions::load(&mut tx, &project).await?;
        let orphans = views_without_version(&declared, &known);
        for (view, layout) in &orphans {
            let version = begin(&mut tx, &project, view, 1, layout, now).await?;
            adopt_rows(&mut tx, &project, &version).await?;
        }
        if !orphans.is_empty() {
            definitions::bump_epoch(&mut tx, &project).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

fn views_without_version(declared: &Definitions, known: &ViewVersions) -> Vec<(String, Layout)> {
    let layout = |object: &Object| match object {
        Object::FeatureView(view) if !known.contains_key(&view.name) => {
            Some((view.name.clone(), Layout::of(declared, view)?))
        }
        _ => None,
    };
    declared.objects().filter_map(|located| layout(&located.object)).collect()
}

async fn adopt_rows(conn: &mut PgConnection, project: &str, version: &ViewVersion) -> Result<(), Error> {
    use domain::definitions::Shape;
    let (from, position) = match version.layout.shape {
        Shape::Log => return Ok(()),
        Shape::Latest => ("online_latest", "0"),
        Shape::Windows | Shape::LastK => ("online_events", "position"),
    };
    let statement = format!(
        "with taken as (delete from {from} where project = $1 and view = $2 and view_version = 1 returning *) \
         insert into \"online_{}\" (key, event_time, known_time, seq, position, op, payload) \
         select key, event_time, known_time, seq, {position}, op, payload from taken",
        version.id
    );
    sqlx::query(AssertSqlSafe(statement)).bind(project).bind(&version.view).execute(conn).await?;
    Ok(())
}
