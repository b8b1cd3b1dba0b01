//! The model against itself: kernels, pooling, gradients, causality. Against GPT-2: `tests/gpt2.rs`.

use candle_core::{Device, Tensor};

use super::*;

fn config(positions: Positions) -> GptConfig {
    GptConfig { vocabulary: 23, context: 12, width: 16, heads: 2, positions, ..GptConfig::default() }
}

pub(super) fn batch() -> Batch {
    Batch::new([&[1u32, 5, 9, 22][..], &[3][..], &[4, 4, 8, 0, 2, 1, 7][..]]).unwrap()
}

pub(super) fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

pub(super) fn assert_close(a: &Tensor, b: &Tensor, tolerance: f32) {
    for (a, b) in numbers(a).iter().zip(numbers(b)) {
        assert!((a - b).abs() <= tolerance, "{a} {b}");
    }
}

#[test]
fn every_parameter_of_a_gpt_gets_a_gradient_with_either_kernels() {
    for kernels in [Kernels::Reference, Kernels::Fused] {
        let gpt = Gpt::with_kernels(config(Positions::Learned), 1, &Device::Cpu, kernels).unwrap();
        let gradients = gpt.loss(&batch(), &mut Noise::off()).unwrap().backward().unwrap();
        for (name, var) in gpt.parameters().entries() {
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("`{name}` has no gradient"));
            assert!(numbers(gradient).iter().any(|g| *g != 0.0), "`{name}` has a zero gradient");
        }
    }
}

#[test]
fn fused_and_reference_models_have_the_same_loss_and_gradients() {
    let model = |kernels| Gpt::with_kernels(config(Positions::None), 2, &Device::Cpu, kernels).unwrap();
    let (reference, fused) = (model(Kernels::Reference), model(Kernels::Fused));
    let losses = [&reference, &fused].map(|gpt| gpt.loss(&batch(), &mut Noise::off()).unwrap());
    assert_close(&losses[0], &losses[1], 1e-5);
    let gradients = losses.map(|loss| loss.backward().unwrap());
    let pairs = reference.parameters().entries().iter().zip(fused.parameters().entries());
    for ((_, slow), (_, fast)) in pairs {
        assert_close(gradients[0].get(slow).unwrap(), gradients[1].get(fast).unwrap(), 1e-5);
    }
}

#[test]
fn the_pooled_state_is_the_hidden_state_of_each_last_token() {
    let gpt = Gpt::new(config(Positions::None), 3, &Device::Cpu).unwrap();
    let hidden = gpt.hidden(&batch(), &mut Noise::off()).unwrap();
    let last = hidden.index_select(&batch().last_rows(1, &Device::Cpu).unwrap(), 0).unwrap();
    assert_close(&gpt.pooled(&batch(), &mut Noise::off()).unwrap(), &last, 1e-6);
}

#[test]
fn a_token_is_not_changed_by_its_future_or_by_the_other_sequences() {
    let gpt = Gpt::new(config(Positions::Learned), 4, &Device::Cpu).unwrap();
    let together = gpt.hidden(&batch(), &mut Noise::off()).unwrap();
    let alone = gpt.hidden(&Batch::new([&[4u32, 4, 8][..]]).unwrap(), &mut Noise::off()).unwrap();
    assert_close(&together.narrow(0, 5, 3).unwrap(), &alone, 1e-6);
}

#[test]
fn a_sequence_longer_than_the_context_is_refused() {
    let gpt = Gpt::new(config(Positions::None), 4, &Device::Cpu).unwrap();
    let long = Batch::new([&[1u32; 13][..]]).unwrap();
    let refusal = gpt.hidden(&long, &mut Noise::off()).unwrap_err();
    assert!(refusal.to_string().contains("13 tokens exceed the context of 12"), "{refusal}");
}

#[test]
fn a_saved_gpt_loads_with_the_same_weights_and_an_unknown_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let gpt = Gpt::new(config(Positions::None), 5, &Device::Cpu).unwrap();
    gpt.save(directory.path()).unwrap();
    let loaded = Gpt::load(directory.path(), &Device::Cpu).unwrap();
    assert_eq!(loaded.config(), gpt.config());
    for ((_, a), (_, b)) in gpt.parameters().entries().iter().zip(loaded.parameters().entries()) {
        assert_eq!(numbers(a), numbers(b));
    }
    let path = directory.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"foretime_format\": 1", "\"foretime_format\": 9")).unwrap();
    assert!(matches!(Gpt::load(directory.path(), &Device::Cpu), Err(Error::Format { found: 9, .. })));
}

/// Six sequences of 512 tokens: several parts of a batch, which are learned from beside each other.
fn long_batch() -> Batch {
    let ids: Vec<Vec<u32>> = (0..6).map(|s| (0..512u32).map(|i| (i * i + 7 * s) % 23).collect()).collect();
    Batch::new(ids.iter().map(Vec::as_slice)).unwrap()
}

fn long_model(kernels: Kernels, dropout: f64) -> Gpt {
    let config = GptConfig { context: 512, dropout, ..config(Positions::Learned) };
    Gpt::with_kernels(config, 6, &Device::Cpu, kernels).unwrap()
}

#[test]
fn gradients_do_not_depend_on_the_number_of_threads() {
    let gpt = long_model(Kernels::Fused, 0.1);
    let learned = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut noise = Noise::of_step(3, 1);
        pool.install(|| gpt.gradients(&long_batch(), &mut noise, 1.0, false).unwrap())
    };
    let (one, three) = (learned(1), learned(3));
    assert_eq!(one.0.to_bits(), three.0.to_bits());
    for (name, var) in gpt.parameters().entries() {
        assert_eq!(numbers(one.1.get(var).unwrap()), numbers(three.1.get(var).unwrap()), "`{name}`");
    }
}
