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
    /// All rows of a window have the same outcome.
    #[error(
        "all {rows} rows of the {window} window have the outcome {outcome}: nothing tells what makes the difference; widen the \
         window, or look at the label"
    )]
    OneClass {
        /// The window.
        window: &'static str,
        /// Its rows.
        rows: usize,
        /// What they all came to.
        outcome: bool,
    },
    /// A fold of a backtest could not be walked.
    #[error("fold {number} (test from {from}): {cause}")]
    Fold {
        /// Which one, from 1.
        number: usize,
        /// Where its test begins.
        from: domain::Cutoff,
        /// Why.
        cause: Box<Self>,
    },
    /// No row has an event.
    #[error(
        "no training row has an event of stream `{stream}`: ingest events, or take another kind of model"
    )]
    EmptyHistories {
        /// The stream.
        stream: String,
    },
    /// The features are no longer those that a model was trained on.
    #[error(
        "the model was trained on other features of dataset `{dataset}` than it has now (schema {trained}, now {now}); train it \
         anew, or let a version that knows them serve"
    )]
    Schema {
        /// The dataset.
        dataset: String,
        /// Fingerprint of what it was trained on.
        trained: String,
        /// Fingerprint of what there is now.
        now: String,
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
    /// A version holds nothing that this worker could load.
    #[error("version {version} of `{model}` is not there, or holds no model that was trained here")]
    NoSuchModel {
        /// The registered model.
        model: String,
        /// The version.
        version: i32,
    },
    /// A model without a GPT was asked for what only a GPT can say.
    #[error(
        "`{model}` is of kind `{kind}` and holds no GPT; ask a version of kind gpt-classifier, late-fusion or joint-fusion"
    )]
    NoGpt {
        /// The registered model.
        model: String,
        /// Its kind.
        kind: domain::definitions::ModelKind,
    },
    /// Too many requests wait for a model.
    #[error(
        "`{model}` has as many requests waiting as it may; send this one again in a moment, or fewer at a time"
    )]
    Busy {
        /// The registered model.
        model: String,
    },
    /// A request waited too long for its answer.
    #[error("`{model}` did not answer within {milliseconds} ms; send fewer rows or requests at a time")]
    Late {
        /// The registered model.
        model: String,
        /// How long it had.
        milliseconds: u64,
    },
    /// A model's thread has ended.
    #[error("the thread of `{model}` has ended; send the request again")]
    Gone {
        /// The registered model.
        model: String,
    },
    /// The system gave no thread.
    #[error("no thread could be started for a model: {0}")]
    NoThread(std::io::Error),
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
            Self::Undefined { .. } | Self::NothingServes { .. } | Self::NoSuchModel { .. } => {
                Remedy::LookElsewhere
            }
            Self::Fold { cause, .. } => cause.remedy(),
            Self::Busy { .. } => Remedy::SlowDown,
            Self::Late { .. } | Self::Gone { .. } => Remedy::RetryLater,
            Self::TooFewRows { .. }
            | Self::OneClass { .. }
            | Self::EmptyHistories { .. }
            | Self::Recipe { .. }
            | Self::NoHistory(_)
            | Self::NoGpt { .. }
            | Self::BadRequest(_) => Remedy::FixRequest,
            Self::Schema { .. } => Remedy::ResolveConflict,
            Self::ModelFile { .. } | Self::Thread(_) | Self::NoThread(_) => Remedy::ReportBug,
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
            Self::OneClass { .. } => "one-class",
            Self::EmptyHistories { .. } => "empty-histories",
            Self::Schema { .. } => "schema-changed",
            Self::Recipe { .. } => "recipe",
            Self::NoHistory(_) => "no-history",
            Self::BadRequest(_) => "bad-request",
            Self::ModelFile { .. } => "model-file",
            Self::Cancelled => "cancelled",
            Self::Statistics(_) => "evaluation",
            Self::Thread(_) | Self::NoThread(_) => "thread",
            Self::NoSuchModel { .. } => "no-such-model",
            Self::NoGpt { .. } => "no-gpt",
            Self::Fold { cause, .. } => cause.code(),
            Self::Busy { .. } => "busy",
            Self::Late { .. } => "late",
            Self::Gone { .. } => "gone",
            Self::Read(cause) => cause.code(),
            Self::Storage(cause) => cause.code(),
            Self::Frames(cause) => cause.code(),
            Self::Boosting(cause) => cause.code(),
            Self::Gpt(cause) => cause.code(),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header::RETRY_AFTER;
    use axum::response::IntoResponse;
    use service_kit::Problem;

    use super::*;

    #[test]
    fn a_busy_model_answers_429_with_when_to_come_back() {
        let answer = Problem::from(Error::Busy { model: "late".to_owned() }).into_response();
        assert_eq!((answer.status().as_u16(), &answer.headers()[RETRY_AFTER]), (429, &"1".parse().unwrap()));
        let answer = Problem::from(Error::Late { model: "late".to_owned(), milliseconds: 5 }).into_response();
        assert_eq!((answer.status().as_u16(), &answer.headers()[RETRY_AFTER]), (503, &"1".parse().unwrap()));
    }
}
