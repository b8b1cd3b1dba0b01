//! Back from tokens to what they say.

use serde::Serialize;

use super::{BOS, CalendarPart, EventTokenizer, PAD, Rule, SPECIALS, UNKNOWN, spec};

/// What a token says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "says", rename_all = "snake_case")]
pub enum Meaning {
    /// Nothing about an event.
    Special {
        /// `pad`, `bos` or `unknown`: a category of any field that training did not see.
        name: &'static str,
    },
    /// A field has no value.
    Missing {
        /// The field.
        field: String,
    },
    /// A field has this category.
    Category {
        /// The field.
        field: String,
        /// The category.
        value: String,
    },
    /// The number of a field is of this sign; its size follows.
    Sign {
        /// The field.
        field: String,
        /// Whether it is below 0.
        negative: bool,
    },
    /// The size of a number is in `[from, to)`; an end that is not given is open.
    Size {
        /// The field.
        field: String,
        /// The least.
        from: Option<f64>,
        /// The most.
        to: Option<f64>,
    },
    /// A part of the event's time.
    Calendar {
        /// The field.
        field: String,
        /// Which part.
        part: CalendarPart,
        /// Its value.
        value: usize,
    },
    /// The time since the event before is in `[from, to)` seconds; an end that is not given is open.
    Gap {
        /// The field.
        field: String,
        /// The least.
        from: Option<f64>,
        /// The most.
        to: Option<f64>,
    },
    /// No event follows: at least this many minutes passed since the last one; none if there was none.
    End {
        /// The minutes.
        minutes: Option<f64>,
    },
}

/// What a token says in a few words: `kind=A`, `amount in [1, 10)`.
impl std::fmt::Display for Meaning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end =
            |end: &Option<f64>, open: &str| end.map_or_else(|| open.to_owned(), |end| format!("{end:.4}"));
        match self {
            Self::Special { name } => f.write_str(name),
            Self::Missing { field } => write!(f, "{field} is missing"),
            Self::Category { field, value } => write!(f, "{field}={value}"),
            Self::Sign { field, negative } => write!(f, "{field} {} 0", if *negative { "<" } else { ">=" }),
            Self::Size { field, from, to } | Self::Gap { field, from, to } => {
                write!(f, "{field} in [{}, {})", end(from, "-inf"), end(to, "inf"))
            }
            Self::Calendar { field, value, .. } => write!(f, "{field}={value}"),
            Self::End { minutes: None } => f.write_str("ends without an event"),
            Self::End { minutes: Some(minutes) } => write!(f, "ends after {minutes:.1} minutes"),
        }
    }
}

impl EventTokenizer {
    /// The tokens that end a history.
    pub fn ends(&self) -> std::ops::Range<u32> {
        let first = (self.vocabulary_size() - spec::STALENESS) as u32;
        first..first + spec::STALENESS as u32
    }

    /// The field that a token speaks of, by its place in the specification; `None` for tokens that speak of none.
    pub fn field(&self, token: u32) -> Option<usize> {
        let mut end = SPECIALS;
        let mut ends = self.fields.iter().map(|field| {
            end += field.rule.tokens() as u32;
            end
        });
        (token >= SPECIALS).then(|| ends.position(|end| token < end)).flatten()
    }

    /// What a token says; `None` if it is beyond the vocabulary.
    pub fn meaning(&self, token: u32) -> Option<Meaning> {
        if token < SPECIALS {
            let name = match token {
                PAD => "pad",
                BOS => "bos",
                UNKNOWN => "unknown",
                _ => return None,
            };
            return Some(Meaning::Special { name });
        }
        let mut first = SPECIALS;
        for field in &self.fields {
            let tokens = field.rule.tokens() as u32;
            if token < first + tokens {
                return Some(field.rule.meaning(&field.name, (token - first) as usize));
            }
            first += tokens;
        }
        let steps = token.checked_sub(first).filter(|step| (*step as usize) < spec::STALENESS)?;
        let half_octaves = steps.checked_sub(1).map(f64::from);
        Some(Meaning::End { minutes: half_octaves.map(|halves| (halves / 2.0).exp2() - 1.0) })
    }
}

