//! Do outcomes come true as the probabilities say in every part of the population?
//!
//! Declared segments are the values of the columns that a monitor names. Besides, the worst are looked for among all values of
//! the watched columns and all pairs of values of two columns. Each family controls its own multiplicity: among the
//! segments of it that are called drift, an expected share of at most α is not, however many were looked at (`statistics::
//! segments`). Judged is the trailing span; the window alone only says whether it still agrees.
//!
//! What was looked at follows from the training rows alone, never from outcomes. Of the worst, each next one is judged without
//! the rows of those before it, so that a bad value does not drag in every pair that it is part of.

pub(crate) mod parts;

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use domain::incident::Verdict;
use statistics::distributions::normal_sf;
use statistics::estimated::{Metric, expected};
use statistics::ranking::auc;
use statistics::segments::{Gap, Sums, gaps, worst};
use statistics::sequential::bh_adjusted;
use storage::monitors::Finding;
use storage::predictions::{Log, Scored};

use self::parts::{Parting, Row, partings, read};
use crate::Error;
use crate::drift::TRAILING;
use crate::outcomes::Bounds;
use crate::profiles::Profiles;

/// The most levels of a declared column that are segments of their own.
const DECLARED_LEVELS: usize = 200;
/// The most levels of a column that the search looks at.
const SEARCHED_LEVELS: usize = 20;
/// The most columns of which the search looks at pairs, in the order of their names.
const PAIRED_COLUMNS: usize = 24;
/// Fewer rows of one outcome rank nothing.
const MIN_OF_A_CLASS: usize = 10;

/// What a monitor wants parted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Columns whose values are segments.
    pub(crate) declared: Vec<String>,
    /// Columns to search, if any.
    pub(crate) searched: Vec<String>,
    /// How many of the worst to show.
    pub(crate) worst: usize,
}

impl Wanted {
    /// Whether nothing is to be parted.
    pub(crate) fn is_nothing(&self) -> bool {
        self.declared.is_empty() && self.worst == 0
    }
}

/// A trailing span whose last window begins at `start`, and how many independent rows one of its rows is worth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    /// The labelled predictions.
    pub(crate) scored: &'a [Scored],
    /// When the last window begins.
    pub(crate) start: DateTime<Utc>,
    /// Independent rows a row, in (0, 1].
    pub(crate) worth: f64,
}

/// Judges the segments of a span.
pub(crate) fn judge(
    data_dir: &Path,
    logs: &[Log],
    span: Span<'_>,
    wanted: &Wanted,
    reference: &Profiles,
    bounds: Bounds,
) -> Result<Vec<Finding>, Error> {
    let declared = partings(wanted.declared.iter(), reference, DECLARED_LEVELS);
    let searched = partings(wanted.searched.iter().filter(|_| wanted.worst > 0), reference, SEARCHED_LEVELS);
    let all: Vec<Parting> = declared.iter().chain(&searched).cloned().collect();
    let rows = read(data_dir, logs, span.scored, &all)?;
    let judged = Judged { rows: &rows, partings: &all, span, bounds };
    let mut findings = judged.declared(0..declared.len())?;
    let known: Vec<String> = findings.iter().map(|finding| finding.column.clone()).collect();
    for finding in judged.worst(declared.len()..all.len(), wanted.worst)? {
        if !known.contains(&finding.column) {
            findings.push(finding);
        }
    }
    Ok(findings)
}

/// A segment: a part of a column, or of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    One(usize, u16),
    Two((usize, u16), (usize, u16)),
}

impl Segment {
    fn holds(self, row: &Row) -> bool {
        let lies_in = |(column, part): (usize, u16)| row.parts[column] == part;
        match self {
            Self::One(column, part) => lies_in((column, part)),
            Self::Two(one, other) => lies_in(one) && lies_in(other),
        }
    }
}

struct Judged<'a> {
    rows: &'a [Row],
    partings: &'a [Parting],
    span: Span<'a>,
    bounds: Bounds,
}

