//! What a command tells a person when it fails.

use domain::Fault;

/// A command failed; what to do is part of the text.
#[derive(Debug)]
pub struct Failure(pub String);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: Fault> From<E> for Failure {
    fn from(fault: E) -> Self {
        let causes = service_kit::problem::causes(&fault);
        Self(if causes.is_empty() { fault.to_string() } else { format!("{fault}: {causes}") })
    }
}

/// Anything else that went wrong, with its causes.
pub(crate) fn said(error: &anyhow::Error) -> Failure {
    Failure(format!("{error:#}"))
}
