//! What can stand in the way of a request to the registry.

use domain::gate::Refused;
use domain::{Fault, Remedy};

use crate::aliases::Ask;

/// The registry did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A gate refused a version.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Taking a guarded alias away would make way for anything.
    #[error(
        "gate `{gate}` guards alias `{alias}` of `{model}`: move the alias to another version, or remove the gate first"
    )]
    Guarded {
        /// The gate.
        gate: String,
        /// The registered model.
        model: String,
        /// The alias it guards.
        alias: String,
    },
    /// Somebody else moves the alias, or moved it first.
    #[error("alias `{alias}` of `{model}` was not moved: {why}; look where it points now and ask again")]
    Busy {
        /// The registered model.
        model: String,
        /// The alias.
        alias: String,
        /// What came first.
        why: String,
    },
    /// Nothing served before.
    #[error("alias `{alias}` of `{model}` points at {now}, and nothing is known to have been there before")]
    Nothing {
        /// The registered model.
        model: String,
        /// The alias.
        alias: String,
        /// Where it points.
        now: String,
    },
    /// Only an administrator may.
    #[error("{0}")]
    Forbidden(String),
    /// A file of ours cannot be read, or says something else than it should.
    #[error("{0}")]
    Unreadable(String),
    /// The thing does not exist. The words are MLflow's, because its clients read them.
    #[error("{0}")]
    Missing(String),
    /// The request cannot be met as it stands.
    #[error("{0}")]
    Invalid(String),
    /// The database did not do it.
    #[error(transparent)]
    Storage(storage::Error),
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        if is_unstorable(&error) {
            return Self::Invalid("a value holds characters or a length that cannot be stored".to_owned());
        }
        Self::Storage(error)
    }
}

impl From<frames::Error> for Error {
    fn from(error: frames::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        storage::Error::from(error).into()
    }
}

/// True if a value was one that the database can never hold: classes 22 (data) and 54 (limits), such as a zero byte.
fn is_unstorable(error: &storage::Error) -> bool {
    match error {
        storage::Error::Database(sqlx::Error::Database(cause)) => {
            cause.code().is_some_and(|code| code.starts_with("22") || code.starts_with("54"))
        }
        _ => false,
    }
}

impl Error {
    pub(crate) fn no_model(name: &str) -> Self {
        Self::Missing(format!("Registered Model with name={name} not found"))
    }

    pub(crate) fn busy(ask: &Ask<'_>, why: &str) -> Self {
        Self::Busy { model: ask.model.to_owned(), alias: ask.alias.to_owned(), why: why.to_owned() }
    }

    pub(crate) fn no_version(model: &str, version: i32) -> Self {
        Self::Missing(format!("Model Version (name={model}, version={version}) not found"))
    }
}

impl Fault for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Refused(refused) => refused.remedy(),
            Self::Guarded { .. } | Self::Busy { .. } | Self::Nothing { .. } => Remedy::ResolveConflict,
            Self::Forbidden(_) => Remedy::AskPermission,
            Self::Unreadable(_) => Remedy::ReportBug,
            Self::Missing(_) => Remedy::LookElsewhere,
            Self::Invalid(_) => Remedy::FixRequest,
            Self::Storage(error) => error.remedy(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Refused(refused) => refused.code(),
            Self::Guarded { .. } => "alias-guarded",
            Self::Busy { .. } => "alias-busy",
            Self::Nothing { .. } => "nothing-before",
            Self::Forbidden(_) => "forbidden",
            Self::Unreadable(_) => "unreadable",
            Self::Missing(_) => "not-found",
            Self::Invalid(_) => "invalid-request",
            Self::Storage(error) => error.code(),
        }
    }

    fn details(&self) -> Option<serde_json::Value> {
        match self {
            Self::Refused(refused) => refused.details(),
            _ => None,
        }
    }
}
