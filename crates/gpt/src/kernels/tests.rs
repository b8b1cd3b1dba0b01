//! Fused kernels against the reference, and both against finite differences.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor, Var};

use super::{IGNORED, Kernels};
use crate::generator::Generator;

fn random(shape: &[usize], seed: u64) -> Var {
    let mut generator = Generator::new(seed, 0);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| generator.normal() as f32).collect();
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
}

/// A scalar that depends on every output differently.
fn weighted_sum(y: &Tensor) -> Tensor {
    let weights = random(y.dims(), 99);
    y.mul(weights.as_tensor()).unwrap().sum_all().unwrap()
}

fn worst(a: &Tensor, b: &Tensor) -> f32 {
    let size = a.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    let gap = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    gap.to_scalar::<f32>().unwrap() / (size + 1e-6)
}

/// Values and gradients agree between the two implementations, and gradients with central differences.
fn agrees(vars: &[Var], operation: impl Fn(Kernels, &[Tensor]) -> Result<Tensor>) {
    agrees_with_reference(vars, &operation);
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let value = || weighted_sum(&operation(Kernels::Fused, &tensors).unwrap());
    let gradients = value().backward().unwrap();
    for var in vars {
        differences_agree(var, gradients.get(var).unwrap(), || value().to_scalar::<f32>().unwrap());
    }
}

fn agrees_with_reference(vars: &[Var], operation: impl Fn(Kernels, &[Tensor]) -> Result<Tensor>) {
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let run = |kernels| weighted_sum(&operation(kernels, &tensors).unwrap());
    let (reference, fused) = (run(Kernels::Reference), run(Kernels::Fused));
    assert!(worst(&reference, &fused) < 1e-4, "{reference} {fused}");
    let (slow, fast) = (reference.backward().unwrap(), fused.backward().unwrap());
    for var in vars {
        let (slow, fast) = (slow.get(var).unwrap(), fast.get(var).unwrap());
        assert!(worst(slow, fast) < 2e-5, "gradients differ by {}", worst(slow, fast));
    }
}

fn differences_agree(var: &Var, gradient: &Tensor, value: impl Fn() -> f32) {
    let original = var.as_tensor().copy().unwrap();
    let flat = original.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let gradient = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let step = 1e-2f32;
    for at in (0..flat.len()).step_by(flat.len() / 7 + 1) {
        let shifted = |by: f32| {
            let mut moved = flat.clone();
            moved[at] += by;
            var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
            value()
        };
        let slope = (shifted(step) - shifted(-step)) / (2.0 * step);
        let size = gradient.iter().fold(1.0f32, |size, g| size.max(g.abs()));
        assert!((slope - gradient[at]).abs() < 2e-2 * size, "{slope} against {}", gradient[at]);
    }
    var.set(&original).unwrap();
}

#[test]
fn linear_agrees_with_its_reference_and_with_finite_differences() {
    agrees(&[random(&[37, 12], 1), random(&[12, 20], 2), random(&[20], 3)], |kernels, t| {
        kernels.linear(&t[0], &t[1], &t[2])
    });
}

#[test]
fn layer_norm_agrees_with_its_reference_and_with_finite_differences() {
    agrees(&[random(&[300, 24], 1), random(&[24], 2), random(&[24], 3)], |kernels, t| {
        kernels.layer_norm(&t[0], &t[1], &t[2])
    });
}

#[test]
fn gelu_agrees_with_its_reference_and_with_finite_differences() {
    agrees(&[random(&[31, 9], 1)], |kernels, t| kernels.gelu(&t[0]));
}

#[test]
fn attention_over_sequences_of_unequal_length_agrees_with_its_reference_and_with_finite_differences() {
    let offsets: Arc<[usize]> = [0, 1, 8, 20, 53].into();
    for (head, heads) in [(8, 3), (16, 2), (32, 1), (6, 2), (65, 1)] {
        agrees(&[random(&[53, 3 * head * heads], 4)], |kernels, t| {
            kernels.causal_attention(&t[0], heads, &offsets)
        });
    }
    let longer_than_a_block: Arc<[usize]> = [0, 150, 214, 300].into();
    agrees_with_reference(&[random(&[300, 3 * 32], 5)], |kernels, t| {
        kernels.causal_attention(&t[0], 2, &longer_than_a_block)
    });
}

#[test]
fn cross_entropy_agrees_with_its_reference_and_skips_ignored_targets() {
    let targets: Arc<[u32]> = (0..300).map(|i| if i % 5 == 0 { IGNORED } else { i * 7 % 19 }).collect();
    agrees(&[random(&[300, 19], 5)], |kernels, t| kernels.cross_entropy(&t[0], &targets));
}

#[test]
fn dropout_drops_the_same_elements_in_both_and_keeps_the_mean() {
    let ones = Tensor::ones((100, 400), candle_core::DType::F32, &Device::Cpu).unwrap();
    let fused = Kernels::Fused.dropout(&ones, 0.3, 17).unwrap();
    let reference = Kernels::Reference.dropout(&ones, 0.3, 17).unwrap();
    assert_eq!(fused.to_vec2::<f32>().unwrap(), reference.to_vec2::<f32>().unwrap());
    let mean = fused.mean_all().unwrap().to_scalar::<f32>().unwrap();
    assert!((mean - 1.0).abs() < 0.02, "{mean}");
    agrees(&[random(&[31, 9], 1)], |kernels, t| kernels.dropout(&t[0], 0.5, 3));
}

