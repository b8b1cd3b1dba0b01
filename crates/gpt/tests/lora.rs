//! LoRA as PEFT computes it: the adapter and its logits in `golden/gpt2-tiny-lora` were written by `peft` 0.21.2.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use gpt::layers::Noise;
use gpt::optimizer::{AdamW, AdamWConfig};
use gpt::{Batch, Gpt, LoraConfig, LoraGpt};

fn golden(part: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(part)
}

fn base() -> Gpt {
    Gpt::load(&golden("gpt2-tiny"), &Device::Cpu).unwrap()
}

fn reference() -> HashMap<String, Tensor> {
    candle_core::safetensors::load(golden("gpt2-tiny-lora/ref.safetensors"), &Device::Cpu).unwrap()
}

fn batch() -> Batch {
    let rows = reference()["ids"].to_dtype(DType::I64).unwrap().to_vec2::<i64>().unwrap();
    let rows: Vec<Vec<u32>> =
        rows.into_iter().map(|row| row.into_iter().map(|id| id as u32).collect()).collect();
    Batch::new(rows.iter().map(Vec::as_slice)).unwrap()
}

fn logits(gpt: &Gpt) -> Tensor {
    gpt.logits(&gpt.hidden(&batch(), &mut Noise::off()).unwrap()).unwrap()
}

fn gap(a: &Tensor, b: &Tensor) -> f32 {
    let b = b.reshape(a.shape()).unwrap();
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

fn assert_is(gpt: &Gpt, expected: &str) {
    let gap = gap(&logits(gpt), &reference()[expected]);
    assert!(gap < 1e-5, "`{expected}` differs by {gap}");
}

#[test]
fn an_adapter_from_peft_gives_the_same_logits_beside_the_weights_merged_and_taken_out() {
    assert_is(&base(), "base");
    let mut adapted = LoraGpt::load(base(), &golden("gpt2-tiny-lora")).unwrap();
    let before = logits(adapted.gpt());
    assert_is(adapted.gpt(), "lora");
    adapted.merge().unwrap();
    assert_is(adapted.gpt(), "merged");
    adapted.unmerge().unwrap();
    assert_eq!(gap(&logits(adapted.gpt()), &before), 0.0, "unmerging restores every bit");
    assert_is(&adapted.into_merged().unwrap(), "merged");
}

#[test]
fn an_adapter_written_here_comes_back_and_has_pefts_names_and_shapes() {
    let directory = tempfile::tempdir().unwrap();
    let adapted = LoraGpt::load(base(), &golden("gpt2-tiny-lora")).unwrap();
    adapted.save(directory.path()).unwrap();
    let ours =
        candle_core::safetensors::load(directory.path().join("adapter_model.safetensors"), &Device::Cpu)
            .unwrap();
    let theirs =
        candle_core::safetensors::load(golden("gpt2-tiny-lora/adapter_model.safetensors"), &Device::Cpu)
            .unwrap();
    assert_eq!(ours.len(), theirs.len());
    for (name, tensor) in &theirs {
        assert_eq!(gap(&ours[name], tensor), 0.0, "`{name}` differs");
    }
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(directory.path().join("adapter_config.json")).unwrap())
            .unwrap();
    assert_eq!((&config["peft_type"], &config["r"]), (&"LORA".into(), &4.into()));
    assert_is(LoraGpt::load(base(), directory.path()).unwrap().gpt(), "lora");
}

