//! Where a version comes from: version → run → training set → view versions → parts, and what else it was said to be made
//! of; and the other way: which feature views hold vectors that it made.

mod picture;

use domain::evaluation::Evaluation;
use domain::ids::TrainingSetId;
use serde::Serialize;
use sqlx::PgConnection;
use storage::governance::inputs::{Input, PartUsed, inputs_of, parts_of};
use storage::governance::publications::{self, Maker, Publication};
use storage::models::{self, Version};

use crate::aliases::evidence_of;
use crate::files::key_of;
use crate::{Error, Registry};

pub(crate) use picture::draw;

/// Everything that is known of where a version comes from.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Lineage {
    pub(crate) model: String,
    pub(crate) version: i32,
    /// As the client named it.
    pub(crate) source: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) run: Option<Run>,
    pub(crate) training_set: Option<TrainingSet>,
    /// What the training set was made of.
    pub(crate) views: Vec<View>,
    /// What somebody said it was made of.
    pub(crate) inputs: Vec<Input>,
    /// What it made: rows of feature views, the latest first.
    pub(crate) published: Vec<Publication>,
    pub(crate) evaluation_file: Option<EvaluationFile>,
}

/// The run that made a version.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) run_id: String,
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) artifact_uri: String,
}

/// What a version learned from. Of a set that is gone only the name is left.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TrainingSet {
    pub(crate) training_set_id: TrainingSetId,
    pub(crate) dataset: String,
    pub(crate) schema_fingerprint: String,
    pub(crate) spec_hash: Option<String>,
    pub(crate) max_seq: Option<i64>,
    pub(crate) as_of: Option<chrono::DateTime<chrono::Utc>>,
    pub(crate) rows: Option<i64>,
    pub(crate) path: Option<String>,
    pub(crate) sha256: Option<String>,
    pub(crate) history_path: Option<String>,
    pub(crate) history_sha256: Option<String>,
}

/// The parts of one version of a view.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct View {
    pub(crate) view: String,
    pub(crate) view_version: i32,
    pub(crate) parts: Vec<PartUsed>,
    /// The versions of models that made rows of it, where it holds embeddings.
    pub(crate) made_by: Vec<MadeBy>,
}

/// A version of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct MadeBy {
    pub(crate) model: String,
    pub(crate) version: i32,
}

/// The rows that a version was judged on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EvaluationFile {
    pub(crate) path: String,
    pub(crate) sha256: String,
}

/// The lineage of a version, as far as it is known.
pub(crate) async fn of(registry: &Registry, version: &Version) -> Result<Lineage, Error> {
    let project = registry.project();
    let mut conn = registry.context.db.acquire().await?;
    let evidence = evidence_of(&mut conn, project, version).await?;
    let run = match &version.run_id {
        Some(run_id) => storage::tracking::runs::find(&mut conn, project, run_id).await?,
        None => None,
    };
    let parts = match &evidence {
        Some(evidence) => parts_of(&mut conn, project, evidence.training_set).await?,
        None => vec![],
    };
    let training_set = match &evidence {
        Some(evidence) => Some(training_set(&mut conn, project, evidence).await?),
        None => None,
    };
    let mut views = by_view(parts);
    let names: Vec<String> = views.iter().map(|view| view.view.clone()).collect();
    let through = training_set.as_ref().and_then(|set| set.max_seq).unwrap_or(i64::MAX);
    name_makers(&mut views, publications::makers(&mut conn, project, &names, through).await?);
    let aliases = models::aliases_of(&mut conn, project, std::slice::from_ref(&version.model)).await?;
    Ok(Lineage {
        model: version.model.clone(),
        version: version.version,
        source: version.source.clone(),
        aliases: aliases
            .into_iter()
            .filter(|alias| alias.version == version.version)
            .map(|alias| alias.alias)
            .collect(),
        run: run.map(|run| Run {
            run_id: run.id,
            name: run.name,
            status: run.status,
            artifact_uri: run.artifact_uri,
        }),
        training_set,
        views,
        inputs: inputs_of(&mut conn, key_of(project, version)).await?,
        published: publications::of_version(&mut conn, key_of(project, version)).await?,
        evaluation_file: evidence.map(|evidence| EvaluationFile {
            path: evidence.predictions_path,
            sha256: evidence.predictions_sha256,
        }),
    })
}

