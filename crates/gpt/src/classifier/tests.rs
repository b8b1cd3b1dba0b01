//! A classifier on sequences whose class can be read off them.

use std::ops::ControlFlow;

use super::*;
use crate::generator::Generator;
use crate::{GptConfig, LoraConfig, NormKind};

/// Class 1 if token 1 occurs before token 2, class 2 if after, class 0 if neither occurs.
fn data(count: usize, seed: u64) -> (Vec<Vec<u32>>, Vec<u32>) {
    let mut generator = Generator::new(seed, 0);
    let mut example = |class: u32| -> Vec<u32> {
        let mut tokens: Vec<u32> =
            (0..6 + generator.below(4)).map(|_| 3 + generator.below(6) as u32).collect();
        let (first, second) = (generator.below(3), 3 + generator.below(3));
        if class > 0 {
            (tokens[first], tokens[second]) = if class == 1 { (1, 2) } else { (2, 1) };
        }
        tokens
    };
    (0..count).map(|i| (example(i as u32 % 3), i as u32 % 3)).unzip()
}

fn gpt() -> Gpt {
    let config = GptConfig { vocabulary: 9, context: 10, width: 32, heads: 4, ..GptConfig::default() };
    Gpt::new(GptConfig { norm: NormKind::Rms, ..config }, 3, &Device::Cpu).unwrap()
}

fn recipe() -> ClassifierRecipe {
    ClassifierRecipe { batch: 32, rounds: 25, learning_rate: 4e-3, ..ClassifierRecipe::default() }
}

fn trained(recipe: ClassifierRecipe) -> GptClassifier {
    let ((sequences, classes), (later, later_classes)) = (data(384, 1), data(96, 2));
    let training = ClassifierData { sequences: &sequences, classes: &classes };
    let validation = ClassifierData { sequences: &later, classes: &later_classes };
    GptClassifier::train(gpt(), 3, (training, validation), recipe, &mut |_| ControlFlow::Continue(()))
        .unwrap()
}

/// The share of new sequences whose likeliest class is theirs.
fn accuracy(model: &GptClassifier) -> f64 {
    let (sequences, classes) = data(150, 3);
    let rows = model.predict(&sequences).unwrap();
    let best = |row: &[f64]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32;
    rows.iter().zip(&classes).filter(|(row, class)| best(row) == **class).count() as f64 / 150.0
}

#[test]
fn a_classifier_learns_classes_from_the_last_state_and_from_the_mean() {
    for pooling in [Pooling::Last, Pooling::Mean] {
        let model = trained(ClassifierRecipe { pooling, ..recipe() });
        assert!(accuracy(&model) > 0.9, "{pooling:?}: {} {:?}", accuracy(&model), model.curve().last());
        let mass: f64 = model.predict(&data(1, 9).0).unwrap()[0].iter().map(|p| p.exp()).sum();
        assert!((mass - 1.0).abs() < 1e-5);
    }
}

#[test]
fn lora_learns_with_fewer_numbers_leaves_the_body_alone_and_comes_back_from_its_files() {
    let lora = LoraConfig {
        rank: 8,
        alpha: 32.0,
        targets: vec!["c_attn".into(), "c_fc".into(), "c_proj".into()],
        ..LoraConfig::default()
    };
    let model = trained(ClassifierRecipe { lora: Some(lora), learning_rate: 1e-2, ..recipe() });
    assert!(accuracy(&model) > 0.8, "{}", accuracy(&model));
    assert!(model.trained_count() < gpt().parameters().count());
    for ((name, a), (_, b)) in
        model.body.gpt().parameters().entries().iter().zip(gpt().parameters().entries())
    {
        let (a, b) = (a.flatten_all().unwrap(), b.flatten_all().unwrap());
        assert_eq!(a.to_vec1::<f32>().unwrap(), b.to_vec1::<f32>().unwrap(), "`{name}` moved");
    }
    let directory = tempfile::tempdir().unwrap();
    model.save(directory.path()).unwrap();
    let loaded = GptClassifier::load(directory.path(), &Device::Cpu).unwrap();
    let sequences = data(20, 4).0;
    assert_eq!(loaded.predict(&sequences).unwrap(), model.predict(&sequences).unwrap());
    assert_eq!(loaded.curve(), model.curve());
}

#[test]
fn the_weights_that_are_kept_are_those_of_the_best_round_and_training_stops_when_none_gets_better() {
    let model = trained(ClassifierRecipe { rounds: 60, patience: 2, learning_rate: 2e-2, ..recipe() });
    let curve = model.curve();
    let best = curve.iter().map(|round| round.validation_loss).fold(f64::INFINITY, f64::min);
    let (later, classes) = data(96, 2);
    let rows: Vec<usize> = (0..96).collect();
    let data = ClassifierData { sequences: &later, classes: &classes };
    let now = model.loss(data, &rows, &mut Noise::off()).unwrap().0.to_scalar::<f32>().unwrap();
    assert!((f64::from(now) - best).abs() < 1e-5, "{now} {best}");
    assert!(curve.len() == 60 || curve.iter().rev().take(2).all(|round| !round.best), "{curve:?}");
}

