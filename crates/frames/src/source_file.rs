//! Reading the rows of a source from the files it names: scan, keep, derive.
//!
//! One Parquet file on a disk is read by polars; what else a source may name (patterns, CSV, Arrow IPC, object stores, times of a
//! declared zone) by [`crate::scan`].

use std::path::Path;

use arrow::array::RecordBatch;
use domain::definitions::{Source, ValueType};
use polars::prelude::{
    AnyValue, DataFrame, DataType, LazyFrame, PlRefPath, ScanArgsParquet, Series, TimeUnit,
};

use crate::Error;
use crate::evaluate::{evaluate, filter};
use crate::frame::{Frame, NO_INTEGER, Values, wrong_type};
use crate::moments::{Reading, Rounding};
use crate::plain_join::zone;
use crate::scan::Scan;
use crate::wire::from_array;

/// All rows of a source's files, with exactly its declared columns. `folder` is where relative paths start.
///
/// # Errors
/// [`Error::MissingColumn`] or [`Error::WrongType`] name what does not fit the declaration.
pub fn read(source: &Source, folder: &Path) -> Result<Frame, Error> {
    let Some(path) = &source.path else {
        return Err(Error::unreadable(
            "source",
            format!("`{}` names no file; push its rows instead", source.name),
        ));
    };
    let raw = raw(source, path, folder)?;
    let kept = match &source.filter {
        Some(condition) => filter(condition, &raw)?,
        None => raw,
    };
    let columns = source
        .columns
        .iter()
        .map(|(name, kind)| {
            let values = match source.derive.get(name) {
                Some(expression) => evaluate(expression, &kept)?,
                None => kept.column(name)?.clone(),
            };
            Ok((name.clone(), conform(name, values, *kind)?))
        })
        .collect::<Result<_, Error>>()?;
    Ok(Frame::new(kept.rows(), columns))
}

fn raw(source: &Source, path: &str, folder: &Path) -> Result<Frame, Error> {
    let place =
        if path.contains("://") { path.to_owned() } else { folder.join(path).to_string_lossy().into_owned() };
    let plain = place.ends_with(".parquet") && !place.contains("://") && !place.contains('*');
    if plain && source.time_zone.is_none() {
        return scan(Path::new(&place), Rounding::Up);
    }
    let zone = source.time_zone.as_deref().map(zone).transpose()?;
    let times: Vec<&str> = source
        .columns
        .iter()
        .filter(|(_, kind)| **kind == ValueType::Time)
        .map(|(name, _)| name.as_str())
        .collect();
    let files = Scan::open(&place, &times)?;
    let schema = files.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let reading = Reading { rounding: Rounding::Up, zone };
    let mut all: Option<Frame> = None;
    let mut add = |batch: &RecordBatch| {
        let frame = as_frame(batch, reading, &times)?;
        match &mut all {
            None => all = Some(frame),
            Some(all) => all.append(&frame)?,
        }
        Ok(())
    };
    add(&RecordBatch::new_empty(files.schema()))?;
    files.read(&names, |rows| add(&rows.batch)).map(|()| all.unwrap_or_default())
}

fn as_frame(batch: &RecordBatch, reading: Reading, times: &[&str]) -> Result<Frame, Error> {
    let schema = batch.schema();
    let columns = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, array)| {
            let name = field.name();
            let values = if times.contains(&name.as_str()) {
                Values::Time(reading.micros(name, array)?)
            } else {
                from_array(name, array)?
            };
            Ok((name.clone(), values))
        })
        .collect::<Result<_, Error>>()?;
    Ok(Frame::new(batch.num_rows(), columns))
}

/// A column as the declared type; integers and numbers convert into each other where nothing is lost.
///
/// # Errors
/// [`Error::WrongType`].
pub fn conform(name: &str, values: Values, kind: ValueType) -> Result<Values, Error> {
    match (values, kind) {
        (values, kind) if values.kind() == kind => Ok(values),
        (Values::Integer(values), ValueType::Number) => Ok(Values::Number(
            values.iter().map(|value| if *value == NO_INTEGER { f64::NAN } else { *value as f64 }).collect(),
        )),
        (Values::Number(numbers), ValueType::Integer)
            if numbers.iter().all(|number| number.is_nan() || number.fract() == 0.0) =>
        {
            let integer = |number: &f64| if number.is_nan() { NO_INTEGER } else { *number as i64 };
            Ok(Values::Integer(numbers.iter().map(integer).collect()))
        }
        (Values::Number(numbers), kind) if numbers.iter().all(|number| number.is_nan()) => {
            Ok(Values::nulls(kind, numbers.len())) // a column of nulls has no type of its own
        }
        (other, kind) => Err(wrong_type(name, &other, kind)),
    }
}

