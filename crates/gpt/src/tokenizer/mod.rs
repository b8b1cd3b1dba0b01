//! Events to tokens: a few special tokens per event instead of its text.
//!
//! A history becomes `bos`, then the declared fields of each event, oldest first, then one token that says how long ago
//! the last event was at the cutoff. Belongs here: the vocabulary and the encoding. Not here: which events a row may
//! see (the as-of join of `frames` decides; events after the cutoff are left out here all the same).

mod calendar;
mod encode;
mod fit;
mod meaning;
mod spec;

use serde::{Deserialize, Serialize};

use domain::tabular::History;

pub use meaning::Meaning;
pub use spec::{CalendarPart, EventField, EventSpec, FieldKind};

use crate::Error;
use crate::error::check_format;

/// Fills what is not a sequence; never produced by encoding.
pub const PAD: u32 = 0;
/// Starts every sequence.
pub const BOS: u32 = 1;
/// A category that training did not see, or saw too rarely.
pub const UNKNOWN: u32 = 2;
const SPECIALS: u32 = 3;

const FORMAT: u32 = 1;

/// A fitted event tokenizer.
///
/// The vocabulary is: specials, then the tokens of each field in the order of the specification, then staleness.
#[derive(Clone, Debug, PartialEq)]
pub struct EventTokenizer {
    fields: Vec<Fitted>,
}

/// What fitting learned about one field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fitted {
    name: String,
    rule: Rule,
}

/// How one field becomes tokens. Token 0 of each is "missing", except for the calendar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Rule {
    /// 1 + i for level i.
    Category { levels: Vec<String> },
    /// 1 + bin of |x|; if signed, a token for the sign goes before it.
    Number { edges: Vec<f64>, signed: bool },
    /// The part itself.
    Calendar { part: CalendarPart },
    /// 1 + bin of ln(1 + seconds).
    Gap { edges: Vec<f64> },
}

impl Rule {
    fn tokens(&self) -> usize {
        match self {
            Self::Category { levels } => 1 + levels.len(),
            Self::Number { edges, signed } => 2 + edges.len() + if *signed { 2 } else { 0 },
            Self::Calendar { part } => part.count(),
            Self::Gap { edges } => 2 + edges.len(),
        }
    }

    /// The most tokens that one event can take.
    fn width(&self) -> usize {
        if matches!(self, Self::Number { signed: true, .. }) { 2 } else { 1 }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    fields: Vec<Fitted>,
}

/// What a tokenizer makes of a history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenReport {
    /// Distinct tokens.
    pub vocabulary: usize,
    /// Events looked at.
    pub events: usize,
    /// Mean tokens per event.
    pub tokens_per_event: f64,
    /// Share of tokens that are [`UNKNOWN`].
    pub unknown_rate: f64,
    /// What each field costs, in the order of the specification.
    pub fields: Vec<FieldCost>,
}

/// What one field costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldCost {
    /// The field.
    pub name: String,
    /// Its part of the vocabulary.
    pub vocabulary: usize,
    /// Its tokens in all events.
    pub tokens: usize,
    /// Distinct ones among them.
    pub used: usize,
    /// How many of them are [`UNKNOWN`].
    pub unknown: usize,
}

/// `part` / `whole`, 0 of nothing.
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

impl EventTokenizer {
    /// Learns levels and bins from events. Hand in the histories of training rows only: what is learned from later
    /// events would leak into training.
    ///
    /// # Errors
    /// [`Error::MissingColumn`] or [`Error::ColumnKind`] if the history does not have the fields; [`Error::Recipe`] if
    /// the specification is impossible.
    pub fn fit(spec: &EventSpec, history: &History) -> Result<Self, Error> {
        spec.check()?;
        let fields = spec.fields.iter().map(|field| fit::fit(field, history)).collect::<Result<_, _>>()?;
        Ok(Self { fields })
    }

    /// The number of distinct tokens.
    pub fn vocabulary_size(&self) -> usize {
        SPECIALS as usize
            + self.fields.iter().map(|field| field.rule.tokens()).sum::<usize>()
            + spec::STALENESS
    }

