//! Next-token pretraining that can be stopped, saved and resumed without changing a bit of the result.
//!
//! The batch and the dropout of a step are functions of (seed, step), so the step number is all the generator state
//! there is.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use candle_core::Device;
use candle_core::backprop::GradStore;
use serde::{Deserialize, Serialize};

use crate::error::check_format;
use crate::generator::Generator;
use crate::layers::Noise;
use crate::optimizer::{AdamW, AdamWConfig, Fall, Schedule};
use crate::{Batch, Error, Gpt, GptConfig, Precision, files};

const FORMAT: u32 = 1;

/// How to pretrain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PretrainRecipe {
    /// Decides the order of sequences and the dropout.
    pub seed: u64,
    /// Sequences per step.
    pub batch: usize,
    /// Tokens per step, instead of `batch`: as many whole sequences as they hold, at least one. Sequences are stored end to end
    /// and hear nothing of each other, so no token is padding.
    pub tokens: Option<usize>,
    /// Passes over the sequences; need not be whole.
    pub epochs: f64,
    /// At most this many steps, if given.
    pub max_steps: Option<usize>,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Share of the steps with a growing learning rate.
    pub warmup: f64,
    /// Decay of matrices.
    pub weight_decay: f64,
    /// The largest global gradient norm.
    pub clip: f64,
    /// Steps between two validation losses.
    pub validate_every: usize,
    /// How the learning rate falls.
    pub fall: Fall,
    /// Move the matrices of blocks by Muon instead of AdamW.
    pub muon: bool,
    /// Parts that a step's batch is cut into, one in memory at a time; the step is that of the whole batch.
    pub accumulate: usize,
    /// Compute activations again on the way back instead of keeping them: a third more time, far less memory.
    pub recompute: bool,
    /// The numbers that matrix products multiply. `f32` gives the same weights on every machine; `bf16` is about half as
    /// fast again where the processor multiplies them, and is f32 elsewhere.
    pub precision: Precision,
}

impl Default for PretrainRecipe {
    fn default() -> Self {
        Self {
            seed: 0,
            batch: 128,
            tokens: None,
            epochs: 1.0,
            max_steps: Some(250),
            learning_rate: 3e-3,
            warmup: 0.05,
            weight_decay: 0.01,
            clip: 1.0,
            validate_every: 100,
            fall: Fall::Cosine,
            muon: false,
            accumulate: 1,
            recompute: false,
            precision: Precision::F32,
        }
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Training loss of this step, in nats per token.
    pub loss: f64,
    /// Validation loss, at the steps that compute one.
    pub validation_loss: Option<f64>,
    /// The global gradient norm before clipping.
    pub gradient_norm: f64,
    /// Tokens a second, since this call of `run` started.
    pub tokens_per_second: f64,
}

/// A pretraining run: the model, the optimizer, and how far it is.
#[derive(Debug)]
pub struct Pretraining {
    gpt: Gpt,
    recipe: PretrainRecipe,
    optimizer: AdamW,
    step: usize,
    data: Option<DataShape>,
}

/// What must be equal for a resumed run to go on with the same data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DataShape {
    sequences: usize,
    tokens: usize,
}

/// The note in a checkpoint file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    format: u32,
    config: GptConfig,
    recipe: PretrainRecipe,
    step: usize,
    data: Option<DataShape>,
}

impl Pretraining {
    /// A run that has not started.
    ///
    /// # Errors
    /// [`Error::Recipe`] if the recipe is impossible.
    pub fn new(mut gpt: Gpt, recipe: PretrainRecipe) -> Result<Self, Error> {
        let counts =
            [recipe.batch, recipe.validate_every, recipe.accumulate, recipe.tokens.unwrap_or(usize::MAX)];
        if counts.contains(&0) || recipe.epochs.is_nan() || recipe.epochs <= 0.0 {
            let reason = "batch, tokens, epochs, validate_every and accumulate are more than 0".to_owned();
            return Err(Error::Recipe { reason });
        }
        gpt.use_precision(recipe.precision);
        let config = AdamWConfig { decay: recipe.weight_decay, clip: recipe.clip, ..AdamWConfig::default() };
        let mut optimizer = AdamW::new(config, gpt.kernels());
        if recipe.muon {
            optimizer.add_with_muon("", gpt.parameters().entries(), 1.0)?;
        } else {
            optimizer.add("", gpt.parameters().entries(), 1.0)?;
        }
        Ok(Self { gpt, recipe, optimizer, step: 0, data: None })
    }

