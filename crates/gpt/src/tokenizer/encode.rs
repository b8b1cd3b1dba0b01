//! Encoding: the tokenizer bound to one history's columns.

use domain::tabular::History;
use rayon::prelude::*;

use super::fit::{category, log_gap, number};
use super::{BOS, CalendarPart, EventTokenizer, Rule, SPECIALS, UNKNOWN, calendar, spec};
use crate::{Error, quantiles};

/// A tokenizer with its fields found in a history, so that rows are encoded without looking names up.
pub(super) struct Bound<'a> {
    history: &'a History,
    fields: Vec<BoundField<'a>>,
    width: usize,
    staleness: u32,
}

/// A field's first token, and where its values are.
struct BoundField<'a> {
    first: u32,
    source: Source<'a>,
}

enum Source<'a> {
    /// `tokens[code]` is the token of a level of this history.
    Category {
        codes: &'a [u32],
        tokens: Vec<u32>,
    },
    Number {
        values: &'a [f64],
        edges: &'a [f64],
        signed: bool,
    },
    Calendar(CalendarPart),
    Gap {
        edges: &'a [f64],
    },
}

pub(super) fn check_context(context: usize) -> Result<(), Error> {
    if context < 2 {
        return Err(Error::Recipe { reason: "a context holds at least 2 tokens".into() });
    }
    Ok(())
}

impl<'a> Bound<'a> {
    pub(super) fn new(tokenizer: &'a EventTokenizer, history: &'a History) -> Result<Self, Error> {
        let mut first = SPECIALS;
        let mut fields = Vec::with_capacity(tokenizer.fields.len());
        for field in &tokenizer.fields {
            fields.push(BoundField { first, source: bind(&field.name, &field.rule, history, first)? });
            first += field.rule.tokens() as u32;
        }
        Ok(Self { history, fields, width: tokenizer.tokens_per_event(), staleness: first })
    }

    pub(super) fn encode_all(&self, cutoffs: &[i64], context: usize) -> Vec<Vec<u32>> {
        cutoffs
            .par_iter()
            .enumerate()
            .with_min_len(256)
            .map(|(row, &cutoff)| self.encode(row, cutoff, context))
            .collect()
    }

    pub(super) fn encode(&self, row: usize, cutoff: i64, context: usize) -> Vec<u32> {
        let seen = self.history.seen(row, cutoff);
        let fit = ((context - 2) / self.width).min(seen.len());
        let mut tokens = Vec::with_capacity(2 + fit * self.width);
        tokens.push(BOS);
        for event in seen.end - fit..seen.end {
            self.push_event(&mut tokens, event, event == seen.start);
        }
        tokens.push(self.staleness + spec::staleness(self.history.age(row, cutoff)) as u32);
        tokens
    }

    /// Appends one event's tokens; `first` if no event of the row is before it.
    pub(super) fn push_event(&self, tokens: &mut Vec<u32>, event: usize, first: bool) {
        for field in 0..self.fields.len() {
            self.push_field(tokens, field, event, first);
        }
    }

    /// Appends the tokens of one field of an event.
    pub(super) fn push_field(&self, tokens: &mut Vec<u32>, field: usize, event: usize, first: bool) {
        let (times, field) = (&self.history.times, &self.fields[field]);
        match &field.source {
            Source::Category { codes, tokens: known } => {
                tokens.push(known.get(codes[event] as usize).copied().unwrap_or(field.first));
            }
            Source::Number { values, edges, signed } => {
                push_number(tokens, field.first, values[event], edges, *signed);
            }
            Source::Calendar(part) => {
                tokens.push(field.first + calendar::part(*part, times[event]) as u32);
            }
            Source::Gap { .. } if first => tokens.push(field.first),
            Source::Gap { edges } => {
                let gap = log_gap(times[event] - times[event - 1]);
                tokens.push(field.first + 1 + quantiles::bin(edges, gap) as u32);
            }
        }
    }
}

/// Missing is one token; a number is its bin, after its sign if the field is signed.
fn push_number(tokens: &mut Vec<u32>, first: u32, value: f64, edges: &[f64], signed: bool) {
    if value.is_nan() {
        tokens.push(first);
        return;
    }
    let bins = edges.len() as u32 + 1;
    if signed {
        tokens.push(first + 1 + bins + u32::from(value < 0.0));
    }
    tokens.push(first + 1 + quantiles::bin(edges, value.abs()) as u32);
}

fn bind<'a>(name: &str, rule: &'a Rule, history: &'a History, first: u32) -> Result<Source<'a>, Error> {
    Ok(match rule {
        Rule::Category { levels } => {
            let (codes, found) = category(history, name)?;
            let places: std::collections::HashMap<&String, u32> = levels.iter().zip(first + 1..).collect();
            let tokens = found.iter().map(|level| places.get(level).copied().unwrap_or(UNKNOWN)).collect();
            Source::Category { codes, tokens }
        }
        Rule::Number { edges, signed } => {
            Source::Number { values: number(history, name)?, edges, signed: *signed }
        }
        Rule::Calendar { part } => Source::Calendar(*part),
        Rule::Gap { edges } => Source::Gap { edges },
    })
}
