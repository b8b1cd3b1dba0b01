//! Named parameters and the layers that read them: linear, layer norm, embedding, dropout.
//!
//! A layer holds tensors that share storage with the parameters, so an optimizer step or a load is seen at once.

use std::collections::HashMap;

use candle_core::{Device, Shape, Tensor, Var};

use crate::generator::Generator;
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

/// y = x·W + b, with W stored in × out as GPT-2's Conv1D has it.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
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
        Ok(Self { weight, bias, kernels })
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
        Ok(Self { weight, bias, kernels })
    }

    /// `[rows, in]` → `[rows, out]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(self.kernels.linear(x, &self.weight, &self.bias)?)
    }
}

/// Layer norm with scale and shift.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    kernels: Kernels,
}

impl LayerNorm {
    /// Scale 1 and shift 0; named `{name}.weight` and `{name}.bias`.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn new(
        parameters: &mut Parameters,
        name: &str,
        width: usize,
        kernels: Kernels,
    ) -> Result<Self, Error> {
        let weight = parameters.constant(&format!("{name}.weight"), width, 1.0)?;
        let bias = parameters.constant(&format!("{name}.bias"), width, 0.0)?;
        Ok(Self { weight, bias, kernels })
    }

    /// `[rows, width]` → `[rows, width]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(self.kernels.layer_norm(x, &self.weight, &self.bias)?)
    }
}

/// Where dropout gets its keys: (seed, step, how many-eth call), or nowhere outside training.
#[derive(Debug)]
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
