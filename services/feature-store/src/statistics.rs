//! What a view's parts hold: rows, nulls, moments, quantiles, distinct values, by column.

use axum::Json;
use axum::extract::{Path, State};
use frames::Values;
use serde::Serialize;
use service_kit::Problem;

use crate::intake::version;
use crate::parts::{self, store_of};
use crate::{Error, FeatureStore};

/// The shares of values below each quantile that is told.
const QUANTILES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

/// What is stored of a view.
#[derive(Serialize)]
pub(crate) struct Statistics {
    view: String,
    version: i32,
    parts: usize,
    rows: usize,
    entities: usize,
    columns: Vec<ColumnStatistics>,
}

/// What a column holds; numbers have moments and quantiles.
#[derive(Serialize)]
struct ColumnStatistics {
    name: String,
    kind: String,
    nulls: usize,
    distinct: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    numbers: Option<NumberStatistics>,
}

#[derive(Serialize)]
struct NumberStatistics {
    mean: f64,
    /// Sample standard deviation; null under two values.
    std: Option<f64>,
    min: f64,
    max: f64,
    /// By share of values below, nearest rank.
    quantiles: Vec<(f64, f64)>,
}

pub(crate) async fn show(
    State(store): State<FeatureStore>,
    Path(name): Path<String>,
) -> Result<Json<Statistics>, Problem> {
    let catalogue = store.catalogue().await?;
    let view = store.view(&catalogue, &name)?;
    let schema = frames::assemble::schema_of(&catalogue.definitions, view)?;
    let number = version(&catalogue, &name)?.version;
    let mut conn = store.context.db.acquire().await.map_err(storage::Error::from)?;
    let listed = storage::parts::of_view(&mut conn, store.project(), &name, i64::MAX).await?;
    drop(conn);
    let place = store_of(&store.context)?;
    let statistics = tokio::task::spawn_blocking(move || -> Result<Statistics, Error> {
        let rows = parts::read(&place, &schema, &listed)?;
        let entities = rows.keys(&schema)?.distinct().len();
        let columns = schema
            .values
            .iter()
            .map(|(name, _)| Ok(column(name, rows.frame.column(name)?)))
            .collect::<Result<_, Error>>()?;
        Ok(Statistics {
            view: name,
            version: number,
            parts: listed.len(),
            rows: rows.rows(),
            entities,
            columns,
        })
    })
    .await
    .map_err(Error::from)??;
    Ok(Json(statistics))
}

fn column(name: &str, values: &Values) -> ColumnStatistics {
    let present: Vec<usize> = (0..values.len()).filter(|row| !values.is_null(*row)).collect();
    let mut numbers: Vec<f64> = match values {
        Values::Number(values) => present.iter().map(|&row| values[row]).collect(),
        Values::Integer(values) => present.iter().map(|&row| values[row] as f64).collect(),
        Values::Exact(values) => {
            let numbers = values.numbers().unwrap_or_default();
            present.iter().filter_map(|&row| numbers.get(row).copied()).collect()
        }
        _ => vec![],
    };
    numbers.retain(|number| !number.is_nan());
    numbers.sort_unstable_by(f64::total_cmp);
    ColumnStatistics {
        name: name.to_owned(),
        kind: values.kind().to_string(),
        nulls: values.len() - present.len(),
        distinct: distinct(values, &present),
        numbers: numbers_of(&numbers),
    }
}

fn distinct(values: &Values, present: &[usize]) -> usize {
    if let Values::Exact(values) = values {
        return present.iter().map(|row| values.get(*row)).collect::<std::collections::HashSet<_>>().len();
    }
    let bits = |row: &usize| match values {
        Values::Number(values) => values[*row].to_bits(),
        Values::Integer(values) | Values::Time(values) => values[*row].cast_unsigned(),
        Values::Text(codes, _) => u64::from(codes[*row]),
        Values::Boolean(values) => u64::from(values[*row] == Some(true)),
        Values::Exact(_) => 0, // counted above
    };
    present.iter().map(bits).collect::<std::collections::HashSet<u64>>().len()
}

/// Welford (1962) over sorted values; `None` without any.
fn numbers_of(sorted: &[f64]) -> Option<NumberStatistics> {
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let (mut mean, mut squares) = (0.0, 0.0);
    for (at, value) in sorted.iter().enumerate() {
        let before = value - mean;
        mean += before / (at + 1) as f64;
        squares += before * (value - mean);
    }
    let rank = |share: f64| ((share * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len()) - 1;
    Some(NumberStatistics {
        mean,
        std: (sorted.len() > 1).then(|| (squares / (sorted.len() - 1) as f64).sqrt()),
        min,
        max,
        quantiles: QUANTILES.iter().map(|share| (*share, sorted[rank(*share)])).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_quantiles_leave_nulls_out() {
        let column = column("x", &Values::Number(vec![4.0, f64::NAN, 1.0, 2.0, 1.0]));
        let numbers = column.numbers.unwrap();
        assert_eq!((column.nulls, column.distinct), (1, 3));
        assert_eq!((numbers.mean, numbers.min, numbers.max), (2.0, 1.0, 4.0));
        assert!((numbers.std.unwrap() - 2.0f64.sqrt()).abs() < 1e-12);
        assert_eq!(numbers.quantiles[2], (0.5, 1.0));
    }
}
