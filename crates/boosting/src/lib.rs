//! Gradient-boosted trees for events that happen or do not: train, predict log-odds, save, load.
//!
//! Belongs here: the recipe, the checks the library does not make, the encoding of columns, the model file.
//! Not here: where rows come from (`frames`), calibration (`statistics`), versions and stages (`registry`).
//!
//! Invariants: the only crate that names `forust-ml` and, behind the feature `lightgbm`, LightGBM. No Postgres, no HTTP, no
//! clock, no chance but the recipe's seed: the same rows and recipe give the same model, byte for byte, on any number of threads.
//! A model carries its columns' names, kinds and category codes, and is blind to the order of columns.

mod encoding;
mod error;
mod lesson;
#[cfg(feature = "lightgbm")]
pub mod lightgbm;
mod model;
mod recipe;
mod trees;

pub use error::Error;
pub use lesson::Judging;
pub use model::Boosting;
pub use recipe::{Library, Recipe};
pub use trees::Trees;
