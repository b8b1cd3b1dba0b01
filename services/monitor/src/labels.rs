//! `POST /v1/labels`: what came true of what was predicted. Each row is accepted, known already, or rejected with its reason.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use domain::LabelTime;
use domain::ids::PredictionId;
use serde::{Deserialize, Serialize};
use service_kit::{Context, JsonBody, Problem};
use storage::labels::{Known, Label};

use crate::Error;

/// The most labels of one batch.
const MOST: usize = 100_000;

/// One label as it is sent. The id is a text, so that one malformed id does not refuse a whole batch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sent {
    prediction_id: String,
    outcome: bool,
    label_time: DateTime<Utc>,
}

/// What became of a batch.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Answer {
    accepted: usize,
    repeated: usize,
    rejected: Vec<Rejected>,
}

/// One row that was not accepted.
#[derive(Debug, Serialize)]
pub(crate) struct Rejected {
    prediction_id: String,
    why: String,
}

/// What to do with one label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Accept,
    Repeat,
    Reject(Reason),
}

/// Why a label is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("no prediction of that id was served; ids are known once the worker has published its log")]
    Unknown,
    #[error("it has the other outcome already, and labels do not change")]
    Contradiction,
    #[error(
        "the label's time is before the prediction's cutoff {0}, so the outcome was known before it was predicted"
    )]
    BeforeCutoff(DateTime<Utc>),
}

pub(crate) async fn take(
    State(context): State<Context>,
    JsonBody(sent): JsonBody<Vec<Sent>>,
) -> Result<Json<Answer>, Problem> {
    if sent.len() > MOST {
        return Err(Error::TooManyLabels { most: MOST, found: sent.len() }.into());
    }
    let mut answer = Answer::default();
    let labels: Vec<Label> = sent.into_iter().filter_map(|row| read(row, &mut answer)).collect();
    let ids: Vec<PredictionId> = labels.iter().map(|label| label.prediction).collect();
    let project = &context.config.project;
    let mut tx = context.db.begin().await.map_err(storage::Error::from)?;
    storage::labels::lock(&mut tx, project, &ids).await?;
    let known = storage::labels::known(&mut tx, project, &ids).await?;
    let accepted = sort(labels, known, &mut answer);
    storage::labels::insert(&mut tx, project, &accepted, context.clock.now()).await?;
    tx.commit().await.map_err(storage::Error::from)?;
    Ok(Json(answer))
}

fn read(row: Sent, answer: &mut Answer) -> Option<Label> {
    match row.prediction_id.parse() {
        Ok(prediction) => {
            Some(Label { prediction, outcome: row.outcome, label_time: LabelTime(row.label_time) })
        }
        Err(_) => {
            let why = "this is not a prediction id; send the id that `/v1/predict` answered".to_owned();
            answer.rejected.push(Rejected { prediction_id: row.prediction_id, why });
            None
        }
    }
}

/// The labels to store; the others are counted. Earlier rows of a batch count as known to later ones.
fn sort(labels: Vec<Label>, mut known: HashMap<PredictionId, Known>, answer: &mut Answer) -> Vec<Label> {
    let mut accepted = Vec::new();
    for label in labels {
        match decide(&label, known.get(&label.prediction)) {
            Decision::Accept => {
                known.entry(label.prediction).and_modify(|known| known.outcome = Some(label.outcome));
                accepted.push(label);
            }
            Decision::Repeat => answer.repeated += 1,
            Decision::Reject(reason) => answer
                .rejected
                .push(Rejected { prediction_id: label.prediction.to_string(), why: reason.to_string() }),
        }
    }
    answer.accepted = accepted.len();
    accepted
}

fn decide(label: &Label, known: Option<&Known>) -> Decision {
    match known {
        None => Decision::Reject(Reason::Unknown),
        Some(Known { outcome: Some(outcome), .. }) if *outcome == label.outcome => Decision::Repeat,
        Some(Known { outcome: Some(_), .. }) => Decision::Reject(Reason::Contradiction),
        Some(known) if label.label_time.0 < known.cutoff => {
            Decision::Reject(Reason::BeforeCutoff(known.cutoff))
        }
        Some(_) => Decision::Accept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_batch_that_contradicts_itself_keeps_its_first_word() {
        let prediction = PredictionId::new();
        let label =
            |outcome| Label { prediction, outcome, label_time: LabelTime(at("2013-11-01T12:00:00Z")) };
        let known =
            HashMap::from([(prediction, Known { cutoff: at("2013-11-01T10:00:00Z"), outcome: None })]);
        let mut answer = Answer::default();
        let accepted = sort(vec![label(true), label(true), label(false)], known, &mut answer);
        assert_eq!(accepted, [label(true)]);
        assert_eq!((answer.accepted, answer.repeated, answer.rejected.len()), (1, 1, 1));
    }
}
