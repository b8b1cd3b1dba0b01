//! Softmax cross-entropy without a stored probability matrix: the backward pass computes it again from the logits.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

use super::IGNORED;
use super::host::{floats, read, read2};
use super::product::{Precision, Start, View, accumulate, multiply_once};
use super::simd::{exp_shifted, vectorised};

/// Rows that one task sums: fixed, so that sums do not depend on the thread count.
const ROWS_PER_TASK: usize = 16;

/// Logits `[rows, vocabulary]` → the mean of log Σⱼ e^(zⱼ) − z_target over the rows whose target counts.
pub(crate) struct CrossEntropy {
    pub(crate) targets: Arc<[u32]>,
}

vectorised! {
    /// The summed loss of a run of rows; `scratch` is one row long.
    fn loss(logits: &[f32], targets: &[u32], scratch: &mut [f32]) -> f64 {
        let mut total = 0f64;
        for (row, &target) in logits.chunks_exact(scratch.len()).zip(targets) {
            if target != IGNORED {
                scratch.copy_from_slice(row);
                let (top, mass) = exp_shifted(scratch);
                total += f64::from(top + mass.ln() - row[target as usize]);
            }
        }
        total
    }
}

vectorised! {
    /// Turns logits z into ∂z = (softmax(z) − one-hot(target))·scale, 0 where the target does not count; returns the
    /// summed loss.
    fn slopes(z: &mut [f32], targets: &[u32], vocabulary: usize, scale: f32) -> f64 {
        let mut total = 0f64;
        for (row, &target) in z.chunks_exact_mut(vocabulary).zip(targets) {
            if target == IGNORED {
                row.fill(0.0);
                continue;
            }
            let score = row[target as usize];
            let (top, mass) = exp_shifted(row);
            total += f64::from(top + mass.ln() - score);
            let share = scale / mass;
            for value in row.iter_mut() {
                *value *= share;
            }
            row[target as usize] -= scale;
        }
        total
    }
}

vectorised! {
    /// The loss of one row, whose logits are lost; 0 if its target does not count.
    fn row_loss(z: &mut [f32], target: u32) -> f32 {
        if target == IGNORED {
            return 0.0;
        }
        let score = z[target as usize];
        let (top, mass) = exp_shifted(z);
        top + mass.ln() - score
    }
}

/// The number of targets that count, at least 1.
fn counted(targets: &[u32]) -> usize {
    targets.iter().filter(|&&target| target != IGNORED).count().max(1)
}

/// The summed loss of rows of logits, in a fixed order.
fn summed(logits: &[f32], targets: &[u32], vocabulary: usize) -> f64 {
    let parts: Vec<f64> = logits
        .par_chunks(ROWS_PER_TASK * vocabulary)
        .zip(targets.par_chunks(ROWS_PER_TASK))
        .map(|(z, targets)| loss(z, targets, &mut vec![0f32; vocabulary]))
        .collect();
    parts.iter().sum()
}

/// See [`slopes`]; the sum is taken in a fixed order.
fn turn_into_slopes(logits: &mut [f32], targets: &[u32], vocabulary: usize, scale: f32) -> f64 {
    let parts: Vec<f64> = logits
        .par_chunks_mut(ROWS_PER_TASK * vocabulary)
        .zip(targets.par_chunks(ROWS_PER_TASK))
        .map(|(z, targets)| slopes(z, targets, vocabulary, scale))
        .collect();
    parts.iter().sum()
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "fused-cross-entropy"
    }

    fn cpu_fwd(&self, z: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, vocabulary) = layout.shape().dims2()?;
        let mean = summed(floats(z, layout)?, &self.targets, vocabulary) / counted(&self.targets) as f64;
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    fn bwd(&self, z: &Tensor, _loss: &Tensor, dloss: &Tensor) -> Result<Option<Tensor>> {
        let (_, vocabulary) = z.dims2()?;
        let scale = dloss.to_scalar::<f32>()? / counted(&self.targets) as f32;
        let mut dz = read(z, <[f32]>::to_vec)?;
        turn_into_slopes(&mut dz, &self.targets, vocabulary, scale);
        Ok(Some(Tensor::from_vec(dz, z.shape(), z.device())?))
    }
}

/// Hidden states `[rows, d]` and the matrix that scores tokens, `[vocabulary, d]` → the mean cross-entropy of h·Eᵀ.
///
/// A few rows of logits exist at a time, in both directions: never rows × vocabulary numbers.
pub(crate) struct HeadLoss {
    pub(crate) targets: Arc<[u32]>,
    pub(crate) precision: Precision,
}

/// At most so many logits at a time: 104 MiB.
const LOGITS: usize = 26 << 20;

