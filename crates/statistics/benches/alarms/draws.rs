//! Random draws, all from one seeded generator.

use statistics::Generator;
use statistics::distributions::normal_quantile;

/// A generator with the laws that the simulation needs.
pub(crate) struct Dice(Generator);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Generator::from_seed(seed))
    }

    pub(crate) fn uniform(&mut self) -> f64 {
        self.0.uniform()
    }

    /// Standard normal: by Marsaglia's polar method, the second of each pair left out.
    pub(crate) fn normal(&mut self) -> f64 {
        loop {
            let (u, v) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let s = u * u + v * v;
            if s > 0.0 && s < 1.0 {
                return u * (-2.0 * s.ln() / s).sqrt();
            }
        }
    }

    /// How many of `n` events with probability `p` happen: exact up to a mean of 200, beyond by the normal law.
    pub(crate) fn binomial(&mut self, n: u64, p: f64) -> u64 {
        if p <= 0.0 || n == 0 {
            return 0;
        }
        if p > 0.5 {
            return n - self.binomial(n, 1.0 - p);
        }
        let mean = n as f64 * p;
        if mean > 200.0 {
            let drawn = mean + (mean * (1.0 - p)).sqrt() * self.normal();
            return drawn.round().clamp(0.0, n as f64) as u64;
        }
        self.by_inversion(n, p)
    }

    fn by_inversion(&mut self, n: u64, p: f64) -> u64 {
        let odds = p / (1.0 - p);
        let mut mass = (n as f64 * (-p).ln_1p()).exp();
        let mut left = self.uniform();
        for k in 0..n {
            if left < mass {
                return k;
            }
            left -= mass;
            mass *= odds * (n - k) as f64 / (k + 1) as f64;
        }
        n
    }

    /// `n` rows over categories of these shares, which sum to at most 1; what is left is nobody's.
    pub(crate) fn multinomial(&mut self, n: u64, shares: &[f64]) -> Vec<u64> {
        let (mut rows, mut share) = (n, 1.0_f64);
        let mut drawn = Vec::with_capacity(shares.len());
        for &own in shares {
            let count = self.binomial(rows, (own / share.max(1e-300)).clamp(0.0, 1.0));
            drawn.push(count);
            rows -= count;
            share -= own;
        }
        drawn
    }

    /// The greatest of `n` standard normal values.
    pub(crate) fn greatest_of(&mut self, n: f64) -> f64 {
        // 1 − U^(1/n), without losing its digits.
        let beyond = -(self.uniform().max(1e-300).ln() / n).exp_m1();
        -normal_quantile(beyond.clamp(1e-300, 0.5))
    }
}
