//! The routes about channels and what they are told.

use axum::Json;
use axum::extract::{Path, Query, State};
use domain::definitions::Channel;
use domain::ids::NotificationId;
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::{Context, Problem};
use storage::notifications::Notification;

use crate::delivery::courier::Outbox;
use crate::delivery::message::Message;
use crate::delivery::{Parcel, Sender};

/// How many messages a listing shows.
const LISTED: i64 = 200;

/// The declared channels. Secrets are only named in them.
pub(crate) async fn list(State(context): State<Context>) -> Result<Json<Vec<Channel>>, Problem> {
    let definitions = crate::http::load(&context).await?;
    let names = definitions.names("channel");
    Ok(Json(names.into_iter().filter_map(|name| definitions.channel(name)).cloned().collect()))
}

/// Sends a test message past the outbox, so that whoever asks learns at once what the receiver says.
pub(crate) async fn test(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let definitions = crate::http::load(&context).await?;
    let channel =
        definitions.channel(&name).ok_or_else(|| storage::Error::not_found(format!("channel `{name}`")))?;
    let message = Message::test(&context.config.project, &name, context.clock.now());
    let parcel = Parcel { id: NotificationId::new(), message: &message, now: context.machine_clock.now() };
    let sender = Sender::new(&context).map_err(crate::Error::from)?;
    sender.send(channel, parcel).await?;
    Ok(Json(json!({ "delivered": parcel.id, "channel": name })))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Waiting {
    Queued,
    Delivered,
    Dead,
    HeldBack,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    state: Option<Waiting>,
}

/// The latest messages.
pub(crate) async fn notifications(
    State(context): State<Context>,
    Query(listing): Query<Listing>,
) -> Result<Json<Vec<Notification>>, Problem> {
    let state = listing.state.map(|state| match state {
        Waiting::Queued => "queued",
        Waiting::Delivered => "delivered",
        Waiting::Dead => "dead",
        Waiting::HeldBack => "held-back",
    });
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    Ok(Json(storage::notifications::latest(&mut conn, &context.config.project, state, LISTED).await?))
}

/// Puts a dead letter back into its lane.
pub(crate) async fn retry(
    State(context): State<Context>,
    Path(id): Path<NotificationId>,
) -> Result<Json<Notification>, Problem> {
    let (project, now) = (&context.config.project, context.clock.now());
    let mut tx = context.db.begin().await.map_err(storage::Error::from)?;
    let message = storage::notifications::revive(&mut tx, project, id, now).await?;
    tx.commit().await.map_err(storage::Error::from)?;
    Outbox::of(&context).ring();
    Ok(Json(message))
}
