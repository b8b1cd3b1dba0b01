//! Named parameters and the layers that read them: linear, layer norm, embedding, dropout.
//!
//! A layer holds tensors that share storage with the parameters, so an optimizer step or a load is seen at once.

use std::collections::HashMap;

use candle_core::{Device, Shape, Tensor, Var};

use crate::generator::Generator;
use crate::kernels::activation::Dropout;
use crate::{Error, Kernels};

/// The trainable tensors of a model, by name, in the order of their making.
#[derive(Debug)]
pub struct Parameters {
    device: Device,
    generator: Generator,
    entries: Vec<(String, Var)>,
}

impl Parameters {
    /// No parameters yet; `seed` decides the random ones to come.
    pub fn new(device: &Device, seed: u64) -> Self {
        Self { device: device.clone(), generator: Generator::new(seed, 0), entries: Vec::new() }
    }

    /// Where the parameters live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The parameters with their names.
    pub fn entries(&self) -> &[(String, Var)] {
        &self.entries
    }

    /// A parameter by its name.
    ///
    /// # Errors
    /// [`Error::Weights`] if there is none.
    pub fn get(&self, name: &str) -> Result<&Var, Error> {
        let found = self.entries.iter().find(|(known, _)| known == name).map(|(_, var)| var);
        found.ok_or_else(|| Error::Weights { name: name.to_owned(), reason: "there are none".into() })
    }

    /// The number of trainable numbers.
    pub fn count(&self) -> usize {
        self.entries.iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// A parameter drawn from N(0, deviation²).
    ///
    /// # Errors
    /// If the device refuses.
    pub fn normal(&mut self, name: &str, shape: impl Into<Shape>, deviation: f64) -> Result<Tensor, Error> {
        let shape = shape.into();
        let values = (0..shape.elem_count()).map(|_| (self.generator.normal() * deviation) as f32).collect();
        self.add(name, shape, values)
    }

    /// A parameter drawn uniformly from (−bound, bound).
    ///
    /// # Errors
    /// If the device refuses.
    pub fn uniform(&mut self, name: &str, shape: impl Into<Shape>, bound: f64) -> Result<Tensor, Error> {
        let shape = shape.into();
        let draw = |generator: &mut Generator| ((generator.uniform() * 2.0 - 1.0) * bound) as f32;
        let values = (0..shape.elem_count()).map(|_| draw(&mut self.generator)).collect();
        self.add(name, shape, values)
    }

    /// A parameter that starts as one value everywhere.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn constant(&mut self, name: &str, shape: impl Into<Shape>, value: f32) -> Result<Tensor, Error> {
        let shape = shape.into();
        let values = vec![value; shape.elem_count()];
        self.add(name, shape, values)
    }

    fn add(&mut self, name: &str, shape: Shape, values: Vec<f32>) -> Result<Tensor, Error> {
        let var = Var::from_tensor(&Tensor::from_vec(values, shape, &self.device)?)?;
        let tensor = var.as_tensor().clone();
        self.entries.push((name.to_owned(), var));
        Ok(tensor)
    }

    /// A copy of every parameter, to be saved or restored.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn snapshot(&self) -> Result<Vec<(String, Tensor)>, Error> {
        self.entries.iter().map(|(name, var)| Ok((name.clone(), var.as_detached_tensor().copy()?))).collect()
    }

    /// Sets every parameter from `tensors`; others in there are left alone.
    ///
    /// # Errors
    /// [`Error::Weights`] if one is missing or has another shape.
    pub fn load(&self, tensors: &HashMap<String, Tensor>) -> Result<(), Error> {
        for (name, var) in &self.entries {
            let refuse = |reason: String| Error::Weights { name: name.clone(), reason };
            let stored = tensors.get(name).ok_or_else(|| refuse("they are missing".into()))?;
            if stored.dims() != var.dims() {
                return Err(refuse(format!("shape {:?} instead of {:?}", stored.dims(), var.dims())));
            }
            var.set(&stored.to_dtype(var.dtype())?.contiguous()?)?;
        }
        Ok(())
    }
}

/// A low-rank change of a linear layer: x·Aᵀ·Bᵀ·scale is added to x·W.
///
/// # Source
/// Hu et al. (2021), "LoRA: low-rank adaptation of large language models".
#[derive(Clone, Debug)]
pub struct LowRank {
    /// A, `[rank, in]`.
    pub down: Tensor,
    /// B, `[out, rank]`.
    pub up: Tensor,
    /// α / rank, or α / √rank.
    pub scale: f64,
    /// Share of x's elements that the change does not see in a training step.
    pub dropout: f64,
}

