//! Fusion on planted signals: half of the label in the table, half in the order of events.

use std::ops::ControlFlow;

use candle_core::Device;
use domain::tabular::{Column, History, Table};

use super::*;
use crate::generator::Generator;
use crate::tabular::TowerConfig;
use crate::{EventSpec, GptConfig};

struct Set {
    table: Table,
    history: History,
    cutoffs: Vec<i64>,
    labels: Vec<f64>,
}

impl Set {
    /// The label is likely if x is high, and if an `A` is the last of up to five events; the table does not show events.
    fn planted(rows: usize, seed: u64) -> Self {
        let mut generator = Generator::new(seed, 0);
        let (mut x, mut carrier, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        let (mut offsets, mut times, mut kinds) = (vec![0], Vec::new(), Vec::new());
        for row in 0..rows {
            let value = generator.normal();
            let events = generator.below(6);
            let letters: Vec<&str> = (0..events).map(|_| ["A", "B"][generator.below(2)]).collect();
            let last = letters.last().map_or(0.0, |last| if *last == "A" { 1.5 } else { -1.5 });
            times.extend((0..events as i64).map(|i| (row as i64 * 10 + i) * 1_000_000));
            kinds.extend(letters.into_iter().map(Some));
            offsets.push(times.len());
            x.push(if generator.uniform() < 0.05 { f64::NAN } else { value });
            carrier.push(Some(["UA", "AA", "DL"][generator.below(3)]));
            let odds = if x[row].is_nan() { last } else { 1.5 * value + last };
            labels.push(f64::from(u8::from(generator.uniform() < 1.0 / (1.0 + (-odds).exp()))));
        }
        let columns = vec![("x".into(), Column::Number(x)), ("carrier".into(), Column::from_text(carrier))];
        let fields = Table::new(times.len(), vec![("kind".into(), Column::from_text(kinds))]).unwrap();
        let cutoffs = (0..rows as i64).map(|row| (row * 10 + 9) * 1_000_000).collect();
        let table = Table::new(rows, columns).unwrap();
        Self { table, history: History { offsets, times, fields }, cutoffs, labels }
    }

    fn data(&self) -> FusionData<'_> {
        let Self { table, history, cutoffs, labels } = self;
        FusionData { table, history, cutoffs, labels, weights: None }
    }

    fn log_loss(&self, odds: &[f64]) -> f64 {
        let loss = |(z, y): (&f64, &f64)| z.max(0.0) - z * y + (-z.abs()).exp().ln_1p();
        odds.iter().zip(&self.labels).map(loss).sum::<f64>() / odds.len() as f64
    }

    fn backbone(&self) -> Backbone {
        let spec: EventSpec = serde_json::from_value(serde_json::json!({ "fields": [
            { "name": "kind", "kind": { "category": { "max_levels": 5 } } },
            { "name": "gap", "kind": { "gap": { "bins": 3 } } },
        ]}))
        .unwrap();
        let tokenizer = EventTokenizer::fit(&spec, &self.history).unwrap();
        let vocabulary = tokenizer.vocabulary_size();
        let config =
            GptConfig { vocabulary, context: 12, width: 16, layers: 2, heads: 2, ..GptConfig::default() };
        Backbone { gpt: Gpt::new(config, 3, &Device::Cpu).unwrap(), tokenizer }
    }
}

fn recipe() -> FusionRecipe {
    let tower =
        TowerConfig { number_width: 4, frequencies: 4, deep: vec![16], width: 8, ..TowerConfig::default() };
    FusionRecipe {
        batch: 64,
        tabular_rounds: 3,
        joint_rounds: 8,
        tabular_rows: 2_000,
        joint_rows: 2_000,
        learning_rate: 1e-2,
        joint_learning_rate: 1e-2,
        head_width: 16,
        tower,
        ..FusionRecipe::default()
    }
}

fn train(
    set: &Set,
    judge: &Set,
    backbone: Option<Backbone>,
    recipe: FusionRecipe,
) -> Result<JointFusion, Error> {
    let mut go_on = |_: &FusionProgress| ControlFlow::Continue(());
    JointFusion::train(set.data(), judge.data(), backbone, recipe, &Device::Cpu, &mut go_on)
}

