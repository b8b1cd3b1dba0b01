//! Files meant to break the loader: clear errors, never a panic and never a huge allocation.

use std::path::{Path, PathBuf};

use candle_core::Device;
use gpt::generator::Generator;
use gpt::{Gpt, Kernels, exchange};

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2-tiny")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(golden().join(name)).unwrap()
}

/// A directory with these files.
fn directory(config: &[u8], weights: &[u8]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.json"), config).unwrap();
    std::fs::write(directory.path().join("model.safetensors"), weights).unwrap();
    directory
}

fn load(directory: &Path) -> Result<Gpt, gpt::Error> {
    Gpt::load(directory, &Device::Cpu)
}

/// Flips, removes or cuts a few bytes among the first `within`.
fn mutated(bytes: &[u8], within: usize, generator: &mut Generator) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + generator.below(3) {
        let at = generator.below(within.min(bytes.len()));
        match generator.below(4) {
            0 => bytes.truncate(at.max(1)),
            1 => drop(bytes.remove(at)),
            _ => bytes[at] = generator.below(256) as u8,
        }
    }
    bytes
}

#[test]
fn mutated_weights_are_errors_or_models_that_compute_but_never_panic() {
    let (config, weights, mut generator) =
        (read("config.json"), read("model.safetensors"), Generator::new(3, 0));
    let header = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    for _ in 0..150 {
        let directory = directory(&config, &mutated(&weights, header, &mut generator));
        if let Ok(gpt) = load(directory.path()) {
            gpt.greedy(&[1, 2, 3], 2).ok();
        }
    }
}

#[test]
fn mutated_configs_are_errors_or_models_that_compute_but_never_panic() {
    let (config, weights, mut generator) =
        (read("config.json"), read("model.safetensors"), Generator::new(4, 0));
    for _ in 0..200 {
        let directory = directory(&mutated(&config, config.len(), &mut generator), &weights);
        if let Ok(gpt) = load(directory.path()) {
            gpt.greedy(&[1, 2, 3], 2).ok();
        }
    }
}

#[test]
fn sizes_that_are_not_those_of_the_weights_are_refused_before_anything_is_made() {
    let (config, weights) = (String::from_utf8(read("config.json")).unwrap(), read("model.safetensors"));
    let refusal = |key: &str, value: &str| {
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        config[key] = serde_json::from_str(value).unwrap();
        let directory = directory(config.to_string().as_bytes(), &weights);
        load(directory.path()).unwrap_err().to_string()
    };
    assert!(refusal("n_layer", "1000000000").contains("1000000000 layers"));
    assert!(refusal("n_layer", "4").contains("transformer.h.3"));
    assert!(refusal("vocab_size", "1000000000000").contains("transformer.wte.weight"));
    assert!(refusal("n_positions", "1000000000000").contains("transformer.wpe.weight"));
    assert!(refusal("n_embd", "128").contains("transformer.wte.weight"));
    assert!(refusal("n_head", "0").contains("at least 1"));
    assert!(refusal("n_head", "3").contains("multiple of its heads"));
    assert!(refusal("n_inner", "100").contains("MLP of 100"));
    assert!(refusal("activation_function", "\"tanh\"").contains("activation `tanh`"));
    assert!(refusal("n_layer", "-1").contains("not valid"));
}

#[test]
fn ids_from_outside_that_are_no_tokens_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let gpt = exchange::model(&golden(), None, Kernels::Fused).unwrap();
    let (ids, out) = (directory.path().join("ids.safetensors"), directory.path().join("out.safetensors"));
    exchange::write_ids(&[1, 2, 256], &ids).unwrap();
    exchange::logits(&gpt, &ids, &out).unwrap();
    let written = candle_core::safetensors::load(&out, &Device::Cpu).unwrap();
    assert_eq!(written["logits"].dims(), [1, 3, 257]);
    exchange::write_ids(&[1, 257], &ids).unwrap();
    assert!(exchange::logits(&gpt, &ids, &out).unwrap_err().to_string().contains("token 257"));
    exchange::write_ids(&[0; 65], &ids).unwrap();
    assert!(exchange::logits(&gpt, &ids, &out).unwrap_err().to_string().contains("context of 64"));
    exchange::write_ids(&[], &ids).unwrap();
    assert!(exchange::logits(&gpt, &ids, &out).is_err());
    let golden = golden().join("model.safetensors");
    assert!(exchange::logits(&gpt, &golden, &out).unwrap_err().to_string().contains("ids"));
}
