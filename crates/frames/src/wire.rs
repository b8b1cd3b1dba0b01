//! Frames as Arrow record batches: IPC streams and files, and Parquet.

use std::io::{Read, Seek, Write};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, RecordBatch,
    RecordBatchOptions, StringArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, UInt32Type};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use domain::definitions::ValueType;
use domain::tabular::MISSING;

use crate::Error;
use crate::exact;
use crate::frame::{Frame, NO_INTEGER, NOT_A_NUMBER, Values, no_number};
use crate::source_file::conform;

/// A frame as one record batch. Texts are plain UTF-8 unless `dictionaries` is set.
pub(crate) fn to_batch(frame: &Frame, dictionaries: bool) -> Result<RecordBatch, Error> {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = frame
        .columns()
        .iter()
        .map(|(name, values)| {
            let array = to_array(values, dictionaries);
            (Field::new(name, array.data_type().clone(), true), array)
        })
        .unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(frame.rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
        .map_err(|error| Error::unreadable("frame", error))
}

pub(crate) fn to_array(values: &Values, dictionaries: bool) -> ArrayRef {
    match values {
        Values::Number(values) => Arc::new(
            values.iter().map(|value| (!no_number(*value)).then_some(*value)).collect::<Float64Array>(),
        ),
        Values::Integer(values) => Arc::new(values.iter().map(|value| known(*value)).collect::<Int64Array>()),
        Values::Time(values) => Arc::new(
            values
                .iter()
                .map(|value| known(*value))
                .collect::<TimestampMicrosecondArray>()
                .with_timezone("UTC"),
        ),
        Values::Boolean(values) => Arc::new(values.iter().copied().collect::<BooleanArray>()),
        Values::Exact(values) => exact::to_array(values),
        Values::Text(codes, levels) if dictionaries => {
            let keys: UInt32Array = codes.iter().map(|code| (*code != MISSING).then_some(*code)).collect();
            let levels = StringArray::from_iter_values(levels.iter());
            Arc::new(DictionaryArray::<UInt32Type>::new(keys, Arc::new(levels)))
        }
        Values::Text(codes, levels) => {
            Arc::new(codes.iter().map(|code| levels.get(*code as usize)).collect::<StringArray>())
        }
    }
}

fn known(value: i64) -> Option<i64> {
    (value != NO_INTEGER).then_some(value)
}

/// The frame of a record batch, each column as the nearest of our types.
pub(crate) fn from_batch(batch: &RecordBatch) -> Result<Frame, Error> {
    let columns = batch
        .schema()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, array)| Ok((field.name().clone(), from_array(field.name(), array)?)))
        .collect::<Result<_, Error>>()?;
    Ok(Frame::new(batch.num_rows(), columns))
}

/// The frame of a record batch, columns of declared exact types as these and each other as the nearest of our types.
pub(crate) fn from_batch_as(batch: &RecordBatch, declared: &[(String, ValueType)]) -> Result<Frame, Error> {
    let columns = batch
        .schema()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, array)| {
            let kind = declared.iter().find(|(name, _)| name == field.name()).map(|(_, kind)| *kind);
            Ok((field.name().clone(), from_array_as(field.name(), array, kind)?))
        })
        .collect::<Result<_, Error>>()?;
    Ok(Frame::new(batch.num_rows(), columns))
}

/// A column as the exact type that is declared, or as the nearest of our types.
pub(crate) fn from_array_as(name: &str, array: &ArrayRef, kind: Option<ValueType>) -> Result<Values, Error> {
    match kind.filter(|kind| kind.exact_width().is_some()) {
        // what is not of the type itself may still be converted into it
        Some(kind) => exact::from_array(name, array, kind).map(Values::Exact).or_else(|refused| {
            match from_array(name, array) {
                Ok(values @ (Values::Text(..) | Values::Integer(_) | Values::Number(_))) => {
                    conform(name, values, kind)
                }
                _ => Err(refused),
            }
        }),
        None => from_array(name, array),
    }
}

