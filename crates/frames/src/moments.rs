//! Columns of times as microseconds since 1970, UTC, whatever their unit, zone or spelling.
//!
//! Nothing moves from the future into the past: where a unit is finer than a microsecond, moments from which somebody looks
//! are rounded down, and moments at which something happened or was learned are rounded up. A time without a zone is refused
//! unless its zone was declared.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use chrono::{DateTime, LocalResult, NaiveDateTime, TimeZone};
use chrono_tz::Tz;

use crate::Error;
use crate::frame::NO_INTEGER;

/// What becomes of what is finer than a microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// Of moments from which somebody looks.
    Down,
    /// Of moments at which something happened or was learned.
    Up,
}

impl Rounding {
    /// Nanoseconds as microseconds.
    pub(crate) fn micros(self, nanos: i64) -> i64 {
        nanos.div_euclid(1_000) + i64::from(self == Self::Up && nanos.rem_euclid(1_000) != 0)
    }
}

/// How a column's times are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// What becomes of nanoseconds.
    pub(crate) rounding: Rounding,
    /// The zone of times that name none.
    pub(crate) zone: Option<Tz>,
}

impl Reading {
    /// The times of a column in microseconds; null is [`NO_INTEGER`].
    ///
    /// # Errors
    /// [`Error::NaiveTime`], or [`Error::WrongType`] if the column holds no times, or one that no microsecond can hold.
    pub(crate) fn micros(self, name: &str, array: &ArrayRef) -> Result<Vec<i64>, Error> {
        match array.data_type() {
            DataType::Timestamp(unit, Some(_)) => instants(name, array, |raw| self.in_unit(*unit, raw)),
            DataType::Timestamp(unit, None) => {
                let zone = self.zone.ok_or_else(|| Error::NaiveTime { column: name.to_owned() })?;
                instants(name, array, |raw| local(zone, self.in_unit(*unit, raw)?))
            }
            DataType::Date32 | DataType::Date64 => {
                let days = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None));
                self.micros(name, &days.map_err(|_| no_times(name, array))?)
            }
            DataType::Dictionary(_, value) => {
                self.micros(name, &cast(array, value).map_err(|_| no_times(name, array))?)
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => self.spelt(name, array),
            _ => Err(no_times(name, array)),
        }
    }

    fn in_unit(self, unit: TimeUnit, raw: i64) -> Option<i64> {
        match unit {
            TimeUnit::Second => raw.checked_mul(1_000_000),
            TimeUnit::Millisecond => raw.checked_mul(1_000),
            TimeUnit::Microsecond => Some(raw),
            TimeUnit::Nanosecond => Some(self.rounding.micros(raw)),
        }
    }

    /// Times as RFC 3339 writes them; without an offset they need a declared zone.
    fn spelt(self, name: &str, array: &ArrayRef) -> Result<Vec<i64>, Error> {
        let texts = cast(array, &DataType::Utf8).map_err(|_| no_times(name, array))?;
        texts
            .as_string::<i32>()
            .iter()
            .map(|text| text.map_or(Ok(NO_INTEGER), |text| self.parse(name, text)))
            .collect()
    }

    fn parse(self, name: &str, text: &str) -> Result<i64, Error> {
        let refused = || Error::WrongType {
            column: name.to_owned(),
            found: format!("`{text}`"),
            expected: "a time such as `2013-11-01T12:00:00Z`".to_owned(),
        };
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return self.whole(time.timestamp(), time.timestamp_subsec_nanos()).ok_or_else(refused);
        }
        let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
            .iter()
            .find_map(|layout| NaiveDateTime::parse_from_str(text, layout).ok())
            .ok_or_else(refused)?;
        let zone = self.zone.ok_or_else(|| Error::NaiveTime { column: name.to_owned() })?;
        let seconds = naive.and_utc();
        let micros = self.whole(seconds.timestamp(), seconds.timestamp_subsec_nanos());
        micros.and_then(|micros| local(zone, micros)).ok_or_else(refused)
    }

    fn whole(self, seconds: i64, nanos: u32) -> Option<i64> {
        seconds.checked_mul(1_000_000)?.checked_add(self.rounding.micros(i64::from(nanos)))
    }
}

