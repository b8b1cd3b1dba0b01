//! The columns of numbers taken together: whether current rows can be told from the reference's though no column moved.
//!
//! Two measures over the same rows of both files, evenly spaced: a classifier of where a row is from, and how far rows lie from
//! the reference's principal components. The classifier judges, the components say whether columns go together otherwise.

use std::path::Path;

use frames::column_file::{ColumnFile, ColumnKind};
use serde::Serialize;
use statistics::Generator;
use statistics::distributions::normal_sf;
use statistics::drift::{Reconstruction, domain_classifier};

use super::{Bounds, ColumnVerdict, Report, reference};
use crate::Error;

/// Rows of a file that are looked at, at most.
const ROWS: usize = 10_000;
/// Columns that are looked at, at most: the first ones.
const COLUMNS: usize = 200;
/// The share of the variance that the components hold: NannyML's.
const HELD: f64 = 0.65;

/// What was found about the columns of numbers together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Together {
    /// Columns that were looked at.
    pub columns: usize,
    /// Rows of the reference that were looked at.
    pub rows_reference: usize,
    /// Rows of the current file that were looked at.
    pub rows_current: usize,
    /// What became of them.
    pub verdict: ColumnVerdict,
    /// P(a current row looks more current than one of the reference), by a classifier that saw neither; ½ is not at all.
    pub domain_classifier_auc: f64,
    /// The ends of its 95 % interval.
    pub auc_low: f64,
    /// The upper end.
    pub auc_high: f64,
    /// Mean distance of rows of the reference from its principal components, in standard deviations.
    pub reconstruction_error_reference: f64,
    /// And of current rows.
    pub reconstruction_error_current: f64,
}

impl Report {
    /// Looks at the columns of numbers of both files together. Without two such columns, or with fewer rows than a verdict
    /// needs, there is nothing to see.
    ///
    /// # Errors
    /// [`Error`] if a file cannot be read, or the reference is profiles: they hold no rows.
    pub fn look_together(&mut self, reference: &Path, current: &Path) -> Result<(), Error> {
        if !reference::is_parquet(reference) {
            let why = "columns are looked at together row by row, and it holds profiles".to_owned();
            return Err(Error::ReferenceFile { file: reference.to_owned(), why });
        }
        let (old, new) = (ColumnFile::open(reference)?, ColumnFile::open(current)?);
        let number = |file: &ColumnFile, name: &str| file.kind(name) == Some(ColumnKind::Number);
        let names = old.columns().iter().map(|(name, _)| name.as_str());
        let names: Vec<&str> =
            names.filter(|name| number(&old, name) && number(&new, name)).take(COLUMNS).collect();
        let (old, new) = (columns(&old, &names)?, columns(&new, &names)?);
        self.together = found(&old, &new, self.bounds)?;
        if let Some(together) = &self.together {
            self.verdict = self.verdict.max(together.verdict);
        }
        Ok(())
    }
}

/// `[columns][rows]`; NaN is no finite number.
fn columns(file: &ColumnFile, names: &[&str]) -> Result<Vec<Vec<f64>>, Error> {
    let step = (file.rows() as usize).div_ceil(ROWS).max(1);
    names.iter().map(|name| Ok(file.every(name, step)?)).collect()
}

fn found(old: &[Vec<f64>], new: &[Vec<f64>], bounds: Bounds) -> Result<Option<Together>, Error> {
    let count = |side: &[Vec<f64>]| side.first().map_or(0, Vec::len);
    let least = bounds.min_rows.max(20) as usize;
    if old.len() < 2 || count(old).min(count(new)) < least {
        return Ok(None);
    }
    let middles: Vec<f64> = old.iter().map(|column| middle(column)).collect();
    let (before, now) = (rows(old, &middles), rows(new, &middles));
    let auc = domain_classifier(&before, &now, &mut Generator::from_seed(1))?;
    // The classifier's advantage 2·AUC − 1 is at most the total variation.
    let beyond = auc.value - (0.5 + bounds.min_effect / 2.0);
    let p_value = auc.standard_error.map_or(1.0, |error| normal_sf(beyond / error.max(1e-12)));
    let components = Reconstruction::fit(&before, HELD)?;
    Ok(Some(Together {
        columns: old.len(),
        rows_reference: before.len(),
        rows_current: now.len(),
        verdict: if p_value <= bounds.alpha { ColumnVerdict::Drift } else { ColumnVerdict::Ok },
        domain_classifier_auc: auc.value,
        auc_low: auc.interval.low,
        auc_high: auc.interval.high,
        reconstruction_error_reference: components.error(&before)?,
        reconstruction_error_current: components.error(&now)?,
    }))
}

/// The median of the finite numbers; 0 without one.
fn middle(column: &[f64]) -> f64 {
    let mut known: Vec<f64> = column.iter().copied().filter(|value| value.is_finite()).collect();
    known.sort_unstable_by(f64::total_cmp);
    known.get(known.len() / 2).copied().unwrap_or_default()
}

/// Columns as rows, with the reference's median where there is no finite number.
fn rows(columns: &[Vec<f64>], middles: &[f64]) -> Vec<Vec<f64>> {
    let cell = |row: usize, (column, middle): (&Vec<f64>, &f64)| {
        Some(column[row]).filter(|value| value.is_finite()).unwrap_or(*middle)
    };
    (0..columns[0].len())
        .map(|row| columns.iter().zip(middles).map(|column| cell(row, column)).collect())
        .collect()
}
