//! The simulated model: fifty columns with their seasons, their days and their neighbours, and a column of outcomes.

use statistics::distributions::{normal_cdf, normal_quantile};
use statistics::profile::{ColumnProfile, Edges, LevelProfile, NumberProfile};

use crate::draws::Dice;

/// Hours of a week.
pub(crate) const WEEK: usize = 168;
/// Days of the reference.
pub(crate) const HISTORY: usize = 30;
/// Inner bins of a profile of numbers.
const BINS: usize = 62;
/// Shares of outcomes by band of the score, each a fifth of the rows.
const RATES: [f64; 5] = [0.02, 0.08, 0.15, 0.25, 0.5];

/// What a column is like.
#[derive(Clone, Debug)]
pub(crate) enum Law {
    /// Normal, after any monotone scale: the rule knows quantiles only.
    Numbers {
        /// The correlation of a row with the next.
        rows: f64,
        /// The correlation of a day's level with the next day's; none if 0.
        days: f64,
        /// The share of values that are exactly the least.
        zeros: f64,
    },
    /// Levels of these shares.
    Levels(Vec<f64>),
    /// Outcomes by band of the score.
    Outcomes,
}

/// What happens to a column.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shift {
    /// Added, in standard deviations.
    pub(crate) mean: f64,
    /// ln of the factor of the standard deviation.
    pub(crate) log_deviation: f64,
    /// The share of values that are ten times what they were.
    pub(crate) tail: f64,
    /// The share that moves from the first level to the last.
    pub(crate) moved: f64,
    /// The share of a level that never was.
    pub(crate) new_level: f64,
    /// The share of missing values, beside the usual 1 %.
    pub(crate) missing: f64,
    /// Added to the share of outcomes.
    pub(crate) rate: f64,
    /// The part of what the score knows about outcomes that is lost.
    pub(crate) lost: f64,
}

impl Shift {
    pub(crate) fn scaled(self, by: f64) -> Self {
        Self {
            mean: self.mean * by,
            log_deviation: self.log_deviation * by,
            tail: self.tail * by,
            moved: self.moved * by,
            new_level: self.new_level * by,
            missing: self.missing * by,
            rate: self.rate * by,
            lost: self.lost * by,
        }
    }
}

/// The columns of the model: 30 of numbers, 15 of levels, 5 of counts; the last is the outcomes.
pub(crate) fn laws() -> Vec<(&'static str, Law)> {
    let numbers = |rows, days, zeros| Law::Numbers { rows, days, zeros };
    let zipf = |levels: usize| {
        let weights: Vec<f64> = (1..=levels).map(|rank| 1.0 / rank as f64).collect();
        let sum: f64 = weights.iter().sum();
        Law::Levels(weights.into_iter().map(|weight| weight / sum).collect())
    };
    let mut laws = vec![];
    laws.extend(std::iter::repeat_n(("numbers", numbers(0.0, 0.0, 0.0)), 16));
    laws.extend(std::iter::repeat_n(("numbers, rows follow each other by 0.5", numbers(0.5, 0.0, 0.0)), 4));
    laws.extend(std::iter::repeat_n(("numbers, rows follow each other by 0.9", numbers(0.9, 0.0, 0.0)), 4));
    laws.extend(std::iter::repeat_n(("numbers, days differ", numbers(0.0, 1e-9, 0.0)), 2));
    laws.extend(std::iter::repeat_n(("numbers, days follow each other by 0.5", numbers(0.0, 0.5, 0.0)), 2));
    laws.extend(std::iter::repeat_n(("numbers, days follow each other by 0.9", numbers(0.0, 0.9, 0.0)), 2));
    laws.extend(std::iter::repeat_n(("five levels", Law::Levels(vec![0.35, 0.25, 0.2, 0.12, 0.08])), 8));
    laws.extend(std::iter::repeat_n(("two levels", Law::Levels(vec![0.9, 0.1])), 3));
    laws.extend(std::iter::repeat_n(("200 levels by Zipf", zipf(200)), 2));
    laws.extend(std::iter::repeat_n(("2,000 levels by Zipf", zipf(2_000)), 2));
    laws.extend(std::iter::repeat_n(("numbers, 60 % zeros", numbers(0.0, 0.0, 0.6)), 4));
    laws.push(("outcomes", Law::Outcomes));
    laws
}

/// An hour's rows, before they are a profile.
enum Drawn {
    Numbers(NumberProfile),
    Levels { counts: Vec<u64>, new: u64, missing: u64 },
}

/// A column in time.
pub(crate) struct Column {
    pub(crate) law: Law,
    edges: Option<Edges>,
    names: Vec<String>,
    names_of_reference: Option<LevelProfile>,
    /// The state that rows hand on.
    row: f64,
    /// The day's level.
    day: f64,
    phase: f64,
}

/// How far days' levels lie apart, in standard deviations of the rows.
const DAYS_APART: f64 = 0.05;

