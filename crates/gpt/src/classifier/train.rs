//! Training a classifier, keeping the weights of the round that a later window likes best.

use std::collections::HashMap;
use std::ops::ControlFlow;

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};

use super::{ClassifierRecipe, GptClassifier};
use crate::error::check_rows;
use crate::layers::Noise;
use crate::optimizer::{AdamW, AdamWConfig, Schedule};
use crate::pretrain::Order;
use crate::{Batch, Error, Gpt};

/// Sequences and the class of each.
#[derive(Clone, Copy, Debug)]
pub struct ClassifierData<'a> {
    /// The sequences.
    pub sequences: &'a [Vec<u32>],
    /// Their classes, from 0.
    pub classes: &'a [u32],
}

/// The end of a round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierRound {
    /// The round, from 1.
    pub round: usize,
    /// Steps so far.
    pub step: usize,
    /// Mean training loss of the round in nats, class weights and dropout included.
    pub training_loss: f64,
    /// The same on the validation sequences, without dropout.
    pub validation_loss: f64,
    /// Whether it is the best so far: the weights that are kept.
    pub best: bool,
}

/// How far training is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassifierProgress {
    /// Steps done.
    pub step: usize,
    /// The most steps there can be.
    pub steps: usize,
    /// Training loss of this step.
    pub loss: f64,
    /// At the last step of a round: its point of the curve.
    pub round: Option<ClassifierRound>,
}

impl GptClassifier {
    /// Trains on one window, keeping the weights with the least loss on another, later one.
    ///
    /// `progress` is called after each step; when it breaks, training ends with the best weights so far.
    ///
    /// # Errors
    /// [`Error::Rows`], [`Error::Empty`] or [`Error::Token`] if the data does not fit; [`Error::Recipe`] if the recipe is
    /// impossible or a class is not below `classes`; [`Error::NonFiniteLoss`] if training diverges; [`Error::Stopped`] if
    /// it is broken off before the first validation.
    pub fn train(
        gpt: Gpt,
        classes: usize,
        (training, validation): (ClassifierData<'_>, ClassifierData<'_>),
        recipe: ClassifierRecipe,
        progress: &mut dyn FnMut(&ClassifierProgress) -> ControlFlow<()>,
    ) -> Result<Self, Error> {
        let model = Self::untrained(gpt, recipe, classes)?;
        training.check(classes)?;
        validation.check(classes)?;
        let mut trainer = Trainer { model, training, validation, best: None };
        trainer.rounds(progress)?;
        trainer.finish()
    }

    /// Σ wᵢ·(−log p(classᵢ)) / Σ wᵢ, with wᵢ the weight of the class; and Σ wᵢ.
    pub(super) fn loss(
        &self,
        data: ClassifierData<'_>,
        rows: &[usize],
        noise: &mut Noise,
    ) -> Result<(Tensor, f64), Error> {
        self.loss_by(data, rows, |batch| self.logits(batch, noise))
    }

    /// As [`GptClassifier::loss`], without a way back and without noise.
    pub(super) fn read_loss(&self, data: ClassifierData<'_>, rows: &[usize]) -> Result<(Tensor, f64), Error> {
        self.loss_by(data, rows, |batch| self.read(batch))
    }

    fn loss_by(
        &self,
        data: ClassifierData<'_>,
        rows: &[usize],
        logits: impl FnOnce(&Batch) -> Result<Tensor, Error>,
    ) -> Result<(Tensor, f64), Error> {
        let batch = Batch::new(rows.iter().map(|&row| data.sequences[row].as_slice()))?;
        let likely = candle_nn::ops::log_softmax(&logits(&batch)?, D::Minus1)?; // [rows, classes]
        let (count, device) = (rows.len(), likely.device());
        let classes: Vec<u32> = rows.iter().map(|&row| data.classes[row]).collect();
        let weights: Vec<f32> = classes.iter().map(|&class| self.recipe.weight(class) as f32).collect();
        let mass = weights.iter().map(|&w| f64::from(w)).sum::<f64>();
        let chosen = likely.gather(&Tensor::from_vec(classes, (count, 1), device)?, 1)?; // [rows, 1]
        let weighted = chosen.mul(&Tensor::from_vec(weights, (count, 1), device)?)?;
        Ok(((weighted.sum_all()? * (-1.0 / mass.max(1e-12)))?, mass))
    }
}

