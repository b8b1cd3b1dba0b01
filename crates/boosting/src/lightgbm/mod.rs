//! LightGBM itself, behind the Cargo feature `lightgbm`: the same rows and recipe, its own trees, its own text in our file.
//!
//! The library is Python's: predictions are equal to the byte. What it does not check is checked here before it is asked:
//! weights, a single class, labels that are no number, the count of columns.

mod library;

use domain::tabular::Table;
use serde::{Deserialize, Serialize};

use crate::encoding::Encoding;
use crate::lesson::{Lesson, Rows};
use crate::model::shares;
use crate::{Error, Judging, Library, Recipe};
use library::{Booster, Dataset, Features, Training};

/// The format of the model file that this version writes, and the only one it reads.
const FORMAT: u64 = 1;

/// A trained model.
pub struct LightGbm {
    stored: Stored,
    booster: Booster,
    /// The gain of each feature.
    gains: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u64,
    recipe: Recipe,
    columns: Encoding,
    trees: usize,
    /// LightGBM's own text.
    model: String,
}

impl std::fmt::Debug for LightGbm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LightGbm").field("trees", &self.stored.trees).finish_non_exhaustive()
    }
}

/// The recipe in LightGBM's words. `deterministic` and `force_row_wise` make a run repeat itself on any number of threads.
pub fn parameters(recipe: &Recipe, categories: &[usize]) -> String {
    let categories: Vec<String> = categories.iter().map(ToString::to_string).collect();
    let categories = if categories.is_empty() {
        String::new()
    } else {
        format!(" categorical_feature={}", categories.join(","))
    };
    format!(
        "objective=binary metric=binary_logloss verbosity=-1 deterministic=true force_row_wise=true \
         learning_rate={} num_leaves={} lambda_l2={} min_sum_hessian_in_leaf={} min_data_in_leaf=20 max_bin={} \
         bagging_fraction={} bagging_freq=1 feature_fraction={} seed={}{categories}",
        recipe.learning_rate,
        recipe.max_leaves,
        recipe.l2,
        recipe.min_leaf_weight,
        recipe.bins,
        recipe.subsample,
        recipe.colsample,
        recipe.seed % (1 << 31),
    )
}

impl LightGbm {
    /// As [`crate::Boosting::train`].
    ///
    /// # Errors
    /// As there, and [`Error::NoLightGbm`] if the library cannot be loaded.
    pub fn train(
        train: &Table,
        labels: &[f64],
        weights: Option<&[f64]>,
        validation: Option<Judging<'_>>,
        recipe: &Recipe,
    ) -> Result<Self, Error> {
        let Lesson { columns, train, judge } = Lesson::new((train, labels, weights), validation, recipe)?;
        let parameters = parameters(recipe, &columns.categories());
        let dataset = |rows: &Rows<'_>, like: Option<&Dataset>| {
            let features = Features::new(&rows.features, rows.count, columns.len())?;
            Dataset::new(features, &parameters, like, (rows.labels, &rows.weights))
        };
        let train = dataset(&train, None)?;
        let judge = judge.map(|rows| dataset(&rows, Some(&train))).transpose()?;
        let (model, trees) = grown(&train, judge.as_ref(), &parameters, recipe)?;
        let recipe = Recipe { library: Library::Lightgbm, ..recipe.clone() };
        Self::of(Stored { format: FORMAT, recipe, columns, trees, model })
    }

    /// The model that a text of LightGBM's is.
    fn of(stored: Stored) -> Result<Self, Error> {
        let booster = Booster::read(&stored.model)?;
        let (found, known) = (booster.features()?, stored.columns.len());
        if found != known {
            return Err(Error::LightGbm(format!("trees over {found} columns beside {known} names")));
        }
        let gains = booster.gains()?;
        Ok(Self { stored, booster, gains })
    }

    /// As [`crate::Boosting::predict`].
    ///
    /// # Errors
    /// As there.
    pub fn predict(&self, table: &Table) -> Result<Vec<f64>, Error> {
        let features = self.stored.columns.encode(table)?;
        if table.rows() == 0 {
            return Ok(Vec::new());
        }
        self.booster.predict(Features::new(&features, table.rows(), self.stored.columns.len())?)
    }

    /// As [`crate::Boosting::importance`].
    pub fn importance(&self) -> Vec<(String, f64)> {
        shares(self.stored.columns.names(), |feature| self.gains.get(feature).copied().unwrap_or(0.0))
    }

    /// The number of trees that predict.
    pub fn trees(&self) -> usize {
        self.stored.trees
    }

    /// LightGBM's own text of the trees, which Python reads.
    pub fn text(&self) -> &str {
        &self.stored.model
    }

    /// As [`crate::Boosting::to_json`].
    ///
    /// # Errors
    /// As there.
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string(&self.stored).map_err(Error::Unwritable)
    }

    /// As [`crate::Boosting::from_json`].
    ///
    /// # Errors
    /// As there, and [`Error::LightGbm`] for a text that is no model or has other columns.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        let stored: Stored = serde_json::from_str(json).map_err(Error::Unreadable)?;
        if stored.format != FORMAT {
            return Err(Error::UnknownFormat { found: stored.format, known: FORMAT });
        }
        Self::of(stored)
    }
}

/// Grows trees until there are enough, none can be grown, or the validation loss has not fallen for long; returns the text of
/// the best ones and their number.
fn grown(
    dataset: &Dataset,
    judge: Option<&Dataset>,
    parameters: &str,
    recipe: &Recipe,
) -> Result<(String, usize), Error> {
    let mut training = Training::new(dataset, judge, parameters)?;
    let (mut best, mut kept) = (f64::INFINITY, 0);
    for tree in 1..=recipe.iterations {
        if training.grow()? {
            break;
        }
        let Some(patience) = recipe.early_stopping_rounds.filter(|_| judge.is_some()) else {
            kept = tree;
            continue;
        };
        let loss = training.validation_loss()?;
        if loss < best {
            (best, kept) = (loss, tree);
        } else if tree - kept >= patience {
            break;
        }
    }
    Ok((training.text(kept)?, kept))
}
