//! Labelled predictions, parted by the values of their inputs.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use chrono::{DateTime, Utc};
use domain::tabular::Column;
use frames::Frame;
use frames::assemble::table;
use frames::files::{read_arrow, verify};
use statistics::profile::ColumnProfile;
use storage::predictions::{Log, Scored};

use crate::Error;
use crate::profiles::Profiles;

/// The bins of a number: fifths of the training rows.
const CUTS: [f64; 4] = [0.2, 0.4, 0.6, 0.8];

/// A labelled prediction, and in which part of each column it lies.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) cutoff: DateTime<Utc>,
    pub(crate) probability: f64,
    pub(crate) outcome: bool,
    /// Of each column that parts, an index into [`Parting::names`].
    pub(crate) parts: Vec<u16>,
}

/// How the values of a column are parted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parting {
    pub(crate) column: String,
    bins: Bins,
    /// What each part is called.
    pub(crate) names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Bins {
    /// Values up to each edge, and those beyond the last.
    Edges(Vec<f64>),
    /// The number of each level; all others share the next one.
    Levels(HashMap<String, u16>),
}

impl Parting {
    /// The parts of a column whose training rows were like this: its commonest `most` levels, or fifths.
    pub(crate) fn of(column: &str, reference: &ColumnProfile, most: usize) -> Self {
        match reference {
            ColumnProfile::Numbers(numbers) => {
                let cuts = CUTS.iter().filter_map(|&cut| numbers.quantile(cut));
                let mut edges: Vec<f64> = cuts.map(rounded).collect();
                edges.dedup();
                Self { column: column.to_owned(), names: numbered(column, &edges), bins: Bins::Edges(edges) }
            }
            ColumnProfile::Levels(levels) => {
                let mut known = levels.levels();
                known.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
                let known: Vec<&str> = known.into_iter().take(most).map(|(level, _)| level).collect();
                let rest = [format!("{column}: other levels"), format!("{column} is missing")];
                let names = known.iter().map(|level| format!("{column}={level}")).chain(rest).collect();
                let numbers = known.iter().zip(0..).map(|(level, number)| ((*level).to_owned(), number));
                Self { column: column.to_owned(), names, bins: Bins::Levels(numbers.collect()) }
            }
        }
    }

    /// The part of a row; a value of another type than the training rows' counts as missing.
    fn part(&self, values: &Column, row: usize) -> u16 {
        let missing = self.names.len() as u16 - 1;
        match (&self.bins, values) {
            (Bins::Edges(edges), Column::Number(numbers)) if !numbers[row].is_nan() => {
                edges.partition_point(|edge| *edge < numbers[row]) as u16
            }
            (Bins::Levels(levels), Column::Category { .. }) => match values.category(row) {
                Some(level) => levels.get(level).copied().unwrap_or(missing - 1),
                None => missing,
            },
            _ => missing,
        }
    }
}

/// To three significant digits: a segment's name is to be read, and a fifth need not be one to the row.
fn rounded(edge: f64) -> f64 {
    if edge == 0.0 || !edge.is_finite() {
        return edge;
    }
    let unit = 10_f64.powi(2 - edge.abs().log10().floor() as i32);
    (edge * unit).round() / unit
}

/// `temp <= 3.2`, `3.2 < temp <= 7.1`, …, `temp is missing`.
fn numbered(column: &str, edges: &[f64]) -> Vec<String> {
    let mut names: Vec<String> = match edges.first() {
        None => vec![format!("{column} is there")],
        Some(first) => vec![format!("{column} <= {first}")],
    };
    names.extend(edges.windows(2).map(|two| format!("{} < {column} <= {}", two[0], two[1])));
    names.extend(edges.last().map(|last| format!("{column} > {last}")));
    names.push(format!("{column} is missing"));
    names
}

