//! Dynamic batching: one thread a loaded model takes what waits in its queue, answers it in one pass, and hands each request
//! its part.
//!
//! The queue is bounded; past it a request is refused at once, and one that waited past its deadline is not computed any
//! more. A pass waits for company only while somebody is known to be on the way, and not for long: a lone client never does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use domain::tabular::{History, Table};
use service_kit::config::BatchingConfig;
use tokio::sync::oneshot;

use crate::Error;
use crate::kinds::Asked;
use crate::metrics::Metrics;
use crate::model_file::Servable;
use crate::reading::Kept;

/// Rows that a request brings.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    pub(crate) table: Table,
    pub(crate) history: Option<History>,
    pub(crate) cutoffs: Vec<i64>,
}

impl Owned {
    fn rows(&self) -> usize {
        self.cutoffs.len()
    }

    fn asked(&self) -> Asked<'_> {
        Asked { table: &self.table, history: self.history.as_ref(), cutoffs: &self.cutoffs }
    }

    /// The rows of several requests; `None` if their columns are not alike.
    fn concat(all: &[&Self]) -> Option<Self> {
        let tables: Vec<&Table> = all.iter().map(|one| &one.table).collect();
        let histories: Vec<&History> = all.iter().filter_map(|one| one.history.as_ref()).collect();
        let history = match histories.len() {
            0 => None,
            all_of_them if all_of_them == all.len() => Some(History::concat(&histories)?),
            _ => return None,
        };
        let cutoffs = all.iter().flat_map(|one| one.cutoffs.iter().copied()).collect();
        Some(Self { table: Table::concat(&tables)?, history, cutoffs })
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// Calibrated probabilities.
    Probabilities,
    /// Those, and what is kept of each history that was read.
    Readings,
    /// Vectors of the histories.
    Vectors,
}

/// What a model said of a request's rows; only what was asked for is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Said {
    pub(crate) probabilities: Vec<f64>,
    pub(crate) readings: Vec<Kept>,
    pub(crate) vectors: Vec<Vec<f32>>,
}

/// A request on its way.
pub(crate) struct Task {
    asked: Owned,
    wants: Wants,
    until: Instant,
    answer: oneshot::Sender<Result<Said, Error>>,
}

/// The queue in front of a model, and the thread behind it, which ends when nobody can ask any more.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    model: String,
    queue: SyncSender<Task>,
    patience: Duration,
    metrics: Metrics,
    coming: Arc<AtomicUsize>,
}

/// Somebody who will ask soon; whoever drops it does not.
#[derive(Debug)]
pub(crate) struct Coming<'a>(&'a Engine);

