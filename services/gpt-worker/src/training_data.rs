//! A training set in memory, cut by time.

use domain::definitions::{Dataset, Definitions, EventStream, Model, Split};
use domain::ids::{JobId, TrainingSetId};
use domain::split::Window;
use domain::tabular::{History, Table};
use domain::{Cutoff, LabelTime};
use frames::training_set::{Manifest, TrainingSet};
use statistics::Generator;

use crate::checkpoint::Checkpoints;
use crate::path::Windows;
use crate::{Error, Worker};

/// Everything a training run needs.
pub(crate) struct TrainingData {
    pub(crate) id: TrainingSetId,
    pub(crate) definitions: Definitions,
    pub(crate) model: Model,
    pub(crate) dataset: Dataset,
    pub(crate) manifest: Manifest,
    pub(crate) set: TrainingSet,
    pub(crate) split: Split,
    pub(crate) device: gpt::Device,
    pub(crate) checkpoints: Checkpoints,
}

/// Which rows are for what.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) train: Vec<usize>,
    pub(crate) fitting: Vec<usize>,
    pub(crate) judging: Vec<usize>,
    pub(crate) test: Vec<usize>,
}

impl Places {
    /// The newest outcome that training, early stopping and calibration see.
    pub(crate) fn trained_through(&self, data: &TrainingData) -> LabelTime {
        let seen = self.train.iter().chain(&self.fitting).chain(&self.judging);
        let newest = seen.map(|&row| data.set.label_times[row]).max();
        newest.and_then(LabelTime::from_micros).unwrap_or_default()
    }

    /// The rows to learn and calibrate with, at most as many as the model says, and those to judge on.
    pub(crate) fn rows(self, data: &TrainingData) -> (Windows, Rows) {
        let train = sample(self.train, data.model.max_train_rows, data.model.seed);
        let windows = Windows {
            train: data.rows(train),
            fitting: data.rows(self.fitting),
            judging: data.rows(self.judging),
        };
        (windows, data.rows(self.test))
    }
}

/// Some rows of a training set.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) places: Vec<usize>,
    pub(crate) table: Table,
    pub(crate) history: Option<History>,
    pub(crate) cutoffs: Vec<i64>,
    pub(crate) labels: Vec<bool>,
}

impl Rows {
    /// The labels as numbers.
    pub(crate) fn targets(&self) -> Vec<f64> {
        self.labels.iter().map(|label| f64::from(u8::from(*label))).collect()
    }
}

impl TrainingData {
    /// Reads the set and the definitions for a job. With `rolling`, the split counts back from the set's moment of knowledge.
    pub(crate) async fn load(
        worker: &Worker,
        job: JobId,
        project: &str,
        model: &str,
        id: TrainingSetId,
        rolling: bool,
    ) -> Result<Self, Error> {
        let context = &worker.context;
        let mut conn = context.db.acquire().await?;
        let row = storage::training_sets::get(&mut conn, project, id).await?;
        let definitions = storage::definitions::load(&mut conn, project).await?;
        drop(conn);
        let undefined = |kind, name: &str| Error::Undefined { kind, name: name.to_owned() };
        let model = definitions.model(model).cloned().ok_or_else(|| undefined("model", model))?;
        let dataset =
            definitions.dataset(&row.dataset).cloned().ok_or_else(|| undefined("dataset", &row.dataset))?;
        let manifest: Manifest = serde_json::from_value(row.manifest.clone())
            .map_err(|error| storage::Error::Unreadable { what: "manifest", why: error.to_string() })?;
        let split = match model.rolling.filter(|_| rolling) {
            Some(windows) => {
                let validation_until = row.as_of - windows.test.delta();
                Split {
                    train_until: Cutoff(validation_until - windows.validation.delta()),
                    validation_until: Cutoff(validation_until),
                }
            }
            None => dataset.split,
        };
        let (url, folder) = (context.config.offline.url.clone(), context.data_dir.clone());
        let wanted = manifest.clone();
        let set = tokio::task::spawn_blocking(move || {
            let store = frames::store::Store::at(url.as_deref(), &folder)?;
            let path = store.local(&row.path, &row.sha256)?;
            let history = match row.history_path.zip(row.history_sha256) {
                Some((path, sha256)) => Some((store.local(&path, &sha256)?, sha256)),
                None => None,
            };
            let history = history.as_ref().map(|(path, sha256)| (path.as_path(), sha256.as_str()));
            frames::training_set::read(&path, &row.sha256, history, &wanted)
        })
        .await??;
        let (device, checkpoints) = (worker.device.clone(), Checkpoints::of(context, job));
        Ok(Self { id, definitions, model, dataset, manifest, set, split, device, checkpoints })
    }

