//! Training, predicting, and the model file.

use domain::tabular::Table;
use forust_ml::gradientbooster::{GrowPolicy, ImportanceMethod};
use forust_ml::metric::Metric;
use forust_ml::objective::ObjectiveType;
use forust_ml::sampler::SampleMethod;
use forust_ml::{GradientBooster, Matrix};
use serde::{Deserialize, Serialize};

use crate::encoding::Encoding;
use crate::{Error, Recipe};

/// The format of the model file that this version writes, and the only one it reads.
const FORMAT: u64 = 1;

/// From this many rows on, a prediction uses all threads; the result is the same.
const PARALLEL_ROWS: usize = 4_096;

/// A trained model.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boosting {
    format: u64,
    recipe: Recipe,
    columns: Encoding,
    booster: GradientBooster,
}

/// The one field every format has.
#[derive(Deserialize)]
struct Header {
    format: u64,
}

impl std::fmt::Debug for Boosting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Boosting")
            .field("recipe", &self.recipe)
            .field("columns", &self.columns)
            .field("trees", &self.trees())
            .finish()
    }
}

/// Rows that say when to stop: the table, its labels, and how much each row counts, if not equally.
pub type Judging<'a> = (&'a Table, &'a [f64], Option<&'a [f64]>);

impl Boosting {
    /// Trains on rows with labels 0 and 1 and, if given, weights of at least 0.
    ///
    /// With a validation set (rows, labels, and weights if given) and `early_stopping_rounds`, the number of trees is the
    /// one with the least log-loss there. Without, it is `iterations`. Missing numbers (NaN), infinities, columns that are
    /// constant or all missing are fine. The progress of a run cannot be watched: the library has no callback.
    /// # Errors
    /// Whatever [`Error`] names, before training starts; [`Error::Library`] only for what we did not foresee.
    pub fn train(
        train: &Table,
        labels: &[f64],
        weights: Option<&[f64]>,
        validation: Option<Judging<'_>>,
        recipe: &Recipe,
    ) -> Result<Self, Error> {
        recipe.check()?;
        check_rows("training table", train, labels)?;
        let weights = weights.map_or_else(|| vec![1.0; train.rows()], <[f64]>::to_vec);
        check_weights(labels, &weights)?;
        let columns = Encoding::learn(train)?;
        let features = columns.encode(train)?;
        let matrix = Matrix::new(&features, train.rows(), columns.len());
        let mut booster = booster(recipe, columns.len());
        match validation {
            None => booster.fit(&matrix, labels, &weights, None),
            Some((table, truth, judging)) => {
                check_rows("validation table", table, truth)?;
                let held_out = columns.encode(table)?;
                let held_out = Matrix::new(&held_out, table.rows(), columns.len());
                let judging = judging.map_or_else(|| vec![1.0; table.rows()], <[f64]>::to_vec);
                same_length("validation weights", judging.len(), table.rows())?;
                booster.fit(&matrix, labels, &weights, Some(vec![(held_out, truth, &judging)]))
            }
        }
        .map_err(Error::Library)?;
        // Trees after the best number would only make the file longer and the importance wrong.
        booster.trees.truncate(booster.prediction_iteration.unwrap_or(usize::MAX));
        Ok(Self { format: FORMAT, recipe: recipe.clone(), columns, booster })
    }

    /// The log-odds of the event for each row; the probability is their sigmoid.
    ///
    /// Columns are found by name; others than the model's are ignored, unseen categories are missing.
    /// # Errors
    /// [`Error::MissingColumn`], [`Error::WrongKind`].
    pub fn predict(&self, table: &Table) -> Result<Vec<f64>, Error> {
        let features = self.columns.encode(table)?;
        if table.rows() == 0 {
            return Ok(Vec::new());
        }
        let matrix = Matrix::new(&features, table.rows(), self.columns.len());
        Ok(self.booster.predict(&matrix, table.rows() >= PARALLEL_ROWS))
    }

    /// Each column's share of the total gain, greatest first, ties by name; 0 for a column no tree asks.
    pub fn importance(&self) -> Vec<(String, f64)> {
        let gains = self.booster.calculate_feature_importance(ImportanceMethod::TotalGain, false);
        let gain = |feature: usize| gains.get(&feature).map_or(0.0, |&gain| f64::from(gain).max(0.0));
        shares(self.columns.names(), gain)
    }

