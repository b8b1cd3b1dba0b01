//! Judging a version that was trained elsewhere. Its maker says what it foretold of the rows of a training set; that set says
//! what came true, so nobody brings their own outcomes. A gate then reads the result as it reads that of a run of ours.

use chrono::{DateTime, Utc};
use domain::evaluation::{CalibratorChoice, Evaluation};
use domain::ids::TrainingSetId;
use domain::split::Window;
use domain::{Cutoff, LabelTime};
use frames::Frame;
use frames::judged::{Judged, Outcomes};
use frames::store::Store;
use frames::training_set::Manifest;
use service_kit::judging::{by_month, diagram, scores};
use storage::models::Version;
use storage::training_sets::TrainingSet;
use uuid::Uuid;

use crate::files::key_of;
use crate::{Error, Registry};

/// What the maker of a version says of it.
pub(crate) struct Claim {
    /// The training set that it learned from.
    pub(crate) training_set: TrainingSetId,
    /// The newest outcome that training, early stopping or calibration saw.
    pub(crate) trained_through: DateTime<Utc>,
    /// Of rows of that set: `row`, `cutoff` and `probability`.
    pub(crate) foretold: Frame,
    /// Who says so.
    pub(crate) submitted_by: String,
}

/// Judges what a version foretold, and keeps the result as its evidence.
///
/// # Errors
/// [`Error::Invalid`] if the rows are not the training set's or hold no probabilities; a conflict if the version was
/// judged before.
pub(crate) async fn hand_in(
    registry: &Registry,
    version: &Version,
    claim: Claim,
) -> Result<Evaluation, Error> {
    let mut conn = registry.context.db.acquire().await?;
    let set = storage::training_sets::get(&mut conn, registry.project(), claim.training_set).await?;
    drop(conn); // judging takes its time
    let url = registry.context.config.offline.url.clone();
    let folder = registry.context.data_dir.clone();
    let (through, foretold) = (LabelTime(claim.trained_through), claim.foretold);
    let judging = tokio::task::spawn_blocking(move || {
        let store = Store::at(url.as_deref(), &folder)?;
        let outcomes = Outcomes::read(&store.local(&set.path, &set.sha256)?, &set.sha256)?;
        let judged = Judged::of(&foretold, &outcomes).map_err(|error| Error::Invalid(error.to_string()))?;
        let path = format!("evidence/{}.arrow", Uuid::new_v4());
        let written = judged.write(&folder.join(&path))?;
        evaluation(&set, through, &judged, path, written.sha256)
    });
    let evaluation =
        judging.await.map_err(|error| Error::Unreadable(format!("judging ended early: {error}")))??;
    let mut conn = registry.context.db.acquire().await?;
    let (key, now) = (key_of(registry.project(), version), registry.context.clock.now());
    storage::model_evidence::hand_in(&mut conn, key, &evaluation, &claim.submitted_by, now).await?;
    Ok(evaluation)
}

fn evaluation(
    set: &TrainingSet,
    trained_through: LabelTime,
    judged: &Judged,
    predictions_path: String,
    predictions_sha256: String,
) -> Result<Evaluation, Error> {
    let manifest: Manifest = serde_json::from_value(set.manifest.clone())
        .map_err(|error| Error::Unreadable(format!("the manifest of training set {}: {error}", set.id)))?;
    let (Some(first), Some(last)) = (judged.cutoffs.iter().min(), judged.cutoffs.iter().max()) else {
        return Err(Error::Invalid("there are no predictions to judge".to_owned()));
    };
    let at = |micros: i64| Cutoff(DateTime::from_timestamp_micros(micros).unwrap_or_default());
    let said = |error: statistics::Error| Error::Invalid(error.to_string());
    let (probabilities, labels) = (judged.probabilities.as_slice(), judged.labels.as_slice());
    let overall = scores(probabilities, labels).map_err(said)?;
    Ok(Evaluation {
        training_set: set.id,
        dataset: set.dataset.clone(),
        schema_fingerprint: manifest.schema_fingerprint,
        trained_through,
        evaluated_from: at(*first),
        evaluated_through: at(*last),
        by_month: by_month(probabilities, labels, &judged.cutoffs).map_err(said)?,
        reliability: diagram(probabilities, labels).map_err(said)?,
        calibrator: not_ours(overall.log_loss),
        overall,
        predictions_path,
        predictions_sha256,
        reference_path: String::new(), // its inputs are not ours to keep
        reference_rate: manifest.windows.get(&Window::Train).map_or(0.0, |window| window.base_rate),
    })
}

/// What it says is what serves; whether it calibrated that before is its own affair.
fn not_ours(log_loss: f64) -> CalibratorChoice {
    CalibratorChoice {
        kind: "identity".to_owned(),
        kept: true,
        log_loss_without: log_loss,
        log_loss_with: log_loss,
    }
}
