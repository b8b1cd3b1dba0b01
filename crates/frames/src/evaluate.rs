//! Evaluating expressions over a frame, column by column. The same code serves offline and online.

use chrono::{DateTime, Datelike, Timelike, Utc};
use chrono_tz::Tz;
use domain::expression::{Binary, Expression, ExpressionError, Function, Unary, type_of};

use crate::Error;
use crate::frame::{Frame, NO_INTEGER, Values};

/// The value of `text` for every row of `frame`.
///
/// # Errors
/// [`Error::Expression`] if it does not parse, or does not fit the frame's columns.
pub fn evaluate(text: &str, frame: &Frame) -> Result<Values, Error> {
    let expression: Expression = text.parse()?;
    type_of(text, &expression, &frame.schema())?;
    let refused = |message: String| Error::Expression(ExpressionError { text: text.to_owned(), message });
    match value(&expression, frame).map_err(refused)? {
        Column::Duration(_) => Err(refused("a duration cannot be a column".to_owned())),
        Column::Values(values) => Ok(values),
    }
}

/// The rows for which `text` is true.
///
/// # Errors
/// [`Error::Expression`] if it does not parse, does not fit, or is no condition.
pub fn filter(text: &str, frame: &Frame) -> Result<Frame, Error> {
    match evaluate(text, frame)? {
        Values::Boolean(keep) => Ok(frame.filter(|row| keep[row] == Some(true))),
        other => Err(Error::Expression(ExpressionError {
            text: text.to_owned(),
            message: format!("it is a {}, where a condition is needed", other.kind()),
        })),
    }
}

/// A column in the middle of an evaluation; durations are microseconds, NaN is null.
enum Column {
    Values(Values),
    Duration(Vec<f64>),
}

fn value(expression: &Expression, frame: &Frame) -> Result<Column, String> {
    let rows = frame.rows();
    Ok(match expression {
        Expression::Number(number) => Column::Values(Values::Number(vec![*number; rows])),
        Expression::Text(text) => Column::Values(Values::Text(vec![0; rows], [text.clone()].into())),
        Expression::Boolean(truth) => Column::Values(Values::Boolean(vec![Some(*truth); rows])),
        Expression::Column(name) => {
            Column::Values(as_number(frame.column(name).map_err(|e| e.to_string())?.clone()))
        }
        Expression::Unary(operator, operand) => unary(*operator, value(operand, frame)?),
        Expression::Binary(operator, left, right) => {
            binary(*operator, &value(left, frame)?, &value(right, frame)?)?
        }
        Expression::Call(function, arguments) => call(*function, arguments, frame)?,
    })
}

/// Integers are numbers in expressions, and so are narrow and exact ones: decimals as near as 64 bits come.
fn as_number(values: Values) -> Values {
    match values {
        Values::Exact(exact) => match exact.numbers() {
            Some(numbers) => Values::Number(numbers),
            None => Values::Exact(exact),
        },
        Values::Integer(values) => Values::Number(
            values.iter().map(|value| if *value == NO_INTEGER { f64::NAN } else { *value as f64 }).collect(),
        ),
        other => other,
    }
}

fn unary(operator: Unary, operand: Column) -> Column {
    match (operator, operand) {
        (Unary::Not, Column::Values(Values::Boolean(values))) => Column::Values(Values::Boolean(
            values.into_iter().map(|value| value.map(|truth| !truth)).collect(),
        )),
        (Unary::Minus, Column::Values(Values::Number(values))) => {
            Column::Values(Values::Number(values.into_iter().map(|value| -value).collect()))
        }
        (Unary::Minus, Column::Duration(spans)) => {
            Column::Duration(spans.into_iter().map(|span| -span).collect())
        }
        (_, operand) => operand, // the types were checked before
    }
}

fn binary(operator: Binary, left: &Column, right: &Column) -> Result<Column, String> {
    use Values::{Boolean, Number, Text, Time};
    Ok(match (left, right) {
        (Column::Values(Number(a)), Column::Values(Number(b))) => numbers(operator, a, b),
        (Column::Duration(a), Column::Duration(b)) => match numbers(operator, a, b) {
            Column::Values(Number(spans)) => Column::Duration(spans),
            compared => compared,
        },
        (Column::Values(Time(a)), Column::Duration(b)) => {
            let sign = if operator == Binary::Subtract { -1.0 } else { 1.0 };
            let moved = a.iter().zip(b).map(|(time, span)| shift(*time, sign * span)).collect();
            Column::Values(Time(moved))
        }
        (Column::Values(Time(a)), Column::Values(Time(b))) => {
            let compared = a
                .iter()
                .zip(b)
                .map(|(a, b)| (*a != NO_INTEGER && *b != NO_INTEGER).then(|| holds(operator, a.cmp(b))));
            Column::Values(Boolean(compared.collect()))
        }
        (Column::Values(Boolean(a)), Column::Values(Boolean(b))) => {
            Column::Values(Boolean(a.iter().zip(b).map(|(a, b)| logic(operator, *a, *b)).collect()))
        }
        (Column::Values(a @ Text(..)), Column::Values(b @ Text(..))) => {
            let compared =
                (0..a.len()).map(|row| Some(holds(operator, a.text_at(row)?.cmp(b.text_at(row)?))));
            Column::Values(Boolean(compared.collect()))
        }
        _ => return Err("the operands do not fit together".to_owned()),
    })
}

