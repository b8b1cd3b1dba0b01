//! Gathering what a gate looks at.

use domain::definitions::Definitions;
use domain::evaluation::Evaluation;
use domain::gate::{Case, Drift, Gate, Reigning, Verdict};
use frames::assemble::Needed;
use frames::parts::Selection;
use frames::training_set::Rows;
use frames::view::ViewRows;
use service_kit::Context;
use sqlx::PgConnection;
use storage::governance::approvals;
use storage::models::Version;

use super::{Ask, challenge, drift, version_of};
use crate::Error;
use crate::files::key_of;

/// What the gate says about a candidate.
pub(super) async fn judge(
    context: &Context,
    conn: &mut PgConnection,
    ask: &Ask<'_>,
    gate: &Gate,
    candidate: &Version,
    reigning: Option<i32>,
) -> Result<Verdict, Error> {
    let evaluation = evidence_of(conn, ask.project, candidate).await?;
    let approved_by: Vec<String> = approvals::approvals_of(conn, key_of(ask.project, candidate))
        .await?
        .into_iter()
        .filter(|approval| approval.alias == ask.alias)
        .map(|approval| approval.approved_by)
        .collect();
    let author = author_of(conn, ask.project, candidate).await?;
    let drift = match &evaluation {
        Some(evaluation) if gate.max_drift.is_some() => drift::since(context, conn, ask, evaluation).await?,
        _ => Drift::Unasked,
    };
    let schema = match &evaluation {
        Some(evaluation) if gate.same_schema => schema_now(conn, ask.project, &evaluation.dataset).await?,
        _ => Err("nobody asked".to_owned()),
    };
    Ok(gate.judge(&Case {
        reigning: reigning_over(context, conn, ask, evaluation.as_ref(), reigning).await?,
        evaluation: evaluation.as_ref(),
        drift,
        schema,
        author: author.as_deref(),
        approved_by: &approved_by,
    }))
}

async fn reigning_over(
    context: &Context,
    conn: &mut PgConnection,
    ask: &Ask<'_>,
    candidate: Option<&Evaluation>,
    reigning: Option<i32>,
) -> Result<Reigning, Error> {
    let Some(champion_version) = reigning else { return Ok(Reigning::Nobody) };
    let incomparable = |why: &str| Reigning::Incomparable { champion_version, why: why.to_owned() };
    let Some(candidate) = candidate else { return Ok(incomparable("the candidate was never evaluated")) };
    let champion = version_of(conn, ask, champion_version).await?;
    Ok(match evidence_of(conn, ask.project, &champion).await? {
        Some(champion) => challenge::compare(context, candidate, champion_version, &champion).await,
        None => incomparable("the champion was never evaluated"),
    })
}

/// What its run found about a version, if the files are known to be that run's; or what was handed in for it.
pub(crate) async fn evidence_of(
    conn: &mut PgConnection,
    project: &str,
    version: &Version,
) -> Result<Option<Evaluation>, Error> {
    Ok(storage::model_evidence::of_version(conn, key_of(project, version)).await?)
}

/// Who started the run that made a version.
async fn author_of(
    conn: &mut PgConnection,
    project: &str,
    version: &Version,
) -> Result<Option<String>, Error> {
    let Some(run_id) = &version.run_id else { return Ok(None) };
    let run = storage::tracking::runs::find(conn, project, run_id).await?;
    Ok(run.map(|run| run.user_id).filter(|user| !user.is_empty()))
}

/// The fingerprint of a dataset's features as it is defined now, or why there is none.
async fn schema_now(
    conn: &mut PgConnection,
    project: &str,
    dataset: &str,
) -> Result<Result<String, String>, Error> {
    let definitions = storage::definitions::load(conn, project).await?;
    Ok(fingerprint(&definitions, dataset))
}

/// A training set of no rows has the schema of one with rows.
fn fingerprint(definitions: &Definitions, dataset: &str) -> Result<String, String> {
    let dataset = definitions.dataset(dataset).ok_or("it is no longer defined")?;
    let built = frames::training_set::build(definitions, dataset, i64::MAX, &mut NoRows);
    built.map(|built| built.manifest.schema_fingerprint).map_err(|error| error.to_string())
}

/// Views that hold nothing.
struct NoRows;

impl Rows for NoRows {
    type Error = frames::Error;

    fn buckets(&self, _: &str) -> u32 {
        1
    }

    fn read(&mut self, needed: &Needed<'_>, _: &Selection) -> Result<ViewRows, frames::Error> {
        Ok(ViewRows::empty(&needed.schema))
    }
}
