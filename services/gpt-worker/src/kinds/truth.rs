//! Two experiments on synthetic sets whose outcome theory gives.
//!
//! *Fusion.* Half of what there is to know lies in the table, half in the order of events: a model of both beats either alone,
//! by more than chance could.
//!
//! *Competition of sources.* A window holds K events. If source s has the share φₛ of them and each of its events moves the
//! log-odds by ρₛ = dₛ² (squared standardised distance between the outcomes), a full window tells Δ² = K·Σₛ φₛρₛ, and the best
//! AUC is Φ(Δ/√2). A new source displaces events of the others, so it helps only if its ρ is above their mean: many events that
//! say nothing lower the AUC although nothing was taken away.

use std::ops::ControlFlow;

use domain::definitions::{Model, ModelKind};
use domain::tabular::{Column, History, Table};
use serde_json::json;
use statistics::Generator;
use statistics::calibrators::sigmoid;
use statistics::ranking::{auc, auc_by_counts};
use statistics::resampling::paired_block_bootstrap;

use super::synthetic::{Planted, model, stream};
use super::tests::{gpt, table};
use super::{Lesson, learn};
use crate::training_data::Rows;

/// What a model says of later rows.
fn foretold(model: &Model, train: &Rows, validation: &Rows, test: &Rows) -> Vec<f64> {
    let stream = stream();
    let lesson = Lesson::new(model, Some(&stream), train, validation).unwrap();
    let learned = learn(&lesson, &mut |_| ControlFlow::Continue(())).unwrap();
    learned.log_odds(test.asked()).unwrap().into_iter().map(sigmoid).collect()
}

#[test]
fn a_model_of_table_and_history_beats_either_alone_with_an_interval_clear_of_0() {
    let planted = Planted::default();
    let (train, validation, test) =
        (planted.rows(0, 1_500, 11), planted.rows(1_500, 500, 12), planted.rows(2_000, 2_000, 13));
    let named = |name: &str| table().into_iter().find(|(known, ..)| *known == name).unwrap().1;
    let said = |name: &str| foretold(&named(name), &train, &validation, &test);
    let joint = said("joint");
    let blocks: Vec<u64> = (0..2_000).map(|row| row / 20).collect();
    for alone in ["dcn, periodic", "gpt, whole"] {
        let other = said(alone);
        let counted = |said: &[f64]| auc_by_counts(said, &test.labels).unwrap();
        let (ours, theirs) = (counted(&joint), counted(&other));
        let gain = paired_block_bootstrap(&blocks, theirs, ours, 400, &mut Generator::from_seed(1)).unwrap();
        assert!(gain.interval.low > 0.0, "joint over {alone}: {gain:?}");
    }
}

/// A source of events: how often it speaks, and how far its events lean with the outcome.
#[derive(Clone, Copy)]
struct Source {
    name: &'static str,
    rate: f64,
    lean: f64,
}

/// Events that fit into the window.
const WINDOW: usize = 16;

impl Source {
    /// ρ: an event is one of two kinds with probabilities ½ ± lean.
    fn separability(self) -> f64 {
        16.0 * self.lean * self.lean / (1.0 - 4.0 * self.lean * self.lean)
    }
}

/// Rows whose histories are longer than the window, of events by these sources.
fn rows(sources: &[Source], first: usize, count: usize, seed: u64) -> Rows {
    let mut generator = Generator::from_seed(seed);
    let total: f64 = sources.iter().map(|source| source.rate).sum();
    let (mut offsets, mut times, mut kinds, mut labels) = (vec![0], vec![], vec![], vec![]);
    for row in first..first + count {
        let label = generator.uniform() < 0.5;
        for event in 0..2 * WINDOW {
            let mut at = generator.uniform() * total;
            let speaks = sources.iter().find(|source| {
                at -= source.rate;
                at < 0.0
            });
            let speaks = speaks.unwrap_or(&sources[0]);
            let leans = 0.5 + if label { speaks.lean } else { -speaks.lean };
            kinds.push(format!("{}{}", speaks.name, u8::from(generator.uniform() < leans)));
            times.push((row * 100 + event) as i64 * 1_000_000);
        }
        offsets.push(times.len());
        labels.push(label);
    }
    let kinds = Column::from_text(kinds.iter().map(|kind| Some(kind.as_str())));
    let fields = Table::new(times.len(), vec![("kind".into(), kinds)]).unwrap();
    let nothing = vec![("nothing".into(), Column::Number(vec![0.0; count]))];
    Rows {
        places: (first..first + count).collect(),
        table: Table::new(count, nothing).unwrap(),
        history: Some(History { offsets, times, fields }),
        cutoffs: (first..first + count).map(|row| (row * 100 + 99) as i64 * 1_000_000).collect(),
        labels,
    }
}

/// The AUC that a GPT reaches on later rows, and the best there is.
fn reached(sources: &[Source]) -> (f64, f64) {
    let mut size = gpt();
    size["context"] = json!(WINDOW + 2); // what begins and what ends a history
    let recipe = json!({
        "gpt": size, "pretrain": { "max_steps": 10, "batch": 64 },
        "classifier": { "pooling": "mean", "rounds": 6, "batch": 64, "learning_rate": 3e-3 },
    });
    let model = model(ModelKind::GptClassifier, recipe);
    let (train, validation, test) =
        (rows(sources, 0, 1_200, 21), rows(sources, 1_200, 400, 22), rows(sources, 1_600, 1_500, 23));
    let said = foretold(&model, &train, &validation, &test);
    let total: f64 = sources.iter().map(|source| source.rate).sum();
    let mean: f64 = sources.iter().map(|source| source.rate / total * source.separability()).sum();
    let delta = (WINDOW as f64 * mean).sqrt();
    (auc(&said, &test.labels).unwrap().value, statistics::distributions::normal_cdf(delta / 2f64.sqrt()))
}

#[test]
fn a_source_that_says_nothing_costs_what_it_displaces_and_one_that_says_more_pays() {
    let weak = Source { name: "w", rate: 1.0, lean: 0.09 };
    let noise = Source { name: "n", rate: 3.0, lean: 0.0 };
    let strong = Source { name: "s", rate: 1.0, lean: 0.18 };
    let alone = reached(&[weak]);
    let crowded = reached(&[weak, noise]);
    let joined = reached(&[weak, strong]);
    for (what, (found, best)) in [("alone", alone), ("crowded", crowded), ("joined", joined)] {
        assert!((found - best).abs() < 0.06, "{what}: {found:.3} where theory has {best:.3}");
    }
    assert!(crowded.0 < alone.0 - 0.05, "noise did not cost anything: {crowded:?} {alone:?}");
    assert!(joined.0 > alone.0 + 0.03, "a better source did not pay: {joined:?} {alone:?}");
}
