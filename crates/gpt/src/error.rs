//! What can go wrong here, and what the caller can do about it.

use std::path::PathBuf;

use domain::{Fault, Remedy};

/// Why tokenizing, training or predicting failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor operation failed.
    #[error("a tensor operation failed")]
    Tensor(#[from] candle_core::Error),
    /// A file could not be read or written.
    #[error("could not read or write `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Text is not the JSON of what it should be.
    #[error("{what} is not valid")]
    Json {
        /// What was being read.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file was written by another version of this crate.
    #[error("{what} has format {found}, but this version reads format {known}")]
    Format {
        /// What was being read.
        what: &'static str,
        /// The number it carries.
        found: u32,
        /// The number that would be read.
        known: u32,
    },
    /// A column the model was trained with is not there.
    #[error("column `{name}` is missing")]
    MissingColumn {
        /// The column.
        name: String,
    },
    /// A column holds another kind of value than the model was trained with.
    #[error("column `{name}` holds {found} where {expected} are expected")]
    ColumnKind {
        /// The column.
        name: String,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        found: &'static str,
    },
    /// Two inputs that go row by row have different lengths.
    #[error("{found} rows in {what} where {expected} are expected")]
    Rows {
        /// The input.
        what: &'static str,
        /// Its rows.
        found: usize,
        /// The rows of the others.
        expected: usize,
    },
    /// A recipe or a specification asks for something impossible.
    #[error("the recipe cannot be followed: {reason}")]
    Recipe {
        /// Which rule it breaks.
        reason: String,
    },
    /// There is nothing to learn from.
    #[error("{what} is empty")]
    Empty {
        /// What is empty.
        what: &'static str,
    },
    /// Stored weights do not fit the model.
    #[error("weights `{name}` do not fit: {reason}")]
    Weights {
        /// The tensor.
        name: String,
        /// How it differs.
        reason: String,
    },
    /// A token id is beyond the vocabulary.
    #[error(
        "token {id} is beyond the vocabulary of {vocabulary}; was the text encoded by another tokenizer?"
    )]
    Token {
        /// The id.
        id: u32,
        /// Tokens the model knows.
        vocabulary: usize,
    },
    /// A tokenizer file is not one we can follow.
    #[error("the tokenizer cannot be used: {reason}")]
    Tokenizer {
        /// Why.
        reason: String,
    },
    /// A device cannot be had.
    #[error("the device `{name}` cannot be used: {reason}")]
    Device {
        /// As it was named.
        name: String,
        /// Why.
        reason: String,
    },
    /// Training diverged.
    #[error("the loss or its gradient is no longer finite at step {step}; try a smaller learning rate")]
    NonFiniteLoss {
        /// The step, from 1.
        step: usize,
    },
    /// The caller stopped training before there was a model.
    #[error("training was stopped at step {step}")]
    Stopped {
        /// The last completed step.
        step: usize,
    },
}

impl Fault for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Tensor(_) | Self::File { .. } => Remedy::ReportBug,
            Self::Stopped { .. } => Remedy::RetryLater,
            _ => Remedy::FixRequest,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Tensor(_) => "tensor-operation-failed",
            Self::File { .. } => "model-file-unreadable",
            Self::Json { .. } => "model-file-invalid",
            Self::Format { .. } => "model-format-unknown",
            Self::MissingColumn { .. } => "column-missing",
            Self::ColumnKind { .. } => "column-kind-changed",
            Self::Rows { .. } => "row-counts-differ",
            Self::Recipe { .. } => "recipe-impossible",
            Self::Empty { .. } => "nothing-to-learn-from",
            Self::Weights { .. } => "weights-do-not-fit",
            Self::Token { .. } => "token-unknown",
            Self::Tokenizer { .. } => "tokenizer-invalid",
            Self::Device { .. } => "device-unusable",
            Self::NonFiniteLoss { .. } => "training-diverged",
            Self::Stopped { .. } => "training-stopped",
        }
    }
}

/// Refuses a file of another format.
pub(crate) fn check_format(what: &'static str, found: u32, known: u32) -> Result<(), Error> {
    if found == known { Ok(()) } else { Err(Error::Format { what, found, known }) }
}

/// Refuses inputs of different lengths.
pub(crate) fn check_rows(what: &'static str, found: usize, expected: usize) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::Rows { what, found, expected }) }
}
