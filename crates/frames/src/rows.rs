//! Frames as JSON rows: what requests bring and answers give.

use chrono::{DateTime, SecondsFormat, Utc};
use domain::definitions::ValueType;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::exact::{self, Exact};
use crate::frame::{Frame, NO_INTEGER, NOT_A_NUMBER, Values};
use crate::payload::Cell;

/// Rows of JSON as a frame of these columns, and `event_time`. What a row lacks is null; a key that is no column is refused.
///
/// # Errors
/// [`Error::MissingColumn`] names a key that is no column, [`Error::WrongType`] a value that does not fit.
pub fn from_json(rows: &[Map<String, Value>], columns: &[(String, ValueType)]) -> Result<Frame, Error> {
    let mut columns = columns.to_vec();
    if !columns.iter().any(|(name, _)| name == "event_time") {
        columns.push(("event_time".to_owned(), ValueType::Time));
    }
    read_rows(rows, &columns)
}

/// Rows of JSON as pushed rows of a source: these columns, each of which some row must name, and optionally
/// [`DELETED`](crate::view::DELETED).
///
/// # Errors
/// As [`from_json`].
pub fn pushed(rows: &[Map<String, Value>], columns: &[(String, ValueType)]) -> Result<Frame, Error> {
    let named = |name: &str| rows.iter().any(|row| row.contains_key(name));
    if let Some((column, _)) = columns.iter().find(|(name, _)| !rows.is_empty() && !named(name)) {
        let found: std::collections::BTreeSet<&String> = rows.iter().flat_map(Map::keys).collect();
        return Err(Error::MissingColumn {
            column: column.clone(),
            found: found.into_iter().cloned().collect(),
        });
    }
    let mut columns = columns.to_vec();
    if named(crate::view::DELETED) {
        columns.push((crate::view::DELETED.to_owned(), ValueType::Boolean));
    }
    read_rows(rows, &columns)
}

fn read_rows(rows: &[Map<String, Value>], columns: &[(String, ValueType)]) -> Result<Frame, Error> {
    if let Some(key) =
        rows.iter().flat_map(Map::keys).find(|key| !columns.iter().any(|(name, _)| name == *key))
    {
        return Err(Error::MissingColumn {
            column: key.clone(),
            found: columns.iter().map(|(name, _)| name.clone()).collect(),
        });
    }
    let filled = columns
        .iter()
        .map(|(name, kind)| {
            let values = rows.iter().map(|row| row.get(name).unwrap_or(&Value::Null));
            Ok((name.clone(), column(name, *kind, values)?))
        })
        .collect::<Result<_, Error>>()?;
    Ok(Frame::new(rows.len(), filled))
}

/// One column out of JSON values. Integers are exact over all of 64 bits; numbers may also be written as the texts `"NaN"`,
/// `"Infinity"` and `"-Infinity"`, which JSON has no number for; decimals are texts, or whole numbers.
///
/// # Errors
/// [`Error::WrongType`] names a value that does not fit, [`Error::NaiveTime`] a time without a zone.
pub fn column<'a>(
    name: &str,
    kind: ValueType,
    values: impl Iterator<Item = &'a Value>,
) -> Result<Values, Error> {
    let refused = |value: &Value| refusal(name, kind, value);
    Ok(match kind {
        ValueType::Number => Values::Number(gather(values, f64::NAN, number, refused)?),
        ValueType::Integer => Values::Integer(gather(values, NO_INTEGER, integer, refused)?),
        ValueType::Boolean => {
            Values::Boolean(gather(values, None, |value| value.as_bool().map(Some), refused)?)
        }
        ValueType::Text => Values::text(gather(values, None, |value| text(value).map(Some), refused)?),
        ValueType::Time => Values::Time(gather(values, NO_INTEGER, instant, refused)?),
        exact => {
            let mut column = Exact::new(exact);
            for value in values {
                let bytes = (!value.is_null())
                    .then(|| exact::from_json(exact, value).ok_or_else(|| refused(value)))
                    .transpose()?;
                column.push(bytes.as_deref());
            }
            Values::Exact(column)
        }
    })
}

fn refusal(name: &str, kind: ValueType, value: &Value) -> Error {
    let naive = |text: &str| text.parse::<chrono::NaiveDateTime>().is_ok();
    if kind == ValueType::Time && value.as_str().is_some_and(|text| naive(&text.replacen(' ', "T", 1))) {
        return Error::NaiveTime { column: name.to_owned() };
    }
    let expected = match kind {
        ValueType::Time => "times such as \"2013-11-01T12:00:00Z\"".to_owned(),
        ValueType::Text => "texts without NUL".to_owned(),
        ValueType::Integer => "integers of 64 bits".to_owned(),
        ValueType::Decimal { .. } => format!("{kind} values, as texts such as \"12.50\","),
        ValueType::Vector(length) => format!("lists of {length} numbers"),
        other => format!("{other}s"),
    };
    Error::WrongType { column: name.to_owned(), found: format!("`{value}`"), expected }
}

fn gather<'a, T: Clone>(
    values: impl Iterator<Item = &'a Value>,
    null: T,
    read: impl Fn(&'a Value) -> Option<T>,
    refused: impl Fn(&Value) -> Error,
) -> Result<Vec<T>, Error> {
    values
        .map(|value| match value {
            Value::Null => Ok(null.clone()),
            value => read(value).ok_or_else(|| refused(value)),
        })
        .collect()
}

fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(NOT_A_NUMBER),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}

fn integer(value: &Value) -> Option<i64> {
    value.as_i64().filter(|integer| *integer != NO_INTEGER)
}

