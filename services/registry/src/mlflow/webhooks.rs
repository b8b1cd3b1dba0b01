//! `webhooks…`: who wants to hear of changes.

use axum::Json;
use axum::extract::Path;
use serde_json::{Value, json};
use service_kit::receivers::Receiver;
use sqlx::PgConnection;
use storage::webhooks::{self, Webhook};
use uuid::Uuid;

use super::input::Input;
use super::paging::{Page, answer};
use super::refusal::Refusal;
use super::{Answer, done};
use crate::Registry;
use crate::webhooks::{EVENTS, example, send};

fn view(webhook: &Webhook) -> Value {
    let event = |event: &String| {
        let (entity, action) = event.split_once('.').unwrap_or((event, ""));
        json!({ "entity": entity, "action": action })
    };
    let mut view = json!({
        "webhook_id": webhook.id.simple().to_string(),
        "name": webhook.name,
        "url": webhook.url,
        "events": webhook.events.iter().map(event).collect::<Vec<_>>(),
        "status": webhook.status,
        "creation_timestamp": webhook.created_ms,
        "last_updated_timestamp": webhook.updated_ms,
    });
    if let Some(description) = &webhook.description {
        view["description"] = Value::from(description.as_str());
    }
    view
}

async fn find(registry: &Registry, conn: &mut PgConnection, text: &str) -> Result<Webhook, Refusal> {
    let missing = || Refusal::missing(format!("Webhook with ID {text} not found."));
    let id = Uuid::parse_str(text).map_err(|_| missing())?;
    webhooks::find(conn, registry.project(), id).await?.ok_or_else(missing)
}

fn name(name: &str) -> Result<String, Refusal> {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if plain && name.len() <= 63 && edge(name.chars().next()) && edge(name.chars().last()) {
        return Ok(name.to_owned());
    }
    Err(Refusal::invalid(format!(
        "Webhook name '{name}' is invalid. It must start and end with a letter or digit, be less than 63 characters long, \
         and contain only letters, digits, dots (.), underscores (_), and hyphens (-)."
    )))
}

async fn url(registry: &Registry, url: &str) -> Result<String, Refusal> {
    let checked = Receiver::find(url, &registry.context.config.webhooks).await;
    checked.map(|_| url.to_owned()).map_err(|error| Refusal::invalid(error.to_string()))
}

fn event(event: &Input) -> Result<String, Refusal> {
    let (entity, action) = (event.required("entity")?, event.required("action")?);
    let known = EVENTS.iter().find(|(known, _)| *known == entity);
    let (_, actions) = known.ok_or_else(|| Refusal::invalid(format!("Invalid webhook entity '{entity}'")))?;
    if !actions.contains(&action) {
        let valid: Vec<String> = actions.iter().map(|action| action.to_ascii_lowercase()).collect();
        return Err(Refusal::invalid(format!(
            "Invalid action '{}' for entity '{}'. Valid actions are: {valid:?}",
            action.to_ascii_lowercase(),
            entity.to_ascii_lowercase()
        )));
    }
    Ok(format!("{entity}.{action}"))
}

fn events(input: &Input) -> Result<Vec<String>, Refusal> {
    let events = input.items("events")?.iter().map(event).collect::<Result<Vec<_>, _>>()?;
    if events.is_empty() {
        return Err(Refusal::invalid("Webhook events must be a non-empty list"));
    }
    Ok(events)
}

fn status(input: &Input) -> Result<Option<String>, Refusal> {
    match input.raw("status") {
        None => Ok(None),
        Some(Value::String(text)) if text == "ACTIVE" || text == "DISABLED" => Ok(Some(text.clone())),
        Some(Value::Number(number)) if number.as_i64() == Some(1) => Ok(Some("ACTIVE".to_owned())),
        Some(Value::Number(number)) if number.as_i64() == Some(2) => Ok(Some("DISABLED".to_owned())),
        Some(other) => Err(Refusal::invalid(format!("Invalid webhook status {other}"))),
    }
}