    /// Steps done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// The model as it is now.
    pub fn gpt(&self) -> &Gpt {
        &self.gpt
    }

    /// The model, without the optimizer.
    pub fn into_gpt(self) -> Gpt {
        self.gpt
    }

    /// Steps that the whole run takes over these sequences.
    pub fn steps(&self, sequences: &[Vec<u32>]) -> usize {
        let rows = self.recipe.epochs * sequences.len() as f64;
        let most = self.recipe.max_steps.unwrap_or(usize::MAX);
        let steps = match self.recipe.tokens {
            None => (rows / self.recipe.batch as f64).ceil() as usize,
            Some(budget) => {
                let mut order = Order::new(self.recipe.seed, sequences.len());
                let mut left = rows.ceil() as usize;
                let mut steps = 0;
                while left > 0 && steps < most {
                    left = left.saturating_sub(order.fill(steps, budget, |row| sequences[row].len()).len());
                    steps += 1;
                }
                steps
            }
        };
        steps.min(most).max(1)
    }

    /// Trains until the end, or until `progress` (called after each step) breaks; calling again goes on.
    ///
    /// Returns whether the run is finished.
    ///
    /// # Errors
    /// [`Error::NonFiniteLoss`] if it diverges, [`Error::Empty`] without sequences, [`Error::Recipe`] if the run was
    /// started with other sequences.
    pub fn run(
        &mut self,
        sequences: &[Vec<u32>],
        validation: Option<&[Vec<u32>]>,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<bool, Error> {
        self.check_data(sequences)?;
        let steps = self.steps(sequences);
        let warmup = (steps as f64 * self.recipe.warmup).ceil() as usize;
        let schedule =
            Schedule { peak: self.recipe.learning_rate, warmup, steps, floor: 0.05, fall: self.recipe.fall };
        let (started, mut tokens) = (Instant::now(), 0);
        let mut order = Order::new(self.recipe.seed, sequences.len());
        while self.step < steps {
            let rows = match self.recipe.tokens {
                None => order.batch(self.step, self.recipe.batch),
                Some(budget) => order.fill(self.step, budget, |row| sequences[row].len()),
            };
            let rows: Vec<&[u32]> = rows.iter().map(|&row| sequences[row].as_slice()).collect();
            let (loss, gradient_norm) = self.train_on(&rows, schedule.rate(self.step + 1))?;
            tokens += rows.iter().map(|row| row.len()).sum::<usize>();
            let due = self.step.is_multiple_of(self.recipe.validate_every) || self.step == steps;
            let validation_loss = match validation {
                Some(sequences) if due => Some(self.mean_loss(sequences)?),
                _ => None,
            };
            let tokens_per_second = tokens as f64 / started.elapsed().as_secs_f64();
            let now =
                Progress { step: self.step, steps, loss, validation_loss, gradient_norm, tokens_per_second };
            if progress(&now).is_break() {
                break;
            }
        }
        Ok(self.step >= steps)
    }

    /// One step on sequences; returns the loss and the gradient norm. Nothing moves if either is not finite.
    fn train_on(&mut self, rows: &[&[u32]], rate: f64) -> Result<(f64, f64), Error> {
        let mut noise = Noise::of_step(self.recipe.seed, self.step);
        let targets = |rows: &[&[u32]]| rows.iter().map(|row| row.len().saturating_sub(1)).sum::<usize>();
        let all = targets(rows).max(1) as f64;
        let (mut loss, mut gradients) = (0.0, GradStore::default());
        for part in rows.chunks(rows.len().div_ceil(self.recipe.accumulate)) {
            let batch = Batch::new(part.iter().copied())?;
            let share = targets(part) as f64 / all;
            let (value, part) = self.gpt.gradients(&batch, &mut noise, share, self.recipe.recompute)?;
            loss += share * value;
            gradients.extend(part)?;
        }
        if !loss.is_finite() {
            return Err(Error::NonFiniteLoss { step: self.step + 1 });
        }
        let norm = self.optimizer.step(&gradients, rate)?;
        self.step += 1;
        Ok((loss, norm))
    }

    /// The mean loss a token over sequences, in nats.
    ///
    /// # Errors
    /// [`Error::Empty`] without sequences.
    pub fn mean_loss(&self, sequences: &[Vec<u32>]) -> Result<f64, Error> {
        let (mut total, mut targets) = (0.0, 0);
        for part in sequences.chunks(self.recipe.batch) {
            let batch = Batch::new(part.iter().map(Vec::as_slice))?;
            total += self.gpt.token_losses(&batch)?.into_iter().map(f64::from).sum::<f64>();
            targets += batch.counted_targets();
        }
        if targets == 0 {
            Err(Error::Empty { what: "the validation sequences" })
        } else {
            Ok(total / targets as f64)
        }
    }

    fn check_data(&mut self, sequences: &[Vec<u32>]) -> Result<(), Error> {
        let shape = DataShape { sequences: sequences.len(), tokens: sequences.iter().map(Vec::len).sum() };
        if shape.tokens <= shape.sequences {
            return Err(Error::Empty { what: "the training sequences" });
        }
        match self.data.replace(shape) {
            Some(before) if before != shape => {
                self.data = Some(before);
                Err(Error::Recipe { reason: "the run was started with other sequences".into() })
            }
            _ => Ok(()),
        }
    }

    /// Writes weights, moments and progress into one file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let note = Note {
            format: FORMAT,
            config: self.gpt.config().clone(),
            recipe: self.recipe.clone(),
            step: self.step,
            data: self.data,
        };
        let note = serde_json::to_string(&note)
            .map_err(|source| Error::Json { what: "a pretraining checkpoint", source })?;
        let mut tensors = self.gpt.parameters().snapshot()?;
        tensors.extend(self.optimizer.state());
        files::write_tensors_with(path, &tensors, Some(note))
    }

    /// Goes on from a file written by [`Pretraining::save`].
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Json`], [`Error::Format`] or [`Error::Weights`], as it is unreadable or unfit.
    pub fn resume(path: &Path, device: &Device) -> Result<Self, Error> {
        let (tensors, note) = files::read_tensors_with(path, device)?;
        let note: Note = serde_json::from_str(&note)
            .map_err(|source| Error::Json { what: "a pretraining checkpoint", source })?;
        check_format("a pretraining checkpoint", note.format, FORMAT)?;
        let mut run = Self::new(Gpt::new(note.config, 0, device)?, note.recipe)?;
        run.gpt.parameters().load(&tensors)?;
        run.optimizer.restore(&tensors, note.step)?;
        (run.step, run.data) = (note.step, note.data);
        Ok(run)
    }
}

/// Batches of shuffled rows: epoch after epoch, each epoch in the order of its own stream.
pub(crate) struct Order {
    seed: u64,
    rows: usize,
    epoch: Option<(usize, Vec<usize>)>,
    /// The steps that a budget was filled for, and the places that they took.
    filled: (usize, usize),
}

impl Order {
    pub(crate) fn new(seed: u64, rows: usize) -> Self {
        Self { seed, rows, epoch: None, filled: (0, 0) }
    }

    /// The rows of a step, from 0. A batch may span two epochs.
    pub(crate) fn batch(&mut self, step: usize, size: usize) -> Vec<usize> {
        (step * size..(step + 1) * size).map(|place| self.row(place)).collect()
    }

    /// The rows of a step, from 0, when each step takes the next sequences that a budget of tokens holds, at least one. Where
    /// a step begins follows from the lengths before it, so a resumed run goes through them again.
    pub(crate) fn fill(&mut self, step: usize, budget: usize, length: impl Fn(usize) -> usize) -> Vec<usize> {
        if self.filled.0 > step {
            self.filled = (0, 0);
        }
        loop {
            let (at, first) = self.filled;
            let (mut rows, mut tokens) = (Vec::new(), 0);
            loop {
                let row = self.row(first + rows.len());
                tokens += length(row);
                if tokens > budget && !rows.is_empty() {
                    break;
                }
                rows.push(row);
            }
            self.filled = (at + 1, first + rows.len());
            if at == step {
                return rows;
            }
        }
    }

    fn row(&mut self, place: usize) -> usize {
        let epoch = place / self.rows;
        let (seed, rows) = (self.seed, self.rows);
        if self.epoch.as_ref().is_none_or(|(known, _)| *known != epoch) {
            self.epoch = Some((epoch, Generator::new(seed, epoch as u64).permutation(rows)));
        }
        self.epoch.as_ref().map_or(0, |(_, order)| order[place % rows])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequences() -> Vec<Vec<u32>> {
        (0..40u32).map(|i| (0..3 + i % 6).map(|t| (i + t * (1 + i % 3)) % 11).collect()).collect()
    }

    fn start(steps: usize) -> Pretraining {
        let config = GptConfig {
            vocabulary: 11,
            context: 8,
            width: 16,
            heads: 2,
            dropout: 0.1,
            ..GptConfig::default()
        };
        let gpt = Gpt::new(config, 7, &Device::Cpu).unwrap();
        let recipe =
            PretrainRecipe { batch: 16, epochs: 100.0, max_steps: Some(steps), ..PretrainRecipe::default() };
        Pretraining::new(gpt, recipe).unwrap()
    }

    fn weights(run: &Pretraining) -> Vec<Vec<f32>> {
        let snapshot = run.gpt().parameters().snapshot().unwrap();
        snapshot.iter().map(|(_, t)| t.flatten_all().unwrap().to_vec1().unwrap()).collect()
    }

    #[test]
    fn a_run_killed_at_half_and_resumed_from_its_checkpoint_ends_in_the_same_bits() {
        let mut straight = start(20);
        assert!(straight.run(&sequences(), None, &mut |_| ControlFlow::Continue(())).unwrap());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint.safetensors");
        let mut killed = start(20);
        let stop =
            |p: &Progress| if p.step == 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        assert!(!killed.run(&sequences(), None, &mut { stop }).unwrap());
        killed.save(&path).unwrap();
        let mut resumed = Pretraining::resume(&path, &Device::Cpu).unwrap();
        assert_eq!(resumed.step(), 10);
        assert!(resumed.run(&sequences(), None, &mut |_| ControlFlow::Continue(())).unwrap());
        assert_eq!(weights(&resumed), weights(&straight));
    }

    #[test]
    fn steps_of_a_token_budget_take_each_sequence_once_an_epoch_and_never_more_tokens_than_they_may() {
        let sequences = sequences();
        let length = |row: usize| sequences[row].len();
        let (mut order, mut seen, mut step) = (Order::new(4, sequences.len()), Vec::new(), 0);
        while seen.len() < sequences.len() {
            let rows = order.fill(step, 20, length);
            assert!(rows.iter().map(|row| length(*row)).sum::<usize>() <= 20);
            seen.extend(rows);
            step += 1;
        }
        seen.truncate(sequences.len());
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..sequences.len()));
        for step in [5, 2, 9] {
            let anew = Order::new(4, sequences.len()).fill(step, 20, length);
            assert_eq!(order.fill(step, 20, length), anew, "a step does not depend on what was asked before");
        }
        let long = Order::new(4, 3).fill(1, 5, |_| 9);
        assert_eq!(long.len(), 1, "a sequence beyond the budget goes alone");
    }

    #[test]
    fn a_run_by_token_budget_sees_all_sequences_learns_and_resumes_in_the_same_bits() {
        let budget = |epochs: f64| {
            let recipe = PretrainRecipe { tokens: Some(60), epochs, max_steps: None, ..start(1).recipe };
            Pretraining::new(start(1).gpt, recipe).unwrap()
        };
        let (mut straight, mut losses) = (budget(20.0), Vec::new());
        let mut hear = |now: &Progress| {
            losses.push(now.loss);
            ControlFlow::Continue(())
        };
        assert!(straight.run(&sequences(), None, &mut hear).unwrap());
        let tokens: usize = sequences().iter().map(Vec::len).sum();
        let (steps, least) = (straight.step(), 20 * tokens / 60);
        assert!((least..least * 5 / 4).contains(&steps), "{steps} steps for at least {least} budgets");
        assert!(losses[steps - 1] < 0.7 * losses[0], "{losses:?}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint.safetensors");
        let mut killed = budget(20.0);
        let stop = |now: &Progress| {
            if now.step == 17 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        assert!(!killed.run(&sequences(), None, &mut { stop }).unwrap());
        killed.save(&path).unwrap();
        let mut resumed = Pretraining::resume(&path, &Device::Cpu).unwrap();
        assert!(resumed.run(&sequences(), None, &mut |_| ControlFlow::Continue(())).unwrap());
        assert_eq!(weights(&resumed), weights(&straight));
    }

    #[test]
    fn a_batch_in_parts_and_activations_computed_again_take_the_same_steps() {
        let ended = |accumulate: usize, recompute: bool| {
            let mut run = start(3);
            run.gpt =
                Gpt::new(GptConfig { dropout: 0.0, ..run.gpt.config().clone() }, 7, &Device::Cpu).unwrap();
            let recipe = PretrainRecipe { accumulate, recompute, ..run.recipe };
            let mut run = Pretraining::new(run.gpt, recipe).unwrap();
            run.run(&sequences(), None, &mut |_| ControlFlow::Continue(())).unwrap();
            weights(&run).concat()
        };
        let whole = ended(1, false);
        for (accumulate, recompute) in [(1, true), (3, false), (16, true)] {
            for (a, b) in whole.iter().zip(ended(accumulate, recompute)) {
                assert!((a - b).abs() < 2e-4, "{accumulate} {recompute}: {a} {b}");
            }
        }
    }

    #[test]
    fn a_run_in_bf16_learns_as_one_in_f32_does_and_resumes_in_the_same_bits_and_precision() {
        let ended = |precision| {
            let run = start(60);
            let mut run = Pretraining::new(run.gpt, PretrainRecipe { precision, ..run.recipe }).unwrap();
            run.run(&sequences(), None, &mut |_| ControlFlow::Continue(())).unwrap();
            (run.mean_loss(&sequences()).unwrap(), run)
        };
        let ((exact, _), (rounded, straight)) = (ended(Precision::F32), ended(Precision::Bf16));
        assert!((exact - rounded).abs() < 0.02 * exact, "{exact} {rounded}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint.safetensors");
        let run = start(60);
        let mut killed =
            Pretraining::new(run.gpt, PretrainRecipe { precision: Precision::Bf16, ..run.recipe }).unwrap();
        let stop =
            |p: &Progress| if p.step == 30 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        killed.run(&sequences(), None, &mut { stop }).unwrap();
        killed.save(&path).unwrap();
        let mut resumed = Pretraining::resume(&path, &Device::Cpu).unwrap();
        assert_eq!(resumed.gpt().kernels(), crate::Kernels::FusedBf16);
        resumed.run(&sequences(), None, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(weights(&resumed), weights(&straight));
    }

    #[test]
    fn muon_with_a_stable_rate_learns_too_and_resumes_in_the_same_bits() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint.safetensors");
        let fresh = || {
            let run = start(60);
            let recipe = PretrainRecipe { muon: true, fall: Fall::StableThenDecay, ..run.recipe };
            Pretraining::new(run.gpt, recipe).unwrap()
        };
        let (mut straight, mut losses) = (fresh(), Vec::new());
        let finished = straight.run(&sequences(), None, &mut |progress| {
            losses.push(progress.loss);
            ControlFlow::Continue(())
        });
        assert!(finished.unwrap());
        assert!(losses[59] < losses[0] * 0.9, "{losses:?}");
        let mut killed = fresh();
        let stop =
            |p: &Progress| if p.step == 30 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        killed.run(&sequences(), None, &mut { stop }).unwrap();
        killed.save(&path).unwrap();
        let mut resumed = Pretraining::resume(&path, &Device::Cpu).unwrap();
        resumed.run(&sequences(), None, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(weights(&resumed), weights(&straight));
    }

    #[test]
    fn the_loss_falls_on_sequences_with_a_pattern_and_validation_is_reported() {
        let mut run = start(150);
        let (mut first, mut last) = (None, None);
        let validation = sequences();
        run.run(&sequences(), Some(&validation), &mut |progress| {
            first = first.or(Some(progress.loss));
            last = progress.validation_loss.or(last);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert!(last.unwrap() < first.unwrap() * 0.7, "{first:?} {last:?}");
    }

    #[test]
    fn a_diverging_run_stops_and_names_the_step() {
        let mut run = start(50);
        run.recipe.learning_rate = 1e30;
        run.recipe.warmup = 0.0;
        let failure = run.run(&sequences(), None, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(failure, Error::NonFiniteLoss { step } if step >= 2), "{failure}");
    }

    #[test]
    fn a_run_does_not_go_on_with_other_sequences() {
        let mut run = start(20);
        run.run(&sequences(), None, &mut |_| ControlFlow::Break(())).unwrap();
        let failure = run.run(&sequences()[1..], None, &mut |_| ControlFlow::Break(())).unwrap_err();
        assert!(failure.to_string().contains("other sequences"), "{failure}");
    }
}
