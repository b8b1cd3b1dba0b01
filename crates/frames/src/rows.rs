//! Frames as JSON rows: what requests bring and answers give.

use chrono::{DateTime, SecondsFormat, Utc};
use domain::definitions::ValueType;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::frame::{Frame, NO_INTEGER, Values};

/// Rows of JSON as a frame of these columns, and `event_time`. What a row lacks is null; a key that is no column is refused.
///
/// # Errors
/// [`Error::MissingColumn`] names a key that is no column, [`Error::WrongType`] a value that does not fit.
pub fn from_json(rows: &[Map<String, Value>], columns: &[(String, ValueType)]) -> Result<Frame, Error> {
    let mut columns = columns.to_vec();
    if !columns.iter().any(|(name, _)| name == "event_time") {
        columns.push(("event_time".to_owned(), ValueType::Time));
    }
    if let Some(key) =
        rows.iter().flat_map(Map::keys).find(|key| !columns.iter().any(|(name, _)| name == *key))
    {
        return Err(Error::MissingColumn {
            column: key.clone(),
            found: columns.into_iter().map(|(name, _)| name).collect(),
        });
    }
    let filled = columns
        .into_iter()
        .map(|(name, kind)| {
            let values = rows.iter().map(|row| row.get(&name).unwrap_or(&Value::Null));
            let values = column(&name, kind, values)?;
            Ok((name, values))
        })
        .collect::<Result<_, Error>>()?;
    Ok(Frame::new(rows.len(), filled))
}

fn column<'a>(name: &str, kind: ValueType, values: impl Iterator<Item = &'a Value>) -> Result<Values, Error> {
    let refused = |value: &Value| Error::WrongType {
        column: name.to_owned(),
        found: format!("`{value}`"),
        expected: match kind {
            ValueType::Time => "times such as \"2013-11-01T12:00:00Z\"".to_owned(),
            other => format!("{other}s"),
        },
    };
    fn gather<'a, T>(
        values: impl Iterator<Item = &'a Value>,
        null: T,
        read: impl Fn(&Value) -> Option<T>,
        refused: impl Fn(&Value) -> Error,
    ) -> Result<Vec<T>, Error>
    where
        T: Clone,
    {
        values
            .map(|value| match value {
                Value::Null => Ok(null.clone()),
                value => read(value).ok_or_else(|| refused(value)),
            })
            .collect()
    }
    Ok(match kind {
        ValueType::Number => Values::Number(gather(values, f64::NAN, Value::as_f64, refused)?),
        ValueType::Integer => Values::Integer(gather(values, NO_INTEGER, Value::as_i64, refused)?),
        ValueType::Boolean => {
            Values::Boolean(gather(values, None, |value| value.as_bool().map(Some), refused)?)
        }
        ValueType::Text => Values::text(gather(
            values,
            None,
            |value| value.as_str().map(|text| Some(text.to_owned())),
            refused,
        )?),
        ValueType::Time => Values::Time(gather(values, NO_INTEGER, instant, refused)?),
    })
}

fn instant(value: &Value) -> Option<i64> {
    Some(value.as_str()?.parse::<DateTime<Utc>>().ok()?.timestamp_micros())
}

/// A frame as rows of JSON.
pub fn to_json(frame: &Frame) -> Vec<Map<String, Value>> {
    (0..frame.rows())
        .map(|row| frame.columns().iter().map(|(name, values)| (name.clone(), cell(values, row))).collect())
        .collect()
}

fn cell(values: &Values, row: usize) -> Value {
    if values.is_null(row) {
        return Value::Null;
    }
    match values {
        Values::Number(values) => json!(values[row]),
        Values::Integer(values) => json!(values[row]),
        Values::Boolean(values) => json!(values[row]),
        Values::Text(..) => json!(values.text_at(row)),
        Values::Time(values) => DateTime::from_timestamp_micros(values[row])
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
    fn an_unknown_key_and_a_wrong_type_are_named() {
        let unknown = from_json(&rows(r#"[{"carier":"UA"}]"#), &columns()).unwrap_err().to_string();
        assert!(unknown.contains("`carier`"), "{unknown}");
        let wrong = from_json(&rows(r#"[{"distance":"far"}]"#), &columns()).unwrap_err().to_string();
        assert!(wrong.contains("`distance`") && wrong.contains("\"far\""), "{wrong}");
    }
}
