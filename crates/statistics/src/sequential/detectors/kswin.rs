//! A sliding window under a two-sample test.

use std::collections::VecDeque;

use super::Signal;
use crate::drift::ks;
use crate::{Error, Generator, check};

/// A gap of the distribution functions that is never called drift, however sure.
const LEAST_GAP: f64 = 0.1;

/// KSWIN: the newest `recent` values of a window against as many drawn from the older ones, by Kolmogorov–Smirnov.
///
/// Sees any change of the law, not only of its mean; looks at every value without correcting for that, so the false-alarm
/// rate is well above α per window.
/// # Source
/// Raab, Heusinger & Schleif (2020), "Reactive soft prototype computing for concept drift streams".
#[derive(Clone, Debug)]
pub struct Kswin {
    alpha: f64,
    window: usize,
    recent: usize,
    values: VecDeque<f64>,
}

impl Kswin {
    /// A detector at level α over `window` values, of which the newest `recent` are compared (usual: 0.005, 100, 30).
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] unless 0 < α < 1; [`Error::TooFew`] unless the window is at least twice `recent`, and that 2.
    pub fn new(alpha: f64, window: usize, recent: usize) -> Result<Self, Error> {
        check::inside(alpha, "alpha", "in (0, 1)", alpha > 0.0 && alpha < 1.0)?;
        check::at_least(2, recent, "recent values")?;
        check::at_least(2 * recent, window, "values in the window")?;
        Ok(Self { alpha, window, recent, values: VecDeque::with_capacity(window) })
    }

    /// Takes a value. After [`Signal::Drift`] the window is empty.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] for a value that is not finite.
    pub fn observe(&mut self, x: f64, generator: &mut Generator) -> Result<Signal, Error> {
        check::finite(&[x], "values")?;
        if self.values.len() == self.window {
            self.values.pop_front();
        }
        self.values.push_back(x);
        if self.values.len() < self.window {
            return Ok(Signal::Stable);
        }
        let values = self.values.make_contiguous();
        let (older, newest) = values.split_at(self.window - self.recent);
        let found = ks(&drawn(older, self.recent, generator), newest)?;
        if found.p_value() > self.alpha || found.distance <= LEAST_GAP {
            return Ok(Signal::Stable);
        }
        self.values.clear();
        Ok(Signal::Drift)
    }
}

/// `count` of the values without repetition.
fn drawn(values: &[f64], count: usize, generator: &mut Generator) -> Vec<f64> {
    let mut left = values.to_vec();
    for place in 0..count.min(left.len()) {
        let other = place + generator.below(left.len() - place);
        left.swap(place, other);
    }
    left.truncate(count);
    left
}
