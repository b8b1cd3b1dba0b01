//! Columns of the narrow and exact types: 32-bit floats and integers, decimals, vectors. A row is so many bytes, little-endian,
//! the same in a column and in an online row; nothing on the way widens or rounds it.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, FixedSizeListArray, Float32Array, Int32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, Field, Float32Type, Int32Type};
use domain::definitions::ValueType;
use serde_json::Value;

use crate::Error;

/// A column of one of these types.
#[derive(Clone, Debug, PartialEq)]
pub struct Exact {
    kind: ValueType,
    width: usize,
    bytes: Vec<u8>,
    present: Vec<bool>,
}

impl Exact {
    /// A column without rows.
    ///
    /// # Panics
    /// If `kind` is none of these types: callers look before.
    pub fn new(kind: ValueType) -> Self {
        let width = kind.exact_width().expect("callers ask for exact types only");
        Self { kind, width, bytes: vec![], present: vec![] }
    }

    /// A column of nulls.
    pub fn nulls(kind: ValueType, rows: usize) -> Self {
        let mut column = Self::new(kind);
        (0..rows).for_each(|_| column.push(None));
        column
    }

    /// A column of vectors of `width` numbers; one of another length is null.
    pub fn vectors<'a>(width: u16, vectors: impl IntoIterator<Item = &'a [f32]>) -> Self {
        let mut column = Self::new(ValueType::Vector(width));
        for vector in vectors {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            column.push(Some(&bytes));
        }
        column
    }

    /// The type.
    pub fn kind(&self) -> ValueType {
        self.kind
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.present.len()
    }

    /// True without a row.
    pub fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    /// The bytes of a row; `None` if it is null.
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        self.present[row].then(|| &self.bytes[row * self.width..(row + 1) * self.width])
    }

    /// Appends a row; bytes of another width are null.
    pub fn push(&mut self, row: Option<&[u8]>) {
        let row = row.filter(|bytes| bytes.len() == self.width);
        self.present.push(row.is_some());
        match row {
            Some(bytes) => self.bytes.extend_from_slice(bytes),
            None => self.bytes.resize(self.bytes.len() + self.width, 0),
        }
    }

    /// The rows at `indices`; an index past the end gives null.
    pub fn take(&self, indices: &[u32]) -> Self {
        let mut taken = Self::new(self.kind);
        for &index in indices {
            let row = index as usize;
            taken.push(if row < self.len() { self.get(row) } else { None });
        }
        taken
    }

    /// Appends another column of the same type.
    pub fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.present.extend_from_slice(&other.present);
    }

    /// The values as 64-bit floats, where null is NaN; `None` for vectors.
    pub fn numbers(&self) -> Option<Vec<f64>> {
        let number = |row: usize| self.get(row).map_or(f64::NAN, |bytes| number(self.kind, bytes));
        self.kind.is_numeric().then(|| (0..self.len()).map(number).collect())
    }

    /// The elements at one place of all vectors, where null is NaN.
    pub fn elements(&self, place: usize) -> Vec<f64> {
        let element = |row: usize| {
            let bytes = self.get(row).and_then(|bytes| floats(bytes).nth(place));
            bytes.map_or(f64::NAN, f64::from)
        };
        (0..self.len()).map(element).collect()
    }

    /// A column of texts as this type, each text as JSON writes the value; decimals without quotes.
    ///
    /// # Errors
    /// The first text that does not fit.
    pub fn parsed<'a>(kind: ValueType, texts: impl Iterator<Item = Option<&'a str>>) -> Result<Self, String> {
        let mut column = Self::new(kind);
        for text in texts {
            let Some(text) = text else {
                column.push(None);
                continue;
            };
            let value = match kind {
                ValueType::Decimal { .. } => Some(Value::from(text)),
                _ => serde_json::from_str(text).ok().or_else(|| Some(Value::from(text))),
            };
            let bytes =
                value.as_ref().and_then(|value| from_json(kind, value)).ok_or_else(|| text.to_owned())?;
            column.push(Some(&bytes));
        }
        Ok(column)
    }

    /// 64-bit values as this type.
    ///
    /// # Errors
    /// The first value that this type cannot hold exactly.
    pub fn narrowed(kind: ValueType, values: impl Iterator<Item = Option<Narrowed>>) -> Result<Self, String> {
        let mut column = Self::new(kind);
        for value in values {
            let bytes =
                value.map(|value| value.as_kind(kind).ok_or_else(|| value.to_string())).transpose()?;
            column.push(bytes.as_deref());
        }
        Ok(column)
    }
}

