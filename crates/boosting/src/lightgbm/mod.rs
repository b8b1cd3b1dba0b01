//! LightGBM itself, behind the Cargo feature `lightgbm`: the same rows and recipe, its own trees, its own text in our file.
//!
//! The library is Python's: predictions are equal to the byte. What it does not check is checked here before it is asked:
//! weights, a single class, labels that are no number, the count of columns.

mod library;

use domain::tabular::Table;
use serde::{Deserialize, Serialize};

use crate::encoding::Encoding;
use crate::model::{Judging, check_rows, check_weights, same_length, shares};
use crate::{Error, Recipe};
use library::{Booster, Dataset, Features, Training};

/// The format of the model file that this version writes, and the only one it reads.
const FORMAT: u64 = 1;

/// A trained model.
pub struct LightGbm {
    stored: Stored,
    booster: Booster,
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
        recipe.check()?;
        check_rows("training table", train, labels)?;
        let ones = |rows: usize| vec![1.0; rows];
        let weights = weights.map_or_else(|| ones(train.rows()), <[f64]>::to_vec);
        check_weights(labels, &weights)?;
        let columns = Encoding::learn(train)?;
        let parameters = parameters(recipe, &columns.categories());
        let (features, wide) = (columns.encode(train)?, columns.len());
        let features = Features::new(&features, train.rows(), wide)?;
        let dataset = Dataset::new(features, &parameters, None, (labels, &weights))?;
        let judge = match validation {
            None => None,
            Some((table, truth, judging)) => {
                check_rows("validation table", table, truth)?;
                let judging = judging.map_or_else(|| ones(table.rows()), <[f64]>::to_vec);
                same_length("validation weights", judging.len(), table.rows())?;
                let held_out = columns.encode(table)?;
                let held_out = Features::new(&held_out, table.rows(), wide)?;
                Some(Dataset::new(held_out, &parameters, Some(&dataset), (truth, &judging))?)
            }
        };
        let (model, trees) = grown(&dataset, judge.as_ref(), &parameters, recipe)?;
        let booster = Booster::read(&model)?;
        let stored = Stored { format: FORMAT, recipe: recipe.clone(), columns, trees, model };
        Ok(Self { stored, booster })
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
    ///
    /// # Errors
    /// [`Error::LightGbm`] if the library refuses.
    pub fn importance(&self) -> Result<Vec<(String, f64)>, Error> {
        let gains = self.booster.gains()?;
        Ok(shares(self.stored.columns.names(), |feature| gains.get(feature).copied().unwrap_or(0.0)))
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
        let booster = Booster::read(&stored.model)?;
        let (found, known) = (booster.features()?, stored.columns.len());
        if found != known {
            return Err(Error::LightGbm(format!("trees over {found} columns beside {known} names")));
        }
        Ok(Self { stored, booster })
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
