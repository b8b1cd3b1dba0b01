//! The fit of L(N, D): a robust regression of log losses, started from a grid and polished by damped Gauss–Newton steps.

use serde::{Deserialize, Serialize};

use crate::Error;

/// What one run showed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Trainable numbers, N.
    pub parameters: f64,
    /// Tokens trained on, D.
    pub tokens: f64,
    /// The loss on text that no run has seen, in nats a token.
    pub loss: f64,
}

/// L(N, D) = E + A / N^α + B / D^β, in nats a token.
///
/// Fitted by minimising Σ Huber_δ(log L̂ − log L) with δ = 10⁻³, where log L̂ is the log-sum-exp of the three terms' logarithms.
///
/// # Source
/// Hoffmann et al. (2022), "Training compute-optimal large language models", approach 3.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Law {
    /// E: what no model of no training gets below.
    pub floor: f64,
    /// A.
    pub a: f64,
    /// α: how fast size helps.
    pub alpha: f64,
    /// B.
    pub b: f64,
    /// β: how fast data helps.
    pub beta: f64,
}

/// Residuals of log losses beyond this count linearly.
const DELTA: f64 = 1e-3;
/// Starts that are polished.
const POLISHED: usize = 24;
/// Gauss–Newton steps of a start.
const STEPS: usize = 400;

/// The logarithms of the three terms at the middle of the data, and the two exponents: log A', α, log B', β, log E.
type Parameters = [f64; 5];

/// The data as the fit sees it: logarithms, those of N and D around their means.
struct Data {
    rows: Vec<[f64; 3]>, // log N, log D, log L
    centre: [f64; 2],
}

impl Law {
    /// Fits the law to runs.
    ///
    /// # Errors
    /// [`Error::Recipe`] for fewer than 6 runs, fewer than 2 sizes or amounts of data, or numbers that are not above 0.
    pub fn fit(points: &[Point]) -> Result<Self, Error> {
        let data = Data::new(points)?;
        let mut starts: Vec<(f64, Parameters)> =
            data.starts().into_iter().map(|start| (data.cost(&start), start)).collect();
        starts.sort_by(|x, y| x.0.total_cmp(&y.0));
        let polished = starts.into_iter().take(POLISHED).map(|(_, start)| data.polished(start));
        let best = polished.min_by(|x, y| data.cost(x).total_cmp(&data.cost(y)));
        best.map(|best| data.law(best)).ok_or(Error::Empty { what: "the starts of a fit" })
    }

    /// The loss that it predicts.
    pub fn loss(&self, parameters: f64, tokens: f64) -> f64 {
        self.floor + self.a / parameters.powf(self.alpha) + self.b / tokens.powf(self.beta)
    }

    /// The size and the amount of data, (N, D), that give the lowest loss for so many operations, with 6·N·D of them a run:
    /// N = G·(C/6)^(β/(α+β)), D = (C/6)/N, G = (α·A / (β·B))^(1/(α+β)).
    pub fn best(&self, operations: f64) -> (f64, f64) {
        let (sum, pairs) = (self.alpha + self.beta, operations / 6.0);
        let g = (self.alpha * self.a / (self.beta * self.b)).powf(1.0 / sum);
        let parameters = g * pairs.powf(self.beta / sum);
        (parameters, pairs / parameters)
    }
}

fn huber(residual: f64) -> f64 {
    let size = residual.abs();
    if size <= DELTA { 0.5 * size * size } else { DELTA * (size - 0.5 * DELTA) }
}

