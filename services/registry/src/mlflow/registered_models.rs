//! `registered-models/…`.

use serde::Serialize;
use service_kit::auth::Principal;
use sqlx::PgConnection;
use storage::models;
use storage::search::{self, Comparison, Condition, Lifecycle, MODELS, Search, Subject, Test};

use super::input::Input;
use super::model_views::{self, ModelView};
use super::paging::{Listed, Page};
use super::refusal::Refusal;
use super::written::{Written, WrittenAnswer};
use super::{Answer, done, filter, rules};
use crate::aliases::{self, Ask, Manner};
use crate::webhooks::{self, Change};
use crate::{Error, Registry};

/// The tag by which MLflow tells prompts from models.
const PROMPT: &str = "mlflow.prompt.is_prompt";

pub(crate) async fn create(registry: Registry, input: Input) -> WrittenAnswer {
    let name = input.required("name")?;
    rules::model_name(name)?;
    let tags = input.pairs("tags")?;
    tags.iter().try_for_each(rules::registry_tag)?;
    let description = input.text("description")?.unwrap_or_default();
    let mut tx = registry.context.db.begin().await?;
    if !models::create(&mut tx, registry.project(), name, description, &tags, registry.now_ms()).await? {
        return Err(Refusal::exists(format!("Registered Model (name={name}) already exists.")));
    }
    note(&registry, &mut tx, &Change::Model { name, tags: &tags, description }).await?;
    let answer = shown(&registry, &mut tx, name).await;
    tx.commit().await?;
    answer
}

/// Writes down what webhooks are to hear.
pub(super) async fn note(
    registry: &Registry,
    conn: &mut PgConnection,
    change: &Change<'_>,
) -> Result<(), Refusal> {
    Ok(webhooks::note(&registry.context, conn, registry.project(), change).await?)
}

#[derive(Serialize)]
struct Shown<'a> {
    registered_model: ModelView<'a>,
}

async fn shown(registry: &Registry, conn: &mut PgConnection, name: &str) -> WrittenAnswer {
    let found = models::overviews(conn, registry.project(), &[name.to_owned()]).await?.pop();
    let found = found.ok_or_else(|| Error::no_model(name))?;
    Ok(Written::of(&Shown { registered_model: model_views::registered_model(&found) }))
}

/// Refuses a model that is not there; holds its row.
async fn lock(registry: &Registry, conn: &mut PgConnection, name: &str) -> Result<(), Refusal> {
    if models::lock(conn, registry.project(), name).await? {
        Ok(())
    } else {
        Err(Error::no_model(name).into())
    }
}

pub(crate) async fn get(registry: Registry, input: Input) -> WrittenAnswer {
    let name = input.required("name")?;
    rules::model_name(name)?;
    shown(&registry, &mut *registry.context.db.acquire().await?, name).await
}

fn ask<'a>(registry: &'a Registry, model: &'a str, alias: &'a str, actor: &'a str) -> Ask<'a> {
    Ask { project: registry.project(), model, alias, actor, reason: None }
}

pub(crate) async fn rename(registry: Registry, principal: Principal, input: Input) -> WrittenAnswer {
    let (name, new_name) = (input.required("name")?, input.required("new_name")?);
    rules::model_name(new_name)?;
    let actor = principal.shown();
    let mut tx = registry.context.db.begin().await?;
    match aliases::rename(&registry.context, &mut tx, &ask(&registry, name, "", actor), new_name).await {
        Err(Error::Storage(storage::Error::Conflict { what })) => return Err(Refusal::exists(what)),
        other => other?,
    }
    let answer = shown(&registry, &mut tx, new_name).await;
    tx.commit().await?;
    answer
}

pub(crate) async fn update(registry: Registry, input: Input) -> WrittenAnswer {
    let name = input.required("name")?;
    let description = input.text("description")?.unwrap_or_default();
    let mut tx = registry.context.db.begin().await?;
    lock(&registry, &mut tx, name).await?;
    models::set_description(&mut tx, registry.project(), name, description, registry.now_ms()).await?;
    let answer = shown(&registry, &mut tx, name).await;
    tx.commit().await?;
    answer
}

pub(crate) async fn delete(registry: Registry, principal: Principal, input: Input) -> Answer {
    let (name, actor) = (input.required("name")?, principal.shown());
    let ask = Ask { reason: Some("the model was deleted"), ..ask(&registry, name, "", actor) };
    let mut tx = registry.context.db.begin().await?;
    aliases::remove_all(&registry.context, &mut tx, &ask, None).await?;
    models::delete(&mut tx, registry.project(), name).await?;
    tx.commit().await?;
    done()
}

