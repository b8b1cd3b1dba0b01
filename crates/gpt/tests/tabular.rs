//! Periodic embeddings as `rtdl_num_embeddings` computes them, and cross layers as PyTorch does.
//! `golden/plr_dcn_ref.safetensors` holds inputs, weights and outputs; PyTorch stores a linear layer out × in.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use gpt::Kernels;
use gpt::layers::Parameters;
use gpt::tabular::{Cross, Piecewise};

fn golden() -> HashMap<String, Tensor> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plr_dcn_ref.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn gap(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

#[test]
fn periodic_embeddings_are_those_of_rtdl() {
    let golden = golden();
    let expected = golden["plr"].flatten_from(1).unwrap();
    for kernels in [Kernels::Reference, Kernels::Fused] {
        let (frequencies, weight) = (&golden["plr.periodic.weight"], &golden["plr.linear.weight"]);
        let ours = kernels.periodic(&golden["x"], frequencies, weight, &golden["plr.linear.bias"]).unwrap();
        assert!(gap(&ours, &expected) < 1e-5, "{kernels:?}: {}", gap(&ours, &expected));
    }
}

/// Cross layers with the weights of PyTorch, transposed.
fn cross(golden: &HashMap<String, Tensor>, rank: usize, kernels: Kernels) -> Tensor {
    let input = &golden["cross_in"];
    let mut parameters = Parameters::new(&Device::Cpu, 0);
    let cross = Cross::new(&mut parameters, "cross", input.dim(1).unwrap(), 3, rank, kernels).unwrap();
    let theirs = |name: &str| golden[name].t().unwrap().contiguous().unwrap();
    let mut weights = HashMap::new();
    for layer in 0..3 {
        let (prefix, out) = if rank == 0 { ("cross", "W") } else { ("crosslr", "U") };
        let name = format!("{prefix}.{out}.{layer}");
        weights.insert(format!("cross.{layer}.weight"), theirs(&format!("{name}.weight")));
        weights.insert(format!("cross.{layer}.bias"), golden[&format!("{name}.bias")].clone());
        if rank > 0 {
            weights.insert(format!("cross.{layer}.into"), theirs(&format!("{prefix}.V.{layer}.weight")));
        }
    }
    parameters.load(&weights).unwrap();
    cross.forward(input).unwrap()
}

#[test]
fn cross_layers_of_full_and_of_low_rank_are_those_of_dcn_v2() {
    let golden = golden();
    for kernels in [Kernels::Reference, Kernels::Fused] {
        assert!(gap(&cross(&golden, 0, kernels), &golden["cross"]) < 1e-5);
        assert!(gap(&cross(&golden, 8, kernels), &golden["cross_lr"]) < 1e-5);
    }
}

#[test]
fn piecewise_embeddings_begin_as_those_of_rtdl() {
    let golden = golden(); // of version B, whose pieces begin at 0
    let mut parameters = Parameters::new(&Device::Cpu, 0);
    let layer = Piecewise::new(&mut parameters, 5, 4, 8).unwrap();
    let named = [
        ("tower.numbers.pieces", "ple.linear.weight"),
        ("tower.numbers.linear", "ple.linear0.weight"),
        ("tower.numbers.bias", "ple.linear0.bias"),
    ];
    parameters.load(&named.map(|(ours, theirs)| (ours.to_owned(), golden[theirs].clone())).into()).unwrap();
    let ours = layer.forward(&golden["x"]).unwrap();
    assert!(gap(&ours, &golden["ple"].flatten_from(1).unwrap()) < 1e-5);
}
