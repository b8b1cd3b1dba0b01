//! Registered models together with the newest version of each of their stages, in one statement: what a client that looks at
//! a model is shown.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use sqlx::types::Json;

use super::{RegisteredModel, Version};
use crate::Error;
use crate::tracking::{Tags, pairs};

/// A model and the newest version of each of its stages, by number.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The model.
    pub model: RegisteredModel,
    /// The versions.
    pub latest: Vec<Version>,
}

/// The models of these names, in that order; those that are not there are left out.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn overviews(
    conn: &mut PgConnection,
    project: &str,
    names: &[String],
) -> Result<Vec<Overview>, Error> {
    let rows = sqlx::query!(
        r#"
        select m.name, m.description, m.created_ms, m.updated_ms,
               (select json_object_agg(t.key, t.value) from registered_model_tags t
                where t.project = m.project and t.model = m.name) as "tags: Json<Tags>",
               (select json_object_agg(a.alias, a.version) from model_aliases a
                where a.project = m.project and a.model = m.name) as "aliases: Json<BTreeMap<String, i32>>",
               (select json_agg(json_build_object(
                    'version', v.version, 'description', v.description, 'stage', v.stage, 'source', v.source,
                    'storage_uri', v.storage_uri, 'run_id', v.run_id, 'run_link', v.run_link,
                    'made_by_run', v.made_by_run, 'created_ms', v.created_ms, 'updated_ms', v.updated_ms,
                    'tags', (select json_object_agg(t.key, t.value) from model_version_tags t
                             where t.project = v.project and t.model = v.model and t.version = v.version)
                    ) order by v.version)
                from (values ('None'), ('Staging'), ('Production'), ('Archived')) as stages (stage)
                cross join lateral (
                    select * from model_versions n
                    where n.project = m.project and n.model = m.name and n.stage = stages.stage
                    order by n.version desc limit 1
                ) v) as "latest: Json<Vec<Latest>>"
        from unnest($2::text[]) with ordinality as wanted (name, position)
        join registered_models m on m.project = $1 and m.name = wanted.name
        order by wanted.position
        "#,
        project,
        names,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let model = RegisteredModel {
                name: row.name,
                description: row.description,
                created_ms: row.created_ms,
                updated_ms: row.updated_ms,
                tags: pairs(row.tags),
                aliases: row.aliases.map(|aliases| aliases.0).unwrap_or_default(),
            };
            let latest = row.latest.map(|latest| latest.0).unwrap_or_default();
            Overview { latest: latest.into_iter().map(|version| version.of(&model)).collect(), model }
        })
        .collect())
}

/// A version as the statement tells of it.
#[derive(Debug, serde::Deserialize)]
struct Latest {
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
    tags: Option<Tags>,
}

impl Latest {
    fn of(self, model: &RegisteredModel) -> Version {
        let aliases = model.aliases.iter().filter(|(_, version)| **version == self.version);
        Version {
            model: model.name.clone(),
            version: self.version,
            description: self.description,
            stage: self.stage,
            source: self.source,
            storage_uri: self.storage_uri,
            run_id: self.run_id,
            run_link: self.run_link,
            made_by_run: self.made_by_run,
            created_ms: self.created_ms,
            updated_ms: self.updated_ms,
            tags: self.tags.unwrap_or_default().into_iter().collect(),
            aliases: aliases.map(|(alias, _)| alias.clone()).collect(),
        }
    }
}