fn shift(time: i64, span: f64) -> i64 {
    if time == NO_INTEGER || span.is_nan() { NO_INTEGER } else { time.saturating_add(span.round() as i64) }
}

fn numbers(operator: Binary, a: &[f64], b: &[f64]) -> Column {
    let each = |combine: fn(f64, f64) -> f64| {
        Column::Values(Values::Number(a.iter().zip(b).map(|(a, b)| combine(*a, *b)).collect()))
    };
    match operator {
        Binary::Add => each(|a, b| a + b),
        Binary::Subtract => each(|a, b| a - b),
        Binary::Multiply => each(|a, b| a * b),
        Binary::Divide => each(|a, b| if b == 0.0 { f64::NAN } else { a / b }),
        _ => {
            let compared = a.iter().zip(b).map(|(a, b)| a.partial_cmp(b).map(|order| holds(operator, order)));
            Column::Values(Values::Boolean(compared.collect()))
        }
    }
}

fn holds(operator: Binary, order: std::cmp::Ordering) -> bool {
    match operator {
        Binary::Equal => order.is_eq(),
        Binary::NotEqual => order.is_ne(),
        Binary::Less => order.is_lt(),
        Binary::LessOrEqual => order.is_le(),
        Binary::Greater => order.is_gt(),
        Binary::GreaterOrEqual => order.is_ge(),
        Binary::Add | Binary::Subtract | Binary::Multiply | Binary::Divide | Binary::And | Binary::Or => {
            false
        }
    }
}

/// Three-valued logic: `false and null` is false, `true or null` is true, other combinations with null are null.
fn logic(operator: Binary, a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (operator, a, b) {
        (Binary::And, Some(false), _) | (Binary::And, _, Some(false)) => Some(false),
        (Binary::Or, Some(true), _) | (Binary::Or, _, Some(true)) => Some(true),
        (Binary::And, Some(a), Some(b)) => Some(a && b),
        (Binary::Or, Some(a), Some(b)) => Some(a || b),
        (operator, Some(a), Some(b)) => Some(holds(operator, a.cmp(&b))),
        _ => None,
    }
}

