//! How an event is to become tokens, as a definition file says it.

use serde::{Deserialize, Serialize};

use crate::Error;

/// The fields of an event that become tokens, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventSpec {
    /// The fields.
    pub fields: Vec<EventField>,
}

/// One field. For the calendar and the gap, which come from the event's time, the name is only a label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventField {
    /// The column.
    pub name: String,
    /// How it becomes tokens.
    pub kind: FieldKind,
}

/// How a field becomes tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FieldKind {
    /// A token a level, for the most frequent ones.
    Category {
        /// The most levels that get a token; the others are unknown.
        max_levels: usize,
    },
    /// A token a quantile bin of the absolute value, after a token for the sign if training saw negative values.
    Number {
        /// The most bins.
        bins: usize,
    },
    /// A part of the event's time, in UTC.
    Calendar {
        /// Which part.
        part: CalendarPart,
    },
    /// A token a quantile bin of the logarithm of the time since the event before.
    Gap {
        /// The most bins.
        bins: usize,
    },
}

/// A part of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CalendarPart {
    /// January is 0.
    Month,
    /// Monday is 0.
    Weekday,
    /// 0 to 23.
    Hour,
}

impl CalendarPart {
    pub(super) fn count(self) -> usize {
        match self {
            Self::Month => 12,
            Self::Weekday => 7,
            Self::Hour => 24,
        }
    }
}

/// Staleness tokens: "no event", then half-octaves of minutes up to about a year.
pub(super) const STALENESS: usize = 40;

/// 0 without an event, else 1 + ⌊2·log₂(1 + minutes)⌋, at most [`STALENESS`] − 1.
pub(super) fn staleness(micros: Option<i64>) -> usize {
    let minutes = micros.map(|micros| micros.max(0) as f64 / 60e6);
    minutes.map_or(0, |minutes| (1 + (2.0 * (1.0 + minutes).log2()) as usize).min(STALENESS - 1))
}

impl EventSpec {
    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Recipe { reason });
        if self.fields.is_empty() {
            return refuse("an event has at least one field".into());
        }
        for (i, field) in self.fields.iter().enumerate() {
            let size = match field.kind {
                FieldKind::Category { max_levels } => max_levels,
                FieldKind::Number { bins } | FieldKind::Gap { bins } => bins,
                FieldKind::Calendar { .. } => 1,
            };
            if size == 0 {
                return refuse(format!("event field `{}` has at least one level or bin", field.name));
            }
            if self.fields[..i].contains(field) {
                return refuse(format!("event field `{}` is declared twice", field.name));
            }
        }
        Ok(())
    }
}
