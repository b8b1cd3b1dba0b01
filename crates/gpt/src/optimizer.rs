//! AdamW with decay groups, clipping by the global norm, and the learning-rate schedule.
//!
//! Matrices of blocks can be moved by Muon instead. candle-nn's optimizer hides its moments, so a run could not be resumed; ours are named and saved.

mod muon;

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor, Var, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::kernels::host::{self, ELEMENTS_PER_TASK};
use crate::kernels::simd::{dot, vectorised};
use crate::{Error, Kernels};

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fall {
    /// Along half a cosine, from the end of the warm-up on.
    #[default]
    Cosine,
    /// Not at all until the last fifth of the steps, then as 1 − √x ("warm-up, stable, decay"): a run can be prolonged
    /// from its stable part.
    ///
    /// # Source
    /// Hägele et al. (2024), "Scaling laws and compute-optimal training beyond fixed training durations".
    StableThenDecay,
}

/// Warm-up, then a fall from `peak` to `floor`·`peak`.
///
/// rate(t) = peak·t/w for t ≤ w, else peak·(floor + (1 − floor)·f(t)), with t from 1; f = (1 + cos(π·(t − w)/(T − w)))/2,
/// or 1 and then 1 − √((t − s)/(T − s)) from s = w + 0.8·(T − w).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// Steps of linear growth.
    pub warmup: usize,
    /// All steps.
    pub steps: usize,
    /// The share of the peak that is left at the end.
    pub floor: f64,
    /// How the rate falls.
    pub fall: Fall,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { peak: 1e-3, warmup: 1, steps: 1, floor: 0.02, fall: Fall::Cosine }
    }
}

/// The share of the steps after the warm-up in which a stable rate decays.
const DECAY: f64 = 0.2;

impl Schedule {
    /// The learning rate of a step, counted from 1.
    ///
    /// ```
    /// use gpt::optimizer::{Fall, Schedule};
    /// let schedule = Schedule { peak: 1.0, warmup: 10, steps: 110, floor: 0.0, fall: Fall::Cosine };
    /// assert_eq!(schedule.rate(5), 0.5);
    /// assert!((schedule.rate(60) - 0.5).abs() < 1e-12);
    /// let stable = Schedule { fall: Fall::StableThenDecay, ..schedule };
    /// assert!(stable.rate(90) == 1.0 && stable.rate(110) < 1e-12);
    /// assert!((stable.rate(95) - 0.5).abs() < 1e-12);
    /// ```
    pub fn rate(&self, step: usize) -> f64 {
        if step <= self.warmup {
            return self.peak * step as f64 / self.warmup as f64;
        }
        let rest = (self.steps.max(self.warmup + 1) - self.warmup) as f64;
        let done = ((step - self.warmup) as f64 / rest).min(1.0);
        let left = match self.fall {
            Fall::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Fall::StableThenDecay => 1.0 - ((done - (1.0 - DECAY)).max(0.0) / DECAY).min(1.0).sqrt(),
        };
        self.peak * (self.floor + (1.0 - self.floor) * left)
    }
}

/// The constants of AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// β₁, the memory of the first moment.
    pub beta1: f64,
    /// β₂, the memory of the second moment.
    pub beta2: f64,
    /// ε in the denominator.
    pub epsilon: f64,
    /// λ, the decay of matrices; vectors (biases, norms) do not decay.
    pub decay: f64,
    /// The largest global gradient norm.
    pub clip: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, decay: 0.01, clip: 1.0 }
    }
}

#[derive(Debug)]
struct Slot {
    name: String,
    var: Var,
    first: Var,
    second: Option<Var>, // none for Muon, which has one moment
    decays: bool,
    scale: f64,
}

/// AdamW: m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², θ ← θ − η·(m̂/(√v̂ + ε) + λθ), with m̂, v̂ the unbiased moments.
///
/// # Source
/// Loshchilov & Hutter (2019), "Decoupled weight decay regularization".
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    kernels: Kernels,
    slots: Vec<Slot>,
    steps: usize,
}

impl AdamW {
    /// Moments at zero and nothing to train yet.
    pub fn new(config: AdamWConfig, kernels: Kernels) -> Self {
        Self { config, kernels, slots: Vec::new(), steps: 0 }
    }

