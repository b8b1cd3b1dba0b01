//! What a tick starts: one job of the service that knows how.

use chrono::{DateTime, Utc};
use domain::definitions::Action;
use domain::ids::JobId;
use serde_json::{Value, json};
use sqlx::PgConnection;
use storage::jobs::NewJob;

use super::Turn;
use crate::Error;
use crate::jobs::{RunMonitorJob, retrain};

impl Turn<'_> {
    /// Enqueues the job of a tick. One with the same work that waits already stands for it.
    pub(super) async fn start(&self, tx: &mut PgConnection, tick: DateTime<Utc>) -> Result<JobId, Error> {
        let job = self.job(tick)?;
        Ok(storage::jobs::enqueue(tx, &job).await?)
    }

    fn job(&self, tick: DateTime<Utc>) -> Result<NewJob, Error> {
        let project = self.project;
        let view = |view: &str| (view.to_owned(), json!({ "project": project, "view": view }));
        let (kind, (key, payload)) = match &self.schedule.action {
            Action::Train(model) => return self.training(model),
            Action::Monitor(monitor) => {
                let run =
                    RunMonitorJob { project: project.to_owned(), monitor: monitor.clone(), until: None };
                return Ok(run.row(&tick.to_rfc3339()));
            }
            Action::Materialize(name) => ("materialize-view", view(name)),
            Action::Retain(name) => ("retain-view", view(name)),
            Action::Backup(to) => ("backup", (to.folder.clone(), json!(to))),
            Action::Collect(_) => ("collect-garbage", ("collect-garbage".to_owned(), json!({}))),
        };
        Ok(self.row(kind, key, payload))
    }

    fn training(&self, name: &str) -> Result<NewJob, Error> {
        let model = self.definitions.model(name).ok_or_else(|| Error::Schedule {
            name: self.schedule.name.clone(),
            why: "its model is not declared".to_owned(),
        })?;
        Ok(retrain(self.project, name, &model.dataset, &json!({ "schedule": self.schedule.name }), self.now))
    }

    fn row(&self, kind: &str, key: String, payload: Value) -> NewJob {
        NewJob {
            project: self.project.to_owned(),
            kind: kind.to_owned(),
            payload,
            dedup_key: Some(key),
            priority: -1, // nobody waits for it
            max_attempts: 3,
        }
    }
}