impl Data {
    fn new(points: &[Point]) -> Result<Self, Error> {
        let refuse = |reason: String| Err(Error::Recipe { reason });
        let good = |x: f64| x.is_finite() && x > 0.0;
        if points.len() < 6 {
            return refuse(format!("a law of 5 numbers needs at least 6 runs, not {}", points.len()));
        }
        if !points.iter().all(|p| good(p.parameters) && good(p.tokens) && good(p.loss)) {
            return refuse("sizes, tokens and losses of runs are above 0".to_owned());
        }
        let varies = |f: fn(&Point) -> f64| points.iter().any(|point| f(point) != f(&points[0]));
        if !varies(|p| p.parameters) || !varies(|p| p.tokens) {
            return refuse("a law needs runs of at least 2 sizes and 2 amounts of tokens".to_owned());
        }
        let mut rows: Vec<[f64; 3]> =
            points.iter().map(|p| [p.parameters.ln(), p.tokens.ln(), p.loss.ln()]).collect();
        let mean = |at: usize| rows.iter().map(|row| row[at]).sum::<f64>() / rows.len() as f64;
        let centre = [mean(0), mean(1)];
        rows.iter_mut().for_each(|row| (row[0], row[1]) = (row[0] - centre[0], row[1] - centre[1]));
        Ok(Self { rows, centre })
    }

    /// Shares of the loss at the middle that each term may have, by exponents from flat to steep.
    fn starts(&self) -> Vec<Parameters> {
        let middle = self.rows.iter().map(|row| row[2]).sum::<f64>() / self.rows.len() as f64;
        let (shares, exponents) = ([0.03f64, 0.1, 0.3, 0.6], [0.1, 0.3, 0.5, 0.8, 1.2]);
        let mut starts = Vec::new();
        for a in shares {
            for b in shares {
                let floor = (1.0 - a - b).max(0.02).ln() + middle;
                for alpha in exponents {
                    for beta in exponents {
                        starts.push([a.ln() + middle, alpha, b.ln() + middle, beta, floor]);
                    }
                }
            }
        }
        starts
    }

    /// log L̂ − log L, and its derivatives.
    fn residual(row: &[f64; 3], at: &Parameters) -> (f64, Parameters) {
        let [n, d, loss] = *row;
        let [a, alpha, b, beta, floor] = *at;
        let terms = [a - alpha * n, b - beta * d, floor];
        let top = terms.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let shares = terms.map(|term| (term - top).exp());
        let sum: f64 = shares.iter().sum();
        let [size, data, rest] = shares.map(|share| share / sum);
        (top + sum.ln() - loss, [size, -size * n, data, -data * d, rest])
    }

    fn cost(&self, at: &Parameters) -> f64 {
        self.rows.iter().map(|row| huber(Self::residual(row, at).0)).sum()
    }

    /// Damped Gauss–Newton on reweighted squares (Levenberg–Marquardt): a step is taken only if the cost falls.
    fn polished(&self, mut at: Parameters) -> Parameters {
        let (mut cost, mut damping) = (self.cost(&at), 1e-2);
        for _ in 0..STEPS {
            let (mut matrix, mut slope) = ([[0f64; 5]; 5], [0f64; 5]);
            for row in &self.rows {
                let (residual, derivative) = Self::residual(row, &at);
                let weight = (DELTA / residual.abs().max(DELTA)).min(1.0);
                for i in 0..5 {
                    slope[i] += weight * derivative[i] * residual;
                    for j in 0..5 {
                        matrix[i][j] += weight * derivative[i] * derivative[j];
                    }
                }
            }
            for (i, row) in matrix.iter_mut().enumerate() {
                row[i] += damping * (row[i] + 1e-9);
            }
            let Some(step) = solved(matrix, slope) else { break };
            let mut next = at;
            next.iter_mut().zip(step).for_each(|(x, step)| *x -= step);
            let found = self.cost(&next);
            if found < cost {
                let little = cost - found < 1e-15 * cost;
                (at, cost, damping) = (next, found, (damping / 3.0).max(1e-12));
                if little {
                    break;
                }
            } else {
                damping *= 4.0;
                if damping > 1e8 {
                    break;
                }
            }
        }
        at
    }

    fn law(&self, [a, alpha, b, beta, floor]: Parameters) -> Law {
        let [n, d] = self.centre;
        Law { floor: floor.exp(), a: (a + alpha * n).exp(), alpha, b: (b + beta * d).exp(), beta }
    }
}

