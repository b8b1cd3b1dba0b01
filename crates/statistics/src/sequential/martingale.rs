//! A test of exchangeability: whether the newest value could as well have come first.

use crate::{Error, Generator, check};

/// How often the bet may change its mind.
const JUMP: f64 = 0.01;
/// The bets: that p-values are small, indifferent, or large.
const BETS: [f64; 3] = [-1.0, 0.0, 1.0];

/// A conformal test martingale with the simple jumper's bets.
///
/// pₜ = (#{αᵢ > αₜ} + U·#{αᵢ = αₜ})/t over the strangeness α of all values so far; the wealth of each bet ε is multiplied by
/// 1 + ε(pₜ − ½), after a share J = 0.01 of all wealth was spread evenly. Under exchangeability P(wealth ever ≥ c) ≤ 1/c.
/// Seasonal values are not exchangeable: feed it residuals.
/// ```
/// let mut generator = statistics::Generator::from_seed(7);
/// let mut martingale = statistics::sequential::ConformalMartingale::default();
/// for t in 0..2_000 {
///     let x = generator.uniform() + if t < 1_000 { 0.0 } else { 1.0 };
///     martingale.observe(x, &mut generator).unwrap();
/// }
/// assert!(martingale.log_wealth() > 10.0);
/// ```
/// # Source
/// Vovk, Petej & Nouretdinov (2021), "Retrain or not retrain: conformal test martingales for change-point detection".
#[derive(Clone, Debug)]
pub struct ConformalMartingale {
    /// Strangeness so far, ascending.
    seen: Vec<f64>,
    /// The wealth of each bet, as a share of all.
    shares: [f64; 3],
    log_wealth: f64,
}

impl Default for ConformalMartingale {
    fn default() -> Self {
        Self { seen: vec![], shares: [1.0 / 3.0; 3], log_wealth: 0.0 }
    }
}

impl ConformalMartingale {
    /// Takes the strangeness of the newest value: anything that grows the less the value belongs.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] for NaN.
    pub fn observe(&mut self, strangeness: f64, generator: &mut Generator) -> Result<(), Error> {
        check::no_nan(&[strangeness], "strangeness")?;
        let below = self.seen.partition_point(|seen| *seen < strangeness);
        let upto = self.seen.partition_point(|seen| *seen <= strangeness);
        let (greater, equal) = ((self.seen.len() - upto) as f64, (upto - below) as f64 + 1.0);
        self.seen.insert(upto, strangeness);
        self.bet((greater + generator.uniform() * equal) / self.seen.len() as f64);
        Ok(())
    }

    fn bet(&mut self, p: f64) {
        let spread = self.shares.map(|share| (1.0 - JUMP) * share + JUMP / 3.0);
        let mut grown = spread;
        grown.iter_mut().zip(BETS).for_each(|(share, bet)| *share *= 1.0 + bet * (p - 0.5));
        let total: f64 = grown.iter().sum();
        self.log_wealth += total.ln();
        self.shares = grown.map(|share| share / total);
    }

    /// ln of the wealth that began as 1.
    pub fn log_wealth(&self) -> f64 {
        self.log_wealth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_in_no_order_seldom_earns_much() {
        let mut generator = Generator::from_seed(3);
        let mut exceeds = || {
            let mut martingale = ConformalMartingale::default();
            (0..500).any(|_| {
                let x = generator.uniform();
                martingale.observe(x, &mut generator).unwrap();
                martingale.log_wealth() >= 20f64.ln()
            })
        };
        let exceeded = (0..200).filter(|_| exceeds()).count();
        assert!(exceeded <= 20, "{exceeded} of 200, where at most one in twenty may"); // 10 ± 3
    }

    #[test]
    fn equal_values_are_no_evidence() {
        let mut generator = Generator::from_seed(3);
        let mut martingale = ConformalMartingale::default();
        (0..1_000).for_each(|_| martingale.observe(1.0, &mut generator).unwrap());
        assert!(martingale.log_wealth() < 20f64.ln());
    }
}
