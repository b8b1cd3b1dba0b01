//! The rule that says whether a column moved: one for two files, for a window of served rows and for every hour of a year.
//!
//! A column is reduced to yes/no [`Question`]s about its values: is it at most the reference's second decile, outside the
//! middle half, of level `AA`, missing? Each has a share in the reference (of the same season, if the yardstick has one)
//! and one in the window. One window is judged by what its shares could be at most by chance; windows are added up by
//! [`Evidence`], a bet against each share, so that small windows count and looking every hour costs nothing.
//!
//! What is not drift: a share within `min_effect` of the reference's, within what the reference itself leaves open, or
//! within what its days differ by among themselves.

mod effect;
mod evidence;
mod judgement;
mod questions;
#[cfg(test)]
mod tests;
mod yardstick;

pub use effect::{Effect, effect};
pub use evidence::{Evidence, kept};
pub use judgement::{Judgement, Shown, Verdict};
pub use questions::{Answers, Question};
pub use yardstick::{Look, Season, Yardstick};

/// Unseen levels and values beyond the reference's range are rarer than the rest, and tell more: they are held to this part
/// of the smallest effect.
pub const RARE: f64 = 0.1;

/// What to call drift.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Settings {
    /// The chance that a column which did not move is called drifted.
    pub alpha: f64,
    /// The smallest change of a share worth naming, in [0, 1).
    pub min_effect: f64,
    /// Fewer values, on either side, give no verdict.
    pub min_rows: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { alpha: 0.001, min_effect: 0.01, min_rows: 30 }
    }
}

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Cause {
    /// Where numbers lie.
    #[serde(rename = "location")]
    Location,
    /// How far numbers lie apart.
    #[serde(rename = "spread")]
    Spread,
    /// How numbers are spread otherwise.
    #[serde(rename = "shape")]
    Shape,
    /// Numbers beyond all of the reference's.
    #[serde(rename = "range")]
    Range,
    /// How common levels are.
    #[serde(rename = "levels")]
    Levels,
    /// Levels that the reference never saw.
    #[serde(rename = "unseen levels")]
    Unseen,
    /// Missing values.
    #[serde(rename = "missing")]
    Missing,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Location, Self::Spread, Self::Shape, Self::Range, Self::Levels, Self::Unseen, Self::Missing];

    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Location => "location",
            Self::Spread => "spread",
            Self::Shape => "shape",
            Self::Range => "range",
            Self::Levels => "levels",
            Self::Unseen => "unseen levels",
            Self::Missing => "missing",
        }
    }

    /// What of the smallest effect its questions are held to.
    pub(crate) fn least(self, settings: Settings) -> f64 {
        match self {
            Self::Range | Self::Unseen => settings.min_effect * RARE,
            _ => settings.min_effect,
        }
    }
}
