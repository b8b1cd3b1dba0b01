//! Betting against "the mean is m" with values in [0, 1]: wealth grows only if the mean is another.

use crate::{Error, check};

/// Which departures from the reference to bet on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The mean has risen.
    Rise,
    /// The mean has fallen.
    Fall,
    /// Half of the stake on each.
    Both,
}

/// One stake a bet, and what it has become. Can be stored between windows.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Stakes {
    reference: f64,
    bets: Vec<f64>,
    log_wealth: Vec<f64>,
}

impl Stakes {
    fn new(reference: f64, bets: Vec<f64>) -> Result<Self, Error> {
        check::inside(reference, "the reference mean", "in (0, 1)", reference > 0.0 && reference < 1.0)?;
        check::at_least(1, bets.len(), "bets")?;
        check::all(&bets, "bets", "in [−1/(1−m), 1/m]", |bet| {
            (-1.0 / (1.0 - reference)..=1.0 / reference).contains(&bet)
        })?;
        let log_wealth = vec![0.0; bets.len()];
        Ok(Self { reference, bets, log_wealth })
    }

    /// Bets of 2⁻¹ … 2⁻⁸ of the greatest that cannot ruin.
    fn grid(reference: f64, direction: Direction) -> Result<Self, Error> {
        let fractions = (1..=8).map(|k| (-f64::from(k)).exp2());
        let up = fractions.clone().map(|fraction| fraction / reference);
        let down = fractions.map(|fraction| -fraction / (1.0 - reference));
        let bets = match direction {
            Direction::Rise => up.collect(),
            Direction::Fall => down.collect(),
            Direction::Both => up.chain(down).collect(),
        };
        Self::new(reference, bets)
    }

    /// Multiplies each stake by the factors of `weight` values equal to `x`.
    fn observe(&mut self, x: f64, weight: f64) {
        if weight > 0.0 {
            for (wealth, bet) in self.log_wealth.iter_mut().zip(&self.bets) {
                *wealth += weight * (bet * (x - self.reference)).max(-1.0).ln_1p();
            }
        }
    }

    fn observe_counts(&mut self, events: u64, trials: u64) -> Result<(), Error> {
        check::inside(events as f64, "events", "at most the trials", events <= trials)?;
        self.observe(1.0, events as f64);
        self.observe(0.0, (trials - events) as f64);
        Ok(())
    }

    /// ln of the mean wealth.
    fn log_e(&self) -> f64 {
        let greatest = self.log_wealth.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if greatest == f64::NEG_INFINITY {
            return greatest;
        }
        let sum: f64 = self.log_wealth.iter().map(|wealth| (wealth - greatest).exp()).sum();
        greatest + (sum / self.bets.len() as f64).ln()
    }
}

fn unit(x: f64) -> Result<(), Error> {
    check::inside(x, "an observation", "in [0, 1]", (0.0..=1.0).contains(&x))
}

/// An e-process for "every value in [0, 1] has mean m, whatever came before".
///
/// E_t = meanⱼ Πₛ (1 + λⱼ(xₛ − m)) over a fixed grid of bets λⱼ. P(E_t ≥ 1/α for any t) ≤ α.
/// ```
/// use statistics::sequential::Betting;
/// let mut betting = Betting::with_bets(0.5, vec![1.0]).unwrap();
/// betting.observe(1.0).unwrap();
/// betting.observe(0.0).unwrap();
/// assert!((betting.log_e() - (1.5f64 * 0.5).ln()).abs() < 1e-15);
/// ```
/// # Source
/// Waudby-Smith & Ramdas (2024), "Estimating means of bounded random variables by betting".
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Betting(Stakes);

impl Betting {
    /// Bets of 2⁻¹ … 2⁻⁸ of the greatest that cannot ruin, in equal parts.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] unless 0 < reference < 1.
    pub fn new(reference: f64, direction: Direction) -> Result<Self, Error> {
        Stakes::grid(reference, direction).map(Self)
    }

    /// These bets in equal parts.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] unless 0 < m < 1 and every bet is in [−1/(1−m), 1/m]; [`Error::TooFew`] without one.
    pub fn with_bets(reference: f64, bets: Vec<f64>) -> Result<Self, Error> {
        Stakes::new(reference, bets).map(Self)
    }

