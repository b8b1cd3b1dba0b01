//! A classifier as a directory: `classifier.json`, `head.safetensors`, `backbone/`, and `adapter/` if it has one.

use std::path::Path;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use super::{Body, ClassifierRecipe, ClassifierRound, GptClassifier, Head};
use crate::error::check_format;
use crate::{Error, Gpt, LoraGpt, files};

const FORMAT: u32 = 1;
const WHAT: &str = "a GPT classifier";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    recipe: ClassifierRecipe,
    classes: usize,
    curve: Vec<ClassifierRound>,
}

#[derive(Deserialize)]
struct Numbered {
    format: u32,
}

impl GptClassifier {
    /// Writes the model into a directory. `classifier.json` comes last, so a directory with it is complete.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn save(&self, directory: &Path) -> Result<(), Error> {
        files::make_directory(directory)?;
        self.body.gpt().save(&directory.join("backbone"))?;
        if let Body::Adapted(adapted) = &self.body {
            adapted.save(&directory.join("adapter"))?;
        }
        files::write_tensors(&directory.join("head.safetensors"), &self.head.parameters.snapshot()?)?;
        let (recipe, curve) = (self.recipe.clone(), self.curve.clone());
        let stored = Stored { format: FORMAT, recipe, classes: self.classes, curve };
        files::write_json(&directory.join("classifier.json"), WHAT, &stored)
    }

    /// Reads what [`GptClassifier::save`] wrote.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Json`], [`Error::Format`] or [`Error::Weights`], as it is unreadable or unfit.
    pub fn load(directory: &Path, device: &Device) -> Result<Self, Error> {
        let path = directory.join("classifier.json");
        check_format(WHAT, files::read_json::<Numbered>(&path, WHAT)?.format, FORMAT)?;
        let Stored { recipe, classes, curve, .. } = files::read_json(&path, WHAT)?;
        recipe.check(classes)?;
        let gpt = Gpt::load(&directory.join("backbone"), device)?;
        let head = Head::new(&gpt, classes, recipe.seed)?;
        let weights = files::read_tensors(&directory.join("head.safetensors"), device)?;
        head.parameters.load(&weights)?;
        let mut body = match &recipe.lora {
            Some(_) => Body::Adapted(LoraGpt::load(gpt, &directory.join("adapter"))?),
            None => Body::Whole(gpt),
        };
        body.settle()?;
        Ok(Self { recipe, body, head, classes, curve })
    }
}
