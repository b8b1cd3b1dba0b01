//! GELU and dropout, element by element.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::host::{ELEMENTS_PER_TASK, floats, read, read2};
use super::simd::{exp, vectorised};
use crate::generator::mix;

/// GELU in its tanh form, as GPT-2 has it: x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³))).
///
/// # Source
/// Hendrycks & Gimpel (2016), "Gaussian error linear units".
pub(crate) struct Gelu;

const ROOT: f32 = 0.797_884_6; // √(2/π)
const CUBIC: f32 = 0.044_715;

/// (GELU(x), GELU′(x)) from one exponential: with u = √(2/π)·(x + 0.044715·x³) and s = 1/(1 + e^(−2u)), GELU = x·s and
/// GELU′ = s + 2·x·s·(1 − s)·u′.
#[inline(always)]
fn gelu_parts(x: f32) -> (f32, f32) {
    let square = x * x;
    let u = x * square.mul_add(ROOT * CUBIC, ROOT);
    let s = 1.0 / (1.0 + exp(-2.0 * u));
    let along = square.mul_add(3.0 * ROOT * CUBIC, ROOT); // u′
    let y = x * s;
    (y, (2.0 * y * along).mul_add(1.0 - s, s))
}

vectorised! {
    fn gelu(x: &[f32], out: &mut [f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = gelu_parts(x).0;
        }
    }
}

vectorised! {
    /// GELU of every element, on this thread.
    pub(crate) fn gelu_in_place(x: &mut [f32]) {
        for x in x.iter_mut() {
            *x = gelu_parts(*x).0;
        }
    }
}

/// GELU of every element, in parallel.
pub(crate) fn gelu_all(x: &[f32], out: &mut [f32]) {
    out.par_chunks_mut(ELEMENTS_PER_TASK)
        .zip(x.par_chunks(ELEMENTS_PER_TASK))
        .for_each(|(out, x)| gelu(x, out));
}

vectorised! {
    /// slope ← slope·GELU′(x).
    pub(crate) fn gelu_slope(x: &[f32], slope: &mut [f32]) {
        for (slope, &x) in slope.iter_mut().zip(x) {
            *slope *= gelu_parts(x).1;
        }
    }
}

vectorised! {
    fn gelu_backward(x: &[f32], dy: &[f32], dx: &mut [f32]) {
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            *dx = dy * gelu_parts(x).1;
        }
    }
}

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "fused-gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(x, layout)?;
        let mut out = vec![0f32; x.len()];
        gelu_all(x, &mut out);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = read2(x, dy, |x, dy| {
            let mut dx = vec![0f32; x.len()];
            dx.par_chunks_mut(ELEMENTS_PER_TASK)
                .zip(x.par_chunks(ELEMENTS_PER_TASK))
                .zip(dy.par_chunks(ELEMENTS_PER_TASK))
                .for_each(|((dx, x), dy)| gelu_backward(x, dy, dx));
            dx
        })?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

/// Dropout whose mask is a function of (key, position): nothing is stored for the backward pass, and a resumed run
/// drops the same elements.
pub(crate) struct Dropout {
    pub(crate) rate: f32,
    pub(crate) key: u64,
}

/// 0 for a dropped element, 1 / (1 − rate) for a kept one.
#[inline(always)]
pub(crate) fn keep(rate: f32, key: u64, position: usize) -> f32 {
    let uniform = (mix(key ^ position as u64) >> 40) as f32 / (1u32 << 24) as f32;
    if uniform < rate { 0.0 } else { 1.0 / (1.0 - rate) }
}

vectorised! {
    fn drop_out(x: &[f32], out: &mut [f32], rate: f32, key: u64, first: usize) {
        for (i, (out, &x)) in out.iter_mut().zip(x).enumerate() {
            *out = x * keep(rate, key, first + i);
        }
    }
}

impl Dropout {
    /// x ← x·mask for the elements from `first` on.
    pub(crate) fn drop_in_place(&self, x: &mut [f32], first: usize) {
        for (i, x) in x.iter_mut().enumerate() {
            *x *= keep(self.rate, self.key, first + i);
        }
    }

    pub(crate) fn apply(&self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0f32; x.len()];
        out.par_chunks_mut(ELEMENTS_PER_TASK)
            .zip(x.par_chunks(ELEMENTS_PER_TASK))
            .enumerate()
            .for_each(|(task, (out, x))| drop_out(x, out, self.rate, self.key, task * ELEMENTS_PER_TASK));
        out
    }
}

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        "fused-dropout"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.apply(floats(x, layout)?)), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = read(dy, |dy| self.apply(dy))?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

/// The gated unit of an MLP: `[rows, 2n]` → `[rows, n]`, silu(a)·b with a the first half of a row and b the second.
///
/// # Source
/// Shazeer (2020), "GLU variants improve transformer".
pub(crate) struct Swiglu;

/// The logistic function.
#[inline(always)]
fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

vectorised! {
    /// One row, on this thread.
    pub(crate) fn swiglu(x: &[f32], out: &mut [f32]) {
        let (gate, value) = x.split_at(out.len());
        for ((out, &a), &b) in out.iter_mut().zip(gate).zip(value) {
            *out = a * logistic(a) * b;
        }
    }
}

vectorised! {
    /// With s the logistic function: ∂a = ∂y·b·s(a)·(1 + a·(1 − s(a))), ∂b = ∂y·a·s(a).
    fn swiglu_backward(x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let (gate, value) = x.split_at(dy.len());
        let (dgate, dvalue) = dx.split_at_mut(dy.len());
        for i in 0..dy.len() {
            let (a, s) = (gate[i], logistic(gate[i]));
            dgate[i] = dy[i] * value[i] * s * (1.0 + a * (1.0 - s));
            dvalue[i] = dy[i] * a * s;
        }
    }
}

impl CustomOp1 for Swiglu {
    fn name(&self) -> &'static str {
        "fused-swiglu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        let (x, half) = (floats(x, layout)?, width / 2);
        let mut out = vec![0f32; rows * half];
        out.par_chunks_mut(half).zip(x.par_chunks(width)).for_each(|(out, x)| swiglu(x, out));
        Ok((CpuStorage::F32(out), Shape::from((rows, half))))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (_, width) = x.dims2()?;
        let dx = read2(x, dy, |x, dy| {
            let mut dx = vec![0f32; x.len()];
            dx.par_chunks_mut(width)
                .zip(x.par_chunks(width))
                .zip(dy.par_chunks(width / 2))
                .for_each(|((dx, x), dy)| swiglu_backward(x, dy, dx));
            dx
        })?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