    /// Adds parameters whose learning rate is `scale` times that of a step. Names must differ between calls.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn add(&mut self, prefix: &str, parameters: &[(String, Var)], scale: f64) -> Result<(), Error> {
        for (name, var) in parameters {
            self.slots.push(Slot::new(format!("{prefix}{name}"), var, true, scale)?);
        }
        Ok(())
    }

    /// As [`AdamW::add`], but the matrices of blocks (`….h.…`) are moved by Muon: embeddings, heads and vectors stay with
    /// AdamW.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn add_with_muon(
        &mut self,
        prefix: &str,
        parameters: &[(String, Var)],
        scale: f64,
    ) -> Result<(), Error> {
        for (name, var) in parameters {
            let adam = var.rank() != 2 || !name.contains(".h.");
            self.slots.push(Slot::new(format!("{prefix}{name}"), var, adam, scale)?);
        }
        Ok(())
    }

    /// One step; returns the global gradient norm before clipping. Parameters without a gradient stay as they are.
    ///
    /// # Errors
    /// [`Error::NonFiniteLoss`] if a gradient is not finite: nothing has moved then.
    pub fn step(&mut self, gradients: &GradStore, rate: f64) -> Result<f64, Error> {
        rayon::scope(|_| self.step_in_pool(gradients, rate)) // a thread from outside would sleep and wake for each parameter
    }

    fn step_in_pool(&mut self, gradients: &GradStore, rate: f64) -> Result<f64, Error> {
        let norm = self.norm(gradients)?;
        if !norm.is_finite() {
            return Err(Error::NonFiniteLoss { step: self.steps + 1 });
        }
        let shrink = (self.config.clip / (norm + 1e-6)).min(1.0);
        self.steps += 1;
        for slot in &self.slots {
            if let Some(gradient) = gradients.get(&slot.var) {
                let update = self.update(slot, rate, shrink);
                match (&slot.second, self.kernels) {
                    (None, _) => muon::step(slot, gradient, rate * slot.scale, shrink, self.config.decay)?,
                    (Some(second), Kernels::Fused | Kernels::FusedBf16) => {
                        slot.step_in_place(second, &gradient.contiguous()?, update)?;
                    }
                    (Some(second), Kernels::Reference) => slot.step_composed(second, gradient, update)?,
                }
            }
        }
        Ok(norm)
    }

    fn update(&self, slot: &Slot, rate: f64, shrink: f64) -> Update {
        let AdamWConfig { beta1, beta2, epsilon, decay, .. } = self.config;
        let rate = rate * slot.scale;
        let (bias1, bias2) = (1.0 - beta1.powi(self.steps as i32), 1.0 - beta2.powi(self.steps as i32));
        Update {
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            shrink: shrink as f32,
            keep: if slot.decays { (1.0 - rate * decay) as f32 } else { 1.0 },
            rate: (rate / bias1) as f32,
            unbias: (1.0 / bias2) as f32,
            epsilon: epsilon as f32,
        }
    }

    fn norm(&self, gradients: &GradStore) -> Result<f64, Error> {
        let mut squares = 0f64;
        for slot in &self.slots {
            if let Some(gradient) = gradients.get(&slot.var) {
                squares += match self.kernels {
                    Kernels::Fused | Kernels::FusedBf16 => host::read(gradient, sum_of_squares)?,
                    Kernels::Reference => f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?),
                };
            }
        }
        Ok(squares.sqrt())
    }

    /// The number of steps taken.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The moments, named `{parameter}.first` and `{parameter}.second`.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let both = |slot: &Slot| {
            let name = &slot.name;
            let second = slot.second.as_ref();
            let second = second.map(|second| (format!("{name}.second"), second.as_detached_tensor()));
            [Some((format!("{name}.first"), slot.first.as_detached_tensor())), second].into_iter().flatten()
        };
        self.slots.iter().flat_map(both).collect()
    }

    /// Goes on from a saved state.
    ///
    /// # Errors
    /// [`Error::Weights`] if a moment is missing.
    pub fn restore(&mut self, state: &HashMap<String, Tensor>, steps: usize) -> Result<(), Error> {
        for slot in &mut self.slots {
            slot.first = moment(state, &format!("{}.first", slot.name), &slot.var)?;
            if slot.second.is_some() {
                slot.second = Some(moment(state, &format!("{}.second", slot.name), &slot.var)?);
            }
        }
        self.steps = steps;
        Ok(())
    }
}

fn moment(state: &HashMap<String, Tensor>, name: &str, var: &Var) -> Result<Var, Error> {
    match state.get(name) {
        Some(tensor) if tensor.dims() == var.dims() => Ok(Var::from_tensor(&tensor.copy()?)?),
        Some(_) => Err(Error::Weights { name: name.to_owned(), reason: "the shape differs".into() }),
        None => Err(Error::Weights { name: name.to_owned(), reason: "they are missing".into() }),
    }
}

/// The numbers of one slot's step.
#[derive(Clone, Copy)]
struct Update {
    beta1: f32,
    beta2: f32,
    shrink: f32,
    keep: f32,
    rate: f32,
    unbias: f32,
    epsilon: f32,
}

