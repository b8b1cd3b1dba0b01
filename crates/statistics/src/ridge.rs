//! Logistic regression over many columns, held back by a ridge: what a linear model makes of a table.
//!
//! A row is a few numbers and a few places where it is 1 (a category's level), so a pass costs what is not 0.

use crate::logistic::sigmoid;
use crate::{Error, check};

/// Rows of a regression: numbers, places that are 1, and a constant.
///
/// The coefficients are in that order: `dense` numbers, `levels` places, the constant.
#[derive(Clone, Copy, Debug)]
pub struct Design<'a> {
    /// `[rows, dense]`.
    pub numbers: &'a [f64],
    /// Numbers a row.
    pub dense: usize,
    /// `[rows, hot]`: places below `levels` where the row is 1.
    pub ones: &'a [u32],
    /// Places a row.
    pub hot: usize,
    /// How many places there are.
    pub levels: usize,
    /// The number of rows.
    pub rows: usize,
}

impl Design<'_> {
    /// How many coefficients there are, the constant among them.
    pub fn width(&self) -> usize {
        self.dense + self.levels + 1
    }

    fn check(&self) -> Result<(), Error> {
        check::at_least(2, self.rows, "rows")?;
        check::finite(self.numbers, "numbers")?;
        let fits = self.numbers.len() == self.rows * self.dense && self.ones.len() == self.rows * self.hot;
        let known = self.ones.iter().all(|&place| (place as usize) < self.levels);
        check::inside(
            self.rows as f64,
            "rows",
            "of the stated widths, with places below `levels`",
            fits && known,
        )
    }

    /// Xβ of one row.
    fn dot(&self, row: usize, beta: &[f64]) -> f64 {
        let numbers = &self.numbers[row * self.dense..(row + 1) * self.dense];
        let ones = &self.ones[row * self.hot..(row + 1) * self.hot];
        let linear: f64 = numbers.iter().zip(beta).map(|(x, b)| x * b).sum();
        linear
            + ones.iter().map(|&place| beta[self.dense + place as usize]).sum::<f64>()
            + beta[beta.len() - 1]
    }

    /// Adds `scale`·xᵀ of one row.
    fn add(&self, row: usize, scale: f64, to: &mut [f64]) {
        let numbers = &self.numbers[row * self.dense..(row + 1) * self.dense];
        to.iter_mut().zip(numbers).for_each(|(sum, x)| *sum += scale * x);
        for &place in &self.ones[row * self.hot..(row + 1) * self.hot] {
            to[self.dense + place as usize] += scale;
        }
        if let Some(constant) = to.last_mut() {
            *constant += scale;
        }
    }

    /// Xβ of every row.
    ///
    /// ```
    /// use statistics::ridge::Design;
    /// let rows = Design { numbers: &[2.0], dense: 1, ones: &[1], hot: 1, levels: 2, rows: 1 };
    /// assert_eq!(rows.log_odds(&[3.0, 9.0, 0.5, 1.0]), [7.5]); // 2·3 + 0.5 + 1
    /// ```
    pub fn log_odds(&self, beta: &[f64]) -> Vec<f64> {
        (0..self.rows).map(|row| self.dot(row, beta)).collect()
    }
}

