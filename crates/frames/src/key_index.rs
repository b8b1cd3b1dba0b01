//! The distinct keys of labels, numbered, so that rows of features find their labels in one look-up a row.
//!
//! Keys are compared exactly: integers of any width as 64-bit integers, texts of any encoding byte by byte (no folding, no
//! normal form), everything else only with its own type. Two columns are never pasted into one text. A key with a null part
//! is no key and matches nothing.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Int64Type};
use arrow::row::{RowConverter, SortField};

use crate::Error;
use crate::contest::NO_GROUP;

/// The type in which keys of a column are compared.
///
/// # Errors
/// [`Error::WrongType`] if values of this type name nothing.
pub(crate) fn kind_of(column: &str, kind: &DataType) -> Result<DataType, Error> {
    match kind {
        kind if kind.is_integer() => Ok(DataType::Int64),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(DataType::Utf8),
        DataType::Dictionary(_, value) => kind_of(column, value),
        DataType::Boolean
        | DataType::Date32
        | DataType::Decimal128(..)
        | DataType::Timestamp(..)
        | DataType::FixedSizeBinary(_)
        | DataType::Binary => Ok(kind.clone()),
        other => Err(Error::WrongType {
            column: column.to_owned(),
            found: format!("{other} values"),
            expected: "texts, integers or other exact values, as keys are".to_owned(),
        }),
    }
}

/// A key column in the type in which it is compared.
///
/// # Errors
/// [`Error::WrongType`] if a value does not fit, such as an integer above 2⁶³ − 1.
pub(crate) fn normal(column: &str, array: &ArrayRef) -> Result<ArrayRef, Error> {
    let kind = kind_of(column, array.data_type())?;
    if kind == *array.data_type() {
        return Ok(array.clone());
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, &kind, &strict).map_err(|error| Error::WrongType {
        column: column.to_owned(),
        found: format!("{} values that do not fit ({error})", array.data_type()),
        expected: "keys up to 64-bit integers".to_owned(),
    })
}

/// Keys and their numbers.
#[derive(Debug)]
pub(crate) enum KeyIndex {
    /// Without a key every row is about every label.
    Everything,
    /// One column of integers.
    Integers(HashMap<i64, u32, BuildHasherDefault<Mixing>>),
    /// One column of texts.
    Texts(HashMap<Box<str>, u32>),
    /// Anything else, as order-preserving bytes of the whole tuple.
    Tuples(RowConverter, HashMap<Box<[u8]>, u32>),
}

impl KeyIndex {
    /// Numbers the keys of labels in the order of their first appearance; answers the number of each label's key too.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if a column cannot be encoded.
    pub(crate) fn of_labels(columns: &[ArrayRef], labels: usize) -> Result<(Self, Vec<u32>), Error> {
        let mut index = match columns {
            [] => return Ok((Self::Everything, vec![0; labels])),
            [column] if *column.data_type() == DataType::Int64 => Self::Integers(HashMap::default()),
            [column] if *column.data_type() == DataType::Utf8 => Self::Texts(HashMap::new()),
            columns => {
                let fields =
                    columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
                let converter = RowConverter::new(fields).map_err(unencodable)?;
                Self::Tuples(converter, HashMap::new())
            }
        };
        let groups = index.number(columns, labels)?;
        Ok((index, groups))
    }

    fn number(&mut self, columns: &[ArrayRef], labels: usize) -> Result<Vec<u32>, Error> {
        let present = present(columns);
        let keyed = |row: usize| present.as_ref().is_none_or(|present| present.value(row));
        let rows = 0..labels;
        Ok(match self {
            Self::Everything => vec![0; labels],
            Self::Integers(known) => {
                let values = integers(&columns[0]).values();
                rows.map(|row| if keyed(row) { numbered(known, values[row]) } else { NO_GROUP }).collect()
            }
            Self::Texts(known) => {
                let texts = columns[0].as_string::<i32>();
                rows.map(|row| if keyed(row) { numbered(known, texts.value(row).into()) } else { NO_GROUP })
                    .collect()
            }
            Self::Tuples(converter, known) => {
                let tuples = converter.convert_columns(columns).map_err(unencodable)?;
                rows.map(
                    |row| {
                        if keyed(row) { numbered(known, tuples.row(row).as_ref().into()) } else { NO_GROUP }
                    },
                )
                .collect()
            }
        })
    }