impl Coming<'_> {
    /// Asks now; no pass waits for this one any more.
    ///
    /// # Errors
    /// As [`Engine::ask`].
    pub(crate) async fn ask(self, asked: Owned, wants: Wants) -> Result<Said, Error> {
        let engine = self.0;
        let sent = engine.enqueue(asked, wants)?;
        drop(self);
        engine.answered(sent).await
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.0.coming.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that was taken into the queue.
struct Sent {
    answered: oneshot::Receiver<Result<Said, Error>>,
    until: Instant,
}

impl Engine {
    /// Starts a thread for a loaded model.
    ///
    /// # Errors
    /// [`Error::NoThread`] if the system gives none.
    pub(crate) fn start(
        model: &str,
        version: i32,
        servable: &Arc<Servable>,
        settings: &BatchingConfig,
        metrics: &Metrics,
    ) -> Result<Self, Error> {
        let (queue, waiting) = sync_channel(settings.queue.max(1));
        let patience = Duration::from_millis(settings.deadline_milliseconds.max(1));
        let coming = Arc::new(AtomicUsize::new(0));
        let engine = Self {
            model: model.to_owned(),
            queue,
            patience,
            metrics: metrics.clone(),
            coming: Arc::clone(&coming),
        };
        let thread = Thread {
            model: model.to_owned(),
            servable: Arc::clone(servable),
            most_rows: settings.rows.max(1),
            linger: Duration::from_millis(settings.wait_milliseconds),
            metrics: metrics.clone(),
            carried: None,
            coming,
        };
        let named = std::thread::Builder::new().name(format!("{model} v{version}"));
        named.spawn(move || thread.run(&waiting)).map_err(Error::NoThread)?;
        Ok(engine)
    }

    /// Says that somebody will ask soon: a pass that could wait for them does.
    pub(crate) fn announce(&self) -> Coming<'_> {
        self.coming.fetch_add(1, Ordering::Relaxed);
        Coming(self)
    }

    /// Asks, together with whoever else asks now.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many wait already, [`Error::Late`] if the deadline passed, or what the model refused.
    pub(crate) async fn ask(&self, asked: Owned, wants: Wants) -> Result<Said, Error> {
        self.announce().ask(asked, wants).await
    }

    fn rejected(&self, why: &str) {
        self.metrics.rejected.with_label_values(&[&self.model, why]).inc();
    }

    fn enqueue(&self, asked: Owned, wants: Wants) -> Result<Sent, Error> {
        let (answer, answered) = oneshot::channel();
        let until = Instant::now() + self.patience;
        self.metrics.waiting.with_label_values(&[&self.model]).inc();
        if let Err(refused) = self.queue.try_send(Task { asked, wants, until, answer }) {
            self.metrics.waiting.with_label_values(&[&self.model]).dec();
            self.rejected("full");
            return Err(match refused {
                TrySendError::Full(_) => Error::Busy { model: self.model.clone() },
                TrySendError::Disconnected(_) => Error::Gone { model: self.model.clone() },
            });
        }
        Ok(Sent { answered, until })
    }

    async fn answered(&self, Sent { answered, until }: Sent) -> Result<Said, Error> {
        let late = || {
            self.rejected("late");
            Error::Late { model: self.model.clone(), milliseconds: self.patience.as_millis() as u64 }
        };
        match tokio::time::timeout_at(until.into(), answered).await {
            Ok(Ok(said)) => said,
            Ok(Err(_)) if Instant::now() >= until => Err(late()),
            Ok(Err(_)) => Err(Error::Gone { model: self.model.clone() }),
            Err(_) => Err(late()),
        }
    }
}

struct Thread {
    model: String,
    servable: Arc<Servable>,
    most_rows: usize,
    linger: Duration,
    metrics: Metrics,
    /// A request that did not fit into the batch before.
    carried: Option<Task>,
    /// How many will ask soon.
    coming: Arc<AtomicUsize>,
}

impl Thread {
    fn run(mut self, queue: &Receiver<Task>) {
        while let Some(first) = self.carried.take().or_else(|| queue.recv().ok()) {
            let batch = self.gather(first, queue);
            self.metrics.waiting.with_label_values(&[&self.model]).sub(batch.len() as i64);
            let now = Instant::now();
            // those that are late were told already
            let mut in_time: Vec<Task> = batch.into_iter().filter(|task| task.until > now).collect();
            for wants in [Wants::Probabilities, Wants::Readings, Wants::Vectors] {
                let alike = in_time.extract_if(.., |task| task.wants == wants).collect();
                self.answer(alike, wants);
            }
        }
    }

