//! Tests of every variant of the model: gradients, kernels, decoding, recomputation.

use candle_core::backprop::GradStore;
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

/// The loss and gradients through candle's graph, and those of one of the ways that training takes.
fn same_gradients(gpt: &Gpt, config: &GptConfig, way: impl Fn(&mut Noise) -> (f64, GradStore)) {
    let noise = Noise::of_step(5, 1);
    let loss = gpt.loss(&batch(), &mut noise.clone()).unwrap();
    let graph = (&loss * 0.5).unwrap().backward().unwrap();
    let (value, gradients) = way(&mut noise.clone());
    assert!((f64::from(loss.to_scalar::<f32>().unwrap()) - value).abs() < 2e-6 * value, "{config:?}");
    for (name, var) in gpt.parameters().entries() {
        let (a, b) = (graph.get(var).unwrap(), gradients.get(var).unwrap());
        let size = numbers(a).iter().fold(1e-3f32, |size, g| size.max(g.abs()));
        for (a, b) in numbers(a).iter().zip(numbers(b)) {
            assert!((a - b).abs() <= 1e-5 * size, "`{name}` of {config:?}: {a} {b}");
        }
    }
}

#[test]
fn every_way_of_a_training_step_gives_the_loss_and_the_gradients_of_the_graph_under_dropout_too() {
    for config in variants() {
        for dropout in [0.0, 0.2] {
            let gpt = lively(&GptConfig { dropout, ..config.clone() }, Kernels::Fused);
            same_gradients(&gpt, &config, |noise| gpt.gradients_recomputed(&batch(), noise, 0.5).unwrap());
            for recompute in [false, true] {
                let step = |noise: &mut Noise| gpt.gradients(&batch(), noise, 0.5, recompute).unwrap();
                same_gradients(&gpt, &config, step);
                same_gradients(&gpt, &config, step); // with the buffers of the first
            }
        }
    }
}

#[test]
fn models_of_gpt2s_parts_take_the_way_by_hand_and_others_or_frozen_ones_do_not() {
    let by_hand = |gpt: &Gpt| gpt.step_by_hand(&batch(), &mut Noise::off(), 1.0, false).unwrap().is_some();
    let taken: Vec<bool> = variants().iter().map(|config| by_hand(&lively(config, Kernels::Fused))).collect();
    let expected = [true, true, false, false, false, false, false, false, false, true, false];
    assert_eq!(taken, expected);
    assert!(variants().iter().map(GptConfig::steps_by_hand).eq(expected));
    let mut frozen = lively(&variants()[0], Kernels::Fused);
    frozen.freeze();
    assert!(!by_hand(&frozen) && !by_hand(&lively(&variants()[0], Kernels::Reference)));
}

#[test]
fn a_batch_of_many_parts_has_the_gradients_of_the_graph_and_leaves_no_more_buffers_each_step() {
    let config = GptConfig { context: 300, dropout: 0.1, ..variants()[1].clone() };
    let gpt = lively(&config, Kernels::Fused);
    let drawn: Vec<Vec<u32>> =
        (0..23).map(|i| (0..40 + 11 * i).map(|at| (at * 7 + i) % 23).collect()).collect();
    let batch = Batch::new(drawn.iter().map(Vec::as_slice)).unwrap();
    assert!(batch.parts(1024).len() > 3);
    let noise = Noise::of_step(5, 1);
    let graph = gpt.loss(&batch, &mut noise.clone()).unwrap().backward().unwrap();
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap(); // how many parts are in hand at once is chance
    let mut free = Vec::new();
    for _ in 0..3 {
        let step = || gpt.gradients(&batch, &mut noise.clone(), 1.0, false).unwrap();
        let (_, gradients) = alone.install(step);
        free.push(gpt.pool.free());
        for (name, var) in gpt.parameters().entries() {
            let (a, b) = (numbers(graph.get(var).unwrap()), numbers(gradients.get(var).unwrap()));
            let size = a.iter().fold(1e-3f32, |size, g| size.max(g.abs()));
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 2e-5 * size), "`{name}`");
        }
    }
    assert_eq!(free[1], free[2]);
    assert_close(&gpt.hidden(&batch, &mut Noise::off()).unwrap(), &gpt.states(&batch).unwrap(), 5e-5);
}

/// What reading without a way back gives: all states, last states, and losses of tokens.
fn read(gpt: &Gpt) -> [Tensor; 3] {
    let losses = gpt.token_losses(&batch()).unwrap();
    let losses = Tensor::from_vec(losses, batch().tokens(), &Device::Cpu).unwrap();
    [gpt.states(&batch()).unwrap(), gpt.last_states(&batch()).unwrap(), losses]
}

