//! Training, predicting, and the model file.

use domain::tabular::Table;
use forust_ml::gradientbooster::{GrowPolicy, ImportanceMethod};
use forust_ml::metric::Metric;
use forust_ml::objective::ObjectiveType;
use forust_ml::sampler::SampleMethod;
use forust_ml::{GradientBooster, Matrix};
use serde::{Deserialize, Serialize};

use crate::encoding::Encoding;
use crate::lesson::{Lesson, Rows};
use crate::{Error, Judging, Library, Recipe};

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

impl Boosting {
    /// Trains forust-ml's trees, whatever library the recipe names, on rows with labels 0 and 1 and, if given, weights of at
    /// least 0.
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
        let Lesson { columns, train, judge } = Lesson::new((train, labels, weights), validation, recipe)?;
        let mut booster = booster(recipe, columns.len());
        let judge = judge.as_ref().map(|rows| vec![(matrix(rows, &columns), rows.labels, &rows.weights[..])]);
        let rows = matrix(&train, &columns);
        booster.fit(&rows, train.labels, &train.weights, judge).map_err(Error::Library)?;
        // Trees after the best number would only make the file longer and the importance wrong.
        booster.trees.truncate(booster.prediction_iteration.unwrap_or(usize::MAX));
        let recipe = Recipe { library: Library::Forust, ..recipe.clone() };
        Ok(Self { format: FORMAT, recipe, columns, booster })
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

fn matrix<'a>(rows: &'a Rows<'_>, columns: &Encoding) -> Matrix<'a, f64> {
    Matrix::new(&rows.features, rows.count, columns.len())
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
