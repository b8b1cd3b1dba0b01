//! Kinds of time. All instants are UTC at microsecond precision; a bare timestamp says too little.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

macro_rules! typed_instant {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
        #[serde(transparent)]
        pub struct $name(pub DateTime<Utc>);

        impl $name {
            /// Microseconds since 1970-01-01T00:00:00Z, the unit of every file.
            pub fn micros(self) -> i64 {
                self.0.timestamp_micros()
            }

            /// The instant `micros` after 1970-01-01T00:00:00Z; `None` outside chrono's range.
            pub fn from_micros(micros: i64) -> Option<Self> {
                DateTime::from_timestamp_micros(micros).map(Self)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.0.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
            }
        }
    };
}

typed_instant!(/** When something happened in the world, as its source reported it. */ EventTime);
typed_instant!(/** When we learned it. */ KnownTime);
typed_instant!(/** The moment a prediction is made: nothing known later may enter it. */ Cutoff);
typed_instant!(/** The moment of knowledge from which we look: nothing learned later may be seen. */ AsOf);
typed_instant!(/** When an outcome becomes known. */ LabelTime);

impl AsOf {
    /// True if a value learned at `when` was already known.
    pub fn can_see(self, when: KnownTime) -> bool {
        when.0 <= self.0
    }
}

impl From<Cutoff> for AsOf {
    fn from(cutoff: Cutoff) -> Self {
        Self(cutoff.0)
    }
}

/// How far ahead a prediction looks, or how long a window is: a whole number of seconds, written `90s`, `30m`, `2h`, `28d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Horizon(TimeDelta);

impl Horizon {
    /// A span of `seconds`.
    pub fn seconds(seconds: i64) -> Self {
        Self(TimeDelta::seconds(seconds))
    }

    /// The span as chrono's type.
    pub fn delta(self) -> TimeDelta {
        self.0
    }

    /// The span in microseconds, the unit of every file.
    pub fn micros(self) -> i64 {
        self.0.num_seconds() * 1_000_000
    }
}

/// A span of time was not written as a number and a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a span of time; write a whole number and a unit, such as `90s`, `30m`, `2h` or `28d`")]
pub struct NotASpan(pub String);

impl std::str::FromStr for Horizon {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        let refused = || NotASpan(text.to_owned());
        let unit = text.chars().next_back().ok_or_else(refused)?;
        let number: i64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| refused())?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(refused()),
        };
        let seconds = number.checked_mul(seconds).filter(|s| (0..=100 * 366 * 86_400).contains(s));
        seconds.map(Self::seconds).ok_or_else(refused)
    }
}

impl std::fmt::Display for Horizon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.num_seconds();
        let (size, unit) = [(86_400, 'd'), (3_600, 'h'), (60, 'm')]
            .into_iter()
            .find(|(size, _)| seconds != 0 && seconds % size == 0)
            .unwrap_or((1, 's'));
        write!(f, "{}{unit}", seconds / size)
    }
}

impl Serialize for Horizon {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Horizon {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_span_without_a_unit_is_refused_with_an_example() {
        let refusal = "90".parse::<Horizon>().unwrap_err().to_string();
        assert!(refusal.contains("`90`") && refusal.contains("`2h`"), "{refusal}");
    }

    #[test]
    fn a_span_that_is_not_ascii_is_refused_and_does_not_panic() {
        assert!("2ü".parse::<Horizon>().is_err());
        assert!("".parse::<Horizon>().is_err());
    }

    proptest! {
        #[test]
        fn a_span_reads_back_as_it_was_written(seconds in 0i64..10_000_000) {
            let span = Horizon::seconds(seconds);
            prop_assert_eq!(span.to_string().parse::<Horizon>().unwrap(), span);
        }
    }
}
