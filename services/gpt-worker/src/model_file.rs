//! A model as files: what it is, how it answers, how it is calibrated, and the hash of each file. Format 2.
//!
//! Format 1 had neither hashes nor class weights; it is still read.

use std::collections::BTreeMap;
use std::path::Path;

use domain::definitions::ModelKind;
use gpt::Device;
use serde::{Deserialize, Serialize};
use statistics::calibrators::{Calibrator, sigmoid};

use crate::Error;
use crate::kinds::{Asked, Learned, load};
use crate::reading::Sight;

const FORMAT: u32 = 2;
/// The file that says what a model is; a folder with it holds a whole model.
pub(crate) const FILE: &str = "model.json";

/// What a model is, beside its weights.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Card {
    format: u32,
    /// How it learned.
    pub(crate) kind: ModelKind,
    /// The dataset whose features it reads.
    pub(crate) dataset: String,
    /// Hash of the features' names and types.
    pub(crate) schema_fingerprint: String,
    /// What class weights added to its log-odds.
    #[serde(default)]
    prior_shift: f64,
    /// What is done to its probabilities.
    pub(crate) calibrator: Calibrator,
    /// How monitors see the vectors of its GPT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sight: Option<Sight>,
    /// The SHA-256 of each of its files, by path.
    #[serde(default)]
    files: BTreeMap<String, String>,
}

/// A model that can answer.
#[derive(Debug)]
pub(crate) struct Servable {
    pub(crate) card: Card,
    pub(crate) learned: Box<dyn Learned>,
}

impl Servable {
    /// A model that is not calibrated yet.
    pub(crate) fn new(
        kind: ModelKind,
        dataset: String,
        schema_fingerprint: String,
        (learned, prior_shift): (Box<dyn Learned>, f64),
    ) -> Self {
        let files = BTreeMap::new();
        let calibrator = Calibrator::Identity;
        let (format, sight) = (FORMAT, None);
        let card = Card { format, kind, dataset, schema_fingerprint, prior_shift, calibrator, sight, files };
        Self { card, learned }
    }

    /// Calibrated probabilities of each row.
    pub(crate) fn probabilities(&self, asked: Asked<'_>) -> Result<Vec<f64>, Error> {
        let odds = self.learned.log_odds(asked)?;
        let said = |odds: f64| self.card.calibrator.apply(sigmoid(odds - self.card.prior_shift));
        Ok(odds.into_iter().map(said).collect())
    }

    /// The GPT inside; `model` is its registered name, for the refusal.
    ///
    /// # Errors
    /// [`Error::NoGpt`].
    pub(crate) fn reader(&self, model: &str) -> Result<gpt::Reader<'_>, Error> {
        let none = || Error::NoGpt { model: model.to_owned(), kind: self.card.kind };
        self.learned.reader().ok_or_else(none)
    }

    /// Refuses features that are not those it was trained on.
    ///
    /// # Errors
    /// [`Error::Schema`].
    pub(crate) fn check_schema(&self, now: &str) -> Result<(), Error> {
        let Card { dataset, schema_fingerprint: trained, .. } = &self.card;
        if trained == now {
            return Ok(());
        }
        let short = |hash: &str| hash.chars().take(12).collect();
        Err(Error::Schema { dataset: dataset.clone(), trained: short(trained), now: short(now) })
    }

    /// Writes the model into `folder`; the card comes last, so that a folder with a card is whole.
    pub(crate) fn save(&mut self, folder: &Path) -> Result<(), Error> {
        std::fs::create_dir_all(folder).map_err(|error| unreadable(folder, &error))?;
        self.learned.save(folder)?;
        self.card.files.clear();
        for path in files_below(folder, "")?.into_iter().filter(|path| path != FILE) {
            let sha256 = frames::files::sha256(&folder.join(&path))?;
            self.card.files.insert(path, sha256);
        }
        let text = serde_json::to_vec_pretty(&self.card).map_err(|error| unreadable(folder, &error))?;
        frames::files::write_bytes(&folder.join(FILE), &text)?;
        Ok(())
    }

    /// Reads the model in `folder`, to answer on a device, after the hashes of its files were checked.
    pub(crate) fn load(folder: &Path, device: &Device) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let text = std::fs::read(&path).map_err(|error| unreadable(&path, &error))?;
        let card: Card = serde_json::from_slice(&text).map_err(|error| unreadable(&path, &error))?;
        if !(1..=FORMAT).contains(&card.format) {
            let why = format!("its format is {}, this program knows 1 to {FORMAT}", card.format);
            return Err(Error::ModelFile { path: path.display().to_string(), why });
        }
        for (name, sha256) in &card.files {
            frames::files::verify(&folder.join(name), sha256)?;
        }
        let learned = load(card.kind, folder, device)?;
        Ok(Self { card, learned })
    }
}

/// The files of a folder and of those in it, relative to it, by name.
fn files_below(folder: &Path, within: &str) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder.join(within)).map_err(|error| unreadable(folder, &error))? {
        let entry = entry.map_err(|error| unreadable(folder, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if within.is_empty() { name } else { format!("{within}/{name}") };
        if entry.path().is_dir() {
            found.extend(files_below(folder, &path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn unreadable(path: &Path, cause: &dyn std::fmt::Display) -> Error {
    Error::ModelFile { path: path.display().to_string(), why: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use serde_json::json;

    use super::*;
    use crate::kinds::synthetic::{Planted, model, stream};
    use crate::kinds::{Lesson, learn};

    #[test]
    fn a_model_comes_back_as_it_was_and_an_altered_or_newer_one_is_refused() {
        let (train, later) = (Planted::default().rows(0, 400, 1), Planted::default().rows(400, 200, 2));
        let (model, stream) = (model(ModelKind::Logistic, json!({})), stream());
        let lesson = Lesson::new(&model, Some(&stream), &train, &later).unwrap();
        let learned = learn(&lesson, &mut |_| ControlFlow::Continue(())).unwrap();
        let mut servable = Servable::new(model.kind, "planted".into(), "abc".into(), (learned, 0.5));
        servable.card.calibrator = Calibrator::Temperature { temperature: 1.25 };
        let folder = tempfile::tempdir().unwrap();
        servable.save(folder.path()).unwrap();
        let asked = Asked { table: &later.table, history: None, cutoffs: &later.cutoffs };
        let said = servable.probabilities(asked).unwrap();
        assert_eq!(Servable::load(folder.path(), &Device::Cpu).unwrap().probabilities(asked).unwrap(), said);
        assert!(servable.check_schema("abc").is_ok());
        let refusal = servable.check_schema("abd").unwrap_err().to_string();
        assert!(refusal.contains("dataset `planted`") && refusal.contains("train it anew"), "{refusal}");

        let card = folder.path().join(FILE);
        let text = std::fs::read_to_string(&card).unwrap();
        std::fs::write(&card, text.replace("\"format\": 2", "\"format\": 9")).unwrap();
        assert!(Servable::load(folder.path(), &Device::Cpu).unwrap_err().to_string().contains("format is 9"));
        std::fs::write(&card, &text).unwrap();
        let weights = folder.path().join("logistic.json");
        let altered = std::fs::read_to_string(&weights).unwrap().replace("\"penalty\":", "\"penalty\": ");
        std::fs::write(&weights, altered).unwrap();
        assert!(matches!(
            Servable::load(folder.path(), &Device::Cpu),
            Err(Error::Frames(frames::Error::Altered { .. }))
        ));
    }
}
