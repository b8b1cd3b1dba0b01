//! Maximum-likelihood logistic regression with a few coefficients, by Newton's method.

use crate::Error;

/// Probabilities are moved into [CLIP, 1 − CLIP] before their logit is taken.
pub(crate) const CLIP: f64 = 1e-6;

/// ln(p/(1−p)) with p clipped to [10⁻⁶, 1−10⁻⁶].
///
/// ```
/// assert_eq!(statistics::calibrators::logit(0.5), 0.0);
/// ```
pub fn logit(p: f64) -> f64 {
    let p = p.clamp(CLIP, 1.0 - CLIP);
    (p / (1.0 - p)).ln()
}

/// 1/(1+e⁻ˣ).
///
/// ```
/// assert_eq!(statistics::calibrators::sigmoid(0.0), 0.5);
/// ```
pub fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// The estimated coefficients and their standard errors.
pub(crate) struct Fit<const K: usize> {
    pub(crate) coefficients: [f64; K],
    pub(crate) standard_errors: [f64; K],
}

/// The data of one regression: rows of `K` features, a known part of the log-odds, targets in [0, 1].
pub(crate) struct Problem<'a, const K: usize> {
    pub(crate) features: &'a [[f64; K]],
    pub(crate) offsets: Option<&'a [f64]>,
    pub(crate) targets: &'a [f64],
    /// What is estimated, for the errors.
    pub(crate) what: &'static str,
}

impl<const K: usize> Problem<'_, K> {
    /// The coefficients of greatest likelihood.
    ///
    /// [`Error::Constant`] if the features are collinear, [`Error::Separated`] if the likelihood has no maximum.
    pub(crate) fn solve(&self) -> Result<Fit<K>, Error> {
        let mut beta = [0.0; K];
        let mut loss = self.loss(&beta);
        for iteration in 0..100 {
            let (gradient, hessian) = self.derivatives(&beta);
            let Some(factor) = cholesky(&hessian) else {
                return Err(match iteration {
                    0 => Error::Constant { what: "probabilities" },
                    _ => Error::Separated { what: self.what },
                });
            };
            let step = solve(&factor, &gradient);
            let (next, next_loss) = self.descend(&beta, &step, loss);
            let moved = (0..K).map(|k| (next[k] - beta[k]).abs() / (1.0 + beta[k].abs())).fold(0.0, f64::max);
            (beta, loss) = (next, next_loss);
            if moved < 1e-11 {
                return Ok(Fit { coefficients: beta, standard_errors: standard_errors(&factor) });
            }
        }
        Err(Error::Separated { what: self.what })
    }

    /// The longest of step, step/2, step/4, … that does not raise the loss.
    fn descend(&self, beta: &[f64; K], step: &[f64; K], loss: f64) -> ([f64; K], f64) {
        let mut length = 1.0;
        loop {
            let next: [f64; K] = std::array::from_fn(|k| beta[k] - length * step[k]);
            let next_loss = self.loss(&next);
            if next_loss <= loss {
                return (next, next_loss);
            }
            length /= 2.0;
            if length < 1e-10 {
                return (*beta, loss);
            }
        }
    }

    fn log_odds(&self, row: usize, beta: &[f64; K]) -> f64 {
        let known = self.offsets.map_or(0.0, |offsets| offsets[row]);
        self.features[row].iter().zip(beta).map(|(x, b)| x * b).sum::<f64>() + known
    }

    fn loss(&self, beta: &[f64; K]) -> f64 {
        let row_loss = |(row, target): (usize, &f64)| {
            let eta = self.log_odds(row, beta);
            // ln(1 + eᵑ) − t·η without overflow.
            eta.max(0.0) + (-eta.abs()).exp().ln_1p() - target * eta
        };
        self.targets.iter().enumerate().map(row_loss).sum()
    }

    fn derivatives(&self, beta: &[f64; K]) -> ([f64; K], [[f64; K]; K]) {
        let (mut gradient, mut hessian) = ([0.0; K], [[0.0; K]; K]);
        for (row, target) in self.targets.iter().enumerate() {
            let p = sigmoid(self.log_odds(row, beta));
            let x = &self.features[row];
            for i in 0..K {
                gradient[i] += (p - target) * x[i];
                for j in 0..=i {
                    hessian[i][j] += p * (1.0 - p) * x[i] * x[j];
                }
            }
        }
        (gradient, hessian)
    }
}

/// The lower factor L of H = L·Lᵀ; `None` if H is singular to working precision.
fn cholesky<const K: usize>(hessian: &[[f64; K]; K]) -> Option<[[f64; K]; K]> {
    let mut factor = [[0.0; K]; K];
    for i in 0..K {
        for j in 0..=i {
            let sum = hessian[i][j] - (0..j).map(|k| factor[i][k] * factor[j][k]).sum::<f64>();
            if i == j {
                if sum.is_nan() || sum <= hessian[i][i] * 1e-13 || sum < 1e-12 {
                    return None;
                }
                factor[i][i] = sum.sqrt();
            } else {
                factor[i][j] = sum / factor[j][j];
            }
        }
    }
    Some(factor)
}

fn solve<const K: usize>(factor: &[[f64; K]; K], right: &[f64; K]) -> [f64; K] {
    let mut x = *right;
    for i in 0..K {
        x[i] = (x[i] - (0..i).map(|k| factor[i][k] * x[k]).sum::<f64>()) / factor[i][i];
    }
    for i in (0..K).rev() {
        x[i] = (x[i] - (i + 1..K).map(|k| factor[k][i] * x[k]).sum::<f64>()) / factor[i][i];
    }
    x
}

fn standard_errors<const K: usize>(factor: &[[f64; K]; K]) -> [f64; K] {
    std::array::from_fn(|i| {
        let unit: [f64; K] = std::array::from_fn(|k| f64::from(u8::from(k == i)));
        solve(factor, &unit)[i].sqrt()
    })
}
