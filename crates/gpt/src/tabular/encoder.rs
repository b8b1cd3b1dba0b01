//! From columns to numbers near N(0, 1), missing indicators and category codes.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use domain::tabular::{Column, Table};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::check_format;
use crate::{Error, quantiles};

const FORMAT: u32 = 1;

/// Quantiles remembered per number column.
const KNOTS: usize = 256;

/// Probabilities are kept this far from 0 and 1, so scores stay within ±3.09.
const TAIL: f64 = 0.001;

/// A level gets its own code if it has at least one in so many training rows: rarer ones teach "unknown".
const ROWS_PER_LEVEL: usize = 20_000;

/// What is learned from a training table: how each column becomes numbers.
///
/// A number x becomes Φ⁻¹(F(x)) with F the training distribution (mid-rank, linear between 256 quantiles), so outliers
/// and units do not matter and values outside the training range are clipped; missing becomes 0 with an indicator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TabularEncoder {
    numbers: Vec<NumberColumn>,
    categories: Vec<CategoryColumn>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NumberColumn {
    name: String,
    knots: Vec<f64>,
    scores: Vec<f64>,
    sometimes_missing: bool,
}

/// Codes of a column: 0 missing, 1 unknown, 2 + i level i.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CategoryColumn {
    name: String,
    levels: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    encoder: TabularEncoder,
}

/// An encoded table, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// Rows.
    pub rows: usize,
    /// `[rows, numbers]`: normal scores.
    pub numbers: Vec<f32>,
    /// `[rows, indicators]`: 1 where a number is missing.
    pub missing: Vec<f32>,
    /// `[rows, categories]`: codes, each column's after those of the column before.
    pub codes: Vec<u32>,
}

impl TabularEncoder {
    /// Learns from a training table: its numbers' distributions and its categories' frequent levels.
    ///
    /// # Errors
    /// [`Error::Empty`] without rows or columns.
    pub fn fit(table: &Table) -> Result<Self, Error> {
        if table.rows() == 0 || table.columns().is_empty() {
            return Err(Error::Empty { what: "the training table" });
        }
        let (mut numbers, mut categories) = (Vec::new(), Vec::new());
        for (name, column) in table.columns() {
            match column {
                Column::Number(values) => numbers.push(NumberColumn::fit(name, values)),
                Column::Category { codes, levels } => {
                    categories.push(CategoryColumn::fit(name, codes, levels));
                }
            }
        }
        Ok(Self { numbers, categories })
    }

    /// How many numbers a row has.
    pub fn numbers(&self) -> usize {
        self.numbers.len()
    }

    /// How many missing indicators a row has: one for each number column that had missing values in training.
    pub fn indicators(&self) -> usize {
        self.numbers.iter().filter(|column| column.sometimes_missing).count()
    }

    /// How many categories a row has.
    pub fn categories(&self) -> usize {
        self.categories.len()
    }

    /// How many codes there are over all category columns.
    pub fn codes(&self) -> usize {
        self.categories.iter().map(CategoryColumn::codes).sum()
    }

    /// The columns behind the numbers of a row, in order.
    pub fn number_names(&self) -> impl Iterator<Item = &str> {
        self.numbers.iter().map(|column| column.name.as_str())
    }

    /// The columns behind the missing indicators of a row, in order.
    pub fn indicator_names(&self) -> impl Iterator<Item = &str> {
        self.numbers.iter().filter(|column| column.sometimes_missing).map(|column| column.name.as_str())
    }

    /// The columns behind the codes of a row, in order.
    pub fn category_names(&self) -> impl Iterator<Item = &str> {
        self.categories.iter().map(|column| column.name.as_str())
    }

