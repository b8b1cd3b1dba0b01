//! SQL over `model_versions` and their tags. Numbers come from a counter in the model's row, so they never collide.

use sqlx::PgConnection;
use sqlx::types::Json;

use super::registered;
use crate::Error;
use crate::tracking::{Pair, Tags, columns, pairs};

/// A version of a registered model.
#[derive(Clone, Debug)]
pub struct Version {
    /// The registered model.
    pub model: String,
    /// Its number, from 1.
    pub version: i32,
    /// What people wrote about it.
    pub description: String,
    /// `None`, `Staging`, `Production` or `Archived`.
    pub stage: String,
    /// Where it came from, as the client named it.
    pub source: String,
    /// Where its files are.
    pub storage_uri: String,
    /// The run that made it.
    pub run_id: Option<String>,
    /// A link to that run elsewhere.
    pub run_link: String,
    /// The files are known to be that run's own, so its evidence speaks for them.
    pub made_by_run: bool,
    /// When it was created, in milliseconds.
    pub created_ms: i64,
    /// When it last changed, in milliseconds.
    pub updated_ms: i64,
    /// Its tags, by key.
    pub tags: Vec<Pair>,
    /// The aliases that point at it, by name.
    pub aliases: Vec<String>,
}

/// What is known of a version when it is created.
#[derive(Clone, Debug)]
pub struct NewVersion<'a> {
    /// Where it came from, as the client named it.
    pub source: &'a str,
    /// Where its files are.
    pub storage_uri: &'a str,
    /// The run that made it.
    pub run_id: Option<&'a str>,
    /// A link to that run elsewhere.
    pub run_link: &'a str,
    /// The logged model that it is.
    pub logged_model_id: Option<&'a str>,
    /// The files are known to be that run's own.
    pub made_by_run: bool,
    /// What people wrote about it.
    pub description: &'a str,
    /// Its first tags.
    pub tags: &'a [Pair],
}

/// Registers what a run of this platform made, creating the registered model if needed; answers the version's number.
/// `source` says where the files are, best as a URI below the run's artifacts.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn create_model_version(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    run_id: &str,
    source: &str,
    tags: &[Pair],
    now_ms: i64,
) -> Result<i32, Error> {
    registered::create(conn, project, model, "", &[], now_ms).await?;
    let new = NewVersion {
        source,
        storage_uri: source,
        run_id: Some(run_id),
        run_link: "",
        logged_model_id: None,
        made_by_run: true,
        description: "",
        tags,
    };
    add_version(conn, project, model, &new, now_ms, Unless::Never)
        .await?
        .map(|added| added.version)
        .ok_or_else(|| Error::not_found(format!("model `{model}`")))
}

/// The version that a run with this tag made, if one did: `(model, version, run)`.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn version_of_tagged_run(
    conn: &mut PgConnection,
    project: &str,
    key: &str,
    value: &str,
) -> Result<Option<(String, i32, String)>, Error> {
    let row = sqlx::query!(
        r#"
        select v.model, v.version, v.run_id as "run_id!"
        from run_tags t join model_versions v on v.project = t.project and v.run_id = t.run_id
        where t.project = $1 and t.key = $2 and t.value = $3 order by v.version limit 1
        "#,
        project,
        key,
        value,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.model, row.version, row.run_id)))
}

/// A version that was just added.
#[derive(Clone, Copy, Debug)]
pub struct Added {
    /// Its number.
    pub version: i32,
    /// What [`crate::webhooks::listened_to`] answers, in the same statement.
    pub is_prompt_to_listeners: Option<bool>,
}

/// When no version is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unless {
    /// One is added.
    Never,
    /// Some webhook listens: telling it belongs to the same transaction.
    ListenedTo,
}

