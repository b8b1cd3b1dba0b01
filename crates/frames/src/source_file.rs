//! Reading the rows of a source from the files it names: scan, keep, derive.
//!
//! One Parquet file on a disk is read by polars; what else a source may name (patterns, CSV, Arrow IPC, object stores, times of a
//! declared zone) by [`crate::scan`].

use std::path::Path;

use arrow::array::RecordBatch;
use domain::definitions::{Source, ValueType, reads_as};
use polars::prelude::{AnyValue, DataFrame, DataType, ParquetReader, SerReader, Series, TimeUnit};

use domain::expression::{Bound, Expression};

use crate::Error;
use crate::evaluate::{evaluate, filter};
use crate::exact::{self, Exact, Narrowed};
use crate::frame::{Frame, NO_INTEGER, Values, no_number, wrong_type};
use crate::moments::{Reading, Rounding};
use crate::plain_join::zone;
use crate::scan::Scan;
use crate::wire::from_array_as;

/// The rows of a source's files.
#[derive(Clone, Debug)]
pub struct Read {
    /// Those that its filter lets through, with exactly its declared columns.
    pub rows: Frame,
    /// How many were looked at: whole row groups that the filter lets nothing of through are not.
    pub scanned: usize,
}

/// All rows of a source's files, with exactly its declared columns. `folder` is where relative paths start.
///
/// # Errors
/// [`Error::MissingColumn`] or [`Error::WrongType`] name what does not fit the declaration.
pub fn read(source: &Source, folder: &Path) -> Result<Frame, Error> {
    read_where(source, folder, None).map(|read| read.rows)
}

/// As [`read`], but only the rows for which `condition`, which is over the declared columns, holds too.
///
/// # Errors
/// As [`read`], or [`Error::Expression`].
pub fn read_where(source: &Source, folder: &Path, condition: Option<&str>) -> Result<Read, Error> {
    let Some(path) = &source.path else {
        return Err(Error::unreadable(
            "source",
            format!("`{}` names no file; push its rows instead", source.name),
        ));
    };
    let raw = raw(source, path, folder, condition)?;
    let scanned = raw.rows();
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
    let rows = Frame::new(kept.rows(), columns);
    let rows = condition.map_or(Ok(rows.clone()), |condition| filter(condition, &rows))?;
    Ok(Read { rows, scanned })
}

/// What the files must be read for: the bounds of the filter, and those of a condition on columns that are not computed.
fn bounds(source: &Source, condition: Option<&str>) -> Result<Vec<Bound>, Error> {
    let of = |text: &str| text.parse::<Expression>().map(|expression| expression.bounds());
    let mut bounds = source.filter.as_deref().map_or(Ok(vec![]), of)?;
    let on_file = |bound: &Bound| !source.derive.contains_key(&bound.column);
    bounds.extend(condition.map_or(Ok(vec![]), of)?.into_iter().filter(on_file));
    Ok(bounds)
}

