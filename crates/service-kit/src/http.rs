//! The HTTP surface around a service's own routes: `/metrics`, `/healthz`, `/readyz`, `/health`, `/version`, limits, tokens, request metrics.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Router, serve};
use domain::{Fault, Remedy};
use prometheus::{Encoder, TextEncoder};
use tokio::net::TcpListener;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

use crate::auth::{Guard, require_token};
use crate::metrics::Metrics;
use crate::{Context, Problem, patience};

/// A listener could not be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address}: {cause}; another program may hold the port: choose another with `http.listen` (port 0 takes a free one)"
)]
pub struct CannotListen {
    address: SocketAddr,
    cause: std::io::Error,
}

impl Fault for CannotListen {
    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }
    fn code(&self) -> &'static str {
        "cannot-listen"
    }
}

/// Takes the configured address.
///
/// # Errors
/// [`CannotListen`], with what to do.
pub async fn listen(context: &Context) -> Result<TcpListener, CannotListen> {
    let address = context.config.http.listen;
    TcpListener::bind(address).await.map_err(|cause| CannotListen { address, cause })
}

/// Serves `routes` with the common surface around them until the context stops; then drains.
///
/// # Errors
/// If the listener fails.
pub async fn run(context: &Context, listener: TcpListener, routes: Router) -> anyhow::Result<()> {
    let stop = context.stop.clone();
    // An answer's last segment must not wait for the client to acknowledge the one before.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    serve(listener, surface(context, routes)).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}

/// `routes` with the common surface around them.
pub fn surface(context: &Context, routes: Router) -> Router {
    let http = &context.config.http;
    let request_id = HeaderName::from_static("x-request-id");
    routes
        .layer(DefaultBodyLimit::max(http.body_limit_bytes))
        .layer(middleware::from_fn_with_state(Duration::from_secs(http.timeout_seconds), patience::lose))
        .merge(operations(context))
        .layer(middleware::from_fn_with_state(Metrics::of(context), measure))
        .layer(middleware::from_fn_with_state(Guard::of(context), require_token))
        .layer(PropagateRequestIdLayer::new(request_id.clone()))
        .layer(SetRequestIdLayer::new(request_id, MakeRequestUuid))
}

/// The MLflow release whose behaviour this is: what its clients of tracking and of serving ask any process.
const MLFLOW_VERSION: &str = "3.17.2";

fn operations(context: &Context) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .merge(crate::openapi::routes())
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/health", get(health))
        .route("/version", get(|| async { MLFLOW_VERSION }))
        .merge(crate::jobs::routes::routes())
        .merge(crate::auth::routes::routes())
        .with_state(context.clone())
}

async fn metrics(State(context): State<Context>) -> Result<Response, Problem> {
    let counts =
        storage::jobs::counts(&mut *context.db.acquire().await.map_err(storage::Error::from)?).await?;
    let shared = Metrics::of(&context);
    shared.jobs.reset();
    for (kind, state, jobs) in counts {
        shared.jobs.with_label_values(&[&kind, &state]).set(jobs);
    }
    let mut text = Vec::new();
    TextEncoder::new().encode(&context.metrics.gather(), &mut text).expect("writing to memory cannot fail");
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}

/// Ready means: the database answers and holds a schema we know.
async fn ready(State(context): State<Context>) -> Result<&'static str, Problem> {
    storage::pool::require_current_schema(&context.db).await?;
    Ok("ready")
}

/// What the clients of MLflow and Feast ask: 200 and `OK`, or 503 if the database does not answer.
async fn health(State(context): State<Context>) -> Result<&'static str, Problem> {
    storage::pool::newest_migration(&context.db).await?;
    Ok("OK")
}

async fn measure(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = request.method().as_str().to_owned();
    let began = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics
        .request_seconds
        .with_label_values(&[&route, &method, &status])
        .observe(began.elapsed().as_secs_f64());
    response
}
