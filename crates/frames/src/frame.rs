//! A [`Frame`]: named columns of one length, in plain vectors.
//!
//! Numbers use NaN, integers and times [`NO_INTEGER`], texts [`MISSING`] for "null", so that kernels read one slice. A NaN that
//! is a value, and no null, has bits of its own ([`NOT_A_NUMBER`]); kernels pass both over.

use std::collections::HashMap;
use std::sync::Arc;

use domain::definitions::ValueType;
use domain::tabular::MISSING;

use crate::Error;
use crate::exact::Exact;

/// The null of integers and times.
pub const NO_INTEGER: i64 = i64::MIN;

/// A NaN that was given as a value. Every other NaN is a null; arithmetic makes of each what the machine makes of it.
pub const NOT_A_NUMBER: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// Whether a number is a null.
pub(crate) fn no_number(value: f64) -> bool {
    value.is_nan() && value.to_bits() != NOT_A_NUMBER.to_bits()
}

/// One column.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Numbers; NaN is null, unless it is [`NOT_A_NUMBER`].
    Number(Vec<f64>),
    /// Integers; [`NO_INTEGER`] is null.
    Integer(Vec<i64>),
    /// Texts as codes into levels; [`MISSING`] is null.
    Text(Vec<u32>, Arc<[String]>),
    /// Microseconds since 1970, UTC; [`NO_INTEGER`] is null.
    Time(Vec<i64>),
    /// Truth values.
    Boolean(Vec<Option<bool>>),
    /// Values of the narrow and exact types.
    Exact(Exact),
}

impl Values {
    /// The number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Number(values) => values.len(),
            Self::Integer(values) | Self::Time(values) => values.len(),
            Self::Text(codes, _) => codes.len(),
            Self::Boolean(values) => values.len(),
            Self::Exact(values) => values.len(),
        }
    }

    /// True without a row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type.
    pub fn kind(&self) -> ValueType {
        match self {
            Self::Number(_) => ValueType::Number,
            Self::Integer(_) => ValueType::Integer,
            Self::Text(..) => ValueType::Text,
            Self::Time(_) => ValueType::Time,
            Self::Boolean(_) => ValueType::Boolean,
            Self::Exact(values) => values.kind(),
        }
    }

    /// A column of `rows` nulls.
    pub fn nulls(kind: ValueType, rows: usize) -> Self {
        match kind {
            ValueType::Number => Self::Number(vec![f64::NAN; rows]),
            ValueType::Integer => Self::Integer(vec![NO_INTEGER; rows]),
            ValueType::Text => Self::Text(vec![MISSING; rows], Arc::from([])),
            ValueType::Time => Self::Time(vec![NO_INTEGER; rows]),
            ValueType::Boolean => Self::Boolean(vec![None; rows]),
            exact => Self::Exact(Exact::nulls(exact, rows)),
        }
    }

    /// A text column; levels are numbered in order of first appearance.
    pub fn text<S: AsRef<str>>(values: impl IntoIterator<Item = Option<S>>) -> Self {
        let mut known: HashMap<String, u32> = HashMap::new();
        let mut levels = Vec::new();
        let codes = values
            .into_iter()
            .map(|value| {
                let Some(value) = value else { return MISSING };
                if let Some(code) = known.get(value.as_ref()) {
                    return *code;
                }
                let code = levels.len() as u32;
                levels.push(value.as_ref().to_owned());
                known.insert(value.as_ref().to_owned(), code);
                code
            })
            .collect();
        Self::Text(codes, levels.into())
    }

    /// Whether a row is null.
    pub fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Number(values) => no_number(values[row]),
            Self::Integer(values) | Self::Time(values) => values[row] == NO_INTEGER,
            Self::Text(codes, _) => codes[row] == MISSING,
            Self::Boolean(values) => values[row].is_none(),
            Self::Exact(values) => values.get(row).is_none(),
        }
    }

    /// The text of a row; `None` if it is null, past the end, or the column holds no texts.
    pub fn text_at(&self, row: usize) -> Option<&str> {
        match self {
            Self::Text(codes, levels) => levels.get(*codes.get(row)? as usize).map(String::as_str),
            _ => None,
        }
    }

    /// The rows at `indices`; an index past the end gives null.
    pub fn take(&self, indices: &[u32]) -> Self {
        fn pick<T: Copy>(values: &[T], indices: &[u32], null: T) -> Vec<T> {
            indices.iter().map(|&i| values.get(i as usize).copied().unwrap_or(null)).collect()
        }
        match self {
            Self::Number(values) => Self::Number(pick(values, indices, f64::NAN)),
            Self::Integer(values) => Self::Integer(pick(values, indices, NO_INTEGER)),
            Self::Text(codes, levels) => Self::Text(pick(codes, indices, MISSING), Arc::clone(levels)),
            Self::Time(values) => Self::Time(pick(values, indices, NO_INTEGER)),
            Self::Boolean(values) => Self::Boolean(pick(values, indices, None)),
            Self::Exact(values) => Self::Exact(values.take(indices)),
        }
    }

    /// The same column with its levels numbered in order of first appearance, and none that does not appear: what a column
    /// holds then says all of it, whichever files it was read from.
    #[must_use]
    pub fn in_order_of_appearance(self) -> Self {
        let Self::Text(mut codes, levels) = self else { return self };
        let mut numbers = vec![MISSING; levels.len()];
        let mut appeared = Vec::new();
        for code in &mut codes {
            let Some(number) = numbers.get_mut(*code as usize) else { continue };
            if *number == MISSING {
                *number = appeared.len() as u32;
                appeared.push(levels[*code as usize].clone());
            }
            *code = *number;
        }
        Self::Text(codes, appeared.into())
    }

    /// Appends another column of the same type.
    ///
    /// # Panics
    /// If the types differ; callers compare schemas first.
    pub fn append(&mut self, other: &Self) {
        match (self, other) {
            (Self::Number(own), Self::Number(new)) => own.extend_from_slice(new),
            (Self::Integer(own), Self::Integer(new)) | (Self::Time(own), Self::Time(new)) => {
                own.extend_from_slice(new);
            }
            (Self::Boolean(own), Self::Boolean(new)) => own.extend_from_slice(new),
            (Self::Text(codes, levels), Self::Text(new_codes, new_levels)) => {
                append_text(codes, levels, new_codes, new_levels);
            }
            (Self::Exact(own), Self::Exact(new)) if own.kind() == new.kind() => own.append(new),
            (own, new) => panic!("a {} column cannot take {}s", own.kind(), new.kind()),
        }
    }
}

