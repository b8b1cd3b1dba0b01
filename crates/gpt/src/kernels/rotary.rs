//! Rotary positions: each pair of a head's numbers turned by an angle that grows with the token's place.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::host::{floats, read};

/// The base of the frequencies.
const BASE: f64 = 10_000.0;

/// x `[tokens, heads·e]`, head by head: with i < e/2 and the angle a = place·10000^(−2i/e), the pair
/// (x_i, x_{i + e/2}) becomes (x_i·cos a − x_{i + e/2}·sin a, x_i·sin a + x_{i + e/2}·cos a).
///
/// # Source
/// Su et al. (2021), "RoFormer"; the pairing of halves is that of Llama in `transformers`.
pub(crate) struct Rotary {
    pub(crate) turns: Arc<Turns>,
}

/// The cosines and sines of a batch's tokens, `[tokens, e / 2]` each.
#[derive(Debug)]
pub(crate) struct Turns {
    half: usize,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Turns {
    /// The turns of tokens at these places, for heads of this width.
    pub(crate) fn new(places: impl Iterator<Item = usize>, head: usize) -> Self {
        let half = head / 2;
        let frequencies: Vec<f64> = (0..half).map(|i| BASE.powf(-2.0 * i as f64 / head as f64)).collect();
        let angles = places.flat_map(|place| frequencies.iter().map(move |f| place as f64 * f));
        let (sines, cosines) = angles.map(|angle| (angle.sin() as f32, angle.cos() as f32)).unzip();
        Self { half, cosines, sines }
    }

    /// cos and sin as tensors `[tokens, 1, e / 2]`.
    pub(crate) fn tensors(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let shape = (self.cosines.len() / self.half, 1, self.half);
        let tensor = |values: &Vec<f32>| Tensor::from_slice(values, shape, x.device());
        Ok((tensor(&self.cosines)?, tensor(&self.sines)?))
    }

    /// Turns the heads of one token, forward (`sign` 1) or back (−1).
    pub(crate) fn turn(&self, token: usize, heads: &mut [f32], sign: f32) {
        let half = self.half;
        let at = token * half..(token + 1) * half;
        let (cosines, sines) = (&self.cosines[at.clone()], &self.sines[at]);
        for head in heads.chunks_exact_mut(2 * half) {
            for i in 0..half {
                let (a, b, cos, sin) = (head[i], head[i + half], cosines[i], sign * sines[i]);
                head[i] = a * cos - b * sin;
                head[i + half] = a * sin + b * cos;
            }
        }
    }

    /// Turns every head of every token.
    fn apply(&self, x: &[f32], width: usize, sign: f32) -> Vec<f32> {
        let mut out = x.to_vec();
        out.par_chunks_mut(width).enumerate().for_each(|(token, heads)| self.turn(token, heads, sign));
        out
    }
}

impl CustomOp1 for Rotary {
    fn name(&self) -> &'static str {
        "fused-rotary"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = layout.shape().dims2()?;
        let out = self.turns.apply(floats(x, layout)?, width, 1.0);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (_, width) = x.dims2()?;
        let dx = read(dy, |dy| self.turns.apply(dy, width, -1.0))?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
