//! Promoting a version to champion: what the closed loop asks for, by a call or by a job.

use domain::Fault;
use domain::gate::Verdict;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_kit::Context;
use service_kit::jobs::{Failure, Job, Outcome};

use crate::Error;
use crate::aliases::{self, Ask, Manner, unguarded};

/// Names the job; never renamed.
pub const JOB_KIND: &str = "promote";

/// The alias that serves unless somebody says otherwise.
const CHAMPION: &str = "champion";

/// Points `champion` of `model` at `version` if its gate passes; answers what the gate said.
///
/// # Errors
/// [`Error::Refused`] with the verdict; [`Error::Missing`] if there is no such version.
pub async fn promote(
    context: &Context,
    project: &str,
    model: &str,
    version: i32,
    actor: &str,
    reason: Option<&str>,
) -> Result<Verdict, Error> {
    let ask = Ask { project, model, alias: CHAMPION, actor, reason };
    Ok(aliases::point_at(context, &ask, version, Manner::default()).await?.verdict)
}

/// The payload of a `promote` job: a version, or the run whose newest version is meant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromoteJob {
    /// The project.
    pub project: String,
    /// The registered model.
    pub registered_model: String,
    /// The version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
    /// The run, if the version is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Works on a `promote` job. A refusal ends it well: the gate did its work, and its verdict is the answer. A try that was killed
/// after the gate's decision is not asked again: the decision stands in the history, and is answered.
pub(crate) async fn work(context: Context, job: Job) -> Result<Outcome, Failure> {
    let wanted: PromoteJob = job.payload()?;
    let version = version_of(&context, &wanted).await?;
    let actor = format!("job {}", job.leased.id);
    let (promoted, verdict) = match decided_before(&context, &wanted, version, &actor).await? {
        Some(decided) => decided,
        None => decide(&context, &wanted, version, &actor).await?,
    };
    let model = &wanted.registered_model;
    let answer = json!({ "model": model, "version": version, "promoted": promoted, "verdict": verdict });
    Ok(Outcome { answer, next: vec![] })
}

/// Whether the version was promoted, and what the gate said.
async fn decide(
    context: &Context,
    wanted: &PromoteJob,
    version: i32,
    actor: &str,
) -> Result<(bool, Value), Failure> {
    let (project, model) = (&wanted.project, &wanted.registered_model);
    let (promoted, verdict) =
        match promote(context, project, model, version, actor, wanted.reason.as_deref()).await {
            Ok(verdict) => (true, verdict),
            Err(Error::Refused(refused)) => {
                tracing::info!(code = refused.code(), "{refused}");
                (false, refused.verdict)
            }
            Err(error) => return Err(error.into()),
        };
    Ok((promoted, json!(verdict)))
}

/// The same, of an earlier try.
async fn decided_before(
    context: &Context,
    wanted: &PromoteJob,
    version: i32,
    actor: &str,
) -> Result<Option<(bool, Value)>, Failure> {
    let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
    let (project, model) = (&wanted.project, &wanted.registered_model);
    let found =
        storage::models::history::decision_for(&mut conn, project, model, (CHAMPION, version), actor).await?;
    Ok(found.map(|entry| (entry.outcome == "moved", entry.verdict.unwrap_or_else(|| json!(unguarded())))))
}

async fn version_of(context: &Context, wanted: &PromoteJob) -> Result<i32, Failure> {
    let (project, model) = (&wanted.project, &wanted.registered_model);
    match (wanted.version, &wanted.run_id) {
        (Some(version), _) => Ok(version),
        (None, None) => Err(Failure::last("the payload names neither a version nor a run")),
        (None, Some(run_id)) => {
            let mut conn = context.db.acquire().await.map_err(storage::Error::from)?;
            let found = storage::models::newest_of_run(&mut conn, project, model, run_id).await?;
            found.ok_or_else(|| Failure::last(format!("run {run_id} made no version of `{model}`")))
        }
    }
}