/// The solution of a symmetric system, by elimination with the largest pivot; `None` if there is none.
fn solved(mut matrix: [[f64; 5]; 5], mut right: [f64; 5]) -> Option<[f64; 5]> {
    for column in 0..5 {
        let largest = |x: &usize, y: &usize| matrix[*x][column].abs().total_cmp(&matrix[*y][column].abs());
        let pivot = (column..5).max_by(largest)?;
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        let (pivot, head) = (matrix[column], right[column]);
        if pivot[column].is_nan() || pivot[column].abs() < 1e-300 {
            return None;
        }
        for row in column + 1..5 {
            let factor = matrix[row][column] / pivot[column];
            for (x, p) in matrix[row].iter_mut().zip(pivot) {
                *x -= factor * p;
            }
            right[row] -= factor * head;
        }
    }
    for column in (0..5).rev() {
        let known: f64 = (column + 1..5).map(|other| matrix[column][other] * right[other]).sum();
        right[column] = (right[column] - known) / matrix[column][column];
    }
    right.iter().all(|x| x.is_finite()).then_some(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The law that Hoffmann et al. report for Chinchilla.
    const CHINCHILLA: Law = Law { floor: 1.69, a: 406.4, alpha: 0.34, b: 410.7, beta: 0.28 };

    fn runs(law: Law, wrong: impl Fn(usize) -> f64) -> Vec<Point> {
        let sizes = [1e5, 4e5, 2e6, 1e7, 8e7];
        let amounts = [2e6, 1e7, 6e7, 4e8];
        let both = sizes.into_iter().flat_map(|n| amounts.into_iter().map(move |d| (n, d)));
        both.enumerate()
            .map(|(at, (n, d))| Point { parameters: n, tokens: d, loss: law.loss(n, d) * wrong(at) })
            .collect()
    }

    #[test]
    fn losses_that_follow_a_law_exactly_give_it_back() {
        for law in [CHINCHILLA, Law { floor: 0.7, a: 9.0, alpha: 0.21, b: 300.0, beta: 0.51 }] {
            let found = Law::fit(&runs(law, |_| 1.0)).unwrap();
            assert!((found.alpha - law.alpha).abs() < 1e-3, "{found:?}");
            assert!((found.beta - law.beta).abs() < 1e-3, "{found:?}");
            assert!((found.floor - law.floor).abs() < 5e-3, "{found:?}");
        }
    }

    #[test]
    fn one_run_that_diverged_does_not_move_the_law() {
        let found = Law::fit(&runs(CHINCHILLA, |at| if at == 7 { 1.6 } else { 1.0 })).unwrap();
        assert!((found.alpha - CHINCHILLA.alpha).abs() < 0.02, "{found:?}");
        assert!((found.beta - CHINCHILLA.beta).abs() < 0.02, "{found:?}");
    }

    #[test]
    fn the_best_size_for_so_many_operations_has_the_lowest_loss_of_its_neighbours() {
        let operations = 1e18;
        let (n, d) = CHINCHILLA.best(operations);
        assert!((6.0 * n * d / operations - 1.0).abs() < 1e-9);
        for factor in [0.8, 1.25] {
            assert!(CHINCHILLA.loss(n * factor, d / factor) > CHINCHILLA.loss(n, d));
        }
    }

    #[test]
    fn too_few_runs_or_runs_that_do_not_differ_are_refused() {
        let all = runs(CHINCHILLA, |_| 1.0);
        assert!(Law::fit(&all[..5]).unwrap_err().to_string().contains("at least 6 runs"));
        let one_size: Vec<Point> = all.iter().map(|run| Point { parameters: 1e6, ..*run }).collect();
        assert!(Law::fit(&one_size).unwrap_err().to_string().contains("2 sizes"));
        let nothing: Vec<Point> = all.iter().map(|run| Point { loss: f64::NAN, ..*run }).collect();
        assert!(Law::fit(&nothing).unwrap_err().to_string().contains("above 0"));
    }
}
