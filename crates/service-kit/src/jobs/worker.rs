//! One loop: claims as many jobs as it has hands free, and keeps the lease of each while its handler works.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use storage::jobs::{Cause, Leased, caused_by};
use tokio::task::{JoinHandle, JoinSet};
use tracing::Instrument;

use super::ends::Ends;
use super::{ByKind, Failure, Job, Outcome};
use crate::problem::causes;
use crate::{Context, traces};

/// Hands that come free within so long are filled together.
const TOGETHER: Duration = Duration::from_millis(1);

pub(super) struct Worker {
    context: Context,
    kinds: Vec<String>,
    handlers: ByKind,
    hands: usize,
    holder: String,
    ends: Ends,
}

impl Worker {
    pub(super) fn new(context: &Context, handlers: ByKind, hands: NonZeroUsize) -> Self {
        Self {
            context: context.clone(),
            kinds: handlers.keys().cloned().collect(),
            handlers,
            hands: hands.get(),
            holder: format!("{}-{}", std::process::id(), uuid::Uuid::new_v4().simple()),
            ends: Ends::start(context),
        }
    }

    pub(super) async fn run(self) {
        let worker = Arc::new(self);
        let knocks = worker.context.wake.knocks(&worker.context, &worker.kinds);
        let mut busy = JoinSet::new();
        while !worker.context.stop.is_cancelled() {
            while busy.try_join_next().is_some() {}
            let free = worker.hands - busy.len();
            if free == 0 {
                tokio::select! {
                    _ = busy.join_next() => worker.gather().await,
                    () = worker.context.stop.cancelled() => {}
                }
                continue;
            }
            let claimed = worker.claim(free).await;
            let all_there_was = claimed.len() < free;
            for job in claimed {
                let span = tracing::info_span!(
                    "job", job.id = %job.id, job.kind = job.kind, job.chain = %job.chain, request.id = job.request_id,
                );
                let cause = Cause {
                    request_id: job.request_id.clone(),
                    chain: Some(job.chain),
                    traceparent: traces::of_job(&span, &job),
                };
                busy.spawn(Arc::clone(&worker).work(job, cause).instrument(span));
            }
            if all_there_was {
                knocks.wait(&worker.context).await;
            }
        }
        busy.join_all().await;
    }

    /// Gives the other hands a moment to come free too: they are filled by one claim, which costs the disk as much as one's.
    async fn gather(&self) {
        if self.hands > 1 {
            tokio::time::sleep(TOGETHER).await;
        }
    }

    async fn claim(&self, most: usize) -> Vec<Leased> {
        let claimed = async {
            let mut conn = self.context.db.acquire().await?;
            let (lease, most) = (self.context.config.jobs.lease(), most.try_into().unwrap_or(i64::MAX));
            storage::jobs::claim(&mut conn, &self.kinds, &self.holder, lease, most).await
        };
        claimed.await.unwrap_or_else(|error: storage::Error| {
            tracing::warn!(%error, causes = causes(&error), "no job could be claimed");
            vec![]
        })
    }

    /// Does a job; what it enqueues, and what follows from it, comes of `cause`.
    async fn work(self: Arc<Self>, leased: Leased, cause: Cause) {
        if leased.attempts > leased.max_attempts {
            let lost =
                Failure::last("every try ended without a word: the process was killed or lost its lease");
            traces::failed();
            return self.ends.tell(leased, Err(lost), cause, false).await;
        }
        if self.context.stop.is_cancelled() {
            let unbegun = Failure::passing("it was claimed as its process was told to stop, and not begun");
            return self.ends.tell(leased, Err(unbegun), cause, true).await;
        }
        let job = Job { leased, cancelled: self.context.stop.child_token(), said: Arc::default() };
        let handler = &self.handlers[&job.leased.kind];
        // a task of its own, so that a panic is caught
        let work = tokio::spawn(caused_by(cause.clone(), handler(job.clone())).in_current_span());
        let ended = self.watch(&job, work).await;
        if ended.is_err() {
            traces::failed();
        }
        self.last_word(&job).await;
        self.ends.tell(job.leased, ended, cause, self.context.stop.is_cancelled()).await;
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
                    let message = format!("it was asked to end and went on for {seconds} s, so it was ended");
                    Failure { message, retry: self.context.stop.is_cancelled() }
                }
                false => Failure::passing(format!("the handler panicked: {error}")),
            })
        })
    }

    /// Stores what the handler said last, if anything.
    async fn last_word(&self, job: &Job) {
        let silent = {
            let said = job.said();
            said.progress.is_none() && said.lines.is_empty()
        };
        if !silent {
            self.keep(job).await;
        }
    }

    /// Extends the lease and stores what the handler said; false if the job should end.
    async fn keep(&self, job: &Job) -> bool {
        let Ok(mut conn) = self.context.db.acquire().await else { return true }; // the lease may outlast the outage
        let (progress, lines) = job.said().take();
        if !lines.is_empty()
            && let Err(error) = storage::jobs::say(&mut conn, job.leased.id, &lines).await
        {
            tracing::warn!(%error, "what the job said could not be stored");
        }
        let lease = self.context.config.jobs.lease();
        storage::jobs::heartbeat(&mut conn, &job.leased, progress.as_ref(), lease).await.unwrap_or(true)
    }
}