impl Rule {
    /// What the rule's own token number `at` says.
    fn meaning(&self, name: &str, at: usize) -> Meaning {
        let field = name.to_owned();
        if let Self::Calendar { part } = self {
            return Meaning::Calendar { field, part: *part, value: at };
        }
        let Some(at) = at.checked_sub(1) else { return Meaning::Missing { field } };
        let ends = |edges: &[f64], scale: fn(f64) -> f64| {
            let from = at.checked_sub(1).and_then(|below| edges.get(below)).map(|edge| scale(*edge));
            (from, edges.get(at).map(|edge| scale(*edge)))
        };
        match self {
            Self::Category { levels } => Meaning::Category { field, value: levels[at].clone() },
            Self::Number { edges, .. } if at > edges.len() => {
                Meaning::Sign { field, negative: at - edges.len() - 1 == 1 }
            }
            Self::Number { edges, .. } => {
                let (from, to) = ends(edges, |edge| edge);
                Meaning::Size { field, from, to }
            }
            Self::Gap { edges } => {
                let (from, to) = ends(edges, |edge| edge.exp() - 1.0);
                Meaning::Gap { field, from, to }
            }
            Self::Calendar { part } => Meaning::Calendar { field, part: *part, value: at },
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::tabular::{Column, History, Table};

    use super::*;
    use crate::EventSpec;

    #[test]
    fn every_token_of_a_history_says_what_the_event_was() {
        let spec: EventSpec = serde_json::from_str(
            r#"{"fields":[
                {"name":"kind","kind":{"category":{"max_levels":5}}},
                {"name":"delay","kind":{"number":{"bins":4}}},
                {"name":"hour","kind":{"calendar":{"part":"hour"}}},
                {"name":"gap","kind":{"gap":{"bins":3}}}
            ]}"#,
        )
        .unwrap();
        let kinds = Column::from_text([Some("A"), Some("B"), None, Some("A")]);
        let delays = Column::Number(vec![-5.0, 20.0, f64::NAN, 3.0]);
        let fields = Table::new(4, vec![("kind".into(), kinds), ("delay".into(), delays)]).unwrap();
        let hour = 3_600_000_000;
        let history = History { offsets: vec![0, 4], times: vec![0, hour, 3 * hour, 9 * hour], fields };
        let tokenizer = EventTokenizer::fit(&spec, &history).unwrap();
        let tokens = tokenizer.encode(&history, 0, 10 * hour, 64).unwrap();
        let said: Vec<Meaning> = tokens.iter().map(|token| tokenizer.meaning(*token).unwrap()).collect();
        assert_eq!(said[0], Meaning::Special { name: "bos" });
        assert_eq!(said[1], Meaning::Category { field: "kind".into(), value: "A".into() });
        assert_eq!(said[2], Meaning::Sign { field: "delay".into(), negative: true });
        let Meaning::Size { from, to, .. } = &said[3] else { panic!("{said:?}") };
        assert!(from.is_none_or(|from| from <= 5.0) && to.is_none_or(|to| 5.0 < to), "{said:?}");
        assert_eq!(said[4], Meaning::Calendar { field: "hour".into(), part: CalendarPart::Hour, value: 0 });
        assert_eq!(said[5], Meaning::Missing { field: "gap".into() });
        let Meaning::Gap { from, to, .. } = &said[10] else { panic!("{said:?}") };
        assert!(from.is_none_or(|from| from <= 3_600.1) && to.is_none_or(|to| 3_600.0 < to), "{said:?}");
        assert_eq!(said[12], Meaning::Missing { field: "delay".into() });
        let Meaning::End { minutes: Some(minutes) } = said.last().unwrap() else { panic!("{said:?}") };
        assert!((40.0..=60.0).contains(minutes), "{minutes}");
        assert_eq!((tokenizer.field(tokens[2]), tokenizer.field(tokens[5])), (Some(1), Some(3)));
        assert_eq!((tokenizer.field(tokens[0]), tokenizer.field(*tokens.last().unwrap())), (None, None));
        assert!(tokenizer.ends().contains(tokens.last().unwrap()));
        assert_eq!(tokenizer.meaning(tokenizer.vocabulary_size() as u32), None);
    }
}