    /// Encodes a table with the columns of the training table; other columns are ignored.
    ///
    /// # Errors
    /// [`Error::MissingColumn`] or [`Error::ColumnKind`], naming the column.
    pub fn encode(&self, table: &Table) -> Result<Encoded, Error> {
        let rows = table.rows();
        let numbers = self
            .numbers
            .iter()
            .map(|column| Ok((column, find_numbers(table, &column.name)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let scores = transpose(rows, &numbers, |(column, values), row| column.score(values[row]));
        let indicated: Vec<_> = numbers.iter().filter(|(column, _)| column.sometimes_missing).collect();
        let missing =
            transpose(rows, &indicated, |(_, values), row| f32::from(u8::from(!values[row].is_finite())));
        let mut first = 0;
        let mut categories = Vec::with_capacity(self.categories.len());
        for column in &self.categories {
            categories.push(column.bind(table, first)?);
            first += column.codes() as u32;
        }
        let codes = transpose(rows, &categories, |bound, row| {
            bound.by_code.get(bound.codes[row] as usize).copied().unwrap_or(bound.missing)
        });
        Ok(Encoded { rows, numbers: scores, missing, codes })
    }

    /// The encoder as JSON.
    ///
    /// # Errors
    /// [`Error::Json`] if a knot is not finite, which fitting never makes.
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string(&Stored { format: FORMAT, encoder: self.clone() }).map_err(invalid)
    }

    /// Reads what [`TabularEncoder::to_json`] wrote.
    ///
    /// # Errors
    /// [`Error::Json`] if it is something else, [`Error::Format`] if another version wrote it.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(invalid)?;
        let found = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
        check_format("a tabular encoder", u32::try_from(found).unwrap_or(u32::MAX), FORMAT)?;
        let stored: Stored = serde_json::from_value(value).map_err(invalid)?;
        Ok(stored.encoder)
    }
}

fn invalid(source: serde_json::Error) -> Error {
    Error::Json { what: "a tabular encoder", source }
}

/// Columns to rows: `[columns][rows]` → `[rows, columns]`.
fn transpose<C: Sync, T: Send + Clone + Default>(
    rows: usize,
    columns: &[C],
    value: impl Fn(&C, usize) -> T + Sync,
) -> Vec<T> {
    let width = columns.len();
    let mut out = vec![T::default(); rows * width];
    if width > 0 {
        out.par_chunks_mut(width).enumerate().with_min_len(512).for_each(|(row, out)| {
            for (out, column) in out.iter_mut().zip(columns) {
                *out = value(column, row);
            }
        });
    }
    out
}

fn find<'a>(table: &'a Table, name: &str) -> Result<&'a Column, Error> {
    table.column(name).ok_or_else(|| Error::MissingColumn { name: name.to_owned() })
}

fn find_numbers<'a>(table: &'a Table, name: &str) -> Result<&'a [f64], Error> {
    match find(table, name)? {
        Column::Number(values) => Ok(values),
        Column::Category { .. } => {
            Err(Error::ColumnKind { name: name.to_owned(), expected: "numbers", found: "categories" })
        }
    }
}

impl NumberColumn {
    fn fit(name: &str, values: &[f64]) -> Self {
        let sorted = quantiles::sorted_sample(values.iter().copied());
        let mut knots: Vec<f64> = (0..=KNOTS)
            .filter_map(|knot| sorted.get(knot * sorted.len().saturating_sub(1) / KNOTS).copied())
            .collect();
        knots.dedup();
        let mid_rank = |knot: &f64| {
            let below = sorted.partition_point(|value| value < knot);
            let through = sorted.partition_point(|value| value <= knot);
            (below + through) as f64 / (2 * sorted.len()) as f64
        };
        let scores = knots
            .iter()
            .map(|knot| quantiles::normal_score(mid_rank(knot).clamp(TAIL, 1.0 - TAIL)))
            .collect();
        let sometimes_missing = values.iter().any(|value| !value.is_finite());
        Self { name: name.to_owned(), knots, scores, sometimes_missing }
    }

    /// The normal score of a value; 0 if missing.
    fn score(&self, value: f64) -> f32 {
        if !value.is_finite() || self.knots.is_empty() {
            return 0.0;
        }
        let above = self.knots.partition_point(|knot| *knot <= value);
        let score = match (above.checked_sub(1), self.knots.get(above)) {
            (None, _) => self.scores[0],
            (Some(below), None) => self.scores[below],
            (Some(below), Some(next)) => {
                let share = (value - self.knots[below]) / (next - self.knots[below]);
                self.scores[below] + share * (self.scores[above] - self.scores[below])
            }
        };
        score as f32
    }
}

/// A category column found in a table: the code of each of the table's own levels.
struct BoundCategory<'a> {
    codes: &'a [u32],
    by_code: Vec<u32>,
    missing: u32,
}

impl CategoryColumn {
    fn fit(name: &str, codes: &[u32], levels: &[String]) -> Self {
        let mut counts = vec![0usize; levels.len()];
        for &code in codes {
            if let Some(count) = counts.get_mut(code as usize) {
                *count += 1;
            }
        }
        let enough = codes.len().div_ceil(ROWS_PER_LEVEL);
        let mut levels: Vec<String> = levels
            .iter()
            .zip(counts)
            .filter(|(_, count)| *count >= enough)
            .map(|(level, _)| level.clone())
            .collect();
        levels.sort_unstable();
        Self { name: name.to_owned(), levels }
    }

    fn codes(&self) -> usize {
        2 + self.levels.len()
    }

    fn bind<'a>(&self, table: &'a Table, first: u32) -> Result<BoundCategory<'a>, Error> {
        let Column::Category { codes, levels } = find(table, &self.name)? else {
            let name = self.name.clone();
            return Err(Error::ColumnKind { name, expected: "categories", found: "numbers" });
        };
        let places: HashMap<&String, u32> = self.levels.iter().zip(first + 2..).collect();
        let by_code = levels.iter().map(|level| places.get(level).copied().unwrap_or(first + 1)).collect();
        Ok(BoundCategory { codes, by_code, missing: first })
    }
}

