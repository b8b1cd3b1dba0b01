//! Training with early stopping: the tower alone, then everything together.

use std::collections::HashMap;
use std::ops::ControlFlow;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::network::Network;
use super::{Backbone, FusionData, FusionRecipe, Inputs, JointFusion, ROWS_PER_PREDICTION};
use crate::error::check_rows;
use crate::layers::Noise;
use crate::optimizer::{AdamW, AdamWConfig, Schedule};
use crate::pretrain::Order;
use crate::{Error, TabularEncoder};

/// Which part is being trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The tower alone.
    Tabular,
    /// Tower and backbone together.
    Joint,
}

/// The end of a round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurvePoint {
    /// The stage.
    pub stage: Stage,
    /// The round within it, from 1.
    pub round: usize,
    /// Steps of the stage so far.
    pub step: usize,
    /// Mean training log-loss of the round, in nats, with dropout.
    pub training_loss: f64,
    /// Validation log-loss in nats.
    pub validation_loss: f64,
    /// Whether it is the best so far: the weights that are kept.
    pub best: bool,
}

/// How far training is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FusionProgress {
    /// The stage.
    pub stage: Stage,
    /// Steps done in the stage.
    pub step: usize,
    /// The most steps the stage can take.
    pub steps: usize,
    /// Training log-loss of this step.
    pub loss: f64,
    /// At the last step of a round: its point of the curve.
    pub round: Option<CurvePoint>,
}

/// Labels and weights beside the inputs of one data set.
struct Rows {
    inputs: Inputs,
    labels: Vec<f32>,
    weights: Vec<f32>,
}

impl JointFusion {
    /// Trains on one data set, keeping the weights of the round with the least log-loss on another, later one.
    ///
    /// `progress` is called after each step; when it breaks, training ends with the best weights so far.
    ///
    /// # Errors
    /// [`Error::Rows`], [`Error::Empty`], [`Error::MissingColumn`] or [`Error::ColumnKind`] if the data does not fit
    /// together; [`Error::Recipe`] if the recipe is impossible or a label is not in 0..=1; [`Error::NonFiniteLoss`] if
    /// training diverges; [`Error::Stopped`] if it is broken off before the first validation.
    pub fn train(
        training: FusionData<'_>,
        validation: FusionData<'_>,
        backbone: Option<Backbone>,
        recipe: FusionRecipe,
        device: &Device,
        progress: &mut dyn FnMut(&FusionProgress) -> ControlFlow<()>,
    ) -> Result<Self, Error> {
        recipe.check(backbone.is_some())?;
        backbone.as_ref().map_or(Ok(()), Backbone::check)?;
        let encoder = TabularEncoder::fit(training.table)?;
        let rows = Rows::new(&encoder, backbone.as_ref(), training)?;
        let judge = Rows::new(&encoder, backbone.as_ref(), validation)?;
        let history_width = backbone.as_ref().map(|backbone| backbone.gpt.config().width);
        let network = Network::new(&recipe, &encoder, history_width, device)?;
        let model = Self { recipe, encoder, backbone, network, curve: Vec::new(), device: device.clone() };
        let mut trainer = Trainer { model, rows, judge, best: None };
        if trainer.stage(Stage::Tabular, progress)? && trainer.model.backbone.is_some() {
            trainer.stage(Stage::Joint, progress)?;
        }
        trainer.finish()
    }
}

impl Rows {
    fn new(
        encoder: &TabularEncoder,
        backbone: Option<&Backbone>,
        data: FusionData<'_>,
    ) -> Result<Self, Error> {
        let FusionData { table, history, cutoffs, labels, weights } = data;
        if table.rows() == 0 {
            return Err(Error::Empty { what: "a data set" });
        }
        check_rows("the labels", labels.len(), table.rows())?;
        if let Some(label) = labels.iter().find(|label| !(0.0..=1.0).contains(*label)) {
            return Err(Error::Recipe { reason: format!("a label is from 0 to 1, not {label}") });
        }
        let weights =
            weights.map_or_else(|| vec![1.0; labels.len()], |w| w.iter().map(|&w| w as f32).collect());
        check_rows("the weights", weights.len(), table.rows())?;
        if weights.iter().any(|w| !w.is_finite() || *w < 0.0) || !weights.iter().any(|w| *w > 0.0) {
            return Err(Error::Recipe { reason: "weights are finite, not negative, and not all 0".into() });
        }
        let inputs = Inputs::new(encoder, backbone, table, history, cutoffs)?;
        Ok(Self { inputs, labels: labels.iter().map(|&label| label as f32).collect(), weights })
    }

    fn len(&self) -> usize {
        self.labels.len()
    }
}

/// Weighted binary cross-entropy in nats: Σ wᵢ·(max(zᵢ, 0) − zᵢ·yᵢ + ln(1 + e^(−|zᵢ|))) / Σ wᵢ. Shapes `[rows]` → `[]`.
fn log_loss(logits: &Tensor, labels: &Tensor, weights: &Tensor) -> Result<Tensor, Error> {
    let softplus = ((logits.abs()?.neg()?.exp()? + 1.0)?.log()? + logits.relu()?)?;
    let losses = (softplus - (logits * labels)?)?;
    let total = (weights.sum_all()? + 1e-12)?;
    Ok((losses * weights)?.sum_all()?.div(&total)?)
}

type Snapshot = Vec<(String, Tensor)>;

/// The weights of the best round so far.
struct Best {
    loss: f64,
    network: Snapshot,
    backbone: Option<Snapshot>,
}

struct Trainer {
    model: JointFusion,
    rows: Rows,
    judge: Rows,
    best: Option<Best>,
}

