//! What a model learns from: rows, the later rows that say when to stop, and the settings of its kind.

use domain::definitions::{EventStream, Model};
use domain::tabular::History;
use gpt::Device;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;
use crate::checkpoint::Checkpoints;
use crate::training_data::Rows;

/// What a model learns from. Rows of both outcomes are in it.
#[derive(Debug)]
pub(crate) struct Lesson<'a> {
    /// The model definition.
    pub(crate) model: &'a Model,
    /// How its histories become tokens.
    pub(crate) stream: Option<&'a EventStream>,
    /// The rows to learn from.
    pub(crate) train: &'a Rows,
    /// Later rows, which say when to stop.
    pub(crate) validation: &'a Rows,
    /// How much a row counts, by its outcome.
    pub(crate) class_weights: [f64; 2],
    /// What computes.
    pub(crate) device: Device,
    /// Where it is kept how far learning is.
    pub(crate) checkpoints: Option<&'a Checkpoints>,
}

/// Histories to learn from and to stop by, and how they become tokens.
pub(crate) struct Histories<'a> {
    pub(crate) stream: &'a EventStream,
    pub(crate) train: &'a History,
    pub(crate) validation: &'a History,
}

impl<'a> Lesson<'a> {
    /// A lesson on the processor, if there is something to learn.
    ///
    /// # Errors
    /// [`Error::OneClass`] if all rows of a window have the same outcome.
    pub(crate) fn new(
        model: &'a Model,
        stream: Option<&'a EventStream>,
        train: &'a Rows,
        validation: &'a Rows,
    ) -> Result<Self, Error> {
        let counts = both_outcomes("training", &train.labels)?;
        both_outcomes("validation", &validation.labels)?;
        let class_weights = model.class_weights.map_or([1.0; 2], |weights| weights.of(counts));
        Ok(Self { model, stream, train, validation, class_weights, device: Device::Cpu, checkpoints: None })
    }

    /// The same lesson, on a device.
    pub(crate) fn on(self, device: &Device) -> Self {
        Self { device: device.clone(), ..self }
    }

    /// The same lesson, which another try goes on with.
    pub(crate) fn kept_in(self, checkpoints: &'a Checkpoints) -> Self {
        Self { checkpoints: Some(checkpoints), ..self }
    }

    /// By how much the weights move the log-odds of what is learned: ln(w₁/w₀).
    ///
    /// # Source
    /// Elkan (2001), "The foundations of cost-sensitive learning", theorem 2.
    pub(crate) fn prior_shift(&self) -> f64 {
        (self.class_weights[1] / self.class_weights[0]).ln()
    }

    /// A weight a row, if rows do not count the same.
    pub(crate) fn row_weights(&self, rows: &Rows) -> Option<Vec<f64>> {
        let [without, with] = self.class_weights;
        (without != with)
            .then(|| rows.labels.iter().map(|label| if *label { with } else { without }).collect())
    }

    /// The histories of both windows.
    pub(crate) fn histories(&self) -> Result<Histories<'a>, Error> {
        match (self.stream, &self.train.history, &self.validation.history) {
            (Some(stream), Some(train), Some(validation)) => Ok(Histories { stream, train, validation }),
            _ => Err(Error::NoHistory(self.model.name.clone())),
        }
    }

    /// The recipe as the settings of a kind.
    ///
    /// # Errors
    /// [`Error::Recipe`] names the key.
    pub(crate) fn settings<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_path_to_error::deserialize(Value::Object(self.model.recipe.clone())).map_err(|error| {
            let path = error.path().to_string();
            let at = if path == "." { "recipe".to_owned() } else { format!("recipe.{path}") };
            self.refused(&format!("`{at}`: {}", error.inner()))
        })
    }

    /// A setting that cannot be.
    pub(crate) fn refused(&self, why: &str) -> Error {
        Error::Recipe { model: self.model.name.clone(), why: why.to_owned() }
    }
}

/// How many rows are without and with the outcome; refuses rows of one kind.
fn both_outcomes(window: &'static str, labels: &[bool]) -> Result<[usize; 2], Error> {
    let with = labels.iter().filter(|label| **label).count();
    match [labels.len() - with, with] {
        [0, _] | [_, 0] => Err(Error::OneClass { window, rows: labels.len(), outcome: with > 0 }),
        counts => Ok(counts),
    }
}
