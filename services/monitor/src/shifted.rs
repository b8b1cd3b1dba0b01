//! How well the model ranks, without labels, where the mix of inputs has moved.
//!
//! Probabilities can be true of all of the test's rows together and false of one kind of them. While the mix stays, that does not
//! show; once that kind is common, what the probabilities let expect ([`outcomes::estimated`](crate::outcomes::estimated)) is
//! off. So what they are worth is learned anew from the version's own test, each of its rows counting as much as rows like it do in
//! the window: the density ratio over the watched columns' parts (`statistics::shift`). Both estimates are reported. This one stands
//! on as many rows as its weights leave ([`Finding::n_eff`]), and on too few of them gives `insufficient data`.
//!
//! When labels come, each estimate's error is reported too.

use std::path::Path;

use domain::evaluation::TESTED_FILE;
use domain::incident::Verdict;
use frames::Values;
use frames::files::{read_arrow, verify};
use statistics::Generator;
use statistics::estimated::{Estimate, Known, Metric, estimate_under_shift};
use statistics::ranking::auc;
use statistics::shift::density_ratio;
use storage::monitors::{Finding, WindowRow};
use storage::predictions::{Log, Scored};

use crate::Error;
use crate::outcomes::{Bounds, Expected, unranked};
use crate::profiles::Profiles;
use crate::segments::parts::{Parting, of_rows, partings};

/// Rows of a window that are looked at, at most: evenly spaced.
const ROWS: usize = 2_000;
/// The most levels of a column that are told apart.
const LEVELS: usize = 20;
/// What is found about a window.
const MEASURE: &str = "auc_estimated_weighted";
/// And how far that was off, once there are labels.
const ERROR: &str = "auc_less_estimate_weighted";

/// Rows of a version's test, by the parts of the watched columns that they lie in.
#[derive(Debug)]
pub(crate) struct Tested {
    partings: Vec<Parting>,
    rows: Vec<Vec<u16>>,
    probabilities: Vec<f64>,
    outcomes: Vec<bool>,
}

impl Tested {
    /// The rows kept beside the judged rows of a version; `None` if none were kept.
    pub(crate) fn read<'a>(
        judged: &Path,
        watched: impl Iterator<Item = &'a String>,
        reference: &Profiles,
    ) -> Result<Option<Self>, Error> {
        let path = judged.with_file_name(TESTED_FILE);
        let partings = partings(watched, reference, LEVELS);
        if partings.is_empty() || !path.is_file() {
            return Ok(None);
        }
        let frame = read_arrow(&path)?;
        let Values::Boolean(labels) = frame.column("label")? else { return Ok(None) };
        let all: Vec<usize> = (0..frame.rows()).collect();
        Ok(Some(Self {
            rows: of_rows(&frame, &all, &partings)?,
            probabilities: frame.numbers("probability")?.to_vec(),
            outcomes: labels.iter().map(|label| *label == Some(true)).collect(),
            partings,
        }))
    }

    /// The estimate for rows in these parts with these probabilities, and how many equally weighted rows it stands on.
    fn estimate(&self, rows: &[Vec<u16>], probabilities: &[f64]) -> Result<(Option<Estimate>, f64), Error> {
        let sizes: Vec<u16> = self.partings.iter().map(|parting| parting.names.len() as u16).collect();
        let ratio = density_ratio(&self.rows, rows, &sizes)?;
        let known =
            Known { probabilities: &self.probabilities, outcomes: &self.outcomes, weights: &ratio.weights };
        let mut generator = Generator::from_seed(probabilities.len() as u64);
        let found = estimate_under_shift(Metric::Auc, known, probabilities, &mut generator);
        Ok((found.ok(), ratio.effective))
    }
}

/// Estimates a window, from the files that logged it.
pub(crate) fn estimated(
    tested: &Tested,
    data_dir: &Path,
    logs: &[Log],
    span: std::ops::Range<i64>,
    expected: &Expected,
    bounds: Bounds,
) -> Result<Finding, Error> {
    let (mut rows, mut probabilities) = (Vec::new(), Vec::new());
    for log in logs {
        let path = data_dir.join(&log.path);
        verify(&path, &log.sha256)?;
        let frame = read_arrow(&path)?;
        let cutoffs = frame.times("cutoff")?;
        let own: Vec<usize> = (0..frame.rows()).filter(|&row| span.contains(&cutoffs[row])).collect();
        rows.extend(of_rows(&frame, &own, &tested.partings)?);
        let answered = frame.numbers("probability")?;
        probabilities.extend(own.into_iter().map(|row| answered[row]));
    }
    let all = probabilities.len() as u64;
    let blank = Finding { rows: all, ..unranked(MEASURE) };
    let Some((promised, _)) = expected.auc.filter(|_| all > 0) else { return Ok(blank) };
    let step = probabilities.len().div_ceil(ROWS);
    let rows: Vec<Vec<u16>> = rows.into_iter().step_by(step).collect();
    let probabilities: Vec<f64> = probabilities.into_iter().step_by(step).collect();
    let (found, effective) = tested.estimate(&rows, &probabilities)?;
    let blank = Finding { n_eff: Some(effective), ..blank };
    let Some(Estimate { value, band }) = found else { return Ok(blank) };
    let verdict = match () {
        () if all < bounds.min_rows || effective < bounds.min_rows as f64 => Verdict::InsufficientData,
        () if band.high < expected.least_of_a_window(bounds).unwrap_or(promised) => Verdict::Drift,
        () => Verdict::Ok,
    };
    Ok(Finding {
        effect: Some(value - promised),
        low: Some(band.low - promised),
        high: Some(band.high - promised),
        current: Some(value),
        reference: Some(promised),
        verdict,
        ..blank
    })
}

