//! Evidence that adds up over windows.

use super::judgement::explained_last;
use super::yardstick::Claim;
use super::{Cause, Look};
use crate::Error;
use crate::sequential::e_bh;

/// How much of the greatest stake that cannot ruin is bet: on changes of every size at once.
const STAKES: [f64; 4] = [0.25, 0.0625, 0.015_625, 0.003_906_25];
/// ln(1 − stake): what a bet keeps of a no.
const LOST: [f64; 4] = [
    -0.287_682_072_451_780_9,
    -0.064_538_521_137_571_18,
    -0.015_748_356_968_139_168,
    -0.003_913_899_321_136_329,
];
/// Bets on each question: on more and on less.
const BETS: usize = STAKES.len() * 2;
/// ln of the most that a bet keeps: what has been lost track of for long is forgotten soon.
const MOST: f32 = 40.0;

/// ln of evidence beyond which more says nothing more.
const PLENTY: f64 = 15.0;

/// Windows in a row after which evidence that they do not bear out is forgotten.
const FORGOTTEN_AFTER: u32 = 3;

/// What was won by betting that a column moved: an e-CUSUM a question, direction and stake.
///
/// M_t = max(1, M_{t−1})·(1 + λ(x − b))ⁿ, with x the window's share, n the independent rows it is worth and b the greatest
/// share that is no drift. Without drift a value of 1/α is reached on average after 1/α windows at the soonest, however
/// often one looks. Averages over stakes, questions and causes are such values again.
/// # Source
/// Shin, Ramdas & Rinaldo (2024), "E-detectors: a nonparametric framework for sequential change detection".
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Evidence {
    /// ln M by question, direction and stake.
    log_wealth: Vec<f32>,
    /// Windows in a row that do not bear out what there is plenty of evidence for.
    quiet: u32,
}

impl Evidence {
    /// Takes a window. Evidence about other questions than before begins anew, and so does what several windows in a row do
    /// not bear out any more.
    pub fn take(&mut self, look: &Look<'_>) {
        self.log_wealth.resize(look.claims.len() * BETS, 0.0);
        let asked = look.claims.iter().zip(look.terms.iter());
        let (wealth, _) = self.log_wealth.as_chunks_mut::<{ STAKES.len() }>();
        let (more_and_less, _) = wealth.as_chunks_mut::<2>();
        for ((claim, term), [more, less]) in asked.zip(more_and_less) {
            settle(more, term.bets.more.as_ref(), claim.share, claim.size);
            settle(less, term.bets.less.as_ref(), 1.0 - claim.share, claim.size);
        }
        self.quiet = if self.is_borne_out(look) { 0 } else { self.quiet + 1 };
        if self.quiet >= FORGOTTEN_AFTER {
            *self = Self::default();
            self.log_wealth.resize(look.claims.len() * BETS, 0.0);
        }
    }

    /// Whether the share that most was won on still lies beyond what is no drift, by a standard error.
    fn is_borne_out(&self, look: &Look<'_>) -> bool {
        let (bets, _) = self.log_wealth.as_chunks::<BETS>();
        if f64::from(greatest(bets)) < PLENTY {
            return true;
        }
        let wealth = bets.iter().map(|bets| greatest(&[*bets]));
        let leading = wealth.zip(&look.claims).max_by(|one, other| one.0.total_cmp(&other.0));
        let Some((_, claim)) = leading else { return true };
        let beyond = (claim.share - claim.expected).abs() - claim.bound;
        beyond > (claim.expected * (1.0 - claim.expected) / claim.size.max(1.0)).sqrt()
    }

    /// ln of the evidence that the column moved: the mean over causes of the mean over their questions and bets.
    pub fn log_e(&self, look: &Look<'_>) -> f64 {
        let (mut sum, mut causes) = (0.0, 0.0);
        for (_, evidence) in self.by_cause(&look.claims) {
            (sum, causes) = (sum + evidence, causes + 1.0);
        }
        if causes > 0.0 { f64::ln(sum / causes) } else { 0.0 }
    }

    /// The cause that there is evidence for; of several with a lot of it, the one that the latest window shows best.
    pub fn cause(&self, look: &Look<'_>) -> Option<Cause> {
        let by_cause: Vec<(Cause, f64)> = self.by_cause(&look.claims).collect();
        let greatest = by_cause.iter().map(|(_, evidence)| *evidence).fold(1.0, f64::max).min(PLENTY.exp());
        let has = |cause: Cause| by_cause.iter().any(|(of, evidence)| *of == cause && *evidence >= greatest);
        let mut shown = look.causes();
        shown.retain(|shown| has(shown.cause));
        explained_last(&mut shown, |_| true);
        shown.first().map(|shown| shown.cause)
    }

    /// The evidence for each cause: the mean over its questions and bets.
    fn by_cause(&self, claims: &[Claim]) -> impl Iterator<Item = (Cause, f64)> {
        let mut begin = 0;
        claims.chunk_by(|one, other| one.cause == other.cause).map(move |of_cause| {
            let end = begin + of_cause.len() * BETS;
            let own = self.log_wealth.get(begin..end).unwrap_or_default();
            begin = end;
            (of_cause[0].cause, mean_exp(own))
        })
    }
}

/// What bets on a share win by a yes: ln(1 + stake·(1 − b)/b), b the greatest share that is no drift; none if no share lies
/// beyond it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bets {
    more: Option<[f64; STAKES.len()]>,
    less: Option<[f64; STAKES.len()]>,
}

impl Bets {
    pub(super) fn on(expected: f64, bound: f64) -> Self {
        let wins = |least: f64| {
            let odds = (1.0 - least) / least;
            (least < 1.0 && least > 0.0).then(|| STAKES.map(|stake| (stake * odds).ln_1p()))
        };
        Self { more: wins(expected + bound), less: wins(1.0 - expected + bound) }
    }
}

