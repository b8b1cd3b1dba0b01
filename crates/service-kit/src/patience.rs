//! How long a request may take: as long as its body keeps coming, and then the configured time. A large upload over a slow
//! line is not cut off; a body that stands still is.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body::{Frame, SizeHint};

/// Answers 503 if nothing has moved for `limit`.
pub(crate) async fn lose(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    let moved = Moved { began: Instant::now(), after_ms: Arc::default() };
    let watched = moved.clone();
    let answer = next.run(request.map(|body| Body::new(Watched { body, moved: watched })));
    tokio::pin!(answer);
    loop {
        let left = limit.saturating_sub(moved.ago());
        if left.is_zero() {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        tokio::select! {
            answer = &mut answer => return answer,
            () = tokio::time::sleep(left) => {}
        }
    }
}

/// When a body last moved.
#[derive(Clone)]
struct Moved {
    began: Instant,
    after_ms: Arc<AtomicU64>,
}

impl Moved {
    fn ago(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.after_ms.load(Ordering::Relaxed)))
    }

    fn now(&self) {
        let after_ms = self.began.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        self.after_ms.store(after_ms, Ordering::Relaxed);
    }
}

/// A body that says when it moves.
struct Watched {
    body: Body,
    moved: Moved,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_ready() {
            self.moved.now();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