    /// Takes one value.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] outside [0, 1].
    pub fn observe(&mut self, x: f64) -> Result<(), Error> {
        unit(x)?;
        self.0.observe(x, 1.0);
        Ok(())
    }

    /// Takes a window of `trials` values, `events` of them 1 and the others 0.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] if there are more events than trials.
    pub fn observe_counts(&mut self, events: u64, trials: u64) -> Result<(), Error> {
        self.0.observe_counts(events, trials)
    }

    /// ln E; alarm at ln(1/α).
    pub fn log_e(&self) -> f64 {
        self.0.log_e()
    }
}

/// The restarting version, for a change that comes late: wealth below the stake is topped up at each step.
///
/// M_t = meanⱼ Mⱼ_t, Mⱼ_t = max(1, Mⱼ_{t−1})·(1 + λⱼ(x_t − m)). Without a change, the mean number of steps to
/// M ≥ 1/α is at least 1/α. A step is one call: a value, or a window as a whole.
/// ```
/// use statistics::sequential::{Direction, ECusum};
/// let mut cusum = ECusum::new(0.5, Direction::Rise).unwrap();
/// (0..100).for_each(|_| cusum.observe(0.0).unwrap()); // losses that a plain process could not make up
/// (0..20).for_each(|_| cusum.observe(1.0).unwrap());
/// assert!(cusum.log_e() > 5.0);
/// ```
/// # Source
/// Shin, Ramdas & Rinaldo (2024), "E-detectors: a nonparametric framework for sequential change detection".
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ECusum(Stakes);

impl ECusum {
    /// The bets of [`Betting::new`].
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] unless 0 < reference < 1.
    pub fn new(reference: f64, direction: Direction) -> Result<Self, Error> {
        Stakes::grid(reference, direction).map(Self)
    }

    /// Takes one value as a step.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] outside [0, 1].
    pub fn observe(&mut self, x: f64) -> Result<(), Error> {
        unit(x)?;
        self.top_up();
        self.0.observe(x, 1.0);
        Ok(())
    }

    /// Takes a window as one step.
    ///
    /// # Errors
    /// [`Error::OutOfDomain`] if there are more events than trials.
    pub fn observe_counts(&mut self, events: u64, trials: u64) -> Result<(), Error> {
        check::inside(events as f64, "events", "at most the trials", events <= trials)?;
        self.top_up();
        self.0.observe_counts(events, trials)
    }

    fn top_up(&mut self) {
        self.0.log_wealth.iter_mut().for_each(|wealth| *wealth = wealth.max(0.0));
    }

    /// ln M; alarm at ln(1/α).
    pub fn log_e(&self) -> f64 {
        self.0.log_e()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Generator;

    #[test]
    fn looking_at_every_step_raises_few_false_alarms() {
        let alarms = (0..300)
            .filter(|&seed| {
                let mut generator = Generator::from_seed(seed);
                let mut betting = Betting::new(0.1, Direction::Both).unwrap();
                (0..2000).any(|_| {
                    betting.observe(f64::from(u8::from(generator.uniform() < 0.1))).unwrap();
                    betting.log_e() >= 20f64.ln()
                })
            })
            .count();
        assert!(alarms <= 22, "{alarms} of 300, where 15 are allowed on average");
    }

    #[test]
    fn a_window_counts_as_its_rows_do() {
        let (mut rows, mut window) =
            (Betting::new(0.3, Direction::Both).unwrap(), Betting::new(0.3, Direction::Both).unwrap());
        for x in [1.0, 0.0, 0.0, 1.0, 1.0] {
            rows.observe(x).unwrap();
        }
        window.observe_counts(3, 5).unwrap();
        assert!((rows.log_e() - window.log_e()).abs() < 1e-12);
        assert!(window.observe_counts(2, 1).is_err());
    }

    #[test]
    fn a_ruined_bet_leaves_a_number() {
        let mut betting = Betting::with_bets(0.5, vec![2.0]).unwrap();
        betting.observe(0.0).unwrap();
        betting.observe(1.0).unwrap();
        assert_eq!(betting.log_e(), f64::NEG_INFINITY);
    }
}
