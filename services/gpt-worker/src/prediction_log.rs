//! The prediction log: answers are gathered, written as Arrow files, and published to monitors.
//!
//! An answer waits here for at most `flush_seconds`; a file and its rows become visible together. Until then it also lies in a
//! spool ([`frames::spool`]), into which it is written before it is given: the next process to look takes over what one that was
//! killed has left, and publishes each answer once, by its id. Who was given an answer finds it in the log, unless the machine
//! itself lost power in these seconds. An answer for which the spool has no room is not given.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use domain::Cutoff;
use domain::ids::{PredictionId, PredictionLogId};
use frames::spool::{Contents, Record, Spool, abandoned};
use frames::{Frame, Values};
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_kit::Context;
use storage::predictions::{NewLog, Prediction};

use crate::Error;
use crate::serving::Statuses;

/// The registered model and the version that answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) model: String,
    pub(crate) version: i32,
}

/// Answers of one version on their way to a file.
#[derive(Debug)]
struct Batch {
    /// What the model was given, and what it answered.
    rows: Frame,
    predictions: Vec<Prediction>,
}

impl Batch {
    fn new(mut features: Frame, predictions: Vec<Prediction>) -> Self {
        let ids = predictions.iter().map(|prediction| Some(prediction.id.to_string()));
        features.set("prediction_id", Values::text(ids));
        let cutoffs = predictions.iter().map(|prediction| prediction.cutoff.micros()).collect();
        features.set("cutoff", Values::Time(cutoffs));
        let probabilities = predictions.iter().map(|prediction| prediction.probability).collect();
        features.set("probability", Values::Number(probabilities));
        Self { rows: features, predictions }
    }

    /// The batch that these rows were.
    fn of(rows: Frame) -> Result<Self, Error> {
        let (ids, cutoffs) = (rows.column("prediction_id")?, rows.times("cutoff")?);
        let probabilities = rows.numbers("probability")?;
        let prediction = |row: usize| {
            let id = ids.text_at(row)?.parse().ok()?;
            let cutoff = Cutoff::from_micros(cutoffs[row])?;
            Some(Prediction { id, cutoff, probability: probabilities[row] })
        };
        let predictions: Option<Vec<_>> = (0..rows.rows()).map(prediction).collect();
        let no_answer =
            || Error::BadRequest("a row has no id or cutoff, so it was never answered".to_owned());
        Ok(Self { predictions: predictions.ok_or_else(no_answer)?, rows })
    }

    /// Whether the other's rows have the same columns.
    fn matches(&self, other: &Self) -> bool {
        let (own, new) = (self.rows.columns(), other.rows.columns());
        own.len() == new.len()
            && own.iter().zip(new).all(|(own, new)| own.0 == new.0 && own.1.kind() == new.1.kind())
    }

    fn append(&mut self, other: Self) -> Result<(), Error> {
        self.rows.append(&other.rows)?;
        self.predictions.extend(other.predictions);
        Ok(())
    }

    /// The predictions that are wanted.
    fn filter(&self, wanted: impl Fn(PredictionId) -> bool) -> Self {
        let rows = self.rows.filter(|row| wanted(self.predictions[row].id));
        let predictions = self.predictions.iter().filter(|prediction| wanted(prediction.id));
        Self { rows, predictions: predictions.copied().collect() }
    }
}

/// What is not published yet.
#[derive(Debug, Default)]
struct Waiting {
    /// By version; most have one, rows with other columns have one of their own.
    batches: HashMap<Version, Vec<Batch>>,
    /// Holds those of the batches that came since the last flush.
    spool: Option<Spool>,
    /// Hold the others: of flushes that failed, and of processes that ended.
    older: Vec<Spool>,
    /// Of processes that ended, and of no use to us; held so that they are told of once.
    unreadable: Vec<Spool>,
}

impl Waiting {
    /// Adds answers; answers how many wait for the same file.
    fn add(&mut self, version: Version, batch: Batch) -> Result<usize, Error> {
        let batches = self.batches.entry(version).or_default();
        match batches.iter_mut().find(|known| known.matches(&batch)) {
            Some(known) => {
                known.append(batch)?;
                Ok(known.predictions.len())
            }
            None => {
                let rows = batch.predictions.len();
                batches.push(batch);
                Ok(rows)
            }
        }
    }

    /// Takes everything, with the spools that hold it.
    fn take(&mut self) -> (HashMap<Version, Vec<Batch>>, Vec<Spool>) {
        let mut spools = std::mem::take(&mut self.older);
        spools.extend(self.spool.take());
        (std::mem::take(&mut self.batches), spools)
    }
}

/// The prediction log of this process.
#[derive(Clone)]
pub(crate) struct PredictionLog {
    context: Context,
    /// Where the spools of the project lie.
    folder: PathBuf,
    waiting: Arc<Mutex<Waiting>>,
    writing: Arc<tokio::sync::Mutex<()>>,
}

impl PredictionLog {
    pub(crate) fn new(context: &Context) -> Self {
        let folder = context.data_dir.join("spool/predictions").join(&context.config.project);
        Self { context: context.clone(), folder, waiting: Arc::default(), writing: Arc::default() }
    }

    /// Takes over what ended processes have left, and writes what waits: now, every `flush_seconds`, and a last time when the
    /// process stops.
    pub(crate) fn start(&self) {
        let log = self.clone();
        let every = Duration::from_secs(self.context.config.worker.flush_seconds.max(1));
        self.context.tasks.spawn(async move {
            loop {
                let stopping = log.context.stop.is_cancelled();
                log.turn().await;
                if stopping {
                    return;
                }
                tokio::select! {
                    () = log.context.stop.cancelled() => {}
                    () = tokio::time::sleep(every) => {}
                }
            }
        });
    }

