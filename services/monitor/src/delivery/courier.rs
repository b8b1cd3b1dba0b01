//! The courier: empties the outbox, one lane a channel.
//!
//! A lane takes its channel's messages in order, one at a time. A receiver that is away holds up its own lane only, and what
//! waits there is no job: nothing that waits for jobs waits for it. Retries are due by the platform's clock, receivers live by
//! the machine's, and leases by Postgres's.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use domain::definitions::{Channel, Definitions, Target};
use domain::incident::Phase;
use service_kit::Context;
use storage::notifications::Notification;
use tokio::sync::Notify;

use super::alertmanager::Alert;
use super::message::Message;
use super::{Again, Parcel, Sender};
use crate::Error;
use crate::metrics::Metrics;

/// How long a message may be in one process's hands; longer than any receiver may take.
const LEASE: TimeDelta = TimeDelta::seconds(60);
/// A message that its receiver does not want is a dead letter after so many tries.
const UNWANTED_TRIES: i32 = 5;
/// A message is a dead letter after this long and so many tries.
const GIVE_UP_AFTER: TimeDelta = TimeDelta::days(3);
const LEAST_TRIES: i32 = 20;
/// Retries are at most this far apart.
const LONGEST_PAUSE: TimeDelta = TimeDelta::minutes(10);
/// An Alertmanager is told of an end again for this long.
const ENDS_TOLD_FOR: TimeDelta = TimeDelta::minutes(5);

/// The outbox as seen from this process: which lanes are at work, and a bell for new messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox(Arc<Lanes>);

#[derive(Debug, Default)]
struct Lanes {
    bell: Notify,
    busy: Mutex<BTreeSet<String>>,
}

impl Outbox {
    /// The outbox of this process.
    pub(crate) fn of(context: &Context) -> Self {
        context.shared(|_| Self::default())
    }

    /// Says that messages may wait. Another process finds them at its next look.
    pub(crate) fn ring(&self) {
        self.0.bell.notify_one();
    }

    /// Takes a lane, unless it is at work.
    fn enter(&self, lane: &str) -> Option<Entered> {
        let mut busy = self.0.busy.lock().expect("no holder of this lock can panic");
        busy.insert(lane.to_owned()).then(|| Entered { outbox: self.clone(), lane: lane.to_owned() })
    }
}

/// A lane at work; free again when this is dropped.
struct Entered {
    outbox: Outbox,
    lane: String,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.outbox.0.busy.lock().expect("no holder of this lock can panic").remove(&self.lane);
    }
}

/// Whoever carries messages from the outbox to channels.
#[derive(Clone)]
pub(crate) struct Courier {
    context: Context,
    metrics: Metrics,
    sender: Sender,
    outbox: Outbox,
}

impl Courier {
    /// The courier of this process.
    pub(crate) fn new(context: &Context, metrics: &Metrics, sender: Sender) -> Self {
        Self { context: context.clone(), metrics: metrics.clone(), sender, outbox: Outbox::of(context) }
    }

    /// Looks for messages when the bell rings and every now and then, until the context stops.
    pub(crate) async fn run(self) {
        let mut standing = Standing::default();
        while !self.context.stop.is_cancelled() {
            if let Err(error) = self.look(&mut standing).await {
                let causes = service_kit::problem::causes(&error);
                tracing::warn!(%error, causes, "the outbox could not be looked at");
            }
            tokio::select! {
                () = self.outbox.0.bell.notified() => {}
                () = tokio::time::sleep(self.context.config.jobs.poll()) => {}
                () = self.context.stop.cancelled() => {}
            }
        }
    }

    async fn look(&self, standing: &mut Standing) -> Result<(), Error> {
        let project = &self.context.config.project;
        let (due, now) = (self.context.clock.now(), self.context.machine_clock.now());
        let mut conn = self.context.db.acquire().await?;
        let lanes = storage::notifications::due_channels(&mut conn, project, due).await?;
        let definitions = storage::definitions::load(&mut conn, project).await?;
        drop(conn);
        for lane in lanes {
            if let Some(entered) = self.outbox.enter(&lane) {
                self.context.tasks.spawn(self.clone().walk(entered));
            }
        }
        for channel in channels(&definitions) {
            self.repeat(standing, &definitions, channel, now).await?;
        }
        Ok(())
    }