#[test]
fn periodic_embeddings_agree_with_their_reference_and_with_finite_differences() {
    let x = random(&[67, 5], 6).as_tensor().detach();
    let vars = [random(&[5, 6], 7), random(&[5, 12, 8], 8), random(&[5, 8], 9)];
    agrees_with_reference(&vars, |kernels, t| kernels.periodic(&x, &(&t[0] * 0.1)?, &t[1], &t[2]));
    let above_the_kink =
        |kernels: Kernels, t: &[Tensor]| kernels.periodic(&x, &(&t[0] * 0.1)?, &t[1], &(&t[2] + 30.0)?);
    agrees(&vars, above_the_kink);
}

#[test]
fn rms_norm_agrees_with_its_reference_and_with_finite_differences() {
    agrees(&[random(&[300, 24], 1), random(&[24], 2)], |kernels, t| kernels.rms_norm(&t[0], &t[1]));
}

#[test]
fn swiglu_agrees_with_its_reference_and_with_finite_differences() {
    agrees(&[random(&[31, 18], 1)], |kernels, t| kernels.swiglu(&t[0]));
}

#[test]
fn relu_squared_agrees_with_finite_differences() {
    agrees(&[random(&[31, 9], 1)], |kernels, t| kernels.relu2(&t[0]));
}

#[test]
fn rotary_positions_agree_with_their_reference_and_with_finite_differences() {
    let turns = Arc::new(super::Turns::new([0, 1, 2, 0, 1].into_iter(), 6));
    agrees(&[random(&[5, 18], 1)], |kernels, t| kernels.rotary(&t[0], &turns));
}

#[test]
fn rotary_scores_depend_on_the_distance_of_two_tokens_alone() {
    let row = random(&[1, 8], 3).as_tensor().detach();
    let key = random(&[1, 8], 4).as_tensor().detach();
    let score = |query_place: usize, key_place: usize| {
        let turned = |x: &Tensor, place| {
            let turns = Arc::new(super::Turns::new(std::iter::once(place), 8));
            Kernels::Fused.rotary(x, &turns).unwrap()
        };
        let product = turned(&row, query_place).mul(&turned(&key, key_place)).unwrap();
        product.sum_all().unwrap().to_scalar::<f32>().unwrap()
    };
    assert!((score(7, 4) - score(103, 100)).abs() < 1e-4);
    assert!((score(7, 4) - score(7, 5)).abs() > 1e-3);
}

#[test]
fn the_head_and_its_loss_agree_with_the_reference_over_several_parts_and_with_finite_differences() {
    let targets: Arc<[u32]> = (0..50).map(|i| if i % 5 == 0 { IGNORED } else { i * 7 % 19 }).collect();
    agrees(&[random(&[50, 8], 5), random(&[19, 8], 6)], |kernels, t| {
        kernels.head_loss(&t[0], &t[1], &targets)
    });
    let wide = 300_000; // so wide that 40 rows of logits come in three parts
    let targets: Arc<[u32]> = (0..40).map(|i| i * 7_001).collect();
    agrees_with_reference(&[random(&[40, 4], 7), random(&[wide, 4], 8)], |kernels, t| {
        kernels.head_loss(&t[0], &(&t[1] * 0.3)?, &targets)
    });
}

#[test]
fn attention_with_factors_rounded_to_bf16_stays_within_bf16_of_the_reference() {
    let offsets: Arc<[usize]> = [0, 100, 201].into();
    let qkv = random(&[201, 3 * 64], 1);
    let run = |kernels: Kernels| {
        let y = kernels.causal_attention(qkv.as_tensor(), 2, &offsets).unwrap();
        (weighted_sum(&y).backward().unwrap(), y)
    };
    let ((slow, y), (fast, z)) = (run(Kernels::Reference), run(Kernels::FusedBf16));
    assert!(worst(&y, &z) < 1.2e-2, "{}", worst(&y, &z));
    let gap = worst(slow.get(&qkv).unwrap(), fast.get(&qkv).unwrap());
    assert!(gap < 1.2e-2, "{gap}");
}

#[test]
fn linear_with_factors_rounded_to_bf16_stays_within_bf16_of_the_reference() {
    let vars = [random(&[70, 96], 1), random(&[96, 50], 2), random(&[50], 3)];
    let run = |kernels: Kernels| {
        let y = kernels.linear(vars[0].as_tensor(), vars[1].as_tensor(), vars[2].as_tensor()).unwrap();
        (weighted_sum(&y).backward().unwrap(), y)
    };
    let ((slow, y), (fast, z)) = (run(Kernels::Reference), run(Kernels::FusedBf16));
    assert!(worst(&y, &z) < 1.2e-2, "{}", worst(&y, &z));
    for var in &vars {
        assert!(worst(slow.get(var).unwrap(), fast.get(var).unwrap()) < 1.2e-2);
    }
}
