//! The job loop: claim, work under a lease that is kept alive, report, enqueue what follows.
//!
//! A handler gets a [`Job`] and answers with an [`Outcome`]; it may be run twice and must do no harm then. LISTEN/NOTIFY
//! wakes the loop, polling backs it up. One loop works on one job at a time; a service runs as many as it can use.

pub(crate) mod routes;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::TimeDelta;
use domain::{Clock, Fault, Remedy};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::postgres::PgListener;
use storage::jobs::{Leased, LogLine, NewJob, WAKE_CHANNEL};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Context;
use crate::metrics::Metrics;
use crate::problem::causes;

/// A job in a handler's hands.
#[derive(Clone)]
pub struct Job {
    /// The row as it was claimed.
    pub leased: Leased,
    /// Cancelled if the lease is lost, somebody asks, or the process stops: end soon, change nothing more.
    pub cancelled: CancellationToken,
    said: Arc<Mutex<Said>>,
    clock: Arc<dyn Clock>,
}

/// What a handler said since the last heartbeat.
#[derive(Default)]
struct Said {
    progress: Option<Value>,
    lines: Vec<LogLine>,
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
        let line = LogLine { logged_at: self.clock.now(), line: line.into() };
        tracing::info!(job.id = %self.leased.id, "{}", line.line);
        self.said().lines.push(line);
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

/// Works on jobs of these kinds until the context stops.
pub fn start(context: &Context, handlers: Handlers) {
    let worker = Worker {
        context: context.clone(),
        kinds: handlers.0.keys().cloned().collect(),
        handlers: Arc::new(handlers),
        holder: format!("{}-{}", std::process::id(), uuid::Uuid::new_v4().simple()),
    };
    context.tasks.spawn(worker.run());
}

struct Worker {
    context: Context,
    kinds: Vec<String>,
    handlers: Arc<Handlers>,
    holder: String,
}

impl Worker {
    async fn run(self) {
        let mut knocks = self.context.wake.knocks(&self.context);
        while !self.context.stop.is_cancelled() {
            knocks.forget();
            match self.claim().await {
                Ok(Some(job)) => self.work(job).await,
                Ok(None) => knocks.wait(&self.context).await,
                Err(error) => {
                    tracing::warn!(%error, causes = causes(&error), "no job could be claimed");
                    knocks.wait(&self.context).await;
                }
            }
        }
    }

    async fn claim(&self) -> Result<Option<Leased>, storage::Error> {
        let mut conn = self.context.db.acquire().await?;
        let lease = self.context.config.jobs.lease();
        let (due, now) = (self.context.clock.now(), self.context.machine_clock.now());
        storage::jobs::claim(&mut conn, &self.kinds, &self.holder, lease, due, now).await
    }

    #[tracing::instrument(name = "job", skip_all, fields(job.id = %leased.id, job.kind = leased.kind))]
    async fn work(&self, leased: Leased) {
        if leased.attempts > leased.max_attempts {
            let lost =
                Failure::last("every try ended without a word: the process was killed or lost its lease");
            return self.end(&leased, Err(lost)).await;
        }
        let job = Job {
            leased,
            cancelled: self.context.stop.child_token(),
            said: Arc::default(),
            clock: Arc::clone(&self.context.machine_clock),
        };
        let handler = &self.handlers.0[&job.leased.kind];
        let work = tokio::spawn(handler(job.clone())); // a task of its own, so that a panic is caught
        let ended = self.watch(&job, work).await;
        self.keep(&job).await; // the last word on progress
        self.end(&job.leased, ended).await;
    }