/// A 64-bit value on its way to a narrower type.
#[derive(Clone, Copy, Debug)]
pub enum Narrowed {
    /// A float.
    Number(f64),
    /// An integer.
    Integer(i64),
}

impl std::fmt::Display for Narrowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
        }
    }
}

impl Narrowed {
    fn as_kind(self, kind: ValueType) -> Option<Vec<u8>> {
        match (self, kind) {
            (Self::Number(value), ValueType::Float32) => {
                let narrow = value as f32;
                (f64::from(narrow) == value || value.is_nan()).then(|| narrow.to_le_bytes().to_vec())
            }
            (Self::Integer(value), ValueType::Int32) => {
                Some(i32::try_from(value).ok()?.to_le_bytes().to_vec())
            }
            (Self::Integer(value), ValueType::Decimal { .. }) => from_json(kind, &Value::from(value)),
            _ => None,
        }
    }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four))
}

fn four(bytes: &[u8]) -> [u8; 4] {
    bytes.first_chunk().copied().unwrap_or_default()
}

fn decimal(bytes: &[u8]) -> i128 {
    i128::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default())
}

/// A numeric value as a 64-bit float.
pub(crate) fn number(kind: ValueType, bytes: &[u8]) -> f64 {
    match kind {
        ValueType::Float32 => f32::from_le_bytes(four(bytes)).into(),
        ValueType::Int32 => i32::from_le_bytes(four(bytes)).into(),
        ValueType::Decimal { scale, .. } => decimal_text(decimal(bytes), scale).parse().unwrap_or(f64::NAN),
        _ => f64::NAN,
    }
}

/// A 32-bit integer as one of 64 bits.
pub(crate) fn integer(bytes: &[u8]) -> i64 {
    i32::from_le_bytes(four(bytes)).into()
}

fn decimal_text(value: i128, scale: u8) -> String {
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = usize::from(scale) + 1);
    let (whole, behind) = digits.split_at(digits.len() - usize::from(scale));
    let sign = if value < 0 { "-" } else { "" };
    if behind.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{behind}") }
}

/// A decimal's digits without the point; `None` if it has more behind the point than `scale`, or more than `precision`.
fn parse_decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (whole, behind) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let spare = usize::from(scale).checked_sub(behind.len())?;
    if !plain(whole) || !plain(behind) || whole.is_empty() {
        return None;
    }
    let value = i128::from_str(&format!("{whole}{behind}{}", "0".repeat(spare))).ok()?;
    (value < 10_i128.checked_pow(precision.into())?).then_some(sign * value)
}

/// Appends a value as JSON: floats as short as they can be told apart at 32 bits, decimals as texts with all their digits.
pub(crate) fn write_json(out: &mut Vec<u8>, kind: ValueType, bytes: &[u8]) {
    match kind {
        ValueType::Int32 => out.extend_from_slice(integer(bytes).to_string().as_bytes()),
        ValueType::Float32 => write_float(out, f32::from_le_bytes(four(bytes))),
        ValueType::Decimal { scale, .. } => {
            out.push(b'"');
            out.extend_from_slice(decimal_text(decimal(bytes), scale).as_bytes());
            out.push(b'"');
        }
        _ => {
            out.push(b'[');
            for (place, value) in floats(bytes).enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                write_float(out, value);
            }
            out.push(b']');
        }
    }
}

fn write_float(out: &mut Vec<u8>, value: f32) {
    let text = if value.is_nan() {
        "\"NaN\""
    } else if value == f32::INFINITY {
        "\"Infinity\""
    } else if value == f32::NEG_INFINITY {
        "\"-Infinity\""
    } else {
        serde_json::to_writer(out, &value).expect("writing to memory cannot fail");
        return;
    };
    out.extend_from_slice(text.as_bytes());
}

/// A value out of JSON; `None` if it does not fit.
pub(crate) fn from_json(kind: ValueType, value: &Value) -> Option<Vec<u8>> {
    match kind {
        ValueType::Float32 => Some(float(value)?.to_le_bytes().to_vec()),
        ValueType::Int32 => Some(i32::try_from(value.as_i64()?).ok()?.to_le_bytes().to_vec()),
        ValueType::Decimal { precision, scale } => {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
                _ => return None, // a float has been rounded already
            };
            Some(parse_decimal(&text, precision, scale)?.to_le_bytes().to_vec())
        }
        ValueType::Vector(length) => {
            let elements = value.as_array().filter(|elements| elements.len() == usize::from(length))?;
            let floats: Vec<f32> = elements.iter().map(float).collect::<Option<_>>()?;
            Some(floats.into_iter().flat_map(f32::to_le_bytes).collect())
        }
        _ => None,
    }
}

