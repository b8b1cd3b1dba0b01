//! Versions of a view: which changes keep stored rows readable, and which begin a new version.
//!
//! A version's rows are read under its [`Layout`]. A change that only adds or drops columns, or widens integers to numbers,
//! is a new *revision* of the same version: each stored row carries the number of its revision, and what it lacks is null.
//! Everything else makes version n + 1, which begins without rows; version n stays as it is, so what was built from it can
//! still be explained.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Definitions, FeatureView, Shape, ValueType};

/// Columns with their types, in order.
pub type Columns = Vec<(String, ValueType)>;

/// What decides how stored rows of a view are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// The entity.
    pub entity: String,
    /// The key columns, in order.
    pub keys: Columns,
    /// The value columns, in order.
    pub values: Columns,
    /// What the view gives.
    pub shape: Shape,
    /// Where its rows come from.
    pub source: String,
    /// The column that says when it happened.
    pub event_time: String,
    /// The column that says when it was learned.
    pub known_time: String,
    /// How far back online rows reach, in microseconds.
    pub memory: Option<i64>,
}

/// A version of a view, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewVersion {
    /// Its number among all versions of all views; names its online table.
    pub id: i64,
    /// The view.
    pub view: String,
    /// 1, 2, 3, …
    pub version: i32,
    /// How its rows are read now.
    pub layout: Layout,
    /// The value columns of every revision, oldest first; the last one is the layout's.
    pub revisions: Vec<Columns>,
}

impl ViewVersion {
    /// The number of the newest revision, which new rows carry; from 1.
    pub fn revision(&self) -> u16 {
        self.revisions.len().try_into().unwrap_or(u16::MAX)
    }
}

/// The newest version of each view.
pub type ViewVersions = HashMap<String, ViewVersion>;

/// What a changed definition means for the rows that are stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Evolution {
    /// Nothing.
    Same,
    /// They stay readable: columns were added (null in older rows), dropped, or widened.
    Additive {
        /// New columns.
        added: Vec<String>,
        /// Columns that are no longer read.
        dropped: Vec<String>,
        /// Integers that are read as numbers from now on.
        widened: Vec<String>,
        /// True if online rows must reach further back than they do.
        longer_memory: bool,
    },
    /// They cannot be read under the new definition.
    Incompatible {
        /// Why.
        why: String,
    },
}

impl Layout {
    /// The layout of a checked view; `None` if it refers to nothing.
    pub fn of(all: &Definitions, view: &FeatureView) -> Option<Self> {
        let (entity, source) = (all.entity(&view.entity)?, all.source(&view.source)?);
        let typed =
            |name: &String| (name.clone(), source.columns.get(name).copied().unwrap_or(ValueType::Number));
        let values = view.columns().into_iter().filter(|name| !entity.keys.contains(name));
        Some(Self {
            entity: entity.name.clone(),
            keys: entity.keys.iter().map(typed).collect(),
            values: values.map(|name| typed(&name)).collect(),
            shape: view.shape(),
            source: source.name.clone(),
            event_time: source.event_time.clone(),
            known_time: source.known_time.clone(),
            memory: view.memory().map(crate::Horizon::micros),
        })
    }

    /// What `next` in place of this layout means for rows that were stored under any of `revisions`.
    pub fn evolve(&self, next: &Self, revisions: &[Columns]) -> Evolution {
        if let Some(why) = self.unreadable(next).or_else(|| retyped(next, revisions)) {
            return Evolution::Incompatible { why };
        }
        let lacks = |columns: &Columns, name: &str| !columns.iter().any(|(known, _)| known == name);
        let names = |columns: &Columns, missing_in: &Columns| -> Vec<String> {
            columns.iter().filter(|(name, _)| lacks(missing_in, name)).map(|(name, _)| name.clone()).collect()
        };
        let widened = next
            .values
            .iter()
            .filter(|(name, kind)| self.values.iter().any(|(known, before)| known == name && before != kind));
        let evolution = Evolution::Additive {
            added: names(&next.values, &self.values),
            dropped: names(&self.values, &next.values),
            widened: widened.map(|(name, _)| name.clone()).collect(),
            longer_memory: next.memory > self.memory,
        };
        if self == next { Evolution::Same } else { evolution }
    }

