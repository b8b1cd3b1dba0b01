//! The one path of every model: learn from the earliest rows, stop early by later ones, calibrate, and let still later ones
//! say whether the calibrator helps.

use std::ops::ControlFlow;

use domain::evaluation::CalibratorChoice;

use crate::Error;
use crate::calibrate::choose;
use crate::kinds::{Asked, Lesson, Step, learn};
use crate::model_file::Servable;
use crate::training_data::{Rows, TrainingData};

/// A model at the end of its path.
#[derive(Debug)]
pub(crate) struct Walked {
    /// The model, calibrated.
    pub(crate) servable: Servable,
    /// What became of its calibrator.
    pub(crate) choice: CalibratorChoice,
    /// Some of its steps.
    pub(crate) curve: Vec<Step>,
}

/// Rows by what they are for, each window later than the one before.
#[derive(Debug)]
pub(crate) struct Windows {
    /// To learn from.
    pub(crate) train: Rows,
    /// To stop early and to fit the calibrator.
    pub(crate) fitting: Rows,
    /// To say whether the calibrator helps.
    pub(crate) judging: Rows,
}

impl Rows {
    /// The rows as a question.
    pub(crate) fn asked(&self) -> Asked<'_> {
        Asked { table: &self.table, history: self.history.as_ref(), cutoffs: &self.cutoffs }
    }
}

/// Learns and calibrates.
pub(crate) fn walk(
    data: &TrainingData,
    windows: &Windows,
    on_step: &mut dyn FnMut(&Step) -> ControlFlow<()>,
) -> Result<Walked, Error> {
    let lesson = Lesson::new(&data.model, data.stream(), &windows.train, &windows.fitting)?;
    let lesson = lesson.on(&data.device).kept_in(&data.checkpoints);
    let mut curve = Vec::new();
    let learned = learn(&lesson, &mut |step| {
        let go_on = on_step(&step);
        if step.step % 10 == 0 || step.validation_loss.is_some() || step.step == step.steps {
            curve.push(step);
        }
        go_on
    })?;
    let fingerprint = data.manifest.schema_fingerprint.clone();
    let (dataset, shift) = (data.dataset.name.clone(), lesson.prior_shift());
    let mut servable = Servable::new(data.model.kind, dataset, fingerprint, (learned, shift));
    let raw = |rows: &Rows| servable.probabilities(rows.asked());
    let (calibrator, choice) = choose(
        data.model.calibrator,
        (&raw(&windows.fitting)?, &windows.fitting.labels),
        (&raw(&windows.judging)?, &windows.judging.labels),
    )?;
    servable.card.calibrator = calibrator;
    Ok(Walked { servable, choice, curve })
}
