//! Kind `logistic`: a ridge logistic regression over normal scores, missing indicators and one-hot categories.
//!
//! Of the penalties that the settings name, the one with the least log-loss on the validation rows stays.

use std::path::Path;

use gpt::TabularEncoder;
use serde::{Deserialize, Serialize};
use statistics::ridge::{Design, fit};

use super::{Asked, Learned, Lesson, read_text};
use crate::Error;
use crate::training_data::Rows;

const FILE: &str = "logistic.json";
const FORMAT: u32 = 1;

/// The settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Penalties to try, each on ½·Σβ² beside the sum of the rows' log-losses.
    penalties: Vec<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { penalties: vec![0.3, 3.0, 30.0, 300.0] }
    }
}

/// A linear model of the log-odds.
#[derive(Clone, Debug)]
pub(super) struct Logistic {
    encoder: TabularEncoder,
    stored: Stored,
}

/// What is learned beside the encoder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    encoder: String,
    penalty: f64,
    coefficients: Vec<f64>,
    importance: Vec<(String, f64)>,
}

/// An encoded table as the regression takes it.
struct Encoded {
    numbers: Vec<f64>,
    ones: Vec<u32>,
    rows: usize,
}

impl Encoded {
    fn new(encoder: &TabularEncoder, table: &domain::tabular::Table) -> Result<Self, Error> {
        let encoded = encoder.encode(table)?;
        let (n, m) = (encoder.numbers(), encoder.indicators());
        let row = |row: usize| {
            let numbers = encoded.numbers[row * n..(row + 1) * n].iter();
            numbers.chain(&encoded.missing[row * m..(row + 1) * m]).map(|x| f64::from(*x))
        };
        let numbers = (0..encoded.rows).flat_map(row).collect();
        Ok(Self { numbers, ones: encoded.codes, rows: encoded.rows })
    }

    fn design(&self, encoder: &TabularEncoder) -> Design<'_> {
        Design {
            numbers: &self.numbers,
            dense: encoder.numbers() + encoder.indicators(),
            ones: &self.ones,
            hot: encoder.categories(),
            levels: encoder.codes(),
            rows: self.rows,
        }
    }
}

impl Logistic {
    pub(super) fn learn(lesson: &Lesson<'_>) -> Result<Self, Error> {
        let settings: Settings = lesson.settings()?;
        if settings.penalties.is_empty() || settings.penalties.iter().any(|p| !(*p > 0.0 && p.is_finite())) {
            return Err(lesson.refused("`recipe.penalties` are numbers above 0, at least one"));
        }
        let encoder = TabularEncoder::fit(&lesson.train.table)?;
        let train = Encoded::new(&encoder, &lesson.train.table)?;
        let judge = Encoded::new(&encoder, &lesson.validation.table)?;
        let weights = weights(lesson, lesson.train);
        let mut best: Option<(f64, f64, Vec<f64>)> = None;
        for &penalty in &settings.penalties {
            let beta = fit(&train.design(&encoder), &lesson.train.targets(), &weights, penalty)?;
            let loss = loss(lesson, &judge.design(&encoder).log_odds(&beta));
            if best.as_ref().is_none_or(|(least, ..)| loss < *least) {
                best = Some((loss, penalty, beta));
            }
        }
        let (_, penalty, coefficients) =
            best.ok_or_else(|| lesson.refused("no penalty gave a finite loss"))?;
        let importance = importance(&encoder, &train.design(&encoder), &coefficients);
        let stored =
            Stored { format: FORMAT, encoder: encoder.to_json()?, penalty, coefficients, importance };
        Ok(Self { encoder, stored })
    }

    pub(super) fn load(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let refused = |why: String| Error::ModelFile { path: path.display().to_string(), why };
        let stored: Stored =
            serde_json::from_str(&read_text(&path)?).map_err(|error| refused(error.to_string()))?;
        if stored.format != FORMAT {
            return Err(refused(format!("its format is {}, this program knows {FORMAT}", stored.format)));
        }
        let encoder = TabularEncoder::from_json(&stored.encoder)?;
        let width = encoder.numbers() + encoder.indicators() + encoder.codes() + 1;
        if stored.coefficients.len() != width {
            let found = stored.coefficients.len();
            return Err(refused(format!("it has {found} coefficients for {width} inputs")));
        }
        Ok(Self { encoder, stored })
    }
}

fn weights(lesson: &Lesson<'_>, rows: &Rows) -> Vec<f64> {
    lesson.row_weights(rows).unwrap_or_else(|| vec![1.0; rows.labels.len()])
}

/// The weighted log-loss on the validation rows.
fn loss(lesson: &Lesson<'_>, odds: &[f64]) -> f64 {
    let rows = lesson.validation;
    let row_loss = |((eta, label), weight): ((&f64, &bool), f64)| {
        weight * (eta.max(0.0) - eta * f64::from(u8::from(*label)) + (-eta.abs()).exp().ln_1p())
    };
    odds.iter().zip(&rows.labels).zip(weights(lesson, rows)).map(row_loss).sum()
}

/// Each column's share of what moves the log-odds: the standard deviation of its part over the training rows.
fn importance(encoder: &TabularEncoder, rows: &Design<'_>, beta: &[f64]) -> Vec<(String, f64)> {
    let names = encoder.number_names().chain(encoder.indicator_names()).enumerate();
    let mut moved: std::collections::BTreeMap<String, f64> = std::collections::BTreeMap::new();
    for (at, name) in names {
        let part = (0..rows.rows).map(|row| beta[at] * rows.numbers[row * rows.dense + at]);
        *moved.entry(name.to_owned()).or_default() += deviation(part);
    }
    for (at, name) in encoder.category_names().enumerate() {
        let part = (0..rows.rows).map(|row| beta[rows.dense + rows.ones[row * rows.hot + at] as usize]);
        *moved.entry(name.to_owned()).or_default() += deviation(part);
    }
    let total: f64 = moved.values().sum::<f64>().max(f64::MIN_POSITIVE);
    let mut shares: Vec<(String, f64)> =
        moved.into_iter().map(|(name, moved)| (name, moved / total)).collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    shares
}

fn deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / count;
    (values.map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt()
}

impl Learned for Logistic {
    fn log_odds(&self, asked: Asked<'_>) -> Result<Vec<f64>, Error> {
        let encoded = Encoded::new(&self.encoder, asked.table)?;
        Ok(encoded.design(&self.encoder).log_odds(&self.stored.coefficients))
    }

    fn importance(&self) -> Vec<(String, f64)> {
        self.stored.importance.clone()
    }

    fn save(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join(FILE);
        let text = serde_json::to_vec(&self.stored)
            .map_err(|error| Error::ModelFile { path: path.display().to_string(), why: error.to_string() })?;
        frames::files::write_bytes(&path, &text)?;
        Ok(())
    }
}