impl Slot {
    fn new(name: String, var: &Var, adam: bool, scale: f64) -> Result<Self, Error> {
        let moment = || Var::from_tensor(&var.zeros_like()?);
        let (first, second) = (moment()?, if adam { Some(moment()?) } else { None });
        let decays = var.rank() >= 2 && !name.ends_with("frequencies");
        Ok(Self { name, var: var.clone(), first, second, decays, scale })
    }

    fn step_composed(&self, second: &Var, gradient: &Tensor, update: Update) -> Result<(), Error> {
        let [beta1, beta2] = [update.beta1, update.beta2].map(f64::from);
        let gradient = (gradient * f64::from(update.shrink))?;
        let first = ((self.first.as_tensor() * beta1)? + (&gradient * (1.0 - beta1))?)?;
        let squares = ((second.as_tensor() * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
        let scale = ((&squares * f64::from(update.unbias))?.sqrt()? + f64::from(update.epsilon))?;
        let moved = ((&first / scale)? * f64::from(update.rate))?;
        let kept = (self.var.as_tensor() * f64::from(update.keep))?;
        self.var.set(&(kept - moved)?)?;
        self.first.set(&first)?;
        Ok(second.set(&squares)?)
    }

    /// One pass over the four: a step is bound by memory.
    fn step_in_place(&self, second: &Var, gradient: &Tensor, update: Update) -> Result<(), Error> {
        let step = |m: &mut [f32], v: &mut [f32], x: &mut [f32]| {
            host::read(gradient, |g| {
                m.par_chunks_mut(ELEMENTS_PER_TASK)
                    .zip(v.par_chunks_mut(ELEMENTS_PER_TASK))
                    .zip(x.par_chunks_mut(ELEMENTS_PER_TASK))
                    .zip(g.par_chunks(ELEMENTS_PER_TASK))
                    .for_each(|(((m, v), x), g)| adamw(m, v, x, g, update));
            })
        };
        Ok(write(&self.first, |m| write(second, |v| write(&self.var, |x| step(m, v, x))))?)
    }
}

vectorised! {
    fn squares(x: &[f32]) -> f32 {
        dot(x, x)
    }
}

fn sum_of_squares(x: &[f32]) -> f64 {
    let parts: Vec<f64> = x.par_chunks(ELEMENTS_PER_TASK).map(|part| f64::from(squares(part))).collect();
    parts.iter().sum() // in order, whichever thread was first
}

vectorised! {
    /// See [`AdamW`].
    fn adamw(first: &mut [f32], second: &mut [f32], values: &mut [f32], gradient: &[f32], update: Update) {
        let Update { beta1, beta2, shrink, keep, rate, unbias, epsilon } = update;
        for (((m, v), x), g) in first.iter_mut().zip(second).zip(values).zip(gradient) {
            let g = g * shrink;
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * (g * g);
            *x = *x * keep - rate * *m / ((*v * unbias).sqrt() + epsilon);
        }
    }
}

/// A contiguous f32 operand that is written.
fn floats_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> candle_core::Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => bail!("parameters are contiguous and f32"),
    }
}

/// What is done once to the elements of a tensor.
struct Write<F>(RefCell<Option<F>>);

impl<F: FnOnce(&mut [f32]) -> candle_core::Result<()>> InplaceOp1 for Write<F> {
    fn name(&self) -> &'static str {
        "write"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        match self.0.take() {
            Some(write) => write(floats_mut(storage, layout)?),
            None => Ok(()),
        }
    }
}