impl Column {
    pub(crate) fn new(law: &Law, dice: &mut Dice) -> Self {
        let names = match law {
            Law::Levels(shares) => (0..shares.len()).map(|level| format!("L{level}")).collect(),
            Law::Outcomes => (0..10).map(|cell| format!("band {}, {}", cell / 2, cell % 2 == 0)).collect(),
            Law::Numbers { .. } => vec![],
        };
        let phase = dice.uniform() * std::f64::consts::TAU;
        let day = dice.normal() * DAYS_APART;
        Self {
            law: law.clone(),
            edges: None,
            names,
            names_of_reference: None,
            row: dice.normal(),
            day,
            phase,
        }
    }

    /// Another day begins.
    pub(crate) fn new_day(&mut self, dice: &mut Dice) {
        if let Law::Numbers { days, .. } = self.law {
            let fresh = (1.0 - days * days).sqrt() * DAYS_APART * dice.normal();
            self.day = if days > 0.0 { days * self.day + fresh } else { 0.0 };
        }
    }

    /// The level of an hour: a day's wave, and weekends.
    fn season(&self, hour: usize) -> f64 {
        let weekend = if hour / 24 % 7 >= 5 { 0.2 } else { 0.0 };
        0.3 * (hour as f64 * std::f64::consts::TAU / 24.0 + self.phase).sin() + weekend
    }

    /// The history's profile by hour, which fixes the bins and the names.
    pub(crate) fn history(
        &mut self,
        volume: &dyn Fn(usize) -> u64,
        dice: &mut Dice,
    ) -> (ColumnProfile, Vec<ColumnProfile>) {
        self.fix_bins(volume, dice);
        let drawn: Vec<Drawn> = (0..HISTORY * 24)
            .map(|hour| {
                if hour.is_multiple_of(24) {
                    self.new_day(dice);
                }
                self.draw(hour, volume(hour), Shift::default(), true, dice)
            })
            .collect();
        if !matches!(self.law, Law::Numbers { .. }) {
            self.keep_names(&drawn);
        }
        let windows: Vec<ColumnProfile> = drawn.into_iter().map(|drawn| self.profile(drawn)).collect();
        let whole = match &self.names_of_reference {
            Some(whole) => ColumnProfile::Levels(whole.clone()),
            None => {
                let mut whole = windows[0].clone();
                windows[1..].iter().for_each(|window| whole.merge(window).expect("the bins are the same"));
                whole
            }
        };
        (whole, windows)
    }

    /// An hour that came after the history.
    pub(crate) fn hour(&mut self, hour: usize, rows: u64, shift: Shift, dice: &mut Dice) -> ColumnProfile {
        let drawn = self.draw(hour, rows, shift, false, dice);
        self.profile(drawn)
    }

    fn fix_bins(&mut self, volume: &dyn Fn(usize) -> u64, dice: &mut Dice) {
        let Law::Numbers { zeros, .. } = self.law else { return };
        let rows: u64 = (0..HISTORY * 24).map(volume).sum();
        let end = dice.greatest_of(rows as f64 / 4.0) + 0.4;
        let mut edges: Vec<f64> =
            (1..BINS).map(|bin| 1.03 * normal_quantile(bin as f64 / BINS as f64)).collect();
        let start = -dice.greatest_of(rows as f64 / 4.0) - 0.4;
        if zeros > 0.0 {
            edges.retain(|edge| *edge > normal_quantile(zeros));
        }
        edges.insert(0, start);
        edges.push(end);
        self.edges = Some(Edges::try_from(edges).expect("quantiles rise"));
    }

    fn keep_names(&mut self, drawn: &[Drawn]) {
        let mut counts = vec![0_u64; self.names.len()];
        let mut nulls = 0;
        for drawn in drawn {
            let Drawn::Levels { counts: own, missing, .. } = drawn else { continue };
            nulls += missing;
            counts.iter_mut().zip(own).for_each(|(count, own)| *count += own);
        }
        let levels = self.names.iter().map(String::as_str).zip(counts);
        self.names_of_reference = Some(LevelProfile::of_reference(levels, nulls));
    }

    fn profile(&self, drawn: Drawn) -> ColumnProfile {
        let (counts, new, missing) = match drawn {
            Drawn::Numbers(profile) => return ColumnProfile::Numbers(profile),
            Drawn::Levels { counts, new, missing } => (counts, new, missing),
        };
        let reference = self.names_of_reference.as_ref().expect("the history comes first");
        let mut profile = LevelProfile::like(reference);
        let named = self.names.iter().zip(&counts).filter(|(_, count)| **count > 0);
        named.for_each(|(name, count)| profile.add(name, *count));
        if new > 0 {
            profile.add("new", new);
        }
        profile.observe_nulls(missing);
        ColumnProfile::Levels(profile)
    }

