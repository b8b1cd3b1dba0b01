//! Alertmanager, API v2: an alert is known by its labels, so these never hold a value, a time or an id; those are annotations.
//!
//! What is still so is said again and again, each time with an end a little ahead: if we fall silent, the alert ends by itself.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use domain::definitions::Channel;
use serde::Serialize;

use super::message::Message;
use super::{Sender, Trouble, post};

/// An alert lasts for so many re-sends.
const OUTLASTS: i32 = 4;

/// An alert as Alertmanager takes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Alert {
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
    #[serde(rename = "generatorURL", skip_serializing_if = "Option::is_none")]
    generator_url: Option<String>,
}

impl Alert {
    /// The alert that a message stands for at `now`, of a channel that says it again every `resend_seconds`.
    pub(crate) fn of(message: &Message, resend_seconds: u32, now: DateTime<Utc>) -> Self {
        let starts_at = message.opened_at.min(now);
        let ahead = TimeDelta::seconds(i64::from(resend_seconds)) * OUTLASTS;
        let ends_at = if message.is_over() {
            message.resolved_at.unwrap_or(now).clamp(starts_at, now)
        } else {
            now + ahead
        };
        let whole = message.links.incident.starts_with("http");
        Self {
            labels: labels(message),
            annotations: annotations(message),
            starts_at,
            ends_at,
            generator_url: whole.then(|| message.links.incident.clone()),
        }
    }
}

fn labels(message: &Message) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("alertname", alert_name(&message.cause)),
        ("severity", message.severity.clone()),
        ("service", "foretime".to_owned()),
        ("project", message.project.clone()),
        ("monitor", message.monitor.clone()),
        ("model", message.model.clone()),
        ("cause", message.cause.clone()),
    ])
}

/// `input-drift` → `ForetimeInputDrift`.
fn alert_name(cause: &str) -> String {
    let words = cause.split('-').map(|word| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_uppercase().collect::<String>() + letters.as_str())
            .unwrap_or_default()
    });
    format!("Foretime{}", words.collect::<String>())
}

fn annotations(message: &Message) -> BTreeMap<&'static str, String> {
    let moved: Vec<String> =
        message.moved.iter().map(|moved| format!("{} {}", moved.subject(), moved.size())).collect();
    let mut said = BTreeMap::from([
        ("summary", message.summary.clone()),
        ("description", moved.join("\n")),
        ("first_seen", message.since.to_rfc3339()),
        ("model_version", message.version.to_string()),
        ("incident_url", message.links.incident.clone()),
        ("windows_url", message.links.windows.clone()),
    ]);
    said.extend(message.incident.map(|id| ("incident", id.to_string())));
    if let Some(first) = message.moved.first() {
        let numbers = [("value", first.effect), ("ci_low", first.low), ("ci_high", first.high)];
        said.extend(numbers.into_iter().filter_map(|(name, value)| Some((name, format!("{:.6}", value?)))));
        said.insert("rows", first.rows.to_string());
    }
    said
}

impl Sender {
    /// Posts alerts to the Alertmanager at `address`.
    pub(super) async fn alerts(
        &self,
        channel: &Channel,
        address: &str,
        alerts: &[Alert],
    ) -> Result<(), Trouble> {
        let address = format!("{}/api/v2/alerts", address.trim_end_matches('/'));
        post(self.client(channel, None).await?.post(address).json(alerts)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn message(event: &str) -> Message {
        let opened = at("2026-11-24T03:00:00Z");
        Message { event: event.to_owned(), ..Message::test("default", "ops", opened) }
    }

    #[test]
    fn labels_stay_the_same_from_opening_to_end_so_that_the_alert_does() {
        let now = at("2026-11-24T04:00:00Z");
        let open = Alert::of(&message("opened"), 60, now);
        let later = Message { summary: "worse".to_owned(), version: 2, ..message("resolved") };
        let later = Message { resolved_at: Some(now), ..later };
        let over = Alert::of(&later, 60, now);
        assert_eq!(open.labels, over.labels);
        assert_eq!(open.ends_at - now, TimeDelta::minutes(4));
        assert_eq!(over.ends_at, now);
    }

    #[test]
    fn an_alert_never_begins_after_now() {
        let early = Alert::of(&message("opened"), 60, at("2026-11-24T01:00:00Z"));
        assert_eq!(early.starts_at, at("2026-11-24T01:00:00Z"));
    }

    #[test]
    fn causes_name_alerts() {
        assert_eq!(alert_name("input-drift"), "ForetimeInputDrift");
    }
}