/// A window's outcome for bets on a share.
fn settle(log_wealth: &mut [f32; STAKES.len()], wins: Option<&[f64; STAKES.len()]>, share: f64, size: f64) {
    let Some(wins) = wins.filter(|_| size > 0.0) else { return };
    let (yes, no) = (size * share, size * (1.0 - share));
    let won: [f64; STAKES.len()] = std::array::from_fn(|stake| yes * wins[stake] + no * LOST[stake]);
    let next = |stake: usize| lesser(larger(log_wealth[stake], 0.0) + won[stake] as f32, MOST);
    *log_wealth = std::array::from_fn(next);
}

/// The larger of two numbers as one instruction says it, which `f32::max` is not: it minds NaN.
fn larger(one: f32, other: f32) -> f32 {
    if one > other { one } else { other }
}

fn lesser(one: f32, other: f32) -> f32 {
    if one < other { one } else { other }
}

/// The greatest of all bets, −∞ of none: in eights, which are compared at once.
fn greatest(eights: &[[f32; BETS]]) -> f32 {
    let mut greatest = [f32::NEG_INFINITY; BETS];
    for eight in eights {
        greatest.iter_mut().zip(eight).for_each(|(most, log)| *most = larger(*log, *most));
    }
    greatest.into_iter().fold(f32::NEG_INFINITY, larger)
}

/// The mean of what bets on some questions have become, of their logs: in eights, which are computed at once. 1 without one.
fn mean_exp(logs: &[f32]) -> f64 {
    let (eights, _) = logs.as_chunks::<BETS>();
    if eights.is_empty() {
        return 1.0;
    }
    let mut sums = [0.0_f32; BETS]; // no bet keeps more than e⁴⁰
    for eight in eights {
        sums.iter_mut().zip(eight).for_each(|(sum, log)| *sum += exp(*log));
    }
    f64::from(sums.into_iter().sum::<f32>()) / logs.len() as f64
}

/// 1.5·2²³: added to a number of less than 2²², it pushes all that is behind the point out.
const ROUNDS: f32 = 12_582_912.0;

/// eˣ of a number at most 87, to 10⁻⁵ of it, and e⁻⁸⁷ below −87: without a branch, so that many are computed at once.
///
/// 2ⁿ·2ᶠ with n the nearest whole number to x/ln 2 and 2ᶠ by its Taylor series.
fn exp(x: f32) -> f32 {
    let y = larger(x, -87.0) * std::f32::consts::LOG2_E;
    let shifted = y + ROUNDS;
    let f = (y - (shifted - ROUNDS)) * std::f32::consts::LN_2;
    let whole = shifted.to_bits().wrapping_sub(ROUNDS.to_bits()); // n, as the last bits of what was shifted
    let series = 1.0 + f * (1.0 + f * (1.0 / 2.0 + f * (1.0 / 6.0 + f * (1.0 / 24.0 + f * (1.0 / 120.0)))));
    series * f32::from_bits(whole.wrapping_add(127) << 23)
}

/// Which columns' evidence holds among all columns: e-BH at level `alpha`.
///
/// # Errors
/// [`Error::OutOfDomain`] for NaN, or alpha outside (0, 1].
pub fn kept(log_e: &[f64], alpha: f64) -> Result<Vec<bool>, Error> {
    let e_values: Vec<f64> = log_e.iter().map(|log| log.min(700.0).exp()).collect();
    e_bh(&e_values, alpha)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logs_of_what_a_no_leaves_are_those_of_the_stakes() {
        for (stake, lost) in STAKES.into_iter().zip(LOST) {
            assert!(((-stake).ln_1p() - lost).abs() < 1e-16, "{stake}");
        }
    }

    #[test]
    fn a_window_multiplies_each_stake_by_what_its_values_win_and_lose() {
        let (expected, bound, share, size) = (0.3, 0.05, 0.5, 40.0);
        let mut wealth = [0.0_f32; STAKES.len()];
        settle(&mut wealth, Bets::on(expected, bound).more.as_ref(), share, size);
        let (least, yes) = (expected + bound, size * share);
        for (wealth, stake) in wealth.into_iter().zip(STAKES) {
            // 1 + λ(x − b) with λ = stake/b, of yes ones and of the other values, which are 0
            let factor = |x: f64| (1.0 + stake / least * (x - least)).ln();
            let slow = yes * factor(1.0) + (size - yes) * factor(0.0);
            assert!((f64::from(wealth) - slow).abs() < 1e-5, "{stake}: {wealth} {slow}");
        }
        let mut none = [1.0_f32; STAKES.len()];
        settle(&mut none, Bets::on(0.99, 0.05).more.as_ref(), share, size);
        assert_eq!(none, [1.0; STAKES.len()], "no share lies beyond 1.04");
    }

    #[test]
    fn the_quick_exponential_is_the_slow_one_to_five_digits() {
        for step in -8_700..8_700 {
            let x = 0.01 * step as f32;
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) / expected - 1.0).abs() < 1e-5, "{x}: {} {expected}", exp(x));
        }
        assert!(exp(-1e6) < 1e-37 && exp(0.0) == 1.0);
    }

    #[test]
    fn the_mean_of_exponentials_is_that_of_the_slow_way() {
        let logs: Vec<f32> = (0..320).map(|n| (n as f32 * 0.37).sin() * 9.0).collect();
        let slow = logs.iter().map(|log| f64::from(*log).exp()).sum::<f64>() / 320.0;
        assert!((mean_exp(&logs) / slow - 1.0).abs() < 1e-5);
        assert_eq!(mean_exp(&[]), 1.0);
        assert!(mean_exp(&[MOST; 320 * BETS]).is_finite());
    }
}
