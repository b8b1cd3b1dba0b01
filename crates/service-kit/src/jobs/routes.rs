//! Jobs over HTTP: what is queued and what became of it, what it said; ending one, and trying one again.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::ids::JobId;
use serde::Deserialize;
use storage::jobs::{JobRow, LogLine, Wanted};

use crate::auth::Principal;
use crate::{Context, Problem};

/// The most jobs of one answer.
const MOST: u32 = 1_000;
/// The jobs of an answer unless the question says.
const SOME: u32 = 100;

pub(crate) fn routes() -> Router<Context> {
    Router::new()
        .route("/v1/jobs", get(list))
        .route("/v1/jobs/{id}", get(show))
        .route("/v1/jobs/{id}/logs", get(logs))
        .route("/v1/jobs/{id}/cancel", post(cancel))
        .route("/v1/jobs/{id}/retry", post(retry))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    /// Only the jobs of the chain that begins with this one.
    chain: Option<JobId>,
    state: Option<String>,
    kind: Option<String>,
    after: Option<JobId>,
    limit: Option<u32>,
}

async fn list(
    State(context): State<Context>,
    Query(listing): Query<Listing>,
) -> Result<Json<Vec<JobRow>>, Problem> {
    let limit = listing.limit.unwrap_or(SOME).min(MOST);
    let wanted = Wanted {
        chain: listing.chain,
        state: listing.state,
        kind: listing.kind,
        after: listing.after,
        limit: limit.into(),
    };
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    Ok(Json(storage::jobs::list(&mut conn, &context.config.project, &wanted).await?))
}

async fn show(State(context): State<Context>, Path(id): Path<JobId>) -> Result<Json<JobRow>, Problem> {
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    Ok(Json(storage::jobs::get(&mut conn, id).await?))
}

async fn logs(State(context): State<Context>, Path(id): Path<JobId>) -> Result<Json<Vec<LogLine>>, Problem> {
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    storage::jobs::get(&mut conn, id).await?;
    Ok(Json(storage::jobs::logs(&mut conn, id).await?))
}

async fn cancel(
    State(context): State<Context>,
    Path(id): Path<JobId>,
    principal: Principal,
) -> Result<(StatusCode, Json<JobRow>), Problem> {
    principal.may_write("cancel jobs")?;
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    storage::jobs::cancel(&mut conn, id).await?;
    Ok((StatusCode::ACCEPTED, Json(storage::jobs::get(&mut conn, id).await?)))
}

async fn retry(
    State(context): State<Context>,
    Path(id): Path<JobId>,
    principal: Principal,
) -> Result<(StatusCode, Json<JobRow>), Problem> {
    principal.may_write("queue jobs again")?;
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    storage::jobs::retry(&mut conn, id).await?;
    Ok((StatusCode::ACCEPTED, Json(storage::jobs::get(&mut conn, id).await?)))
}
