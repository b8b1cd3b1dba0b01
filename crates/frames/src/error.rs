//! What can go wrong with columns and files.

use std::io::ErrorKind;
use std::path::PathBuf;

use domain::{Fault, Remedy};

/// Data does not fit, or a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A column is not there.
    #[error("there is no column `{column}`; there are: {}", found.join(", "))]
    MissingColumn {
        /// The column.
        column: String,
        /// What there is.
        found: Vec<String>,
    },
    /// A column holds another type.
    #[error(
        "column `{column}` holds {found} where {expected} is declared; convert it, or declare what it is"
    )]
    WrongType {
        /// The column.
        column: String,
        /// What it holds.
        found: String,
        /// What is declared.
        expected: String,
    },
    /// A time without a zone.
    #[error(
        "column `{column}` holds times without a zone, so nobody can say when they were; convert them to UTC"
    )]
    NaiveTime {
        /// The column.
        column: String,
    },
    /// Bytes are not what they should be.
    #[error("the {what} cannot be read: {why}")]
    Unreadable {
        /// What was expected.
        what: &'static str,
        /// What the reader said.
        why: String,
    },
    /// A file does not hold what is asked of it.
    #[error("`{}`: {cause}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: Box<Error>,
    },
    /// A join of plain files is written down wrongly, or its files do not fit together.
    #[error("{0}")]
    Join(String),
    /// An object store refuses, or is not there.
    #[error("the object store cannot be used: {0}")]
    Objects(String),
    /// An expression cannot be evaluated.
    #[error(transparent)]
    Expression(#[from] domain::expression::ExpressionError),
    /// A file cannot be read or written.
    #[error("`{}`: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// There is no room for a file.
    #[error(
        "`{}`: {cause}; nothing of it was kept: make room where it was to lie, then send the request again", path.display()
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A file is not the one that was written.
    #[error("`{}` has SHA-256 {found}, it was written as {expected}; restore it from a backup", path.display())]
    Altered {
        /// The file.
        path: PathBuf,
        /// The hash it had.
        expected: String,
        /// The hash it has.
        found: String,
    },
}

impl Error {
    pub(crate) fn unreadable(what: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Unreadable { what, why: why.to_string() }
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |cause| match cause.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::Full { path, cause }
            }
            _ => Self::File { path, cause },
        }
    }

    pub(crate) fn in_file(path: impl Into<PathBuf>) -> impl FnOnce(Self) -> Self {
        let path = path.into();
        move |cause| match cause {
            named @ (Self::File { .. } | Self::Full { .. } | Self::InFile { .. }) => named,
            cause => Self::InFile { path, cause: Box::new(cause) },
        }
    }
}

impl Fault for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::InFile { cause, .. } => cause.remedy(),
            Self::File { .. } | Self::Altered { .. } => Remedy::ReportBug,
            Self::Full { .. } => Remedy::MakeRoom,
            Self::Objects(_) => Remedy::RetryLater,
            _ => Remedy::FixRequest,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::MissingColumn { .. } => "missing-column",
            Self::WrongType { .. } => "wrong-type",
            Self::NaiveTime { .. } => "naive-time",
            Self::Unreadable { .. } => "unreadable",
            Self::InFile { cause, .. } => cause.code(),
            Self::Join(_) => "invalid-join",
            Self::Objects(_) => "object-store",
            Self::Expression(_) => "invalid-expression",
            Self::File { .. } => "file",
            Self::Full { .. } => "storage-full",
            Self::Altered { .. } => "altered-file",
        }
    }
}
