//! The prediction log: answers are gathered in memory, written as Arrow files, and published to monitors.
//!
//! An answer waits here for at most `flush_seconds`; a file and its rows become visible together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::Cutoff;
use domain::ids::PredictionId;
use frames::{Frame, Values};
use service_kit::Context;
use storage::predictions::{NewLog, Prediction};

use crate::Error;
use crate::serving::Statuses;

/// Answers of one version on their way to a file.
#[derive(Debug)]
struct Batch {
    features: Frame,
    predictions: Vec<Prediction>,
}

/// The registered model and the version that answered.
type Version = (String, i32);

/// The prediction log of this process.
#[derive(Clone)]
pub(crate) struct PredictionLog {
    context: Context,
    waiting: Arc<Mutex<HashMap<Version, Batch>>>,
    writing: Arc<tokio::sync::Mutex<()>>,
}

impl PredictionLog {
    pub(crate) fn new(context: &Context) -> Self {
        Self { context: context.clone(), waiting: Arc::default(), writing: Arc::default() }
    }

    /// Writes what waits, every `flush_seconds`, and a last time when the process stops.
    pub(crate) fn start(&self) {
        let log = self.clone();
        let every = Duration::from_secs(self.context.config.worker.flush_seconds.max(1));
        self.context.tasks.spawn(async move {
            loop {
                let stopping = tokio::select! {
                    () = log.context.stop.cancelled() => true,
                    () = tokio::time::sleep(every) => false,
                };
                if let Err(error) = log.flush().await {
                    tracing::error!(%error, "logged predictions could not be written; they are kept and tried again");
                }
                if stopping {
                    return;
                }
            }
        });
    }

    /// Adds answers. Answers whether enough wait for a file.
    pub(crate) fn add(
        &self,
        version: Version,
        features: Frame,
        predictions: Vec<Prediction>,
    ) -> Result<bool, Error> {
        let mut waiting = self.waiting.lock().expect("no holder of this lock can panic");
        let rows = match waiting.get_mut(&version) {
            Some(batch) => {
                batch.features.append(&features)?;
                batch.predictions.extend(predictions);
                batch.predictions.len()
            }
            None => {
                let rows = predictions.len();
                waiting.insert(version, Batch { features, predictions });
                rows
            }
        };
        Ok(rows >= self.context.config.worker.log_rows)
    }

    /// Writes and publishes everything that waits; answers how many rows. What cannot be written waits on.
    pub(crate) async fn flush(&self) -> Result<usize, Error> {
        let _writing = self.writing.lock().await; // what another flush has in hand is published before this one answers
        let taken: Vec<(Version, Batch)> =
            self.waiting.lock().expect("no holder of this lock can panic").drain().collect();
        let mut rows = 0;
        let mut failed = None;
        for (version, batch) in taken {
            match self.publish(&version, &batch).await {
                Ok(()) => rows += batch.predictions.len(),
                Err(error) => {
                    self.add(version, batch.features, batch.predictions)?;
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(rows), Err)
    }

    async fn publish(&self, (model, version): &Version, batch: &Batch) -> Result<(), Error> {
        let first = batch.predictions.first().map(|prediction| prediction.id).unwrap_or_default();
        let project = self.context.config.project.clone();
        let path = format!("predictions/{project}/{model}/v{version}/{first}.arrow");
        let mut frame = batch.features.clone();
        frame.set("prediction_id", Values::text(batch.predictions.iter().map(|p| Some(p.id.to_string()))));
        frame.set("cutoff", Values::Time(batch.predictions.iter().map(|p| p.cutoff.micros()).collect()));
        frame.set("probability", Values::Number(batch.predictions.iter().map(|p| p.probability).collect()));
        let file = self.context.data_dir.join(&path);
        let written =
            tokio::task::spawn_blocking(move || frames::files::write_arrow(&file, &frame)).await??;
        let log = NewLog {
            project,
            registered_model: model.clone(),
            version: *version,
            path,
            sha256: written.sha256,
            predictions: batch.predictions.clone(),
        };
        let mut tx = self.context.db.begin().await?;
        storage::predictions::publish(&mut tx, &log, self.context.clock.now()).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// The features with what became of each row's question to each view, as `status__VIEW`.
pub(crate) fn with_statuses(mut features: Frame, statuses: &Statuses) -> Frame {
    for (view, of_rows) in &statuses.0 {
        let named = Values::text(of_rows.iter().map(|status| Some(status.name())));
        features.set(format!("status__{view}"), named);
    }
    features
}

/// A new answer at `cutoff`.
pub(crate) fn answer(cutoff: Cutoff, probability: f64) -> Prediction {
    Prediction { id: PredictionId::new(), cutoff, probability }
}