    /// A request and what else waits or will soon, up to the bound on rows.
    fn gather(&mut self, first: Task, queue: &Receiver<Task>) -> Vec<Task> {
        let until = Instant::now() + self.linger;
        let mut rows = first.asked.rows();
        let mut batch = vec![first];
        while rows < self.most_rows {
            let next = match queue.try_recv() {
                Ok(task) => task,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) if self.coming.load(Ordering::Relaxed) == 0 => break,
                Err(TryRecvError::Empty) => {
                    match queue.recv_timeout(until.saturating_duration_since(Instant::now())) {
                        Ok(task) => task,
                        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                    }
                }
            };
            rows += next.asked.rows();
            if rows > self.most_rows {
                self.carried = Some(next);
                break;
            }
            batch.push(next);
        }
        batch
    }

    /// Answers requests together; if that cannot be, each alone, so that none suffers from another's rows.
    fn answer(&self, tasks: Vec<Task>, wants: Wants) {
        let all: Vec<&Owned> = tasks.iter().map(|task| &task.asked).collect();
        let rows: usize = all.iter().map(|asked| asked.rows()).sum();
        if rows == 0 {
            return;
        }
        self.metrics.batch_rows.with_label_values(&[&self.model]).observe(rows as f64);
        let together = Owned::concat(&all).map(|asked| self.said(&asked, wants));
        match together {
            Some(Ok(said)) => hand_out(tasks, said),
            _ => {
                for task in tasks {
                    let said = self.said(&task.asked, wants);
                    let _ = task.answer.send(said); // who gave up waiting needs no answer
                }
            }
        }
    }

    fn said(&self, asked: &Owned, wants: Wants) -> Result<Said, Error> {
        let probabilities = || self.servable.probabilities(asked.asked());
        let history = || asked.history.as_ref().ok_or_else(|| Error::NoHistory(self.model.clone()));
        let reader = || self.servable.reader(&self.model);
        Ok(match wants {
            Wants::Probabilities => Said { probabilities: probabilities()?, ..Said::default() },
            Wants::Readings => Said {
                probabilities: probabilities()?,
                readings: self.servable.readings(&self.model, history()?, &asked.cutoffs)?,
                ..Said::default()
            },
            Wants::Vectors => {
                Said { vectors: reader()?.vectors(history()?, &asked.cutoffs)?, ..Said::default() }
            }
        })
    }
}