#[test]
fn only_adapters_get_gradients_and_learning_moves_the_loss_but_not_the_base() {
    let config =
        LoraConfig { rank: 2, targets: vec!["c_attn".into(), "mlp.c_fc".into()], ..LoraConfig::default() };
    let adapted = LoraGpt::new(base(), config, 7).unwrap();
    assert_eq!(adapted.parameters().entries().len(), 3 * 2 * 2, "three layers, two targets, A and B");
    assert_is(adapted.gpt(), "base");
    let loss = || adapted.gpt().loss(&batch(), &mut Noise::off()).unwrap();
    let mut optimizer = AdamW::new(AdamWConfig::default(), adapted.gpt().kernels());
    optimizer.add("", adapted.parameters().entries(), 1.0).unwrap();
    let before = loss().to_scalar::<f32>().unwrap();
    for _ in 0..3 {
        let gradients = loss().backward().unwrap();
        for (name, var) in adapted.gpt().parameters().entries() {
            assert!(gradients.get(var).is_none(), "the frozen `{name}` has a gradient");
        }
        for (name, var) in adapted.parameters().entries() {
            assert!(gradients.get(var).is_some(), "`{name}` has no gradient");
        }
        optimizer.step(&gradients, 1e-2).unwrap();
    }
    assert!(loss().to_scalar::<f32>().unwrap() < before - 0.05);
    for ((name, ours), (_, theirs)) in
        adapted.gpt().parameters().entries().iter().zip(base().parameters().entries())
    {
        assert_eq!(gap(ours, theirs), 0.0, "`{name}` of the base moved");
    }
}

#[test]
fn an_adapter_that_does_not_fit_or_is_no_plain_lora_is_refused_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(golden("gpt2-tiny-lora/adapter_config.json")).unwrap();
    let refusal = |from: &str, to: &str| {
        std::fs::copy(
            golden("gpt2-tiny-lora/adapter_model.safetensors"),
            directory.path().join("adapter_model.safetensors"),
        )
        .unwrap();
        assert!(text.contains(from));
        std::fs::write(directory.path().join("adapter_config.json"), text.replace(from, to)).unwrap();
        LoraGpt::load(base(), directory.path()).unwrap_err().to_string()
    };
    assert!(refusal("\"use_dora\": false", "\"use_dora\": true").contains("use_dora"));
    assert!(refusal("\"bias\": \"none\"", "\"bias\": \"all\"").contains("bias"));
    assert!(refusal("\"r\": 4", "\"r\": 5").contains("rank 5"));
    assert!(refusal("\"r\": 4", "\"r\": 0").contains("rank"));
    assert!(refusal("\"c_fc\"", "\"c_none\"").contains("no layer of the model"));
    assert!(refusal("\"c_fc\"", "\"c_attn\", \"nothing\"").contains("no layer of the model"));
}

#[test]
fn a_dropout_of_the_adapter_is_pefts_read_and_written_and_changes_training_steps_only() {
    let adapter = |dropout: f64| {
        let from = tempfile::tempdir().unwrap();
        let golden = golden("gpt2-tiny-lora");
        std::fs::copy(
            golden.join("adapter_model.safetensors"),
            from.path().join("adapter_model.safetensors"),
        )
        .unwrap();
        let text = std::fs::read_to_string(golden.join("adapter_config.json")).unwrap();
        let text = text.replace("\"lora_dropout\": 0.0", &format!("\"lora_dropout\": {dropout}"));
        std::fs::write(from.path().join("adapter_config.json"), text).unwrap();
        LoraGpt::load(base(), from.path())
    };
    let (none, some) = (adapter(0.0).unwrap(), adapter(0.4).unwrap());
    assert_eq!((none.config().dropout, some.config().dropout), (0.0, 0.4));
    assert_is(some.gpt(), "lora");
    let step = |adapted: &LoraGpt, step: usize| {
        let noise = &mut Noise::of_step(3, step);
        adapted.gpt().loss(&batch(), noise).unwrap().to_scalar::<f32>().unwrap()
    };
    assert_eq!(step(&none, 1), step(&none, 2), "nothing is dropped at 0");
    assert_ne!(step(&some, 1), step(&some, 2));
    assert_eq!(step(&some, 1), step(&some, 1), "a step's mask is its own");
    let directory = tempfile::tempdir().unwrap();
    some.save(directory.path()).unwrap();
    assert_eq!(LoraGpt::load(base(), directory.path()).unwrap().config(), some.config());
    assert!(adapter(1.0).unwrap_err().to_string().contains("dropout"));
}
