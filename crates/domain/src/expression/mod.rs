//! A small typed language over columns: `clip(dep_delay, -30, 240)`, `arr_delay > 15`, `event_time - hours(2)`.
//!
//! An expression has no loops, no assignment and no effect; it is parsed and typed here and evaluated column by column in
//! `frames`, by the same code offline and online. Null in gives null out, except in `is_null`, `coalesce` and `if`.
//! Integers are numbers here.

mod bounds;
mod parse;
mod types;

pub use bounds::{Bound, Constant};
pub use types::{Type, type_of};

use crate::{Fault, Remedy};

/// A parsed expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// `true` or `false`.
    Boolean(bool),
    /// A column by name; `view__feature` names a joined feature.
    Column(String),
    /// `not x` or `-x`.
    Unary(Unary, Box<Expression>),
    /// `x + y` and the like.
    Binary(Binary, Box<Expression>, Box<Expression>),
    /// A call of a built-in function.
    Call(Function, Vec<Expression>),
}

/// Operators of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// Logical negation.
    Not,
    /// Arithmetic negation.
    Minus,
}

/// Operators of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `+`, also time + duration.
    Add,
    /// `-`, also time − duration.
    Subtract,
    /// `*`
    Multiply,
    /// `/`; division by zero gives null.
    Divide,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `and`
    And,
    /// `or`
    Or,
}

/// Built-in functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `is_null(x)`: whether x is missing.
    IsNull,
    /// `coalesce(x, y, …)`: the first that is not missing.
    Coalesce,
    /// `if(c, x, y)`: x where c is true, y elsewhere (also where c is missing).
    If,
    /// `clip(x, low, high)`.
    Clip,
    /// `abs(x)`.
    Abs,
    /// `concat(x, y, …)`: texts and numbers joined without a separator.
    Concat,
    /// `number(b)`: 1 for true, 0 for false.
    Number,
    /// `seconds(x)`: a duration.
    Seconds,
    /// `minutes(x)`: a duration.
    Minutes,
    /// `hours(x)`: a duration.
    Hours,
    /// `days(x)`: a duration.
    Days,
    /// `minutes_between(later, earlier)`: a number.
    MinutesBetween,
    /// `minute_of_day(t, zone)`: 0–1439.
    MinuteOfDay,
    /// `weekday(t, zone)`: 0 is Monday.
    Weekday,
    /// `month(t, zone)`: 1–12.
    Month,
    /// `year(t, zone)`.
    Year,
    /// `time("2013-01-01T00:00:00Z")`: a constant instant.
    Time,
}

impl Function {
    /// All functions with their names.
    pub const NAMES: &'static [(&'static str, Self)] = &[
        ("is_null", Self::IsNull),
        ("coalesce", Self::Coalesce),
        ("if", Self::If),
        ("clip", Self::Clip),
        ("abs", Self::Abs),
        ("concat", Self::Concat),
        ("number", Self::Number),
        ("seconds", Self::Seconds),
        ("minutes", Self::Minutes),
        ("hours", Self::Hours),
        ("days", Self::Days),
        ("minutes_between", Self::MinutesBetween),
        ("minute_of_day", Self::MinuteOfDay),
        ("weekday", Self::Weekday),
        ("month", Self::Month),
        ("year", Self::Year),
        ("time", Self::Time),
    ];

    /// The name it is called by.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, function)| *function == self).map_or("?", |(name, _)| name)
    }
}

/// An expression cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("in `{text}`: {message}")]
pub struct ExpressionError {
    /// The expression.
    pub text: String,
    /// What is wrong with it.
    pub message: String,
}

impl Fault for ExpressionError {
    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }
    fn code(&self) -> &'static str {
        "invalid-expression"
    }
}

impl std::str::FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        parse::parse(text).map_err(|message| ExpressionError { text: text.to_owned(), message })
    }
}

impl Expression {
    /// The names of the columns it reads, without repetition, in order of first use.
    pub fn columns(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.visit(&mut |expression| {
            if let Self::Column(name) = expression
                && !names.contains(&name.as_str())
            {
                names.push(name.as_str());
            }
        });
        names
    }

    fn visit<'a>(&'a self, look: &mut impl FnMut(&'a Self)) {
        look(self);
        match self {
            Self::Unary(_, operand) => operand.visit(look),
            Self::Binary(_, left, right) => {
                left.visit(look);
                right.visit(look);
            }
            Self::Call(_, arguments) => arguments.iter().for_each(|argument| argument.visit(look)),
            Self::Number(_) | Self::Text(_) | Self::Boolean(_) | Self::Column(_) => {}
        }
    }
}
