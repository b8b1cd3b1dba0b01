//! Who is told what: one message a channel into the outbox, within a budget a model and day, in the caller's transaction.

use chrono::{DateTime, NaiveTime, Utc};
use domain::definitions::{Channel, Definitions, Monitor, Target};
use domain::ids::NotificationId;
use domain::incident::Severity;
use domain::silence::Subject;
use sqlx::PgConnection;
use storage::incidents::Incident;
use storage::notifications::NewNotification;

use crate::Error;
use crate::delivery::message::{Links, Message};

/// Writes a monitor's messages.
#[derive(Clone, Copy)]
pub(crate) struct Teller<'a> {
    /// Where the channels are declared.
    pub(crate) definitions: &'a Definitions,
    /// Who tells.
    pub(crate) monitor: &'a Monitor,
    /// The project.
    pub(crate) project: &'a str,
    /// The platform's time.
    pub(crate) now: DateTime<Utc>,
}

/// Whether a silence covers an incident of that description now.
pub(crate) async fn is_silenced(
    conn: &mut PgConnection,
    project: &str,
    subject: Subject<'_>,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let silences = storage::silences::in_force(conn, project, now).await?;
    Ok(silences.iter().any(|stored| stored.silence.covers(subject, now)))
}

impl Teller<'_> {
    /// Tells every channel of the monitor that `event` happened to an incident whose latest window ended at `until`.
    pub(crate) async fn tell(
        &self,
        conn: &mut PgConnection,
        incident: &Incident,
        event: &'static str,
        until: DateTime<Utc>,
    ) -> Result<(), Error> {
        for name in &self.monitor.channels {
            let channel = self.definitions.channel(name);
            if !self.is_news(conn, name, channel, incident, event).await? {
                continue;
            }
            let message = Message::about(self.project, incident, event, until);
            let held_back = event != "resolved" && self.is_over_budget(conn, name, channel, incident).await?;
            self.write(conn, name, message, event, Some(incident), held_back).await?;
        }
        Ok(())
    }

    /// An opening is told once, an end only to those who were told of the beginning and want to know.
    async fn is_news(
        &self,
        conn: &mut PgConnection,
        name: &str,
        channel: Option<&Channel>,
        incident: &Incident,
        event: &str,
    ) -> Result<bool, Error> {
        match event {
            "opened" => Ok(!storage::notifications::was_told(conn, name, incident.id).await?),
            "resolved" => Ok(channel.is_none_or(|channel| channel.send_resolved)
                && storage::notifications::was_told(conn, name, incident.id).await?),
            _ => Ok(true),
        }
    }

    /// Pages are always told; an Alertmanager gathers and limits by itself.
    async fn is_over_budget(
        &self,
        conn: &mut PgConnection,
        name: &str,
        channel: Option<&Channel>,
        incident: &Incident,
    ) -> Result<bool, Error> {
        let gathers = matches!(channel.and_then(Channel::target), Some(Target::Alertmanager(_)));
        if gathers || incident.severity == Severity::Page.as_str() {
            return Ok(false);
        }
        let model = &incident.registered_model;
        let told = storage::notifications::told_since(conn, self.project, name, model, self.today()).await?;
        Ok(told >= i64::from(self.monitor.notifications_per_day))
    }

    fn today(&self) -> DateTime<Utc> {
        self.now.date_naive().and_time(NaiveTime::MIN).and_utc()
    }

    /// What a channel was not told on an earlier day and has not heard of since is told in one message.
    pub(crate) async fn digest(&self, conn: &mut PgConnection) -> Result<(), Error> {
        for name in &self.monitor.channels {
            let model = &self.monitor.model;
            let held_back = storage::notifications::held_back(conn, self.project, name, model).await?;
            let Some((first, _)) = held_back.first().filter(|(written, _)| *written < self.today()) else {
                continue;
            };
            let message = self.digest_message(*first, held_back.len());
            self.write(conn, name, message, "digest", None, false).await?;
        }
        Ok(())
    }

    fn digest_message(&self, since: DateTime<Utc>, count: usize) -> Message {
        let (model, monitor) = (&self.monitor.model, &self.monitor.name);
        Message {
            format: 1,
            event: "digest".to_owned(),
            incident: None,
            project: self.project.to_owned(),
            monitor: monitor.clone(),
            model: model.clone(),
            version: 0,
            cause: "digest".to_owned(),
            severity: Severity::Ticket.as_str().to_owned(),
            summary: format!("{count} messages about `{model}` were held back by the day's budget"),
            since,
            opened_at: since,
            resolved_at: None,
            moved: Vec::new(),
            held_back: Vec::new(),
            links: Links {
                incident: "/v1/incidents".to_owned(),
                windows: format!("/v1/monitors/{monitor}/windows"),
            },
        }
    }

    /// Writes a message; if it is to be sent, it also says what was held back before it.
    async fn write(
        &self,
        conn: &mut PgConnection,
        channel: &str,
        mut message: Message,
        event: &'static str,
        incident: Option<&Incident>,
        held_back: bool,
    ) -> Result<(), Error> {
        let (project, model) = (self.project, message.model.clone());
        if !held_back {
            let before = storage::notifications::held_back(conn, project, channel, &model).await?;
            message.held_back = before.into_iter().map(|(_, summary)| summary).collect();
        }
        let note = NewNotification {
            id: NotificationId::new(),
            project: project.to_owned(),
            incident: incident.map(|incident| incident.id),
            monitor: self.monitor.name.clone(),
            registered_model: model,
            channel: channel.to_owned(),
            event,
            payload: message.to_value(),
            held_back,
        };
        storage::notifications::insert(conn, &note, self.now).await?;
        if !message.held_back.is_empty() {
            storage::notifications::count_held_back(conn, project, channel, &note.registered_model, note.id)
                .await?;
        }
        Ok(())
    }
}
