//! What windows are held against: a reference's shares, by season, and how far its own days lie apart.

use std::sync::{Arc, OnceLock};

use super::evidence::Bets;
use super::questions::{Answers, Questions};
use super::{Cause, Question, Settings};
use crate::distributions::normal_quantile;
use crate::profile::ColumnProfile;

/// How the windows of a reference are told apart by season: `slots` seasons, in which `windows` windows lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Season {
    /// How many windows make a season: 168 hours, say. Without a season 1.
    pub slots: usize,
}

/// A reference, ready to hold windows against.
#[derive(Clone, Debug)]
pub struct Yardstick {
    pub(super) whole: ColumnProfile,
    /// Of numbers: how many lie in each bin or below.
    pub(super) below: Vec<f64>,
    pub(super) questions: Questions,
    /// The shares of each question, and how many independent values they rest on, by slot.
    slots: Vec<Slot>,
    /// How many independent values the whole reference is worth, for each question.
    whole_slot: Slot,
    /// The share of independent values among the values.
    pub(super) worth: f64,
    /// How far the days of the reference lie apart, by question: what each day of a month may differ by at level 0.001, in
    /// the logit of its share.
    days: Vec<f64>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    shares: Vec<f64>,
    values: f64,
    rows: f64,
    /// What its questions come to under the settings that were asked first: windows by the thousand are held against them.
    terms: OnceLock<(Settings, Arc<[Term]>)>,
}

/// A question as the reference answers it, whatever the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    cause: Cause,
    expected: f64,
    /// Independent values of the slot.
    values: f64,
    bound: f64,
    /// What bets on the share win.
    pub(super) bets: Bets,
}

impl Slot {
    fn size(&self, cause: Cause) -> f64 {
        if cause == Cause::Missing { self.rows } else { self.values }
    }
}

/// A question as a window answered it, beside what the reference says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) cause: Cause,
    /// The share of yes in the window.
    pub(super) share: f64,
    /// The share of yes in the reference.
    pub(super) expected: f64,
    /// n·m/(n + m) of the independent values on both sides: what the difference of the shares is worth.
    pub(super) size: f64,
    /// The greatest difference of the laws that is no drift.
    pub(super) bound: f64,
}

/// A window held against a yardstick.
#[derive(Clone, Debug)]
pub struct Look<'a> {
    pub(super) yardstick: &'a Yardstick,
    pub(super) window: &'a ColumnProfile,
    pub(super) answers: Answers,
    pub(super) claims: Vec<Claim>,
    /// What the reference says to each of them.
    pub(super) terms: Arc<[Term]>,
    /// The share of independent values among those of the window.
    pub(super) worth: f64,
    /// Values of the reference that the window is compared with.
    pub(super) compared_with: f64,
    pub(super) settings: Settings,
    pub(super) seasonal: bool,
}

impl Yardstick {
    /// A reference without a season: its rows are independent of each other, whatever their order says.
    pub fn of(whole: ColumnProfile) -> Self {
        Self::new(whole, 1.0)
    }

    /// A reference without a season whose rows follow each other.
    pub fn of_series(whole: ColumnProfile) -> Self {
        let worth = whole.effective() / (whole.values() as f64).max(1.0);
        Self::new(whole, worth)
    }

    /// A reference without a season whose values are worth so many independent ones, as a share of their number.
    pub fn worth(whole: ColumnProfile, worth: f64) -> Self {
        Self::new(whole, worth.clamp(0.0, 1.0))
    }

