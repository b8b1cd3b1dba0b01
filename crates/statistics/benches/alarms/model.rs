//! A watched model: every hour its columns are judged by the rule, and incidents open and close as the service's do.

use statistics::profile::ColumnProfile;
use statistics::rule::{Cause, Evidence, Season, Settings, Verdict, Yardstick, kept};

use crate::draws::Dice;
use crate::world::{Column, HISTORY, Shift, WEEK, laws};

/// Bad windows in a row that open an incident, good ones that close it, and how soon after its end a new run is the same.
const CONFIRM: u32 = 2;
const RECOVER: u32 = 3;
const SAME_WITHIN: usize = 24;

/// How many columns a model has.
pub(crate) const COLUMNS: usize = 50;

/// How many rows an hour has: a wave by day, less at weekends, the mean being `mean`.
pub(crate) fn volume(mean: u64) -> impl Fn(usize) -> u64 {
    move |hour| {
        let wave = 1.0 + 0.5 * (hour as f64 * std::f64::consts::TAU / 24.0).sin();
        let weekend = if hour / 24 % 7 >= 5 { 0.7 } else { 1.12 };
        (mean as f64 * wave * weekend).round() as u64
    }
}

/// What a column's history left.
pub(crate) struct Watched {
    pub(crate) column: Column,
    pub(crate) yardstick: Yardstick,
}

/// The columns of a model after their history.
pub(crate) fn columns(mean: u64, dice: &mut Dice) -> Vec<Watched> {
    let volume = volume(mean);
    let watch = |law| {
        let mut column = Column::new(law, dice);
        let (whole, windows) = column.history(&volume, dice);
        let windows =
            windows.iter().enumerate().map(|(hour, window)| ((hour / 24) as i64, hour % WEEK, window));
        let yardstick = Yardstick::with_season(whole, Season { slots: WEEK }, windows);
        Watched { column, yardstick }
    };
    laws().iter().map(|(_, law)| law).map(watch).collect()
}

/// One look at one column.
pub(crate) fn look(watched: &Watched, window: &ColumnProfile, hour: usize, evidence: &mut Evidence) -> Seen {
    let look = watched.yardstick.look(window, hour % WEEK, Settings::default()).expect("the kind stays");
    evidence.take(&look);
    let judgement = look.judge().expect("the settings are some");
    Seen {
        log_e: evidence.log_e(&look),
        cause: evidence.cause(&look),
        drift: judgement.verdict == Verdict::Drift,
    }
}

/// What a look saw.
pub(crate) struct Seen {
    pub(crate) log_e: f64,
    pub(crate) cause: Option<Cause>,
    pub(crate) drift: bool,
}

/// Looks at all columns, hour by hour.
pub(crate) trait Watcher {
    /// What they say of the hour `now`, one window a column.
    fn hour(&mut self, all: &[Watched], windows: &[ColumnProfile], now: usize) -> Hour;
}

/// What was seen in an hour.
pub(crate) struct Hour {
    pub(crate) bad: bool,
    /// How much speaks for each column having moved.
    pub(crate) weights: Vec<f64>,
    /// The columns whose window alone was called drifted.
    pub(crate) drifted: Vec<bool>,
}

/// The rule, which remembers what it saw.
#[derive(Default)]
pub(crate) struct Rule {
    evidence: Vec<Evidence>,
}

impl Watcher for Rule {
    fn hour(&mut self, all: &[Watched], windows: &[ColumnProfile], now: usize) -> Hour {
        self.evidence.resize_with(all.len(), Evidence::default);
        let looks = all.iter().zip(windows).zip(&mut self.evidence);
        let seen: Vec<Seen> =
            looks.map(|((watched, window), evidence)| look(watched, window, now, evidence)).collect();
        let weights: Vec<f64> = seen.iter().map(|seen| seen.log_e).collect();
        let bad = kept(&weights, Settings::default().alpha).expect("logs are numbers").contains(&true);
        Hour { bad, weights, drifted: seen.iter().map(|seen| seen.drift).collect() }
    }
}

/// What a model's month came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Month {
    /// Hours after the history at which incidents opened, re-opened ones included.
    pub(crate) opened: Vec<usize>,
    /// How many of them were re-opened ones.
    pub(crate) again: usize,
    /// Hours at which incidents closed.
    pub(crate) closed: Vec<usize>,
    /// The columns by evidence when the first incident opened, most first.
    pub(crate) ranking: Vec<usize>,
    /// Column windows called drifted, of how many, by law.
    pub(crate) drifted: Vec<u64>,
    /// Hours watched.
    pub(crate) hours: u64,
}

/// Watches `hours` hours after the history; `shift` says what happens to a column at an hour.
pub(crate) fn watch(
    all: &mut [Watched],
    hours: usize,
    mean: u64,
    shift: &dyn Fn(usize, usize) -> Shift,
    watcher: &mut dyn Watcher,
    dice: &mut Dice,
) -> Month {
    let volume = volume(mean);
    let mut month = Month { drifted: vec![0; all.len()], ..Month::default() };
    let mut incident = Incident::default();
    for hour in 0..hours {
        let now = HISTORY * 24 + hour;
        let mut windows = Vec::with_capacity(all.len());
        for (place, watched) in all.iter_mut().enumerate() {
            if now.is_multiple_of(24) {
                watched.column.new_day(dice);
            }
            windows.push(watched.column.hour(now, volume(now), shift(place, hour), dice));
        }
        let Hour { bad, weights, drifted } = watcher.hour(all, &windows, now);
        month.drifted.iter_mut().zip(drifted).for_each(|(sum, drifted)| *sum += u64::from(drifted));
        month.hours += 1;
        incident.after(bad, hour, &mut month);
        if month.ranking.is_empty() && !month.opened.is_empty() {
            let mut ranking: Vec<usize> = (0..all.len()).collect();
            ranking.sort_by(|&one, &other| weights[other].total_cmp(&weights[one]));
            month.ranking = ranking;
        }
    }
    month
}

#[derive(Default)]
pub(crate) struct Incident {
    open: bool,
    bad: u32,
    good: u32,
    closed_at: Option<usize>,
}

impl Incident {
    pub(crate) fn after(&mut self, bad: bool, hour: usize, month: &mut Month) {
        (self.bad, self.good) = if bad { (self.bad + 1, 0) } else { (0, self.good + 1) };
        if !self.open && self.bad >= CONFIRM {
            self.open = true;
            month.opened.push(hour);
            month.again += usize::from(self.closed_at.is_some_and(|at| hour - at <= SAME_WITHIN));
        } else if self.open && self.good >= RECOVER {
            self.open = false;
            self.closed_at = Some(hour);
            month.closed.push(hour);
        }
    }
}