pub(crate) async fn create(registry: Registry, input: Input) -> Answer {
    let now_ms = registry.now_ms();
    let webhook = Webhook {
        id: Uuid::new_v4(),
        name: name(input.required("name")?)?,
        description: input.text("description")?.map(str::to_owned),
        url: url(&registry, input.required("url")?).await?,
        events: events(&input)?,
        secret: input.text("secret")?.filter(|secret| !secret.is_empty()).map(str::to_owned),
        status: status(&input)?.unwrap_or_else(|| "ACTIVE".to_owned()),
        created_ms: now_ms,
        updated_ms: now_ms,
    };
    webhooks::insert(&mut *registry.context.db.acquire().await?, registry.project(), &webhook).await?;
    Ok(Json(json!({ "webhook": view(&webhook) })))
}

pub(crate) async fn get(registry: Registry, Path(id): Path<String>) -> Answer {
    let webhook = find(&registry, &mut *registry.context.db.acquire().await?, &id).await?;
    Ok(Json(json!({ "webhook": view(&webhook) })))
}

pub(crate) async fn list(registry: Registry, input: Input) -> Answer {
    let page = Page::of(&input, 100, 1_000)?;
    let after = page.after.as_deref().map(place).transpose()?.unwrap_or((i64::MIN, Uuid::nil()));
    let mut conn = registry.context.db.acquire().await?;
    let mut found = webhooks::list(&mut conn, registry.project(), "", after, page.limit()).await?;
    let last = |last: &Webhook| vec![Some(last.created_ms.to_string()), Some(last.id.to_string())];
    let token = page.cut(&mut found, last);
    Ok(Json(answer("webhooks", found.iter().map(view).collect(), token)))
}

fn place(place: &[Option<String>]) -> Result<(i64, Uuid), Refusal> {
    let read = || match place {
        [Some(created_ms), Some(id)] => Some((created_ms.parse().ok()?, Uuid::parse_str(id).ok()?)),
        _ => None,
    };
    read().ok_or_else(|| Refusal::invalid("Invalid page token: it belongs to another search"))
}

pub(crate) async fn update(registry: Registry, Path(id): Path<String>, input: Input) -> Answer {
    let new_url = match input.text("url")?.filter(|text| !text.is_empty()) {
        Some(text) => Some(url(&registry, text).await?),
        None => None,
    };
    let mut tx = registry.context.db.begin().await?;
    let known = find(&registry, &mut tx, &id).await?;
    let text = |key| Ok::<_, Refusal>(input.text(key)?.map(str::to_owned));
    let webhook = Webhook {
        name: input.text("name")?.map_or(Ok(known.name), name)?,
        description: text("description")?.or(known.description),
        url: new_url.unwrap_or(known.url),
        events: if input.has("events") { events(&input)? } else { known.events },
        secret: text("secret")?.or(known.secret),
        status: status(&input)?.unwrap_or(known.status),
        updated_ms: registry.now_ms(),
        ..known
    };
    webhooks::update(&mut tx, registry.project(), &webhook).await?;
    tx.commit().await?;
    Ok(Json(json!({ "webhook": view(&webhook) })))
}

pub(crate) async fn delete(registry: Registry, Path(id): Path<String>) -> Answer {
    let mut conn = registry.context.db.acquire().await?;
    let webhook = find(&registry, &mut conn, &id).await?;
    webhooks::delete(&mut conn, registry.project(), webhook.id).await?;
    done()
}

/// Says an example to a receiver, now, and shows what it answered.
pub(crate) async fn test(registry: Registry, Path(id): Path<String>, input: Input) -> Answer {
    let webhook = find(&registry, &mut *registry.context.db.acquire().await?, &id).await?;
    let wanted = if input.has("event") { event(&input.item("event")?)? } else { webhook.events[0].clone() };
    let (entity, action) = wanted.split_once('.').unwrap_or((&wanted, ""));
    let data = example(entity, action);
    let sent = send(&registry.context, &webhook, Uuid::new_v4(), entity, action, &data).await;
    let result = match sent {
        Ok(told) => json!({
            "success": (200..300).contains(&told.status),
            "response_status": told.status,
            "response_body": told.body,
        }),
        Err(error) => json!({ "success": false, "error_message": error.to_string() }),
    };
    Ok(Json(json!({ "result": result })))
}