    fn new(whole: ColumnProfile, worth: f64) -> Self {
        let questions = Questions::of(&whole);
        let answers = questions.answers(&whole, &whole).unwrap_or_default();
        let mut slot = Slot {
            shares: questions
                .all
                .iter()
                .zip(&answers.yes)
                .map(|(q, yes)| share(*yes, answers.trials(q.cause)))
                .collect(),
            values: answers.values as f64 * worth,
            rows: answers.rows as f64,
            terms: OnceLock::new(),
        };
        for (question, share) in questions.all.iter().zip(&mut slot.shares) {
            match (question.cause, &whole) {
                // The chance that the next value is the greatest of all; and less than no value is known of an empty end.
                (Cause::Range, _) => *share = 1.0 / (answers.values as f64 + 1.0),
                (Cause::Unseen, ColumnProfile::Levels(levels)) => *share = levels.unnamed_share(),
                _ => {}
            }
        }
        let days = vec![0.0; questions.all.len()];
        let below = match &whole {
            ColumnProfile::Numbers(numbers) => crate::drift::cumulated(numbers.counts()),
            ColumnProfile::Levels(_) => Vec::new(),
        };
        Self { whole, below, questions, slots: vec![slot.clone()], whole_slot: slot, worth, days }
    }

    /// Tells seasons apart: `windows` are those of the reference, each with its day and its place in the season. Days that
    /// differ by more than their rows explain widen what counts as no drift.
    pub fn with_season<'a>(
        whole: ColumnProfile,
        season: Season,
        windows: impl Iterator<Item = (i64, usize, &'a ColumnProfile)>,
    ) -> Self {
        let mut yardstick = Self::of_series(whole);
        let windows: Vec<(i64, usize, Answers)> = windows
            .filter_map(|(day, slot, window)| {
                Some((
                    day,
                    slot % season.slots.max(1),
                    yardstick.questions.answers(&yardstick.whole, window)?,
                ))
            })
            .collect();
        yardstick.learn_slots(season, &windows);
        yardstick.learn_days(&windows);
        yardstick
    }

    fn learn_slots(&mut self, season: Season, windows: &[(i64, usize, Answers)]) {
        let mut sums = vec![
            Answers { yes: vec![0; self.questions.all.len()], ..Answers::default() };
            season.slots.max(1)
        ];
        for (_, slot, window) in windows {
            let sum = &mut sums[*slot];
            sum.rows += window.rows;
            sum.values += window.values;
            sum.yes.iter_mut().zip(&window.yes).for_each(|(sum, yes)| *sum += yes);
        }
        self.slots = sums.into_iter().map(|sum| self.slot(&sum)).collect();
    }

    fn slot(&self, sum: &Answers) -> Slot {
        let shares = self.questions.all.iter().enumerate().map(|(place, question)| match question.cause {
            // This is about the whole reference: a season has few rows to know its range by.
            Cause::Range => self.whole_slot.shares[place],
            // Levels that have no name have their seasons, too; those that nobody ever saw have none.
            Cause::Unseen => (share(sum.yes[place], sum.values) + self.never_seen()).min(1.0),
            cause => share(sum.yes[place], sum.trials(cause)),
        });
        let (values, rows) = (sum.values as f64 * self.worth, sum.rows as f64);
        Slot { shares: shares.collect(), values, rows, terms: OnceLock::new() }
    }

    /// Good and Turing's share of levels that the reference never saw.
    fn never_seen(&self) -> f64 {
        match &self.whole {
            ColumnProfile::Levels(levels) => levels.singletons() as f64 / levels.values().max(1) as f64,
            ColumnProfile::Numbers(_) => 0.0,
        }
    }

    /// Whether the reference held levels that have no name.
    fn has_unnamed(&self) -> bool {
        matches!(&self.whole, ColumnProfile::Levels(levels) if levels.other > 0)
    }

    /// A new day's share is foretold from the reference's days: t·s·√(1 + 1/k), s their standard deviation beyond what
    /// sampling explains, k how many of them a season's share rests on.
    fn learn_days(&mut self, windows: &[(i64, usize, Answers)]) {
        let mut seasons: std::collections::BTreeMap<usize, std::collections::BTreeSet<i64>> =
            std::collections::BTreeMap::new();
        for (day, slot, _) in windows {
            seasons.entry(*slot).or_default().insert(*day);
        }
        let days = seasons.values().map(|days| days.len() as f64).sum::<f64>();
        let of_a_season = days / (seasons.len() as f64).max(1.0);
        for (place, question) in self.questions.all.iter().enumerate() {
            if matches!(question.cause, Cause::Range) {
                continue;
            }
            let days = self.residuals(place, question.cause, windows);
            self.days[place] = foretold(&days, of_a_season);
        }
    }