/// Calls `f` with the elements of a parameter or a moment, to be changed.
fn write(tensor: &Tensor, f: impl FnOnce(&mut [f32]) -> candle_core::Result<()>) -> candle_core::Result<()> {
    tensor.inplace_op1(&Write(RefCell::new(Some(f))))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Two matrices and a vector under the loss Σ (θ·target)², and ten steps with both implementations.
    fn trained(kernels: Kernels) -> Vec<f32> {
        trained_with(kernels, AdamWConfig { clip: 0.5, ..AdamWConfig::default() }, |_| 0.05)
    }

    fn trained_with(kernels: Kernels, config: AdamWConfig, rate: impl Fn(usize) -> f64) -> Vec<f32> {
        let var = |values: &[f32], shape: &[usize]| {
            Var::from_tensor(&Tensor::from_slice(values, shape, &Device::Cpu).unwrap()).unwrap()
        };
        let matrix = var(&[1.0, -2.0, 3.0, 0.5, 0.1, -0.7], &[2, 3]);
        let vector = var(&[0.3, -0.2, 0.9], &[3]);
        let named = [("matrix".to_owned(), matrix.clone()), ("vector".to_owned(), vector.clone())];
        let mut optimizer = AdamW::new(config, kernels);
        optimizer.add("", &named, 1.0).unwrap();
        for step in 1..=10 {
            let loss = matrix.broadcast_mul(&vector).unwrap().sqr().unwrap().sum_all().unwrap();
            optimizer.step(&loss.backward().unwrap(), rate(step)).unwrap();
        }
        [matrix.flatten_all().unwrap().to_vec1().unwrap(), vector.to_vec1().unwrap()].concat()
    }

    #[test]
    fn the_fused_step_moves_parameters_as_the_composed_one_does() {
        let (fused, composed) = (trained(Kernels::Fused), trained(Kernels::Reference));
        for (fused, composed) in fused.iter().zip(&composed) {
            assert!((fused - composed).abs() < 1e-5, "{fused} {composed}");
        }
    }

    /// PyTorch's AdamW, clipping by the global norm and the cosine schedule, written out in f64.
    fn by_the_book(steps: usize, schedule: &Schedule, config: AdamWConfig) -> Vec<f64> {
        let mut values = [1.0, -2.0, 3.0, 0.5, 0.1, -0.7, 0.3, -0.2, 0.9];
        let (mut first, mut second) = ([0.0; 9], [0.0; 9]);
        for step in 1..=steps {
            let (matrix, vector) = values.split_at(6);
            let mut gradient = [0.0; 9];
            for i in 0..6 {
                gradient[i] = 2.0 * matrix[i] * vector[i % 3] * vector[i % 3];
                gradient[6 + i % 3] += 2.0 * vector[i % 3] * matrix[i] * matrix[i];
            }
            let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            let shrink = (config.clip / (norm + 1e-6)).min(1.0);
            let rate = schedule.rate(step);
            for i in 0..9 {
                let g = gradient[i] * shrink;
                values[i] *= 1.0 - if i < 6 { rate * config.decay } else { 0.0 };
                first[i] = config.beta1 * first[i] + (1.0 - config.beta1) * g;
                second[i] = config.beta2 * second[i] + (1.0 - config.beta2) * g * g;
                let unbiased = second[i] / (1.0 - config.beta2.powi(step as i32));
                let along = first[i] / (1.0 - config.beta1.powi(step as i32));
                values[i] -= rate * along / (unbiased.sqrt() + config.epsilon);
            }
        }
        values.to_vec()
    }

    #[test]
    fn ten_steps_move_parameters_as_pytorchs_formulas_do_to_a_millionth() {
        let config = AdamWConfig { clip: 0.5, decay: 0.1, ..AdamWConfig::default() };
        let schedule = Schedule { peak: 0.01, warmup: 2, steps: 10, floor: 0.1, fall: Fall::Cosine };
        for kernels in [Kernels::Fused, Kernels::Reference] {
            let values = trained_with(kernels, config, |step| schedule.rate(step));
            for (ours, book) in values.iter().zip(by_the_book(10, &schedule, config)) {
                assert!((f64::from(*ours) - book).abs() < 1e-6, "{kernels:?}: {ours} {book}");
            }
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_refused_before_anything_moves() {
        let var = Var::from_tensor(&Tensor::new(&[1.0f32, -1.0], &Device::Cpu).unwrap()).unwrap();
        let mut optimizer = AdamW::new(AdamWConfig::default(), Kernels::Fused);
        optimizer.add("", &[("x".into(), var.clone())], 1.0).unwrap();
        let loss = (var.as_tensor() * f64::INFINITY).unwrap().sum_all().unwrap();
        let refusal = optimizer.step(&loss.backward().unwrap(), 0.1).unwrap_err();
        assert!(matches!(refusal, Error::NonFiniteLoss { step: 1 }));
        assert_eq!(var.to_vec1::<f32>().unwrap(), [1.0, -1.0]);
    }

    #[test]
    fn the_first_step_moves_each_parameter_by_the_rate_against_its_gradient() {
        let var = Var::from_tensor(&Tensor::new(&[1.0f32, -1.0], &Device::Cpu).unwrap()).unwrap();
        let mut optimizer = AdamW::new(AdamWConfig::default(), Kernels::Fused);
        optimizer.add("", &[("x".into(), var.clone())], 1.0).unwrap();
        let loss = var.sqr().unwrap().sum_all().unwrap();
        optimizer.step(&loss.backward().unwrap(), 0.1).unwrap();
        let moved = var.to_vec1::<f32>().unwrap();
        assert!((moved[0] - 0.9).abs() < 1e-5 && (moved[1] + 0.9).abs() < 1e-5, "{moved:?}");
    }
}