fn append_text(
    codes: &mut Vec<u32>,
    levels: &mut Arc<[String]>,
    new_codes: &[u32],
    new_levels: &Arc<[String]>,
) {
    if Arc::ptr_eq(levels, new_levels) {
        codes.extend_from_slice(new_codes);
        return;
    }
    let mut known: HashMap<&str, u32> =
        levels.iter().enumerate().map(|(code, level)| (level.as_str(), code as u32)).collect();
    let mut added: Vec<String> = Vec::new();
    let map: Vec<u32> = new_levels
        .iter()
        .map(|level| {
            *known.entry(level).or_insert_with(|| {
                added.push(level.clone());
                (levels.len() + added.len() - 1) as u32
            })
        })
        .collect();
    codes.extend(new_codes.iter().map(|&code| map.get(code as usize).copied().unwrap_or(MISSING)));
    if !added.is_empty() {
        *levels = levels.iter().cloned().chain(added).collect();
    }
}

/// Named columns of one length.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Frame {
    rows: usize,
    columns: Vec<(String, Values)>,
}

impl Frame {
    /// A frame of these columns.
    ///
    /// # Panics
    /// If a column has another length than `rows`: frames are made by code that knows.
    pub fn new(rows: usize, columns: Vec<(String, Values)>) -> Self {
        for (name, values) in &columns {
            assert_eq!(values.len(), rows, "column `{name}` does not have {rows} rows");
        }
        Self { rows, columns }
    }

    /// An empty frame of this schema.
    pub fn empty(schema: &[(String, ValueType)]) -> Self {
        let columns = schema.iter().map(|(name, kind)| (name.clone(), Values::nulls(*kind, 0))).collect();
        Self { rows: 0, columns }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The columns, in order.
    pub fn columns(&self) -> &[(String, Values)] {
        &self.columns
    }

    /// Names and types, in order.
    pub fn schema(&self) -> Vec<(String, ValueType)> {
        self.columns.iter().map(|(name, values)| (name.clone(), values.kind())).collect()
    }

    /// The column of that name, if there is one.
    pub fn find(&self, name: &str) -> Option<&Values> {
        self.columns.iter().find(|(known, _)| known == name).map(|(_, values)| values)
    }

    /// The column of that name.
    ///
    /// # Errors
    /// [`Error::MissingColumn`].
    pub fn column(&self, name: &str) -> Result<&Values, Error> {
        self.find(name).ok_or_else(|| Error::MissingColumn {
            column: name.to_owned(),
            found: self.columns.iter().map(|(name, _)| name.clone()).collect(),
        })
    }

    /// The times of a column.
    ///
    /// # Errors
    /// [`Error::MissingColumn`] or [`Error::WrongType`].
    pub fn times(&self, name: &str) -> Result<&[i64], Error> {
        match self.column(name)? {
            Values::Time(values) => Ok(values),
            other => Err(wrong_type(name, other, ValueType::Time)),
        }
    }

    /// The numbers of a column.
    ///
    /// # Errors
    /// [`Error::MissingColumn`] or [`Error::WrongType`].
    pub fn numbers(&self, name: &str) -> Result<&[f64], Error> {
        match self.column(name)? {
            Values::Number(values) => Ok(values),
            other => Err(wrong_type(name, other, ValueType::Number)),
        }
    }

    /// Adds a column, or replaces the one of that name.
    ///
    /// # Panics
    /// If it has another length.
    pub fn set(&mut self, name: impl Into<String>, values: Values) {
        let name = name.into();
        assert_eq!(values.len(), self.rows, "column `{name}` does not have {} rows", self.rows);
        match self.columns.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = values,
            None => self.columns.push((name, values)),
        }
    }