/// The β that makes Σ wᵢ·(ln(1 + e^ηᵢ) − yᵢηᵢ) + ½·penalty·Σβ² least, with η = Xβ; the constant is not held back.
///
/// Newton's method, each step by conjugate gradients under the diagonal of the Hessian; with a penalty above 0 there is one
/// answer however the columns depend on each other.
///
/// ```
/// use statistics::ridge::{Design, fit};
/// let rows = Design { numbers: &[-1.0, 1.0, -1.0, 1.0], dense: 1, ones: &[], hot: 0, levels: 0, rows: 4 };
/// let beta = fit(&rows, &[0.0, 1.0, 0.0, 1.0], &[1.0; 4], 1.0).unwrap();
/// // 4·σ(−β) = β has its root near 1.0426
/// assert!((4.0 / (1.0 + beta[0].exp()) - beta[0]).abs() < 1e-6 && beta[1].abs() < 1e-9);
/// ```
/// # Errors
/// [`Error::OutOfDomain`] for numbers that are not finite, a penalty that is not above 0, or widths that do not fit;
/// [`Error::TooFew`] without two rows.
/// # Source
/// le Cessie & van Houwelingen (1992), "Ridge estimators in logistic regression"; Nocedal & Wright (2006), algorithm 7.1.
pub fn fit(rows: &Design<'_>, targets: &[f64], weights: &[f64], penalty: f64) -> Result<Vec<f64>, Error> {
    rows.check()?;
    check::finite(targets, "targets")?;
    check::finite(weights, "weights")?;
    let fits = targets.len() == rows.rows && weights.len() == rows.rows;
    check::inside(rows.rows as f64, "rows", "as many as targets and weights", fits)?;
    check::inside(penalty, "the penalty", "above 0", penalty > 0.0 && penalty.is_finite())?;
    let problem = Problem { rows, targets, weights, penalty };
    let mut beta = vec![0.0; rows.width()];
    let mut loss = problem.loss(&beta);
    let scale = weights.iter().sum::<f64>().max(1.0);
    for _ in 0..MOST_STEPS {
        let (gradient, curvature) = problem.derivatives(&beta);
        let size = norm(&gradient);
        if size <= 1e-9 * scale {
            break;
        }
        let step = problem.newton_step(&gradient, &curvature, size * f64::min(0.1, (size / scale).sqrt()));
        let Some((next, next_loss)) = problem.descend(&beta, &step, loss) else { break };
        (beta, loss) = (next, next_loss);
    }
    Ok(beta)
}

const MOST_STEPS: usize = 60;
const MOST_PRODUCTS: usize = 250;

struct Problem<'a> {
    rows: &'a Design<'a>,
    targets: &'a [f64],
    weights: &'a [f64],
    penalty: f64,
}