impl Judged<'_> {
    fn name(&self, segment: Segment) -> String {
        let part = |(column, part): (usize, u16)| self.partings[column].names[usize::from(part)].as_str();
        match segment {
            Segment::One(column, number) => part((column, number)).to_owned(),
            Segment::Two(one, other) => format!("{}, {}", part(one), part(other)),
        }
    }

    /// Every part of these columns that has rows, with its sums over the rows outside `without`.
    fn parts_of(&self, columns: std::ops::Range<usize>, without: &[Segment]) -> BTreeMap<Segment, Sums> {
        let rows: Vec<&Row> = self.rows_outside(without);
        let mut sums: BTreeMap<Segment, Sums> = BTreeMap::new();
        for column in columns {
            let mut own = vec![Sums::default(); self.partings[column].names.len()];
            for row in &rows {
                own[usize::from(row.parts[column])].add(row.probability, row.outcome);
            }
            let named = own.into_iter().zip(0..).filter(|(sums, _)| sums.rows > 0);
            sums.extend(named.map(|(sums, part)| (Segment::One(column, part), sums)));
        }
        sums
    }

    /// Every pair of parts of two of these columns that has rows, with its sums over the rows outside `without`.
    fn pairs_of(&self, columns: std::ops::Range<usize>, without: &[Segment]) -> BTreeMap<Segment, Sums> {
        let (rows, columns) = (self.rows_outside(without), columns.take(PAIRED_COLUMNS).collect::<Vec<_>>());
        let mut sums = BTreeMap::new();
        for (place, &one) in columns.iter().enumerate() {
            for &other in &columns[place + 1..] {
                let width = self.partings[other].names.len();
                let mut own = vec![Sums::default(); self.partings[one].names.len() * width];
                for row in &rows {
                    let cell = usize::from(row.parts[one]) * width + usize::from(row.parts[other]);
                    own[cell].add(row.probability, row.outcome);
                }
                let cells = own.into_iter().enumerate().filter(|(_, sums)| sums.rows > 0);
                let pair =
                    |cell: usize| Segment::Two((one, (cell / width) as u16), (other, (cell % width) as u16));
                sums.extend(cells.map(|(cell, sums)| (pair(cell), sums)));
            }
        }
        sums
    }

    fn all_of(&self, columns: std::ops::Range<usize>, without: &[Segment]) -> BTreeMap<Segment, Sums> {
        let mut sums = self.parts_of(columns.clone(), without);
        sums.append(&mut self.pairs_of(columns, without));
        sums
    }

    fn rows_outside(&self, segments: &[Segment]) -> Vec<&Row> {
        self.rows.iter().filter(|row| !segments.iter().any(|segment| segment.holds(row))).collect()
    }

    /// The segments with enough rows, judged together.
    fn gaps(&self, sums: &BTreeMap<Segment, Sums>) -> Result<Vec<(Segment, Gap)>, Error> {
        let enough = sums.iter().filter(|(_, sums)| sums.rows >= self.bounds.min_rows);
        let (segments, sums): (Vec<Segment>, Vec<Sums>) =
            enough.map(|(segment, sums)| (*segment, *sums)).unzip();
        let judged = gaps(&sums, self.span.worth, self.bounds.min_rate_change, self.bounds.alpha)?;
        Ok(segments.into_iter().zip(judged).collect())
    }

    fn declared(&self, columns: std::ops::Range<usize>) -> Result<Vec<Finding>, Error> {
        let sums = self.parts_of(columns, &[]);
        let judged = self.gaps(&sums)?;
        let few = sums.iter().filter(|(_, sums)| sums.rows < self.bounds.min_rows);
        let few =
            few.map(|(segment, sums)| blank("calibration", &self.name(*segment), GAP, TRAIL, sums.rows));
        let mut findings: Vec<Finding> = few.collect();
        for (segment, gap) in &judged {
            findings.extend(self.of_gap(*segment, gap));
        }
        findings.extend(self.rankings(judged.iter().map(|(segment, _)| *segment))?);
        Ok(findings)
    }

    /// The worst segments, each judged without the rows of those before it: what a worse segment explains does not count again.
    /// Once one is not real, the rest are shown in the order in which they stand.
    fn worst(&self, columns: std::ops::Range<usize>, most: usize) -> Result<Vec<Finding>, Error> {
        let whole: BTreeMap<Segment, Gap> =
            self.gaps(&self.all_of(columns.clone(), &[]))?.into_iter().collect();
        let mut shown: Vec<(Segment, bool)> = Vec::new();
        while shown.len() < most {
            let before: Vec<Segment> = shown.iter().map(|(segment, _)| *segment).collect();
            let (segments, found): (Vec<Segment>, Vec<Gap>) =
                self.gaps(&self.all_of(columns.clone(), &before))?.into_iter().unzip();
            let order = worst(&found, most - shown.len());
            match order.first() {
                Some(&first) if found[first].is_real => shown.push((segments[first], true)),
                _ => {
                    shown.extend(order.into_iter().map(|place| (segments[place], false)));
                    break;
                }
            }
        }
        let told = |(segment, is_real)| {
            let gap = whole.get(&segment)?;
            Some(self.of_gap(segment, &Gap { is_real, ..*gap }))
        };
        Ok(shown.into_iter().filter_map(told).flatten().collect())
    }

    /// What the span says of a segment's calibration, and what the last window alone does.
    fn of_gap(&self, segment: Segment, gap: &Gap) -> [Finding; 2] {
        let name = self.name(segment);
        let verdict = if gap.is_real { Verdict::Drift } else { Verdict::Ok };
        let trailing = Finding {
            effect: Some(gap.size()),
            low: Some(gap.interval.low),
            high: Some(gap.interval.high),
            current: Some(gap.promised),
            reference: Some(gap.rate),
            n_eff: Some(gap.n_eff),
            verdict,
            ..blank("calibration", &name, GAP, TRAIL, gap.rows)
        };
        let mut sums = Sums::default();
        self.last_window(segment).for_each(|row| sums.add(row.probability, row.outcome));
        let rows = sums.rows as f64;
        let (promised, rate) = (sums.promised / rows, sums.events as f64 / rows);
        let own = blank("calibration", &name, GAP, "", sums.rows);
        if sums.rows < self.bounds.min_rows {
            return [trailing, own];
        }
        let verdict =
            if (promised - rate).abs() > self.bounds.min_rate_change { verdict } else { Verdict::Ok };
        let (current, reference) = (Some(promised), Some(rate));
        [trailing, Finding { effect: Some(promised - rate), current, reference, verdict, ..own }]
    }

    fn last_window(&self, segment: Segment) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.cutoff >= self.span.start && segment.holds(row))
    }

    /// How far the area under the ROC curve of each segment lies below what its probabilities promise.
    fn rankings(&self, segments: impl Iterator<Item = Segment>) -> Result<Vec<Finding>, Error> {
        let ranked: Vec<(Segment, Ranking)> = segments
            .filter_map(|segment| {
                Some((segment, Ranking::of(self.rows.iter().filter(|row| segment.holds(row)))?))
            })
            .collect();
        let least = self.bounds.min_rate_change;
        let p_values: Vec<f64> =
            ranked.iter().map(|(_, ranking)| ranking.p_value(least, self.span.worth)).collect();
        let harmonic: f64 = (1..=ranked.len()).map(|k| 1.0 / k as f64).sum();
        let mut findings = Vec::new();
        for ((segment, ranking), adjusted) in ranked.into_iter().zip(bh_adjusted(&p_values)?) {
            let is_real = adjusted * harmonic <= self.bounds.alpha;
            findings.extend(self.of_ranking(segment, &ranking, is_real));
        }
        Ok(findings)
    }

    fn of_ranking(&self, segment: Segment, ranking: &Ranking, is_real: bool) -> [Finding; 2] {
        let name = self.name(segment);
        let verdict = if is_real { Verdict::Drift } else { Verdict::Ok };
        let trailing = ranking.finding(blank("performance", &name, RANKING, TRAIL, ranking.rows), verdict);
        let own = blank("performance", &name, RANKING, "", self.last_window(segment).count() as u64);
        let own = match Ranking::of(self.last_window(segment)) {
            Some(ranking) if own.rows >= self.bounds.min_rows => ranking.finding(own, verdict),
            _ => own,
        };
        [trailing, own]
    }
}

