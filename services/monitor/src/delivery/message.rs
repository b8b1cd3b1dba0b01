//! What is said about an incident, in a form that every kind of channel can render.

use chrono::{DateTime, Utc};
use domain::ids::IncidentId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage::incidents::Incident;

use crate::words;

/// A message; stored and sent to webhooks as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Message {
    /// 1. Another number means that fields changed their meaning.
    pub(crate) format: u32,
    /// `opened`, `reopened`, `resolved`, `digest` or `test`.
    pub(crate) event: String,
    /// What it is about; absent in a digest and a test.
    pub(crate) incident: Option<IncidentId>,
    /// The project.
    pub(crate) project: String,
    /// The monitor that tells.
    pub(crate) monitor: String,
    /// The registered model.
    pub(crate) model: String,
    /// The version that served when it opened.
    pub(crate) version: i32,
    /// Why it exists.
    pub(crate) cause: String,
    /// `page`, `ticket` or `log`.
    pub(crate) severity: String,
    /// One sentence.
    pub(crate) summary: String,
    /// When the first bad window began.
    pub(crate) since: DateTime<Utc>,
    /// When it opened.
    pub(crate) opened_at: DateTime<Utc>,
    /// When it was over.
    pub(crate) resolved_at: Option<DateTime<Utc>>,
    /// What moved most, most first.
    pub(crate) moved: Vec<Moved>,
    /// What this channel was not told since the last message, because the day's budget was spent.
    #[serde(default)]
    pub(crate) held_back: Vec<String>,
    /// Where to read on.
    pub(crate) links: Links,
}

/// Something that moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moved {
    /// `input`, `score`, `label`, `calibration` or `performance`.
    pub(crate) kind: String,
    /// The column; empty where the measure is not about one.
    pub(crate) column: String,
    /// Names the measure.
    pub(crate) measure: String,
    /// How far.
    pub(crate) effect: Option<f64>,
    /// The lower end of its interval.
    pub(crate) low: Option<f64>,
    /// The upper end.
    pub(crate) high: Option<f64>,
    /// The current side.
    pub(crate) current: Option<f64>,
    /// The reference side.
    pub(crate) reference: Option<f64>,
    /// How many rows say so.
    pub(crate) rows: u64,
}

/// Where to read on; paths, unless the channel says what is before them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Links {
    /// The incident.
    pub(crate) incident: String,
    /// The windows behind it.
    pub(crate) windows: String,
}

impl Message {
    /// What `event` means for an incident whose latest window ended at `until`.
    pub(crate) fn about(project: &str, incident: &Incident, event: &str, until: DateTime<Utc>) -> Self {
        let monitor = &incident.monitor;
        let from = incident.first_seen.format("%Y-%m-%dT%H:%M:%SZ");
        let until = until.format("%Y-%m-%dT%H:%M:%SZ");
        Self {
            format: 1,
            event: event.to_owned(),
            incident: Some(incident.id),
            project: project.to_owned(),
            monitor: monitor.clone(),
            model: incident.registered_model.clone(),
            version: incident.version,
            cause: incident.cause.clone(),
            severity: incident.severity.clone(),
            summary: incident.summary.clone(),
            since: incident.first_seen,
            opened_at: incident.opened_at,
            resolved_at: incident.resolved_at,
            moved: serde_json::from_value(incident.evidence.clone()).unwrap_or_default(),
            held_back: Vec::new(),
            links: Links {
                incident: format!("/v1/incidents/{}", incident.id),
                windows: format!("/v1/monitors/{monitor}/windows?from={from}&until={until}"),
            },
        }
    }

    /// A message that says only that the channel works.
    pub(crate) fn test(project: &str, channel: &str, now: DateTime<Utc>) -> Self {
        Self {
            format: 1,
            event: "test".to_owned(),
            incident: None,
            project: project.to_owned(),
            monitor: "none".to_owned(),
            model: "none".to_owned(),
            version: 0,
            cause: "test".to_owned(),
            severity: "log".to_owned(),
            summary: format!("this is a test of channel `{channel}`: nothing is wrong"),
            since: now,
            opened_at: now,
            resolved_at: None,
            moved: Vec::new(),
            held_back: Vec::new(),
            links: Links { incident: "/v1/incidents".to_owned(), windows: "/v1/monitors".to_owned() },
        }
    }

    /// The same with whole addresses, if people reach Foretime by `base`.
    pub(super) fn linked_to(&self, base: Option<&str>) -> Self {
        let Some(base) = base.map(|base| base.trim_end_matches('/')) else { return self.clone() };
        let links = Links {
            incident: format!("{base}{}", self.links.incident),
            windows: format!("{base}{}", self.links.windows),
        };
        Self { links, ..self.clone() }
    }

    /// As JSON.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a message has only string keys")
    }

    /// As it is stored.
    pub(crate) fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("a message has only string keys")
    }

    /// Whether it says that something ended.
    pub(super) fn is_over(&self) -> bool {
        self.event == "resolved"
    }

    /// `[page] flights: opened`, for subjects and headers.
    pub(super) fn title(&self) -> String {
        match self.event.as_str() {
            "digest" => format!("[digest] {}: {} held back", self.model, self.held_back.len()),
            "test" => "[test] Foretime".to_owned(),
            event => format!("[{}] {} v{}: {} {event}", self.severity, self.model, self.version, self.cause),
        }
    }

    /// What was held back, in a sentence; `None` if nothing was.
    pub(super) fn held_back_in_words(&self) -> Option<String> {
        match self.held_back.len() {
            0 => None,
            1 => Some("1 message before this one was held back by the day's budget".to_owned()),
            many => Some(format!("{many} messages before this one were held back by the day's budget")),
        }
    }
}

impl Moved {
    /// `w_temp: ks_distance`, or the measure alone.
    pub(crate) fn subject(&self) -> String {
        if self.column.is_empty() {
            self.measure.clone()
        } else {
            format!("{}: {}", self.column, self.measure)
        }
    }

    /// `0.410 [0.330, 0.470]`, and the two sides if it has them.
    pub(crate) fn size(&self) -> String {
        let Some(effect) = self.effect else { return "–".to_owned() };
        words::size(effect, (self.low, self.high), self.current.zip(self.reference))
    }
}