/// Parts come sorted by view.
fn by_view(parts: Vec<PartUsed>) -> Vec<View> {
    let mut views: Vec<View> = Vec::new();
    for part in parts {
        match views.last_mut() {
            Some(last) if last.view == part.view && last.view_version == part.view_version => {
                last.parts.push(part);
            }
            _ => views.push(View {
                view: part.view.clone(),
                view_version: part.view_version,
                parts: vec![part],
                made_by: vec![],
            }),
        }
    }
    views
}

/// Puts each maker of rows to its view.
fn name_makers(views: &mut [View], makers: Vec<Maker>) {
    for Maker { view, view_version, model, version } in makers {
        let own = views.iter_mut().filter(|held| held.view == view && held.view_version == view_version);
        own.for_each(|held| held.made_by.push(MadeBy { model: model.clone(), version }));
    }
}

async fn training_set(
    conn: &mut PgConnection,
    project: &str,
    evidence: &Evaluation,
) -> Result<TrainingSet, Error> {
    let known = match storage::training_sets::get(conn, project, evidence.training_set).await {
        Err(storage::Error::NotFound { .. }) => None,
        found => Some(found?),
    };
    let known = known.as_ref();
    Ok(TrainingSet {
        training_set_id: evidence.training_set,
        dataset: evidence.dataset.clone(),
        schema_fingerprint: evidence.schema_fingerprint.clone(),
        spec_hash: known.map(|set| set.spec_hash.clone()),
        max_seq: known.map(|set| set.max_seq),
        as_of: known.map(|set| set.as_of),
        rows: known.map(|set| set.rows),
        path: known.map(|set| set.path.clone()),
        sha256: known.map(|set| set.sha256.clone()),
        history_path: known.and_then(|set| set.history_path.clone()),
        history_sha256: known.and_then(|set| set.history_sha256.clone()),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use domain::ids::PartId;

    fn part(view: &str) -> PartUsed {
        PartUsed {
            part_id: PartId::new(),
            view: view.to_owned(),
            view_version: 1,
            path: format!("features/{view}.parquet"),
            sha256: "0".repeat(64),
        }
    }

    pub(crate) fn lineage() -> Lineage {
        Lineage {
            model: "late".to_owned(),
            version: 3,
            source: "runs:/abc/model".to_owned(),
            aliases: vec!["champion".to_owned()],
            run: None,
            training_set: Some(TrainingSet {
                training_set_id: TrainingSetId::new(),
                dataset: "late".to_owned(),
                schema_fingerprint: "f".to_owned(),
                spec_hash: None,
                max_seq: None,
                as_of: None,
                rows: None,
                path: None,
                sha256: None,
                history_path: None,
                history_sha256: None,
            }),
            views: by_view(vec![part("carrier"), part("weather"), part("weather")]),
            inputs: vec![],
            published: vec![Publication {
                view: "vectors".to_owned(),
                view_version: 1,
                rows: 9,
                seq: 4,
                sha256: "0".repeat(64),
                published_at: chrono::DateTime::UNIX_EPOCH,
            }],
            evaluation_file: None,
        }
    }

    #[test]
    fn a_maker_is_named_at_the_version_of_the_view_that_it_made_rows_of() {
        let mut views = lineage().views;
        let maker = |view_version| Maker {
            view: "weather".to_owned(),
            view_version,
            model: "sky".to_owned(),
            version: 7,
        };
        name_makers(&mut views, vec![maker(1), maker(2)]);
        assert!(views[0].made_by.is_empty());
        assert_eq!(views[1].made_by, [MadeBy { model: "sky".to_owned(), version: 7 }]);
    }

    #[test]
    fn parts_are_grouped_by_view() {
        let views: Vec<_> =
            lineage().views.iter().map(|view| (view.view.clone(), view.parts.len())).collect();
        assert_eq!(views, [("carrier".to_owned(), 1), ("weather".to_owned(), 2)]);
    }
}