/// A text; NUL is refused, because other parts of the platform keep texts where it cannot be.
fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.contains('\0'))
}

fn instant(value: &Value) -> Option<i64> {
    Some(value.as_str()?.parse::<DateTime<Utc>>().ok()?.timestamp_micros())
}

/// Appends one value as JSON: integers exact, decimals as texts, what no number of JSON is as the texts `"NaN"`, `"Infinity"` and
/// `"-Infinity"`, times as RFC 3339.
pub fn write_cell(out: &mut Vec<u8>, cell: Cell<'_>) {
    fn write<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
        serde_json::to_writer(out, value).expect("writing to memory cannot fail");
    }
    match cell {
        Cell::Null => out.extend_from_slice(b"null"),
        Cell::Number(value) if value == f64::INFINITY => out.extend_from_slice(b"\"Infinity\""),
        Cell::Number(value) if value == f64::NEG_INFINITY => out.extend_from_slice(b"\"-Infinity\""),
        Cell::Number(value) if value.is_nan() => out.extend_from_slice(b"\"NaN\""),
        Cell::Exact(kind, bytes) => exact::write_json(out, kind, bytes),
        Cell::Number(value) => write(out, &value),
        Cell::Integer(value) => write(out, &value),
        Cell::Boolean(value) => write(out, &value),
        Cell::Text(value) => write(out, value),
        Cell::Time(value) => write_time(out, value),
    }
}

/// Appends an instant as RFC 3339 text, with as many digits of the second as it has.
pub fn write_time(out: &mut Vec<u8>, micros: i64) {
    match DateTime::from_timestamp_micros(micros) {
        None => out.extend_from_slice(b"null"),
        Some(time) => {
            out.push(b'"');
            out.extend_from_slice(time.to_rfc3339_opts(SecondsFormat::AutoSi, true).as_bytes());
            out.push(b'"');
        }
    }
}

/// A frame as rows of JSON.
pub fn to_json(frame: &Frame) -> Vec<Map<String, Value>> {
    (0..frame.rows())
        .map(|row| frame.columns().iter().map(|(name, values)| (name.clone(), cell(values, row))).collect())
        .collect()
}

fn cell(values: &Values, row: usize) -> Value {
    match Cell::of(values, row) {
        Cell::Null => Value::Null,
        Cell::Number(value) if value == f64::INFINITY => json!("Infinity"),
        Cell::Number(value) if value == f64::NEG_INFINITY => json!("-Infinity"),
        Cell::Number(value) if value.is_nan() => json!("NaN"),
        Cell::Exact(kind, bytes) => {
            let mut text = Vec::new();
            exact::write_json(&mut text, kind, bytes);
            serde_json::from_slice(&text).expect("what was written is JSON")
        }
        Cell::Number(value) => json!(value),
        Cell::Integer(value) => json!(value),
        Cell::Boolean(value) => json!(value),
        Cell::Text(text) => json!(text),
        Cell::Time(value) => DateTime::from_timestamp_micros(value)
            .map_or(Value::Null, |time| json!(time.to_rfc3339_opts(SecondsFormat::AutoSi, true))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<(String, ValueType)> {
        vec![("carrier".into(), ValueType::Text), ("distance".into(), ValueType::Number)]
    }

    fn rows(text: &str) -> Vec<Map<String, Value>> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn rows_survive_the_frame() {
        let given = rows(
            r#"[{"carrier":"UA","distance":1.5,"event_time":"2013-11-01T00:00:00Z"},{"carrier":null,"distance":null,"event_time":null}]"#,
        );
        assert_eq!(to_json(&from_json(&given, &columns()).unwrap()), given);
    }

    #[test]
    fn what_json_cannot_say_as_a_number_is_said_as_a_text_and_integers_are_exact() {
        let columns = [("n".to_owned(), ValueType::Number), ("i".to_owned(), ValueType::Integer)];
        let given = rows(r#"[{"n":"-Infinity","i":9007199254740993,"event_time":null}]"#);
        let frame = from_json(&given, &columns).unwrap();
        assert_eq!(to_json(&frame), given);
        let mut out = Vec::new();
        write_cell(&mut out, Cell::of(frame.find("n").unwrap(), 0));
        write_cell(&mut out, Cell::of(frame.find("i").unwrap(), 0));
        assert_eq!(out, b"\"-Infinity\"9007199254740993");
    }

    #[test]
    fn integers_past_64_bits_times_without_a_zone_and_nul_are_refused() {
        let said = |kind, text: &str| {
            column("x", kind, [serde_json::from_str(text).unwrap()].iter()).unwrap_err().to_string()
        };
        assert!(said(ValueType::Integer, "9223372036854775808").contains("64 bits"));
        assert!(said(ValueType::Time, "\"2026-11-01T01:30:00\"").contains("zone"));
        assert!(said(ValueType::Time, "\"2026-11-01 01:30:00\"").contains("zone"));
        assert!(said(ValueType::Text, "\"a\\u0000b\"").contains("NUL"));
    }

    #[test]
    fn an_unknown_key_and_a_wrong_type_are_named() {
        let unknown = from_json(&rows(r#"[{"carier":"UA"}]"#), &columns()).unwrap_err().to_string();
        assert!(unknown.contains("`carier`"), "{unknown}");
        let wrong = from_json(&rows(r#"[{"distance":"far"}]"#), &columns()).unwrap_err().to_string();
        assert!(wrong.contains("`distance`") && wrong.contains("\"far\""), "{wrong}");
    }
}
