//! Kind `gpt-classifier`: a pretrained GPT over the history alone, fine-tuned whole or by LoRA.

use std::path::Path;

use domain::definitions::ModelKind;
use gpt::classifier::ClassifierProgress;
use gpt::{ClassifierData, ClassifierRecipe, Device, EventTokenizer, GptClassifier, PretrainRecipe, Reader};
use serde::Deserialize;

use super::history::{GptSettings, Reading};
use super::{Asked, Learned, Lesson, OnStep, Step, read_text};
use crate::{Error, checkpoint};

const FOLDER: &str = "classifier";
const TOKENIZER: &str = "events.json";

/// The settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    gpt: GptSettings,
    pretrain: PretrainRecipe,
    classifier: ClassifierRecipe,
    /// At most this many histories to pretrain on.
    pretrain_rows: Option<usize>,
}

/// A GPT that tells the two outcomes apart.
#[derive(Debug)]
pub(super) struct Classifier {
    model: GptClassifier,
    tokenizer: EventTokenizer,
}

impl Classifier {
    pub(super) fn learn(lesson: &Lesson<'_>, on_step: OnStep<'_>) -> Result<Self, Error> {
        let Settings { gpt, pretrain, classifier, pretrain_rows } = lesson.settings()?;
        if classifier.class_weights.is_some() {
            let why = "`recipe.classifier.class_weights`: say `class_weights` of the model itself";
            return Err(lesson.refused(why));
        }
        let (histories, train, later) = (lesson.histories()?, lesson.train, lesson.validation);
        let backbone = Reading { gpt, pretrain, rows: pretrain_rows }.pretrained(lesson, on_step)?;
        let context = backbone.gpt.config().context;
        let sequences = backbone.tokenizer.encode_all(histories.train, &train.cutoffs, context)?;
        let judging = backbone.tokenizer.encode_all(histories.validation, &later.cutoffs, context)?;
        let classes = |labels: &[bool]| labels.iter().map(|label| u32::from(*label)).collect::<Vec<_>>();
        let (told, judged) = (classes(&train.labels), classes(&later.labels));
        let data = (
            ClassifierData { sequences: &sequences, classes: &told },
            ClassifierData { sequences: &judging, classes: &judged },
        );
        let class_weights = Some(lesson.class_weights.to_vec());
        let recipe = ClassifierRecipe { seed: lesson.model.seed, class_weights, ..classifier };
        let told = &mut |now: &ClassifierProgress| on_step(step(now));
        let model = checkpoint::fine_tune(backbone.gpt, (2, recipe), data, lesson.checkpoints, told)?;
        Ok(Self { model, tokenizer: backbone.tokenizer })
    }

    pub(super) fn load(folder: &Path, device: &Device) -> Result<Self, Error> {
        let model = GptClassifier::load(&folder.join(FOLDER), device)?;
        let tokenizer = EventTokenizer::from_json(&read_text(&folder.join(TOKENIZER))?)?;
        Ok(Self { model, tokenizer })
    }
}

fn step(now: &ClassifierProgress) -> Step {
    Step {
        stage: "classifier".to_owned(),
        step: now.step,
        steps: now.steps,
        loss: now.loss,
        validation_loss: now.round.map(|round| round.validation_loss),
    }
}

impl Learned for Classifier {
    fn log_odds(&self, asked: Asked<'_>) -> Result<Vec<f64>, Error> {
        let history = asked.history(ModelKind::GptClassifier)?;
        let context = self.model.gpt().config().context;
        let sequences = self.tokenizer.encode_all(history, asked.cutoffs, context)?;
        Ok(self.model.predict(&sequences)?.into_iter().map(|likely| likely[1] - likely[0]).collect())
    }

    fn reader(&self) -> Option<Reader<'_>> {
        Some(Reader { gpt: self.model.gpt(), tokenizer: &self.tokenizer })
    }

    fn save(&self, folder: &Path) -> Result<(), Error> {
        self.model.save(&folder.join(FOLDER))?;
        frames::files::write_bytes(&folder.join(TOKENIZER), self.tokenizer.to_json()?.as_bytes())?;
        Ok(())
    }
}
