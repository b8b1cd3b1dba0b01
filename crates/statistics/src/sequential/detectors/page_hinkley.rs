//! Page's test of a mean that moves.

use super::{Mean, Signal};
use crate::sequential::Direction;
use crate::{Error, check};

/// Page–Hinkley: sums the deviations from the running mean, less a tolerance δ, and compares with the sum's extreme.
///
/// up = α·up + (x − x̄ − δ), alarm if up − min(up) > λ; down = α·down + (x − x̄ + δ), alarm if max(down) − down > λ. δ and λ
/// are in the unit of the values.
/// # Source
/// Page (1954), "Continuous inspection schemes"; the forgetting factor and the start of max(down) at −1 are river's.
#[derive(Clone, Debug)]
pub struct PageHinkley {
    delta: f64,
    threshold: f64,
    forgetting: f64,
    direction: Direction,
    state: State,
}

#[derive(Clone, Copy, Debug)]
struct State {
    mean: Mean,
    up: f64,
    down: f64,
    lowest: f64,
    highest: f64,
}

impl State {
    const START: Self = Self {
        mean: Mean { count: 0.0, value: 0.0 },
        up: 0.0,
        down: 0.0,
        lowest: f64::INFINITY,
        highest: -1.0,
    };
}

/// Values before the first alarm.
const WARM_UP: f64 = 30.0;

impl PageHinkley {
    /// A detector with tolerance δ, threshold λ and forgetting factor α (usual: 0.005, 50, 0.9999).
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] unless δ ≥ 0, λ > 0 and 0 < α ≤ 1.
    pub fn new(delta: f64, threshold: f64, forgetting: f64, direction: Direction) -> Result<Self, Error> {
        check::inside(delta, "delta", "at least 0", delta >= 0.0 && delta.is_finite())?;
        check::inside(threshold, "threshold", "positive", threshold > 0.0 && threshold.is_finite())?;
        check::inside(forgetting, "forgetting", "in (0, 1]", forgetting > 0.0 && forgetting <= 1.0)?;
        Ok(Self { delta, threshold, forgetting, direction, state: State::START })
    }

    /// Takes a value.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] for a value that is not finite.
    pub fn observe(&mut self, x: f64) -> Result<Signal, Error> {
        check::finite(&[x], "values")?;
        let state = &mut self.state;
        state.mean.add(x);
        let deviation = x - state.mean.value;
        state.up = self.forgetting * state.up + deviation - self.delta;
        state.down = self.forgetting * state.down + deviation + self.delta;
        state.lowest = state.lowest.min(state.up);
        state.highest = state.highest.max(state.down);
        let rises = state.up - state.lowest > self.threshold && self.direction != Direction::Fall;
        let falls = state.highest - state.down > self.threshold && self.direction != Direction::Rise;
        if state.mean.count < WARM_UP || !(rises || falls) {
            return Ok(Signal::Stable);
        }
        self.state = State::START;
        Ok(Signal::Drift)
    }
}