fn float(value: &Value) -> Option<f32> {
    match value.as_str() {
        Some("NaN") => Some(f32::NAN),
        Some("Infinity") => Some(f32::INFINITY),
        Some("-Infinity") => Some(f32::NEG_INFINITY),
        _ => Some(value.as_f64()? as f32).filter(|narrow| narrow.is_finite()),
    }
}

/// The exact type that an Arrow column is of, if it is of one.
pub(crate) fn kind_of(array: &DataType) -> Option<ValueType> {
    match array {
        DataType::Float32 => Some(ValueType::Float32),
        DataType::Int32 => Some(ValueType::Int32),
        DataType::Decimal128(precision, scale) => {
            Some(ValueType::Decimal { precision: *precision, scale: u8::try_from(*scale).ok()? })
        }
        DataType::FixedSizeList(item, length) if *item.data_type() == DataType::Float32 => {
            u16::try_from(*length).ok().filter(|length| *length > 0).map(ValueType::Vector)
        }
        _ => None,
    }
}

/// A column as Arrow has it.
pub(crate) fn to_array(column: &Exact) -> ArrayRef {
    let rows = || (0..column.len()).map(|row| column.get(row));
    match column.kind {
        ValueType::Float32 => Arc::new(
            rows().map(|row| row.map(|bytes| f32::from_le_bytes(four(bytes)))).collect::<Float32Array>(),
        ),
        ValueType::Int32 => Arc::new(
            rows().map(|row| row.map(|bytes| i32::from_le_bytes(four(bytes)))).collect::<Int32Array>(),
        ),
        ValueType::Decimal { precision, scale } => {
            let values: Decimal128Array = rows().map(|row| row.map(decimal)).collect();
            Arc::new(
                values
                    .with_precision_and_scale(precision, scale.cast_signed())
                    .expect("types are checked when they are declared"),
            )
        }
        _ => {
            let item = Arc::new(Field::new("item", DataType::Float32, true));
            let values: Float32Array = floats(&column.bytes).map(Some).collect();
            let nulls = NullBuffer::from(column.present.clone());
            let length = (column.width / 4) as i32;
            Arc::new(FixedSizeListArray::new(item, length, Arc::new(values), Some(nulls)))
        }
    }
}

/// An Arrow column as one of a declared exact type; nothing is rounded.
///
/// # Errors
/// [`Error::WrongType`] if the column holds something else, or a value that does not fit.
pub(crate) fn from_array(name: &str, array: &ArrayRef, kind: ValueType) -> Result<Exact, Error> {
    let refused = || Error::WrongType {
        column: name.to_owned(),
        found: format!("{} values", array.data_type()),
        expected: format!("{kind} values"),
    };
    let mut column = Exact::new(kind);
    match (kind, array.data_type()) {
        (ValueType::Float32, DataType::Float32) => {
            array
                .as_primitive::<Float32Type>()
                .iter()
                .for_each(|v| column.push(v.map(f32::to_le_bytes).as_ref().map(<[u8; 4]>::as_slice)));
        }
        (ValueType::Int32, found) if found.is_integer() => {
            let narrow = strictly(array, &DataType::Int32).ok_or_else(refused)?;
            narrow
                .as_primitive::<Int32Type>()
                .iter()
                .for_each(|v| column.push(v.map(i32::to_le_bytes).as_ref().map(<[u8; 4]>::as_slice)));
        }
        (ValueType::Decimal { precision, scale }, DataType::Decimal128(..) | DataType::Decimal256(..)) => {
            let declared = DataType::Decimal128(precision, scale.cast_signed());
            let same = strictly(array, &declared).filter(|same| is_same(array, same)).ok_or_else(refused)?;
            same.as_primitive::<Decimal128Type>()
                .iter()
                .for_each(|v| column.push(v.map(i128::to_le_bytes).as_ref().map(<[u8; 16]>::as_slice)));
        }
        (
            ValueType::Vector(length),
            DataType::FixedSizeList(..) | DataType::List(_) | DataType::LargeList(_),
        ) => {
            vectors(array, usize::from(length), &mut column).ok_or_else(refused)?;
        }
        _ => return Err(refused()),
    }
    Ok(column)
}