    /// Keeps the lease while a handler works. One that was asked to end and does not is ended after a while.
    async fn watch(
        &self,
        job: &Job,
        mut work: JoinHandle<Result<Outcome, Failure>>,
    ) -> Result<Outcome, Failure> {
        let jobs = &self.context.config.jobs;
        let (beat, grace) = (jobs.lease().to_std().unwrap_or_default() / 3, jobs.cancel_grace());
        let overdue = async {
            job.cancelled.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        tokio::pin!(overdue);
        let mut ended_by_us = false;
        let ended = loop {
            tokio::select! {
                ended = &mut work => break ended,
                () = tokio::time::sleep(beat) => if !self.keep(job).await { job.cancelled.cancel() },
                () = &mut overdue, if !ended_by_us => {
                    ended_by_us = true;
                    work.abort();
                }
            }
        };
        ended.unwrap_or_else(|error| {
            Err(match ended_by_us {
                true => {
                    let seconds = grace.as_secs();
                    Failure::last(format!("it was asked to end and went on for {seconds} s, so it was ended"))
                }
                false => Failure::passing(format!("the handler panicked: {error}")),
            })
        })
    }

    /// Extends the lease and stores what the handler said; false if the job should end.
    async fn keep(&self, job: &Job) -> bool {
        let Ok(mut conn) = self.context.db.acquire().await else { return true }; // the lease may outlast the outage
        let (progress, lines) = {
            let mut said = job.said();
            (said.progress.clone(), std::mem::take(&mut said.lines))
        };
        if !lines.is_empty()
            && let Err(error) = storage::jobs::say(&mut conn, job.leased.id, &lines).await
        {
            tracing::warn!(%error, "what the job said could not be stored");
        }
        let (lease, now) = (self.context.config.jobs.lease(), self.context.machine_clock.now());
        storage::jobs::heartbeat(&mut conn, &job.leased, progress.as_ref(), lease, now).await.unwrap_or(true)
    }

    async fn end(&self, job: &Leased, ended: Result<Outcome, Failure>) {
        let how = if ended.is_ok() { "succeeded" } else { "failed" };
        match self.report(job, ended).await {
            Ok(true) => {
                Metrics::of(&self.context).jobs_ended.with_label_values(&[job.kind.as_str(), how]).inc();
            }
            Ok(false) => tracing::warn!("the lease had been lost; another worker has the job"),
            Err(error) => {
                tracing::error!(%error, causes = causes(&error), "the job's end could not be stored");
            }
        }
    }

    async fn report(&self, job: &Leased, ended: Result<Outcome, Failure>) -> Result<bool, storage::Error> {
        let mut tx = self.context.db.begin().await?;
        let now = self.context.machine_clock.now();
        let held = match ended {
            Ok(outcome) => {
                let held = storage::jobs::succeed(&mut tx, job, &outcome.answer, now).await?;
                if held {
                    for next in &outcome.next {
                        storage::jobs::enqueue(&mut tx, next, now).await?;
                    }
                }
                held
            }
            Err(failure) => {
                tracing::warn!(retry = failure.retry, "job failed: {}", failure.message);
                let retry_at = failure.retry.then(|| self.context.clock.now() + backoff(job.attempts));
                storage::jobs::fail(&mut tx, job, &failure.message, retry_at, now).await?
            }
        };
        tx.commit().await?;
        Ok(held)
    }
}

/// 1, 2, 4, … seconds, at most ten minutes.
fn backoff(attempts: i32) -> TimeDelta {
    TimeDelta::seconds(1i64 << attempts.clamp(1, 10).saturating_sub(1)).min(TimeDelta::minutes(10))
}

/// Notifications of new work: one connection of a process listens, and all its loops hear.
#[derive(Clone, Debug)]
pub struct Wake(Arc<Heard>);

#[derive(Debug)]
struct Heard {
    count: watch::Sender<u64>,
    listening: AtomicBool,
}

impl Default for Wake {
    fn default() -> Self {
        Self(Arc::new(Heard { count: watch::Sender::new(0), listening: AtomicBool::new(false) }))
    }
}

impl Wake {
    fn knocks(&self, context: &Context) -> Knocks {
        if !self.0.listening.swap(true, Ordering::SeqCst) {
            context.tasks.spawn(listen(context.clone(), self.clone()));
        }
        Knocks(self.0.count.subscribe())
    }
}

/// Counts notifications until the context stops; a lost connection is replaced, and polling bridges the gap.
async fn listen(context: Context, wake: Wake) {
    while !context.stop.is_cancelled() {
        let heard = async {
            let mut listener = PgListener::connect_with(&context.db).await?;
            listener.listen(WAKE_CHANNEL).await?;
            loop {
                wake.0.count.send_modify(|count| *count += 1); // also at once: work may have come before we listened
                listener.recv().await?;
            }
        };
        let ended: Result<(), sqlx::Error> = tokio::select! {
            ended = heard => ended,
            () = context.stop.cancelled() => return,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "the connection that listens for work was lost");
            tokio::time::sleep(context.config.jobs.poll()).await;
        }
    }
}

/// One loop's ear.
struct Knocks(watch::Receiver<u64>);

impl Knocks {
    /// Everything heard so far is old; call before looking for work, so that no knock is missed.
    fn forget(&mut self) {
        self.0.mark_unchanged();
    }

    async fn wait(&mut self, context: &Context) {
        tokio::select! {
            _ = self.0.changed() => {}
            () = tokio::time::sleep(context.config.jobs.poll()) => {}
            () = context.stop.cancelled() => {}
        }
    }
}