/// Adds a version; `None` if there is no such model, or `unless` holds. The model's row stays locked until the transaction ends,
/// so whoever needs no other statement does best without one.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn add_version(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    new: &NewVersion<'_>,
    now_ms: i64,
    unless: Unless,
) -> Result<Option<Added>, Error> {
    let (keys, values) = columns(new.tags);
    Ok(sqlx::query_as!(
        Added,
        r#"
        with numbered as (
            update registered_models set last_version = last_version + 1, updated_ms = $10
            where project = $1 and name = $2
              and not ($13 and exists (select 1 from webhooks where project = $1 and status = 'ACTIVE'))
            returning last_version
        ),
        added as (
            insert into model_versions (project, model, version, description, source, storage_uri, run_id, run_link,
                                        logged_model_id, made_by_run, created_ms, updated_ms)
            select $1, $2, last_version, $3, $4, $5, $6, $7, $8, $9, $10, $10 from numbered
            returning version
        ),
        tagged as (
            insert into model_version_tags (project, model, version, key, value)
            select $1, $2, version, key, value from added, unnest($11::text[], $12::text[]) as given (key, value)
        )
        select version as "version!",
               (select exists (select 1 from registered_model_tags
                               where project = $1 and model = $2 and key = 'mlflow.prompt.is_prompt' and value = 'true')
                where exists (select 1 from webhooks where project = $1 and status = 'ACTIVE')) as is_prompt_to_listeners
        from added
        "#,
        project,
        model,
        new.description,
        new.source,
        new.storage_uri,
        new.run_id,
        new.run_link,
        new.logged_model_id,
        new.made_by_run,
        now_ms,
        &keys,
        &values,
        unless == Unless::ListenedTo,
    )
    .fetch_optional(conn)
    .await?)
}

/// Sets the description.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn set_version_description(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    version: i32,
    description: &str,
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update model_versions set description = $4, updated_ms = $5
        where project = $1 and model = $2 and version = $3
        "#,
        project,
        model,
        version,
        description,
        now_ms,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets the stage; with `archive`, the other versions in that stage are archived.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn set_version_stage(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    version: i32,
    stage: &str,
    archive: bool,
    now_ms: i64,
) -> Result<(), Error> {
    sqlx::query!(
        r#"
        update model_versions set stage = case when version = $3 then $4 else 'Archived' end, updated_ms = $6
        where project = $1 and model = $2 and (version = $3 or ($5 and stage = $4))
        "#,
        project,
        model,
        version,
        stage,
        archive,
        now_ms,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes a version with its aliases. Its number is never used again.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delete_version(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    version: i32,
) -> Result<(), Error> {
    sqlx::query!(
        "delete from model_versions where project = $1 and model = $2 and version = $3",
        project,
        model,
        version,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets tags.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn set_version_tags(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    version: i32,
    tags: &[Pair],
) -> Result<(), Error> {
    if tags.is_empty() {
        return Ok(());
    }
    let (keys, values) = columns(tags);
    sqlx::query!(
        r#"
        insert into model_version_tags (project, model, version, key, value)
        select $1, $2, $3, key, value from unnest($4::text[], $5::text[]) as given (key, value)
        on conflict (project, model, version, key) do update set value = excluded.value
        "#,
        project,
        model,
        version,
        &keys,
        &values,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes a tag, if it is there.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn delete_version_tag(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    version: i32,
    key: &str,
) -> Result<(), Error> {
    sqlx::query!(
        "delete from model_version_tags where project = $1 and model = $2 and version = $3 and key = $4",
        project,
        model,
        version,
        key,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// One version, if it is there.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn find_version(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    version: i32,
) -> Result<Option<Version>, Error> {
    Ok(load_versions(conn, project, &[(model.to_owned(), version)]).await?.pop())
}

/// All versions of these models, by model and number.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn versions_of(
    conn: &mut PgConnection,
    project: &str,
    models: &[String],
) -> Result<Vec<Version>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select model, version, description, stage, source, storage_uri, run_id, run_link, made_by_run,
               created_ms, updated_ms,
               (select jsonb_object_agg(t.key, t.value) from model_version_tags t
                where t.project = v.project and t.model = v.model and t.version = v.version) as "tags: Json<Tags>",
               array(select a.alias from model_aliases a
                     where a.project = v.project and a.model = v.model and a.version = v.version
                     order by a.alias) as "aliases!"
        from model_versions v where project = $1 and model = any($2) order by model, version
        "#,
        project,
        models,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Version::from).collect())
}

/// The newest version of each stage of these models, by model and number.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn latest_versions_of(
    conn: &mut PgConnection,
    project: &str,
    models: &[String],
) -> Result<Vec<Version>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select v.model, v.version, v.description, v.stage, v.source, v.storage_uri, v.run_id, v.run_link, v.made_by_run,
               v.created_ms, v.updated_ms,
               (select jsonb_object_agg(t.key, t.value) from model_version_tags t
                where t.project = v.project and t.model = v.model and t.version = v.version) as "tags: Json<Tags>",
               array(select a.alias from model_aliases a
                     where a.project = v.project and a.model = v.model and a.version = v.version
                     order by a.alias) as "aliases!"
        from unnest($2::text[]) as wanted (model)
        cross join (values ('None'), ('Staging'), ('Production'), ('Archived')) as stages (stage)
        cross join lateral (
            select * from model_versions n where n.project = $1 and n.model = wanted.model and n.stage = stages.stage
            order by n.version desc limit 1
        ) v
        order by v.model, v.version
        "#,
        project,
        models,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Version::from).collect())
}

