//! Who leads: a lease in Postgres, by Postgres's time, that another process takes over once it has run out.
//!
//! A leader that was stopped for a while and goes on may believe for a moment that it still leads. It does no harm: each look
//! asks for the lease in its own transaction before anything, and what becomes of a tick is a row that only one can write.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use service_kit::Context;
use service_kit::problem::causes;
use tokio::sync::Mutex;
use tokio_cron_scheduler::{Job, JobScheduler};

use super::fire_due;
use crate::Error;
use crate::loops::tell_outcomes;

/// The lease that the leader holds, how long it lasts, and how often it is extended.
const LEASE: &str = "scheduler";
const LEASE_LASTS: TimeDelta = TimeDelta::seconds(6);
const LEASE_EXTENDED: Duration = Duration::from_secs(2);

/// Ticks every second until the context stops; whoever leads looks for what is due. Then gives the lease back.
pub(crate) async fn tick(context: Context) -> anyhow::Result<()> {
    let leader = Arc::new(Mutex::new(Leader::new(context.clone())));
    let mut scheduler = JobScheduler::new().await?;
    let ticking = Arc::clone(&leader);
    let each = Job::new_async("* * * * * *", move |_, _| {
        let leader = Arc::clone(&ticking);
        Box::pin(async move {
            // a tick that finds the last one at work leaves it to that
            if let Ok(mut leader) = leader.try_lock() {
                leader.look_or_warn().await;
            }
        })
    })?;
    scheduler.add(each).await?;
    scheduler.start().await?;
    look_steadily(&context, &leader).await;
    scheduler.shutdown().await?;
    leader.lock().await.resign().await?;
    Ok(())
}

/// Looks every few seconds of elapsed time as well, until the context stops: the scheduler goes by the clock on the wall, and says
/// nothing for an hour when that is set back by one.
async fn look_steadily(context: &Context, leader: &Mutex<Leader>) {
    let mut pause = tokio::time::interval(LEASE_EXTENDED);
    loop {
        tokio::select! {
            () = context.stop.cancelled() => return,
            _ = pause.tick() => {
                if let Ok(mut leader) = leader.try_lock() {
                    leader.look_or_warn().await;
                }
            }
        }
    }
}

/// The process that may lead.
struct Leader {
    context: Context,
    holder: String,
    extended_at: Option<Instant>,
}

impl Leader {
    fn new(context: Context) -> Self {
        let holder = format!("{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        Self { context, holder, extended_at: None }
    }

    async fn look_or_warn(&mut self) {
        if self.context.stop.is_cancelled() {
            return;
        }
        if let Err(error) = self.look().await {
            let causes = causes(&error);
            tracing::warn!(%error, causes, "the schedules could not be looked after");
        }
    }

    async fn look(&mut self) -> Result<(), Error> {
        if self.leads().await? {
            fire_due(&self.context).await?;
            tell_outcomes(&self.context).await?;
        }
        Ok(())
    }

    async fn resign(&mut self) -> Result<(), Error> {
        if self.extended_at.take().is_some() {
            let mut conn = self.context.db.acquire().await?;
            storage::leases::release(&mut conn, LEASE, &self.holder).await?;
        }
        Ok(())
    }

    /// Whether the lease is ours, by Postgres's word and time.
    async fn leads(&mut self) -> Result<bool, Error> {
        let mut conn = self.context.db.acquire().await?;
        if self.extended_at.is_some_and(|at| at.elapsed() < LEASE_EXTENDED)
            && storage::leases::is_held(&mut conn, LEASE, &self.holder).await?
        {
            return Ok(true);
        }
        let led = self.extended_at.is_some();
        let held = storage::leases::hold(&mut conn, LEASE, &self.holder, LEASE_LASTS).await?;
        if held != led {
            tracing::info!(holder = self.holder, leads = held, "the lead over the schedules changed hands");
        }
        self.extended_at = held.then(Instant::now);
        Ok(held)
    }
}
