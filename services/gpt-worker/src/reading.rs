//! What is kept of the histories that a GPT read, so that monitors see when histories come to be others than they were.
//!
//! Of each: how unexpected it was, one of its tokens, its vector as a few random features. The reference is what later rows than
//! the model learned from were like: of what it learned by heart, a model is never surprised.

use std::path::Path;

use domain::reading::{REFERENCE_FILE, SURPRISE, TOKEN, embedding};
use domain::tabular::History;
use frames::{Frame, Values};
use serde::{Deserialize, Serialize};
use statistics::Generator;
use statistics::drift::{FourierFeatures, median_distance};

use crate::Error;
use crate::model_file::Servable;
use crate::path::Windows;
use crate::training_data::{TrainingData, sample};

/// Features of a vector.
const FEATURES: usize = 8;

/// Histories in a reference, at most.
const REFERENCE_ROWS: usize = 5_000;

/// Random features of vectors, as they were drawn for a version.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sight {
    features: usize,
    /// The width of the kernel.
    sigma: f64,
    seed: u64,
}

/// What is kept of one history.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    surprise: f64,
    token: String,
    /// None if the model was trained before vectors were seen so.
    features: Vec<f64>,
}

impl Servable {
    /// Reads histories; `model` is the registered name, for the refusal.
    ///
    /// # Errors
    /// [`Error::NoGpt`], and what is wrong with the histories.
    pub(crate) fn readings(
        &self,
        model: &str,
        history: &History,
        cutoffs: &[i64],
    ) -> Result<Vec<Kept>, Error> {
        let readings = self.reader(model)?.readings(history, cutoffs)?;
        self.kept(&readings, cutoffs)
    }

    fn kept(&self, readings: &[gpt::Reading], cutoffs: &[i64]) -> Result<Vec<Kept>, Error> {
        let Some(reader) = self.learned.reader() else { return Ok(vec![]) };
        let Sight { features, sigma, seed } =
            self.card.sight.unwrap_or(Sight { features: 0, sigma: 1.0, seed: 0 });
        let seen = match features {
            0 => None,
            features => Some(FourierFeatures::new(reader.width(), features, sigma, seed)?),
        };
        let keep = |(row, (reading, cutoff)): (usize, (&gpt::Reading, &i64))| {
            let token = drawn(&reading.tokens, *cutoff, row);
            let named = || reader.tokenizer.meaning(token).map(|meaning| meaning.to_string());
            Kept {
                surprise: reading.surprise,
                token: named().unwrap_or_else(|| token.to_string()),
                features: seen.as_ref().map(|seen| seen.of(&reading.vector)).unwrap_or_default(),
            }
        };
        Ok(readings.iter().zip(cutoffs).enumerate().map(keep).collect())
    }
}

/// One of a history's tokens, each as likely: rows stay independent of each other, as tokens of one history are not. Moment and
/// row draw it, so that a replay draws the same.
fn drawn(tokens: &[u32], cutoff: i64, row: usize) -> u32 {
    let seed = cutoff.cast_unsigned() ^ (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    tokens.get(Generator::from_seed(seed).below(tokens.len())).copied().unwrap_or_default()
}

/// Features with what is kept of each row's history; null where nobody looked.
pub(crate) fn with_readings(mut rows: Frame, servable: &Servable, kept: &[Kept]) -> Frame {
    let count = rows.rows();
    let number = |of: &dyn Fn(&Kept) -> Option<f64>| {
        Values::Number((0..count).map(|row| kept.get(row).and_then(of).unwrap_or(f64::NAN)).collect())
    };
    let surprise = number(&|kept| Some(kept.surprise));
    let tokens = Values::text((0..count).map(|row| kept.get(row).map(|kept| kept.token.as_str())));
    let features = servable.card.sight.map_or(0, |sight| sight.features);
    let features: Vec<Values> =
        (0..features).map(|place| number(&|kept| kept.features.get(place).copied())).collect();
    rows.set(SURPRISE, surprise);
    rows.set(TOKEN, tokens);
    for (place, values) in features.into_iter().enumerate() {
        rows.set(embedding(place + 1), values);
    }
    rows
}

/// What a GPT made of the histories of later rows than it learned from.
pub(crate) struct Read {
    readings: Vec<gpt::Reading>,
    cutoffs: Vec<i64>,
}

impl Read {
    /// Reads them; `None` if the model has no GPT.
    pub(crate) fn later(
        data: &TrainingData,
        servable: &Servable,
        windows: &Windows,
    ) -> Result<Option<Self>, Error> {
        let Some(reader) = servable.learned.reader() else { return Ok(None) };
        let places = [windows.fitting.places.as_slice(), &windows.judging.places].concat();
        let rows = data.rows(sample(places, Some(REFERENCE_ROWS), data.model.seed));
        let Some(history) = &rows.history else { return Ok(None) };
        Ok(Some(Self { readings: reader.readings(history, &rows.cutoffs)?, cutoffs: rows.cutoffs }))
    }

    /// Random features whose kernel is as wide as the vectors lie apart.
    pub(crate) fn sight(&self, seed: u64) -> Sight {
        let vectors: Vec<Vec<f32>> = self.readings.iter().map(|reading| reading.vector.clone()).collect();
        Sight { features: FEATURES, sigma: median_distance(&vectors), seed }
    }

    /// Writes what is kept of them beside the reference.
    pub(crate) fn write(&self, servable: &Servable, folder: &Path) -> Result<(), Error> {
        let kept = servable.kept(&self.readings, &self.cutoffs)?;
        let cutoffs = vec![("cutoff".to_owned(), Values::Time(self.cutoffs.clone()))];
        let frame = with_readings(Frame::new(kept.len(), cutoffs), servable, &kept);
        frames::files::write_arrow(&folder.join(REFERENCE_FILE), &frame)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_of_a_history_is_drawn_as_often_and_a_replay_draws_the_same() {
        let tokens = [7, 8, 9, 7];
        let draws: Vec<u32> = (0..4_000).map(|row| drawn(&tokens, 1_380_000_000_000_000, row)).collect();
        let share = |token| draws.iter().filter(|drawn| **drawn == token).count() as f64 / 4_000.0;
        assert!((share(7) - 0.5).abs() < 0.03 && (share(8) - 0.25).abs() < 0.03, "{} {}", share(7), share(8));
        assert_eq!(drawn(&tokens, 5, 3), drawn(&tokens, 5, 3));
        assert_eq!(drawn(&[], 5, 3), 0);
    }
}