#[test]
fn a_class_weight_of_0_makes_a_class_unlikely_and_impossible_data_is_refused() {
    let weights = Some(vec![1.0, 1.0, 0.0]);
    let model = trained(ClassifierRecipe { class_weights: weights, ..recipe() });
    let rows = model.predict(&data(30, 5).0).unwrap();
    assert!(
        rows.iter().all(|row| row[2] < row[0].max(row[1])),
        "a class that counts for nothing is never likeliest"
    );
    let (sequences, classes) = data(6, 1);
    let refusal = |classes_count: usize, classes: &[u32], recipe: ClassifierRecipe| {
        let data = ClassifierData { sequences: &sequences, classes };
        let told = &mut |_: &ClassifierProgress| ControlFlow::Continue(());
        GptClassifier::train(gpt(), classes_count, (data, data), recipe, told).unwrap_err().to_string()
    };
    assert!(refusal(2, &classes, recipe()).contains("class 2 is not below 2"));
    assert!(refusal(1, &classes, recipe()).contains("at least 2 classes"));
    assert!(refusal(3, &classes[1..], recipe()).contains("5 rows in the classes"));
    let short = ClassifierRecipe { class_weights: Some(vec![1.0]), ..recipe() };
    assert!(refusal(3, &classes, short).contains("1 class weights for 3 classes"));
}

/// Trains to the end, and as one that is broken off after `killed_at` steps and resumed from its file; both models.
fn straight_and_resumed(recipe: &ClassifierRecipe, killed_at: usize) -> [GptClassifier; 2] {
    let gpt = || {
        let config = GptConfig { dropout: 0.1, ..gpt().config().clone() };
        Gpt::new(config, 3, &Device::Cpu).unwrap()
    };
    let ((sequences, classes), (later, later_classes)) = (data(384, 1), data(96, 2));
    let data = (
        ClassifierData { sequences: &sequences, classes: &classes },
        ClassifierData { sequences: &later, classes: &later_classes },
    );
    let mut straight = ClassifierTraining::new(gpt(), 3, recipe.clone()).unwrap();
    assert!(straight.run(data, &mut |_| ControlFlow::Continue(())).unwrap());

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint.safetensors");
    let mut killed = ClassifierTraining::new(gpt(), 3, recipe.clone()).unwrap();
    let stop = |now: &ClassifierProgress| {
        if now.step == killed_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    assert!(!killed.run(data, &mut { stop }).unwrap());
    killed.save(&path).unwrap();
    let begun = gpt();
    let mut resumed = ClassifierTraining::resume(&begun, &path).unwrap();
    assert_eq!(resumed.step(), killed_at);
    let mut told = Vec::new();
    let finished = resumed.run(data, &mut |now| {
        told.push(now.step);
        ControlFlow::Continue(())
    });
    assert!(finished.unwrap() && told[0] == killed_at + 1, "{told:?}");
    assert_eq!(straight.step(), resumed.step());
    let other = (ClassifierData { sequences: &sequences[1..], classes: &classes[1..] }, data.1);
    let refusal = resumed.run(other, &mut |_| ControlFlow::Break(())).unwrap_err().to_string();
    assert!(refusal.contains("other data"), "{refusal}");
    [straight.finish().unwrap(), resumed.finish().unwrap()]
}

/// The files of a model, by name.
fn files(model: &GptClassifier) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let directory = tempfile::tempdir().unwrap();
    model.save(directory.path()).unwrap();
    let (mut folders, mut files) = (vec![directory.path().to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push((
                    path.strip_prefix(directory.path()).unwrap().to_owned(),
                    std::fs::read(&path).unwrap(),
                )),
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_training_killed_within_a_round_and_resumed_from_its_checkpoint_ends_in_the_same_bits() {
    let lora = || LoraConfig { dropout: 0.1, ..LoraConfig::default() };
    let few = |lora, patience, learning_rate| ClassifierRecipe {
        rounds: 6,
        lora,
        patience,
        learning_rate,
        ..recipe()
    };
    // 12 steps a round: before the first has ended, at the end of one, and when weights have been kept
    for killed_at in [5, 12, 31] {
        for recipe in [few(None, 3, 4e-3), few(Some(lora()), 3, 1e-2)] {
            let [straight, resumed] = straight_and_resumed(&recipe, killed_at);
            assert_eq!(straight.curve(), resumed.curve());
            assert!(files(&straight) == files(&resumed), "killed at {killed_at}: {recipe:?}");
        }
    }
    // the best round lies before the kill, and patience runs out after it
    let recipe = ClassifierRecipe { rounds: 60, ..few(None, 2, 5e-2) };
    let [undisturbed, _] = straight_and_resumed(&recipe, 13);
    let best = undisturbed.curve().iter().rfind(|round| round.best).unwrap().round;
    let [straight, resumed] = straight_and_resumed(&recipe, 12 * best + 13);
    assert_eq!(straight.curve(), resumed.curve());
    assert!(files(&straight) == files(&resumed));
}