    /// The columns named, in that order.
    ///
    /// # Errors
    /// [`Error::MissingColumn`].
    pub fn select<S: AsRef<str>>(&self, names: &[S]) -> Result<Self, Error> {
        let columns = names
            .iter()
            .map(|name| Ok((name.as_ref().to_owned(), self.column(name.as_ref())?.clone())))
            .collect::<Result<_, Error>>()?;
        Ok(Self { rows: self.rows, columns })
    }

    /// The same frame with the levels of its texts [in order of appearance](Values::in_order_of_appearance).
    #[must_use]
    pub fn in_order_of_appearance(self) -> Self {
        let columns = self.columns.into_iter().map(|(name, values)| (name, values.in_order_of_appearance()));
        Self { rows: self.rows, columns: columns.collect() }
    }

    /// The rows at `indices`; an index past the end gives a row of nulls.
    pub fn take(&self, indices: &[u32]) -> Self {
        let columns =
            self.columns.iter().map(|(name, values)| (name.clone(), values.take(indices))).collect();
        Self { rows: indices.len(), columns }
    }

    /// The rows for which `keep` holds.
    pub fn filter(&self, keep: impl Fn(usize) -> bool) -> Self {
        let kept: Vec<u32> = (0..self.rows).filter(|&row| keep(row)).map(|row| row as u32).collect();
        self.take(&kept)
    }

    /// Appends the rows of another frame, matching columns by name; what it lacks becomes null.
    ///
    /// # Errors
    /// [`Error::WrongType`] if a column of the same name holds another type.
    pub fn append(&mut self, other: &Self) -> Result<(), Error> {
        for (name, own) in &mut self.columns {
            match other.find(name) {
                None => own.append(&Values::nulls(own.kind(), other.rows)),
                Some(new) if new.kind() == own.kind() => own.append(new),
                Some(new) => return Err(wrong_type(name, new, own.kind())),
            }
        }
        self.rows += other.rows;
        Ok(())
    }
}

pub(crate) fn wrong_type(column: &str, found: &Values, expected: ValueType) -> Error {
    Error::WrongType {
        column: column.to_owned(),
        found: format!("{}s", found.kind()),
        expected: format!("{expected}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_texts_merges_their_levels() {
        let mut left = Frame::new(2, vec![("c".into(), Values::text([Some("UA"), None]))]);
        left.append(&Frame::new(2, vec![("c".into(), Values::text([Some("AA"), Some("UA")]))])).unwrap();
        let texts: Vec<_> = (0..4).map(|row| left.find("c").unwrap().text_at(row)).collect();
        assert_eq!(texts, [Some("UA"), None, Some("AA"), Some("UA")]);
    }

    #[test]
    fn levels_are_numbered_as_they_appear_and_only_if_they_do() {
        let whole = Values::text([Some("UA"), Some("AA"), None, Some("DL")]);
        let Values::Text(codes, levels) = whole.take(&[3, 2, 1, 3]).in_order_of_appearance() else {
            panic!()
        };
        assert_eq!(
            (codes, levels.to_vec()),
            (vec![0, MISSING, 1, 0], vec!["DL".to_owned(), "AA".to_owned()])
        );
    }

    #[test]
    fn taking_past_the_end_gives_null() {
        let frame = Frame::new(1, vec![("x".into(), Values::Number(vec![1.0]))]);
        assert!(frame.take(&[0, u32::MAX]).find("x").unwrap().is_null(1));
    }

    #[test]
    fn a_missing_column_is_refused_with_what_there_is() {
        let frame = Frame::new(0, vec![("x".into(), Values::Number(vec![]))]);
        assert_eq!(frame.column("y").unwrap_err().to_string(), "there is no column `y`; there are: x");
    }
}
