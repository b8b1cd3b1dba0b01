//! Training a classifier, keeping the weights of the round that a later window likes best. It can be stopped, saved and resumed
//! without changing a bit of the result.
//!
//! The batch and the dropout of a step are functions of (seed, step), so the step number is all the generator state there is.

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
        data: (ClassifierData<'_>, ClassifierData<'_>),
        recipe: ClassifierRecipe,
        progress: &mut dyn FnMut(&ClassifierProgress) -> ControlFlow<()>,
    ) -> Result<Self, Error> {
        let mut run = ClassifierTraining::new(gpt, classes, recipe)?;
        run.run(data, progress)?;
        run.finish()
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
    fn shape(&self) -> DataShape {
        DataShape { sequences: self.sequences.len(), tokens: self.sequences.iter().map(Vec::len).sum() }
    }

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

/// What must be equal for a resumed training to go on with the same data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DataShape {
    sequences: usize,
    tokens: usize,
}

/// The weights of the best round so far.
#[derive(Debug)]
pub(super) struct Best {
    pub(super) body: Vec<(String, Tensor)>,
    pub(super) head: Vec<(String, Tensor)>,
}

/// A training of a classifier: the model, the optimizer, and how far it is.
#[derive(Debug)]
pub struct ClassifierTraining {
    pub(super) model: GptClassifier,
    pub(super) optimizer: AdamW,
    /// Steps done.
    pub(super) step: usize,
    /// Σ of the training losses of the round that is under way.
    pub(super) sum: f64,
    /// The weights of the last round of the curve that was the best.
    pub(super) best: Option<Best>,
    /// What it learns from, and what judges it, once it has begun.
    pub(super) data: Option<[DataShape; 2]>,
}

impl ClassifierTraining {
    /// A training that has not started.
    ///
    /// # Errors
    /// [`Error::Recipe`] if the recipe is impossible.
    pub fn new(gpt: Gpt, classes: usize, recipe: ClassifierRecipe) -> Result<Self, Error> {
        let model = GptClassifier::untrained(gpt, recipe, classes)?;
        let ClassifierRecipe { weight_decay, clip, body_rate, .. } = model.recipe;
        let config = AdamWConfig { decay: weight_decay, clip, ..AdamWConfig::default() };
        let mut optimizer = AdamW::new(config, model.body.gpt().kernels());
        optimizer.add("head.", model.head.parameters.entries(), 1.0)?;
        optimizer.add("body.", model.body.parameters().entries(), body_rate)?;
        Ok(Self { model, optimizer, step: 0, sum: 0.0, best: None, data: None })
    }

    /// Steps done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Trains on one window, judging each round on another, later one, until the end or until `progress` (called after each step)
    /// breaks; calling again goes on.
    ///
    /// Returns whether the training is finished: its last round is done, or none has been better for too long.
    ///
    /// # Errors
    /// [`Error::Rows`], [`Error::Empty`] or [`Error::Token`] if the data does not fit; [`Error::Recipe`] if a class is not below
    /// `classes` or the training was started with other data; [`Error::NonFiniteLoss`] if it diverges.
    pub fn run(
        &mut self,
        (training, validation): (ClassifierData<'_>, ClassifierData<'_>),
        progress: &mut dyn FnMut(&ClassifierProgress) -> ControlFlow<()>,
    ) -> Result<bool, Error> {
        self.check(training, validation)?;
        let recipe = self.model.recipe.clone();
        let rows = training.sequences.len();
        let per_round = rows.min(recipe.rows_per_round).div_ceil(recipe.batch);
        let steps = recipe.rounds * per_round;
        let schedule = Schedule {
            peak: recipe.learning_rate,
            warmup: (steps / 20).max(1),
            steps,
            ..Schedule::default()
        };
        let mut order = Order::new(recipe.seed, rows);
        while self.step < steps && self.stale() < recipe.patience {
            let chosen = order.batch(self.step, recipe.batch.min(rows));
            let loss = self.train_on(training, &chosen, schedule.rate(self.step + 1))?;
            self.sum += loss;
            let mut now = ClassifierProgress { step: self.step, steps, loss, round: None };
            if self.step.is_multiple_of(per_round) {
                let mean = std::mem::take(&mut self.sum) / per_round as f64;
                now.round = Some(self.end_round(validation, self.step / per_round, mean)?);
            }
            if progress(&now).is_break() {
                break;
            }
        }
        Ok(self.step >= steps || self.stale() >= recipe.patience)
    }

    fn check(&mut self, training: ClassifierData<'_>, validation: ClassifierData<'_>) -> Result<(), Error> {
        training.check(self.model.classes)?;
        validation.check(self.model.classes)?;
        let shapes = [training.shape(), validation.shape()];
        if self.data.is_some_and(|before| before != shapes) {
            return Err(Error::Recipe { reason: "the training was started with other data".into() });
        }
        self.data = Some(shapes);
        Ok(())
    }

    /// Rounds since the best.
    fn stale(&self) -> usize {
        self.model.curve.iter().rev().take_while(|round| !round.best).count()
    }

    fn train_on(&mut self, data: ClassifierData<'_>, chosen: &[usize], rate: f64) -> Result<f64, Error> {
        let step = self.step + 1;
        let mut noise = Noise::of_step(self.model.recipe.seed, step);
        let (loss, _) = self.model.loss(data, chosen, &mut noise)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        if !value.is_finite() {
            return Err(Error::NonFiniteLoss { step });
        }
        self.optimizer.step(&loss.backward()?, rate)?;
        self.step = step;
        Ok(value)
    }

    fn end_round(
        &mut self,
        validation: ClassifierData<'_>,
        round: usize,
        training_loss: f64,
    ) -> Result<ClassifierRound, Error> {
        let validation_loss = self.judge(validation)?;
        let before = self.model.curve.iter().rfind(|round| round.best);
        let best = before.is_none_or(|before| validation_loss < before.validation_loss);
        if best {
            let body = self.model.body.parameters().snapshot()?;
            self.best = Some(Best { body, head: self.model.head.parameters.snapshot()? });
        }
        let point = ClassifierRound { round, step: self.step, training_loss, validation_loss, best };
        self.model.curve.push(point);
        Ok(point)
    }

    /// The loss on all validation sequences.
    fn judge(&self, validation: ClassifierData<'_>) -> Result<f64, Error> {
        let rows: Vec<usize> = (0..validation.sequences.len()).collect();
        let (mut total, mut mass) = (0.0, 0.0);
        for rows in rows.chunks(self.model.recipe.batch) {
            let (loss, weight) = self.model.read_loss(validation, rows)?;
            total += f64::from(loss.to_scalar::<f32>()?) * weight;
            mass += weight;
        }
        Ok(total / f64::max(mass, 1e-12))
    }

    /// The model, with the weights of the best round so far.
    ///
    /// # Errors
    /// [`Error::Stopped`] if no round has ended.
    pub fn finish(self) -> Result<GptClassifier, Error> {
        let Some(Best { body, head }) = self.best else { return Err(Error::Stopped { step: self.step }) };
        self.model.body.parameters().load(&body.into_iter().collect())?;
        self.model.head.parameters.load(&head.into_iter().collect())?;
        Ok(self.model)
    }
}