/// Reads which part of each column the labelled predictions lie in, from the files that logged them.
pub(crate) fn read(
    data_dir: &Path,
    logs: &[Log],
    scored: &[Scored],
    partings: &[Parting],
) -> Result<Vec<Row>, Error> {
    let labelled: HashMap<String, &Scored> =
        scored.iter().map(|row| (row.prediction.to_string(), row)).collect();
    let mut rows = Vec::with_capacity(scored.len());
    for log in logs {
        let path = data_dir.join(&log.path);
        verify(&path, &log.sha256)?;
        let frame = read_arrow(&path)?;
        let ids = frame.column("prediction_id")?;
        let seen = table(&frame)?;
        let columns: BTreeMap<&str, &Column> =
            seen.columns().iter().map(|(name, column)| (name.as_str(), column)).collect();
        for row in 0..frame.rows() {
            let Some(scored) = ids.text_at(row).and_then(|id| labelled.get(id)) else { continue };
            let part = |parting: &Parting| match columns.get(parting.column.as_str()) {
                Some(values) => parting.part(values, row),
                None => parting.names.len() as u16 - 1,
            };
            let Scored { cutoff, probability, outcome, .. } = **scored;
            rows.push(Row { cutoff, probability, outcome, parts: partings.iter().map(part).collect() });
        }
    }
    Ok(rows)
}

/// The parts of these rows of a frame, row by row.
pub(crate) fn of_rows(frame: &Frame, rows: &[usize], partings: &[Parting]) -> Result<Vec<Vec<u16>>, Error> {
    let seen = table(frame)?;
    let columns: Vec<Option<&Column>> = partings.iter().map(|parting| seen.column(&parting.column)).collect();
    let part = |row: usize, (parting, values): (&Parting, &Option<&Column>)| match values {
        Some(values) => parting.part(values, row),
        None => parting.names.len() as u16 - 1,
    };
    let parts = |&row: &usize| partings.iter().zip(&columns).map(|own| part(row, own)).collect();
    Ok(rows.iter().map(parts).collect())
}

/// The partings of these columns, as far as the reference knows them.
pub(crate) fn partings<'a>(
    columns: impl Iterator<Item = &'a String>,
    reference: &Profiles,
    most: usize,
) -> Vec<Parting> {
    columns.filter_map(|column| Some(Parting::of(column, reference.get(column)?, most))).collect()
}

#[cfg(test)]
mod tests {
    use statistics::profile::{Edges, LevelProfile, NumberProfile};

    use super::*;

    #[test]
    fn numbers_part_at_fifths_of_the_training_rows_and_every_value_has_a_part() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        let mut profile = NumberProfile::new(Edges::of(&values, 50).unwrap());
        profile.observe(&values);
        let parting = Parting::of("temp", &ColumnProfile::Numbers(profile), 10);
        assert_eq!(parting.names.len(), 6, "{:?}", parting.names);
        let column = Column::Number(vec![f64::NEG_INFINITY, 1.0, 50.0, 100.0, 1e9, f64::INFINITY, f64::NAN]);
        let parts: Vec<u16> = (0..7).map(|row| parting.part(&column, row)).collect();
        assert_eq!(parts, [0, 0, 2, 4, 4, 4, 5]);
        assert_eq!(parting.names[5], "temp is missing");
        assert_eq!(
            [0.0, 1234.5, -0.067_891, f64::INFINITY].map(rounded),
            [0.0, 1230.0, -0.0679, f64::INFINITY]
        );
        assert_eq!(parting.part(&Column::from_text([Some("cold")]), 0), 5, "of another type");
    }

    #[test]
    fn the_commonest_levels_are_parts_and_the_others_share_one() {
        let profile = LevelProfile::of_reference([("AA", 5), ("UA", 90), ("DL", 7)], 0);
        let parting = Parting::of("carrier", &ColumnProfile::Levels(profile), 2);
        assert_eq!(
            parting.names,
            ["carrier=UA", "carrier=DL", "carrier: other levels", "carrier is missing"]
        );
        let column = Column::from_text([Some("DL"), Some("AA"), Some("new"), None]);
        let parts: Vec<u16> = (0..4).map(|row| parting.part(&column, row)).collect();
        assert_eq!(parts, [1, 2, 2, 3]);
    }

    #[test]
    fn a_constant_column_has_one_bin_and_the_missing() {
        let mut profile = NumberProfile::new(Edges::of(&[7.0; 9], 50).unwrap());
        profile.observe(&[7.0; 9]);
        let parting = Parting::of("x", &ColumnProfile::Numbers(profile), 10);
        assert_eq!(parting.names.first().map(String::as_str), Some("x <= 7"));
        assert_eq!(parting.part(&Column::Number(vec![7.0, 8.0]), 0), 0);
        assert_ne!(parting.part(&Column::Number(vec![7.0, 8.0]), 1), 0);
    }
}