fn call(function: Function, arguments: &[Expression], frame: &Frame) -> Result<Column, String> {
    if function == Function::Time {
        let Some(Expression::Text(text)) = arguments.first() else {
            return Err("`time` takes a text".to_owned());
        };
        let instant: DateTime<Utc> = text.parse().map_err(|_| format!("`{text}` is no time"))?;
        return Ok(Column::Values(Values::Time(vec![instant.timestamp_micros(); frame.rows()])));
    }
    let columns = arguments.iter().map(|argument| value(argument, frame)).collect::<Result<Vec<_>, _>>()?;
    let values = columns
        .into_iter()
        .map(|column| match column {
            Column::Values(values) => Ok(values),
            Column::Duration(_) => Err(format!("`{}` takes no durations", function.name())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    apply(function, &values, frame.rows())
}

fn apply(function: Function, values: &[Values], rows: usize) -> Result<Column, String> {
    use Values::{Boolean, Number, Text, Time};
    let span = |factor: f64| match &values[0] {
        Number(values) => Column::Duration(values.iter().map(|value| value * factor * 1e6).collect()),
        _ => Column::Duration(vec![f64::NAN; rows]),
    };
    Ok(match (function, values) {
        (Function::Seconds, _) => span(1.0),
        (Function::Minutes, _) => span(60.0),
        (Function::Hours, _) => span(3_600.0),
        (Function::Days, _) => span(86_400.0),
        (Function::IsNull, [x]) => {
            Column::Values(Boolean((0..rows).map(|row| Some(x.is_null(row))).collect()))
        }
        (Function::Coalesce, _) => Column::Values(pick(values, rows, |row| {
            values.iter().position(|column| !column.is_null(row)).unwrap_or(0)
        })),
        (Function::If, [Boolean(condition), yes, no]) => {
            let branches = [yes.clone(), no.clone()];
            Column::Values(pick(&branches, rows, |row| usize::from(condition[row] != Some(true))))
        }
        (Function::Clip, [Number(x), Number(low), Number(high)]) => {
            let clipped = x.iter().zip(low.iter().zip(high)).map(|(x, (low, high))| {
                if x.is_nan() || low.is_nan() || high.is_nan() { f64::NAN } else { x.max(*low).min(*high) }
            });
            Column::Values(Number(clipped.collect()))
        }
        (Function::Abs, [Number(x)]) => Column::Values(Number(x.iter().map(|x| x.abs()).collect())),
        (Function::Number, [Boolean(x)]) => {
            let number = |truth: &Option<bool>| truth.map_or(f64::NAN, |truth| f64::from(u8::from(truth)));
            Column::Values(Number(x.iter().map(number).collect()))
        }
        (Function::Concat, _) => Column::Values(Values::text((0..rows).map(|row| concat(values, row)))),
        (Function::MinutesBetween, [Time(later), Time(earlier)]) => {
            let minutes = later.iter().zip(earlier).map(|(later, earlier)| {
                let known = *later != NO_INTEGER && *earlier != NO_INTEGER;
                if known { (later - earlier) as f64 / 60e6 } else { f64::NAN }
            });
            Column::Values(Number(minutes.collect()))
        }
        (
            Function::MinuteOfDay | Function::Weekday | Function::Month | Function::Year,
            [Time(times), zone @ Text(..)],
        ) => calendar(function, times, zone.text_at(0).unwrap_or("UTC"))?,
        _ => return Err(format!("`{}` does not take these", function.name())),
    })
}

fn pick(columns: &[Values], rows: usize, choose: impl Fn(usize) -> usize) -> Values {
    let mut stacked = columns[0].clone();
    for column in &columns[1..] {
        stacked.append(column);
    }
    let indices: Vec<u32> = (0..rows).map(|row| (choose(row) * rows + row) as u32).collect();
    stacked.take(&indices)
}

fn concat(values: &[Values], row: usize) -> Option<String> {
    let mut joined = String::new();
    for column in values {
        match column {
            Values::Number(numbers) if !numbers[row].is_nan() => joined.push_str(&numbers[row].to_string()),
            other => joined.push_str(other.text_at(row)?),
        }
    }
    Some(joined)
}

fn calendar(function: Function, times: &[i64], zone: &str) -> Result<Column, String> {
    let zone: Tz =
        zone.parse().map_err(|_| format!("`{zone}` is no time zone; write one like `America/New_York`"))?;
    let part = |time: &i64| {
        let Some(instant) = DateTime::from_timestamp_micros(*time).filter(|_| *time != NO_INTEGER) else {
            return f64::NAN;
        };
        let local = instant.with_timezone(&zone);
        match function {
            Function::MinuteOfDay => f64::from(local.hour() * 60 + local.minute()),
            Function::Weekday => f64::from(local.weekday().num_days_from_monday()),
            Function::Month => f64::from(local.month()),
            _ => f64::from(local.year()),
        }
    };
    Ok(Column::Values(Values::Number(times.iter().map(part).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        let time = "2013-07-01T10:00:00Z".parse::<DateTime<Utc>>().unwrap().timestamp_micros();
        Frame::new(
            3,
            vec![
                ("delay".into(), Values::Integer(vec![20, 5, NO_INTEGER])),
                ("t".into(), Values::Time(vec![time, time, NO_INTEGER])),
                ("carrier".into(), Values::text([Some("UA"), Some("AA"), None])),
            ],
        )
    }

    #[test]
    fn null_in_gives_null_out_except_where_it_is_asked_for() {
        assert_eq!(
            evaluate("delay > 15", &frame()).unwrap(),
            Values::Boolean(vec![Some(true), Some(false), None])
        );
        assert_eq!(evaluate("coalesce(delay, -1)", &frame()).unwrap(), Values::Number(vec![20.0, 5.0, -1.0]));
        let chosen = evaluate("if(delay > 15, \"late\", \"fine\")", &frame()).unwrap();
        assert_eq!((chosen.text_at(0), chosen.text_at(2)), (Some("late"), Some("fine")));
    }

    #[test]
    fn the_calendar_follows_the_zone_and_its_summer_time() {
        let minutes = evaluate("minute_of_day(t, \"America/New_York\")", &frame()).unwrap();
        assert!(matches!(&minutes, Values::Number(m) if m[0] == 360.0 && m[2].is_nan()));
        let new_year =
            evaluate("year(time(\"2014-01-01T04:59:00Z\"), \"America/New_York\")", &frame()).unwrap();
        assert!(matches!(&new_year, Values::Number(years) if years[0] == 2013.0));
    }

    #[test]
    fn times_move_by_durations() {
        let moved = evaluate("minutes_between(t + minutes(delay), t)", &frame()).unwrap();
        assert!(matches!(&moved, Values::Number(m) if m[..2] == [20.0, 5.0] && m[2].is_nan()));
    }

    #[test]
    fn filtering_keeps_what_is_true_and_drops_what_is_unknown() {
        assert_eq!(filter("delay > 15 or carrier == \"AA\"", &frame()).unwrap().rows(), 2);
    }

    #[test]
    fn division_by_zero_gives_null() {
        assert!(evaluate("delay / 0", &frame()).unwrap().is_null(0));
    }
}
