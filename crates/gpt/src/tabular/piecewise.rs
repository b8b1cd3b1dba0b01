//! Piecewise-linear embeddings of numbers: each number becomes how far it has come through each of its quantile bins.

use candle_core::Tensor;

use crate::layers::Parameters;
use crate::{Error, quantiles};

/// e(x) = v·x + b + Σₜ wₜ·clip((x − cₜ)/(cₜ₊₁ − cₜ), 0, 1) of every number, with v, b and w of its own.
///
/// Numbers come as normal scores, so the cuts c of T bins of equal mass are Φ⁻¹(t/T) for every column. The weights w begin at
/// 0: the embedding begins linear.
///
/// # Source
/// Gorishniy, Rubachev & Babenko (2022), "On embeddings for numerical features in tabular deep learning", §3.2; the linear
/// term is version B of the authors' `rtdl_num_embeddings`.
#[derive(Debug)]
pub struct Piecewise {
    slopes: Tensor,   // [1, 1, bins]: 1/(cₜ₊₁ − cₜ)
    starts: Tensor,   // [1, 1, bins]: −cₜ/(cₜ₊₁ − cₜ)
    weight: Tensor,   // [numbers, bins, e]
    linear: Tensor,   // [numbers, e]
    constant: Tensor, // [numbers, e]
}

impl Piecewise {
    /// Embeddings of `numbers` columns over `bins` bins in `width` numbers each.
    ///
    /// # Errors
    /// [`Error::Recipe`] without a bin.
    pub fn new(
        parameters: &mut Parameters,
        numbers: usize,
        bins: usize,
        width: usize,
    ) -> Result<Self, Error> {
        if bins == 0 {
            return Err(Error::Recipe { reason: "`bins` of the tower is at least 1".into() });
        }
        let weight = parameters.constant("tower.numbers.pieces", (numbers, bins, width), 0.0)?;
        let linear = parameters.uniform("tower.numbers.linear", (numbers, width), 1.0)?;
        let constant = parameters.uniform("tower.numbers.bias", (numbers, width), 1.0)?;
        let cuts = cuts(bins);
        let part = |value: fn(f64, f64) -> f64| -> Result<Tensor, Error> {
            let values: Vec<f32> = cuts.windows(2).map(|cut| value(cut[0], cut[1]) as f32).collect();
            Ok(Tensor::from_vec(values, (1, 1, bins), parameters.device())?)
        };
        let slopes = part(|from, to| 1.0 / (to - from))?;
        let starts = part(|from, to| -from / (to - from))?;
        Ok(Self { slopes, starts, weight, linear, constant })
    }

    /// `[rows, numbers]` → `[rows, numbers · e]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        let x = x.unsqueeze(2)?; // [rows, numbers, 1]
        let share = x.broadcast_mul(&self.slopes)?.broadcast_add(&self.starts)?.clamp(0f32, 1f32)?; // [rows, numbers, bins]
        let by_number = share.transpose(0, 1)?.contiguous()?; // [numbers, rows, bins]
        let pieces = by_number.matmul(&self.weight)?.transpose(0, 1)?; // [rows, numbers, e]
        let linear = x.broadcast_mul(&self.linear)?.broadcast_add(&self.constant)?; // [rows, numbers, e]
        Ok((pieces + linear)?.flatten_from(1)?)
    }
}

/// Where bins of equal mass begin and end, in standard deviations; the outer ones where normal scores end.
fn cuts(bins: usize) -> Vec<f64> {
    let cut = |at: usize| quantiles::normal_score((at as f64 / bins as f64).clamp(0.001, 0.999));
    (0..=bins).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_number_passes_through_the_bins_below_it_and_partly_through_its_own() {
        let mut parameters = Parameters::new(&Device::Cpu, 1);
        let layer = Piecewise::new(&mut parameters, 1, 2, 1).unwrap(); // bins (−3.09, 0] and (0, 3.09]
        let set = |name: &str, values: Vec<f32>| {
            let var = parameters.get(name).unwrap();
            var.set(&Tensor::from_vec(values, var.shape().clone(), &Device::Cpu).unwrap()).unwrap();
        };
        set("tower.numbers.pieces", vec![10.0, 100.0]);
        set("tower.numbers.linear", vec![0.5]);
        set("tower.numbers.bias", vec![1.0]);
        let x = Tensor::new(&[[-3.0902323f32], [0.0], [1.5451162], [9.0]], &Device::Cpu).unwrap();
        let y = layer.forward(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (y, expected) in y.iter().zip([-0.5451162, 11.0, 61.772558, 115.5]) {
            assert!((y - expected).abs() < 1e-3, "{y} {expected}");
        }
    }
}