    /// Carries what is due in a lane; stops at the first message that is not taken.
    async fn walk(self, entered: Entered) {
        loop {
            let carried = tokio::select! {
                carried = self.carry_next(&entered.lane) => carried,
                () = self.context.stop.cancelled() => return, // the lease runs out, and another process tries
            };
            match carried {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    let causes = service_kit::problem::causes(&error);
                    return tracing::warn!(channel = entered.lane, %error, causes, "a lane of the outbox halted");
                }
            }
        }
    }

    /// Whether a message left the lane.
    async fn carry_next(&self, lane: &str) -> Result<bool, Error> {
        let project = &self.context.config.project;
        let (due, now) = (self.context.clock.now(), self.context.machine_clock.now());
        let mut conn = self.context.db.acquire().await?;
        let claimed = storage::notifications::claim(&mut conn, project, lane, LEASE, due).await?;
        let Some(note) = claimed else { return Ok(false) };
        let definitions = storage::definitions::load(&mut conn, project).await?;
        let Some(channel) = definitions.channel(lane) else {
            let why = format!("channel `{lane}` is not declared any more");
            storage::notifications::failed(&mut conn, note.id, &why, None).await?;
            self.count(lane, "dead");
            return Ok(true);
        };
        let minute = due - TimeDelta::minutes(1);
        let sent = storage::notifications::delivered_since(&mut conn, project, lane, minute).await?;
        if sent >= i64::from(channel.messages_per_minute) {
            storage::notifications::defer(&mut conn, note.id, due + TimeDelta::minutes(1)).await?;
            self.count(lane, "deferred");
            return Ok(false);
        }
        drop(conn); // a slow receiver must not hold a connection
        self.carry(channel, &note, now).await
    }

    async fn carry(&self, channel: &Channel, note: &Notification, now: DateTime<Utc>) -> Result<bool, Error> {
        let began = std::time::Instant::now();
        let sent = match serde_json::from_value::<Message>(note.payload.clone()) {
            Ok(message) => {
                let parcel = Parcel { id: note.id, message: &message, now };
                self.sender
                    .send(channel, parcel)
                    .await
                    .map_err(|refusal| (refusal.to_string(), refusal.again))
            }
            Err(error) => Err((format!("the stored message cannot be read: {error}"), Again::Unlikely)),
        };
        self.metrics
            .notification_seconds
            .with_label_values(&[channel.name.as_str()])
            .observe(began.elapsed().as_secs_f64());
        let due = self.context.clock.now();
        let mut conn = self.context.db.acquire().await?;
        let Err((why, again)) = sent else {
            storage::notifications::delivered(&mut conn, note.id, due).await?;
            self.count(&channel.name, "delivered");
            return Ok(true);
        };
        let next = next_try(note.attempts + 1, note.created_at, again, due);
        storage::notifications::failed(&mut conn, note.id, &why, next).await?;
        self.count(&channel.name, if next.is_none() { "dead" } else { "queued" });
        tracing::warn!(notification = %note.id, dead = next.is_none(), "not delivered: {why}");
        Ok(next.is_none())
    }

    fn count(&self, channel: &str, state: &str) {
        self.metrics.notifications.with_label_values(&[channel, state]).inc();
    }

    /// Tells an Alertmanager what is still so, and what has just ended, when its time has come.
    async fn repeat(
        &self,
        standing: &mut Standing,
        definitions: &Definitions,
        channel: &Channel,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let Some(Target::Alertmanager(address)) = channel.target() else { return Ok(()) };
        if !standing.is_due(channel, now) {
            return Ok(());
        }
        let alerts = self.standing(definitions, channel, now).await?;
        let Some(entered) = self.outbox.enter(&format!("{} (repeated)", channel.name)) else { return Ok(()) };
        if alerts.is_empty() {
            return Ok(());
        }
        let (courier, channel, address) = (self.clone(), channel.clone(), address.to_owned());
        self.context.tasks.spawn(async move {
            let told = tokio::select! {
                told = courier.sender.stands(&channel, &address, &alerts) => told,
                () = courier.context.stop.cancelled() => return,
            };
            courier.count(&channel.name, if told.is_ok() { "repeated" } else { "not-repeated" });
            if let Err(refusal) = told {
                tracing::warn!("what is still so was not repeated: {refusal}");
            }
            drop(entered);
        });
        Ok(())
    }

    async fn standing(
        &self,
        definitions: &Definitions,
        channel: &Channel,
        now: DateTime<Utc>,
    ) -> Result<Vec<Alert>, Error> {
        let project = &self.context.config.project;
        let time = self.context.clock.now();
        let mut conn = self.context.db.acquire().await?;
        let incidents = storage::incidents::standing(&mut conn, project, time - ENDS_TOLD_FOR).await?;
        let tells = |monitor: &str| {
            definitions.monitor(monitor).is_some_and(|monitor| monitor.channels.contains(&channel.name))
        };
        let hushed = Phase::Silenced.as_str();
        let told = incidents.iter().filter(|incident| tells(&incident.monitor) && incident.state != hushed);
        let said = told.filter_map(|incident| {
            let event = if incident.resolved_at.is_some() { "resolved" } else { "opened" };
            let wanted = event == "opened" || channel.send_resolved;
            wanted.then(|| Message::about(project, incident, event, time).linked_to(channel.links.as_deref()))
        });
        Ok(said.map(|message| Alert::of(&message, channel.resend_seconds, now)).collect())
    }
}