pub(crate) fn from_array(name: &str, array: &ArrayRef) -> Result<Values, Error> {
    let refused = |kind: &DataType| Error::WrongType {
        column: name.to_owned(),
        found: format!("{kind} values"),
        expected: "numbers, integers, texts, times or booleans".to_owned(),
    };
    let converted = |to: &DataType| cast(array, to).map_err(|_| refused(array.data_type()));
    match array.data_type() {
        DataType::FixedSizeList(..) if exact::kind_of(array.data_type()).is_some() => {
            let kind = exact::kind_of(array.data_type()).unwrap_or(ValueType::Number);
            exact::from_array(name, array, kind).map(Values::Exact)
        }
        DataType::Float16
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => Ok(numbers(&converted(&DataType::Float64)?)),
        kind if kind.is_integer() => {
            let strict = CastOptions { safe: false, ..CastOptions::default() };
            let unfit = |why: String| Error::WrongType {
                column: name.to_owned(),
                found: format!("{kind} values that do not fit ({why})"),
                expected: "64-bit integers".to_owned(),
            };
            let whole = cast_with_options(array, &DataType::Int64, &strict);
            let whole = whole.map_err(|error| unfit(error.to_string()))?;
            integers(&whole).ok_or_else(|| unfit(format!("{NO_INTEGER} stands for null here")))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(texts(&converted(&DataType::Utf8)?)),
        DataType::Dictionary(_, value) if matches!(**value, DataType::Utf8 | DataType::LargeUtf8) => {
            Ok(texts(&converted(&DataType::Utf8)?))
        }
        DataType::Timestamp(_, None) => Err(Error::NaiveTime { column: name.to_owned() }),
        DataType::Timestamp(unit, Some(_)) => times(array, *unit).ok_or_else(|| refused(array.data_type())),
        DataType::Boolean => Ok(Values::Boolean(
            array.as_any().downcast_ref::<BooleanArray>().into_iter().flat_map(BooleanArray::iter).collect(),
        )),
        DataType::Null => Ok(Values::nulls(ValueType::Number, array.len())),
        other => Err(refused(other)),
    }
}

fn numbers(array: &ArrayRef) -> Values {
    let array = array.as_any().downcast_ref::<Float64Array>().expect("cast to this type");
    let number = |value: f64| if value.is_nan() { NOT_A_NUMBER } else { value };
    Values::Number(array.iter().map(|value| value.map_or(f64::NAN, number)).collect())
}

/// Integers, if none is the one that stands for null.
fn integers(array: &ArrayRef) -> Option<Values> {
    let array = array.as_any().downcast_ref::<Int64Array>().expect("cast to this type");
    let marked = |value: Option<i64>| match value {
        Some(NO_INTEGER) => None,
        value => Some(value.unwrap_or(NO_INTEGER)),
    };
    array.iter().map(marked).collect::<Option<Vec<i64>>>().map(Values::Integer)
}

fn texts(array: &ArrayRef) -> Values {
    let array = array.as_any().downcast_ref::<StringArray>().expect("cast to this type");
    Values::text(array.iter())
}

/// Times in microseconds. Nanoseconds are rounded up, so that nothing moves from the future into the past.
fn times(array: &ArrayRef, unit: TimeUnit) -> Option<Values> {
    let raw = cast(array, &DataType::Int64).ok()?;
    let raw = raw.as_any().downcast_ref::<Int64Array>()?;
    let micros = |value: i64| match unit {
        TimeUnit::Second => value.checked_mul(1_000_000),
        TimeUnit::Millisecond => value.checked_mul(1_000),
        TimeUnit::Microsecond => Some(value),
        TimeUnit::Nanosecond => Some(value.div_euclid(1_000) + i64::from(value.rem_euclid(1_000) != 0)),
    };
    let values: Option<Vec<i64>> = raw.iter().map(|value| value.map_or(Some(NO_INTEGER), micros)).collect();
    values.map(Values::Time)
}

/// Reads an Arrow IPC stream.
///
/// # Errors
/// [`Error::Unreadable`] if the bytes are not one, or an error that names the column.
pub fn read_stream(bytes: &[u8]) -> Result<Frame, Error> {
    read_stream_as(bytes, &[])
}

/// Reads an Arrow IPC stream, columns of declared exact types as these.
///
/// # Errors
/// As [`read_stream`].
pub fn read_stream_as(bytes: &[u8], declared: &[(String, ValueType)]) -> Result<Frame, Error> {
    crate::framing::check(bytes)?;
    let decoded = std::panic::catch_unwind(|| decode_stream(bytes, declared));
    decoded.unwrap_or_else(|_| Err(Error::unreadable("Arrow IPC stream", "its parts contradict each other")))
}

fn decode_stream(bytes: &[u8], declared: &[(String, ValueType)]) -> Result<Frame, Error> {
    let unreadable = |error: arrow::error::ArrowError| Error::unreadable("Arrow IPC stream", error);
    let reader = StreamReader::try_new(bytes, None).map_err(unreadable)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    gather_as(&schema, &batches, declared)
}

/// Writes an Arrow IPC stream.
///
/// # Errors
/// [`Error::Unreadable`] if the frame cannot be encoded.
pub fn write_stream(frame: &Frame) -> Result<Vec<u8>, Error> {
    let unreadable = |error: arrow::error::ArrowError| Error::unreadable("frame", error);
    let batch = to_batch(frame, false)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).map_err(unreadable)?;
    writer.write(&batch).map_err(unreadable)?;
    writer.into_inner().map_err(unreadable)
}

