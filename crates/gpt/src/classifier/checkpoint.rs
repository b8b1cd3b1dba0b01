//! A training of a classifier as one file: weights, moments, the best weights so far, and how far it is.

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::train::{Best, DataShape};
use super::{ClassifierRecipe, ClassifierRound, ClassifierTraining};
use crate::error::check_format;
use crate::layers::Parameters;
use crate::{Error, Gpt, files};

const FORMAT: u32 = 1;
const WHAT: &str = "a checkpoint of a classifier";
/// What tells the tensors of a file apart.
const BODY: &str = "body.";
const HEAD: &str = "head.";
const BEST_BODY: &str = "best.body.";
const BEST_HEAD: &str = "best.head.";

/// The note in a checkpoint file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    format: u32,
    recipe: ClassifierRecipe,
    classes: usize,
    step: usize,
    sum: f64,
    curve: Vec<ClassifierRound>,
    data: Option<[DataShape; 2]>,
}

impl ClassifierTraining {
    /// Writes weights, moments and progress into one file, whole or not at all. A model that only adapters change is not in it.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let note = Note {
            format: FORMAT,
            recipe: self.model.recipe.clone(),
            classes: self.model.classes,
            step: self.step,
            sum: self.sum,
            curve: self.model.curve.clone(),
            data: self.data,
        };
        let note = serde_json::to_string(&note).map_err(|source| Error::Json { what: WHAT, source })?;
        let mut tensors = named(BODY, self.model.body.parameters().snapshot()?);
        tensors.extend(named(HEAD, self.model.head.parameters.snapshot()?));
        if let Some(Best { body, head }) = &self.best {
            tensors.extend(named(BEST_BODY, body.clone()));
            tensors.extend(named(BEST_HEAD, head.clone()));
        }
        tensors.extend(self.optimizer.state());
        files::write_tensors_with(path, &tensors, Some(note))
    }

    /// Goes on from a file written by [`ClassifierTraining::save`]. `gpt` is the model that the training began with; it stays as it
    /// is.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Json`], [`Error::Format`] or [`Error::Weights`], as it is unreadable or unfit.
    pub fn resume(gpt: &Gpt, path: &Path) -> Result<Self, Error> {
        let device = gpt.parameters().device();
        let (tensors, note) = files::read_tensors_with(path, device)?;
        let note: Note = serde_json::from_str(&note).map_err(|source| Error::Json { what: WHAT, source })?;
        check_format(WHAT, note.format, FORMAT)?;
        let begun = Gpt::with_kernels(gpt.config().clone(), 0, device, gpt.kernels())?;
        begun.parameters().load(&gpt.parameters().snapshot()?.into_iter().collect())?;

        let mut training = Self::new(begun, note.classes, note.recipe)?;
        training.optimizer.restore(&tensors, note.step)?;
        let (body, head) = (training.model.body.parameters(), &training.model.head.parameters);
        if note.curve.iter().any(|round| round.best) {
            let best = |prefix, own| stored(prefix, own, &tensors);
            training.best = Some(Best { body: best(BEST_BODY, body)?, head: best(BEST_HEAD, head)? });
        }
        body.load(&stored(BODY, body, &tensors)?.into_iter().collect())?;
        head.load(&stored(HEAD, head, &tensors)?.into_iter().collect())?;
        training.model.curve = note.curve;
        (training.step, training.sum, training.data) = (note.step, note.sum, note.data);
        Ok(training)
    }
}

fn named(prefix: &str, tensors: Vec<(String, Tensor)>) -> Vec<(String, Tensor)> {
    tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
}

/// The tensors of these parameters that a file holds under a prefix.
fn stored(
    prefix: &str,
    parameters: &Parameters,
    tensors: &HashMap<String, Tensor>,
) -> Result<Vec<(String, Tensor)>, Error> {
    let tensor = |name: &String| -> Result<_, Error> {
        let found = tensors.get(&format!("{prefix}{name}")).cloned();
        let missing =
            || Error::Weights { name: format!("{prefix}{name}"), reason: "they are missing".into() };
        Ok((name.clone(), found.ok_or_else(missing)?))
    };
    parameters.entries().iter().map(|(name, _)| tensor(name)).collect()
}
