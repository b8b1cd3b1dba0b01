//! What a caller can do about an error. Every library error of the product implements [`Fault`].

/// What a caller can do about an error; the HTTP status and the exit code follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The request is wrong as it stands: change it (422).
    FixRequest,
    /// The thing does not exist: name another (404).
    LookElsewhere,
    /// Whoever asks may not: ask somebody who may (403).
    AskPermission,
    /// The request meets a state that forbids it: look at the state first (409).
    ResolveConflict,
    /// The request is larger than a stated bound: send less (413).
    SendLess,
    /// There is no room to keep what the request brings: make some, then send it again (507).
    MakeRoom,
    /// The request comes too early: send it again (503).
    RetryLater,
    /// More requests come than can be answered: send fewer at a time, this one again in a moment (429).
    SlowDown,
    /// Nothing a caller can do: it is ours to mend (500).
    ReportBug,
}

/// An error that knows its remedy and a stable code.
pub trait Fault: std::error::Error + Send + Sync + 'static {
    /// What the caller can do.
    fn remedy(&self) -> Remedy;

    /// Stable, kebab-case; clients match on it, so it never changes.
    fn code(&self) -> &'static str;

    /// Machine-readable members to add to the problem document, such as the reasons of a refusal.
    fn details(&self) -> Option<serde_json::Value> {
        None
    }
}