#[test]
fn fusion_learns_what_the_table_alone_cannot_and_survives_saving() {
    let (set, judge, later) = (Set::planted(2_000, 1), Set::planted(1_000, 2), Set::planted(1_000, 3));
    let tabular = train(&set, &judge, None, recipe()).unwrap();
    let joint = train(&set, &judge, Some(set.backbone()), recipe()).unwrap();
    assert_eq!((tabular.stage(), joint.stage()), (Stage::Tabular, Stage::Joint));
    let predict = |model: &JointFusion| model.predict(&later.table, &later.history, &later.cutoffs).unwrap();
    let (alone, together) = (later.log_loss(&predict(&tabular)), later.log_loss(&predict(&joint)));
    assert!(alone < 0.64 && together < alone - 0.05, "{alone} {together}");

    let directory = tempfile::tempdir().unwrap();
    joint.save(directory.path()).unwrap();
    let loaded = JointFusion::load(directory.path(), &Device::Cpu).unwrap();
    assert_eq!(predict(&loaded), predict(&joint));
    assert_eq!(loaded.curve(), joint.curve());
}

#[test]
fn a_model_predicts_with_the_weights_of_its_best_round() {
    let (set, judge) = (Set::planted(1_000, 1), Set::planted(500, 2));
    let joint = train(&set, &judge, Some(set.backbone()), recipe()).unwrap();
    let odds = joint.predict(&judge.table, &judge.history, &judge.cutoffs).unwrap();
    let best = joint.curve().iter().map(|point| point.validation_loss).fold(f64::INFINITY, f64::min);
    assert!((judge.log_loss(&odds) - best).abs() < 1e-6, "{} {best}", judge.log_loss(&odds));
}

#[test]
fn training_twice_gives_the_same_model() {
    let (set, judge) = (Set::planted(500, 1), Set::planted(300, 2));
    let [first, second] = [(); 2].map(|()| {
        let model = train(&set, &judge, Some(set.backbone()), recipe()).unwrap();
        model.predict(&judge.table, &judge.history, &judge.cutoffs).unwrap()
    });
    assert_eq!(first, second);
}

#[test]
fn every_parameter_of_a_fusion_gets_a_gradient() {
    let set = Set::planted(300, 1);
    let backbone = set.backbone();
    let encoder = TabularEncoder::fit(&set.table).unwrap();
    let inputs = Inputs::new(&encoder, Some(&backbone), &set.table, &set.history, &set.cutoffs).unwrap();
    let network = Network::new(&recipe(), &encoder, Some(16), &Device::Cpu).unwrap();
    let (recipe, curve, device) = (recipe(), Vec::new(), Device::Cpu);
    let model = JointFusion { recipe, encoder, backbone: Some(backbone), network, curve, device };
    let rows: Vec<usize> = (0..300).collect();
    let logits = model.logits(Stage::Joint, &inputs, &rows, &mut Noise::off()).unwrap();
    let gradients = logits.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let backbone = model.backbone.as_ref().unwrap().gpt.parameters().entries();
    for (name, var) in model.network.parameters().entries().iter().chain(backbone) {
        let gradient = gradients.get(var).unwrap_or_else(|| panic!("`{name}` has no gradient"));
        let size = gradient.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(size > 0.0, "`{name}` has a zero gradient");
    }
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let set = Set::planted(200, 1);
    let mut bad = Set::planted(200, 1);
    bad.labels[7] = 2.0;
    let refusal = train(&bad, &set, None, recipe()).unwrap_err();
    assert!(refusal.to_string().contains("a label is from 0 to 1, not 2"), "{refusal}");
    bad.labels.pop();
    let refusal = train(&bad, &set, None, recipe()).unwrap_err();
    assert_eq!(refusal.to_string(), "199 rows in the labels where 200 are expected");
    let model = train(&set, &set, None, recipe()).unwrap();
    let narrow = Table::new(200, vec![set.table.columns()[0].clone()]).unwrap();
    let refusal = model.predict(&narrow, &set.history, &set.cutoffs).unwrap_err();
    assert_eq!(refusal.to_string(), "column `carrier` is missing");
}

#[test]
fn training_that_is_broken_off_keeps_the_best_so_far_or_says_that_there_is_none() {
    let set = Set::planted(500, 1);
    let broken_at = |last: usize| {
        let mut stop = |p: &FusionProgress| {
            if p.step == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        JointFusion::train(set.data(), set.data(), None, recipe(), &Device::Cpu, &mut stop)
    };
    assert!(matches!(broken_at(3), Err(Error::Stopped { .. })));
    assert_eq!(broken_at(10).unwrap().curve().len(), 1);
}

#[test]
fn a_joint_round_is_kept_on_request_even_if_the_tower_alone_was_better() {
    let (set, judge) = (Set::planted(500, 1), Set::planted(300, 2));
    let useless = FusionRecipe { joint_rounds: 1, joint_learning_rate: 0.5, ..recipe() };
    let kept = FusionRecipe { keep_joint: true, ..useless.clone() };
    let stage = |recipe| train(&set, &judge, Some(set.backbone()), recipe).unwrap().stage();
    assert_eq!((stage(useless), stage(kept)), (Stage::Tabular, Stage::Joint));
}
