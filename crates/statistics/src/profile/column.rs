//! A column of either kind.

use super::bytes::{Reader, Writer};
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

    /// The profile as bytes that [`Self::from_bytes`] reads beside the same reference; at most 32 KB.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Numbers(numbers) => {
                let mut to = Writer::new(0);
                numbers.write(&mut to);
                to.done()
            }
            Self::Levels(levels) => {
                let mut to = Writer::new(1);
                levels.write(&mut to);
                to.done()
            }
        }
    }

    /// Reads what [`Self::to_bytes`] wrote, beside the reference whose bins it counts.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if it was counted over another reference's bins, or is of the other kind;
    /// [`Error::Undefined`] if the bytes are no profile of this format.
    pub fn from_bytes(bytes: &[u8], reference: &Self) -> Result<Self, Error> {
        let (mut from, kind) = Reader::new(bytes)?;
        let profile = match (kind, reference) {
            (0, Self::Numbers(reference)) => {
                Self::Numbers(NumberProfile::read(&mut from, reference.edges())?)
            }
            (1, Self::Levels(_)) => Self::Levels(LevelProfile::read(&mut from)?),
            _ => return Err(Error::LengthMismatch { left: 0, right: 1 }),
        };
        from.done()?;
        Ok(profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Generator;
    use crate::profile::{Edges, MOST_BINS};

    fn numbers(seed: u64) -> ColumnProfile {
        let mut generator = Generator::from_seed(seed);
        let values: Vec<f64> = (0..20_000).map(|_| generator.uniform()).collect();
        let mut profile = NumberProfile::new(Edges::of(&values, MOST_BINS).unwrap());
        profile.observe(&values);
        profile.observe(&[f64::NAN, f64::INFINITY]);
        profile.observe_nulls(7);
        ColumnProfile::Numbers(profile)
    }

    fn levels() -> ColumnProfile {
        let mut profile = LevelProfile::default();
        (0..10_000).for_each(|row| profile.observe(&format!("{:064}", row * 7 % 3_000)));
        profile.observe_nulls(3);
        ColumnProfile::Levels(profile)
    }

    #[test]
    fn a_profile_comes_back_from_its_bytes_and_they_are_few() {
        for profile in [numbers(1), levels()] {
            let bytes = profile.to_bytes();
            assert!(bytes.len() < 32 << 10, "{}", bytes.len());
            assert_eq!(ColumnProfile::from_bytes(&bytes, &profile).unwrap(), profile);
        }
    }

    #[test]
    fn bytes_of_another_reference_and_damaged_ones_are_refused() {
        let (one, other) = (numbers(1), numbers(2));
        assert!(ColumnProfile::from_bytes(&one.to_bytes(), &other).is_err());
        assert!(ColumnProfile::from_bytes(&levels().to_bytes(), &one).is_err());
        let bytes = levels().to_bytes();
        for end in 0..bytes.len().min(300) {
            assert!(ColumnProfile::from_bytes(&bytes[..end], &levels()).is_err(), "{end}");
        }
        let mut odd = bytes.clone();
        odd[0] = 9;
        assert!(ColumnProfile::from_bytes(&odd, &levels()).is_err());
        odd = [bytes, vec![0]].concat();
        assert!(ColumnProfile::from_bytes(&odd, &levels()).is_err());
    }
}
