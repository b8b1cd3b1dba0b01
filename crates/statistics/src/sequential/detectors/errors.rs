//! Detectors on a stream of errors (true) and hits (false) of a model.

use super::{Mean, Signal};

/// Observations before anything is said.
const WARM_UP: f64 = 30.0;

/// DDM: the error rate p with its deviation s against the least p + s seen; a warning at p + s > p₀ + 2s₀, drift at 3s₀.
///
/// ```
/// use statistics::sequential::detectors::{Ddm, Signal};
/// let mut ddm = Ddm::default();
/// let signals: Vec<Signal> = (0..400).map(|i| ddm.observe(if i < 200 { i % 10 == 0 } else { i % 2 == 0 })).collect();
/// assert!(signals[200..].contains(&Signal::Drift) && !signals[..200].contains(&Signal::Drift));
/// ```
/// # Source
/// Gama et al. (2004), "Learning with drift detection".
#[derive(Clone, Debug)]
pub struct Ddm {
    rate: Mean,
    least_rate: f64,
    least_deviation: f64,
}

impl Default for Ddm {
    fn default() -> Self {
        Self { rate: Mean::default(), least_rate: f64::INFINITY, least_deviation: 0.0 }
    }
}

impl Ddm {
    /// Takes an observation.
    pub fn observe(&mut self, error: bool) -> Signal {
        self.rate.add(f64::from(u8::from(error)));
        let rate = self.rate.value;
        let deviation = (rate * (1.0 - rate) / self.rate.count).max(0.0).sqrt();
        if self.rate.count <= WARM_UP {
            return Signal::Stable;
        }
        if rate + deviation <= self.least_rate + self.least_deviation {
            (self.least_rate, self.least_deviation) = (rate, deviation);
        }
        let above = |deviations: f64| rate + deviation > self.least_rate + deviations * self.least_deviation;
        if above(3.0) {
            *self = Self::default();
            return Signal::Drift;
        }
        if above(2.0) { Signal::Warning } else { Signal::Stable }
    }
}

/// EDDM: the distance between errors, mean + 2 deviations, against the greatest seen; a warning below 95 %, drift below 90 %.
///
/// Its false-alarm rate is high: it is here to be compared with.
/// # Source
/// Baena-García et al. (2006), "Early drift detection method".
#[derive(Clone, Debug)]
pub struct Eddm {
    seen: f64,
    last_error: f64,
    errors: f64,
    distance: Mean,
    squares: f64,
    greatest: f64,
    warns: bool,
}

impl Default for Eddm {
    fn default() -> Self {
        Self {
            seen: 0.0,
            last_error: 0.0,
            errors: 0.0,
            distance: Mean::default(),
            squares: 0.0,
            greatest: -1.0,
            warns: false,
        }
    }
}

impl Eddm {
    /// Takes an observation.
    pub fn observe(&mut self, error: bool) -> Signal {
        self.seen += 1.0;
        if error {
            self.errors += 1.0;
            self.note(self.seen - self.last_error);
            self.last_error = self.seen;
            if self.seen > WARM_UP && self.has_drifted() {
                *self = Self::default();
                return Signal::Drift;
            }
        }
        if self.warns { Signal::Warning } else { Signal::Stable }
    }

    /// Adds a distance to its mean and variance.
    fn note(&mut self, distance: f64) {
        let before = distance - self.distance.value;
        self.distance.add(distance);
        self.squares += before * (distance - self.distance.value);
    }

    fn has_drifted(&mut self) -> bool {
        let variance = if self.errors > 1.0 { self.squares / (self.errors - 1.0) } else { 0.0 };
        let reach = self.distance.value + 2.0 * variance.sqrt();
        if reach > self.greatest {
            self.greatest = reach;
            return false;
        }
        if self.errors <= WARM_UP {
            return false;
        }
        let level = reach / self.greatest;
        self.warns = (0.9..0.95).contains(&level);
        level < 0.9
    }
}
