//! What fitting learns: the frequent levels, and the quantile bins.

use domain::tabular::{Column, History};

use super::{EventField, FieldKind, Fitted, Rule};
use crate::{Error, quantiles};

pub(super) fn fit(field: &EventField, history: &History) -> Result<Fitted, Error> {
    let rule = match field.kind {
        FieldKind::Category { max_levels } => {
            let (codes, levels) = category(history, &field.name)?;
            Rule::Category { levels: frequent(codes, levels, max_levels) }
        }
        FieldKind::Number { bins } => {
            let values = number(history, &field.name)?;
            let sizes = quantiles::sorted_sample(values.iter().map(|value| value.abs()));
            let signed = values.iter().any(|value| *value < 0.0);
            Rule::Number { edges: quantiles::edges(&sizes, bins), signed }
        }
        FieldKind::Calendar { part } => Rule::Calendar { part },
        FieldKind::Gap { bins } => {
            let sorted = quantiles::sorted_sample(gaps(history));
            Rule::Gap { edges: quantiles::edges(&sorted, bins) }
        }
    };
    Ok(Fitted { name: field.name.clone(), rule })
}

fn column<'a>(history: &'a History, name: &str) -> Result<&'a Column, Error> {
    history.fields.column(name).ok_or_else(|| Error::MissingColumn { name: name.to_owned() })
}

/// A field that must hold categories.
pub(super) fn category<'a>(history: &'a History, name: &str) -> Result<(&'a [u32], &'a [String]), Error> {
    match column(history, name)? {
        Column::Category { codes, levels } => Ok((codes, levels)),
        Column::Number(_) => {
            Err(Error::ColumnKind { name: name.to_owned(), expected: "categories", found: "numbers" })
        }
    }
}

/// A field that must hold numbers.
pub(super) fn number<'a>(history: &'a History, name: &str) -> Result<&'a [f64], Error> {
    match column(history, name)? {
        Column::Number(values) => Ok(values),
        Column::Category { .. } => {
            Err(Error::ColumnKind { name: name.to_owned(), expected: "numbers", found: "categories" })
        }
    }
}

/// The most frequent levels, by falling frequency and then by name, so that the order of rows does not matter.
fn frequent(codes: &[u32], levels: &[String], most: usize) -> Vec<String> {
    let mut counts = vec![0usize; levels.len()];
    for &code in codes {
        if let Some(count) = counts.get_mut(code as usize) {
            *count += 1;
        }
    }
    let mut ranked: Vec<(usize, &String)> =
        counts.into_iter().zip(levels).filter(|(count, _)| *count > 0).collect();
    ranked.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    ranked.into_iter().take(most).map(|(_, level)| level.clone()).collect()
}

/// ln(1 + seconds) between neighbouring events of each row.
fn gaps(history: &History) -> impl Iterator<Item = f64> + Clone + '_ {
    (0..history.rows()).flat_map(move |row| {
        history.times[history.events(row)].windows(2).map(|pair| log_gap(pair[1] - pair[0]))
    })
}

pub(super) fn log_gap(micros: i64) -> f64 {
    (1.0 + micros.max(0) as f64 / 1e6).ln()
}