/// All columns of a Parquet file.
pub(crate) fn scan(path: &Path, rounding: Rounding) -> Result<Frame, Error> {
    std::fs::metadata(path).map_err(Error::file(path))?;
    let unreadable = |error: polars::error::PolarsError| Error::unreadable("Parquet file", error);
    let text = path.to_string_lossy();
    let frame = LazyFrame::scan_parquet(PlRefPath::new(text.as_ref()), ScanArgsParquet::default())
        .and_then(LazyFrame::collect)
        .map_err(unreadable)?;
    from_polars(&frame, rounding)
}

fn from_polars(frame: &DataFrame, rounding: Rounding) -> Result<Frame, Error> {
    let columns = frame
        .columns()
        .iter()
        .map(|column| {
            let series = column.as_materialized_series();
            Ok((series.name().to_string(), from_series(series, rounding)?))
        })
        .collect::<Result<_, Error>>()?;
    Ok(Frame::new(frame.height(), columns))
}

fn from_series(series: &Series, rounding: Rounding) -> Result<Values, Error> {
    let name = series.name().to_string();
    let unreadable = |error: polars::error::PolarsError| Error::unreadable("column", error);
    match series.dtype() {
        DataType::Float32 | DataType::Float64 => {
            let numbers = series.cast(&DataType::Float64).map_err(unreadable)?;
            Ok(Values::Number(
                numbers.f64().map_err(unreadable)?.iter().map(|v| v.unwrap_or(f64::NAN)).collect(),
            ))
        }
        kind if kind.is_integer() => {
            let integers = series.strict_cast(&DataType::Int64).map_err(unreadable)?;
            Ok(Values::Integer(
                integers.i64().map_err(unreadable)?.iter().map(|v| v.unwrap_or(NO_INTEGER)).collect(),
            ))
        }
        DataType::String => Ok(Values::text(series.str().map_err(unreadable)?.iter())),
        DataType::Categorical(..) | DataType::Enum(..) => {
            let texts = series.cast(&DataType::String).map_err(unreadable)?;
            Ok(Values::text(texts.str().map_err(unreadable)?.iter()))
        }
        DataType::Boolean => Ok(Values::Boolean(series.bool().map_err(unreadable)?.iter().collect())),
        DataType::Datetime(_, None) => Err(Error::NaiveTime { column: name }),
        DataType::Datetime(unit, Some(_)) => {
            Ok(Values::Time(series.iter().map(|v| micros(&v, *unit, rounding)).collect()))
        }
        other => Err(Error::WrongType {
            column: name,
            found: format!("{other} values"),
            expected: "numbers, integers, texts, times or booleans".to_owned(),
        }),
    }
}

fn micros(value: &AnyValue<'_>, unit: TimeUnit, rounding: Rounding) -> i64 {
    let raw = match value {
        AnyValue::Datetime(raw, ..) | AnyValue::DatetimeOwned(raw, ..) => *raw,
        _ => return NO_INTEGER,
    };
    match unit {
        TimeUnit::Nanoseconds => rounding.micros(raw),
        TimeUnit::Microseconds => raw,
        TimeUnit::Milliseconds => raw.saturating_mul(1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, zone: Option<&str>) -> Source {
        let source = serde_json::json!({
            "name": "visits", "columns": { "shop": "text", "at": "time", "amount": "number" }, "event_time": "at",
            "known_time": "at", "path": path, "time_zone": zone, "where": "amount > 1",
        });
        serde_json::from_value(source).unwrap()
    }

    #[test]
    fn several_csv_files_are_one_source_and_its_times_need_a_zone() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a.csv", "shop,at,amount\nnorth,2013-07-01T00:00:00,2\nsouth,2013-07-01T01:00:00,1\n");
        write("b.csv", "shop,at,amount\nsouth,2013-07-01T02:00:00,3\n");
        let said = read(&source("*.csv", None), folder.path()).unwrap_err().to_string();
        assert!(said.contains("a.csv") && said.contains("`at` holds times without a zone"), "{said}");
        let rows = read(&source("*.csv", Some("America/New_York")), folder.path()).unwrap();
        let midnight = 1_372_651_200_000_000; // four hours before it is midnight in New York
        assert_eq!(rows.times("at").unwrap(), [midnight, midnight + 2 * 3_600_000_000]);
        assert_eq!(rows.numbers("amount").unwrap(), [2.0, 3.0]);
    }

    #[test]
    fn a_pattern_that_names_nothing_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let said = read(&source("*.parquet", None), folder.path()).unwrap_err().to_string();
        assert!(said.contains("no file matches"), "{said}");
    }
}