impl LowRank {
    /// `[rows, in]` → `[rows, out]`.
    fn forward(&self, x: &Tensor, kernels: Kernels, noise: &mut Noise) -> Result<Tensor, Error> {
        let x = noise.drop(kernels, x.clone(), self.dropout)?;
        let inner = x.matmul(&self.down.t()?)?; // [rows, rank]
        Ok((inner.matmul(&self.up.t()?)? * self.scale)?)
    }

    /// What merging adds to W, `[in, out]`.
    pub(crate) fn change(&self) -> Result<Tensor, Error> {
        Ok((self.up.matmul(&self.down)? * self.scale)?.t()?.contiguous()?)
    }
}

/// y = x·W + b, with W stored in × out as GPT-2's Conv1D has it.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
    adapter: Option<LowRank>,
    kernels: Kernels,
}

impl Linear {
    /// Weights from N(0, deviation²), bias 0; named `{name}.weight` and `{name}.bias`.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn normal(
        parameters: &mut Parameters,
        name: &str,
        (inputs, outputs): (usize, usize),
        deviation: f64,
        kernels: Kernels,
    ) -> Result<Self, Error> {
        let weight = parameters.normal(&format!("{name}.weight"), (inputs, outputs), deviation)?;
        let bias = parameters.constant(&format!("{name}.bias"), outputs, 0.0)?;
        Ok(Self { weight, bias, adapter: None, kernels })
    }

    /// Weights from U(−1/√in, 1/√in), as PyTorch starts a linear layer; bias 0.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn uniform(
        parameters: &mut Parameters,
        name: &str,
        (inputs, outputs): (usize, usize),
        kernels: Kernels,
    ) -> Result<Self, Error> {
        let bound = 1.0 / (inputs as f64).sqrt();
        let weight = parameters.uniform(&format!("{name}.weight"), (inputs, outputs), bound)?;
        let bias = parameters.constant(&format!("{name}.bias"), outputs, 0.0)?;
        Ok(Self { weight, bias, adapter: None, kernels })
    }

    /// `[rows, in]` → `[rows, out]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        self.forward_with(x, &mut Noise::off())
    }

    /// As [`Linear::forward`]; the low-rank change, if there is one, sees x under its own dropout.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward_with(&self, x: &Tensor, noise: &mut Noise) -> Result<Tensor, Error> {
        let y = self.kernels.linear(x, &self.weight, &self.bias)?;
        match &self.adapter {
            Some(adapter) => Ok((y + adapter.forward(x, self.kernels, noise)?)?),
            None => Ok(y),
        }
    }

    /// (in, out).
    pub(crate) fn sizes(&self) -> Result<(usize, usize), Error> {
        Ok(self.weight.dims2()?)
    }

    /// From now on another implementation computes.
    pub(crate) fn use_kernels(&mut self, kernels: Kernels) {
        self.kernels = kernels;
    }

    /// Weight and bias, unless there is a low-rank change.
    pub(crate) fn tensors(&self) -> Option<(&Tensor, &Tensor)> {
        self.adapter.is_none().then_some((&self.weight, &self.bias))
    }

    /// Weight and bias with the low-rank change in the weight, for passes without a way back.
    pub(crate) fn merged(&self) -> Result<(Tensor, &Tensor), Error> {
        let weight = match &self.adapter {
            None => self.weight.detach(),
            Some(adapter) => (self.weight.detach() + adapter.change()?.detach())?,
        };
        Ok((weight, &self.bias))
    }

    /// Adds or takes away the low-rank change.
    pub(crate) fn adapt(&mut self, adapter: Option<LowRank>) {
        self.adapter = adapter;
    }

    /// From now on the weights get no gradient; they still change when their parameters are loaded.
    pub(crate) fn freeze(&mut self) {
        (self.weight, self.bias) = (self.weight.detach(), self.bias.detach());
    }
}

/// Layer norm with scale and shift, or RMS norm with scale alone.
#[derive(Clone, Debug)]
pub struct Norm {
    weight: Tensor,
    bias: Option<Tensor>,
    kernels: Kernels,
}

