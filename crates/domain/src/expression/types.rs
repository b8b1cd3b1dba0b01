//! Which type an expression has, or why it has none.

use super::{Binary, Expression, ExpressionError, Function, Unary};
use crate::definitions::ValueType;
use crate::words::did_you_mean;

/// The type of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A number.
    Number,
    /// A text.
    Text,
    /// An instant.
    Time,
    /// A span between instants; no column holds one.
    Duration,
    /// True or false.
    Boolean,
    /// A vector, which can only be passed on.
    Vector,
}

impl From<ValueType> for Type {
    fn from(column: ValueType) -> Self {
        match column {
            ValueType::Number
            | ValueType::Integer
            | ValueType::Float32
            | ValueType::Int32
            | ValueType::Decimal { .. } => Self::Number,
            ValueType::Vector(_) => Self::Vector,
            ValueType::Text => Self::Text,
            ValueType::Time => Self::Time,
            ValueType::Boolean => Self::Boolean,
        }
    }
}

impl Type {
    fn shown(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Time => "a time",
            Self::Duration => "a duration",
            Self::Boolean => "a boolean",
            Self::Vector => "a vector",
        }
    }
}

/// The type of `expression` (written as `text`) over `columns`.
///
/// # Errors
/// [`ExpressionError`] names the part that does not fit.
pub fn type_of(
    text: &str,
    expression: &Expression,
    columns: &[(String, ValueType)],
) -> Result<Type, ExpressionError> {
    check(expression, columns).map_err(|message| ExpressionError { text: text.to_owned(), message })
}

fn check(expression: &Expression, columns: &[(String, ValueType)]) -> Result<Type, String> {
    match expression {
        Expression::Number(_) => Ok(Type::Number),
        Expression::Text(_) => Ok(Type::Text),
        Expression::Boolean(_) => Ok(Type::Boolean),
        Expression::Column(name) => column(name, columns),
        Expression::Unary(operator, operand) => unary(*operator, check(operand, columns)?),
        Expression::Binary(operator, left, right) => {
            binary(*operator, check(left, columns)?, check(right, columns)?)
        }
        Expression::Call(Function::Time, arguments) => instant(arguments),
        Expression::Call(function, arguments) => {
            let types =
                arguments.iter().map(|argument| check(argument, columns)).collect::<Result<Vec<_>, _>>()?;
            call(*function, &types)
        }
    }
}

fn column(name: &str, columns: &[(String, ValueType)]) -> Result<Type, String> {
    let found = columns.iter().find(|(known, _)| known == name);
    let names = columns.iter().map(|(name, _)| name.as_str());
    found
        .map(|(_, column)| (*column).into())
        .ok_or_else(|| format!("there is no column `{name}`{}", did_you_mean(name, names)))
}

fn instant(arguments: &[Expression]) -> Result<Type, String> {
    match arguments {
        [Expression::Text(text)] if text.parse::<chrono::DateTime<chrono::Utc>>().is_ok() => Ok(Type::Time),
        _ => Err("`time` takes one constant, such as time(\"2013-01-01T00:00:00Z\")".to_owned()),
    }
}

fn unary(operator: Unary, operand: Type) -> Result<Type, String> {
    match (operator, operand) {
        (Unary::Not, Type::Boolean) => Ok(Type::Boolean),
        (Unary::Not, other) => Err(format!("`not` takes a boolean, not {}", other.shown())),
        (Unary::Minus, Type::Number | Type::Duration) => Ok(operand),
        (Unary::Minus, other) => Err(format!("`-` takes a number or a duration, not {}", other.shown())),
    }
}

fn binary(operator: Binary, left: Type, right: Type) -> Result<Type, String> {
    use Binary::{Add, And, Divide, Multiply, Or, Subtract};
    use Type::{Boolean, Duration, Number, Time};
    let misfit = || format!("{} and {} cannot be combined like this", left.shown(), right.shown());
    match (operator, left, right) {
        (Add | Subtract | Multiply | Divide, Number, Number) => Ok(Number),
        (Add | Subtract, Duration, Duration) => Ok(Duration),
        (Add | Subtract, Time, Duration) => Ok(Time),
        (And | Or, Boolean, Boolean) => Ok(Boolean),
        (Add | Subtract | Multiply | Divide | And | Or, _, _) => Err(misfit()),
        (_, left, right) if left == right => Ok(Boolean), // the comparisons
        _ => Err(misfit()),
    }
}

fn call(function: Function, types: &[Type]) -> Result<Type, String> {
    use Type::{Boolean, Duration, Number, Text, Time};
    let misfit = |usage: &str| {
        let given: Vec<_> = types.iter().map(|given| given.shown()).collect();
        format!("`{}` is used as {usage}, not with ({})", function.name(), given.join(", "))
    };
    match (function, types) {
        (Function::IsNull, [_]) => Ok(Boolean),
        (Function::IsNull, _) => Err(misfit("is_null(x)")),
        (Function::Coalesce, [first, rest @ ..]) if rest.iter().all(|other| other == first) => Ok(*first),
        (Function::Coalesce, _) => Err(misfit("coalesce(x, y, …) with one type")),
        (Function::If, [Boolean, yes, no]) if yes == no => Ok(*yes),
        (Function::If, _) => Err(misfit("if(condition, x, y) with x and y of one type")),
        (Function::Clip, [Number, Number, Number]) | (Function::Abs, [Number]) => Ok(Number),
        (Function::Clip, _) => Err(misfit("clip(x, low, high)")),
        (Function::Abs, _) => Err(misfit("abs(x)")),
        (Function::Concat, [_, ..]) if types.iter().all(|part| matches!(part, Text | Number)) => Ok(Text),
        (Function::Concat, _) => Err(misfit("concat(x, y, …) of texts and numbers")),
        (Function::Number, [Boolean]) => Ok(Number),
        (Function::Number, _) => Err(misfit("number(condition)")),
        (Function::Seconds | Function::Minutes | Function::Hours | Function::Days, [Number]) => Ok(Duration),
        (Function::Seconds | Function::Minutes | Function::Hours | Function::Days, _) => {
            Err(misfit("f(number)"))
        }
        (Function::MinutesBetween, [Time, Time]) => Ok(Number),
        (Function::MinutesBetween, _) => Err(misfit("minutes_between(later, earlier)")),
        (Function::MinuteOfDay | Function::Weekday | Function::Month | Function::Year, [Time, Text]) => {
            Ok(Number)
        }
        (Function::MinuteOfDay | Function::Weekday | Function::Month | Function::Year, _) => {
            Err(misfit("f(time, \"America/New_York\")"))
        }
        (Function::Time, _) => Err(misfit("time(\"2013-01-01T00:00:00Z\")")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Result<Type, String> {
        let columns = [("t".to_owned(), ValueType::Time), ("delay".to_owned(), ValueType::Integer)];
        let expression: Expression = text.parse().map_err(|error: ExpressionError| error.message)?;
        type_of(text, &expression, &columns).map_err(|error| error.message)
    }

    #[test]
    fn a_time_minus_a_duration_is_a_time() {
        assert_eq!(typed("t - hours(2)"), Ok(Type::Time));
        assert_eq!(typed("delay > 15"), Ok(Type::Boolean));
        assert_eq!(typed("if(is_null(delay), 0, delay) / 2"), Ok(Type::Number));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        assert!(typed("t + 2").unwrap_err().contains("a time and a number"));
        assert!(typed("delai").unwrap_err().contains("did you mean `delay`?"));
        assert!(typed("clip(delay, 1)").unwrap_err().contains("clip(x, low, high)"));
    }
}
