//! Detectors whose bounds hold for every law on [0, 1].

use super::{Mean, Signal};
use crate::{Error, check};

/// The confidence of a drift, and of a warning.
const DRIFT: f64 = 0.001;
const WARNING: f64 = 0.005;

fn in_unit(x: f64) -> Result<(), Error> {
    check::inside(x, "a value", "in [0, 1]", (0.0..=1.0).contains(&x))
}

/// HDDM_A: the mean so far against the mean up to the best cut, by Hoeffding's bound. Looks for increases.
///
/// ```
/// use statistics::sequential::detectors::{HddmA, Signal};
/// let mut hddm = HddmA::default();
/// let drift = (0..400).find(|i| hddm.observe(f64::from(u8::from(*i > 200))).unwrap() == Signal::Drift);
/// assert!((200..230).contains(&drift.unwrap()));
/// ```
/// # Source
/// Frías-Blanco et al. (2015), "Online and non-parametric drift detection methods based on Hoeffding's bounds".
#[derive(Clone, Debug, Default)]
pub struct HddmA {
    all: Mean,
    cut: Mean,
}

impl HddmA {
    /// Takes a value in [0, 1].
    ///
    /// # Errors
    /// [`Error::OutOfDomain`].
    pub fn observe(&mut self, x: f64) -> Result<Signal, Error> {
        in_unit(x)?;
        self.all.add(x);
        let bound = |mean: &Mean| mean.value + (-DRIFT.ln() / (2.0 * mean.count)).sqrt();
        if self.cut.count == 0.0 || bound(&self.cut) >= bound(&self.all) {
            self.cut = self.all;
        }
        if self.rose(DRIFT) {
            *self = Self::default();
            return Ok(Signal::Drift);
        }
        Ok(if self.rose(WARNING) { Signal::Warning } else { Signal::Stable })
    }

    fn rose(&self, confidence: f64) -> bool {
        if self.cut.count == self.all.count {
            return false;
        }
        let share = (self.all.count - self.cut.count) / self.cut.count / self.all.count;
        self.all.value - self.cut.value >= (share / 2.0 * (2.0 / confidence).ln()).sqrt()
    }
}

/// The weight of the newest value in [`HddmW`].
const NEWEST: f64 = 0.05;

/// An exponentially weighted mean, and the sum of its squared weights.
#[derive(Clone, Copy, Debug)]
struct Weighted {
    value: Option<f64>,
    squares: f64,
}

impl Weighted {
    const EMPTY: Self = Self { value: None, squares: 1.0 };

    fn add(&mut self, x: f64) {
        self.value = Some(self.value.map_or(x, |value| NEWEST * x + (1.0 - NEWEST) * value));
        self.squares = NEWEST * NEWEST + (1.0 - NEWEST) * (1.0 - NEWEST) * self.squares;
    }
}

/// HDDM_W: exponentially weighted means before and after the best cut, by McDiarmid's bound. Looks for increases; the
/// quickest on sudden ones.
///
/// # Source
/// As [`HddmA`].
#[derive(Clone, Debug)]
pub struct HddmW {
    all: Weighted,
    before: Weighted,
    after: Weighted,
    cut: f64,
}

impl Default for HddmW {
    fn default() -> Self {
        Self { all: Weighted::EMPTY, before: Weighted::EMPTY, after: Weighted::EMPTY, cut: f64::INFINITY }
    }
}

impl HddmW {
    /// Takes a value in [0, 1].
    ///
    /// # Errors
    /// [`Error::OutOfDomain`].
    pub fn observe(&mut self, x: f64) -> Result<Signal, Error> {
        in_unit(x)?;
        self.all.add(x);
        let reach = self.all.value.unwrap_or(x) + bound(self.all.squares, DRIFT);
        if reach < self.cut {
            (self.cut, self.before, self.after) = (reach, self.all, Weighted::EMPTY);
        } else {
            self.after.add(x);
        }
        if self.rose(DRIFT) {
            *self = Self::default();
            return Ok(Signal::Drift);
        }
        Ok(if self.rose(WARNING) { Signal::Warning } else { Signal::Stable })
    }

    fn rose(&self, confidence: f64) -> bool {
        let (Some(before), Some(after)) = (self.before.value, self.after.value) else { return false };
        after - before > bound(self.before.squares + self.after.squares, confidence)
    }
}

fn bound(squares: f64, confidence: f64) -> f64 {
    (squares * -confidence.ln() / 2.0).sqrt()
}
