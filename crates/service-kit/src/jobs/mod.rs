//! The job loop: claim, work under a lease that is kept alive, report, enqueue what follows.
//!
//! A handler gets a [`Job`] and answers with an [`Outcome`]; it may be run twice and must do no harm then. LISTEN/NOTIFY
//! wakes the loop, polling backs it up. Kinds that hold cores or memory are heavy: they have hands of their own, so that nothing
//! light waits for them; `jobs.hands` and `jobs.heavy_hands` say how many jobs of a loop are worked on at once.

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

type ByKind = HashMap<String, Handler>;

/// Handlers by kind.
#[derive(Default)]
pub struct Handlers {
    light: ByKind,
    heavy: ByKind,
}

impl Handlers {
    /// Adds the handler of one kind.
    #[must_use]
    pub fn on<F, W>(mut self, kind: &str, handler: F) -> Self
    where
        F: Fn(Job) -> W + Send + Sync + 'static,
        W: Future<Output = Result<Outcome, Failure>> + Send + 'static,
    {
        self.light.insert(kind.to_owned(), boxed(handler));
        self
    }

    /// Adds the handler of a kind that holds cores or memory while it works.
    #[must_use]
    pub fn heavy<F, W>(mut self, kind: &str, handler: F) -> Self
    where
        F: Fn(Job) -> W + Send + Sync + 'static,
        W: Future<Output = Result<Outcome, Failure>> + Send + 'static,
    {
        self.heavy.insert(kind.to_owned(), boxed(handler));
        self
    }
}

fn boxed<F, W>(handler: F) -> Handler
where
    F: Fn(Job) -> W + Send + Sync + 'static,
    W: Future<Output = Result<Outcome, Failure>> + Send + 'static,
{
    Box::new(move |job| Box::pin(handler(job)))
}

/// Works on jobs of these kinds until the context stops: on `jobs.hands` light and `jobs.heavy_hands` heavy ones at once.
pub fn start(context: &Context, handlers: Handlers) {
    let jobs = &context.config.jobs;
    for (handlers, hands) in [(handlers.light, jobs.hands), (handlers.heavy, jobs.heavy_hands)] {
        if !handlers.is_empty() {
            context.tasks.spawn(worker::Worker::new(context, handlers, hands).run());
        }
    }
}