/// Gives each request its rows.
fn hand_out(tasks: Vec<Task>, said: Said) {
    let (mut probabilities, mut vectors) = (said.probabilities.into_iter(), said.vectors.into_iter());
    let mut readings = said.readings.into_iter();
    for task in tasks {
        let rows = task.asked.rows();
        let part = Said {
            probabilities: probabilities.by_ref().take(rows).collect(),
            readings: readings.by_ref().take(rows).collect(),
            vectors: vectors.by_ref().take(rows).collect(),
        };
        let _ = task.answer.send(Ok(part)); // who gave up waiting needs no answer
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use domain::definitions::ModelKind;
    use domain::tabular::Column;
    use serde_json::json;

    use super::*;
    use crate::kinds::synthetic::{Planted, model, stream};
    use crate::kinds::{Lesson, learn};
    use crate::training_data::Rows;

    fn trained(kind: ModelKind, recipe: serde_json::Value) -> Arc<Servable> {
        let (train, later) = (Planted::default().rows(0, 400, 1), Planted::default().rows(400, 200, 2));
        let (model, stream) = (model(kind, recipe), stream());
        let lesson = Lesson::new(&model, Some(&stream), &train, &later).unwrap();
        let learned = learn(&lesson, &mut |_| ControlFlow::Continue(())).unwrap();
        Arc::new(Servable::new(kind, "planted".into(), "abc".into(), (learned, 0.0)))
    }

    fn settings() -> BatchingConfig {
        BatchingConfig { queue: 64, rows: 64, wait_milliseconds: 20, deadline_milliseconds: 10_000 }
    }

    fn started(servable: &Arc<Servable>, settings: &BatchingConfig) -> (Engine, Metrics) {
        let metrics = Metrics::made(&service_kit::metrics::Metering::default());
        (Engine::start("planted", 1, servable, settings, &metrics).unwrap(), metrics)
    }

    fn one(rows: &Rows, row: usize) -> Owned {
        Owned {
            table: rows.table.take(&[row]),
            history: rows.history.as_ref().map(|history| history.take(&[row])),
            cutoffs: vec![rows.cutoffs[row]],
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn requests_at_once_share_passes_and_each_gets_what_it_would_get_alone() {
        let fusion = json!({
            "gpt": { "context": 16, "width": 32, "layers": 2, "heads": 2 }, "pretrain": { "max_steps": 5 },
            "fusion": { "tabular_rounds": 1, "joint_rounds": 1, "keep_joint": true },
        });
        for (kind, recipe, tolerance) in [
            (ModelKind::Boosting, json!({ "min_leaf_weight": 5.0 }), 0.0),
            (ModelKind::JointFusion, fusion, 1e-6),
        ] {
            let servable = trained(kind, recipe);
            let (engine, metrics) = started(&servable, &settings());
            let rows = Planted::default().rows(600, 40, 3);
            let asking = (0..40).map(|row| {
                let (engine, asked) = (engine.clone(), one(&rows, row));
                tokio::spawn(async move { engine.ask(asked, Wants::Probabilities).await.unwrap() })
            });
            let asking: Vec<_> = asking.collect();
            for (row, said) in asking.into_iter().enumerate() {
                let said = said.await.unwrap().probabilities;
                let alone = servable.probabilities(one(&rows, row).asked()).unwrap();
                assert!(
                    said.len() == 1 && (said[0] - alone[0]).abs() <= tolerance,
                    "{kind} {row}: {said:?} {alone:?}"
                );
            }
            let batches = metrics.batch_rows.with_label_values(&["planted"]);
            assert_eq!(batches.get_sample_sum(), 40.0);
            assert!(batches.get_sample_count() < 40, "nobody shared a pass");
            assert_eq!(metrics.waiting.with_label_values(&["planted"]).get(), 0);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_queue_refuses_at_once_and_a_row_that_does_not_fit_harms_nobody_else() {
        let servable = trained(ModelKind::Logistic, json!({}));
        let (engine, metrics) = started(&servable, &BatchingConfig { queue: 1, ..settings() });
        let rows = Planted::default().rows(600, 1, 3);
        let mut narrow = one(&rows, 0);
        narrow.table = Table::new(1, vec![("x".into(), Column::Number(vec![0.5]))]).unwrap();
        let asking: Vec<_> = (0..200)
            .map(|at| {
                let (engine, asked) =
                    (engine.clone(), if at % 2 == 0 { one(&rows, 0) } else { narrow.clone() });
                tokio::spawn(async move { engine.ask(asked, Wants::Probabilities).await })
            })
            .collect();
        let mut answered = 0;
        for (at, said) in asking.into_iter().enumerate() {
            match said.await.unwrap() {
                Ok(_) => {
                    assert_eq!(at % 2, 0, "a row without its columns was answered");
                    answered += 1;
                }
                Err(Error::Busy { .. }) => {}
                Err(other) => assert!(at % 2 == 1 && other.to_string().contains("`carrier`"), "{other}"),
            }
        }
        assert!(answered > 0);
        let busy = metrics.rejected.with_label_values(&["planted", "full"]).get();
        let vectors = engine.ask(one(&rows, 0), Wants::Vectors).await.unwrap_err().to_string();
        assert!(vectors.contains("holds no GPT"), "{vectors}");
        assert!((1..200).contains(&busy), "{busy} of 200 were refused");
    }

    #[tokio::test]
    async fn a_request_past_its_deadline_is_told_so() {
        let servable = trained(ModelKind::Logistic, json!({}));
        let (mut engine, metrics) = started(&servable, &settings());
        engine.patience = Duration::ZERO;
        let rows = Planted::default().rows(600, 1, 3);
        let refusal = engine.ask(one(&rows, 0), Wants::Probabilities).await.unwrap_err();
        assert!(matches!(refusal, Error::Late { .. }), "{refusal}");
        assert_eq!(metrics.rejected.with_label_values(&["planted", "late"]).get(), 1);
    }
}
