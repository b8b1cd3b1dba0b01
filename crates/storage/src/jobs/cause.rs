//! Why a job is enqueued: the request that asks, the chain it goes on, and the trace. Known to the task that does it, so that nobody in
//! between has to hand it on.

use domain::ids::JobId;

tokio::task_local! {
    static CAUSE: Cause;
}

/// What a job comes of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// The request, as in the logs.
    pub request_id: Option<String>,
    /// The first job of the chain that it goes on; none begins one.
    pub chain: Option<JobId>,
    /// The trace that it goes on with, as W3C Trace Context writes it; none where traces are not sent.
    pub traceparent: Option<String>,
}

impl Cause {
    /// The cause of what this task does.
    pub fn current() -> Self {
        CAUSE.try_with(Clone::clone).unwrap_or_default()
    }
}

/// What is enqueued while `work` is done remembers `cause`.
pub async fn caused_by<W: Future>(cause: Cause, work: W) -> W::Output {
    CAUSE.scope(cause, work).await
}
