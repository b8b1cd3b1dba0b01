//! Tests that arrive one after the other for ever: at which level to do the next, so that few rejections are false.
//!
//! Each keeps the false discovery rate at α at every moment, for independent p-values that are valid under the null.

use crate::{Error, check};

/// LORD's weights: γⱼ = c·ln(max(j, 2))/(j·e^{√ln j}), which sum to 1.
fn lord_weight(j: usize) -> f64 {
    let j = j as f64;
    0.077_208_38 * j.max(2.0).ln() / (j * j.ln().sqrt().exp())
}

/// SAFFRON's weights: γⱼ = c·j^{−1.6}, which sum to 1.
fn power_weight(j: usize) -> f64 {
    0.437_490_165_8 * (j as f64).powf(-1.6)
}

fn checked(alpha: f64, wealth: f64) -> Result<(), Error> {
    check::inside(alpha, "alpha", "in (0, 1)", alpha > 0.0 && alpha < 1.0)?;
    check::inside(wealth, "the first wealth", "in (0, alpha)", wealth > 0.0 && wealth < alpha)
}

fn p_value(p: f64) -> Result<(), Error> {
    check::inside(p, "a p-value", "in [0, 1]", (0.0..=1.0).contains(&p))
}

/// LORD++: a level that decays, and is paid back at every rejection.
///
/// αₜ = w₀·γₜ + (α − w₀)·γ_{t−τ₁} + α·Σ_{j≥2} γ_{t−τⱼ}, τⱼ the time of the j-th rejection.
/// ```
/// let mut lord = statistics::sequential::LordPlusPlus::new(0.05, 0.005).unwrap();
/// assert!(lord.test(1e-6).unwrap() && !lord.test(0.3).unwrap());
/// ```
/// # Source
/// Ramdas et al. (2017), "Online control of the false discovery rate with decaying memory".
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct LordPlusPlus {
    alpha: f64,
    wealth: f64,
    tests: usize,
    rejections: Vec<usize>,
}

impl LordPlusPlus {
    /// Keeps the false discovery rate at α, beginning with `wealth` of it (α/10 is usual).
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] unless 0 < wealth < α < 1.
    pub fn new(alpha: f64, wealth: f64) -> Result<Self, Error> {
        checked(alpha, wealth)?;
        Ok(Self { alpha, wealth, tests: 0, rejections: vec![] })
    }

    /// The level of the next test.
    pub fn level(&self) -> f64 {
        let now = self.tests + 1;
        let mut level = self.wealth * lord_weight(now);
        for (rank, rejected) in self.rejections.iter().enumerate() {
            let paid = if rank == 0 { self.alpha - self.wealth } else { self.alpha };
            level += paid * lord_weight(now - rejected);
        }
        level
    }

    /// Whether the next p-value is rejected.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] unless 0 ≤ p ≤ 1.
    pub fn test(&mut self, p: f64) -> Result<bool, Error> {
        p_value(p)?;
        let rejected = p <= self.level();
        self.tests += 1;
        if rejected {
            self.rejections.push(self.tests);
        }
        Ok(rejected)
    }
}

/// The pay-offs that SAFFRON and ADDIS share: wealth is spent only on tests that count.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Ledger {
    alpha: f64,
    wealth: f64,
    /// How many tests counted so far, after each test; the first entry is 0.
    counted: Vec<usize>,
    rejections: Vec<usize>,
}

impl Ledger {
    fn new(alpha: f64, wealth: f64) -> Result<Self, Error> {
        checked(alpha, wealth)?;
        Ok(Self { alpha, wealth, counted: vec![0], rejections: vec![] })
    }

    /// Σ over the beginning and the rejections of pay-off times the weight of the tests that counted since.
    fn level(&self, weight: impl Fn(usize) -> f64) -> f64 {
        let mut level = self.wealth * weight(self.since(0));
        for (rank, &rejected) in self.rejections.iter().enumerate() {
            let paid = if rank == 0 { self.alpha - self.wealth } else { self.alpha };
            level += paid * weight(self.since(rejected));
        }
        level
    }

    fn since(&self, test: usize) -> usize {
        self.counted[self.counted.len() - 1] - self.counted[test]
    }

    fn note(&mut self, counts: bool, rejected: bool) {
        self.counted.push(self.counted[self.counted.len() - 1] + usize::from(counts));
        if rejected {
            self.rejections.push(self.counted.len() - 1);
        }
    }
}

/// SAFFRON: as [`LordPlusPlus`], but a p-value at or below λ costs nothing, for it may well be no null.
///
/// αₜ = min(λ, (1−λ)·(w₀·γ + (α−w₀)·γ + α·Σγ)), each γ at one more than the number of tests since (the beginning, a
/// rejection) whose p-value was above λ.
/// # Source
/// Ramdas et al. (2018), "SAFFRON: an adaptive algorithm for online control of the false discovery rate".
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Saffron {
    lambda: f64,
    ledger: Ledger,
}

impl Saffron {
    /// Keeps the false discovery rate at α with first wealth `wealth`; λ = ½ is usual.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] unless 0 < wealth < α < 1 and 0 < λ < 1.
    pub fn new(alpha: f64, wealth: f64, lambda: f64) -> Result<Self, Error> {
        check::inside(lambda, "lambda", "in (0, 1)", lambda > 0.0 && lambda < 1.0)?;
        Ok(Self { lambda, ledger: Ledger::new(alpha, wealth)? })
    }

    /// The level of the next test.
    pub fn level(&self) -> f64 {
        let weight = |above: usize| power_weight(above + 1);
        self.lambda.min((1.0 - self.lambda) * self.ledger.level(weight))
    }

    /// Whether the next p-value is rejected.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] unless 0 ≤ p ≤ 1.
    pub fn test(&mut self, p: f64) -> Result<bool, Error> {
        p_value(p)?;
        let rejected = p <= self.level();
        self.ledger.note(p > self.lambda, rejected);
        Ok(rejected)
    }
}

/// ADDIS: as [`Saffron`], and p-values above τ are not counted either: conservative nulls cost nothing.
///
/// αₜ = min(λ, (τ−λ)·(w₀·γ + (α−w₀)·γ + α·Σγ)), each γ at one more than the number of tests since with λ < p ≤ τ.
/// # Source
/// Tian & Ramdas (2019), "ADDIS: an adaptive discarding algorithm for online FDR control with conservative nulls".
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Addis {
    lambda: f64,
    tau: f64,
    ledger: Ledger,
}

impl Addis {
    /// Keeps the false discovery rate at α with first wealth `wealth`; λ = ¼ and τ = ½ are usual.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] unless 0 < wealth < α < 1 and 0 < λ < τ ≤ 1.
    pub fn new(alpha: f64, wealth: f64, lambda: f64, tau: f64) -> Result<Self, Error> {
        check::inside(lambda, "lambda", "in (0, tau)", lambda > 0.0 && lambda < tau)?;
        check::inside(tau, "tau", "in (0, 1]", tau > 0.0 && tau <= 1.0)?;
        Ok(Self { lambda, tau, ledger: Ledger::new(alpha, wealth)? })
    }

    /// The level of the next test.
    pub fn level(&self) -> f64 {
        let level = self.ledger.level(|counted| power_weight(counted + 1));
        self.lambda.min((self.tau - self.lambda) * level)
    }

    /// Whether the next p-value is rejected.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] unless 0 ≤ p ≤ 1.
    pub fn test(&mut self, p: f64) -> Result<bool, Error> {
        p_value(p)?;
        let rejected = p <= self.level();
        self.ledger.note(p > self.lambda && p <= self.tau, rejected);
        Ok(rejected)
    }
}
