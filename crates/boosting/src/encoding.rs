//! Columns as the trees see them: numbers, with categories coded as fixed at training.
//!
//! A code is the rank of the category among those that training rows held, in byte order. A category never
//! seen is missing (NaN), like one that is not there.

use std::collections::BTreeSet;

use domain::tabular::{Column, Table};
use serde::{Deserialize, Serialize};

use crate::Error;

/// What a model remembers of the columns it was trained on, in the order of its features.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Encoding(Vec<Feature>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Feature {
    name: String,
    kind: Kind,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Number,
    /// The known categories, ascending: a category's code is its position.
    Category(Vec<String>),
}

impl Encoding {
    /// Learns names, kinds and categories; features are ordered by name, so that the table's order is nothing.
    pub(crate) fn learn(train: &Table) -> Result<Self, Error> {
        let mut features: Vec<Feature> = train
            .columns()
            .iter()
            .map(|(name, column)| Feature { name: name.clone(), kind: Kind::of(column) })
            .collect();
        features.sort_by(|a, b| a.name.cmp(&b.name));
        match features.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => Err(Error::DuplicateColumn { name: pair[0].name.clone() }),
            None => Ok(Self(features)),
        }
    }

    /// The number of features.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The places of the features that are categories.
    #[cfg(feature = "lightgbm")]
    pub(crate) fn categories(&self) -> Vec<usize> {
        let category = |at: &usize| self.0[*at].kind != Kind::Number;
        (0..self.len()).filter(category).collect()
    }

    /// The feature names in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(|feature| feature.name.as_str())
    }

    /// The features of a table, column after column: shape `[features · rows]`. Other columns are ignored.
    pub(crate) fn encode(&self, table: &Table) -> Result<Vec<f64>, Error> {
        let mut encoded = Vec::with_capacity(self.len() * table.rows());
        for Feature { name, kind } in &self.0 {
            let column = table.column(name).ok_or_else(|| Error::MissingColumn { name: name.clone() })?;
            match (kind, column) {
                (Kind::Number, Column::Number(values)) => encoded.extend_from_slice(values),
                (Kind::Category(known), Column::Category { codes, levels }) => {
                    let of_level: Vec<f64> = levels.iter().map(|level| code(known, level)).collect();
                    let of_row = |code: &u32| of_level.get(*code as usize).copied().unwrap_or(f64::NAN);
                    encoded.extend(codes.iter().map(of_row));
                }
                _ => return Err(Error::WrongKind { name: name.clone(), expected: kind.in_words() }),
            }
        }
        Ok(encoded)
    }
}

impl Kind {
    fn of(column: &Column) -> Self {
        match column {
            Column::Number(_) => Self::Number,
            Column::Category { codes, levels } => {
                let held: BTreeSet<u32> = codes.iter().copied().collect();
                let known: BTreeSet<&String> =
                    held.into_iter().filter_map(|code| levels.get(code as usize)).collect();
                Self::Category(known.into_iter().cloned().collect())
            }
        }
    }

    fn in_words(&self) -> &'static str {
        match self {
            Self::Number => "numbers",
            Self::Category(_) => "categories",
        }
    }
}

fn code(known: &[String], level: &String) -> f64 {
    known.binary_search(level).map_or(f64::NAN, |position| position as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(values: &[Option<&str>]) -> Table {
        let column = Column::from_text(values.iter().copied());
        Table::new(values.len(), vec![("carrier".into(), column)]).unwrap()
    }

    #[test]
    fn a_category_keeps_its_code_whatever_the_order_of_levels_and_an_unseen_one_is_missing() {
        let encoding = Encoding::learn(&table(&[Some("UA"), Some("AA"), None])).unwrap();
        let encoded = encoding.encode(&table(&[Some("ZZ"), Some("AA"), Some("UA"), None])).unwrap();
        assert!(encoded[0].is_nan() && encoded[3].is_nan());
        assert_eq!(encoded[1..3], [0.0, 1.0]);
    }

    #[test]
    fn a_level_that_no_training_row_held_was_not_seen() {
        let column =
            Column::Category { codes: vec![1, 1], levels: vec!["AA".to_owned(), "UA".to_owned()].into() };
        let train = Table::new(2, vec![("carrier".into(), column)]).unwrap();
        let encoding = Encoding::learn(&train).unwrap();
        let encoded = encoding.encode(&table(&[Some("AA"), Some("UA")])).unwrap();
        assert!(encoded[0].is_nan() && encoded[1] == 0.0);
    }
}
