//! Schedules: which are due, and the tick that asks every second on the one process that leads.
//!
//! A schedule is looked after from the moment it is first seen; firings that were missed since are made up for by one.

use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use chrono_tz::Tz;
use domain::definitions::{Action, Definitions, Object, Schedule};
use serde_json::json;
use service_kit::Context;
use storage::jobs::NewJob;
use tokio::sync::Mutex;
use tokio_cron_scheduler::{Job, JobScheduler};

use crate::Error;
use crate::jobs::{RunMonitorJob, retrain};

/// The lease that the leader holds, how long it lasts, and how often it is extended.
const LEASE: &str = "scheduler";
const LEASE_LASTS: TimeDelta = TimeDelta::seconds(10);
const LEASE_EXTENDED: TimeDelta = TimeDelta::seconds(3);

/// Enqueues what became due since each schedule was last looked at, by the platform's clock; answers the names of the
/// schedules that fired. A schedule seen for the first time only begins.
///
/// # Errors
/// [`Error`] if the database refuses. A schedule that cannot be read is logged and holds up no other.
pub async fn fire_due(context: &Context) -> Result<Vec<String>, Error> {
    let project = &context.config.project;
    let mut conn = context.db.acquire().await?;
    let definitions = storage::definitions::load(&mut conn, project).await?;
    drop(conn);
    let mut fired = Vec::new();
    for schedule in schedules(&definitions) {
        match fire_if_due(context, &definitions, schedule).await {
            Ok(true) => fired.push(schedule.name.clone()),
            Ok(false) => {}
            Err(error @ Error::Schedule { .. }) => tracing::warn!(%error, "a schedule was passed over"),
            Err(error) => return Err(error),
        }
    }
    Ok(fired)
}

pub(crate) fn schedules(definitions: &Definitions) -> impl Iterator<Item = &Schedule> {
    definitions.objects().filter_map(|located| match &located.object {
        Object::Schedule(schedule) => Some(schedule),
        _ => None,
    })
}

async fn fire_if_due(
    context: &Context,
    definitions: &Definitions,
    schedule: &Schedule,
) -> Result<bool, Error> {
    let (project, now) = (&context.config.project, context.clock.now());
    let mut tx = context.db.begin().await?;
    let Some(seen) = storage::schedules::lock(&mut tx, project, &schedule.name).await? else {
        storage::schedules::begin(&mut tx, project, &schedule.name, now).await?;
        tx.commit().await?;
        return Ok(false);
    };
    let Some(due) = latest(schedule, seen.until, now)? else { return Ok(false) };
    let job = action(project, definitions, schedule, due, now)?;
    storage::jobs::enqueue(&mut tx, &job, now).await?;
    storage::schedules::fired(&mut tx, project, &schedule.name, due).await?;
    tx.commit().await?;
    Ok(true)
}

