//! The ends of jobs: those that come at about the same time are stored in one transaction, which costs the disk as much as one.

use std::collections::HashSet;
use std::time::Instant;

use chrono::TimeDelta;
use domain::ids::JobId;
use domain::{Fault, Remedy};
use serde_json::Value;
use storage::jobs::{Cause, Leased, caused_by};
use tokio::sync::mpsc;

use super::{Failure, Outcome};
use crate::Context;
use crate::metrics::Metrics;
use crate::problem::causes;

/// So many ends are stored at once, and so many may wait for it: past that, hands wait too.
const AT_ONCE: usize = 64;
/// How long to wait before the database is asked again.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(250);

/// Where ends are told.
pub(super) struct Ends(mpsc::Sender<End>);

struct End {
    job: Leased,
    how: Result<Outcome, Failure>,
    cause: Cause,
    /// Whether it ended because its process stops, and is for another one to do.
    given_back: bool,
}

impl Ends {
    /// Begins to store ends; goes on until nobody can tell of one any more.
    pub(super) fn start(context: &Context) -> Self {
        let (tell, mut told) = mpsc::channel(AT_ONCE);
        let keeper = Keeper { context: context.clone() };
        context.tasks.spawn(async move {
            let mut ends = Vec::new();
            while told.recv_many(&mut ends, AT_ONCE).await > 0 {
                keeper.store(&ends).await;
                ends.clear();
            }
        });
        Self(tell)
    }

    /// Has it stored how a job ended, and what follows from it under `cause`. The lease still holds for that long, so the hand
    /// that did the job need not wait. One that fails in a way that may pass while its process is `stopping` is given back.
    pub(super) async fn tell(
        &self,
        job: Leased,
        how: Result<Outcome, Failure>,
        cause: Cause,
        stopping: bool,
    ) {
        let given_back = stopping && how.as_ref().is_err_and(|failure| failure.retry);
        if self.0.send(End { job, how, cause, given_back }).await.is_err() {
            tracing::error!("nobody stores the ends of jobs any more: their leases will run out");
        }
    }
}

struct Keeper {
    context: Context,
}

impl Keeper {
    async fn store(&self, ends: &[End]) {
        match self.write(ends).await {
            Ok(held) => self.note(ends, &held),
            Err(_) => {
                // one of them may be at fault, or the database is away: each on its own, as long as its lease may last
                let began = Instant::now();
                for end in ends {
                    self.store_one(end, began).await;
                }
            }
        }
    }

    async fn store_one(&self, end: &End, began: Instant) {
        let patience = self.context.config.jobs.lease().to_std().unwrap_or_default();
        loop {
            match self.write(std::slice::from_ref(end)).await {
                Ok(held) => return self.note(std::slice::from_ref(end), &held),
                Err(error) if error.remedy() == Remedy::RetryLater && began.elapsed() < patience => {
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => {
                    tracing::error!(job.id = %end.job.id, %error, causes = causes(&error), "the job's end could not be stored");
                    return;
                }
            }
        }
    }

    /// Stores ends and enqueues what follows; answers the jobs that were still held.
    async fn write(&self, ends: &[End]) -> Result<HashSet<JobId>, storage::Error> {
        let well: Vec<(&Leased, &Value)> =
            ends.iter().filter_map(|end| Some((&end.job, &end.how.as_ref().ok()?.answer))).collect();
        let mut tx = self.context.db.begin().await?;
        let mut held =
            if well.is_empty() { HashSet::new() } else { storage::jobs::succeed(&mut tx, &well).await? };
        for end in ends {
            match &end.how {
                Ok(outcome) if held.contains(&end.job.id) => follow(&mut tx, &end.cause, outcome).await?,
                Ok(_) => {}
                Err(failure) if end.given_back => {
                    if storage::jobs::give_back(&mut tx, &end.job, &failure.message).await? {
                        held.insert(end.job.id);
                    }
                }
                Err(failure) => {
                    let retry_in = failure.retry.then(|| backoff(end.job.attempts));
                    if storage::jobs::fail(&mut tx, &end.job, &failure.message, retry_in).await? {
                        held.insert(end.job.id);
                    }
                }
            }
        }
        tx.commit().await?;
        Ok(held)
    }

    fn note(&self, ends: &[End], held: &HashSet<JobId>) {
        let metrics = Metrics::of(&self.context);
        for End { job, how, given_back, .. } in ends {
            if !held.contains(&job.id) {
                tracing::warn!(job.id = %job.id, "the lease had been lost; another worker has the job");
                continue;
            }
            if *given_back {
                tracing::info!(job.id = %job.id, "given back, for another process to do");
                continue;
            }
            if let Err(failure) = how {
                let request = job.request_id.as_deref();
                tracing::warn!(
                    job.id = %job.id, request.id = request, retry = failure.retry, "job failed: {}", failure.message
                );
            }
            let how = if how.is_ok() { "succeeded" } else { "failed" };
            metrics.jobs_ended.with_label_values(&[job.kind.as_str(), how]).inc();
        }
    }
}

/// Enqueues what follows from a job, in its chain.
async fn follow(
    conn: &mut sqlx::PgConnection,
    cause: &Cause,
    outcome: &Outcome,
) -> Result<(), storage::Error> {
    for next in &outcome.next {
        caused_by(cause.clone(), storage::jobs::enqueue(conn, next)).await?;
    }
    Ok(())
}

/// 1, 2, 4, … seconds, at most ten minutes.
fn backoff(attempts: i32) -> TimeDelta {
    TimeDelta::seconds(1i64 << attempts.clamp(1, 10).saturating_sub(1)).min(TimeDelta::minutes(10))
}
