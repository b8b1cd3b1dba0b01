//! Sets of labels that hold the true one with a stated probability, whatever the model.

use crate::{Error, check};

/// Which labels a row may well have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LabelSet {
    /// It may be an event.
    pub event: bool,
    /// It may be a non-event.
    pub other: bool,
}

/// The strangeness of a label under a forecast: one minus the probability it was given.
fn strangeness(p: f64, label: bool) -> f64 {
    if label { 1.0 - p } else { p }
}

/// Split conformal prediction for two classes: the set of labels whose strangeness is at most the ⌈(n+1)(1−α)⌉-th smallest
/// of n calibration rows.
///
/// Holds the true label with probability at least 1 − α if calibration and later rows are exchangeable.
/// # Source
/// Vovk, Gammerman & Shafer (2005), "Algorithmic learning in a random world".
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SplitConformal {
    /// Labels at most this strange are in the set; ∞ if there are too few rows to exclude any.
    pub threshold: f64,
}

impl SplitConformal {
    /// Learns the threshold from rows that the model did not learn from.
    ///
    /// ```
    /// let p: Vec<f64> = (0..99).map(|i| f64::from(i) / 99.0).collect();
    /// let found = statistics::conformal::SplitConformal::fit(&p, &vec![true; 99], 0.1).unwrap();
    /// assert!((found.threshold - (1.0 - 9.0 / 99.0)).abs() < 1e-12); // the 90th smallest
    /// ```
    /// # Errors
    /// Those of [`crate::scoring::log_loss`]; [`Error::OutOfDomain`] unless 0 < α < 1.
    pub fn fit(probabilities: &[f64], labels: &[bool], alpha: f64) -> Result<Self, Error> {
        check::forecasts(probabilities, labels)?;
        check::inside(alpha, "alpha", "in (0, 1)", alpha > 0.0 && alpha < 1.0)?;
        let mut strange: Vec<f64> =
            probabilities.iter().zip(labels).map(|(&p, &label)| strangeness(p, label)).collect();
        strange.sort_unstable_by(f64::total_cmp);
        let rank = ((strange.len() as f64 + 1.0) * (1.0 - alpha) - 1e-9).ceil() as usize;
        Ok(Self { threshold: strange.get(rank.max(1) - 1).copied().unwrap_or(f64::INFINITY) })
    }

    /// The labels that a row with this forecast may well have; `p` beyond [0, 1] counts as the nearer end.
    pub fn labels(&self, p: f64) -> LabelSet {
        let p = p.clamp(0.0, 1.0);
        LabelSet {
            event: strangeness(p, true) <= self.threshold,
            other: strangeness(p, false) <= self.threshold,
        }
    }
}

/// Adaptive conformal inference: the level follows the misses, so that the long-run share of misses is α whatever the
/// stream does.
///
/// αₜ₊₁ = αₜ + γ(α − missₜ); the set at αₜ comes from the calibration rows' quantile. αₜ may leave [0, 1]: below 0 the set
/// is everything, above 1 nothing.
/// # Source
/// Gibbs & Candès (2021), "Adaptive conformal inference under distribution shift".
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AdaptiveConformal {
    target: f64,
    step: f64,
    level: f64,
    /// Strangeness of the calibration rows, ascending.
    strange: Vec<f64>,
}

impl AdaptiveConformal {
    /// Begins at level α with step γ (0.005 is usual).
    ///
    /// ```
    /// let p: Vec<f64> = (0..100).map(|i| f64::from(i % 50) / 50.0).collect();
    /// let labels: Vec<bool> = (0..100).map(|i| i % 50 >= 25).collect();
    /// let mut adaptive = statistics::conformal::AdaptiveConformal::new(&p, &labels, 0.1, 0.01).unwrap();
    /// let misses = (0..2_000).filter(|i| adaptive.observe(0.5, i % 2 == 0)).count();
    /// assert!((misses as f64 / 2_000.0 - 0.1).abs() < 0.06);
    /// ```
    /// # Errors
    /// Those of [`SplitConformal::fit`]; [`Error::OutOfDomain`] unless γ > 0.
    pub fn new(probabilities: &[f64], labels: &[bool], alpha: f64, step: f64) -> Result<Self, Error> {
        check::forecasts(probabilities, labels)?;
        check::inside(alpha, "alpha", "in (0, 1)", alpha > 0.0 && alpha < 1.0)?;
        check::inside(step, "a step", "positive", step > 0.0 && step.is_finite())?;
        let mut strange: Vec<f64> =
            probabilities.iter().zip(labels).map(|(&p, &label)| strangeness(p, label)).collect();
        strange.sort_unstable_by(f64::total_cmp);
        Ok(Self { target: alpha, step, level: alpha, strange })
    }

    /// The level at work.
    pub fn level(&self) -> f64 {
        self.level
    }

    /// The labels that a row with this forecast may well have.
    pub fn labels(&self, p: f64) -> LabelSet {
        let p = p.clamp(0.0, 1.0);
        let may = |label| self.p_value(strangeness(p, label)) > self.level;
        LabelSet { event: may(true), other: may(false) }
    }

    /// The share of calibration rows, this one included, that are at least as strange.
    fn p_value(&self, strange: f64) -> f64 {
        let below = self.strange.partition_point(|seen| *seen < strange);
        (self.strange.len() - below + 1) as f64 / (self.strange.len() + 1) as f64
    }

    /// Takes a row's label; answers whether its set missed it, and adapts.
    pub fn observe(&mut self, p: f64, label: bool) -> bool {
        let set = self.labels(p);
        let missed = !(if label { set.event } else { set.other });
        self.level += self.step * (self.target - f64::from(u8::from(missed)));
        missed
    }
}