impl Norm {
    /// Layer norm with scale 1 and shift 0; named `{name}.weight` and `{name}.bias`.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn layer(
        parameters: &mut Parameters,
        name: &str,
        width: usize,
        kernels: Kernels,
    ) -> Result<Self, Error> {
        let weight = parameters.constant(&format!("{name}.weight"), width, 1.0)?;
        let bias = Some(parameters.constant(&format!("{name}.bias"), width, 0.0)?);
        Ok(Self { weight, bias, kernels })
    }

    /// RMS norm with scale 1; named `{name}.weight`.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn rms(
        parameters: &mut Parameters,
        name: &str,
        width: usize,
        kernels: Kernels,
    ) -> Result<Self, Error> {
        let weight = parameters.constant(&format!("{name}.weight"), width, 1.0)?;
        Ok(Self { weight, bias: None, kernels })
    }

    /// `[rows, width]` → `[rows, width]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        match &self.bias {
            Some(bias) => Ok(self.kernels.layer_norm(x, &self.weight, bias)?),
            None => Ok(self.kernels.rms_norm(x, &self.weight)?),
        }
    }

    /// From now on another implementation computes.
    pub(crate) fn use_kernels(&mut self, kernels: Kernels) {
        self.kernels = kernels;
    }

    /// Scale and, if it is a layer norm, shift.
    pub(crate) fn tensors(&self) -> (&Tensor, Option<&Tensor>) {
        (&self.weight, self.bias.as_ref())
    }

    /// Scale and shift, if it is a layer norm.
    pub(crate) fn layer_tensors(&self) -> Option<(&Tensor, &Tensor)> {
        self.bias.as_ref().map(|bias| (&self.weight, bias))
    }

    /// From now on the weights get no gradient.
    pub(crate) fn freeze(&mut self) {
        self.weight = self.weight.detach();
        self.bias = self.bias.as_ref().map(Tensor::detach);
    }
}

/// Where dropout gets its keys: (seed, step, how many-eth call), or nowhere outside training.
#[derive(Clone, Debug)]
pub struct Noise {
    keys: Option<Generator>,
}

impl Noise {
    /// No dropout: for prediction.
    pub fn off() -> Self {
        Self { keys: None }
    }

    /// The dropout of one training step.
    pub fn of_step(seed: u64, step: usize) -> Self {
        Self { keys: Some(Generator::new(seed ^ 0x6472_6f70, step as u64)) }
    }

    /// The mask that [`Noise::drop`] would apply now, if any.
    pub(crate) fn mask(&mut self, rate: f64) -> Option<Dropout> {
        let keys = self.keys.as_mut().filter(|_| rate > 0.0)?;
        Some(Dropout { rate: rate as f32, key: keys.bits() })
    }

    /// Drops elements at this rate, in training only.
    ///
    /// # Errors
    /// If the operation fails.
    pub fn drop(&mut self, kernels: Kernels, x: Tensor, rate: f64) -> Result<Tensor, Error> {
        match &mut self.keys {
            Some(keys) if rate > 0.0 => Ok(kernels.dropout(&x, rate as f32, keys.bits())?),
            _ => Ok(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer of 6 numbers to 3, with a change of rank 2 under dropout.
    fn adapted(dropout: f64) -> (Linear, Tensor) {
        let mut parameters = Parameters::new(&Device::Cpu, 5);
        let mut linear = Linear::normal(&mut parameters, "l", (6, 3), 0.5, Kernels::Fused).unwrap();
        let down = parameters.normal("down", (2, 6), 1.0).unwrap();
        let up = parameters.normal("up", (3, 2), 1.0).unwrap();
        linear.adapt(Some(LowRank { down, up, scale: 2.0, dropout }));
        (linear, parameters.normal("x", (4, 6), 1.0).unwrap().detach())
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_low_rank_change_under_dropout_is_the_plain_one_on_average_and_outside_training() {
        let ((plain, x), (dropped, _)) = (adapted(0.0), adapted(0.3));
        let whole = numbers(&plain.forward(&x).unwrap());
        assert_eq!(numbers(&plain.forward_with(&x, &mut Noise::of_step(1, 1)).unwrap()), whole);
        assert_eq!(numbers(&dropped.forward(&x).unwrap()), whole, "prediction drops nothing");
        let (draws, mut sums) = (4_000, vec![0f64; whole.len()]);
        let mut seen = std::collections::BTreeSet::new();
        for step in 0..draws {
            let y = numbers(&dropped.forward_with(&x, &mut Noise::of_step(7, step)).unwrap());
            seen.insert(y[0].to_bits());
            sums.iter_mut().zip(y).for_each(|(sum, y)| *sum += f64::from(y));
        }
        assert!(seen.len() > 20, "steps drop different elements");
        for (sum, whole) in sums.iter().zip(&whole) {
            let mean = sum / draws as f64;
            assert!((mean - f64::from(*whole)).abs() < 0.25, "{mean} {whole}");
        }
    }
}