    /// By day: how far the logit of the share lay from those of its seasons, by one step of Newton's, and the variance that
    /// sampling explains: η = Σ(yes − n·p) / Σ n·p·(1 − p), so that a day moves each of its seasons by η·p·(1 − p).
    fn residuals(&self, place: usize, cause: Cause, windows: &[(i64, usize, Answers)]) -> Vec<(f64, f64)> {
        let mut days: std::collections::BTreeMap<i64, (f64, f64)> = std::collections::BTreeMap::new();
        let worth = if cause == Cause::Missing { 1.0 } else { self.worth };
        for (day, slot, window) in windows {
            let n = window.trials(cause) as f64;
            let expected = self.slots[*slot].shares[place];
            let day = days.entry(*day).or_default();
            day.0 += window.yes[place] as f64 - n * expected;
            day.1 += n * expected * (1.0 - expected);
        }
        days.into_values()
            .filter(|day| day.1 > 0.0)
            .map(|(gap, known)| (gap / known, 1.0 / (known * worth.max(1e-9))))
            .collect()
    }

    /// The reference.
    pub fn whole(&self) -> &ColumnProfile {
        &self.whole
    }

    /// Whether seasons are told apart.
    pub fn has_season(&self) -> bool {
        self.slots.len() > 1
    }

    /// The questions.
    pub fn questions(&self) -> &[Question] {
        &self.questions.all
    }

    /// What the values are that a question asks about.
    pub fn in_words(&self, question: usize) -> String {
        self.questions.in_words(question, &self.whole)
    }

    /// Holds a window against this; `slot` is its place in the season. `None` if the column is of another kind.
    pub fn look<'a>(
        &'a self,
        window: &'a ColumnProfile,
        slot: usize,
        settings: Settings,
    ) -> Option<Look<'a>> {
        let answers = self.questions.answers(&self.whole, window)?;
        let slot = &self.slots[slot % self.slots.len()];
        let seasonal = self.slots.len() > 1;
        let worth = (answers.effective / (answers.values as f64).max(1.0)).min(self.worth.max(1e-9));
        let (rows, values) = (answers.rows as f64, answers.values as f64);
        let size = |n: f64, m: f64| if n + m > 0.0 { n * m / (n + m) } else { 0.0 };
        let mut last = (f64::NAN, 0.0); // nearly all questions are about as many values of the reference
        let claim = |(yes, term): (&u64, &Term)| {
            let (trials, size) = if term.cause == Cause::Missing {
                (rows, size(rows, term.values))
            } else {
                if term.values != last.0 {
                    last = (term.values, size(values * worth, term.values));
                }
                (values, last.1)
            };
            let share = *yes as f64 / trials.max(1.0);
            Claim { cause: term.cause, share, expected: term.expected, size, bound: term.bound }
        };
        let terms = self.terms(slot, settings);
        let claims = answers.yes.iter().zip(terms.iter()).map(claim).collect();
        Some(Look {
            yardstick: self,
            window,
            answers,
            claims,
            terms,
            worth,
            compared_with: slot.values / self.worth.max(1e-9),
            settings,
            seasonal,
        })
    }
}

impl Yardstick {
    /// How far days' numbers may lie elsewhere, in the logit of cumulative shares.
    fn days_apart(&self) -> f64 {
        let asked = self.questions.all.iter().zip(&self.days);
        let location = asked.filter(|(question, _)| question.cause == Cause::Location);
        location.map(|(_, days)| *days).fold(0.0, f64::max)
    }