    /// In the history nothing lies beyond the range, which it makes.
    fn draw(&mut self, hour: usize, rows: u64, shift: Shift, history: bool, dice: &mut Dice) -> Drawn {
        let missing =
            if matches!(self.law, Law::Outcomes) { 0 } else { dice.binomial(rows, 0.01 + shift.missing) };
        let values = rows - missing;
        match self.law.clone() {
            Law::Numbers { rows: follow, .. } if follow > 0.0 => {
                let mut profile = self.in_order(hour, values, follow, shift, history, dice);
                profile.nulls = missing;
                Drawn::Numbers(profile)
            }
            Law::Numbers { zeros, .. } => {
                let counts = self.at_once(hour, values, zeros, shift, history, dice);
                let edges = self.edges.clone().expect("the history comes first");
                Drawn::Numbers(NumberProfile::of_counts(edges, counts, missing).expect("a count a bin"))
            }
            Law::Levels(shares) => {
                let shares = self.shares(hour, shares, shift);
                let new = dice.binomial(values, shift.new_level);
                Drawn::Levels { counts: all_of(values - new, &shares, dice), new, missing }
            }
            Law::Outcomes => {
                Drawn::Levels { counts: all_of(values, &outcomes(shift), dice), new: 0, missing }
            }
        }
    }

    fn in_order(
        &mut self,
        hour: usize,
        values: u64,
        follow: f64,
        shift: Shift,
        history: bool,
        dice: &mut Dice,
    ) -> NumberProfile {
        let edges = self.edges.clone().expect("the history comes first");
        let (least, greatest) = (edges.as_slice()[0].next_up(), *edges.as_slice().last().expect("two edges"));
        let level = self.season(hour) + self.day + shift.mean;
        let deviation = shift.log_deviation.exp();
        let fresh = (1.0 - follow * follow).sqrt();
        let drawn: Vec<f64> = (0..values)
            .map(|_| {
                self.row = follow * self.row + fresh * dice.normal();
                let value = level + deviation * self.row;
                let value =
                    if shift.tail > 0.0 && dice.uniform() < shift.tail { value * 10.0 } else { value };
                if history { value.clamp(least, greatest) } else { value }
            })
            .collect();
        let mut profile = NumberProfile::new(edges);
        profile.observe(&drawn);
        profile
    }

    fn at_once(
        &self,
        hour: usize,
        values: u64,
        zeros: f64,
        shift: Shift,
        history: bool,
        dice: &mut Dice,
    ) -> Vec<u64> {
        let edges = self.edges.as_ref().expect("the history comes first");
        let level = self.season(hour) + self.day + shift.mean;
        let deviation = shift.log_deviation.exp();
        let below = |edge: f64, scale: f64| normal_cdf((edge / scale - level) / deviation);
        let mixed = |edge: f64| (1.0 - shift.tail) * below(edge, 1.0) + shift.tail * below(edge, 10.0);
        let mut shares = Vec::with_capacity(edges.bins());
        let mut before = 0.0;
        for (bin, edge) in edges.as_slice().iter().enumerate() {
            let mut own = mixed(*edge);
            if zeros > 0.0 {
                // The zeros are the least value: they fill the first inner bin.
                own = if bin == 0 { 0.0 } else { own.max(zeros) };
            }
            shares.push((own - before).max(0.0));
            before = own;
        }
        shares.push((1.0 - before).max(0.0));
        if history {
            let last = shares.len() - 1;
            (shares[1], shares[last - 1]) = (shares[1] + shares[0], shares[last - 1] + shares[last]);
            (shares[0], shares[last]) = (0.0, 0.0);
        }
        let mut counts = dice.multinomial(values, &shares);
        let rest = values - counts.iter().sum::<u64>();
        counts[1] += rest;
        counts
    }

    /// The shares of an hour: the first level breathes with the day.
    fn shares(&self, hour: usize, mut shares: Vec<f64>, shift: Shift) -> Vec<f64> {
        let breath = 0.1 * self.season(hour) * shares[0];
        shares[0] += breath - shift.moved;
        let last = shares.len() - 1;
        shares[last] += shift.moved - breath.min(shares[last] * 0.5);
        let sum: f64 = shares.iter().sum();
        shares.into_iter().map(|share| share.max(0.0) / sum).collect()
    }
}

/// All rows over the categories: what rounding leaves is the first's.
fn all_of(rows: u64, shares: &[f64], dice: &mut Dice) -> Vec<u64> {
    let sum: f64 = shares.iter().sum();
    let shares: Vec<f64> = shares.iter().map(|share| share / sum).collect();
    let mut counts = dice.multinomial(rows, &shares);
    counts[0] += rows - counts.iter().sum::<u64>();
    counts
}

/// The shares of (band, outcome).
fn outcomes(shift: Shift) -> Vec<f64> {
    let mean = RATES.iter().sum::<f64>() / 5.0;
    let rate = |rate: f64| (rate + shift.lost * (mean - rate) + shift.rate).clamp(0.0, 1.0);
    RATES.iter().flat_map(|&own| [0.2 * rate(own), 0.2 * (1.0 - rate(own))]).collect()
}