    /// The numbers of the rows' keys; [`NO_GROUP`] where no label has the key.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if a column cannot be encoded.
    pub(crate) fn look_up(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>, Error> {
        let present = present(columns);
        let keyed = |row: &usize| present.as_ref().is_none_or(|present| present.value(*row));
        let found = |group: Option<&u32>| group.copied().unwrap_or(NO_GROUP);
        let rows = 0..rows;
        Ok(match self {
            Self::Everything => vec![0; rows.len()],
            Self::Integers(known) => {
                let values = integers(&columns[0]).values();
                rows.map(|row| if keyed(&row) { found(known.get(&values[row])) } else { NO_GROUP }).collect()
            }
            Self::Texts(known) => {
                let texts = columns[0].as_string::<i32>();
                rows.map(|row| if keyed(&row) { found(known.get(texts.value(row))) } else { NO_GROUP })
                    .collect()
            }
            Self::Tuples(converter, known) => {
                let tuples = converter.convert_columns(columns).map_err(unencodable)?;
                rows.map(
                    |row| if keyed(&row) { found(known.get(tuples.row(row).as_ref())) } else { NO_GROUP },
                )
                .collect()
            }
        })
    }
}

fn unencodable(error: arrow::error::ArrowError) -> Error {
    Error::unreadable("key", error)
}

fn integers(column: &ArrayRef) -> &Int64Array {
    column.as_primitive::<Int64Type>()
}

/// Which rows have all parts of their key; `None` if all do.
fn present(columns: &[ArrayRef]) -> Option<arrow::buffer::BooleanBuffer> {
    columns
        .iter()
        .filter_map(|column| column.logical_nulls().filter(|nulls| nulls.null_count() > 0))
        .map(arrow::buffer::NullBuffer::into_inner)
        .reduce(|all, some| &all & &some)
}

fn numbered<K: std::hash::Hash + Eq, S: std::hash::BuildHasher>(
    known: &mut HashMap<K, u32, S>,
    key: K,
) -> u32 {
    let next = known.len() as u32;
    *known.entry(key).or_insert(next)
}

/// Hashes one integer by two rounds of multiplication and folding (the finaliser of `MurmurHash3`).
#[derive(Debug, Default)]
pub(crate) struct Mixing(u64);

impl Hasher for Mixing {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }
    fn write_i64(&mut self, value: i64) {
        self.write_u64(value.cast_unsigned());
    }
    fn write_u64(&mut self, value: u64) {
        let mut mixed = self.0 ^ value;
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        self.0 = mixed ^ (mixed >> 33);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{DictionaryArray, Int32Array, StringArray, UInt64Array};
    use arrow::datatypes::Int8Type;

    use super::*;

    fn texts(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn the_least_integer_is_a_key_like_any_other() {
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]));
        let (index, groups) = KeyIndex::of_labels(std::slice::from_ref(&keys), 3).unwrap();
        assert_eq!(groups, [0, NO_GROUP, 1]);
        assert_eq!(index.look_up(&[keys], 3).unwrap(), [0, NO_GROUP, 1]);
    }

    #[test]
    fn parts_of_a_key_never_run_into_each_other() {
        let (index, groups) = KeyIndex::of_labels(
            &[texts(&[Some("a"), Some("ab"), Some("a")]), texts(&[Some("bc"), Some("c"), None])],
            3,
        )
        .unwrap();
        assert_eq!(groups, [0, 1, NO_GROUP]);
        let asked = [texts(&[Some("ab"), Some("abc")]), texts(&[Some("c"), Some("")])];
        assert_eq!(index.look_up(&asked, 2).unwrap(), [1, NO_GROUP]);
    }

    #[test]
    fn a_dictionary_is_compared_as_the_texts_it_stands_for_and_a_narrow_integer_as_a_wide_one() {
        let dictionary: ArrayRef =
            Arc::new(["x", "y", "x"].into_iter().collect::<DictionaryArray<Int8Type>>());
        assert_eq!(normal("k", &dictionary).unwrap().data_type(), &DataType::Utf8);
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![7]));
        assert_eq!(normal("k", &narrow).unwrap().as_primitive::<Int64Type>().value(0), 7);
    }

    #[test]
    fn an_integer_above_63_bits_is_refused_and_not_wrapped() {
        let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        assert!(normal("k", &large).unwrap_err().to_string().contains("do not fit"));
    }
}