    /// How histories become tokens, if the dataset has any.
    pub(crate) fn stream(&self) -> Option<&EventStream> {
        self.dataset.history.as_ref().and_then(|name| self.definitions.event_stream(name))
    }

    /// Which rows are for what, each window in order of time.
    ///
    /// # Errors
    /// [`Error::TooFewRows`] names the window.
    pub(crate) fn places_of(&self, windows: &[Window]) -> Result<Places, Error> {
        let train = self.places(windows, Window::Train);
        let mut fitting = self.places(windows, Window::Validation);
        let test = self.places(windows, Window::Test);
        at_least("training", &train, 200)?;
        at_least("validation", &fitting, 100)?;
        at_least("test", &test, 100)?;
        // The earlier half stops training early and fits the calibrator; the later half says whether the calibrator helps.
        let judging = fitting.split_off(fitting.len() / 2);
        Ok(Places { train, fitting, judging, test })
    }

    /// Where each row belongs under the split.
    pub(crate) fn windows(&self) -> Vec<Window> {
        self.windows_by(|cutoff, label| self.split.window(cutoff, label))
    }

    /// Where each row belongs under a rule.
    pub(crate) fn windows_by(&self, rule: impl Fn(Cutoff, LabelTime) -> Window) -> Vec<Window> {
        let window = |row: usize| {
            let cutoff = Cutoff::from_micros(self.set.cutoffs[row]);
            let label_time = LabelTime::from_micros(self.set.label_times[row]);
            cutoff.zip(label_time).map_or(Window::Purged, |(cutoff, label)| rule(cutoff, label))
        };
        (0..self.set.rows.len()).map(window).collect()
    }

    /// The rows of one window, in order of time.
    pub(crate) fn places(&self, windows: &[Window], wanted: Window) -> Vec<usize> {
        let mut places: Vec<usize> = (0..windows.len()).filter(|&row| windows[row] == wanted).collect();
        places.sort_by_key(|&row| (self.set.cutoffs[row], row));
        places
    }

    /// The rows at these places.
    pub(crate) fn rows(&self, places: Vec<usize>) -> Rows {
        Rows {
            table: self.set.table.take(&places),
            history: self.set.history.as_ref().map(|history| history.take(&places)),
            cutoffs: places.iter().map(|&row| self.set.cutoffs[row]).collect(),
            labels: places.iter().map(|&row| self.set.labels[row]).collect(),
            places,
        }
    }
}

/// At most `most` of these places, chosen by seed, in their order.
pub(crate) fn sample(places: Vec<usize>, most: Option<usize>, seed: u64) -> Vec<usize> {
    let Some(most) = most.filter(|most| *most < places.len()) else { return places };
    let mut generator = Generator::from_seed(seed);
    let mut shuffled = places;
    for at in 0..most {
        let other = at + generator.below(shuffled.len() - at);
        shuffled.swap(at, other);
    }
    shuffled.truncate(most);
    shuffled.sort_unstable();
    shuffled
}

/// Refuses a window with too few rows.
pub(crate) fn at_least(window: &'static str, places: &[usize], needed: usize) -> Result<(), Error> {
    if places.len() < needed {
        return Err(Error::TooFewRows { window, rows: places.len(), needed });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_subset_in_order_and_the_same_for_the_same_seed() {
        let places: Vec<usize> = (0..100).collect();
        let first = sample(places.clone(), Some(10), 7);
        assert_eq!(first, sample(places.clone(), Some(10), 7));
        assert_eq!(first.len(), 10);
        assert!(first.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(sample(places.clone(), Some(1_000), 7), places);
    }
}