/// How well the rows of a segment are ranked, and how well they would be if their probabilities meant what they say.
struct Ranking {
    rows: u64,
    found: f64,
    promised: f64,
    standard_error: f64,
}

impl Ranking {
    fn of<'a>(rows: impl Iterator<Item = &'a Row>) -> Option<Self> {
        let (probabilities, outcomes): (Vec<f64>, Vec<bool>) =
            rows.map(|row| (row.probability, row.outcome)).unzip();
        let found = auc(&probabilities, &outcomes).ok()?;
        let enough = found.positives.min(found.negatives) >= MIN_OF_A_CLASS;
        let promised = expected(Metric::Auc, &probabilities).ok().filter(|_| enough)?;
        let standard_error = found.standard_error?;
        Some(Self { rows: probabilities.len() as u64, found: found.value, promised, standard_error })
    }

    /// P(a shortfall like this or greater) if the true one were `least`: z = (promised − found − least)·√worth/SE.
    fn p_value(&self, least: f64, worth: f64) -> f64 {
        let beyond = self.promised - self.found - least;
        if beyond <= 0.0 { 1.0 } else { normal_sf(beyond * worth.sqrt() / self.standard_error.max(1e-9)) }
    }

    fn finding(&self, blank: Finding, verdict: Verdict) -> Finding {
        let (effect, half) = (self.found - self.promised, 1.96 * self.standard_error);
        Finding {
            effect: Some(effect),
            low: Some(effect - half),
            high: Some(effect + half),
            current: Some(self.found),
            reference: Some(self.promised),
            verdict,
            ..blank
        }
    }
}

const GAP: &str = "probability_less_rate";
const RANKING: &str = "auc_less_estimate";
/// Whether a measure is of the whole span.
const TRAIL: &str = "trailing";

fn blank(kind: &'static str, segment: &str, measure: &str, span: &str, rows: u64) -> Finding {
    let suffix = if span == TRAIL { format!("_{TRAILING}_windows") } else { String::new() };
    Finding {
        kind,
        column: segment.to_owned(),
        measure: format!("{measure}{suffix}"),
        effect: None,
        low: None,
        high: None,
        current: None,
        reference: None,
        rows,
        n_eff: None,
        e_value: None,
        verdict: Verdict::InsufficientData,
    }
}