    /// The number of trees that predict.
    pub fn trees(&self) -> usize {
        self.booster.trees.len()
    }

    /// What the model was trained with.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The names of the columns the model needs, ascending.
    pub fn columns(&self) -> Vec<&str> {
        self.columns.names().collect()
    }

    /// The model file: format, recipe, columns with their categories, trees. Equal models give equal text.
    ///
    /// # Errors
    /// [`Error::Unwritable`] for nothing we know of.
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(Error::Unwritable)
    }

    /// Reads a model file; the model predicts bit for bit what the one that was written did.
    ///
    /// # Errors
    /// [`Error::UnknownFormat`] for the file of another version; [`Error::Unreadable`] for any other text.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        let Header { format } = serde_json::from_str(json).map_err(Error::Unreadable)?;
        if format != FORMAT {
            return Err(Error::UnknownFormat { found: format, known: FORMAT });
        }
        serde_json::from_str(json).map_err(Error::Unreadable)
    }
}

fn booster(recipe: &Recipe, columns: usize) -> GradientBooster {
    // The library takes ⌊columns · share⌋ columns, which must not be none.
    let one = (1.5 / columns as f64).min(1.0);
    let mut booster = GradientBooster::default()
        .set_objective_type(ObjectiveType::LogLoss)
        .set_iterations(recipe.iterations)
        .set_learning_rate(recipe.learning_rate)
        .set_max_leaves(recipe.max_leaves)
        // A tree of n leaves is at most n − 1 deep: only the number of leaves limits it.
        .set_max_depth(recipe.max_leaves)
        .set_l2(recipe.l2)
        .set_min_leaf_weight(recipe.min_leaf_weight)
        .set_nbins(recipe.bins)
        .set_subsample(recipe.subsample)
        .set_sample_method(SampleMethod::Random)
        .set_colsample_bytree(recipe.colsample.max(one))
        .set_seed(recipe.seed)
        .set_initialize_base_score(true)
        .set_early_stopping_rounds(recipe.early_stopping_rounds)
        .set_evaluation_metric(Some(Metric::LogLoss));
    booster.grow_policy = GrowPolicy::LossGuide;
    booster
}

/// Each name's share of the total gain, greatest first, ties in the order of the names.
pub(crate) fn shares<'a>(
    names: impl Iterator<Item = &'a str> + Clone,
    gain: impl Fn(usize) -> f64,
) -> Vec<(String, f64)> {
    let total: f64 = names.clone().enumerate().map(|(feature, _)| gain(feature)).sum();
    let share = |gain: f64| if total > 0.0 { gain / total } else { 0.0 };
    let named = names.enumerate().map(|(feature, name)| (name.to_owned(), share(gain(feature))));
    let mut shares: Vec<(String, f64)> = named.collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    shares
}

pub(crate) fn check_rows(what: &'static str, table: &Table, labels: &[f64]) -> Result<(), Error> {
    if table.rows() == 0 || table.columns().is_empty() {
        return Err(Error::Empty { what, missing: if table.rows() == 0 { "rows" } else { "columns" } });
    }
    same_length("labels", labels.len(), table.rows())?;
    match labels.iter().position(|&label| label != 0.0 && label != 1.0) {
        Some(row) => Err(Error::BadLabel { row, value: labels[row] }),
        None => Ok(()),
    }
}

pub(crate) fn check_weights(labels: &[f64], weights: &[f64]) -> Result<(), Error> {
    same_length("weights", weights.len(), labels.len())?;
    if let Some(row) = weights.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0)) {
        return Err(Error::BadWeight { row, value: weights[row] });
    }
    let mut counted =
        labels.iter().zip(weights).filter(|(_, weight)| **weight > 0.0).map(|(label, _)| *label);
    let first = counted.next().ok_or(Error::NoWeight)?;
    if counted.all(|label| label == first) {
        return Err(Error::OneClass { label: u8::from(first == 1.0) });
    }
    Ok(())
}

pub(crate) fn same_length(what: &'static str, found: usize, rows: usize) -> Result<(), Error> {
    if found == rows { Ok(()) } else { Err(Error::LengthMismatch { what, found, rows }) }
}
