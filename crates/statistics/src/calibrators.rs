//! Maps from a model's probability to one that means what it says, fitted on rows later than the training.
//!
//! Not here: how to tell whether one is needed ([`crate::calibration`]).

use crate::logistic::{CLIP, Problem};
use crate::{Error, check};

pub use crate::logistic::{logit, sigmoid};

/// The kinds of map that can be fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Leave the probabilities alone.
    Identity,
    /// A line on the log-odds.
    Platt,
    /// Any non-decreasing function.
    Isotonic,
    /// One factor on the log-odds.
    Temperature,
    /// A line on ln p and ln(1−p).
    Beta,
}

/// A fitted map; every variant takes [0, 1] into [0, 1], non-decreasing (Platt only if `slope ≥ 0`).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Calibrator {
    /// p ↦ p.
    Identity,
    /// p ↦ σ(slope·logit p + intercept).
    Platt {
        /// The factor on the log-odds.
        slope: f64,
        /// What is added to them.
        intercept: f64,
    },
    /// Straight lines between the points, level outside them.
    Isotonic {
        /// (forecast, calibrated probability), rising.
        points: Vec<(f64, f64)>,
    },
    /// p ↦ σ(logit p / temperature).
    Temperature {
        /// Above 1 makes forecasts less extreme.
        temperature: f64,
    },
    /// p ↦ σ(a·ln p − b·ln(1−p) + c), a, b ≥ 0.
    Beta {
        /// The factor on ln p.
        a: f64,
        /// The factor on −ln(1−p).
        b: f64,
        /// What is added.
        c: f64,
    },
}

impl Calibrator {
    /// Fits a map on forecasts and what happened; logits are taken of p clipped to [10⁻⁶, 1−10⁻⁶].
    ///
    /// Platt regresses on the smoothed targets (N₊+1)/(N₊+2) and 1/(N₋+2); isotonic is least squares by
    /// pooling adjacent violators; temperature (at most 1,000) and beta are maximum likelihood, beta without a
    /// term whose factor would be negative.
    /// ```
    /// use statistics::calibrators::{Calibrator, Method};
    /// let fitted = Calibrator::fit(Method::Isotonic, &[0.1, 0.2, 0.3], &[false, true, false]).unwrap();
    /// assert_eq!(fitted.apply(0.1), 0.0);
    /// assert_eq!(fitted.apply(0.25), 0.5); // 0.2 and 0.3 were in the wrong order and are pooled
    /// ```
    /// # Errors
    /// Those of [`crate::scoring::log_loss`]. Platt, temperature and beta: [`Error::Constant`] if all forecasts
    /// are equal (temperature: ½). Temperature and beta: [`Error::OneClass`], [`Error::Separated`].
    /// # Source
    /// Platt (1999); Ayer et al. (1955); Guo et al. (2017); Kull, Silva Filho & Flach (2017).
    pub fn fit(method: Method, probabilities: &[f64], labels: &[bool]) -> Result<Self, Error> {
        check::forecasts(probabilities, labels)?;
        match method {
            Method::Identity => Ok(Self::Identity),
            Method::Platt => platt(probabilities, labels),
            Method::Isotonic => Ok(Self::Isotonic { points: isotonic(probabilities, labels) }),
            Method::Temperature => temperature(probabilities, labels),
            Method::Beta => beta(probabilities, labels),
        }
    }

    /// The calibrated probability; `p` beyond [0, 1] counts as the nearer end, NaN (missing) stays NaN.
    pub fn apply(&self, p: f64) -> f64 {
        let p = p.clamp(0.0, 1.0);
        match self {
            Self::Identity => p,
            Self::Platt { slope, intercept } => sigmoid(slope * logit(p) + intercept),
            Self::Isotonic { points } => interpolate(points, p),
            Self::Temperature { temperature } => sigmoid(logit(p) / temperature),
            Self::Beta { a, b, c } => {
                let [ln_p, ln_q] = beta_features(p);
                sigmoid(a * ln_p + b * ln_q + c)
            }
        }
    }
}

fn platt(probabilities: &[f64], labels: &[bool]) -> Result<Calibrator, Error> {
    let positives = labels.iter().filter(|&&label| label).count() as f64;
    let negatives = labels.len() as f64 - positives;
    let (event, other) = ((positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0));
    let targets: Vec<f64> = labels.iter().map(|&label| if label { event } else { other }).collect();
    let features: Vec<[f64; 2]> = probabilities.iter().map(|&p| [logit(p), 1.0]).collect();
    let fit = Problem { features: &features, offsets: None, targets: &targets, what: "slope" }.solve()?;
    let [slope, intercept] = fit.coefficients;
    Ok(Calibrator::Platt { slope, intercept })
}

fn temperature(probabilities: &[f64], labels: &[bool]) -> Result<Calibrator, Error> {
    check::both_classes(labels)?;
    let features: Vec<[f64; 1]> = probabilities.iter().map(|&p| [logit(p)]).collect();
    let fit = Problem { features: &features, offsets: None, targets: &targets(labels), what: "temperature" }
        .solve()?;
    Ok(Calibrator::Temperature { temperature: 1.0 / fit.coefficients[0].max(1e-3) })
}

