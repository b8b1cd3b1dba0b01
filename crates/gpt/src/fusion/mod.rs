//! Joint fusion: a GPT over a row's history and a tower over its columns, trained end to end for one probability.
//!
//! Belongs here: the network, its training with early stopping, prediction and its files. Not here: calibration and
//! evaluation of what it predicts (`statistics`).

mod network;
mod recipe;
mod storage;
mod train;

use candle_core::{Device, Tensor};
use domain::tabular::{History, Table};

pub use recipe::FusionRecipe;
pub use train::{CurvePoint, FusionProgress, Stage};

use crate::error::check_rows;
use crate::layers::Noise;
use crate::tabular::Encoded;
use crate::{Batch, Error, EventTokenizer, Gpt, Reader, TabularEncoder};
use network::Network;

/// What to learn from, or to judge with: row i of each belongs together.
#[derive(Clone, Copy, Debug)]
pub struct FusionData<'a> {
    /// The columns.
    pub table: &'a Table,
    /// The past events.
    pub history: &'a History,
    /// The moment of each row's prediction, in microseconds: staleness is counted up to it.
    pub cutoffs: &'a [i64],
    /// The outcome, from 0 to 1.
    pub labels: &'a [f64],
    /// How much each row counts, if not equally.
    pub weights: Option<&'a [f64]>,
}

/// What reads the history: a GPT, usually pretrained, and the tokenizer it was pretrained with.
#[derive(Debug)]
pub struct Backbone {
    /// The model.
    pub gpt: Gpt,
    /// Its tokenizer.
    pub tokenizer: EventTokenizer,
}

/// A trained model of one probability. Without a backbone it is the tabular tower alone (DCNv2).
///
/// logit = w·t + MLP([LayerNorm(u) ‖ t]), with t the tower's `[rows, width]` and u the GPT's final hidden state of the
/// history's last token. nuFormer has the MLP alone; the direct term lets the tower be trained first, cheaply, so that
/// joint training starts where the table's knowledge ends.
///
/// # Source
/// Braithwaite et al. (2025), "Your spending needs attention" (nuFormer), arXiv 2507.23267.
#[derive(Debug)]
pub struct JointFusion {
    recipe: FusionRecipe,
    encoder: TabularEncoder,
    backbone: Option<Backbone>,
    network: Network,
    curve: Vec<CurvePoint>,
    device: Device,
}

impl Backbone {
    /// The two as a reader of histories.
    pub fn reader(&self) -> Reader<'_> {
        Reader { gpt: &self.gpt, tokenizer: &self.tokenizer }
    }

    /// Refuses a model with fewer tokens than its tokenizer makes.
    fn check(&self) -> Result<(), Error> {
        let (known, made) = (self.gpt.config().vocabulary, self.tokenizer.vocabulary_size());
        if known < made {
            let reason = format!("the tokenizer makes {made} tokens and the backbone knows {known}");
            return Err(Error::Recipe { reason });
        }
        Ok(())
    }
}

/// Rows that are predicted at once.
const ROWS_PER_PREDICTION: usize = 1024;

impl JointFusion {
    /// The log-odds of each row; the probability is 1 / (1 + e^(−x)).
    ///
    /// # Errors
    /// [`Error::MissingColumn`] or [`Error::ColumnKind`], naming a column that is not as in training; [`Error::Rows`] if
    /// the inputs differ in length.
    pub fn predict(&self, table: &Table, history: &History, cutoffs: &[i64]) -> Result<Vec<f64>, Error> {
        let inputs = Inputs::new(&self.encoder, self.backbone.as_ref(), table, history, cutoffs)?;
        let rows: Vec<usize> = (0..table.rows()).collect();
        let mut odds = Vec::with_capacity(rows.len());
        for rows in rows.chunks(ROWS_PER_PREDICTION) {
            let part = self.read(self.stage(), &inputs, rows)?.to_vec1::<f32>()?;
            odds.extend(part.into_iter().map(f64::from));
        }
        Ok(odds)
    }

    /// The logits of some rows, `[rows]`, as a stage computes them; with a way back through the history.
    fn logits(
        &self,
        stage: Stage,
        inputs: &Inputs,
        rows: &[usize],
        noise: &mut Noise,
    ) -> Result<Tensor, Error> {
        self.logits_by((stage, inputs, rows), noise, Gpt::pooled)
    }

    /// As [`JointFusion::logits`], without a way back through the history, and without noise.
    fn read(&self, stage: Stage, inputs: &Inputs, rows: &[usize]) -> Result<Tensor, Error> {
        self.logits_by((stage, inputs, rows), &mut Noise::off(), |gpt, batch, _| gpt.last_states(batch))
    }

    fn logits_by(
        &self,
        (stage, inputs, rows): (Stage, &Inputs, &[usize]),
        noise: &mut Noise,
        history: impl FnOnce(&Gpt, &Batch, &mut Noise) -> Result<Tensor, Error>,
    ) -> Result<Tensor, Error> {
        let tower = self.network.tower(&inputs.table.batch(rows, &self.device)?, noise)?; // [rows, width]
        match (stage, &self.backbone, &inputs.sequences) {
            (Stage::Joint, Some(backbone), Some(sequences)) => {
                let batch = Batch::new(rows.iter().map(|&row| sequences[row].as_slice()))?;
                let pooled = history(&backbone.gpt, &batch, noise)?; // [rows, history width]
                self.network.joint(&tower, &pooled, noise)
            }
            _ => self.network.tabular(&tower),
        }
    }

    /// The stage whose weights were kept. [`Stage::Tabular`] means that the history did not help.
    pub fn stage(&self) -> Stage {
        self.curve.iter().rev().find(|point| point.best).map_or(Stage::Tabular, |point| point.stage)
    }

    /// What reads the history, if there is something.
    pub fn backbone(&self) -> Option<&Backbone> {
        self.backbone.as_ref()
    }

    /// The points of the training curve, in order.
    pub fn curve(&self) -> &[CurvePoint] {
        &self.curve
    }

    /// The recipe it was trained with.
    pub fn recipe(&self) -> &FusionRecipe {
        &self.recipe
    }

    /// Trainable numbers, those of the backbone included.
    pub fn parameter_count(&self) -> usize {
        let backbone = self.backbone.as_ref().map_or(0, |backbone| backbone.gpt.parameters().count());
        backbone + self.network.parameters().count()
    }
}

/// Rows as the network reads them.
struct Inputs {
    table: Encoded,
    sequences: Option<Vec<Vec<u32>>>,
}

impl Inputs {
    fn new(
        encoder: &TabularEncoder,
        backbone: Option<&Backbone>,
        table: &Table,
        history: &History,
        cutoffs: &[i64],
    ) -> Result<Self, Error> {
        check_rows("the cutoffs", cutoffs.len(), table.rows())?;
        check_rows("the history", history.rows(), table.rows())?;
        let sequences = backbone
            .map(|backbone| backbone.tokenizer.encode_all(history, cutoffs, backbone.gpt.config().context))
            .transpose()?;
        Ok(Self { table: encoder.encode(table)?, sequences })
    }
}

#[cfg(test)]
mod tests;