    fn terms(&self, slot: &Slot, settings: Settings) -> Arc<[Term]> {
        let (of, terms) = slot.terms.get_or_init(|| (settings, self.terms_of(slot, settings)));
        if *of == settings { Arc::clone(terms) } else { self.terms_of(slot, settings) }
    }

    fn terms_of(&self, slot: &Slot, settings: Settings) -> Arc<[Term]> {
        let z = -normal_quantile(settings.alpha.clamp(1e-12, 1.0) / 2.0);
        // Days that lie elsewhere move what is in the middle one way at noon and the other way at midnight: on average over
        // the day that is nothing, and so nothing is learned of it; it follows from how far they lie apart.
        let along = self.questions.moved_along(&slot.shares, self.days_apart());
        let term = |(place, question): (usize, &Question)| {
            let (cause, expected) = (question.cause, slot.shares[place]);
            let (values, all) = match cause {
                Cause::Missing => (slot.rows, self.whole_slot.rows),
                Cause::Range => (self.whole_slot.values, self.whole_slot.values),
                // Without a level that has no name every season says the same of new ones.
                Cause::Unseen if !self.has_unnamed() => (self.whole_slot.values, self.whole_slot.values),
                cause => (slot.size(cause), self.whole_slot.size(cause)),
            };
            // What the whole reference leaves open is shared by all windows, and so is no evidence.
            let open = if all > 0.0 { z * (expected * (1.0 - expected) / all).max(0.0).sqrt() } else { 1.0 };
            let of_days = (self.days[place] * expected * (1.0 - expected)).max(along[place]);
            let bound = cause.least(settings) + open + of_days;
            Term { cause, expected, values, bound, bets: Bets::on(expected, bound) }
        };
        self.questions.all.iter().enumerate().map(term).collect()
    }
}

fn share(yes: u64, trials: u64) -> f64 {
    yes as f64 / trials.max(1) as f64
}

/// What each of thirty new days may differ by, all of them together at level 0.001, from days of `(deviation, variance by
/// sampling)` whose expectations are means over `of_a_season` of them.
///
/// A day of N deviates from a mean over k of them, itself among them, by σ²·(1 − 1/k), a new one by σ²·(1 + 1/k). Days that
/// follow each other by ρ count as N·(1 − ρ)/(1 + ρ).
///
/// # Source
/// The correlation's correction for few days: Kendall (1954), "Note on bias in the estimation of autocorrelation".
fn foretold(days: &[(f64, f64)], of_a_season: f64) -> f64 {
    let count = days.len() as f64;
    if days.len() < 7 {
        return 0.0; // nothing is learned from less than a week
    }
    let mean = days.iter().map(|day| day.0).sum::<f64>() / count;
    let variance = days.iter().map(|day| (day.0 - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let by_sampling = days.iter().map(|day| day.1).sum::<f64>() / count;
    let excess = variance - by_sampling;
    if excess <= 0.0 {
        return 0.0;
    }
    let neighbours = days.windows(2).map(|pair| (pair[0].0 - mean) * (pair[1].0 - mean)).sum::<f64>();
    let correlation = neighbours / (variance * (count - 1.0));
    let correlation = (correlation + (1.0 + 3.0 * correlation) / count).clamp(0.0, 0.9);
    let effective = (count * (1.0 - correlation) / (1.0 + correlation)).max(3.0);
    let own = 1.0 / of_a_season.min(effective).max(2.0);
    let spread = (excess / (1.0 - own)).sqrt();
    student_of_a_month(effective * (1.0 - own)) * spread * (1.0 + own).sqrt()
}

/// The quantile of Student's law at 1 − 0.001/60, by Cornish and Fisher's expansion, which is too small for few `degrees`: at
/// least 2, where it is a third of the law's.
fn student_of_a_month(degrees: f64) -> f64 {
    let z = 4.149_409_984_347_97_f64;
    let (z3, z5, z7) = (z.powi(3), z.powi(5), z.powi(7));
    z + (z3 + z) / (4.0 * degrees)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * degrees * degrees)
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * degrees.powi(3))
}