/// Rows of logits at a time.
fn rows_at_once(vocabulary: usize) -> usize {
    (LOGITS / vocabulary / ROWS_PER_TASK * ROWS_PER_TASK).max(ROWS_PER_TASK)
}

/// The sizes of a head: tokens, and numbers per hidden state.
#[derive(Clone, Copy)]
struct Sizes {
    vocabulary: usize,
    width: usize,
}

impl HeadLoss {
    /// Calls `f` with (rows before, hidden states, their logits, their targets), a few rows at a time.
    fn each(
        &self,
        hidden: &[f32],
        scorer: &[f32],
        sizes: Sizes,
        mut f: impl FnMut(usize, &[f32], &mut [f32], &[u32]),
    ) {
        let Sizes { vocabulary, width } = sizes;
        let scorer = View::new(scorer, vocabulary, width).transposed();
        let rows = rows_at_once(vocabulary);
        let mut logits = vec![0f32; rows.min(self.targets.len()) * vocabulary];
        let parts = hidden.chunks(rows * width).zip(self.targets.chunks(rows)).enumerate();
        for (part, (hidden, targets)) in parts {
            let logits = &mut logits[..targets.len() * vocabulary];
            let factors = (View::new(hidden, targets.len(), width), scorer);
            multiply_once(factors, self.precision, logits, Start::Zero, |_, _| {});
            f(part * rows, hidden, logits, targets);
        }
    }

    /// −ln p(target) of each row, 0 where the target does not count.
    pub(crate) fn row_losses(&self, hidden: &[f32], scorer: &[f32]) -> Vec<f32> {
        let width = hidden.len() / self.targets.len();
        let (vocabulary, mut losses) = (scorer.len() / width, vec![0f32; self.targets.len()]);
        self.each(hidden, scorer, Sizes { vocabulary, width }, |before, _, logits, targets| {
            losses[before..before + targets.len()]
                .par_iter_mut()
                .zip(logits.par_chunks_mut(vocabulary))
                .zip(targets.par_iter())
                .for_each(|((out, z), target)| *out = row_loss(z, *target));
        });
        losses
    }

    /// The loss, and the gradients of `share` times it: writes ∂hidden and adds to ∂scorer, or makes it of nothing.
    pub(crate) fn learn(
        &self,
        (hidden, scorer): (&[f32], &[f32]),
        share: f32,
        dhidden: &mut [f32],
        dscorer: &mut Vec<f32>,
    ) -> f64 {
        let width = hidden.len() / self.targets.len();
        let vocabulary = scorer.len() / width;
        let (count, mut total) = (counted(&self.targets), 0f64);
        let scorer_rows = View::new(scorer, vocabulary, width);
        self.each(hidden, scorer, Sizes { vocabulary, width }, |before, hidden, logits, targets| {
            total += turn_into_slopes(logits, targets, vocabulary, share / count as f32);
            let (dz, rows) = (View::new(logits, targets.len(), vocabulary), targets.len());
            let out = &mut dhidden[before * width..(before + rows) * width];
            multiply_once((dz, scorer_rows), self.precision, out, Start::Zero, |_, _| {});
            let hidden = View::new(hidden, rows, width);
            accumulate((dz.transposed(), hidden), self.precision, dscorer);
        });
        total / count as f64
    }
}

impl CustomOp2 for HeadLoss {
    fn name(&self) -> &'static str {
        "fused-head-loss"
    }

    fn cpu_fwd(
        &self,
        hidden: &CpuStorage,
        hidden_layout: &Layout,
        scorer: &CpuStorage,
        scorer_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (vocabulary, width) = scorer_layout.shape().dims2()?;
        let (hidden, scorer) = (floats(hidden, hidden_layout)?, floats(scorer, scorer_layout)?);
        let mut total = 0f64;
        self.each(hidden, scorer, Sizes { vocabulary, width }, |_, _, logits, targets| {
            total += summed(logits, targets, vocabulary);
        });
        let mean = total / counted(&self.targets) as f64;
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        scorer: &Tensor,
        _loss: &Tensor,
        dloss: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let share = dloss.to_scalar::<f32>()?;
        let mut dscorer = Vec::new();
        let mut dhidden = vec![0f32; hidden.elem_count()];
        read2(hidden, scorer, |h, e| self.learn((h, e), share, &mut dhidden, &mut dscorer))?;
        let dhidden = Tensor::from_vec(dhidden, hidden.shape(), hidden.device())?;
        let dscorer = Tensor::from_vec(dscorer, scorer.shape(), scorer.device())?;
        Ok((Some(dhidden), scorer.track_op().then_some(dscorer)))
    }
}