/// The version that an alias points at, if it points anywhere.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn version_by_alias(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    alias: &str,
) -> Result<Option<Version>, Error> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select v.model, v.version, v.description, v.stage, v.source, v.storage_uri, v.run_id, v.run_link, v.made_by_run,
               v.created_ms, v.updated_ms,
               (select jsonb_object_agg(t.key, t.value) from model_version_tags t
                where t.project = v.project and t.model = v.model and t.version = v.version) as "tags: Json<Tags>",
               array(select a.alias from model_aliases a
                     where a.project = v.project and a.model = v.model and a.version = v.version
                     order by a.alias) as "aliases!"
        from model_aliases asked
        join model_versions v on v.project = asked.project and v.model = asked.model and v.version = asked.version
        where asked.project = $1 and asked.model = $2 and asked.alias = $3
        "#,
        project,
        model,
        alias,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Version::from))
}

/// The newest version of a model that a run made.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn newest_of_run(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    run_id: &str,
) -> Result<Option<i32>, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select version from model_versions where project = $1 and model = $2 and run_id = $3
        order by version desc limit 1
        "#,
        project,
        model,
        run_id,
    )
    .fetch_optional(conn)
    .await?)
}

/// These versions, in that order; those that are not there are left out.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn load_versions(
    conn: &mut PgConnection,
    project: &str,
    keys: &[(String, i32)],
) -> Result<Vec<Version>, Error> {
    let (models, numbers): (Vec<String>, Vec<i32>) = keys.iter().cloned().unzip();
    let rows = sqlx::query_as!(
        Row,
        r#"
        select v.model, v.version, v.description, v.stage, v.source, v.storage_uri, v.run_id, v.run_link, v.made_by_run,
               v.created_ms, v.updated_ms,
               (select jsonb_object_agg(t.key, t.value) from model_version_tags t
                where t.project = v.project and t.model = v.model and t.version = v.version) as "tags: Json<Tags>",
               array(select a.alias from model_aliases a
                     where a.project = v.project and a.model = v.model and a.version = v.version
                     order by a.alias) as "aliases!"
        from unnest($2::text[], $3::integer[]) with ordinality as wanted (model, version, position)
        join model_versions v on v.project = $1 and v.model = wanted.model and v.version = wanted.version
        order by wanted.position
        "#,
        project,
        &models,
        &numbers,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Version::from).collect())
}

/// A version as the statements above read it.
struct Row {
    model: String,
    version: i32,
    description: String,
    stage: String,
    source: String,
    storage_uri: String,
    run_id: Option<String>,
    run_link: String,
    made_by_run: bool,
    created_ms: i64,
    updated_ms: i64,
    tags: Option<Json<Tags>>,
    aliases: Vec<String>,
}

impl From<Row> for Version {
    fn from(row: Row) -> Self {
        Self {
            model: row.model,
            version: row.version,
            description: row.description,
            stage: row.stage,
            source: row.source,
            storage_uri: row.storage_uri,
            run_id: row.run_id,
            run_link: row.run_link,
            made_by_run: row.made_by_run,
            created_ms: row.created_ms,
            updated_ms: row.updated_ms,
            tags: pairs(row.tags),
            aliases: row.aliases,
        }
    }
}