/// Models without the prompt tag count as `!= 'true'` and as `= 'false'`; without a word about it, prompts are hidden.
pub(crate) fn without_prompts(mut conditions: Vec<Condition>) -> Vec<Condition> {
    let about = Subject::Tag(PROMPT.to_owned());
    let lacks = Test::Lacks("true".to_owned());
    for condition in conditions.iter_mut().filter(|condition| condition.subject == about) {
        if matches!(&condition.test, Test::Text(Comparison::NotEqual, value) if value == "true")
            || matches!(&condition.test, Test::Text(Comparison::Equal, value) if value == "false")
        {
            condition.test = lacks.clone();
        }
    }
    if !conditions.iter().any(|condition| condition.subject == about) {
        conditions.push(Condition { subject: about, test: lacks });
    }
    conditions
}

pub(crate) async fn search(registry: Registry, input: Input) -> WrittenAnswer {
    let page = Page::of(&input, 100, 1_000)?;
    let conditions = filter::filter(&MODELS, input.text("filter")?.unwrap_or_default())?;
    let search = Search {
        conditions: without_prompts(conditions),
        order: filter::order_by(&MODELS, &input.texts("order_by")?)?,
        experiments: None,
        lifecycle: Lifecycle::None,
        datasets: vec![],
        limit: page.limit(),
        after: page.after.clone(),
    };
    let mut conn = registry.context.db.acquire().await?;
    let found = search::find(&mut conn, &MODELS, registry.project(), &search).await?;
    let (names, token) = page.keys(found);
    let found = models::overviews(&mut conn, registry.project(), &names).await?;
    let answers = found.iter().map(model_views::registered_model).collect();
    Ok(Written::of(&Listed { key: "registered_models", answers, token: token.as_deref(), total: None }))
}

pub(crate) async fn latest_versions(registry: Registry, input: Input) -> WrittenAnswer {
    let name = input.required("name")?;
    let stages =
        input.texts("stages")?.iter().map(|stage| rules::stage(stage)).collect::<Result<Vec<_>, _>>()?;
    let mut conn = registry.context.db.acquire().await?;
    models::find(&mut conn, registry.project(), name).await?.ok_or_else(|| Error::no_model(name))?;
    let latest = models::latest_versions_of(&mut conn, registry.project(), &[name.to_owned()]).await?;
    let wanted = latest
        .iter()
        .filter(|version| stages.is_empty() || stages.contains(&version.stage.as_str()))
        .map(model_views::version);
    Ok(Written::of(&Listed { key: "model_versions", answers: wanted.collect(), token: None, total: None }))
}

pub(crate) async fn set_tag(registry: Registry, input: Input) -> Answer {
    let name = input.required("name")?;
    let tag = (input.required("key")?.to_owned(), input.text("value")?.unwrap_or_default().to_owned());
    rules::registry_tag(&tag)?;
    let mut tx = registry.context.db.begin().await?;
    lock(&registry, &mut tx, name).await?;
    models::set_tags(&mut tx, registry.project(), name, std::slice::from_ref(&tag)).await?;
    note(&registry, &mut tx, &Change::ModelTag { name, key: &tag.0, value: &tag.1 }).await?;
    tx.commit().await?;
    done()
}

pub(crate) async fn delete_tag(registry: Registry, input: Input) -> Answer {
    let (name, key) = (input.required("name")?, input.required("key")?);
    let mut tx = registry.context.db.begin().await?;
    lock(&registry, &mut tx, name).await?;
    models::delete_tag(&mut tx, registry.project(), name, key).await?;
    note(&registry, &mut tx, &Change::ModelTagGone { name, key }).await?;
    tx.commit().await?;
    done()
}

pub(crate) async fn set_alias(registry: Registry, principal: Principal, input: Input) -> Answer {
    let (name, alias) = (input.required("name")?, input.required("alias")?);
    rules::alias(alias)?;
    let version = rules::version(input.required("version")?)?;
    let actor = principal.shown();
    aliases::point_at(&registry.context, &ask(&registry, name, alias, actor), version, Manner::default())
        .await?;
    done()
}

pub(crate) async fn delete_alias(registry: Registry, principal: Principal, input: Input) -> Answer {
    let (name, alias) = (input.required("name")?, input.required("alias")?);
    rules::readable_alias(alias)?;
    let actor = principal.shown();
    let mut tx = registry.context.db.begin().await?;
    aliases::remove(&registry.context, &mut tx, &ask(&registry, name, alias, actor)).await?;
    tx.commit().await?;
    done()
}
