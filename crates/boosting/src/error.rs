//! What can be wrong with rows, recipes and model files.

use domain::{Fault, Remedy};

/// Why a model could not be trained, read or applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A recipe setting lies outside its domain.
    #[error("the recipe's `{setting}` must be {domain}")]
    BadRecipe {
        /// The setting.
        setting: &'static str,
        /// What would be allowed.
        domain: &'static str,
    },
    /// No rows, or no columns.
    #[error("the {what} has no {missing}")]
    Empty {
        /// Which table.
        what: &'static str,
        /// Rows or columns.
        missing: &'static str,
    },
    /// One label or weight a row is needed.
    #[error("there are {found} {what} for {rows} rows")]
    LengthMismatch {
        /// Labels or weights.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        rows: usize,
    },
    /// A label other than 0 and 1.
    #[error("the label of row {row} is {value}, not 0 or 1")]
    BadLabel {
        /// The first such row.
        row: usize,
        /// Its label.
        value: f64,
    },
    /// A weight that is negative, infinite or NaN.
    #[error("the weight of row {row} is {value}, not a finite number of at least 0")]
    BadWeight {
        /// The first such row.
        row: usize,
        /// Its weight.
        value: f64,
    },
    /// All weights are 0.
    #[error("every row has weight 0")]
    NoWeight,
    /// Among the rows that count, the event always happened or never did.
    #[error("all labels of the rows with a weight are {label}")]
    OneClass {
        /// The only label.
        label: u8,
    },
    /// Two columns share a name.
    #[error("two columns are named `{name}`")]
    DuplicateColumn {
        /// The name.
        name: String,
    },
    /// A column the model was trained on is not there.
    #[error("the column `{name}` is missing")]
    MissingColumn {
        /// The name.
        name: String,
    },
    /// A column holds numbers where the model knows categories, or the reverse.
    #[error("the column `{name}` should hold {expected}")]
    WrongKind {
        /// The name.
        name: String,
        /// What the model was trained on.
        expected: &'static str,
    },
    /// The file was written by another version of this crate.
    #[error("the model has format {found}, but this version reads format {known}")]
    UnknownFormat {
        /// The file's format.
        found: u64,
        /// The one format that can be read.
        known: u64,
    },
    /// The file is not a model.
    #[error("the model could not be read")]
    Unreadable(#[source] serde_json::Error),
    /// The model could not be written as JSON.
    #[error("the model could not be written")]
    Unwritable(#[source] serde_json::Error),
    /// LightGBM was asked for and is not there.
    #[error("LightGBM is not there: {0}")]
    NoLightGbm(String),
    /// LightGBM refused what passed our checks, or a model file.
    #[error("LightGBM refused: {0}")]
    LightGbm(String),
    /// The library refused what passed our checks.
    #[error("the boosting library refused the rows")]
    Library(#[source] forust_ml::errors::ForustError),
}

impl Fault for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::UnknownFormat { .. } => Remedy::ResolveConflict,
            Self::Unwritable(_) | Self::Library(_) => Remedy::ReportBug,
            _ => Remedy::FixRequest,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::BadRecipe { .. } => "bad-boosting-recipe",
            Self::Empty { .. } => "empty-table",
            Self::LengthMismatch { .. } => "length-mismatch",
            Self::BadLabel { .. } => "bad-label",
            Self::BadWeight { .. } => "bad-weight",
            Self::NoWeight => "no-weight",
            Self::OneClass { .. } => "one-class",
            Self::DuplicateColumn { .. } => "duplicate-column",
            Self::MissingColumn { .. } => "missing-column",
            Self::WrongKind { .. } => "wrong-column-kind",
            Self::UnknownFormat { .. } => "unknown-model-format",
            Self::Unreadable(_) => "unreadable-model",
            Self::Unwritable(_) => "unwritable-model",
            Self::Library(_) | Self::LightGbm(_) => "boosting-library",
            Self::NoLightGbm(_) => "no-lightgbm",
        }
    }
}
