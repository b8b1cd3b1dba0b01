//! Small dense symmetric matrices: eigenvalues and the solution of positive definite systems.

/// A symmetric matrix of shape `[size, size]`, row by row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Symmetric {
    size: usize,
    values: Vec<f64>,
}

impl Symmetric {
    /// All zeros.
    pub(crate) fn zeros(size: usize) -> Self {
        Self { size, values: vec![0.0; size * size] }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.size + column]
    }

    pub(crate) fn set(&mut self, row: usize, column: usize, value: f64) {
        self.values[row * self.size + column] = value;
        self.values[column * self.size + row] = value;
    }

    /// Adds `scale`·v·vᵀ.
    pub(crate) fn add_outer(&mut self, v: &[f64], scale: f64) {
        for (row, a) in v.iter().enumerate() {
            let line = &mut self.values[row * self.size..(row + 1) * self.size];
            line.iter_mut().zip(v).for_each(|(value, b)| *value += scale * a * b);
        }
    }

    /// Covariance (divisor n) of rows of shape `[n, size]`, and their mean.
    pub(crate) fn covariance(rows: &[Vec<f64>], size: usize) -> (Self, Vec<f64>) {
        let n = rows.len() as f64;
        let mut mean = vec![0.0; size];
        rows.iter().for_each(|row| mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += value / n));
        let mut covariance = Self::zeros(size);
        for row in rows {
            let centred: Vec<f64> = row.iter().zip(&mean).map(|(value, mean)| value - mean).collect();
            covariance.add_outer(&centred, 1.0 / n);
        }
        (covariance, mean)
    }

    /// Eigenvalues, greatest first, each with its unit eigenvector.
    ///
    /// # Source
    /// Jacobi (1846), "Über ein leichtes Verfahren"; cyclic sweeps until the rest is rounding.
    pub(crate) fn eigen(&self) -> Vec<(f64, Vec<f64>)> {
        let n = self.size;
        let mut a = self.clone();
        let mut vectors = Self::zeros(n);
        (0..n).for_each(|i| vectors.set(i, i, 1.0));
        let mut v = vectors.values;
        for _ in 0..100 {
            let off: f64 =
                (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a.at(i, j).powi(2)).sum();
            let diagonal: f64 = (0..n).map(|i| a.at(i, i).powi(2)).sum();
            if off <= 1e-30 * diagonal || off == 0.0 {
                break;
            }
            for p in 0..n {
                for q in p + 1..n {
                    a.rotate(p, q, &mut v);
                }
            }
        }
        let column = |k: usize| (0..n).map(|i| v[i * n + k]).collect();
        let mut pairs: Vec<(f64, Vec<f64>)> = (0..n).map(|k| (a.at(k, k), column(k))).collect();
        pairs.sort_by(|one, other| other.0.total_cmp(&one.0));
        pairs
    }

    /// One Jacobi rotation that makes `[p, q]` zero.
    fn rotate(&mut self, p: usize, q: usize, vectors: &mut [f64]) {
        let n = self.size;
        let apq = self.at(p, q);
        if apq == 0.0 {
            return;
        }
        let theta = (self.at(q, q) - self.at(p, p)) / (2.0 * apq);
        let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
        let t = if theta == 0.0 { 1.0 } else { t };
        let c = 1.0 / t.hypot(1.0);
        let s = t * c;
        for k in 0..n {
            let (kp, kq) = (self.values[k * n + p], self.values[k * n + q]);
            self.values[k * n + p] = c * kp - s * kq;
            self.values[k * n + q] = s * kp + c * kq;
        }
        for k in 0..n {
            let (pk, qk) = (self.values[p * n + k], self.values[q * n + k]);
            self.values[p * n + k] = c * pk - s * qk;
            self.values[q * n + k] = s * pk + c * qk;
        }
        for k in 0..n {
            let (kp, kq) = (vectors[k * n + p], vectors[k * n + q]);
            vectors[k * n + p] = c * kp - s * kq;
            vectors[k * n + q] = s * kp + c * kq;
        }
    }

    /// The x with A·x = b; `None` unless A is positive definite.
    ///
    /// # Source
    /// Cholesky's factorisation.
    pub(crate) fn solve(&self, b: &[f64]) -> Option<Vec<f64>> {
        let n = self.size;
        let mut lower = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let dot: f64 = (0..j).map(|k| lower[i * n + k] * lower[j * n + k]).sum();
                let rest = self.at(i, j) - dot;
                if i == j {
                    if rest.is_nan() || rest <= 0.0 {
                        return None;
                    }
                    lower[i * n + i] = rest.sqrt();
                } else {
                    lower[i * n + j] = rest / lower[j * n + j];
                }
            }
        }
        let mut x = b.to_vec();
        for i in 0..n {
            let dot: f64 = (0..i).map(|k| lower[i * n + k] * x[k]).sum();
            x[i] = (x[i] - dot) / lower[i * n + i];
        }
        for i in (0..n).rev() {
            let dot: f64 = (i + 1..n).map(|k| lower[k * n + i] * x[k]).sum();
            x[i] = (x[i] - dot) / lower[i * n + i];
        }
        Some(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> Symmetric {
        let mut a = Symmetric::zeros(3);
        for (i, j, value) in [(0, 0, 4.0), (1, 1, 3.0), (2, 2, 2.0), (0, 1, 1.0), (0, 2, 0.5), (1, 2, -0.3)] {
            a.set(i, j, value);
        }
        a
    }

    #[test]
    fn a_matrix_stretches_its_eigenvectors_by_its_eigenvalues() {
        let a = matrix();
        for (value, vector) in a.eigen() {
            for i in 0..3 {
                let stretched: f64 = (0..3).map(|j| a.at(i, j) * vector[j]).sum();
                assert!((stretched - value * vector[i]).abs() < 1e-12, "{value}");
            }
        }
    }

    #[test]
    fn a_solution_solves_and_an_indefinite_matrix_has_none() {
        let a = matrix();
        let x = a.solve(&[1.0, 2.0, 3.0]).unwrap();
        for (i, b) in [1.0, 2.0, 3.0].into_iter().enumerate() {
            assert!(((0..3).map(|j| a.at(i, j) * x[j]).sum::<f64>() - b).abs() < 1e-12);
        }
        let mut indefinite = matrix();
        indefinite.set(2, 2, -1.0);
        assert_eq!(indefinite.solve(&[1.0, 1.0, 1.0]), None);
    }
}
