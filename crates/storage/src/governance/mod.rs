//! SQL over what stands behind a model version beyond MLflow: inputs, what it published, files' hashes,
//! card, signature, approvals.

pub mod approvals;
pub mod files;
pub mod inputs;
pub mod papers;
pub mod publications;

/// Names a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionKey<'a> {
    /// The project.
    pub project: &'a str,
    /// The registered model.
    pub model: &'a str,
    /// Its number.
    pub version: i32,
}