fn beta(probabilities: &[f64], labels: &[bool]) -> Result<Calibrator, Error> {
    check::both_classes(labels)?;
    let targets = targets(labels);
    let both: Vec<[f64; 3]> = probabilities
        .iter()
        .map(|&p| {
            let [ln_p, ln_q] = beta_features(p);
            [ln_p, ln_q, 1.0]
        })
        .collect();
    let full = Problem { features: &both, offsets: None, targets: &targets, what: "map" }.solve()?;
    let [a, b, c] = full.coefficients;
    if a >= 0.0 && b >= 0.0 {
        return Ok(Calibrator::Beta { a, b, c });
    }
    let kept = usize::from(a < 0.0);
    let one: Vec<[f64; 2]> = both.iter().map(|row| [row[kept], 1.0]).collect();
    let [factor, c] =
        Problem { features: &one, offsets: None, targets: &targets, what: "map" }.solve()?.coefficients;
    let factor = factor.max(0.0);
    Ok(if kept == 0 {
        Calibrator::Beta { a: factor, b: 0.0, c }
    } else {
        Calibrator::Beta { a: 0.0, b: factor, c }
    })
}

/// ln p and −ln(1−p) of the clipped p.
fn beta_features(p: f64) -> [f64; 2] {
    let p = p.clamp(CLIP, 1.0 - CLIP);
    [p.ln(), -(1.0 - p).ln()]
}

fn targets(labels: &[bool]) -> Vec<f64> {
    labels.iter().map(|&label| f64::from(u8::from(label))).collect()
}

/// A run of forecasts that share one fitted value.
struct Block {
    lowest: f64,
    highest: f64,
    weight: f64,
    sum: f64,
}

/// The corners of the least-squares non-decreasing fit.
fn isotonic(probabilities: &[f64], labels: &[bool]) -> Vec<(f64, f64)> {
    let mut rows: Vec<(f64, f64)> = probabilities.iter().copied().zip(targets(labels)).collect();
    rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut blocks: Vec<Block> = Vec::new();
    for tie in rows.chunk_by(|a, b| a.0 == b.0) {
        let sum = tie.iter().map(|row| row.1).sum();
        blocks.push(Block { lowest: tie[0].0, highest: tie[0].0, weight: tie.len() as f64, sum });
        pool(&mut blocks);
    }
    let mut points = Vec::with_capacity(2 * blocks.len());
    for block in &blocks {
        let value = block.sum / block.weight;
        points.push((block.lowest, value));
        if block.highest > block.lowest {
            points.push((block.highest, value));
        }
    }
    points
}

/// Merges the last block into the one before while it is not above it.
fn pool(blocks: &mut Vec<Block>) {
    while let [.., before, last] = blocks.as_mut_slice() {
        if last.sum * before.weight > before.sum * last.weight {
            return;
        }
        before.highest = last.highest;
        before.weight += last.weight;
        before.sum += last.sum;
        blocks.pop();
    }
}

fn interpolate(points: &[(f64, f64)], x: f64) -> f64 {
    let after = points.partition_point(|point| point.0 <= x);
    match (after.checked_sub(1).map(|before| points[before]), points.get(after)) {
        (Some((x0, y0)), Some(&(x1, y1))) => y0 + (y1 - y0) * (x - x0) / (x1 - x0),
        (Some((_, y)), None) | (None, Some(&(_, y))) => y,
        (None, None) => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: [f64; 8] = [0.05, 0.1, 0.3, 0.4, 0.5, 0.6, 0.8, 0.97];
    const Y: [bool; 8] = [false, true, false, false, true, true, false, true];

    #[test]
    fn every_method_gives_a_map_into_the_unit_interval_that_does_not_fall() {
        for method in [Method::Identity, Method::Platt, Method::Isotonic, Method::Temperature, Method::Beta] {
            let fitted = Calibrator::fit(method, &P, &Y).unwrap();
            let mapped: Vec<f64> = (0..=100).map(|i| fitted.apply(f64::from(i) / 100.0)).collect();
            assert!(mapped.is_sorted(), "{method:?}");
            assert!(mapped.iter().all(|p| (0.0..=1.0).contains(p)), "{method:?}");
        }
    }

    #[test]
    fn separated_classes_have_a_platt_map_but_no_temperature() {
        let (p, y) = ([0.1, 0.2, 0.8, 0.9], [false, false, true, true]);
        assert!(Calibrator::fit(Method::Platt, &p, &y).is_ok());
        let refusal = Calibrator::fit(Method::Temperature, &p, &y).unwrap_err();
        assert_eq!(refusal, Error::Separated { what: "temperature" });
    }

    #[test]
    fn a_constant_forecast_has_no_platt_map_and_an_isotonic_one_that_is_the_base_rate() {
        let (p, y) = ([0.3; 4], [true, false, false, false]);
        let refusal = Calibrator::fit(Method::Platt, &p, &y).unwrap_err();
        assert_eq!(refusal, Error::Constant { what: "probabilities" });
        assert_eq!(Calibrator::fit(Method::Isotonic, &p, &y).unwrap().apply(0.9), 0.25);
    }

    #[test]
    fn a_calibrator_survives_json() {
        let fitted = Calibrator::fit(Method::Isotonic, &P, &Y).unwrap();
        let json = serde_json::to_string(&fitted).unwrap();
        assert!(json.starts_with(r#"{"method":"isotonic","#));
        assert_eq!(serde_json::from_str::<Calibrator>(&json).unwrap(), fitted);
    }
}
