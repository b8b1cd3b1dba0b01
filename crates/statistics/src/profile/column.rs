//! A column of either kind.

use super::{LevelProfile, NumberProfile};
use crate::Error;

/// What is kept of a column.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnProfile {
    /// A column of numbers.
    Numbers(NumberProfile),
    /// A column of levels.
    Levels(LevelProfile),
}

impl ColumnProfile {
    /// An empty profile that can be merged and compared with this one.
    pub fn like(&self) -> Self {
        match self {
            Self::Numbers(numbers) => Self::Numbers(NumberProfile::new(numbers.edges().clone())),
            Self::Levels(levels) => Self::Levels(LevelProfile::like(levels)),
        }
    }

    /// Rows seen.
    pub fn rows(&self) -> u64 {
        match self {
            Self::Numbers(numbers) => numbers.rows(),
            Self::Levels(levels) => levels.rows(),
        }
    }

    /// Values seen: rows that are not missing.
    pub fn values(&self) -> u64 {
        match self {
            Self::Numbers(numbers) => numbers.values(),
            Self::Levels(levels) => levels.values(),
        }
    }

    /// Rows without a value.
    pub fn missing(&self) -> u64 {
        self.rows() - self.values()
    }

    /// How many independent values the values are worth.
    pub fn effective(&self) -> f64 {
        match self {
            Self::Numbers(numbers) => numbers.effective(),
            Self::Levels(levels) => levels.effective(),
        }
    }

    /// Whether both hold the same kind of values.
    pub fn is_same_kind(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Numbers(_), Self::Numbers(_)) | (Self::Levels(_), Self::Levels(_)))
    }

    /// Adds a profile of later rows.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if it is over other bins or of the other kind.
    pub fn merge(&mut self, later: &Self) -> Result<(), Error> {
        match (self, later) {
            (Self::Numbers(own), Self::Numbers(later)) => own.merge(later),
            (Self::Levels(own), Self::Levels(later)) => {
                own.merge(later);
                Ok(())
            }
            _ => Err(Error::LengthMismatch { left: 0, right: 1 }),
        }
    }
}
