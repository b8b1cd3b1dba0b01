//! What can go wrong with monitoring itself, as opposed to what monitors find.

use domain::{Fault, Remedy};

/// A run, a delivery or a question could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// A file of logged predictions or a reference.
    #[error(transparent)]
    Frames(#[from] frames::Error),
    /// A statistic has no value where the monitor's checks say that it must.
    #[error("a measure could not be computed")]
    Statistics(#[from] statistics::Error),
    /// The definition names a column that the model does not read.
    #[error("monitor `{monitor}` names column `{column}`, which version {version} of the model does not read; it reads: {}", known.join(", "))]
    UnknownColumn {
        /// The monitor.
        monitor: String,
        /// The column.
        column: String,
        /// The version.
        version: i32,
        /// What there is.
        known: Vec<String>,
    },
    /// There is nothing to compare with.
    #[error(
        "version {version} of `{model}` was not trained by this platform, so no training rows are kept of it and there is no reference to compare with; register versions from training runs of this platform"
    )]
    NoReference {
        /// The registered model.
        model: String,
        /// The version.
        version: i32,
    },
    /// A batch is too long.
    #[error("a batch holds at most {most} labels, this one holds {found}; send them in parts")]
    TooManyLabels {
        /// The bound.
        most: usize,
        /// What was sent.
        found: usize,
    },
    /// A kept reference cannot be read or written.
    #[error("`{}` holds no reference that can be compared with: {why}", file.display())]
    ReferenceFile {
        /// The file.
        file: std::path::PathBuf,
        /// What the reader said.
        why: String,
    },
    /// A schedule cannot be read.
    #[error("schedule `{name}`: {why}")]
    Schedule {
        /// The schedule.
        name: String,
        /// What the reader said.
        why: String,
    },
    /// Messages cannot be sent at all.
    #[error("no HTTP client can be made")]
    NoClient(#[from] reqwest::Error),
    /// Reading files was interrupted.
    #[error("the reader of prediction files stopped")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Storage(error.into())
    }
}

impl Fault for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Storage(error) => error.remedy(),
            Self::Frames(error) => error.remedy(),
            Self::Statistics(_) | Self::NoClient(_) => Remedy::ReportBug,
            Self::UnknownColumn { .. }
            | Self::NoReference { .. }
            | Self::ReferenceFile { .. }
            | Self::Schedule { .. } => Remedy::FixRequest,
            Self::TooManyLabels { .. } => Remedy::SendLess,
            Self::Interrupted(_) => Remedy::RetryLater,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Storage(error) => error.code(),
            Self::Frames(error) => error.code(),
            Self::Statistics(_) => "statistics",
            Self::UnknownColumn { .. } => "unknown-column",
            Self::NoReference { .. } => "no-reference",
            Self::ReferenceFile { .. } => "unreadable-reference",
            Self::TooManyLabels { .. } => "too-many-labels",
            Self::Schedule { .. } => "invalid-schedule",
            Self::NoClient(_) => "no-http-client",
            Self::Interrupted(_) => "interrupted",
        }
    }
}