pub(crate) fn read_file(file: impl Read + Seek) -> Result<Vec<RecordBatch>, Error> {
    let unreadable = |error: arrow::error::ArrowError| Error::unreadable("Arrow file", error);
    let reader = FileReader::try_new(file, None).map_err(unreadable)?;
    reader.collect::<Result<Vec<_>, _>>().map_err(unreadable)
}

pub(crate) fn write_file(file: impl Write, batches: &[RecordBatch]) -> Result<(), Error> {
    let unreadable = |error: arrow::error::ArrowError| Error::unreadable("frame", error);
    let Some(first) = batches.first() else { return Ok(()) };
    let options = IpcWriteOptions::default()
        .try_with_compression(Some(CompressionType::LZ4_FRAME))
        .map_err(unreadable)?;
    let mut writer = FileWriter::try_new_with_options(file, &first.schema(), options).map_err(unreadable)?;
    for batch in batches {
        writer.write(batch).map_err(unreadable)?;
    }
    writer.finish().map_err(unreadable)
}

pub(crate) fn gather(schema: &Schema, batches: &[RecordBatch]) -> Result<Frame, Error> {
    gather_as(schema, batches, &[])
}

fn gather_as(
    schema: &Schema,
    batches: &[RecordBatch],
    declared: &[(String, ValueType)],
) -> Result<Frame, Error> {
    let mut parts = batches.iter().map(|batch| from_batch_as(batch, declared));
    match parts.next() {
        None => from_batch_as(&RecordBatch::new_empty(Arc::new(schema.clone())), declared),
        Some(first) => {
            let mut frame = first?;
            for part in parts {
                frame.append(&part?)?;
            }
            Ok(frame)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_survives_the_wire() {
        let frame = Frame::new(
            2,
            vec![
                ("n".into(), Values::Number(vec![1.5, f64::INFINITY])),
                ("i".into(), Values::Integer(vec![NO_INTEGER, -3])),
                ("s".into(), Values::text([Some("UA"), None])),
                ("t".into(), Values::Time(vec![1_000_000, NO_INTEGER])),
                ("b".into(), Values::Boolean(vec![Some(true), None])),
            ],
        );
        assert_eq!(read_stream(&write_stream(&frame).unwrap()).unwrap(), frame);
    }

    #[test]
    fn a_truncated_stream_is_refused() {
        let frame = Frame::new(2, vec![("n".into(), Values::Number(vec![1.5, 2.5]))]);
        let bytes = write_stream(&frame).unwrap();
        for length in [0, 3, bytes.len() / 2] {
            assert!(read_stream(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_time_without_a_zone_is_refused() {
        let array: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1]));
        assert!(matches!(from_array("t", &array), Err(Error::NaiveTime { .. })));
    }

    #[test]
    fn an_integer_above_63_bits_is_refused_and_not_made_null() {
        let array: ArrayRef = Arc::new(arrow::array::UInt64Array::from(vec![u64::MAX]));
        let said = from_array("n", &array).unwrap_err().to_string();
        assert!(said.contains("`n`") && said.contains("do not fit"), "{said}");
    }

    #[test]
    fn the_least_integer_is_refused_and_not_made_null() {
        let array: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(i64::MIN), None]));
        let said = from_array("n", &array).unwrap_err().to_string();
        assert!(said.contains("`n`") && said.contains("stands for null"), "{said}");
    }

    #[test]
    fn nanoseconds_are_rounded_up_so_that_nothing_moves_into_the_past() {
        let array: ArrayRef = Arc::new(
            arrow::array::TimestampNanosecondArray::from(vec![1_001, -1_001, 2_000]).with_timezone("UTC"),
        );
        assert_eq!(from_array("t", &array).unwrap(), Values::Time(vec![2, -1, 2]));
    }
}
