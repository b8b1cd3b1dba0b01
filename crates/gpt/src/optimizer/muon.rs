//! Muon: the momentum of a matrix, made nearly orthogonal, is the direction it moves in.

use candle_core::Tensor;

use super::Slot;
use crate::Error;

/// The memory of the momentum.
const MOMENTUM: f64 = 0.95;

/// Iterations that make a matrix nearly orthogonal.
const ITERATIONS: usize = 5;

/// m ← μm + g, u = g + μm, θ ← θ·(1 − ηλ) − η·0.2·√max(rows, columns)·orthogonal(u): the factor gives steps the size
/// that AdamW's have, so that both share a learning rate.
///
/// # Source
/// Jordan et al. (2024), "Muon: an optimizer for hidden layers in neural networks"; the factor from Liu et al. (2025),
/// "Muon is scalable for LLM training".
pub(super) fn step(slot: &Slot, gradient: &Tensor, rate: f64, shrink: f64, decay: f64) -> Result<(), Error> {
    let gradient = (gradient * shrink)?;
    let momentum = ((slot.first.as_tensor() * MOMENTUM)? + &gradient)?.detach();
    let ahead = (gradient + (&momentum * MOMENTUM)?)?;
    let (rows, columns) = ahead.dims2()?;
    let factor = rate * 0.2 * (rows.max(columns) as f64).sqrt();
    let kept = (slot.var.as_tensor() * (1.0 - rate * decay))?;
    slot.var.set(&(kept - (orthogonal(&ahead.detach())? * factor)?)?)?;
    Ok(slot.first.set(&momentum)?)
}

/// U·Vᵀ of the matrix U·S·Vᵀ, about: singular values end between 0.7 and 1.2. X ← aX + (bA + cA²)X with A = XXᵀ.
fn orthogonal(matrix: &Tensor) -> Result<Tensor, Error> {
    const A: f64 = 3.4445;
    const B: f64 = -4.7750;
    const C: f64 = 2.0315;
    let (rows, columns) = matrix.dims2()?;
    let wide = if rows > columns { matrix.t()?.contiguous()? } else { matrix.contiguous()? };
    let norm = f64::from(wide.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt();
    let mut x = (wide / (norm + 1e-7))?;
    for _ in 0..ITERATIONS {
        let a = x.matmul(&x.t()?)?;
        let polynomial = ((&a * B)? + (a.matmul(&a)? * C)?)?;
        x = ((&x * A)? + polynomial.matmul(&x)?)?;
    }
    if rows > columns { Ok(x.t()?.contiguous()?) } else { Ok(x) }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::Kernels;
    use crate::generator::Generator;
    use crate::optimizer::{AdamW, AdamWConfig};

    fn random(rows: usize, columns: usize) -> Tensor {
        let mut generator = Generator::new(2, 0);
        let values: Vec<f32> = (0..rows * columns).map(|_| generator.normal() as f32).collect();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_matrix_becomes_nearly_orthogonal_whichever_side_is_longer() {
        for (rows, columns) in [(6, 20), (20, 6)] {
            let x = orthogonal(&random(rows, columns)).unwrap();
            let gram = if rows < columns { x.matmul(&x.t().unwrap()) } else { x.t().unwrap().matmul(&x) };
            for (i, row) in gram.unwrap().to_vec2::<f32>().unwrap().iter().enumerate() {
                assert!((0.3..1.6).contains(&row[i]), "{row:?}");
                assert!(row.iter().enumerate().all(|(j, value)| i == j || value.abs() < 0.45), "{row:?}");
            }
        }
    }

    #[test]
    fn muon_moves_only_the_matrices_of_blocks_and_its_state_comes_back() {
        let var = |tensor: Tensor| Var::from_tensor(&tensor).unwrap();
        let named = vec![
            ("transformer.h.0.mlp.c_fc.weight".to_owned(), var(random(4, 6))),
            ("transformer.wte.weight".to_owned(), var(random(5, 6))),
        ];
        let mut optimizer = AdamW::new(AdamWConfig::default(), Kernels::Fused);
        optimizer.add_with_muon("", &named, 1.0).unwrap();
        let loss = || {
            let squares = named.iter().map(|(_, var)| var.sqr().unwrap().sum_all().unwrap());
            squares.reduce(|a, b| (a + b).unwrap()).unwrap()
        };
        let before = loss().to_scalar::<f32>().unwrap();
        for _ in 0..5 {
            optimizer.step(&loss().backward().unwrap(), 0.05).unwrap();
        }
        assert!(loss().to_scalar::<f32>().unwrap() < before);
        let state = optimizer.state();
        let names: Vec<&str> = state.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "transformer.h.0.mlp.c_fc.weight.first",
                "transformer.wte.weight.first",
                "transformer.wte.weight.second"
            ]
        );
        optimizer.restore(&state.into_iter().collect(), 5).unwrap();
        assert_eq!(optimizer.steps(), 5);
    }
}
