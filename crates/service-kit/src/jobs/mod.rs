//! The job loop: claim, work under a lease that is kept alive, report, enqueue what follows.
//!
//! A handler gets a [`Job`] and answers with an [`Outcome`]; it may be run twice and must do no harm then. LISTEN/NOTIFY
//! wakes the loop, polling backs it up. A loop works on one job at a time, or on as many as [`start_many`] says.

mod ends;
pub(crate) mod routes;
mod wake;
mod worker;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use chrono::TimeDelta;
use domain::{Fault, Remedy};
use serde::de::DeserializeOwned;
use serde_json::Value;
use storage::jobs::{Leased, NewJob};
use tokio_util::sync::CancellationToken;

use crate::Context;
use crate::problem::causes;
pub use wake::Wake;

/// A job in a handler's hands.
#[derive(Clone)]
pub struct Job {
    /// The row as it was claimed.
    pub leased: Leased,
    /// Cancelled if the lease is lost, somebody asks, or the process stops: end soon, change nothing more.
    pub cancelled: CancellationToken,
    said: Arc<Mutex<Said>>,
}

/// What a handler said since the last heartbeat.
#[derive(Default)]
struct Said {
    progress: Option<Value>,
    lines: Vec<(Instant, String)>,
}

impl Said {
    /// How far the work is, and the lines with their ages; what was taken is not told again.
    fn take(&mut self) -> (Option<Value>, Vec<(TimeDelta, String)>) {
        let age = |at: Instant| TimeDelta::from_std(at.elapsed()).unwrap_or_default();
        let lines = std::mem::take(&mut self.lines).into_iter().map(|(at, line)| (age(at), line)).collect();
        (self.progress.take(), lines)
    }
}

impl Job {
    /// The payload as the handler's own type.
    ///
    /// # Errors
    /// [`Failure`] (final) if the payload is not of that shape.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_value(self.leased.payload.clone())
            .map_err(|error| Failure::last(format!("the payload cannot be read: {error}")))
    }

    /// Says how far the work is; stored with the next heartbeat.
    pub fn report(&self, progress: Value) {
        self.said().progress = Some(progress);
    }

    /// Says something for the job's log; stored with the next heartbeat.
    pub fn say(&self, line: impl Into<String>) {
        let line = line.into();
        tracing::info!(job.id = %self.leased.id, "{line}");
        self.said().lines.push((Instant::now(), line));
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().expect("no holder of this lock can panic")
    }
}

/// A job ended well.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What the handler answers.
    pub answer: Value,
    /// What is to be done next; enqueued in the transaction that ends this job.
    pub next: Vec<NewJob>,
}

/// A job did not end well.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong, for people.
    pub message: String,
    /// Whether trying again may help.
    pub retry: bool,
}

impl Failure {
    /// A failure that a retry will not mend.
    pub fn last(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: false }
    }

    /// A failure that may pass.
    pub fn passing(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: true }
    }
}

impl<E: Fault> From<E> for Failure {
    fn from(fault: E) -> Self {
        let causes = causes(&fault);
        let message = if causes.is_empty() { fault.to_string() } else { format!("{fault}: {causes}") };
        Self {
            message,
            retry: matches!(
                fault.remedy(),
                Remedy::RetryLater | Remedy::SlowDown | Remedy::MakeRoom | Remedy::ReportBug
            ),
        }
    }
}

type Work = Pin<Box<dyn Future<Output = Result<Outcome, Failure>> + Send>>;
type Handler = Box<dyn Fn(Job) -> Work + Send + Sync>;

/// Handlers by kind.
#[derive(Default)]
pub struct Handlers(HashMap<String, Handler>);

impl Handlers {
    /// Adds the handler of one kind.
    #[must_use]
    pub fn on<F, W>(mut self, kind: &str, handler: F) -> Self
    where
        F: Fn(Job) -> W + Send + Sync + 'static,
        W: Future<Output = Result<Outcome, Failure>> + Send + 'static,
    {
        self.0.insert(kind.to_owned(), Box::new(move |job| Box::pin(handler(job))));
        self
    }
}

/// Works on jobs of these kinds, one at a time, until the context stops.
pub fn start(context: &Context, handlers: Handlers) {
    start_many(context, handlers, 1);
}

/// Works on jobs of these kinds, up to `at_once` at a time, until the context stops.
pub fn start_many(context: &Context, handlers: Handlers, at_once: usize) {
    context.tasks.spawn(worker::Worker::new(context, handlers, at_once).run());
}