    /// The most tokens that one event can take.
    pub fn tokens_per_event(&self) -> usize {
        self.fields.iter().map(|field| field.rule.width()).sum()
    }

    /// The tokens of one row: `bos`, as many of its latest events at or before the cutoff as fit whole into `context`,
    /// staleness.
    ///
    /// # Errors
    /// [`Error::MissingColumn`] or [`Error::ColumnKind`] if the history does not have the fields; [`Error::Recipe`] if
    /// `context` is below 2.
    ///
    /// # Panics
    /// If `row` is not a row.
    pub fn encode(
        &self,
        history: &History,
        row: usize,
        cutoff_micros: i64,
        context: usize,
    ) -> Result<Vec<u32>, Error> {
        encode::check_context(context)?;
        Ok(encode::Bound::new(self, history)?.encode(row, cutoff_micros, context))
    }

    /// The tokens of every row, as [`EventTokenizer::encode`] gives them.
    ///
    /// # Errors
    /// As [`EventTokenizer::encode`], and [`Error::Rows`] if there is not one cutoff a row.
    pub fn encode_all(
        &self,
        history: &History,
        cutoffs_micros: &[i64],
        context: usize,
    ) -> Result<Vec<Vec<u32>>, Error> {
        encode::check_context(context)?;
        crate::error::check_rows("the cutoffs", cutoffs_micros.len(), history.rows())?;
        let bound = encode::Bound::new(self, history)?;
        Ok(bound.encode_all(cutoffs_micros, context))
    }

    /// What this tokenizer makes of all events of a history.
    ///
    /// # Errors
    /// [`Error::MissingColumn`] or [`Error::ColumnKind`] if the history does not have the fields.
    pub fn report(&self, history: &History) -> Result<TokenReport, Error> {
        let bound = encode::Bound::new(self, history)?;
        let events = history.offsets.last().map_or(0, |end| end - history.offsets[0]);
        let fields: Vec<FieldCost> =
            (0..self.fields.len()).map(|field| self.field_cost(&bound, history, field)).collect();
        let tokens: usize = fields.iter().map(|field| field.tokens).sum();
        let unknown: usize = fields.iter().map(|field| field.unknown).sum();
        Ok(TokenReport {
            vocabulary: self.vocabulary_size(),
            events,
            tokens_per_event: share(tokens, events),
            unknown_rate: share(unknown, tokens),
            fields,
        })
    }

    fn field_cost(&self, bound: &encode::Bound<'_>, history: &History, field: usize) -> FieldCost {
        let mut tokens = Vec::new();
        for row in 0..history.rows() {
            for event in history.events(row) {
                bound.push_field(&mut tokens, field, event, event == history.offsets[row]);
            }
        }
        let Fitted { name, rule } = &self.fields[field];
        let unknown = tokens.iter().filter(|&&token| token == UNKNOWN).count();
        let count = tokens.len();
        tokens.sort_unstable();
        tokens.dedup();
        FieldCost {
            name: name.clone(),
            vocabulary: rule.tokens(),
            tokens: count,
            used: tokens.len(),
            unknown,
        }
    }

    /// The tokenizer as JSON.
    ///
    /// # Errors
    /// [`Error::Json`] if a bin edge is not finite, which fitting never makes.
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string(&Stored { format: FORMAT, fields: self.fields.clone() }).map_err(invalid)
    }

    /// Reads what [`EventTokenizer::to_json`] wrote.
    ///
    /// # Errors
    /// [`Error::Json`] if it is something else, [`Error::Format`] if another version wrote it.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(invalid)?;
        let found = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
        check_format("an event tokenizer", u32::try_from(found).unwrap_or(u32::MAX), FORMAT)?;
        let stored: Stored = serde_json::from_value(value).map_err(invalid)?;
        Ok(Self { fields: stored.fields })
    }
}

fn invalid(source: serde_json::Error) -> Error {
    Error::Json { what: "an event tokenizer", source }
}

#[cfg(test)]
mod tests;
