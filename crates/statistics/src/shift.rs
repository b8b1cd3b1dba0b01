//! How much commoner rows like this one have become: the ratio of two densities, and what it is good for.
//!
//! Rows are given by the parts of their columns that they lie in, such as fifths of a number or the commonest levels, so that a
//! column of any kind, with values missing or not, is one whole number.

use crate::ridge::{Design, fit};
use crate::{Error, check};

/// Rows that stand for others by their weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// The ratio at each reference row, scaled to a mean of 1.
    pub weights: Vec<f64>,
    /// How many rows of equal weight they are worth: (Σw)²/Σw².
    pub effective: f64,
}

/// The ridge: how many rows say "nothing changed" of each part.
const RIDGE: f64 = 1.0;

/// The density of current rows over that of reference rows, at each reference row.
///
/// A logistic regression tells current rows from reference rows, each side counting as much as the other: its odds are the
/// ratio. With one coefficient a part, log-odds add up over columns; a ridge keeps those of rare parts near 0. `sizes` is the number
/// of parts of each column.
///
/// ```
/// let (rare, common) = (vec![0_u16], vec![1_u16]);
/// let reference: Vec<Vec<u16>> = (0..1000).map(|i| if i % 4 == 0 { rare.clone() } else { common.clone() }).collect();
/// let current: Vec<Vec<u16>> = (0..1000).map(|i| if i % 2 == 0 { rare.clone() } else { common.clone() }).collect();
/// let found = statistics::shift::density_ratio(&reference, &current, &[2]).unwrap();
/// assert!((found.weights[0] - 2.0).abs() < 0.05); // from a quarter to a half
/// assert!((found.effective - 750.0).abs() < 20.0);
/// ```
/// # Errors
/// [`Error::TooFew`] without a row on either side or without a column; [`Error::LengthMismatch`] for rows of another number of columns;
/// [`Error::OutOfDomain`] for a part that a column does not have.
/// # Source
/// Bickel, Brückner & Scheffer (2009), "Discriminative learning under covariate shift"; the effective size is Kish's (1965).
pub fn density_ratio(reference: &[Vec<u16>], current: &[Vec<u16>], sizes: &[u16]) -> Result<Ratio, Error> {
    check::at_least(1, sizes.len(), "columns")?;
    check::at_least(1, reference.len().min(current.len()), "rows")?;
    let mut firsts = vec![0_u32]; // the first place of each column
    sizes.iter().for_each(|size| firsts.push(firsts[firsts.len() - 1] + u32::from(*size)));
    let mut ones = Vec::with_capacity((reference.len() + current.len()) * sizes.len());
    for row in reference.iter().chain(current) {
        check::same_length(sizes.len(), row.len())?;
        for ((part, size), first) in row.iter().zip(sizes).zip(&firsts) {
            check::inside(f64::from(*part), "a part", "below the parts of its column", part < size)?;
            ones.push(first + u32::from(*part));
        }
    }
    let rows = Design {
        numbers: &[],
        dense: 0,
        ones: &ones,
        hot: sizes.len(),
        levels: firsts[firsts.len() - 1] as usize,
        rows: reference.len() + current.len(),
    };
    let (old, new) = (reference.len() as f64, current.len() as f64);
    let is_current = |row: usize| row >= reference.len();
    let targets: Vec<f64> = (0..rows.rows).map(|row| f64::from(u8::from(is_current(row)))).collect();
    let counts: Vec<f64> =
        (0..rows.rows).map(|row| old.min(new) / if is_current(row) { new } else { old }).collect();
    let log_odds = rows.log_odds(&fit(&rows, &targets, &counts, RIDGE)?);
    let mut weights: Vec<f64> =
        log_odds[..reference.len()].iter().map(|log| log.clamp(-30.0, 30.0).exp()).collect();
    let mean = weights.iter().sum::<f64>() / old;
    weights.iter_mut().for_each(|weight| *weight /= mean);
    let squares: f64 = weights.iter().map(|weight| weight * weight).sum();
    Ok(Ratio { effective: old * old / squares, weights })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Generator;

    /// Rows of two columns of three and four parts, and one that says nothing.
    fn rows(seed: u64, count: usize, first: [f64; 3], second: [f64; 4]) -> Vec<Vec<u16>> {
        let mut generator = Generator::from_seed(seed);
        let mut drawn = |law: &[f64]| {
            let mut left = generator.uniform();
            let part = law.iter().position(|share| {
                left -= share;
                left < 0.0
            });
            part.unwrap_or(law.len() - 1) as u16
        };
        (0..count).map(|_| vec![drawn(&first), drawn(&second), drawn(&[0.5, 0.5])]).collect()
    }

    #[test]
    fn the_ratio_is_that_of_the_shares_and_multiplies_over_columns() {
        let (a, b) = ([0.5, 0.3, 0.2], [0.4, 0.3, 0.2, 0.1]);
        let (c, d) = ([0.2, 0.3, 0.5], [0.1, 0.3, 0.2, 0.4]);
        let reference = rows(1, 20_000, a, b);
        let found = density_ratio(&reference, &rows(2, 20_000, c, d), &[3, 4, 2]).unwrap();
        for (row, weight) in reference.iter().zip(&found.weights) {
            let (first, second) = (usize::from(row[0]), usize::from(row[1]));
            let truth = c[first] / a[first] * d[second] / b[second];
            assert!((weight / truth - 1.0).abs() < 0.1, "{row:?}: {weight} where {truth} is true");
        }
    }

    #[test]
    fn weighted_rows_are_like_the_current_ones() {
        let (reference, current) = (
            rows(3, 5_000, [0.5, 0.3, 0.2], [0.25; 4]),
            rows(4, 2_000, [0.1, 0.2, 0.7], [0.4, 0.2, 0.2, 0.2]),
        );
        let found = density_ratio(&reference, &current, &[3, 4, 2]).unwrap();
        for part in 0..3 {
            let weighted: f64 =
                reference.iter().zip(&found.weights).filter(|(row, _)| row[0] == part).map(|(_, w)| w).sum();
            let share = current.iter().filter(|row| row[0] == part).count() as f64 / 2_000.0;
            assert!((weighted / 5_000.0 - share).abs() < 0.01, "{part}: {} {share}", weighted / 5_000.0);
        }
        assert!(found.effective < 3_000.0 && found.effective > 500.0, "{}", found.effective);
    }

    #[test]
    fn equal_laws_weigh_equally_and_nonsense_is_refused() {
        let law = ([0.5, 0.3, 0.2], [0.25; 4]);
        let same = density_ratio(&rows(5, 4_000, law.0, law.1), &rows(6, 4_000, law.0, law.1), &[3, 4, 2]);
        assert!(same.unwrap().effective > 3_900.0);
        assert!(density_ratio(&[], &[vec![0]], &[1]).is_err());
        assert!(density_ratio(&[vec![0]], &[vec![0]], &[]).is_err());
        assert!(density_ratio(&[vec![3]], &[vec![0]], &[2]).is_err());
        assert!(density_ratio(&[vec![0, 0]], &[vec![0]], &[2]).is_err());
        let apart = density_ratio(&vec![vec![0]; 50], &vec![vec![1]; 50], &[2]).unwrap();
        assert!(apart.weights.iter().all(|weight| (weight - 1.0).abs() < 1e-9), "{apart:?}");
    }
}
