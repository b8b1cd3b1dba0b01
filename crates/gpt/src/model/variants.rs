//! Tests of every variant of the model: gradients, kernels, decoding, recomputation.

use candle_core::{Device, Tensor};

use super::tests::{assert_close, batch, numbers};
use super::*;
use crate::generator::Generator;

/// Each choice of a part, and some of them together.
fn variants() -> Vec<GptConfig> {
    let base = GptConfig { vocabulary: 23, context: 12, width: 32, heads: 4, ..GptConfig::default() };
    let with = |change: &dyn Fn(&mut GptConfig)| {
        let mut config = base.clone();
        change(&mut config);
        config
    };
    vec![
        base.clone(),
        with(&|c| c.positions = Positions::Learned),
        with(&|c| c.positions = Positions::Rotary),
        with(&|c| c.norm = NormKind::Rms),
        with(&|c| c.activation = Activation::Relu2),
        with(&|c| c.activation = Activation::Swiglu),
        with(&|c| c.qk_norm = true),
        with(&|c| c.key_value_heads = Some(2)),
        with(&|c| c.key_value_heads = Some(1)),
        with(&|c| c.tied = false),
        GptConfig {
            positions: Positions::Rotary,
            norm: NormKind::Rms,
            activation: Activation::Swiglu,
            qk_norm: true,
            key_value_heads: Some(2),
            tied: false,
            ..base.clone()
        },
    ]
}

/// A model with weights large enough that every part matters.
fn lively(config: &GptConfig, kernels: Kernels) -> Gpt {
    let gpt = Gpt::with_kernels(config.clone(), 1, &Device::Cpu, kernels).unwrap();
    let mut generator = Generator::new(3, 0);
    for (_, var) in gpt.parameters().entries() {
        let drawn: Vec<f32> = (0..var.elem_count()).map(|_| generator.normal() as f32 * 0.3).collect();
        var.set(&Tensor::from_vec(drawn, var.shape(), &Device::Cpu).unwrap()).unwrap();
    }
    gpt
}

fn loss(gpt: &Gpt) -> Tensor {
    gpt.loss(&batch(), &mut Noise::off()).unwrap()
}

#[test]
fn every_parameter_of_every_variant_gets_the_same_gradient_from_both_kernels() {
    for config in variants() {
        let models = [Kernels::Reference, Kernels::Fused].map(|kernels| lively(&config, kernels));
        let gradients = [0, 1].map(|at| loss(&models[at]).backward().unwrap());
        let both = models[0].parameters().entries().iter().zip(models[1].parameters().entries());
        for ((name, slow), (_, fast)) in both {
            let slow =
                gradients[0].get(slow).unwrap_or_else(|| panic!("`{name}` of {config:?} has no gradient"));
            let fast =
                gradients[1].get(fast).unwrap_or_else(|| panic!("`{name}` of {config:?} has no gradient"));
            assert!(numbers(slow).iter().any(|g| *g != 0.0), "`{name}` of {config:?} has a zero gradient");
            let size = numbers(slow).iter().fold(1f32, |size, g| size.max(g.abs()));
            assert_close(slow, fast, 1e-4 * size);
        }
    }
}

#[test]
fn gradients_of_every_variant_agree_with_finite_differences() {
    for config in variants() {
        let gpt = lively(&config, Kernels::Fused);
        let gradients = loss(&gpt).backward().unwrap();
        for (name, var) in gpt.parameters().entries() {
            let gradient = numbers(gradients.get(var).unwrap());
            let original = var.as_tensor().copy().unwrap();
            let flat = numbers(&original);
            // the element with the steepest slope says most about the gradient
            let steeper = |a: &usize, b: &usize| gradient[*a].abs().total_cmp(&gradient[*b].abs());
            let at = (0..flat.len()).max_by(steeper).unwrap();
            let moved = |by: f32| {
                let mut values = flat.clone();
                values[at] += by;
                var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
                f64::from(loss(&gpt).to_scalar::<f32>().unwrap())
            };
            let step = 4e-3f32;
            let slope = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
            var.set(&original).unwrap();
            let gap = (slope - f64::from(gradient[at])).abs();
            assert!(
                gap < 0.03 * slope.abs() + 2e-3,
                "`{name}` of {config:?}: {slope} against {}",
                gradient[at]
            );
        }
    }
}

