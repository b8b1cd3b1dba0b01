//! Kind `joint-fusion`: a pretrained GPT over the history and a cross network over the columns, trained end to end.

use std::path::Path;

use domain::definitions::ModelKind;
use domain::tabular::History;
use gpt::{Backbone, Device, FusionData, FusionRecipe, JointFusion, PretrainRecipe, Reader};
use serde::Deserialize;

use super::history::{GptSettings, Reading};
use super::{Asked, Learned, Lesson, OnStep, Step};
use crate::Error;
use crate::training_data::Rows;

const FOLDER: &str = "fusion";

/// The settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    gpt: GptSettings,
    pretrain: PretrainRecipe,
    fusion: FusionRecipe,
    /// At most this many histories to pretrain on.
    pretrain_rows: Option<usize>,
}

/// A GPT and a cross network.
#[derive(Debug)]
pub(super) struct Fusion(JointFusion);

/// Rows in the form that fusions learn from; the labels and weights are their own.
pub(super) struct Both<'a> {
    train: Part<'a>,
    validation: Part<'a>,
    device: Device,
}

struct Part<'a> {
    rows: &'a Rows,
    history: &'a History,
    labels: Vec<f64>,
    weights: Option<Vec<f64>>,
}

impl Part<'_> {
    fn data(&self) -> FusionData<'_> {
        FusionData {
            table: &self.rows.table,
            history: self.history,
            cutoffs: &self.rows.cutoffs,
            labels: &self.labels,
            weights: self.weights.as_deref(),
        }
    }
}

/// The rows of both windows with their histories.
pub(super) fn both<'a>(
    lesson: &Lesson<'_>,
    train: (&'a Rows, &'a History),
    validation: (&'a Rows, &'a History),
) -> Both<'a> {
    let part = |(rows, history): (&'a Rows, &'a History)| Part {
        rows,
        history,
        labels: rows.targets(),
        weights: lesson.row_weights(rows),
    };
    Both { train: part(train), validation: part(validation), device: lesson.device.clone() }
}

/// Trains a fusion, or without a backbone the network alone.
pub(super) fn train(
    data: &Both<'_>,
    backbone: Option<Backbone>,
    recipe: FusionRecipe,
    on_step: OnStep<'_>,
) -> Result<JointFusion, Error> {
    let (train, later) = (data.train.data(), data.validation.data());
    let told = &mut |now: &gpt::fusion::FusionProgress| {
        on_step(Step {
            stage: format!("{:?}", now.stage).to_lowercase(),
            step: now.step,
            steps: now.steps,
            loss: now.loss,
            validation_loss: now.round.map(|round| round.validation_loss),
        })
    };
    Ok(JointFusion::train(train, later, backbone, recipe, &data.device, told)?)
}

impl Fusion {
    pub(super) fn learn(lesson: &Lesson<'_>, on_step: OnStep<'_>) -> Result<Self, Error> {
        let Settings { gpt, pretrain, fusion, pretrain_rows } = lesson.settings()?;
        let histories = lesson.histories()?;
        let reading = Reading { gpt, pretrain, rows: pretrain_rows };
        let backbone = reading.pretrained(lesson, on_step)?;
        let data = both(lesson, (lesson.train, histories.train), (lesson.validation, histories.validation));
        let recipe = FusionRecipe { seed: lesson.model.seed, ..fusion };
        Ok(Self(train(&data, Some(backbone), recipe, on_step)?))
    }

    pub(super) fn load(folder: &Path, device: &Device) -> Result<Self, Error> {
        Ok(Self(JointFusion::load(&folder.join(FOLDER), device)?))
    }
}

impl Learned for Fusion {
    fn log_odds(&self, asked: Asked<'_>) -> Result<Vec<f64>, Error> {
        Ok(self.0.predict(asked.table, asked.history(ModelKind::JointFusion)?, asked.cutoffs)?)
    }

    fn reader(&self) -> Option<Reader<'_>> {
        self.0.backbone().map(Backbone::reader)
    }

    fn save(&self, folder: &Path) -> Result<(), Error> {
        Ok(self.0.save(&folder.join(FOLDER))?)
    }
}
