//! What a condition says of single columns, so that whoever stores rows by ranges need not look at all of them.

use chrono::{DateTime, Utc};

use super::{Binary, Expression, Function, Unary};

/// A comparison of a column with a constant, which every row fulfils for which its condition is true.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// The column.
    pub column: String,
    /// `==`, `<`, `<=`, `>` or `>=`, with the column on the left.
    pub operator: Binary,
    /// What it is compared with.
    pub constant: Constant,
}

/// The constant of a [`Bound`].
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// Microseconds since 1970, UTC.
    Time(i64),
}

impl Expression {
    /// The bounds that hold wherever this condition does: those that `and` joins. A condition of another form has none.
    pub fn bounds(&self) -> Vec<Bound> {
        match self {
            Self::Binary(Binary::And, left, right) => [left.bounds(), right.bounds()].concat(),
            Self::Binary(operator, left, right) => match (&**left, &**right) {
                (Self::Column(name), constant) => bound(name, *operator, constant),
                (constant, Self::Column(name)) => mirrored(*operator).and_then(|o| bound(name, o, constant)),
                _ => None,
            }
            .into_iter()
            .collect(),
            _ => vec![],
        }
    }

    fn constant(&self) -> Option<Constant> {
        match self {
            Self::Number(number) => Some(Constant::Number(*number)),
            Self::Text(text) => Some(Constant::Text(text.clone())),
            Self::Unary(Unary::Minus, operand) => match operand.constant()? {
                Constant::Number(number) => Some(Constant::Number(-number)),
                _ => None,
            },
            Self::Call(Function::Time, arguments) => match arguments.as_slice() {
                [Self::Text(text)] => {
                    Some(Constant::Time(text.parse::<DateTime<Utc>>().ok()?.timestamp_micros()))
                }
                _ => None,
            },
            _ => None,
        }
    }
}

fn bound(column: &str, operator: Binary, constant: &Expression) -> Option<Bound> {
    use Binary::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
    let compares = matches!(operator, Equal | Less | LessOrEqual | Greater | GreaterOrEqual);
    compares.then(|| Some(Bound { column: column.to_owned(), operator, constant: constant.constant()? }))?
}

/// The operator with its sides exchanged.
fn mirrored(operator: Binary) -> Option<Binary> {
    match operator {
        Binary::Equal => Some(Binary::Equal),
        Binary::Less => Some(Binary::Greater),
        Binary::LessOrEqual => Some(Binary::GreaterOrEqual),
        Binary::Greater => Some(Binary::Less),
        Binary::GreaterOrEqual => Some(Binary::LessOrEqual),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(text: &str) -> Vec<(String, Binary, Constant)> {
        let expression: Expression = text.parse().unwrap();
        expression.bounds().into_iter().map(|bound| (bound.column, bound.operator, bound.constant)).collect()
    }

    #[test]
    fn a_conjunction_gives_a_bound_for_each_comparison_with_a_constant() {
        let found = bounds("delay > -5 and carrier == \"UA\" and time(\"1970-01-01T00:00:01Z\") <= at");
        let expected = [
            ("delay".to_owned(), Binary::Greater, Constant::Number(-5.0)),
            ("carrier".to_owned(), Binary::Equal, Constant::Text("UA".to_owned())),
            ("at".to_owned(), Binary::GreaterOrEqual, Constant::Time(1_000_000)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_may_hold_outside_of_a_range_gives_no_bound() {
        for text in ["a > 1 or b > 1", "not (a > 1)", "a != 1", "a > b", "a + 1 > 2", "is_null(a)"] {
            assert_eq!(bounds(text), [], "{text}");
        }
        assert_eq!(bounds("a > 1 and (b > 1 or c > 1)").len(), 1);
    }
}
