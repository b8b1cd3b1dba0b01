//! Softmax cross-entropy without a stored probability matrix: the backward pass computes it again from the logits.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

use super::IGNORED;
use super::host::{ROWS_PER_SUM, floats, read};
use super::simd::{exp_shifted, vectorised};

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
    /// ∂z = (softmax(z) − one-hot(target))·scale.
    fn loss_backward(logits: &[f32], targets: &[u32], vocabulary: usize, scale: f32, dz: &mut [f32]) {
        let rows = logits.chunks_exact(vocabulary).zip(dz.chunks_exact_mut(vocabulary)).zip(targets);
        for ((row, dz), &target) in rows {
            if target != IGNORED {
                dz.copy_from_slice(row);
                let (_, mass) = exp_shifted(dz);
                for value in dz.iter_mut() {
                    *value *= scale / mass;
                }
                dz[target as usize] -= scale;
            }
        }
    }
}

impl CrossEntropy {
    /// The number of targets that count, at least 1.
    pub(crate) fn counted(&self) -> usize {
        self.targets.iter().filter(|&&target| target != IGNORED).count().max(1)
    }
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "fused-cross-entropy"
    }

    fn cpu_fwd(&self, z: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, vocabulary) = layout.shape().dims2()?;
        let parts: Vec<f64> = floats(z, layout)?
            .par_chunks(ROWS_PER_SUM * vocabulary)
            .zip(self.targets.par_chunks(ROWS_PER_SUM))
            .map(|(z, targets)| loss(z, targets, &mut vec![0f32; vocabulary]))
            .collect();
        let mean = parts.iter().sum::<f64>() / self.counted() as f64;
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    fn bwd(&self, z: &Tensor, _loss: &Tensor, dloss: &Tensor) -> Result<Option<Tensor>> {
        let (_, vocabulary) = z.dims2()?;
        let scale = dloss.to_scalar::<f32>()? / self.counted() as f32;
        let dz = read(z, |z| {
            let mut dz = vec![0f32; z.len()];
            let task = ROWS_PER_SUM * vocabulary;
            dz.par_chunks_mut(task)
                .zip(z.par_chunks(task))
                .zip(self.targets.par_chunks(ROWS_PER_SUM))
                .for_each(|((dz, z), targets)| loss_backward(z, targets, vocabulary, scale, dz));
            dz
        })?;
        Ok(Some(Tensor::from_vec(dz, z.shape(), z.device())?))
    }
}
