//! GPT-2 as Hugging Face's `transformers` computes it, on a tiny model with random weights: same logits, same gradients,
//! same greedy tokens. `golden/gpt2-tiny` was written by `transformers` 5.23.0 with PyTorch 2.15.0.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use gpt::layers::Noise;
use gpt::{Batch, Gpt, Kernels};

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2-tiny")
}

fn reference() -> HashMap<String, Tensor> {
    candle_core::safetensors::load(golden().join("ref.safetensors"), &Device::Cpu).unwrap()
}

fn ids(reference: &HashMap<String, Tensor>) -> Vec<Vec<u32>> {
    reference["ids"]
        .to_dtype(DType::I64)
        .unwrap()
        .to_vec2::<i64>()
        .unwrap()
        .into_iter()
        .map(|row| row.into_iter().map(|id| id as u32).collect())
        .collect()
}

fn largest(tensor: &Tensor) -> f32 {
    tensor.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

#[test]
fn a_gpt2_from_hugging_face_gives_the_same_logits_and_the_same_greedy_tokens() {
    let gpt = Gpt::load(&golden(), &Device::Cpu).unwrap();
    assert_eq!(gpt.kernels(), Kernels::Fused);
    let reference = reference();
    let batch = Batch::new(ids(&reference).iter().map(Vec::as_slice)).unwrap();
    let logits = gpt.logits(&gpt.hidden(&batch, &mut Noise::off()).unwrap()).unwrap();
    let expected = reference["logits"].flatten_to(1).unwrap();
    let gap = largest(&(logits - expected).unwrap());
    assert!(gap < 1e-4, "logits differ by {gap}");

    let stored: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden().join("ref.json")).unwrap()).unwrap();
    let expected: Vec<u32> = serde_json::from_value(stored["greedy"].clone()).unwrap();
    assert_eq!(gpt.greedy(&expected[..8], expected.len() - 8).unwrap(), expected);
}

#[test]
fn a_gpt2_from_hugging_face_gets_the_same_loss_and_the_same_gradients_with_either_kernels() {
    let (reference, loaded) = (reference(), Gpt::load(&golden(), &Device::Cpu).unwrap());
    let weights: HashMap<String, Tensor> = loaded.parameters().snapshot().unwrap().into_iter().collect();
    let batch = Batch::new(ids(&reference).iter().map(Vec::as_slice)).unwrap();
    for kernels in [Kernels::Reference, Kernels::Fused] {
        let gpt = Gpt::with_kernels(loaded.config().clone(), 0, &Device::Cpu, kernels).unwrap();
        gpt.parameters().load(&weights).unwrap();
        let loss = gpt.loss(&batch, &mut Noise::off()).unwrap();
        let expected = reference["loss"].to_vec1::<f32>().unwrap()[0];
        assert!((loss.to_scalar::<f32>().unwrap() - expected).abs() < 1e-4);
        let gradients = loss.backward().unwrap();
        for (name, var) in gpt.parameters().entries() {
            let (ours, theirs) = (gradients.get(var).unwrap(), &reference[&format!("grad.{name}")]);
            let relative = largest(&(ours - theirs).unwrap()) / largest(theirs);
            assert!(relative < 1e-4, "the gradient of `{name}` differs by {relative}");
        }
    }
}

#[test]
fn a_gpt2_written_here_has_hugging_faces_names_and_loads_with_or_without_the_prefix_of_a_language_model() {
    let (directory, gpt) = (tempfile::tempdir().unwrap(), Gpt::load(&golden(), &Device::Cpu).unwrap());
    gpt.save(directory.path()).unwrap();
    let path = directory.path().join("model.safetensors");
    let theirs = candle_core::safetensors::load(golden().join("model.safetensors"), &Device::Cpu).unwrap();
    let ours = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    assert_eq!(ours.len(), theirs.len());
    let mut bare = HashMap::new();
    for (name, tensor) in &theirs {
        assert_eq!(largest(&(&ours[name] - tensor).unwrap()), 0.0, "`{name}` differs");
        bare.insert(name.strip_prefix("transformer.").unwrap().to_owned(), tensor.clone());
    }
    candle_core::safetensors::save(&bare, &path).unwrap();
    let loaded = Gpt::load(directory.path(), &Device::Cpu).unwrap();
    assert_eq!(loaded.greedy(&[1, 2, 3], 5).unwrap(), gpt.greedy(&[1, 2, 3], 5).unwrap());
}