/// What the labels made of a window's estimate, if it had one.
pub(crate) fn against_estimate(
    window: &[Scored],
    estimated: &[WindowRow],
    bounds: Bounds,
) -> Option<Finding> {
    let stored = estimated.iter().find(|row| row.measure == MEASURE)?;
    let (estimate, promised) = (stored.current_value?, stored.reference_value?);
    let (low, high) = (promised + stored.low?, promised + stored.high?);
    let (probabilities, outcomes): (Vec<f64>, Vec<bool>) =
        window.iter().map(|row| (row.probability, row.outcome)).unzip();
    let found = auc(&probabilities, &outcomes).ok()?.value;
    let enough = stored.verdict != Verdict::InsufficientData.as_str();
    let verdict = match () {
        () if (window.len() as u64) < bounds.min_rows || !enough => Verdict::InsufficientData,
        () if found < low => Verdict::Drift,
        () => Verdict::Ok,
    };
    Some(Finding {
        effect: Some(found - estimate),
        low: Some(found - high),
        high: Some(found - low),
        current: Some(found),
        reference: Some(estimate),
        n_eff: stored.n_eff,
        verdict,
        rows: window.len() as u64,
        ..unranked(ERROR)
    })
}

#[cfg(test)]
mod tests {
    use statistics::estimated::estimate;
    use statistics::profile::LevelProfile;

    use super::*;

    /// Rows of kind `a`, of which as many come true as is said, and of kind `b`, of which half do whatever is said.
    fn rows(generator: &mut Generator, count: usize, of_b: f64) -> (Vec<&'static str>, Vec<f64>, Vec<bool>) {
        let mut all = (vec![], vec![], vec![]);
        for _ in 0..count {
            let kind = if generator.uniform() < of_b { "b" } else { "a" };
            let said = 0.1 + 0.8 * generator.uniform();
            all.0.push(kind);
            all.1.push(said);
            all.2.push(generator.uniform() < if kind == "b" { 0.5 } else { said });
        }
        all
    }

    fn frame((kinds, said, came): &(Vec<&'static str>, Vec<f64>, Vec<bool>)) -> frames::Frame {
        let cutoffs: Vec<i64> = (0..said.len() as i64).collect();
        let columns = vec![
            ("kind".to_owned(), Values::text(kinds.iter().map(|kind| Some(*kind)))),
            ("probability".to_owned(), Values::Number(said.clone())),
            ("label".to_owned(), Values::Boolean(came.iter().copied().map(Some).collect())),
            ("cutoff".to_owned(), Values::Time(cutoffs)),
        ];
        frames::Frame::new(said.len(), columns)
    }

    #[test]
    fn once_a_kind_of_rows_that_probabilities_are_false_of_is_common_the_weighted_estimate_is_the_nearer_one()
    {
        let mut generator = Generator::from_seed(4);
        let folder = tempfile::tempdir().unwrap();
        let tested = rows(&mut generator, 4_000, 0.15);
        frames::files::write_arrow(&folder.path().join(TESTED_FILE), &frame(&tested)).unwrap();
        let reference: Profiles = [(
            "kind".to_owned(),
            statistics::profile::ColumnProfile::Levels(LevelProfile::of_reference(
                [("a", 3_400), ("b", 600)],
                0,
            )),
        )]
        .into();
        let watched = ["kind".to_owned(), crate::SCORE.to_owned()];
        let judged = folder.path().join("judged.arrow");
        let tested = Tested::read(&judged, watched.iter(), &reference).unwrap().unwrap();

        let now = rows(&mut generator, 3_000, 0.8);
        let written = frames::files::write_arrow(&folder.path().join("log.arrow"), &frame(&now)).unwrap();
        let logs = [Log { path: "log.arrow".to_owned(), sha256: written.sha256 }];
        let truth = auc(&now.1, &now.2).unwrap().value;
        let plain = estimate(Metric::Auc, &now.1, None, &mut generator).unwrap().value;
        let expected = Expected { rate: 0.5, auc: Some((0.74, 0.72)), test: None };
        let bounds = Bounds { alpha: 0.001, min_rate_change: 0.03, min_rows: 200 };
        let found = |bounds| {
            let whole = 0..i64::MAX;
            estimated(&tested, folder.path(), &logs, whole, &expected, bounds).unwrap()
        };
        let weighted = found(bounds);
        assert!((plain - truth).abs() > 0.1, "plain {plain}, true {truth}");
        assert!((weighted.current.unwrap() - truth).abs() < 0.06, "{weighted:?}, true {truth}");
        assert_eq!(weighted.verdict, Verdict::Drift, "far below what was promised: {weighted:?}");
        let many = Bounds { min_rows: 2_900, ..bounds };
        assert_eq!(found(many).verdict, Verdict::InsufficientData, "its weights leave fewer rows");
        assert!(found(many).n_eff.unwrap() < 2_900.0);
    }

    #[test]
    fn a_version_without_kept_rows_has_no_weighted_estimate() {
        let folder = tempfile::tempdir().unwrap();
        let read = Tested::read(&folder.path().join("judged.arrow"), std::iter::empty(), &Profiles::new());
        assert!(read.unwrap().is_none());
    }
}