impl Trainer {
    /// All rounds of a stage, from the best weights so far. Returns whether training may go on.
    fn stage(
        &mut self,
        stage: Stage,
        progress: &mut dyn FnMut(&FusionProgress) -> ControlFlow<()>,
    ) -> Result<bool, Error> {
        self.restore_best()?;
        let recipe = self.model.recipe.clone();
        if let (Stage::Joint, true, Some(best)) = (stage, recipe.keep_joint, &mut self.best) {
            best.loss = f64::INFINITY;
        }
        let (rounds, rows, peak) = match stage {
            Stage::Tabular => (recipe.tabular_rounds, recipe.tabular_rows, recipe.learning_rate),
            Stage::Joint => (recipe.joint_rounds, recipe.joint_rows, recipe.joint_learning_rate),
        };
        let per_round = rows.min(self.rows.len()).div_ceil(recipe.batch);
        let steps = rounds * per_round;
        let schedule = Schedule { peak, warmup: (steps / 20).max(1), steps, ..Schedule::default() };
        let mut optimizer = self.optimizer(stage)?;
        let mut order = Order::new(recipe.seed ^ stage as u64, self.rows.len());
        let (mut sum, mut stale) = (0.0, 0);
        for step in 1..=steps {
            let chosen = order.batch(step - 1, recipe.batch);
            let loss = self.step(stage, step, &chosen, &mut optimizer, schedule.rate(step))?;
            sum += loss;
            let mut now = FusionProgress { stage, step, steps, loss, round: None };
            if step % per_round == 0 {
                let point = self.end_round(stage, step, step / per_round, sum / per_round as f64)?;
                (sum, stale) = (0.0, if point.best { 0 } else { stale + 1 });
                now.round = Some(point);
            }
            if progress(&now).is_break() {
                return Ok(false);
            }
            if stale >= recipe.patience {
                break;
            }
        }
        Ok(true)
    }

    fn optimizer(&self, stage: Stage) -> Result<AdamW, Error> {
        let FusionRecipe { weight_decay, clip, backbone_rate, .. } = self.model.recipe;
        let config = AdamWConfig { decay: weight_decay, clip, ..AdamWConfig::default() };
        let network = &self.model.network;
        let mut optimizer = AdamW::new(config, network.kernels());
        optimizer.add("network.", network.parameters().entries(), 1.0)?;
        if let (Stage::Joint, Some(backbone)) = (stage, &self.model.backbone) {
            optimizer.add("backbone.", backbone.gpt.parameters().entries(), backbone_rate)?;
        }
        Ok(optimizer)
    }

    fn step(
        &self,
        stage: Stage,
        step: usize,
        chosen: &[usize],
        optimizer: &mut AdamW,
        rate: f64,
    ) -> Result<f64, Error> {
        let mut noise = Noise::of_step(self.model.recipe.seed ^ stage as u64, step);
        let logits = self.model.logits(stage, &self.rows.inputs, chosen, &mut noise)?;
        let pick = |values: &[f32]| -> Result<Tensor, Error> {
            let chosen: Vec<f32> = chosen.iter().map(|&row| values[row]).collect();
            Ok(Tensor::from_vec(chosen, logits.dims1()?, &self.model.device)?)
        };
        let loss = log_loss(&logits, &pick(&self.rows.labels)?, &pick(&self.rows.weights)?)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        if !value.is_finite() {
            return Err(Error::NonFiniteLoss { step });
        }
        optimizer.step(&loss.backward()?, rate)?;
        Ok(value)
    }

    fn end_round(
        &mut self,
        stage: Stage,
        step: usize,
        round: usize,
        training_loss: f64,
    ) -> Result<CurvePoint, Error> {
        let validation_loss = self.judge(stage)?;
        let best = self.best.as_ref().is_none_or(|best| validation_loss < best.loss);
        if best {
            let backbone = match (stage, &self.model.backbone) {
                (Stage::Joint, Some(backbone)) => Some(backbone.gpt.parameters().snapshot()?),
                _ => None,
            };
            let network = self.model.network.parameters().snapshot()?;
            self.best = Some(Best { loss: validation_loss, network, backbone });
        }
        let point = CurvePoint { stage, round, step, training_loss, validation_loss, best };
        self.model.curve.push(point);
        Ok(point)
    }

    /// The log-loss on the validation rows.
    fn judge(&self, stage: Stage) -> Result<f64, Error> {
        let stride = self.judge.len().div_ceil(self.model.recipe.validation_rows);
        let rows: Vec<usize> = (0..self.judge.len()).step_by(stride).collect();
        let (mut total, mut mass) = (0.0, 0.0);
        for rows in rows.chunks(ROWS_PER_PREDICTION) {
            let logits = self.model.read(stage, &self.judge.inputs, rows)?.to_vec1::<f32>()?;
            for (&row, z) in rows.iter().zip(logits) {
                let (z, y, w) =
                    (f64::from(z), f64::from(self.judge.labels[row]), f64::from(self.judge.weights[row]));
                total += w * (z.max(0.0) - z * y + (-z.abs()).exp().ln_1p());
                mass += w;
            }
        }
        Ok(total / mass)
    }

    fn restore_best(&self) -> Result<(), Error> {
        let Some(best) = &self.best else { return Ok(()) };
        let by_name = |snapshot: &Snapshot| snapshot.iter().cloned().collect::<HashMap<_, _>>();
        self.model.network.parameters().load(&by_name(&best.network))?;
        if let (Some(backbone), Some(weights)) = (&self.model.backbone, &best.backbone) {
            backbone.gpt.parameters().load(&by_name(weights))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<JointFusion, Error> {
        if self.best.is_none() {
            return Err(Error::Stopped { step: 0 });
        }
        self.restore_best()?;
        Ok(self.model)
    }
}
