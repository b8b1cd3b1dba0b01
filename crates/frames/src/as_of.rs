//! The as-of join: for each question the latest row that had happened and was known.
//!
//! Among the rows of the key with `event_time ≤ cutoff` (or `<`) and `known_time ≤ as_of`, the greatest (`event_time`,
//! `known_time`, seq) is taken; then its age is compared with `max_age`. Rows out = questions in, in their order.

use rayon::prelude::*;

use crate::groups::{Groups, Question};

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(i8)]
pub enum Status {
    /// A row was found, with a value that is not null.
    Present = 0,
    /// The latest row was older than `max_age`.
    Expired = 1,
    /// Nothing was known of the key.
    NotFound = 2,
    /// The key had been deleted.
    Deleted = 3,
    /// A row was found, and all that was asked of it is null.
    Null = 4,
}

impl Status {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Present, Self::Expired, Self::NotFound, Self::Deleted, Self::Null];

    /// The status as it is written in files and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Present => "PRESENT",
            Self::Expired => "EXPIRED",
            Self::NotFound => "NOT_FOUND",
            Self::Deleted => "DELETED",
            Self::Null => "NULL",
        }
    }
}

/// What an as-of join takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rule {
    /// Leave out rows that happened exactly at the cutoff.
    pub exclusive: bool,
    /// The oldest that a value may be, in microseconds.
    pub max_age: Option<i64>,
}

/// The answer to one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What became of it.
    pub status: Status,
    /// The row, if [`Status::Present`].
    pub row: Option<u32>,
    /// When that row was learned; for the leak audit.
    pub known_time: Option<i64>,
}

const NOTHING: Answer = Answer { status: Status::NotFound, row: None, known_time: None };

/// Answers all questions, in their order.
pub fn latest(groups: &Groups<'_>, questions: &[Question<'_>], rule: Rule) -> Vec<Answer> {
    questions.par_iter().with_min_len(1024).map(|question| answer(groups, question, rule)).collect()
}

fn answer(groups: &Groups<'_>, question: &Question<'_>, rule: Rule) -> Answer {
    let happened = groups.happened(question, rule.exclusive);
    let Some(position) = happened.rev().find(|&position| groups.known(position, question)) else {
        return NOTHING;
    };
    if groups.is_tombstone(position) {
        return Answer { status: Status::Deleted, ..NOTHING };
    }
    let age = question.cutoff.saturating_sub(groups.event_time(position));
    if rule.max_age.is_some_and(|oldest| age > oldest) {
        return Answer { status: Status::Expired, ..NOTHING };
    }
    Answer {
        status: Status::Present,
        row: Some(groups.row(position) as u32),
        known_time: Some(groups.known_time(position)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::{Frame, Values};
    use crate::groups::Moments;
    use crate::keys::Keys;

    #[derive(Clone, Debug)]
    struct Row {
        key: u8,
        event: i64,
        known: i64,
        op: bool,
    }

    fn keys_of(keys: impl Iterator<Item = u8>) -> Keys {
        let values: Vec<i64> = keys.map(i64::from).collect();
        Keys::of(&Frame::new(values.len(), vec![("k".into(), Values::Integer(values))]), &["k"]).unwrap()
    }

    /// The definition, read row by row.
    fn oracle(rows: &[Row], key: u8, cutoff: i64, as_of: i64, rule: Rule) -> (Status, Option<u32>) {
        let seen = rows.iter().enumerate().filter(|(_, row)| {
            row.key == key
                && row.known <= as_of
                && (row.event < cutoff || (row.event == cutoff && !rule.exclusive))
        });
        match seen.max_by_key(|(position, row)| (row.event, row.known, *position)) {
            None => (Status::NotFound, None),
            Some((_, row)) if row.op => (Status::Deleted, None),
            Some((_, row)) if rule.max_age.is_some_and(|oldest| cutoff - row.event > oldest) => {
                (Status::Expired, None)
            }
            Some((position, _)) => (Status::Present, Some(position as u32)),
        }
    }

    fn row() -> impl Strategy<Value = Row> {
        (0u8..3, 0i64..20, 0i64..30, prop::bool::weighted(0.1)).prop_map(|(key, event, known, op)| Row {
            key,
            event,
            known,
            op,
        })
    }

    proptest! {
        #[test]
        fn the_kernel_agrees_with_the_definition(
            rows in prop::collection::vec(row(), 0..40),
            asked in prop::collection::vec((0u8..4, 0i64..25, 0i64..35), 0..20),
            exclusive: bool,
            max_age in prop::option::of(0i64..10),
        ) {
            let keys = keys_of(rows.iter().map(|row| row.key));
            let (event_time, known_time): (Vec<i64>, Vec<i64>) = rows.iter().map(|row| (row.event, row.known)).unzip();
            let op: Vec<bool> = rows.iter().map(|row| row.op).collect();
            let seq: Vec<i64> = (0..rows.len() as i64).collect();
            let moments = Moments { event_time: &event_time, known_time: &known_time, seq: &seq, op: &op };
            let groups = Groups::new(&keys, moments);
            let asked_keys = keys_of(asked.iter().map(|(key, ..)| *key));
            let questions: Vec<Question<'_>> = asked.iter().enumerate()
                .map(|(row, (_, cutoff, as_of))| Question { key: asked_keys.get(row), cutoff: *cutoff, as_of: *as_of })
                .collect();
            let rule = Rule { exclusive, max_age };
            let answers = latest(&groups, &questions, rule);
            prop_assert_eq!(answers.len(), asked.len());
            for (answer, (key, cutoff, as_of)) in answers.iter().zip(&asked) {
                prop_assert_eq!((answer.status, answer.row), oracle(&rows, *key, *cutoff, *as_of, rule));
            }
        }
    }
}