#[test]
fn reading_gives_the_states_and_losses_of_the_graph_in_every_variant_packed_before_or_not() {
    let longer = Batch::new([&[1u32, 5, 9, 22][..], &[4, 4, 8, 0, 2, 1, 7][..]]).unwrap();
    let ends = longer.last_rows(2, &Device::Cpu).unwrap();
    for config in variants() {
        let mut gpt = lively(&config, Kernels::Fused);
        let reference = lively(&config, Kernels::Reference);
        let all = reference.states(&longer).unwrap().index_select(&ends, 0).unwrap();
        assert_close(&all, &reference.states_of_last(&longer, 2).unwrap(), 1e-6);
        assert_close(&all, &gpt.states_of_last(&longer, 2).unwrap(), 1e-4);
        assert!(gpt.states_of_last(&batch(), 2).is_err() && reference.states_of_last(&batch(), 2).is_err());
        let hidden = gpt.hidden(&batch(), &mut Noise::off()).unwrap();
        let pooled = gpt.pooled(&batch(), &mut Noise::off()).unwrap();
        let [states, last, losses] = read(&gpt);
        assert_close(&hidden, &states, 2e-5);
        assert_close(&pooled, &last, 2e-5);
        let composed = read(&reference);
        for (composed, ours) in composed.iter().zip([&states, &last, &losses]) {
            assert_close(composed, ours, 1e-4);
        }
        let mean = numbers(&losses).iter().sum::<f32>() / batch().counted_targets() as f32;
        assert!((mean - loss(&gpt).to_scalar::<f32>().unwrap()).abs() < 1e-5, "{config:?}");
        gpt.settle().unwrap();
        assert!(gpt.ready.is_some(), "{config:?}");
        for (settled, before) in read(&gpt).iter().zip([states, last, losses]) {
            assert_close(settled, &before, 0.0);
        }
    }
}

#[test]
fn a_settled_model_reads_adapters_too_and_new_adapters_or_kernels_are_seen() {
    let config = crate::LoraConfig { rank: 2, ..crate::LoraConfig::default() };
    let mut adapted = crate::LoraGpt::new(lively(&variants()[0], Kernels::Fused), config, 3).unwrap();
    adapted.settle().unwrap();
    let plain = numbers(&adapted.gpt().states(&batch()).unwrap());
    for (_, var) in adapted.parameters().entries() {
        var.set(&(var.ones_like().unwrap() * 0.1).unwrap()).unwrap();
    }
    assert_eq!(numbers(&adapted.gpt().states(&batch()).unwrap()), plain, "settled is settled");
    adapted.settle().unwrap();
    let hidden = adapted.gpt().hidden(&batch(), &mut Noise::off()).unwrap();
    let states = adapted.gpt().states(&batch()).unwrap();
    assert!(numbers(&states) != plain);
    assert_close(&hidden, &states, 5e-5);
    adapted.merge().unwrap();
    assert_close(&hidden, &adapted.gpt().states(&batch()).unwrap(), 5e-5);
}

#[test]
fn a_long_sequence_is_read_in_the_same_bits_alone_and_among_others() {
    let drawn: Vec<Vec<u32>> =
        (0..9u32).map(|i| (0..1 + 83 * i).map(|at| (at * 7 + i) % 23).collect()).collect();
    let batch = Batch::new(drawn.iter().map(Vec::as_slice)).unwrap();
    for variant in [1, 10] {
        let config = GptConfig { context: 700, ..variants()[variant].clone() };
        let gpt = lively(&config, Kernels::Fused);
        let together = gpt.last_states(&batch).unwrap();
        assert_close(&gpt.pooled(&batch, &mut Noise::off()).unwrap(), &together, 1e-4);
        for (row, sequence) in drawn.iter().enumerate() {
            let alone = gpt.last_states(&Batch::new([sequence.as_slice()]).unwrap()).unwrap();
            assert_close(&together.narrow(0, row, 1).unwrap(), &alone, 0.0);
        }
        let longer = &drawn[1..]; // the first has one token
        let batch = Batch::new(longer.iter().map(Vec::as_slice)).unwrap();
        let ends = gpt.states_of_last(&batch, 3).unwrap();
        let (all, rows) = (gpt.states(&batch).unwrap(), batch.last_rows(3, &Device::Cpu).unwrap());
        assert_close(&all.index_select(&rows, 0).unwrap(), &ends, 1e-4);
        for (row, sequence) in longer.iter().enumerate() {
            let alone = gpt.states_of_last(&Batch::new([sequence.as_slice()]).unwrap(), 3).unwrap();
            assert_close(&ends.narrow(0, 3 * row, 3).unwrap(), &alone, 0.0);
        }
    }
}

#[test]
fn gradients_with_factors_rounded_to_bf16_stay_near_those_in_f32() {
    for config in variants() {
        let models = [Kernels::Fused, Kernels::FusedBf16].map(|kernels| lively(&config, kernels));
        let [(loss, exact), (near, rounded)] =
            models.each_ref().map(|gpt| gpt.gradients(&batch(), &mut Noise::off(), 1.0, false).unwrap());
        assert!((loss - near).abs() < 0.02 * loss, "{config:?}: {loss} {near}");
        let both = models[0].parameters().entries().iter().zip(models[1].parameters().entries());
        for ((name, a), (_, b)) in both {
            let (a, b) = (numbers(exact.get(a).unwrap()), numbers(rounded.get(b).unwrap()));
            let size = a.iter().map(|a| a * a).sum::<f32>().sqrt();
            let gap = a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
            assert!(gap < 0.1 * size + 1e-3, "`{name}` of {config:?}: {gap} of {size}");
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
