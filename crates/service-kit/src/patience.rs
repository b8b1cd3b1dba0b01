//! How long a request may take: as long as its body keeps coming, and then the configured time. A large upload over a slow
//! line is not cut off; a body that stands still is.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::{Fault, Remedy};
use http_body::{Frame, SizeHint};

use crate::Problem;

/// A request took longer than it may.
#[derive(Debug, thiserror::Error)]
#[error("no answer was found within {0} s; ask for less, or raise `http.timeout_seconds`")]
struct TooSlow(u64);

impl Fault for TooSlow {
    fn remedy(&self) -> Remedy {
        Remedy::RetryLater
    }
    fn code(&self) -> &'static str {
        "too-slow"
    }
}

/// A request's body stopped coming.
#[derive(Debug, thiserror::Error)]
#[error("nothing of the body has come for {0} s; send it again")]
struct BodyStandsStill(u64);

impl Fault for BodyStandsStill {
    fn remedy(&self) -> Remedy {
        Remedy::SendInTime
    }
    fn code(&self) -> &'static str {
        "body-stands-still"
    }
}

/// Answers 408 if nothing of the body has come for `limit`, and 503 if the answer takes so long after it has.
pub(crate) async fn lose(limit: Duration, request: Request, next: Next) -> Response {
    let moved = Moved::new(request.body().is_end_stream());
    let watched = moved.clone();
    let answer = next.run(request.map(|body| Body::new(Watched { body, moved: watched })));
    tokio::pin!(answer);
    loop {
        let left = limit.saturating_sub(moved.ago());
        if left.is_zero() {
            return match moved.0.whole.load(Ordering::Relaxed) {
                true => Problem::from(TooSlow(limit.as_secs())).into_response(),
                false => Problem::from(BodyStandsStill(limit.as_secs())).into_response(),
            };
        }
        tokio::select! {
            answer = &mut answer => return answer,
            () = tokio::time::sleep(left) => {}
        }
    }
}

/// When a body last moved.
#[derive(Clone)]
struct Moved(Arc<Movement>);

struct Movement {
    began: Instant,
    after_ms: AtomicU64,
    /// Whether all of it has come.
    whole: AtomicBool,
}

impl Moved {
    fn new(whole: bool) -> Self {
        let whole = AtomicBool::new(whole);
        Self(Arc::new(Movement { began: Instant::now(), after_ms: AtomicU64::new(0), whole }))
    }

    fn ago(&self) -> Duration {
        let moved = Duration::from_millis(self.0.after_ms.load(Ordering::Relaxed));
        self.0.began.elapsed().saturating_sub(moved)
    }

    fn now(&self) {
        let after_ms = self.0.began.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        self.0.after_ms.store(after_ms, Ordering::Relaxed);
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
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.moved.0.whole.store(true, Ordering::Relaxed);
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