/// Rows of an encoded table as tensors.
pub(crate) struct TabularBatch {
    pub(crate) numbers: Tensor, // [rows, numbers]
    pub(crate) missing: Tensor, // [rows, indicators]
    pub(crate) codes: Tensor,   // [rows · categories]
    pub(crate) rows: usize,
}

impl Encoded {
    pub(crate) fn batch(&self, rows: &[usize], device: &Device) -> Result<TabularBatch, Error> {
        let count = rows.len();
        let (numbers, n) = gather(&self.numbers, self.rows, rows);
        let (missing, m) = gather(&self.missing, self.rows, rows);
        let (codes, c) = gather(&self.codes, self.rows, rows);
        Ok(TabularBatch {
            numbers: Tensor::from_vec(numbers, (count, n), device)?,
            missing: Tensor::from_vec(missing, (count, m), device)?,
            codes: Tensor::from_vec(codes, count * c, device)?,
            rows: count,
        })
    }
}

/// The chosen rows of a matrix, and its width.
fn gather<T: Copy>(matrix: &[T], all: usize, rows: &[usize]) -> (Vec<T>, usize) {
    let width = matrix.len() / all.max(1);
    (rows.iter().flat_map(|&row| &matrix[row * width..(row + 1) * width]).copied().collect(), width)
}

#[cfg(test)]
mod tests {
    use domain::tabular::MISSING;

    use super::*;

    fn table() -> Table {
        let number = (0..1000).map(|i| if i % 10 == 0 { f64::NAN } else { f64::from(i).exp2() }).collect();
        let constant = vec![5.0; 1000];
        let carrier = Column::from_text((0..1000).map(|i| Some(if i % 3 == 0 { "UA" } else { "AA" })));
        let columns = vec![
            ("size".into(), Column::Number(number)),
            ("constant".into(), Column::Number(constant)),
            ("carrier".into(), carrier),
        ];
        Table::new(1000, columns).unwrap()
    }

    #[test]
    fn a_skewed_number_becomes_a_standard_normal_one_and_missing_becomes_zero_with_an_indicator() {
        let encoder = TabularEncoder::fit(&table()).unwrap();
        let encoded = encoder.encode(&table()).unwrap();
        let scores: Vec<f32> = encoded.numbers.iter().step_by(2).copied().collect();
        let present: Vec<f32> =
            scores.iter().zip(&encoded.missing).filter(|(_, m)| **m == 0.0).map(|(s, _)| *s).collect();
        let mean = present.iter().sum::<f32>() / present.len() as f32;
        let variance = present.iter().map(|s| (s - mean).powi(2)).sum::<f32>() / present.len() as f32;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        assert_eq!((scores[0], encoded.missing[0]), (0.0, 1.0));
        assert_eq!(encoder.indicators(), 1);
        assert!(
            encoded.numbers.iter().skip(1).step_by(2).all(|score| *score == 0.0),
            "the constant says nothing"
        );
    }

    #[test]
    fn codes_follow_the_level_not_its_place_in_the_table() {
        let encoder = TabularEncoder::fit(&table()).unwrap();
        let levels = vec!["B6".to_owned(), "UA".to_owned()].into();
        let other = Table::new(
            3,
            vec![
                ("size".into(), Column::Number(vec![f64::INFINITY, 1e305, -1.0])),
                ("constant".into(), Column::Number(vec![9.0; 3])),
                ("carrier".into(), Column::Category { codes: vec![0, 1, MISSING], levels }),
            ],
        )
        .unwrap();
        let encoded = encoder.encode(&other).unwrap();
        assert_eq!(encoded.codes, [1, 3, 0]); // unknown, UA (after AA), missing
        assert!((encoded.numbers[2] - 3.09).abs() < 0.01 && (encoded.numbers[4] + 3.09).abs() < 0.01);
    }

    #[test]
    fn missing_and_retyped_columns_are_named_and_json_keeps_everything() {
        let encoder = TabularEncoder::fit(&table()).unwrap();
        let partly = Table::new(1, vec![("size".into(), Column::from_text([Some("big")]))]).unwrap();
        let refusal = encoder.encode(&partly).unwrap_err();
        assert_eq!(refusal.to_string(), "column `size` holds categories where numbers are expected");
        let empty = Table::new(1, vec![]).unwrap();
        assert_eq!(encoder.encode(&empty).unwrap_err().to_string(), "column `size` is missing");
        let text = encoder.to_json().unwrap();
        assert_eq!(TabularEncoder::from_json(&text).unwrap(), encoder);
        let newer = text.replace("\"format\":1", "\"format\":7");
        assert!(matches!(TabularEncoder::from_json(&newer), Err(Error::Format { found: 7, .. })));
    }
}