#[test]
fn decoding_with_remembered_keys_gives_the_scores_of_the_whole_sequence() {
    let tokens = [1u32, 5, 9, 22, 4, 4, 8, 0, 2];
    for config in variants() {
        let gpt = lively(&config, Kernels::Fused);
        let whole = Batch::new([&tokens[..]]).unwrap();
        let scores = gpt.logits(&gpt.hidden(&whole, &mut Noise::off()).unwrap()).unwrap();
        let scores = scores.to_vec2::<f32>().unwrap();
        let mut decoder = Decoder::new(&gpt);
        let mut last = decoder.push(&tokens[..3]).unwrap();
        for end in 3..tokens.len() {
            for (cached, full) in last.iter().zip(&scores[end - 1]) {
                assert!((cached - full).abs() < 2e-4 * (1.0 + full.abs()), "{config:?}: {cached} {full}");
            }
            last = decoder.push(&tokens[end..=end]).unwrap();
        }
        assert_eq!(decoder.length(), tokens.len());
    }
}

#[test]
fn recomputed_activations_give_the_same_loss_and_the_same_gradients_under_dropout_too() {
    for config in variants() {
        let gpt = lively(&GptConfig { dropout: 0.2, ..config }, Kernels::Fused);
        let noise = Noise::of_step(5, 1);
        let loss = gpt.loss(&batch(), &mut noise.clone()).unwrap();
        let kept = loss.backward().unwrap();
        let (again, recomputed) = gpt.gradients_recomputed(&batch(), &mut noise.clone(), 1.0).unwrap();
        assert_eq!(f64::from(loss.to_scalar::<f32>().unwrap()), again);
        for (name, var) in gpt.parameters().entries() {
            let (a, b) = (kept.get(var).unwrap(), recomputed.get(var).unwrap());
            let size = numbers(a).iter().fold(1e-3f32, |size, g| size.max(g.abs()));
            for (a, b) in numbers(a).iter().zip(numbers(b)) {
                assert!((a - b).abs() <= 1e-5 * size, "`{name}`: {a} {b}");
            }
        }
    }
}

#[test]
fn a_saved_variant_loads_as_it_was() {
    for config in variants() {
        let directory = tempfile::tempdir().unwrap();
        let gpt = lively(&config, Kernels::Fused);
        gpt.save(directory.path()).unwrap();
        let loaded = Gpt::load(directory.path(), &Device::Cpu).unwrap();
        assert_eq!(loaded.config(), &config);
        assert_close(&loss(&gpt), &loss(&loaded), 0.0);
    }
}

#[test]
fn writing_ends_at_a_stop_token_at_the_length_at_the_context_or_when_the_caller_says_so() {
    let gpt = lively(&variants()[0], Kernels::Fused);
    let all = |_: u32| std::ops::ControlFlow::Continue(());
    let sampling = Sampling { seed: 4, max_tokens: 5, ..Sampling::default() };
    let free = gpt.generate(&[1, 2], &sampling, &mut { all }).unwrap();
    assert_eq!((free.tokens.len(), free.ended), (5, Ended::Length));
    assert_eq!(gpt.generate(&[1, 2], &sampling, &mut { all }).unwrap(), free, "the seed decides");
    let stop = Sampling { stop: vec![free.tokens[1]], ..sampling.clone() };
    let stopped = gpt.generate(&[1, 2], &stop, &mut { all }).unwrap();
    let first = free.tokens.iter().position(|token| *token == free.tokens[1]).unwrap();
    assert_eq!((stopped.tokens.as_slice(), stopped.ended), (&free.tokens[..=first], Ended::Stop));
    let long = Sampling { max_tokens: 100, ..sampling.clone() };
    let full = gpt.generate(&[1, 2], &long, &mut { all }).unwrap();
    assert_eq!((full.tokens.len(), full.ended), (11, Ended::Context));
    let mut heard = Vec::new();
    let broken = gpt
        .generate(&[1, 2], &sampling, &mut |token| {
            heard.push(token);
            if heard.len() == 2 {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            }
        })
        .unwrap();
    assert_eq!((broken.tokens.as_slice(), broken.ended), (heard.as_slice(), Ended::Caller));
}

#[test]
fn ids_beyond_the_vocabulary_empty_prompts_and_too_long_ones_are_refused_by_name() {
    let gpt = lively(&variants()[0], Kernels::Fused);
    let batch = Batch::new([&[1u32, 23][..]]).unwrap();
    let refusal = gpt.hidden(&batch, &mut Noise::off()).unwrap_err();
    assert!(matches!(refusal, Error::Token { id: 23, vocabulary: 23 }), "{refusal}");
    assert!(matches!(Decoder::new(&gpt).push(&[99]), Err(Error::Token { id: 99, .. })));
    assert!(matches!(Decoder::new(&gpt).push(&[]), Err(Error::Empty { .. })));
    let refusal = Decoder::new(&gpt).push(&[0; 13]).unwrap_err();
    assert!(refusal.to_string().contains("13 tokens exceed the context of 12"), "{refusal}");
}