impl Problem<'_> {
    /// What holds a coefficient back; the constant is free.
    fn ridge(&self, at: usize) -> f64 {
        if at + 1 == self.rows.width() { 0.0 } else { self.penalty }
    }

    fn loss(&self, beta: &[f64]) -> f64 {
        let row_loss = |row: usize| {
            let eta = self.rows.dot(row, beta);
            self.weights[row] * (eta.max(0.0) + (-eta.abs()).exp().ln_1p() - self.targets[row] * eta)
        };
        let held: f64 = beta.iter().enumerate().map(|(at, b)| self.ridge(at) * b * b).sum();
        (0..self.rows.rows).map(row_loss).sum::<f64>() + held / 2.0
    }

    /// The gradient, and each row's wᵢ·pᵢ(1 − pᵢ).
    fn derivatives(&self, beta: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let mut gradient: Vec<f64> = beta.iter().enumerate().map(|(at, b)| self.ridge(at) * b).collect();
        let mut curvature = vec![0.0; self.rows.rows];
        for (row, curvature) in curvature.iter_mut().enumerate() {
            let p = sigmoid(self.rows.dot(row, beta));
            *curvature = self.weights[row] * p * (1.0 - p);
            self.rows.add(row, self.weights[row] * (p - self.targets[row]), &mut gradient);
        }
        (gradient, curvature)
    }

    /// H·v with H = Xᵀ·diag(curvature)·X + ridge.
    fn product(&self, curvature: &[f64], v: &[f64]) -> Vec<f64> {
        let mut out: Vec<f64> = v.iter().enumerate().map(|(at, v)| self.ridge(at) * v).collect();
        for (row, curvature) in curvature.iter().enumerate() {
            self.rows.add(row, curvature * self.rows.dot(row, v), &mut out);
        }
        out
    }

    fn diagonal(&self, curvature: &[f64]) -> Vec<f64> {
        let Design { numbers, dense, ones, hot, .. } = *self.rows;
        let mut out: Vec<f64> = (0..self.rows.width()).map(|at| self.ridge(at) + 1e-12).collect();
        for (row, curvature) in curvature.iter().enumerate() {
            let numbers = &numbers[row * dense..(row + 1) * dense];
            out.iter_mut().zip(numbers).for_each(|(sum, x)| *sum += curvature * x * x);
            ones[row * hot..(row + 1) * hot].iter().for_each(|&at| out[dense + at as usize] += curvature);
            if let Some(constant) = out.last_mut() {
                *constant += curvature;
            }
        }
        out
    }

    /// An s with |H·s − gradient| ≤ `rest`.
    fn newton_step(&self, gradient: &[f64], curvature: &[f64], rest: f64) -> Vec<f64> {
        let diagonal = self.diagonal(curvature);
        let conditioned = |r: &[f64]| -> Vec<f64> { r.iter().zip(&diagonal).map(|(r, d)| r / d).collect() };
        let (mut step, mut residual) = (vec![0.0; gradient.len()], gradient.to_vec());
        let mut direction = conditioned(&residual);
        let mut size = dot(&residual, &direction);
        for _ in 0..MOST_PRODUCTS.min(2 * gradient.len() + 10) {
            let bent = self.product(curvature, &direction);
            let length = size / dot(&direction, &bent);
            if !length.is_finite() {
                break;
            }
            step.iter_mut().zip(&direction).for_each(|(s, d)| *s += length * d);
            residual.iter_mut().zip(&bent).for_each(|(r, b)| *r -= length * b);
            if norm(&residual) <= rest {
                break;
            }
            let next = conditioned(&residual);
            let next_size = dot(&residual, &next);
            let turn = next_size / size;
            direction.iter_mut().zip(&next).for_each(|(d, n)| *d = n + turn * *d);
            size = next_size;
        }
        step
    }

    /// The longest of step, step/2, step/4, … that lowers the loss; none if rounding leaves nothing to gain.
    fn descend(&self, beta: &[f64], step: &[f64], loss: f64) -> Option<(Vec<f64>, f64)> {
        let lengths = std::iter::successors(Some(1.0), |length| Some(length / 2.0)).take(30);
        lengths
            .map(|length| {
                let next: Vec<f64> = beta.iter().zip(step).map(|(b, s)| b - length * s).collect();
                let next_loss = self.loss(&next);
                (next, next_loss)
            })
            .find(|(_, next_loss)| *next_loss < loss)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(v: &[f64]) -> f64 {
    dot(v, v).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Generator;

    /// Rows with two numbers, one of them twice the other and large, and a category of three levels.
    fn planted(rows: usize) -> (Vec<f64>, Vec<u32>, Vec<f64>) {
        let mut generator = Generator::from_seed(3);
        let (mut numbers, mut ones, mut targets) = (vec![], vec![], vec![]);
        for _ in 0..rows {
            let (x, level) = (generator.uniform() * 2.0 - 1.0, generator.below(3));
            numbers.extend([x, 2.0 * x]);
            ones.push(level as u32);
            let eta = 1.5 * x + [0.0, 1.0, -1.0][level];
            targets.push(f64::from(u8::from(generator.uniform() < sigmoid(eta))));
        }
        (numbers, ones, targets)
    }

    #[test]
    fn the_answer_is_where_the_gradient_is_0_even_if_columns_repeat_each_other() {
        let (numbers, ones, targets) = planted(800);
        let rows = Design { numbers: &numbers, dense: 2, ones: &ones, hot: 1, levels: 4, rows: 800 };
        let weights: Vec<f64> = (0..800).map(|row| 1.0 + (row % 3) as f64).collect();
        let beta = fit(&rows, &targets, &weights, 0.5).unwrap();
        let problem = Problem { rows: &rows, targets: &targets, weights: &weights, penalty: 0.5 };
        assert!(norm(&problem.derivatives(&beta).0) < 1e-4, "{:?}", problem.derivatives(&beta).0);
        let slope = beta[0] + 2.0 * beta[1];
        assert!((1.0..2.0).contains(&slope) && beta[3] > beta[2] && beta[2] > beta[4], "{beta:?}");
        assert_eq!(beta[5], 0.0, "a level that never occurs says nothing");
    }

    #[test]
    fn a_column_that_separates_gets_a_finite_coefficient() {
        let numbers: Vec<f64> = (0..100).map(|row| if row < 50 { -1.0 } else { 1.0 }).collect();
        let targets: Vec<f64> = (0..100).map(|row| f64::from(u8::from(row >= 50))).collect();
        let rows = Design { numbers: &numbers, dense: 1, ones: &[], hot: 0, levels: 0, rows: 100 };
        let beta = fit(&rows, &targets, &[1.0; 100], 1.0).unwrap();
        assert!((2.0..6.0).contains(&beta[0]) && beta[1].abs() < 1e-6, "{beta:?}");
        assert!(fit(&rows, &targets, &[1.0; 100], 0.0).is_err());
        assert!(fit(&rows, &targets[1..], &[1.0; 100], 1.0).is_err());
    }
}
