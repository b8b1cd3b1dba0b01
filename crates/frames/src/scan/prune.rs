//! Which row groups of a Parquet file can hold a wanted row, by what its footer says of their columns.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use domain::expression::{Binary, Bound, Constant};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;

use crate::frame::Values;
use crate::moments::{Reading, Rounding};
use crate::payload::Cell;
use crate::wire::from_array;

/// The groups that could hold a row within all bounds. A group of which the footer says nothing is one.
pub(super) fn groups(metadata: &ArrowReaderMetadata, bounds: &[Bound]) -> Vec<usize> {
    let ranges: Vec<(&Bound, Values, Values)> = bounds
        .iter()
        .filter_map(|bound| ranges(metadata, &bound.column).map(|(low, high)| (bound, low, high)))
        .collect();
    let wanted = |group: &usize| {
        ranges
            .iter()
            .all(|(bound, low, high)| could_hold(bound, Cell::of(low, *group), Cell::of(high, *group)))
    };
    (0..metadata.metadata().num_row_groups()).filter(wanted).collect()
}

/// The least and the greatest value of a column, by group.
fn ranges(metadata: &ArrowReaderMetadata, column: &str) -> Option<(Values, Values)> {
    let schema = metadata.parquet_schema();
    let converter = StatisticsConverter::try_new(column, metadata.schema(), schema).ok()?;
    let groups = || metadata.metadata().row_groups().iter();
    let (low, high) = (converter.row_group_mins(groups()).ok()?, converter.row_group_maxes(groups()).ok()?);
    Some((comparable(column, &low)?, comparable(column, &high)?))
}

/// Values as a condition over the column sees them; times of a zone that only its source knows are left out.
fn comparable(column: &str, values: &ArrayRef) -> Option<Values> {
    match values.data_type() {
        DataType::Timestamp(_, Some(_)) => {
            let reading = Reading { rounding: Rounding::Up, zone: None };
            Some(Values::Time(reading.micros(column, values).ok()?))
        }
        _ => from_array(column, values).ok(),
    }
}

fn could_hold(bound: &Bound, low: Cell<'_>, high: Cell<'_>) -> bool {
    let (Some(low), Some(high)) = (order(low, &bound.constant), order(high, &bound.constant)) else {
        return true;
    };
    match bound.operator {
        Binary::Less => low.is_lt(),
        Binary::LessOrEqual => low.is_le(),
        Binary::Greater => high.is_gt(),
        Binary::GreaterOrEqual => high.is_ge(),
        Binary::Equal => low.is_le() && high.is_ge(),
        _ => true,
    }
}

fn order(cell: Cell<'_>, constant: &Constant) -> Option<std::cmp::Ordering> {
    match (cell, constant) {
        (Cell::Number(value), Constant::Number(other)) => value.partial_cmp(other),
        (Cell::Integer(value), Constant::Number(other)) => (value as f64).partial_cmp(other),
        (Cell::Text(value), Constant::Text(other)) => Some(value.cmp(other.as_str())),
        (Cell::Time(value), Constant::Time(other)) => Some(value.cmp(other)),
        _ => None,
    }
}
