//! The kinds of model behind one interface: learn from rows, answer with log-odds, read histories if there is a GPT inside.
//!
//! Belongs here: what a kind's settings are, and how it learns and is kept. Not here: when (`train`), calibration
//! (`calibrate`), serving (`serving`). A kind is one module; [`learn`] and [`load`] are the only places that list them.

mod dcn;
mod gpt_classifier;
mod history;
mod joint_fusion;
mod late_fusion;
mod lesson;
mod logistic;
#[cfg(test)]
pub(crate) mod synthetic;
#[cfg(test)]
mod tests;
mod trees;
#[cfg(test)]
mod truth;

use std::ops::ControlFlow;
use std::path::Path;

use domain::definitions::ModelKind;
use domain::tabular::{History, Table};
use gpt::{Device, Reader};
pub(crate) use lesson::Lesson;
use serde::Serialize;

use crate::Error;

/// One step of a training, for progress bars and curves.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    /// Which part is learning: `pretrain`, `classifier`, `tabular` or `joint`.
    pub(crate) stage: String,
    /// Steps done.
    pub(crate) step: usize,
    /// Steps in all.
    pub(crate) steps: usize,
    /// Loss of this step, in nats.
    pub(crate) loss: f64,
    /// Validation loss, where one was computed.
    pub(crate) validation_loss: Option<f64>,
}

/// Tells how far training is; `Break` asks it to end.
pub(crate) type OnStep<'a> = &'a mut dyn FnMut(Step) -> ControlFlow<()>;

/// Rows that a model is asked about: row i of each belongs together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The columns.
    pub(crate) table: &'a Table,
    /// The past events, if the dataset has them.
    pub(crate) history: Option<&'a History>,
    /// The moment of each row's prediction, in microseconds.
    pub(crate) cutoffs: &'a [i64],
}

impl<'a> Asked<'a> {
    fn history(&self, kind: ModelKind) -> Result<&'a History, Error> {
        self.history.ok_or_else(|| Error::NoHistory(kind.to_string()))
    }
}

/// A trained model, before calibration.
pub(crate) trait Learned: std::fmt::Debug + Send + Sync {
    /// The log-odds of each row, as learned: class weights are not taken out yet.
    fn log_odds(&self, asked: Asked<'_>) -> Result<Vec<f64>, Error>;

    /// How much each input mattered, most first, if the kind can say.
    fn importance(&self) -> Vec<(String, f64)> {
        vec![]
    }

    /// The GPT inside, if there is one.
    fn reader(&self) -> Option<Reader<'_>> {
        None
    }

    /// Writes the model into `folder`, which exists. Equal models write equal bytes.
    fn save(&self, folder: &Path) -> Result<(), Error>;
}

/// Learns as the model definition says.
///
/// # Errors
/// [`Error::Cancelled`] if `on_step` breaks: what has learned a part of its lesson is no model. What is wrong with the lesson.
pub(crate) fn learn(lesson: &Lesson<'_>, on_step: OnStep<'_>) -> Result<Box<dyn Learned>, Error> {
    let mut ended = false;
    let learned = learn_kind(lesson, &mut |step| {
        let go_on = on_step(step);
        ended |= go_on.is_break();
        go_on
    });
    if ended { Err(Error::Cancelled) } else { learned }
}

fn learn_kind(lesson: &Lesson<'_>, on_step: OnStep<'_>) -> Result<Box<dyn Learned>, Error> {
    Ok(match lesson.model.kind {
        ModelKind::Logistic => Box::new(logistic::Logistic::learn(lesson)?),
        ModelKind::Boosting => Box::new(trees::Trees::learn(lesson)?),
        ModelKind::Dcn => Box::new(dcn::Dcn::learn(lesson, on_step)?),
        ModelKind::GptClassifier => Box::new(gpt_classifier::Classifier::learn(lesson, on_step)?),
        ModelKind::LateFusion => Box::new(late_fusion::LateFusion::learn(lesson, on_step)?),
        ModelKind::JointFusion => Box::new(joint_fusion::Fusion::learn(lesson, on_step)?),
    })
}

/// Reads a model of that kind from `folder`, to answer on a device.
pub(crate) fn load(kind: ModelKind, folder: &Path, device: &Device) -> Result<Box<dyn Learned>, Error> {
    Ok(match kind {
        ModelKind::Logistic => Box::new(logistic::Logistic::load(folder)?),
        ModelKind::Boosting => Box::new(trees::Trees::load(folder)?),
        ModelKind::Dcn => Box::new(dcn::Dcn::load(folder, device)?),
        ModelKind::GptClassifier => Box::new(gpt_classifier::Classifier::load(folder, device)?),
        ModelKind::LateFusion => Box::new(late_fusion::LateFusion::load(folder, device)?),
        ModelKind::JointFusion => Box::new(joint_fusion::Fusion::load(folder, device)?),
    })
}

/// Reads a text of a model's folder.
fn read_text(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path)
        .map_err(|error| Error::ModelFile { path: path.display().to_string(), why: error.to_string() })
}