fn channels(definitions: &Definitions) -> impl Iterator<Item = &Channel> {
    definitions.names("channel").into_iter().filter_map(|name| definitions.channel(name))
}

/// When each Alertmanager was last told what is still so, by the machine's clock.
#[derive(Debug, Default)]
struct Standing(std::collections::BTreeMap<String, DateTime<Utc>>);

impl Standing {
    fn is_due(&mut self, channel: &Channel, now: DateTime<Utc>) -> bool {
        let pause = TimeDelta::seconds(i64::from(channel.resend_seconds));
        if self.0.get(&channel.name).is_some_and(|last| now - *last < pause) {
            return false;
        }
        self.0.insert(channel.name.clone(), now);
        true
    }
}

/// When a message that was tried `tries` times is tried again; `None`: it is a dead letter.
fn next_try(
    tries: i32,
    created_at: DateTime<Utc>,
    again: Again,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let unwanted = again == Again::Unlikely && tries >= UNWANTED_TRIES;
    if unwanted || (tries >= LEAST_TRIES && now - created_at > GIVE_UP_AFTER) {
        return None;
    }
    let backoff = TimeDelta::seconds(1 << tries.clamp(1, 10).saturating_sub(1)); // 1, 2, 4, … seconds
    let pause = match again {
        Again::After(asked) => asked.max(backoff),
        Again::Later | Again::Unlikely => backoff,
    };
    Some(now + pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    const WRITTEN: &str = "2026-11-24T03:00:00Z";

    fn pause(tries: i32, again: Again) -> Option<TimeDelta> {
        let now = at(WRITTEN);
        next_try(tries, now, again, now).map(|next| next - now)
    }

    #[test]
    fn pauses_double_up_to_ten_minutes() {
        assert_eq!(pause(1, Again::Later), Some(TimeDelta::seconds(1)));
        assert_eq!(pause(4, Again::Later), Some(TimeDelta::seconds(8)));
        assert_eq!(pause(50, Again::Later), Some(TimeDelta::seconds(512)));
        assert_eq!(pause(1, Again::After(TimeDelta::hours(2))), Some(LONGEST_PAUSE));
        assert_eq!(pause(1, Again::After(TimeDelta::seconds(40))), Some(TimeDelta::seconds(40)));
    }

    #[test]
    fn a_receiver_that_is_away_has_three_days_and_an_unwanted_message_five_tries() {
        let later = at(WRITTEN) + GIVE_UP_AFTER + TimeDelta::seconds(1);
        assert!(next_try(LEAST_TRIES, at(WRITTEN), Again::Later, at(WRITTEN)).is_some());
        assert!(next_try(LEAST_TRIES - 1, at(WRITTEN), Again::Later, later).is_some()); // the clock jumped
        assert!(next_try(LEAST_TRIES, at(WRITTEN), Again::Later, later).is_none());
        assert_eq!(pause(5, Again::Unlikely), None);
    }

    #[test]
    fn a_lane_is_walked_by_one_at_a_time() {
        let outbox = Outbox::default();
        let entered = outbox.enter("people").unwrap();
        assert!(outbox.enter("people").is_none());
        assert!(outbox.enter("others").is_some());
        drop(entered);
        assert!(outbox.enter("people").is_some());
    }
}
