//! Schedules: which ticks are due and what becomes of each, the process that leads, and the routes that show and steer them.
//!
//! A schedule is looked after from the moment it is first seen. What becomes of a tick is a row, written in the transaction
//! that enqueues its job: two processes that both take themselves for the leader start nothing twice.

mod leader;
pub(crate) mod routes;
mod start;

use chrono::{DateTime, TimeDelta, Utc};
use domain::definitions::{CatchUp, Definitions, Object, Overlap, Schedule};
use domain::ids::JobId;
use domain::timetable::Timetable;
use service_kit::Context;
use sqlx::PgConnection;
use storage::schedules::NewTick;

use crate::Error;

pub(crate) use leader::tick;

/// How late a tick may happen that is not to be made up for.
const LATE: TimeDelta = TimeDelta::seconds(60);

/// Starts what became due since each schedule was last looked at, by the platform's clock; answers the names of the
/// schedules that ticked. A schedule seen for the first time only begins.
///
/// # Errors
/// [`Error`] if the database refuses. A schedule that cannot be read is logged and holds up no other.
pub async fn fire_due(context: &Context) -> Result<Vec<String>, Error> {
    let project = &context.config.project;
    let mut conn = context.db.acquire().await?;
    let definitions = storage::definitions::load(&mut conn, project).await?;
    let ahead = context.machine_clock.now() - storage::leases::now(&mut conn).await?;
    drop(conn);
    let mut fired = Vec::new();
    for schedule in schedules(&definitions) {
        let turn =
            Turn { project, definitions: &definitions, schedule, now: set_right(context.clock.now(), ahead) };
        match look(context, &turn).await {
            Ok(true) => fired.push(schedule.name.clone()),
            Ok(false) => {}
            Err(error @ Error::Schedule { .. }) => tracing::warn!(%error, "a schedule was passed over"),
            Err(error) => return Err(error),
        }
    }
    Ok(fired)
}

/// The platform's time, without what the machine's clock is ahead of Postgres's if that is much: a clock that jumped an hour would
/// have all ticks of that hour happen at once, and none while others go by the right time.
fn set_right(now: DateTime<Utc>, ahead: TimeDelta) -> DateTime<Utc> {
    if ahead.abs() > LATE { now - ahead } else { now }
}

pub(crate) fn schedules(definitions: &Definitions) -> impl Iterator<Item = &Schedule> {
    definitions.objects().filter_map(|located| match &located.object {
        Object::Schedule(schedule) => Some(schedule),
        _ => None,
    })
}

/// One look at one schedule, in one transaction.
async fn look(context: &Context, turn: &Turn<'_>) -> Result<bool, Error> {
    let timetable = turn.timetable()?;
    let mut tx = context.db.begin().await?;
    let Some(seen) = storage::schedules::lock(&mut tx, turn.project, &turn.schedule.name).await? else {
        storage::schedules::begin(&mut tx, turn.project, &turn.schedule.name, turn.now).await?;
        tx.commit().await?;
        return Ok(false);
    };
    if seen.paused_at.is_some() {
        return Ok(false);
    }
    let waited = turn.let_in(&mut tx).await?;
    let ticks = turn.due(&timetable, seen.until);
    for tick in &ticks {
        turn.happen(&mut tx, *tick, &late(turn, *tick)).await?;
        storage::schedules::fired(&mut tx, turn.project, &turn.schedule.name, *tick).await?;
    }
    tx.commit().await?;
    Ok(waited || !ticks.is_empty())
}

fn late(turn: &Turn<'_>, tick: DateTime<Utc>) -> String {
    let missed_by = turn.now - tick;
    if missed_by <= LATE {
        String::new()
    } else {
        format!("made up for {} min late", missed_by.num_minutes())
    }
}

/// A schedule at a moment.
struct Turn<'a> {
    project: &'a str,
    definitions: &'a Definitions,
    schedule: &'a Schedule,
    now: DateTime<Utc>,
}

/// What became of a tick that was to happen.
enum Happened {
    /// It started this.
    Started(JobId),
    /// It waits for the end of what is at work.
    Waits,
    /// It was let go, and why.
    LetGo(&'static str),
    /// It had happened before.
    Already,
}

impl Turn<'_> {
    fn timetable(&self) -> Result<Timetable, Error> {
        Timetable::of(self.project, self.schedule)
            .map_err(|error| Error::Schedule { name: self.schedule.name.clone(), why: error.to_string() })
    }

    /// The ticks that happen now, oldest first.
    fn due(&self, timetable: &Timetable, seen: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        match self.schedule.catch_up {
            CatchUp::One => timetable.due(seen, self.now, 1).ticks,
            CatchUp::All => timetable.due(seen, self.now, self.schedule.catch_up_limit as usize).ticks,
            CatchUp::Skip => timetable.due(seen.max(self.now - LATE), self.now, 1).ticks,
        }
    }

    /// Gives the tick that has waited longest its turn, if nothing is at work any more.
    async fn let_in(&self, tx: &mut PgConnection) -> Result<bool, Error> {
        let name = &self.schedule.name;
        let waiting = storage::schedules::waiting(tx, self.project, name).await?;
        let Some(first) = waiting.first() else { return Ok(false) };
        if !storage::schedules::at_work(tx, self.project, name).await?.is_empty() {
            return Ok(false);
        }
        let job = self.start(tx, *first).await?;
        storage::schedules::end_waiting(tx, self.project, name, *first, Some(job), "").await?;
        Ok(true)
    }

    /// Lets a tick happen as the schedule's overlap policy says, and notes what became of it.
    async fn happen(&self, tx: &mut PgConnection, at: DateTime<Utc>, why: &str) -> Result<Happened, Error> {
        let name = &self.schedule.name;
        let at_work = storage::schedules::at_work(tx, self.project, name).await?;
        let waiting = storage::schedules::waiting(tx, self.project, name).await?;
        let happened = if at_work.is_empty() && waiting.is_empty() {
            Happened::Started(self.start(tx, at).await?)
        } else {
            self.overlap(tx, &at_work, &waiting).await?
        };
        let (job, waits, why) = match &happened {
            Happened::Started(job) => (Some(*job), false, why),
            Happened::Waits => (None, true, why),
            Happened::LetGo(why) => (None, false, *why),
            Happened::Already => return Ok(happened),
        };
        let tick = NewTick { project: self.project, schedule: name, at, job, waits, why };
        let new = storage::schedules::add_tick(tx, tick).await?;
        Ok(if new { happened } else { Happened::Already })
    }

    async fn overlap(
        &self,
        tx: &mut PgConnection,
        at_work: &[JobId],
        waiting: &[DateTime<Utc>],
    ) -> Result<Happened, Error> {
        match self.schedule.overlap {
            Overlap::Skip => Ok(Happened::LetGo("what an earlier tick started was still at work")),
            Overlap::Queue if waiting.len() >= self.schedule.catch_up_limit as usize => {
                Ok(Happened::LetGo("as many ticks as `catch_up_limit` says were waiting already"))
            }
            Overlap::Queue => Ok(Happened::Waits),
            Overlap::CancelRunning => {
                for job in at_work {
                    match storage::jobs::cancel(tx, *job).await {
                        Err(storage::Error::Conflict { .. }) => {} // it has just ended
                        asked => asked?,
                    }
                }
                for older in waiting {
                    let why = "a later tick took its place";
                    let name = &self.schedule.name;
                    storage::schedules::end_waiting(tx, self.project, name, *older, None, why).await?;
                }
                Ok(Happened::Waits)
            }
        }
    }
}