    async fn turn(&self) {
        if let Err(error) = self.take_over().await {
            tracing::error!(%error, "spools of ended processes could not be looked for; they stay where they are");
        }
        if let Err(error) = self.flush().await {
            tracing::error!(%error, "logged predictions could not be written; they are kept and tried again");
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no holder of this lock can panic")
    }

    /// Adds answers that are about to be given. Answers whether enough wait for a file.
    ///
    /// # Errors
    /// [`frames::Error::Full`] without room for them: then they must not be given.
    pub(crate) fn add(
        &self,
        version: Version,
        features: Frame,
        predictions: Vec<Prediction>,
    ) -> Result<bool, Error> {
        let batch = Batch::new(features, predictions);
        let record = Record { label: json!(version), rows: batch.rows };
        let encoded = record.encode()?;
        let batch = Batch { rows: record.rows, predictions: batch.predictions };
        let mut waiting = self.waiting();
        let mut spool = match waiting.spool.take() {
            Some(spool) => spool,
            None => Spool::create(&self.folder)?,
        };
        let appended = spool.append(&encoded);
        match spool.is_whole() {
            true => waiting.spool = Some(spool),
            false => waiting.older.push(spool), // the next answer begins another
        }
        appended?;
        Ok(waiting.add(version, batch)? >= self.context.config.worker.log_rows)
    }

    /// Takes over the spools of processes that ended: what they hold waits here from now on.
    async fn take_over(&self) -> Result<(), Error> {
        let folder = self.folder.clone();
        let read = move || -> Result<Vec<_>, frames::Error> {
            Ok(abandoned(&folder)?.into_iter().map(|spool| (spool.read(), spool)).collect())
        };
        for (contents, spool) in tokio::task::spawn_blocking(read).await?? {
            let path = spool.path().display().to_string();
            match contents.map_err(Error::from).and_then(batches) {
                Ok((batches, torn_bytes)) => {
                    let rows: usize = batches.iter().map(|(_, batch)| batch.predictions.len()).sum();
                    tracing::info!(
                        path,
                        rows,
                        "took over the answers that an ended process had not published"
                    );
                    if torn_bytes > 0 {
                        tracing::warn!(
                            path,
                            torn_bytes,
                            "its last record is not whole; that answer was never given"
                        );
                    }
                    let mut waiting = self.waiting();
                    for (version, batch) in batches {
                        waiting.add(version, batch)?;
                    }
                    waiting.older.push(spool);
                }
                Err(error) => {
                    tracing::error!(path, %error, "the answers of an ended process cannot be read; they stay where they are");
                    self.waiting().unreadable.push(spool);
                }
            }
        }
        Ok(())
    }

    /// Writes and publishes everything that waits; answers how many rows. What cannot be written waits on.
    pub(crate) async fn flush(&self) -> Result<usize, Error> {
        let _writing = self.writing.lock().await; // what another flush has in hand is published before this one answers
        let (batches, spools) = self.waiting().take();
        let mut rows = 0;
        let mut failed = None;
        for (version, batch) in batches
            .into_iter()
            .flat_map(|(version, all)| all.into_iter().map(move |batch| (version.clone(), batch)))
        {
            match self.publish(&version, &batch).await {
                Ok(published) => rows += published,
                Err(error) => {
                    self.waiting().add(version, batch)?;
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) => {
                self.waiting().older.extend(spools);
                Err(error)
            }
            None => {
                spools.into_iter().try_for_each(Spool::remove)?;
                Ok(rows)
            }
        }
    }

    /// Publishes those answers of a batch that are not published yet; answers how many.
    async fn publish(&self, version: &Version, batch: &Batch) -> Result<usize, Error> {
        let project = self.context.config.project.clone();
        let ids: Vec<_> = batch.predictions.iter().map(|prediction| prediction.id).collect();
        let mut conn = self.context.db.acquire().await?;
        let known = storage::predictions::published(&mut conn, &project, &ids).await?;
        drop(conn);
        let Batch { rows, predictions } = batch.filter(|id| !known.contains(&id));
        let count = predictions.len();
        if count == 0 {
            return Ok(0);
        }
        let Version { model, version } = version;
        let path = format!("predictions/{project}/{model}/v{version}/{}.arrow", PredictionLogId::new());
        let file = self.context.data_dir.join(&path);
        let written = tokio::task::spawn_blocking(move || frames::files::write_arrow(&file, &rows)).await??;
        let log = NewLog {
            project,
            registered_model: model.clone(),
            version: *version,
            path,
            sha256: written.sha256,
            predictions,
        };
        let mut tx = self.context.db.begin().await?;
        storage::predictions::publish(&mut tx, &log, self.context.clock.now()).await?;
        tx.commit().await?;
        Ok(count)
    }
}

/// The batches of a spool, and how many bytes at its end are no record.
fn batches(contents: Contents) -> Result<(Vec<(Version, Batch)>, usize), Error> {
    let batch = |record: Record| -> Result<_, Error> {
        let unknown = |error: serde_json::Error| Error::BadRequest(format!("a record's label: {error}"));
        Ok((serde_json::from_value(record.label).map_err(unknown)?, Batch::of(record.rows)?))
    };
    let batches = contents.records.into_iter().map(batch).collect::<Result<_, _>>()?;
    Ok((batches, contents.torn_bytes))
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
