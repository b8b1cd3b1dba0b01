//! Kind `dcn`: the cross network alone, over the columns.

use std::path::Path;

use domain::tabular::History;
use gpt::tabular::TowerConfig;
use gpt::{Device, FusionRecipe, JointFusion};
use serde::Deserialize;

use super::joint_fusion::{both, train};
use super::{Asked, Learned, Lesson, OnStep};
use crate::Error;
use crate::training_data::Rows;

const FOLDER: &str = "dcn";

/// The settings; each means what it means in a joint fusion.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    batch: usize,
    rows_per_round: usize,
    validation_rows: usize,
    rounds: usize,
    patience: usize,
    learning_rate: f64,
    weight_decay: f64,
    clip: f64,
    tower: TowerConfig,
}

impl Default for Settings {
    fn default() -> Self {
        let usual = FusionRecipe::default();
        Self {
            batch: usual.batch,
            rows_per_round: usual.tabular_rows,
            validation_rows: usual.validation_rows,
            rounds: usual.tabular_rounds,
            patience: usual.patience,
            learning_rate: usual.learning_rate,
            weight_decay: usual.weight_decay,
            clip: usual.clip,
            tower: usual.tower,
        }
    }
}

impl Settings {
    fn recipe(self, seed: u64) -> FusionRecipe {
        FusionRecipe {
            seed,
            batch: self.batch,
            tabular_rows: self.rows_per_round,
            validation_rows: self.validation_rows,
            tabular_rounds: self.rounds,
            patience: self.patience,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            clip: self.clip,
            tower: self.tower,
            ..FusionRecipe::default()
        }
    }
}

/// A cross network.
#[derive(Debug)]
pub(super) struct Dcn(JointFusion);

impl Dcn {
    pub(super) fn learn(lesson: &Lesson<'_>, on_step: OnStep<'_>) -> Result<Self, Error> {
        Self::on(lesson, lesson.settings()?, (lesson.train, lesson.validation), on_step)
    }

    /// Learns under settings, from rows that may have more columns than the lesson's.
    pub(super) fn on(
        lesson: &Lesson<'_>,
        settings: Settings,
        (rows, later): (&Rows, &Rows),
        on_step: OnStep<'_>,
    ) -> Result<Self, Error> {
        let nothing = [rows, later].map(|rows| History::none(rows.labels.len()));
        let data = both(lesson, (rows, &nothing[0]), (later, &nothing[1]));
        Ok(Self(train(&data, None, settings.recipe(lesson.model.seed), on_step)?))
    }

    pub(super) fn load(folder: &Path, device: &Device) -> Result<Self, Error> {
        Ok(Self(JointFusion::load(&folder.join(FOLDER), device)?))
    }
}

impl Learned for Dcn {
    fn log_odds(&self, asked: Asked<'_>) -> Result<Vec<f64>, Error> {
        Ok(self.0.predict(asked.table, &History::none(asked.table.rows()), asked.cutoffs)?)
    }

    fn save(&self, folder: &Path) -> Result<(), Error> {
        Ok(self.0.save(&folder.join(FOLDER))?)
    }
}
