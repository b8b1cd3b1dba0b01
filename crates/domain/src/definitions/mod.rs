//! What users declare: entities, sources, feature views, datasets, models, monitors, gates, schedules, channels.
//!
//! [`parse`] reads files, [`check`] refuses dangling references, [`plan`] says what applying them would change. Nothing
//! here touches a disk or a database.

mod channel;
mod check;
mod model;
mod objects;
mod parse;
mod plan;
mod schedule;
mod value_type;
mod versions;

pub use channel::{CHANNEL_SECRETS, Channel, Email, MailTls, Target};
pub use check::{check, dataset_columns, spine_columns};
pub use model::{CalibratorKind, ClassWeights, Model, ModelKind, Rolling, WeightRule};
pub use objects::*;
pub use parse::{Definitions, Located, parse_file};
pub use plan::{Before, Change, ChangeKind, Stored, plan};
pub use schedule::{Action, BackupTo, CatchUp, Garbage, Overlap, Schedule};
pub use value_type::ValueType;
pub use versions::{Columns, Evolution, Layout, ViewVersion, ViewVersions, reads_as};

use crate::{Fault, Remedy};

/// A definition does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {message}", file)]
pub struct DefinitionError {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and what was probably meant.
    pub message: String,
}

/// Everything that does not fit, so that one run shows all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Invalid(pub Vec<DefinitionError>);

impl Fault for Invalid {
    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }
    fn code(&self) -> &'static str {
        "invalid-definitions"
    }
    fn details(&self) -> Option<serde_json::Value> {
        let errors: Vec<_> = self
            .0
            .iter()
            .map(|error| serde_json::json!({ "file": error.file, "line": error.line, "message": error.message }))
            .collect();
        Some(serde_json::json!({ "errors": errors }))
    }
}