/// The instant that a clock on the wall of `zone` showed; none if it never showed that, or twice.
fn local(zone: Tz, wall: i64) -> Option<i64> {
    let naive = DateTime::from_timestamp_micros(wall)?.naive_utc();
    match zone.from_local_datetime(&naive) {
        LocalResult::Single(time) => Some(time.timestamp_micros()),
        LocalResult::Ambiguous(..) | LocalResult::None => None,
    }
}

fn instants(name: &str, array: &ArrayRef, convert: impl Fn(i64) -> Option<i64>) -> Result<Vec<i64>, Error> {
    let raw = cast(array, &DataType::Int64).map_err(|_| no_times(name, array))?;
    let raw = raw.as_primitive::<Int64Type>();
    let refused = |value: i64| Error::WrongType {
        column: name.to_owned(),
        found: format!("a time ({value} in its unit) that is no single moment, or lies outside the calendar"),
        expected: "times with an offset, within the calendar".to_owned(),
    };
    let one = |value: i64| convert(value).ok_or_else(|| refused(value));
    if raw.null_count() == 0 {
        return raw.values().iter().map(|value| one(*value)).collect();
    }
    raw.iter().map(|value| value.map_or(Ok(NO_INTEGER), one)).collect()
}

fn no_times(name: &str, array: &ArrayRef) -> Error {
    Error::WrongType {
        column: name.to_owned(),
        found: format!("{} values", array.data_type()),
        expected: "times".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        StringArray, TimestampMicrosecondArray, TimestampNanosecondArray, TimestampSecondArray,
    };

    use super::*;

    const UP: Reading = Reading { rounding: Rounding::Up, zone: None };

    fn in_new_york(texts: &[&str]) -> Result<Vec<i64>, Error> {
        let array: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        Reading { zone: Some(chrono_tz::America::New_York), ..UP }.micros("t", &array)
    }

    #[test]
    fn nanoseconds_go_up_for_what_happened_and_down_for_who_looks() {
        let array: ArrayRef =
            Arc::new(TimestampNanosecondArray::from(vec![1_001, -1_001, 2_000]).with_timezone("UTC"));
        assert_eq!(UP.micros("t", &array).unwrap(), [2, -1, 2]);
        let down = Reading { rounding: Rounding::Down, zone: None };
        assert_eq!(down.micros("t", &array).unwrap(), [1, -2, 2]);
    }

    #[test]
    fn a_time_that_no_microsecond_can_hold_is_refused() {
        let array: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]).with_timezone("UTC"));
        assert!(UP.micros("t", &array).unwrap_err().to_string().contains("outside the calendar"));
    }

    #[test]
    fn a_time_without_a_zone_needs_a_declared_one() {
        let array: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0]));
        assert!(matches!(UP.micros("t", &array), Err(Error::NaiveTime { .. })));
        let zone = Some(chrono_tz::America::New_York);
        let read = Reading { zone, ..UP }.micros("t", &array).unwrap();
        assert_eq!(read, [5 * 3_600_000_000]); // midnight in New York is five hours later in UTC
    }

    #[test]
    fn an_offset_tells_the_two_half_past_ones_of_an_autumn_night_apart_and_a_zone_alone_does_not() {
        let told = in_new_york(&["2026-11-01T01:30:00-04:00", "2026-11-01T01:30:00-05:00"]).unwrap();
        assert_eq!(told[1] - told[0], 3_600_000_000);
        assert!(in_new_york(&["2026-11-01T01:30:00"]).is_err(), "it was half past one twice");
        assert!(in_new_york(&["2026-03-08 02:30:00"]).is_err(), "it never was half past two");
        assert_eq!(
            in_new_york(&["2026-03-08 03:30:00"]).unwrap(),
            in_new_york(&["2026-03-08T07:30:00Z"]).unwrap()
        );
    }
}
