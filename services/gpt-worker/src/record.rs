//! Recording a training run where the registry keeps runs, and finding what serves.

use std::path::{Path, PathBuf};

use domain::definitions::Model;
use domain::evaluation::Evaluation;
use service_kit::Context;
use sqlx::PgConnection;
use storage::jobs::NewJob;
use storage::tracking::Metric;
use storage::tracking::runs::NewRun;

use crate::Error;
use crate::kinds::Step;
use crate::train::{Train, promotion_job};
use crate::training_data::TrainingData;

/// The experiment that training runs belong to.
const EXPERIMENT: &str = "foretime";

/// A run that was begun.
pub(crate) struct Run {
    project: String,
    id: String,
    kind: String,
    model_folder: PathBuf,
    relative: String,
}

impl Run {
    /// Opens a run in the tracking store.
    pub(crate) async fn begin(
        context: &Context,
        request: &Train,
        data: &TrainingData,
    ) -> Result<Self, Error> {
        let mut tx = context.db.begin().await?;
        let now_ms = context.clock.now().timestamp_millis();
        let project = request.project.as_str();
        let experiment = storage::tracking::ensure_experiment(&mut tx, project, EXPERIMENT, now_ms).await?;
        let run = NewRun {
            experiment_id: experiment,
            name: &data.model.name,
            user_id: "foretime",
            start_ms: now_ms,
            tags: &[],
        };
        let id = storage::tracking::create_run(&mut tx, project, &run).await?;
        let params = [
            ("kind", data.model.kind.to_string()),
            ("dataset", data.dataset.name.clone()),
            ("seed", data.model.seed.to_string()),
            ("recipe", serde_json::Value::Object(data.model.recipe.clone()).to_string()),
            ("train_until", data.split.train_until.to_string()),
            ("validation_until", data.split.validation_until.to_string()),
        ];
        let tags = [
            ("foretime.training_set", data.id.to_string()),
            ("foretime.schema_fingerprint", data.manifest.schema_fingerprint.clone()),
        ];
        storage::tracking::log_params(&mut tx, project, &id, &owned(&params)).await?;
        storage::tracking::set_tags(&mut tx, project, &id, &owned(&tags)).await?;
        tx.commit().await?;
        let relative = format!("artifacts/{experiment}/{id}/artifacts/model");
        let model_folder = context.data_dir.join(&relative);
        Ok(Self {
            project: request.project.clone(),
            id,
            kind: data.model.kind.to_string(),
            model_folder,
            relative,
        })
    }

    /// The run's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Where the model's files go.
    pub(crate) fn model_folder(&self) -> &Path {
        &self.model_folder
    }

    /// The same, relative to the data directory.
    pub(crate) fn relative_model_folder(&self) -> &str {
        &self.relative
    }

    /// What a model version names as its source.
    pub(crate) fn source(&self) -> String {
        format!("runs:/{}/model", self.id)
    }

    /// Stores what the run found, and ends it.
    pub(crate) async fn finish(
        &self,
        context: &Context,
        evaluation: &Evaluation,
        curve: &[Step],
        train_rows: usize,
        seconds: f64,
    ) -> Result<(), Error> {
        let mut tx = context.db.begin().await?;
        let now = context.clock.now();
        let overall = &evaluation.overall;
        let now_ms = now.timestamp_millis();
        let point = |key: &str, value: f64, step: usize| Metric {
            key: key.to_owned(),
            value,
            timestamp_ms: now_ms,
            step: step as i64,
        };
        let mut metrics = vec![
            point("test_log_loss", overall.log_loss, 0),
            point("test_brier", overall.brier, 0),
            point("test_ece", overall.ece, 0),
            point("train_rows", train_rows as f64, 0),
            point("train_seconds", seconds, 0),
        ];
        metrics.extend(overall.auc.map(|auc| point("test_auc", auc.value, 0)));
        for (at, step) in curve.iter().enumerate() {
            metrics.push(point(&format!("{}_loss", step.stage), step.loss, at));
            let validation = format!("{}_validation_loss", step.stage);
            metrics.extend(step.validation_loss.map(|loss| point(&validation, loss, at)));
        }
        storage::tracking::log_metrics(&mut tx, &self.project, &self.id, &metrics).await?;
        storage::model_evidence::save(&mut tx, &self.project, &self.id, &self.kind, evaluation, now).await?;
        storage::tracking::finish_run(&mut tx, &self.project, &self.id, "FINISHED", now_ms).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Ends the run as failed.
    pub(crate) async fn fail(&self, context: &Context, cause: &Error) -> Result<(), Error> {
        let mut tx = context.db.begin().await?;
        let tags = [("foretime.failure", cause.to_string())];
        storage::tracking::set_tags(&mut tx, &self.project, &self.id, &owned(&tags)).await?;
        let now_ms = context.clock.now().timestamp_millis();
        storage::tracking::finish_run(&mut tx, &self.project, &self.id, "FAILED", now_ms).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Registers a version of this run's model, and gives the job that asks its gate.
    pub(crate) async fn promotion(
        &self,
        context: &Context,
        request: &Train,
        model: &Model,
    ) -> Result<NewJob, Error> {
        let mut tx = context.db.begin().await?;
        let now = context.clock.now();
        let name = &model.registered_model;
        let (source, now_ms) = (self.source(), now.timestamp_millis());
        let version = storage::models::create_model_version(
            &mut tx,
            &self.project,
            name,
            &self.id,
            &source,
            &[],
            now_ms,
        )
        .await?;
        storage::webhooks::note_version(&mut tx, &self.project, name, version, &source, &self.id, now)
            .await?;
        tx.commit().await?;
        Ok(promotion_job(request, name, version, now))
    }
}

fn owned(pairs: &[(&str, String)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

/// The folder of a version's model, relative to the data directory; `None` if there is no such version or it was not trained
/// here.
pub(crate) async fn folder_of(
    conn: &mut PgConnection,
    project: &str,
    model: &str,
    version: i32,
) -> Result<Option<String>, Error> {
    let found = storage::models::find_version(conn, project, model, version).await?;
    let Some(run_id) = found.and_then(|version| version.run_id) else { return Ok(None) };
    let evidence = storage::model_evidence::find(conn, project, &run_id).await?;
    Ok(evidence.and_then(|evidence| {
        let (folder, _) = evidence.reference_path.rsplit_once('/')?;
        Some(folder.to_owned())
    }))
}