impl ClassifierData<'_> {
    fn check(&self, classes: usize) -> Result<(), Error> {
        if self.sequences.is_empty() {
            return Err(Error::Empty { what: "a data set" });
        }
        check_rows("the classes", self.classes.len(), self.sequences.len())?;
        match self.classes.iter().find(|&&class| class as usize >= classes) {
            Some(class) => Err(Error::Recipe { reason: format!("class {class} is not below {classes}") }),
            None => Ok(()),
        }
    }
}

/// The weights of the best round so far.
struct Best {
    loss: f64,
    body: HashMap<String, Tensor>,
    head: HashMap<String, Tensor>,
}

struct Trainer<'a> {
    model: GptClassifier,
    training: ClassifierData<'a>,
    validation: ClassifierData<'a>,
    best: Option<Best>,
}

impl Trainer<'_> {
    fn rounds(
        &mut self,
        progress: &mut dyn FnMut(&ClassifierProgress) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let recipe = self.model.recipe.clone();
        let rows = self.training.sequences.len();
        let per_round = rows.min(recipe.rows_per_round).div_ceil(recipe.batch);
        let steps = recipe.rounds * per_round;
        let schedule = Schedule {
            peak: recipe.learning_rate,
            warmup: (steps / 20).max(1),
            steps,
            ..Schedule::default()
        };
        let (mut optimizer, mut order) = (self.optimizer()?, Order::new(recipe.seed, rows));
        let (mut sum, mut stale) = (0.0, 0);
        for step in 1..=steps {
            let chosen = order.batch(step - 1, recipe.batch.min(rows));
            let loss = self.step(step, &chosen, &mut optimizer, schedule.rate(step))?;
            sum += loss;
            let mut now = ClassifierProgress { step, steps, loss, round: None };
            if step % per_round == 0 {
                let point = self.end_round(step, step / per_round, sum / per_round as f64)?;
                (sum, stale) = (0.0, if point.best { 0 } else { stale + 1 });
                now.round = Some(point);
            }
            if progress(&now).is_break() || stale >= recipe.patience {
                break;
            }
        }
        Ok(())
    }

    fn optimizer(&self) -> Result<AdamW, Error> {
        let ClassifierRecipe { weight_decay, clip, body_rate, .. } = self.model.recipe;
        let config = AdamWConfig { decay: weight_decay, clip, ..AdamWConfig::default() };
        let mut optimizer = AdamW::new(config, self.model.body.gpt().kernels());
        optimizer.add("head.", self.model.head.parameters.entries(), 1.0)?;
        optimizer.add("body.", self.model.body.parameters().entries(), body_rate)?;
        Ok(optimizer)
    }

    fn step(&self, step: usize, chosen: &[usize], optimizer: &mut AdamW, rate: f64) -> Result<f64, Error> {
        let mut noise = Noise::of_step(self.model.recipe.seed, step);
        let (loss, _) = self.model.loss(self.training, chosen, &mut noise)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        if !value.is_finite() {
            return Err(Error::NonFiniteLoss { step });
        }
        optimizer.step(&loss.backward()?, rate)?;
        Ok(value)
    }

    fn end_round(&mut self, step: usize, round: usize, training_loss: f64) -> Result<ClassifierRound, Error> {
        let validation_loss = self.judge()?;
        let best = self.best.as_ref().is_none_or(|best| validation_loss < best.loss);
        if best {
            let body = self.model.body.parameters().snapshot()?.into_iter().collect();
            let head = self.model.head.parameters.snapshot()?.into_iter().collect();
            self.best = Some(Best { loss: validation_loss, body, head });
        }
        let point = ClassifierRound { round, step, training_loss, validation_loss, best };
        self.model.curve.push(point);
        Ok(point)
    }

    /// The loss on all validation sequences.
    fn judge(&self) -> Result<f64, Error> {
        let rows: Vec<usize> = (0..self.validation.sequences.len()).collect();
        let (mut total, mut mass) = (0.0, 0.0);
        for rows in rows.chunks(self.model.recipe.batch) {
            let (loss, weight) = self.model.read_loss(self.validation, rows)?;
            total += f64::from(loss.to_scalar::<f32>()?) * weight;
            mass += weight;
        }
        Ok(total / f64::max(mass, 1e-12))
    }

    fn finish(self) -> Result<GptClassifier, Error> {
        let Some(best) = &self.best else { return Err(Error::Stopped { step: 0 }) };
        self.model.body.parameters().load(&best.body)?;
        self.model.head.parameters.load(&best.head)?;
        Ok(self.model)
    }
}
