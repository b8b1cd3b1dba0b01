//! What can go wrong in the worker.

use domain::{Fault, Remedy};

/// Training or serving was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A definition does not exist.
    #[error("there is no {kind} `{name}`; apply its definition first")]
    Undefined {
        /// The kind.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// Nothing serves.
    #[error("`{model}` has no version under the alias `{alias}`; register one and point the alias at it")]
    NothingServes {
        /// The registered model.
        model: String,
        /// The alias.
        alias: String,
    },
    /// A window of the split is too small to learn from or to judge on.
    #[error("the {window} window has {rows} rows, at least {needed} are needed; widen it, or ingest more")]
    TooFewRows {
        /// The window.
        window: &'static str,
        /// Its rows.
        rows: usize,
        /// What it needs.
        needed: usize,
    },
    /// A recipe does not fit its kind.
    #[error("the recipe of model `{model}` does not fit: {why}")]
    Recipe {
        /// The model.
        model: String,
        /// What the reader said.
        why: String,
    },
    /// A model needs histories and the dataset has none.
    #[error("model `{0}` reads histories, and its dataset names no `history`; name an event stream there")]
    NoHistory(String),
    /// A request does not fit.
    #[error("{0}")]
    BadRequest(String),
    /// A stored model cannot be read.
    #[error("the model file `{path}` cannot be read: {why}")]
    ModelFile {
        /// The file.
        path: String,
        /// What the reader said.
        why: String,
    },
    /// Work was asked to end early.
    #[error("the job was cancelled")]
    Cancelled,
    /// The online store could not be read.
    #[error(transparent)]
    Read(#[from] service_kit::online::ReadError),
    /// The database.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// Columns or files.
    #[error(transparent)]
    Frames(#[from] frames::Error),
    /// Trees.
    #[error(transparent)]
    Boosting(#[from] boosting::Error),
    /// The GPT.
    #[error(transparent)]
    Gpt(#[from] gpt::Error),
    /// An estimator had nothing to work with.
    #[error("the evaluation failed: {0}")]
    Statistics(#[from] statistics::Error),
    /// A thread of ours ended early.
    #[error("a worker thread ended early")]
    Thread(#[from] tokio::task::JoinError),
}

impl From<sqlx::Error> for Error {
    fn from(cause: sqlx::Error) -> Self {
        Self::Storage(cause.into())
    }
}

impl Fault for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Undefined { .. } | Self::NothingServes { .. } => Remedy::LookElsewhere,
            Self::TooFewRows { .. } | Self::Recipe { .. } | Self::NoHistory(_) | Self::BadRequest(_) => {
                Remedy::FixRequest
            }
            Self::ModelFile { .. } | Self::Thread(_) => Remedy::ReportBug,
            Self::Statistics(_) => Remedy::FixRequest,
            Self::Cancelled => Remedy::RetryLater,
            Self::Read(cause) => cause.remedy(),
            Self::Storage(cause) => cause.remedy(),
            Self::Frames(cause) => cause.remedy(),
            Self::Boosting(cause) => cause.remedy(),
            Self::Gpt(cause) => cause.remedy(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Undefined { .. } => "undefined",
            Self::NothingServes { .. } => "nothing-serves",
            Self::TooFewRows { .. } => "too-few-rows",
            Self::Recipe { .. } => "recipe",
            Self::NoHistory(_) => "no-history",
            Self::BadRequest(_) => "bad-request",
            Self::ModelFile { .. } => "model-file",
            Self::Cancelled => "cancelled",
            Self::Statistics(_) => "evaluation",
            Self::Thread(_) => "thread",
            Self::Read(cause) => cause.code(),
            Self::Storage(cause) => cause.code(),
            Self::Frames(cause) => cause.code(),
            Self::Boosting(cause) => cause.code(),
            Self::Gpt(cause) => cause.code(),
        }
    }
}