/// The columns of the files that are needed: declared ones that are not computed, and what filter and computations read.
fn needed(source: &Source) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> =
        source.columns.keys().filter(|name| !source.derive.contains_key(*name)).cloned().collect();
    for text in source.filter.iter().chain(source.derive.values()) {
        let expression: Expression = text.parse()?;
        names.extend(expression.columns().into_iter().map(str::to_owned));
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn raw(source: &Source, path: &str, folder: &Path, condition: Option<&str>) -> Result<Frame, Error> {
    let place =
        if path.contains("://") { path.to_owned() } else { folder.join(path).to_string_lossy().into_owned() };
    let plain = place.ends_with(".parquet") && !place.contains("://") && !place.contains('*');
    let exact = source.columns.values().any(|kind| kind.exact_width().is_some());
    if plain && !exact && source.time_zone.is_none() && source.filter.is_none() && condition.is_none() {
        return scan(Path::new(&place), Rounding::Up);
    }
    let zone = source.time_zone.as_deref().map(zone).transpose()?;
    let of = |wanted: fn(ValueType) -> bool| -> Vec<&str> {
        source.columns.iter().filter(|(_, kind)| wanted(**kind)).map(|(name, _)| name.as_str()).collect()
    };
    let texts = of(|kind| kind == ValueType::Time || kind.exact_width().is_some());
    let files = Scan::open(&place, &texts)?;
    let needed = needed(source)?;
    let names: Vec<&str> = needed.iter().map(String::as_str).collect();
    let reading = Reading { rounding: Rounding::Up, zone };
    let mut all: Option<Frame> = None;
    let mut add = |batch: &RecordBatch| {
        let frame = as_frame(batch, reading, source)?;
        match &mut all {
            None => all = Some(frame),
            Some(all) => all.append(&frame)?,
        }
        Ok(())
    };
    add(&files.empty(&names)?)?;
    files.read_within(&names, &bounds(source, condition)?, |rows| add(&rows.batch))?;
    Ok(all.unwrap_or_default())
}

fn as_frame(batch: &RecordBatch, reading: Reading, source: &Source) -> Result<Frame, Error> {
    let schema = batch.schema();
    let columns = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, array)| {
            let name = field.name();
            let declared = source.columns.get(name).filter(|_| !source.derive.contains_key(name)).copied();
            let values = match declared {
                Some(ValueType::Time) => Values::Time(reading.micros(name, array)?),
                kind => from_array_as(name, array, kind)?,
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
        (Values::Number(numbers), kind) if numbers.iter().all(|number| no_number(*number)) => {
            Ok(Values::nulls(kind, numbers.len())) // a column of nulls has no type of its own
        }
        (Values::Exact(narrow), kind) if reads_as(narrow.kind(), kind) => Ok(widened(&narrow, kind)),
        (values, kind) if kind.exact_width().is_some() => narrowed(name, &values, kind),
        (other, kind) => Err(wrong_type(name, &other, kind)),
    }
}

/// A narrow column as a wider one that it can be read as.
fn widened(narrow: &Exact, kind: ValueType) -> Values {
    let rows = 0..narrow.len();
    match kind {
        ValueType::Number => Values::Number(narrow.numbers().unwrap_or_default()),
        ValueType::Integer => {
            Values::Integer(rows.map(|row| narrow.get(row).map_or(NO_INTEGER, exact::integer)).collect())
        }
        kind => {
            let mut wide = Exact::new(kind);
            rows.for_each(|row| wide.push(narrow.get(row)));
            Values::Exact(wide)
        }
    }
}

/// A column as a narrow or exact type, if nothing is lost.
fn narrowed(name: &str, values: &Values, kind: ValueType) -> Result<Values, Error> {
    let rows = 0..values.len();
    let narrow = match values {
        Values::Text(..) => Exact::parsed(kind, rows.map(|row| values.text_at(row))),
        Values::Number(numbers) => {
            let known = |value: &f64| (!no_number(*value)).then_some(Narrowed::Number(*value));
            Exact::narrowed(kind, numbers.iter().map(known))
        }
        Values::Integer(integers) => {
            let known = |value: &i64| (*value != NO_INTEGER).then_some(Narrowed::Integer(*value));
            Exact::narrowed(kind, integers.iter().map(known))
        }
        other => return Err(wrong_type(name, other, kind)),
    };
    narrow.map(Values::Exact).map_err(|value| Error::WrongType {
        column: name.to_owned(),
        found: format!("`{value}`"),
        expected: format!("{kind} values"),
    })
}

/// All columns of a Parquet file.
pub(crate) fn scan(path: &Path, rounding: Rounding) -> Result<Frame, Error> {
    let file = std::fs::File::open(path).map_err(Error::file(path))?;
    let unreadable = |error: polars::error::PolarsError| Error::unreadable("Parquet file", error);
    let frame = ParquetReader::new(file).finish().map_err(unreadable)?;
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

    /// Four row groups of a thousand rows, in the order of their time.
    fn four_groups(path: &Path) {
        use parquet::file::properties::WriterProperties;
        let rows = 4_000;
        let frame = Frame::new(
            rows,
            vec![
                ("shop".into(), Values::text((0..rows).map(|row| Some(["north", "south"][row / 2_000])))),
                ("at".into(), Values::Time((0..rows as i64).map(|row| row * 1_000_000).collect())),
                (
                    "amount".into(),
                    Values::Number(
                        (0..rows).map(|row| if row % 9 == 0 { f64::NAN } else { row as f64 }).collect(),
                    ),
                ),
                ("unused".into(), Values::Integer(vec![1; rows])),
            ],
        );
        let batch = crate::wire::to_batch(&frame, false).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1_000)).build();
        let file = std::fs::File::create(path).unwrap();
        let mut writer =
            parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn a_filter_reads_only_the_row_groups_that_could_pass_it_and_finds_the_same_rows_as_one_that_reads_all() {
        let folder = tempfile::tempdir().unwrap();
        four_groups(&folder.path().join("v.parquet"));
        let of = |filter: Option<&str>| {
            let mut source = source("v.parquet", None);
            source.filter = filter.map(str::to_owned);
            source
        };
        let all = read(&of(None), folder.path()).unwrap();
        for (condition, groups) in [
            ("amount > 3500", 1),
            ("at >= time(\"1970-01-01T00:50:00Z\")", 1),
            ("at < time(\"1970-01-01T00:16:41Z\") and amount >= 0", 2),
            ("shop == \"south\" and amount < 2500", 1),
            ("1999.5 > amount", 2),
            ("amount == 2000.5", 1),
            ("amount > 1000000000", 0),
            ("amount > 3500 or amount < 10", 4),
            ("is_null(amount)", 4),
        ] {
            let expected = filter(condition, &all).unwrap();
            let in_source = read_where(&of(Some(condition)), folder.path(), None).unwrap();
            let asked = read_where(&of(None), folder.path(), Some(condition)).unwrap();
            for read in [in_source, asked] {
                assert_eq!(read.scanned, groups * 1_000, "{condition}");
                let same = |rows: &Frame| format!("{:?}", rows.clone().in_order_of_appearance());
                assert!(same(&read.rows) == same(&expected), "{condition} finds other rows");
            }
        }
    }

    #[test]
    fn exact_columns_are_read_from_csv_texts_and_parquet_without_rounding() {
        let folder = tempfile::tempdir().unwrap();
        let csv = "shop,at,price,score,rank\na,1970-01-01T00:00:00Z,12345678901234567890.000000001,0.1,7\nb,1970-01-01T00:00:00Z,,,\n";
        std::fs::write(folder.path().join("x.csv"), csv).unwrap();
        let source = |path: &str| -> Source {
            serde_json::from_value(serde_json::json!({
                "name": "items", "event_time": "at", "known_time": "at", "path": path, "columns": {
                    "shop": "text", "at": "time", "price": "decimal(38,9)", "score": "float32", "rank": "int32" },
            }))
            .unwrap()
        };
        let rows = read(&source("x.csv"), folder.path()).unwrap();
        let json = |row: usize, name: &str| {
            let mut out = Vec::new();
            crate::rows::write_cell(&mut out, crate::payload::Cell::of(rows.column(name).unwrap(), row));
            String::from_utf8(out).unwrap()
        };
        let first = ["price", "score", "rank"].map(|name| json(0, name));
        assert_eq!(first, ["\"12345678901234567890.000000001\"", "0.1", "7"]);
        assert_eq!(json(1, "price"), "null");
        crate::files::write_parquet(&folder.path().join("x.parquet"), &rows).unwrap();
        assert_eq!(read(&source("x.parquet"), folder.path()).unwrap(), rows);
        std::fs::write(folder.path().join("y.csv"), csv.replace(",7\n", ",7.5\n")).unwrap();
        let said = read(&source("y.csv"), folder.path()).unwrap_err().to_string();
        assert!(said.contains("`rank`") && said.contains("7.5"), "{said}");
    }

    #[test]
    fn a_pattern_that_names_nothing_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let said = read(&source("*.parquet", None), folder.path()).unwrap_err().to_string();
        assert!(said.contains("no file matches"), "{said}");
    }
}
