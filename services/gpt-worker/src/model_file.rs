//! A model as files: what it is, how it answers, how it is calibrated. Format 1.

use std::path::Path;

use domain::definitions::ModelKind;
use domain::tabular::{History, Table};
use serde::{Deserialize, Serialize};
use statistics::calibrators::{Calibrator, sigmoid};

use crate::Error;
use crate::kinds::Learned;

const FORMAT: u32 = 1;
const FILE: &str = "model.json";

/// What a model is, beside its weights.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Card {
    format: u32,
    /// How it learned.
    pub(crate) kind: ModelKind,
    /// The dataset whose features it reads.
    pub(crate) dataset: String,
    /// Hash of the features' names and types.
    pub(crate) schema_fingerprint: String,
    /// What is done to its probabilities.
    pub(crate) calibrator: Calibrator,
}

/// A model that can answer.
#[derive(Debug)]
pub(crate) struct Servable {
    pub(crate) card: Card,
    pub(crate) learned: Learned,
}

impl Card {
    pub(crate) fn new(
        kind: ModelKind,
        dataset: String,
        schema_fingerprint: String,
        calibrator: Calibrator,
    ) -> Self {
        Self { format: FORMAT, kind, dataset, schema_fingerprint, calibrator }
    }
}

impl Servable {
    /// Calibrated probabilities of each row.
    pub(crate) fn probabilities(
        &self,
        table: &Table,
        history: Option<&History>,
        cutoffs: &[i64],
    ) -> Result<Vec<f64>, Error> {
        let odds = self.learned.log_odds(table, history, cutoffs)?;
        Ok(odds.into_iter().map(|odds| self.card.calibrator.apply(sigmoid(odds))).collect())
    }

    /// Writes the model into `folder`; the card comes last, so that a folder with a card is whole.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), Error> {
        std::fs::create_dir_all(folder).map_err(|error| unreadable(folder, &error))?;
        self.learned.save(folder)?;
        let text = serde_json::to_vec_pretty(&self.card).map_err(|error| unreadable(folder, &error))?;
        frames::files::write_bytes(&folder.join(FILE), &text)?;
        Ok(())
    }

    /// Reads the model in `folder`.
    pub(crate) fn load(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let text = std::fs::read(&path).map_err(|error| unreadable(&path, &error))?;
        let card: Card = serde_json::from_slice(&text).map_err(|error| unreadable(&path, &error))?;
        if card.format != FORMAT {
            let why = format!("its format is {}, this program knows {FORMAT}", card.format);
            return Err(Error::ModelFile { path: path.display().to_string(), why });
        }
        let learned = Learned::load(card.kind, folder)?;
        Ok(Self { card, learned })
    }
}

fn unreadable(path: &Path, cause: &dyn std::fmt::Display) -> Error {
    Error::ModelFile { path: path.display().to_string(), why: cause.to_string() }
}
