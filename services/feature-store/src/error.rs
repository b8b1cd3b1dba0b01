//! What can go wrong in the feature store.

use domain::definitions::Definitions;
use domain::words::did_you_mean;
use domain::{Fault, Remedy};

/// A request was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A definition does not exist.
    #[error("there is no {kind} `{name}` in project `{project}`{hint}")]
    Undefined {
        /// The kind.
        kind: &'static str,
        /// The name.
        name: String,
        /// The project.
        project: String,
        /// What was probably meant, or what there is.
        hint: String,
    },
    /// A change of definitions was refused.
    #[error("nothing was applied: {}", .0.join("; "))]
    ChangeRefused(Vec<String>),
    /// A query parameter or header does not fit.
    #[error("{0}")]
    BadRequest(String),
    /// More was asked for than one request may.
    #[error("one request may hold {most} {what}; send more requests")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many it may hold.
        most: usize,
    },
    /// Writing a file took so long that it may have been removed.
    #[error(
        "writing the rows took longer than the {minutes} minutes that are left for it; send less at once, or raise \
         `offline.keep_unlisted_seconds`"
    )]
    TooSlow {
        /// The time there was.
        minutes: i64,
    },
    /// A reference leads nowhere.
    #[error(transparent)]
    UnknownFeature(#[from] frames::served::Unknown),
    /// A query is for a database that nobody knows.
    #[error(transparent)]
    UnknownConnection(#[from] crate::sources::UnknownConnection),
    /// The online store could not be read.
    #[error(transparent)]
    Read(#[from] service_kit::online::ReadError),
    /// The database.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// Columns or files.
    #[error(transparent)]
    Frames(#[from] frames::Error),
    /// A thread of ours ended early.
    #[error("a worker thread ended early")]
    Thread(#[from] tokio::task::JoinError),
}

impl Error {
    /// There is nothing of that name among `definitions`.
    pub(crate) fn undefined(
        definitions: &Definitions,
        kind: &'static str,
        name: &str,
        project: &str,
    ) -> Self {
        let known = definitions.names(kind);
        let hint = match known.is_empty() {
            true => "; apply its definition first".to_owned(),
            false => did_you_mean(name, known),
        };
        Self::Undefined { kind, name: name.to_owned(), project: project.to_owned(), hint }
    }
}

impl From<sqlx::Error> for Error {
    fn from(cause: sqlx::Error) -> Self {
        Self::Storage(cause.into())
    }
}

impl Fault for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Undefined { .. } => Remedy::LookElsewhere,
            Self::ChangeRefused(_) => Remedy::ResolveConflict,
            Self::BadRequest(_) => Remedy::FixRequest,
            Self::TooMany { .. } => Remedy::SendLess,
            Self::TooSlow { .. } => Remedy::RetryLater,
            Self::UnknownFeature(frames::served::Unknown::Malformed(_)) => Remedy::FixRequest,
            Self::UnknownFeature(_) => Remedy::LookElsewhere,
            Self::UnknownConnection(cause) => cause.remedy(),
            Self::Read(cause) => cause.remedy(),
            Self::Storage(cause) => cause.remedy(),
            Self::Frames(cause) => cause.remedy(),
            Self::Thread(_) => Remedy::ReportBug,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Undefined { .. } => "undefined",
            Self::ChangeRefused(_) => "change-refused",
            Self::BadRequest(_) => "bad-request",
            Self::TooMany { .. } => "too-many",
            Self::TooSlow { .. } => "too-slow",
            Self::UnknownFeature(_) => "unknown-feature",
            Self::UnknownConnection(cause) => cause.code(),
            Self::Read(cause) => cause.code(),
            Self::Storage(cause) => cause.code(),
            Self::Frames(cause) => cause.code(),
            Self::Thread(_) => "thread",
        }
    }
}
