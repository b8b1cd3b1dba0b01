//! What both libraries learn from: rows that passed the checks which neither makes, as columns of numbers.

use domain::tabular::Table;

use crate::encoding::Encoding;
use crate::{Error, Recipe};

/// A table, its labels, and how much each row counts, if not equally.
pub type Judging<'a> = (&'a Table, &'a [f64], Option<&'a [f64]>);

/// Rows as numbers.
pub(crate) struct Rows<'a> {
    /// Feature after feature: shape `[features · count]`.
    pub(crate) features: Vec<f64>,
    pub(crate) count: usize,
    pub(crate) labels: &'a [f64],
    pub(crate) weights: Vec<f64>,
}

/// The rows to learn from, and those that say when to stop.
pub(crate) struct Lesson<'a> {
    pub(crate) columns: Encoding,
    pub(crate) train: Rows<'a>,
    pub(crate) judge: Option<Rows<'a>>,
}

impl<'a> Lesson<'a> {
    /// Checks everything, learns the columns from the training rows and encodes both tables by them.
    pub(crate) fn new(
        train: Judging<'a>,
        judge: Option<Judging<'a>>,
        recipe: &Recipe,
    ) -> Result<Self, Error> {
        recipe.check()?;
        let weights = checked(["training table", "labels", "weights"], train)?;
        both_classes(train.1, &weights)?;
        let columns = Encoding::learn(train.0)?;
        let train = Rows::new(&columns, train, weights)?;
        let judge = match judge {
            None => None,
            Some(judge) => {
                let weights =
                    checked(["validation table", "validation labels", "validation weights"], judge)?;
                Some(Rows::new(&columns, judge, weights)?)
            }
        };
        Ok(Self { columns, train, judge })
    }
}

impl<'a> Rows<'a> {
    fn new(columns: &Encoding, (table, labels, _): Judging<'a>, weights: Vec<f64>) -> Result<Self, Error> {
        Ok(Self { features: columns.encode(table)?, count: table.rows(), labels, weights })
    }
}

/// The weights of rows that could be learned from; `what` names table, labels and weights.
fn checked(what: [&'static str; 3], (table, labels, weights): Judging<'_>) -> Result<Vec<f64>, Error> {
    let rows = table.rows();
    if rows == 0 || table.columns().is_empty() {
        return Err(Error::Empty { what: what[0], missing: if rows == 0 { "rows" } else { "columns" } });
    }
    same_length(what[1], labels.len(), rows)?;
    if let Some(row) = labels.iter().position(|&label| label != 0.0 && label != 1.0) {
        return Err(Error::BadLabel { row, value: labels[row] });
    }
    let weights = weights.map_or_else(|| vec![1.0; rows], <[f64]>::to_vec);
    same_length(what[2], weights.len(), rows)?;
    match weights.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0)) {
        Some(row) => Err(Error::BadWeight { row, value: weights[row] }),
        None => Ok(weights),
    }
}

/// Refuses rows among which those that count all have one label.
fn both_classes(labels: &[f64], weights: &[f64]) -> Result<(), Error> {
    let mut counted =
        labels.iter().zip(weights).filter(|(_, weight)| **weight > 0.0).map(|(label, _)| *label);
    let first = counted.next().ok_or(Error::NoWeight)?;
    if counted.all(|label| label == first) {
        return Err(Error::OneClass { label: u8::from(first == 1.0) });
    }
    Ok(())
}

fn same_length(what: &'static str, found: usize, rows: usize) -> Result<(), Error> {
    if found == rows { Ok(()) } else { Err(Error::LengthMismatch { what, found, rows }) }
}
