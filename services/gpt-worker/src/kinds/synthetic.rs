//! A planted, synthetic set: what a kind should find in it is known.
//!
//! The log-odds are tabular·(1.5·x + 0.6·[carrier is `B6`]) + order·(1 if the last event is an `A`, −1 if it is a `B`). Every row
//! has two `A`, two `B` and two `C`: the table and any count of events say nothing of the order.

use domain::definitions::{EventStream, Model, ModelKind};
use domain::tabular::{Column, History, Table};
use serde_json::json;
use statistics::Generator;
use statistics::calibrators::sigmoid;

use crate::training_data::Rows;

/// Which effects are there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planted {
    pub(crate) tabular: f64,
    pub(crate) order: f64,
}

impl Default for Planted {
    fn default() -> Self {
        Self { tabular: 1.4, order: 2.0 }
    }
}

const SECOND: i64 = 1_000_000;

impl Planted {
    /// Rows of a synthetic set, one a minute from `first` on.
    pub(crate) fn rows(self, first: usize, rows: usize, seed: u64) -> Rows {
        let mut generator = Generator::from_seed(seed);
        let (mut x, mut carriers, mut labels) = (vec![], vec![], vec![]);
        let (mut offsets, mut times, mut kinds, mut sizes) = (vec![0], vec![], vec![], vec![]);
        let mut cutoffs = vec![];
        for row in first..first + rows {
            let cutoff = row as i64 * 60 * SECOND;
            let (value, carrier) = (generator.uniform() * 2.0 - 1.0, generator.below(3));
            let letters = shuffled(&mut generator);
            let order = match letters[letters.len() - 1] {
                "A" => self.order,
                "B" => -self.order,
                _ => 0.0,
            };
            for (at, letter) in letters.iter().enumerate() {
                times.push(cutoff - (10 * (letters.len() - at)) as i64 * SECOND);
                kinds.push(Some(*letter));
                sizes.push(generator.uniform() * 10.0);
            }
            offsets.push(times.len());
            let special = if carrier == 2 { 0.6 } else { 0.0 };
            let odds = self.tabular * (1.5 * value + special) + order;
            labels.push(generator.uniform() < sigmoid(odds));
            x.push(if generator.uniform() < 0.05 { f64::NAN } else { value });
            carriers.push((generator.uniform() > 0.03).then(|| ["UA", "AA", "B6"][carrier]));
            cutoffs.push(cutoff);
        }
        let fields = vec![("kind".into(), Column::from_text(kinds)), ("size".into(), Column::Number(sizes))];
        let fields = Table::new(times.len(), fields).unwrap();
        let columns = vec![("x".into(), Column::Number(x)), ("carrier".into(), Column::from_text(carriers))];
        Rows {
            places: (first..first + rows).collect(),
            table: Table::new(rows, columns).unwrap(),
            history: Some(History { offsets, times, fields }),
            cutoffs,
            labels,
        }
    }
}

/// Two `A`, two `B` and two `C` in any order.
fn shuffled(generator: &mut Generator) -> [&'static str; 6] {
    let mut letters = ["A", "A", "B", "B", "C", "C"];
    for at in (1..letters.len()).rev() {
        letters.swap(at, generator.below(at + 1));
    }
    letters
}

/// How the planted events become tokens.
pub(crate) fn stream() -> EventStream {
    serde_json::from_value(json!({ "name": "planted", "view": "events", "fields": [
        { "name": "kind", "kind": "category", "max_levels": 5 },
    ]}))
    .unwrap()
}

/// A definition with a recipe.
pub(crate) fn model(kind: ModelKind, recipe: serde_json::Value) -> Model {
    let mut definition = json!({
        "name": "planted", "registered_model": "planted", "kind": kind, "dataset": "planted", "seed": 5,
    });
    definition["recipe"] = recipe;
    serde_json::from_value(definition).unwrap()
}
