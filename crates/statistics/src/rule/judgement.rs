//! What one window says.

use super::yardstick::Claim;
use super::{Cause, Effect, Look, effect};
use crate::Error;
use crate::distributions::normal_sf;
use crate::profile::ColumnProfile;

/// What became of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Verdict {
    /// It did not move by more than what is no drift, as far as the rows show.
    #[serde(rename = "ok")]
    Ok,
    /// There are too few values to tell.
    #[serde(rename = "insufficient data")]
    InsufficientData,
    /// It moved.
    #[serde(rename = "drift")]
    Drift,
    /// It is not the column it was: absent, of another type, or mostly missing.
    #[serde(rename = "broken")]
    Broken,
}

/// A cause that a window shows, with the question that shows it best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// The cause.
    pub cause: Cause,
    /// How far off the answer is, in standard errors beyond what is no drift.
    pub score: f64,
    /// P(an answer so far off, or further, to one of the cause's questions were there no drift), at most 1.
    pub p_value: f64,
    /// Which question of the yardstick.
    pub question: usize,
    /// The share of yes in the reference.
    pub before: f64,
    /// And in the window.
    pub now: f64,
}

impl Shown {
    /// Numbers that all lie elsewhere are outside the middle, too: of about equals, where they lie is what happened.
    fn weight(&self) -> f64 {
        if self.cause == Cause::Location { 1.1 * self.score } else { self.score }
    }
}

/// What one window says about a column.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The verdict of this column alone; [`Verdict::Drift`] still has to hold among all columns.
    pub verdict: Verdict,
    /// How far it moved.
    pub effect: Option<Effect>,
    /// Bonferroni's over the causes.
    pub p_value: f64,
    /// Every cause asked about, likeliest first.
    pub causes: Vec<Shown>,
    /// For [`Verdict::InsufficientData`]: how many values are needed on each side.
    pub needed: Option<u64>,
}

impl Look<'_> {
    /// The window.
    pub fn window(&self) -> &ColumnProfile {
        self.window
    }

    /// Rows of the window.
    pub fn rows(&self) -> u64 {
        self.answers.rows
    }

    /// Values of the window.
    pub fn values(&self) -> u64 {
        self.answers.values
    }

    /// How many independent values they are worth.
    pub fn effective(&self) -> f64 {
        self.answers.effective
    }

    /// The verdict on this window.
    ///
    /// # Errors
    /// [`Error`] if the settings are none.
    pub fn judge(&self) -> Result<Judgement, Error> {
        let (least, settings) = (self.settings.min_rows.max(1), self.settings);
        let enough = self.answers.values >= least && self.compared_with >= least as f64;
        let effect = match self.answers.values > 0 && self.compared_with > 0.0 {
            true => Some(effect(self, 0.95)?),
            false => None,
        };
        let causes = self.causes();
        let least_p = causes.iter().map(|shown| shown.p_value).fold(1.0, f64::min);
        let p_value = (least_p * causes.len() as f64).min(1.0);
        let verdict = match () {
            () if self.is_mostly_missing(&causes) => Verdict::Broken,
            () if !enough => Verdict::InsufficientData,
            () if p_value <= settings.alpha => Verdict::Drift,
            () => Verdict::Ok,
        };
        let needed = (verdict == Verdict::InsufficientData).then_some(least);
        Ok(Judgement { verdict, effect, p_value, causes, needed })
    }

    /// Whether the window's own share of an answer about `cause` lies beyond what is no drift, be it by chance.
    pub fn leans_to(&self, cause: Cause) -> bool {
        let mut of_cause = self.claims.iter().filter(|claim| claim.cause == cause);
        of_cause.any(|claim| (claim.share - claim.expected).abs() > claim.bound)
    }

    /// Half of the reference was there, half of the window surely is not.
    fn is_mostly_missing(&self, causes: &[Shown]) -> bool {
        let missing = causes.iter().find(|shown| shown.cause == Cause::Missing);
        missing.is_some_and(|shown| {
            let n = self.answers.rows as f64;
            let surely = shown.now - 3.3 * (shown.now * (1.0 - shown.now) / n.max(1.0)).sqrt() > 0.5;
            self.answers.rows >= self.settings.min_rows && shown.before < 0.5 && surely
        })
    }

    /// The causes, likeliest first; their p-values are Bonferroni's over their questions, each as often as it can be answered
    /// differently: by more, by less or by both.
    pub(super) fn causes(&self) -> Vec<Shown> {
        let mut shown: Vec<Shown> = Vec::with_capacity(Cause::ALL.len());
        let mut begin = 0;
        for of_cause in self.claims.chunk_by(|one, other| one.cause == other.cause) {
            let squares = of_cause.iter().map(Claim::score_squared).enumerate();
            let best = squares.fold((0, 0.0), |best, own| if own.1 >= best.1 { own } else { best });
            let best = (best.0, best.1.sqrt());
            let claim = &of_cause[best.0];
            let ways: u32 = of_cause.iter().map(Claim::ways).sum();
            shown.push(Shown {
                cause: claim.cause,
                score: best.1,
                p_value: p_value(best.1, ways),
                question: begin + best.0,
                before: claim.expected,
                now: claim.share,
            });
            begin += of_cause.len();
        }
        shown.sort_by(|one, other| other.weight().total_cmp(&one.weight()));
        explained_last(&mut shown, |shown| shown.p_value <= self.settings.alpha);
        shown
    }
}

/// Numbers that lie elsewhere or further apart leave the range and change their shape, too: that is not what happened.
pub(super) fn explained_last(shown: &mut [Shown], holds: impl Fn(&Shown) -> bool) {
    let explains = |shown: &Shown| matches!(shown.cause, Cause::Location | Cause::Spread);
    if shown.iter().any(|shown| explains(shown) && holds(shown)) {
        shown.sort_by_key(|shown| matches!(shown.cause, Cause::Range | Cause::Shape));
    }
}

/// P(a score so high or higher in one of so many ways), at most 1, which it is without a score.
fn p_value(score: f64, ways: u32) -> f64 {
    if score > 0.0 { (normal_sf(score) * f64::from(ways)).min(1.0) } else { 1.0 }
}

impl Claim {
    /// On how many sides of `expected ± bound` shares lie: of what the reference has less than `bound`, no share is too little.
    fn ways(&self) -> u32 {
        u32::from(self.expected + self.bound < 1.0) + u32::from(self.expected - self.bound > 0.0)
    }

    /// How far the share lies beyond `expected ± bound`, on its side, as a standard normal value's square; 0 within.
    ///
    /// The law of a count by the signed root of its likelihood ratio, with one row less for the jump of a count:
    /// 1 − Φ(√(2n·KL(share, bound))) is above the binomial law's.
    ///
    /// # Source
    /// Zubkov & Serov (2013), "A complete proof of universal inequalities for the distribution function of the binomial law".
    pub(super) fn score_squared(&self) -> f64 {
        let (high, low) = (self.expected + self.bound, self.expected - self.bound);
        if self.size <= 0.0 {
            0.0
        } else if self.share > high && high < 1.0 {
            twice_divergence(self.share - 1.0 / self.size, high, self.size)
        } else if self.share < low && low > 0.0 {
            twice_divergence(1.0 - self.share - 1.0 / self.size, 1.0 - low, self.size)
        } else {
            0.0
        }
    }
}

fn twice_divergence(share: f64, least: f64, size: f64) -> f64 {
    if share <= least {
        return 0.0;
    }
    let term = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    let divergence = term(share, least) + term(1.0 - share, 1.0 - least);
    2.0 * size * divergence.max(0.0)
}