    fn unreadable(&self, next: &Self) -> Option<String> {
        let said = |what: &str, before: &dyn std::fmt::Debug, after: &dyn std::fmt::Debug| {
            Some(format!("{what} changes from {before:?} to {after:?}"))
        };
        if self.keys != next.keys {
            return said("the key of its entity", &named(&self.keys), &named(&next.keys));
        }
        if self.shape != next.shape {
            return said("its shape", &self.shape, &next.shape);
        }
        if self.source != next.source {
            return said("its source", &self.source, &next.source);
        }
        if self.event_time != next.event_time {
            return said("the source's `event_time`", &self.event_time, &next.event_time);
        }
        if self.known_time != next.known_time {
            return said("the source's `known_time`", &self.known_time, &next.known_time);
        }
        None
    }
}

fn named(columns: &Columns) -> Vec<String> {
    columns.iter().map(|(name, kind)| format!("{name}: {kind}")).collect()
}

/// The first column that any revision held under a type that cannot be read as the new one.
fn retyped(next: &Layout, revisions: &[Columns]) -> Option<String> {
    revisions.iter().flatten().find_map(|(name, before)| {
        let (_, after) = next.values.iter().find(|(known, _)| known == name)?;
        (!reads_as(*before, *after))
            .then(|| format!("column `{name}` was stored as {before} and cannot be read as {after}"))
    })
}

/// Whether a stored value of one type can be read as another without loss of kind: integers may become numbers, narrow ones
/// wide ones, and decimals may get more digits before the point.
pub fn reads_as(before: ValueType, after: ValueType) -> bool {
    use ValueType::{Decimal, Float32, Int32, Integer, Number};
    match (before, after) {
        (Integer | Int32 | Float32, Number) | (Int32, Integer) => true,
        (Decimal { precision, scale }, Decimal { precision: more, scale: same }) => {
            more >= precision && same == scale
        }
        _ => before == after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(values: &[(&str, ValueType)]) -> Layout {
        Layout {
            entity: "shop".into(),
            keys: vec![("shop".into(), ValueType::Text)],
            values: values.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect(),
            shape: Shape::Latest,
            source: "visits".into(),
            event_time: "at".into(),
            known_time: "at".into(),
            memory: None,
        }
    }

    fn evolve(before: &Layout, after: &Layout) -> Evolution {
        before.evolve(after, std::slice::from_ref(&before.values))
    }

    #[test]
    fn columns_may_come_and_go_and_integers_may_become_numbers() {
        let before = layout(&[("a", ValueType::Integer), ("b", ValueType::Text)]);
        let after = layout(&[("a", ValueType::Number), ("c", ValueType::Text)]);
        let expected = Evolution::Additive {
            added: vec!["c".into()],
            dropped: vec!["b".into()],
            widened: vec!["a".into()],
            longer_memory: false,
        };
        assert_eq!(evolve(&before, &after), expected);
        assert_eq!(evolve(&before, &before), Evolution::Same);
    }

    #[test]
    fn narrowing_is_incompatible_and_names_the_column() {
        let (wide, narrow) = (layout(&[("a", ValueType::Number)]), layout(&[("a", ValueType::Integer)]));
        let Evolution::Incompatible { why } = evolve(&wide, &narrow) else { panic!("it was allowed") };
        assert!(why.contains("`a`") && why.contains("number") && why.contains("integer"), "{why}");
    }

    #[test]
    fn a_dropped_column_that_returns_with_another_type_is_incompatible_with_the_rows_that_held_it() {
        let now = layout(&[("b", ValueType::Text)]);
        let revisions = [vec![("a".to_owned(), ValueType::Number)], now.values.clone()];
        let back = layout(&[("a", ValueType::Text), ("b", ValueType::Text)]);
        assert!(matches!(now.evolve(&back, &revisions), Evolution::Incompatible { .. }));
    }

    #[test]
    fn another_key_is_incompatible() {
        let before = layout(&[]);
        let after = Layout { keys: vec![("shop".into(), ValueType::Integer)], ..before.clone() };
        assert!(matches!(evolve(&before, &after), Evolution::Incompatible { .. }));
    }
}
