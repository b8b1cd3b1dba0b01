//! Monitors: labels, drift and calibration verdicts, incidents and their delivery, and the schedules that start it all.
//!
//! Belongs here: judging served predictions and telling people. Not here: serving them (`gpt-worker`), training
//! (`gpt-worker`, asked for by a job), which version serves (`registry`). Services meet in rows and files only.
//!
//! Invariants: a verdict comes with its interval and the number of rows behind it; a window's findings, what the watches
//! make of them and the messages that follow are one transaction; nothing here asks the machine for the time.

mod backtest;
mod channels;
pub mod compare;
#[cfg(test)]
mod decade;
mod delivery;
mod drift;
mod embedding;
mod error;
#[cfg(test)]
mod flights;
mod http;
mod incidents;
mod jobs;
mod labels;
mod loops;
mod metrics;
mod outcomes;
mod picture;
mod profiles;
mod ranking;
mod reference;
mod reports;
mod run;
mod schedules;
mod segments;
mod shifted;
mod silences;
mod telling;
mod words;

use axum::Router;
use domain::definitions::{Definitions, Monitor};
use service_kit::Context;
use service_kit::jobs::{Failure, Handlers, Outcome};

pub use delivery::secrets::Secrets;
pub use error::Error;
pub use loops::tell_outcomes;
pub use schedules::fire_due;

use delivery::Sender;
use delivery::courier::Courier;
use jobs::RunMonitorJob;
use metrics::Metrics;

/// The column of logged predictions, and of references, that holds what was answered.
pub(crate) const SCORE: &str = "probability";

/// The HTTP routes.
pub fn router(context: Context) -> Router {
    http::routes(context)
}

/// Makes this service's metrics, for a process that only tells of them.
pub fn make_metrics(metering: &service_kit::metrics::Metering) {
    Metrics::made(metering);
}

/// Starts the job handlers and the scheduler; they end when the context stops. Once a process.
///
/// # Errors
/// If the client that delivers notifications cannot be made.
pub fn start(context: &Context) -> anyhow::Result<()> {
    let metrics = Metrics::of(context);
    service_kit::jobs::start(context, runs(context, &metrics));
    context.tasks.spawn(Courier::new(context, &metrics, Sender::new(context)?).run());
    let scheduling = context.clone();
    // The scheduler hears of the stop by itself: it has to be shut down before its task may end.
    context.tasks.spawn(async move {
        if let Err(error) = schedules::tick(scheduling.clone()).await {
            tracing::error!(error = format!("{error:#}"), "the scheduler ended; the process stops");
            scheduling.stop.cancel();
        }
    });
    Ok(())
}

fn runs(context: &Context, metrics: &Metrics) -> Handlers {
    let (context, metrics) = (context.clone(), metrics.clone());
    Handlers::default().on(RunMonitorJob::KIND, move |job| {
        let (context, metrics) = (context.clone(), metrics.clone());
        async move {
            let asked: RunMonitorJob = job.payload()?;
            let until = asked.until.unwrap_or_else(|| context.clock.now());
            let summary = run::run(&context, &metrics, &asked.project, &asked.monitor, until).await?;
            let answer = serde_json::to_value(summary).map_err(|error| Failure::last(error.to_string()))?;
            Ok(Outcome { answer, next: Vec::new() })
        }
    })
}

/// The monitor of that name.
fn named<'a>(definitions: &'a Definitions, name: &str) -> Result<&'a Monitor, storage::Error> {
    definitions.monitor(name).ok_or_else(|| storage::Error::not_found(format!("monitor `{name}`")))
}
