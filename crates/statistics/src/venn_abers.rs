//! Venn–Abers predictors: probabilities with a guarantee, at the price of being two.

use crate::{Error, check};

/// The two probabilities of one score: one of them is calibrated, whichever label comes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Multiprobability {
    /// The probability if the row were a non-event.
    pub low: f64,
    /// The probability if it were an event.
    pub high: f64,
}

impl Multiprobability {
    /// The one probability of least worst-case log-loss: high/(1 − low + high).
    ///
    /// ```
    /// let both = statistics::Multiprobability { low: 0.2, high: 0.3 };
    /// assert!((both.merged() - 0.3 / 1.1).abs() < 1e-15);
    /// ```
    pub fn merged(&self) -> f64 {
        self.high / (1.0 - self.low + self.high)
    }
}

/// An inductive Venn–Abers predictor: isotonic regression of the calibration rows and the row itself, once with each label.
///
/// # Source
/// Vovk, Petej & Fedorova (2015), "Large-scale probabilistic predictors with and without guarantees of validity".
#[derive(Clone, Debug, PartialEq)]
pub struct VennAbers {
    /// Distinct scores, ascending, each with its rows and events.
    levels: Vec<(f64, f64, f64)>,
}

impl VennAbers {
    /// Keeps the calibration rows, which the model must not have learned from.
    ///
    /// ```
    /// let scores: Vec<f64> = (0..100).map(|i| f64::from(i) / 100.0).collect();
    /// let labels: Vec<bool> = (0..100).map(|i| i >= 50).collect();
    /// let found = statistics::VennAbers::fit(&scores, &labels).unwrap().predict(0.9).unwrap();
    /// assert!(found.low > 0.9 && found.high == 1.0);
    /// ```
    /// # Errors
    /// [`Error::LengthMismatch`]; [`Error::TooFew`] without a row; [`Error::OutOfDomain`] for NaN.
    pub fn fit(scores: &[f64], labels: &[bool]) -> Result<Self, Error> {
        check::same_length(scores.len(), labels.len())?;
        check::at_least(1, scores.len(), "rows")?;
        check::no_nan(scores, "scores")?;
        let mut rows: Vec<(f64, bool)> = scores.iter().copied().zip(labels.iter().copied()).collect();
        rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let levels = rows.chunk_by(|a, b| a.0 == b.0).map(|tie| {
            let events = tie.iter().filter(|row| row.1).count();
            (tie[0].0, tie.len() as f64, events as f64)
        });
        Ok(Self { levels: levels.collect() })
    }

    /// The two probabilities of a score. O(distinct scores).
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] for NaN.
    pub fn predict(&self, score: f64) -> Result<Multiprobability, Error> {
        check::no_nan(&[score], "a score")?;
        Ok(Multiprobability { low: self.fitted(score, 0.0), high: self.fitted(score, 1.0) })
    }

    /// The isotonic fit at `score`, were it a row with that label: max over lower ends of min over upper ends of the mean.
    fn fitted(&self, score: f64, label: f64) -> f64 {
        let below = self.levels.partition_point(|level| level.0 < score);
        let same = self.levels.get(below).filter(|level| level.0 == score);
        let own = same.map_or((1.0, label), |level| (level.1 + 1.0, level.2 + label));
        let above = below + usize::from(same.is_some());
        // The block of the row in the pooled fit: left neighbours join while their mean is not below, right ones likewise.
        let left = pooled(self.levels[..below].iter());
        let right = pooled_from_above(self.levels[above..].iter());
        merge(left, own, right)
    }
}

/// Blocks of rising means, by pooling adjacent violators: (rows, events).
fn pooled<'a>(levels: impl Iterator<Item = &'a (f64, f64, f64)>) -> Vec<(f64, f64)> {
    let mut blocks: Vec<(f64, f64)> = Vec::new();
    for &(_, rows, events) in levels {
        blocks.push((rows, events));
        while let [.., before, last] = blocks.as_mut_slice() {
            if last.1 * before.0 > before.1 * last.0 {
                break;
            }
            *before = (before.0 + last.0, before.1 + last.1);
            blocks.pop();
        }
    }
    blocks
}

/// The same blocks, the lowest last.
fn pooled_from_above<'a>(levels: impl Iterator<Item = &'a (f64, f64, f64)>) -> Vec<(f64, f64)> {
    let mut blocks = pooled(levels);
    blocks.reverse();
    blocks
}

/// The mean of the block that the row ends up in.
fn merge(mut left: Vec<(f64, f64)>, own: (f64, f64), mut right: Vec<(f64, f64)>) -> f64 {
    let mut block = own;
    loop {
        let joins_left = left.last().is_some_and(|other| other.1 * block.0 >= block.1 * other.0);
        let joins_right = right.last().is_some_and(|other| other.1 * block.0 <= block.1 * other.0);
        let other = match (joins_left, joins_right) {
            (true, _) => left.pop(),
            (false, true) => right.pop(),
            (false, false) => None,
        };
        match other {
            Some(other) => block = (block.0 + other.0, block.1 + other.1),
            None => return block.1 / block.0,
        }
    }
}
