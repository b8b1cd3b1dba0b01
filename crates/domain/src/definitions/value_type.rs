//! The types of columns, and how they are written: `number`, `decimal(38,9)`, `vector(768)`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::words::did_you_mean;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValueType {
    /// 64-bit float.
    Number,
    /// 64-bit integer.
    Integer,
    /// UTF-8.
    Text,
    /// An instant in UTC, microseconds.
    Time,
    /// True or false.
    Boolean,
    /// 32-bit float; it is not widened on its way.
    Float32,
    /// 32-bit integer.
    Int32,
    /// A decimal number, exact.
    Decimal {
        /// Its digits, 38 at most.
        precision: u8,
        /// Those behind the point.
        scale: u8,
    },
    /// So many 32-bit floats: an embedding.
    Vector(u16),
}

/// How the types without parameters are written.
const PLAIN: [(&str, ValueType); 7] = [
    ("number", ValueType::Number),
    ("integer", ValueType::Integer),
    ("text", ValueType::Text),
    ("time", ValueType::Time),
    ("boolean", ValueType::Boolean),
    ("float32", ValueType::Float32),
    ("int32", ValueType::Int32),
];

impl ValueType {
    /// What one value takes in memory, in bytes; of a text, what a short one does.
    pub fn bytes(self) -> i64 {
        match self {
            Self::Text => 32,
            Self::Decimal { .. } => 16,
            Self::Vector(numbers) => 4 * i64::from(numbers),
            _ => 8,
        }
    }

    /// Whether its values are numbers that windows and expressions can reckon with.
    pub fn is_numeric(self) -> bool {
        matches!(self, Self::Number | Self::Integer | Self::Float32 | Self::Int32 | Self::Decimal { .. })
    }

    /// How many bytes a value of a narrow or exact type takes; `None` for the five others.
    pub fn exact_width(self) -> Option<usize> {
        match self {
            Self::Float32 | Self::Int32 => Some(4),
            Self::Decimal { .. } => Some(16),
            Self::Vector(length) => Some(4 * usize::from(length)),
            Self::Number | Self::Integer | Self::Text | Self::Time | Self::Boolean => None,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Vector(length) => write!(f, "vector({length})"),
            plain => f.write_str(PLAIN.iter().find(|(_, kind)| kind == plain).map_or("?", |(name, _)| name)),
        }
    }
}

impl FromStr for ValueType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, kind)) = PLAIN.iter().find(|(name, _)| *name == text) {
            return Ok(*kind);
        }
        let parameters = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
        if let Some(length) = parameters("vector") {
            let length = length.trim().parse().ok().filter(|length| (1..=16_384).contains(length));
            return length.map(Self::Vector).ok_or_else(|| format!("`{text}` has no length from 1 to 16384"));
        }
        if let Some((precision, scale)) = parameters("decimal").and_then(|both| both.split_once(',')) {
            let both = precision.trim().parse().ok().zip(scale.trim().parse().ok());
            let both = both.filter(|(precision, scale)| (1..=38).contains(precision) && scale <= precision);
            return both.map(|(precision, scale)| Self::Decimal { precision, scale }).ok_or_else(|| {
                format!(
                    "`{text}` is no decimal: its digits are 1 to 38, and no more of them behind the point"
                )
            });
        }
        let known = PLAIN.iter().map(|(name, _)| *name).chain(["decimal(38,9)", "vector(768)"]);
        Err(format!("`{text}` is no type{}", did_you_mean(text, known)))
    }
}

impl Serialize for ValueType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ValueType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_read_as_it_is_written() {
        for text in [
            "number",
            "integer",
            "text",
            "time",
            "boolean",
            "float32",
            "int32",
            "decimal(38,9)",
            "vector(768)",
        ] {
            assert_eq!(text.parse::<ValueType>().unwrap().to_string(), text);
            let json = format!("\"{text}\"");
            assert_eq!(
                serde_json::to_string(&serde_json::from_str::<ValueType>(&json).unwrap()).unwrap(),
                json
            );
        }
    }

    #[test]
    fn what_is_no_type_is_refused_with_the_likely_intent() {
        let said = |text: &str| text.parse::<ValueType>().unwrap_err();
        assert!(said("numbr").contains("did you mean `number`"), "{}", said("numbr"));
        for text in [
            "decimal(39,1)",
            "decimal(3,4)",
            "decimal(,)",
            "vector(0)",
            "vector(x)",
            "vector",
            "decimal(5)",
            "",
        ] {
            assert!(said(text).contains(text), "{text}");
        }
    }
}