fn action(
    project: &str,
    definitions: &Definitions,
    schedule: &Schedule,
    due: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<NewJob, Error> {
    match &schedule.action {
        Action::Monitor(monitor) => {
            let job = RunMonitorJob { project: project.to_owned(), monitor: monitor.clone(), until: None };
            Ok(job.row(&due.to_rfc3339(), now))
        }
        Action::Train(name) => {
            let model =
                definitions.model(name).ok_or_else(|| unreadable(schedule, "its model is not declared"))?;
            Ok(retrain(project, name, &model.dataset, &json!({ "schedule": schedule.name }), now))
        }
    }
}

/// The latest firing in `(after, now]`.
fn latest(
    schedule: &Schedule,
    after: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, Error> {
    let (times, zone) = read(schedule)?;
    let next_second = (now.trunc_subsecs(0) + TimeDelta::seconds(1)).with_timezone(&zone);
    let latest = times.after(&next_second).rev().map(|at| at.with_timezone(&Utc)).find(|at| *at <= now);
    Ok(latest.filter(|at| *at > after))
}

/// The next firings after `now`.
pub(crate) fn upcoming(
    schedule: &Schedule,
    now: DateTime<Utc>,
    count: usize,
) -> Result<Vec<DateTime<Utc>>, Error> {
    let (times, zone) = read(schedule)?;
    Ok(times.after(&now.with_timezone(&zone)).take(count).map(|at| at.with_timezone(&Utc)).collect())
}

fn read(schedule: &Schedule) -> Result<(cron::Schedule, Tz), Error> {
    let times = cron::Schedule::from_str(&schedule.cron).map_err(|error| unreadable(schedule, error))?;
    let zone = schedule.time_zone.parse().map_err(|_| {
        unreadable(
            schedule,
            format!("`{}` is no time zone; write one such as `Europe/Berlin`", schedule.time_zone),
        )
    })?;
    Ok((times, zone))
}

fn unreadable(schedule: &Schedule, why: impl std::fmt::Display) -> Error {
    Error::Schedule { name: schedule.name.clone(), why: why.to_string() }
}

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
    context.stop.cancelled().await;
    scheduler.shutdown().await?;
    leader.lock().await.resign().await?;
    Ok(())
}

/// The process that may lead, and until when it surely does.
struct Leader {
    context: Context,
    holder: String,
    extended_at: Option<DateTime<Utc>>,
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
            let causes = service_kit::problem::causes(&error);
            tracing::warn!(%error, causes, "the schedules could not be looked after");
        }
    }

    async fn look(&mut self) -> Result<(), Error> {
        if self.leads().await? {
            fire_due(&self.context).await?;
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

    async fn leads(&mut self) -> Result<bool, Error> {
        let now = self.context.machine_clock.now();
        if self.extended_at.is_some_and(|at| now - at < LEASE_EXTENDED) {
            return Ok(true);
        }
        let mut conn = self.context.db.acquire().await?;
        let held = storage::leases::hold(&mut conn, LEASE, &self.holder, now + LEASE_LASTS, now).await?;
        self.extended_at = held.then_some(now);
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn nightly(time_zone: &str) -> Schedule {
        Schedule {
            name: "nightly".to_owned(),
            cron: "0 30 2 * * *".to_owned(),
            time_zone: time_zone.to_owned(),
            action: Action::Monitor("flights".to_owned()),
        }
    }

    #[test]
    fn a_firing_at_this_very_second_is_due_and_a_later_one_is_not() {
        let seen = at("2013-11-01T00:00:00Z");
        assert_eq!(latest(&nightly("UTC"), seen, at("2013-11-01T02:29:59.999Z")).unwrap(), None);
        let due = at("2013-11-01T02:30:00Z");
        assert_eq!(latest(&nightly("UTC"), seen, due).unwrap(), Some(due));
        assert_eq!(latest(&nightly("UTC"), seen, at("2013-11-01T02:30:00.5Z")).unwrap(), Some(due));
    }

    #[test]
    fn a_firing_that_was_seen_is_not_due_again_and_missed_ones_count_once() {
        let due = at("2013-11-03T02:30:00Z");
        let now = at("2013-11-03T12:00:00Z");
        assert_eq!(latest(&nightly("UTC"), at("2013-11-01T00:00:00Z"), now).unwrap(), Some(due));
        assert_eq!(latest(&nightly("UTC"), due, now).unwrap(), None);
    }

    #[test]
    fn the_fields_are_read_in_the_schedules_own_zone() {
        // New York left daylight time on 2013-11-03 at 06:00 UTC
        let next = upcoming(&nightly("America/New_York"), at("2013-11-02T00:00:00Z"), 2).unwrap();
        assert_eq!(next, [at("2013-11-02T06:30:00Z"), at("2013-11-03T07:30:00Z")]);
    }

    #[test]
    fn an_unknown_zone_is_refused_by_name() {
        let refusal =
            upcoming(&nightly("Mars/Olympus"), at("2013-11-02T00:00:00Z"), 1).unwrap_err().to_string();
        assert!(refusal.contains("Mars/Olympus"), "{refusal}");
    }
}