fn strictly(array: &ArrayRef, kind: &DataType) -> Option<ArrayRef> {
    cast_with_options(array, kind, &CastOptions { safe: false, ..CastOptions::default() }).ok()
}

/// Whether a cast lost nothing: back again it is what it was.
fn is_same(array: &ArrayRef, cast: &ArrayRef) -> bool {
    strictly(cast, array.data_type()).is_some_and(|back| &back == array)
}

fn vectors(array: &ArrayRef, length: usize, column: &mut Exact) -> Option<()> {
    for row in 0..array.len() {
        if array.is_null(row) {
            column.push(None);
            continue;
        }
        let elements = match array.data_type() {
            DataType::FixedSizeList(..) => array.as_fixed_size_list().value(row),
            DataType::List(_) => array.as_list::<i32>().value(row),
            _ => array.as_list::<i64>().value(row),
        };
        let floats = elements.as_primitive_opt::<Float32Type>().filter(|floats| floats.null_count() == 0)?;
        let bytes: Vec<u8> = floats.values().iter().flat_map(|value| value.to_le_bytes()).collect();
        if bytes.len() != 4 * length {
            return None;
        }
        column.push(Some(&bytes));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECIMAL: ValueType = ValueType::Decimal { precision: 38, scale: 9 };

    fn json(kind: ValueType, text: &str) -> Option<String> {
        let bytes = from_json(kind, &serde_json::from_str(text).unwrap())?;
        let mut out = Vec::new();
        write_json(&mut out, kind, &bytes);
        String::from_utf8(out).ok()
    }

    #[test]
    fn values_leave_json_as_they_came() {
        for (kind, text) in [
            (ValueType::Float32, "0.1"),
            (ValueType::Float32, "\"NaN\""),
            (ValueType::Float32, "-0.0"),
            (ValueType::Int32, "-2147483648"),
            (DECIMAL, "\"12345678901234567890123456789.123456789\""),
            (DECIMAL, "\"-0.000000001\""),
            (ValueType::Vector(3), "[0.1,-1.5,\"Infinity\"]"),
        ] {
            assert_eq!(json(kind, text).as_deref(), Some(text), "{kind}");
        }
        assert_eq!(json(DECIMAL, "7").as_deref(), Some("\"7.000000000\""));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_never_rounded() {
        for (kind, text) in [
            (ValueType::Int32, "2147483648"),
            (ValueType::Int32, "1.5"),
            (ValueType::Float32, "1e39"),
            (DECIMAL, "0.1"),
            (DECIMAL, "\"0.0000000001\""),
            (DECIMAL, "\"1e3\""),
            (DECIMAL, "\"100000000000000000000000000000.0\""),
            (ValueType::Vector(2), "[1.0]"),
            (ValueType::Vector(2), "[]"),
            (ValueType::Vector(2), "[1.0,null]"),
        ] {
            assert_eq!(json(kind, text), None, "{kind} {text}");
        }
        let narrowed =
            |value| Exact::narrowed(ValueType::Float32, [Some(Narrowed::Number(value))].into_iter());
        assert!(narrowed(0.5).is_ok() && narrowed(0.1).is_err(), "0.1 is another number at 32 bits");
    }

    #[test]
    fn columns_survive_arrow_with_their_nulls() {
        for (kind, texts) in [
            (ValueType::Float32, ["0.1", "NaN"]),
            (ValueType::Int32, ["-7", "2147483647"]),
            (DECIMAL, ["0.123456789", "-99.5"]),
            (ValueType::Vector(2), ["[1.5,0.1]", "[0,-2]"]),
        ] {
            let column = Exact::parsed(kind, [Some(texts[0]), None, Some(texts[1])].into_iter()).unwrap();
            let array = to_array(&column);
            assert_eq!(kind_of(array.data_type()), Some(kind));
            assert_eq!(from_array("x", &array, kind).unwrap(), column, "{kind}");
        }
    }

    #[test]
    fn a_decimal_of_another_scale_is_taken_if_nothing_is_lost() {
        let two: ArrayRef =
            Arc::new(Decimal128Array::from(vec![150, 7]).with_precision_and_scale(10, 2).unwrap());
        let as_scale = |scale| from_array("x", &two, ValueType::Decimal { precision: 20, scale });
        assert!(as_scale(4).is_ok() && as_scale(2).is_ok() && as_scale(1).is_err());
    }
}
