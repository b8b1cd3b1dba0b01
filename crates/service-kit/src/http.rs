//! The HTTP surface around a service's own routes: `/metrics`, `/healthz`, `/readyz`, `/health`, `/version`, limits, tokens, request metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Router, serve};
use domain::{Fault, Remedy};
use prometheus::{Encoder, TextEncoder};
use storage::jobs::{Cause, caused_by};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::Instrument;
use uuid::Uuid;

use crate::auth::{Guard, guarded};
use crate::metrics::Metrics;
use crate::{Context, Problem, patience, problem, tls, traces};

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
    let listener = TcpListener::bind(address).await.map_err(|cause| CannotListen { address, cause })?;
    keep_segments_small(&listener);
    Ok(listener)
}

/// The longest segment, in bytes: no network card's are as long.
const SEGMENT: u32 = 16 << 10;

/// Keeps answers over loopback from standing still. Segments there are 64 KiB long, half of what a client's socket holds: one that
/// has read a part of a long answer has room for no whole segment yet, says so only with its next acknowledgement, and that waits for
/// 40 ms (RFC 9293, 3.8.6.2.2 and 3.8.6.3). Measured, one of a hundred answers of 100 entities × 50 features took 20 to 70 ms instead of 2.
fn keep_segments_small(listener: &TcpListener) {
    if let Err(error) = socket2::SockRef::from(listener).set_tcp_mss(SEGMENT) {
        tracing::debug!(%error, "segments are as long as the system has them");
    }
}

/// Serves `routes` with the common surface around them until the context stops; then drains, until the deadline.
///
/// # Errors
/// If the listener fails, or its certificate cannot be used.
pub async fn run(context: &Context, listener: TcpListener, routes: Router) -> anyhow::Result<()> {
    let routes = surface(context, routes);
    // An answer's last segment must not wait for the client to acknowledge the one before.
    let plain = |connection: &mut TcpStream| drop(connection.set_nodelay(true));
    let stop = context.stop.clone().cancelled_owned();
    match tls::identity(&context.config.tls).await? {
        Some(identity) => {
            let listener = tls::Secure::over(listener, identity, &context.stop);
            until_drained(context, serve(listener, routes).with_graceful_shutdown(stop).into_future()).await
        }
        None => {
            let listener = listener.tap_io(plain);
            until_drained(context, serve(listener, routes).with_graceful_shutdown(stop).into_future()).await
        }
    }
}

/// Waits for the end of the server; once it is told to stop, no longer than the deadline.
async fn until_drained(
    context: &Context,
    serving: impl Future<Output = std::io::Result<()>>,
) -> anyhow::Result<()> {
    let deadline = Duration::from_secs(context.config.http.drain_seconds);
    let overdue = async {
        context.stop.cancelled().await;
        tokio::time::sleep(deadline).await;
    };
    tokio::select! {
        served = serving => Ok(served?),
        () = overdue => {
            tracing::warn!("some requests did not end within {} s and are cut off", deadline.as_secs());
            Ok(())
        }
    }
}

/// `routes` with the common surface around them. Each layer costs every request a copy of what lies below it, so there are few.
pub fn surface(context: &Context, routes: Router) -> Router {
    let http = &context.config.http;
    let limits = Limits {
        room: Arc::new(Semaphore::new(http.concurrency)),
        patience: Duration::from_secs(http.timeout_seconds),
    };
    let door = Door {
        metrics: Metrics::of(context),
        guard: Guard::of(context),
        project: context.config.project.as_str().into(),
    };
    routes
        .layer(DefaultBodyLimit::max(http.body_limit_bytes))
        .layer(middleware::from_fn_with_state(limits, within_limits))
        .merge(operations(context))
        .layer(middleware::from_fn_with_state(door, enter))
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

/// More requests at once than this server works on.
#[derive(Debug, thiserror::Error)]
#[error(
    "as many requests as this server takes at once are at work; send it again in a moment, or raise `http.concurrency`"
)]
struct TooMany;

impl Fault for TooMany {
    fn remedy(&self) -> Remedy {
        Remedy::RetryLater
    }
    fn code(&self) -> &'static str {
        "too-many-requests-at-once"
    }
}

/// What a service's own routes may take.
#[derive(Clone)]
struct Limits {
    room: Arc<Semaphore>,
    patience: Duration,
}

/// Lets a request in if there is room, for as long as it may take.
async fn within_limits(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    match limits.room.try_acquire_owned() {
        Ok(_place) => patience::lose(limits.patience, request, next).await,
        Err(_) => Problem::from(TooMany).into_response(),
    }
}

/// What every request passes: its id, its token, its measure.
#[derive(Clone)]
struct Door {
    metrics: Metrics,
    guard: Guard,
    project: Arc<str>,
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id of a client's own that is kept in logs and jobs; a longer one is cut there.
const REQUEST_ID_LENGTH: usize = 128;

/// Gives a request an id, unless it brings one; puts that on everything that is logged for it, on the jobs that it asks for and on
/// the answer.
async fn enter(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let id = match request.headers().get(REQUEST_ID) {
        Some(id) => id.clone(),
        None => request.headers_mut().entry(REQUEST_ID).or_insert(new_id()).clone(),
    };
    let shown: String = id.to_str().unwrap_or_default().chars().take(REQUEST_ID_LENGTH).collect();
    let span = tracing::info_span!(
        "request", request.id = shown, http.method = %request.method(), http.path = request.uri().path(),
    );
    let traceparent = traces::of_request(&span, &request, &door.project);
    let cause = Cause { request_id: Some(shown), chain: None, traceparent };
    let mut response = caused_by(cause, measured(door, request, next)).instrument(span).await;
    response.headers_mut().entry(REQUEST_ID).or_insert(id);
    response
}

fn new_id() -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    HeaderValue::from_str(Uuid::new_v4().hyphenated().encode_lower(&mut text))
        .expect("hex digits may stand in a header")
}

async fn measured(door: Door, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let ours = request.uri().path().starts_with("/v1/");
    let began = Instant::now();
    let mut response = guarded(&door.guard, request, next).await;
    if ours && response.status().is_client_error() {
        response = problem::told(response).await;
    }
    traces::answered(response.status());
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    door.metrics
        .request_seconds
        .with_label_values(&[route, label_of(&method), response.status().as_str()])
        .observe(began.elapsed().as_secs_f64());
    response
}

/// A method as a label: those that anybody may make up are one, or whoever makes up many would fill our memory.
fn label_of(method: &Method) -> &str {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    if known.contains(method) { method.as_str() } else { "other" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn segments_over_loopback_are_a_fraction_of_what_a_socket_holds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        keep_segments_small(&listener);
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        for end in [&client, &server] {
            assert!(socket2::SockRef::from(end).tcp_mss().unwrap() <= SEGMENT);
        }
    }
}
