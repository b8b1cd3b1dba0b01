//! The jobs that the monitor asks for: its own, and those that other services handle.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use storage::jobs::NewJob;

/// Judges what has ended and was not judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunMonitorJob {
    /// The project.
    pub(crate) project: String,
    /// The monitor.
    pub(crate) monitor: String,
    /// Windows that ended by then; by now if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<DateTime<Utc>>,
}

impl RunMonitorJob {
    /// Never renamed: old rows still wait.
    pub(crate) const KIND: &'static str = "run-monitor";

    /// The row. A run that waits already stands for this one if `key` is the same.
    pub(crate) fn row(&self, key: &str) -> NewJob {
        NewJob {
            project: self.project.clone(),
            kind: Self::KIND.to_owned(),
            payload: serde_json::to_value(self).expect("the payload has only string keys"),
            dedup_key: Some(format!("{}:{key}", self.monitor)),
            priority: 0,
            max_attempts: 3,
        }
    }
}

/// Builds a training set as of now and trains `model` on it.
pub(crate) fn retrain(
    project: &str,
    model: &str,
    dataset: &str,
    reason: &Value,
    now: DateTime<Utc>,
) -> NewJob {
    NewJob {
        project: project.to_owned(),
        kind: "build-training-set".to_owned(),
        payload: json!({
            "project": project,
            "dataset": dataset,
            "model": model,
            "as_of": now,
            "reason": reason,
            "then": "train",
        }),
        dedup_key: Some(format!("model:{model}")),
        priority: 0,
        max_attempts: 3,
    }
}
