//! Intervals by drawing whole blocks of time with replacement: rows of one day are not independent.
//!
//! A metric is a function of how often each row counts, `Fn(&[u32]) -> Option<f64>` (`None` where it has no
//! value, such as one class only). It is built once over its scores, so that a replicate costs O(rows):
//! [`crate::ranking::auc_by_counts`] sorts once, [`mean_by_counts`] serves every mean of row losses.

use std::collections::BTreeMap;

use crate::{Error, Generator, Interval, check};

/// Draws behind the greatest value to come.
const MAXIMA: usize = 1_000;

/// A metric, or the difference of two, with its bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bootstrap {
    /// The value on the rows as they are.
    pub estimate: f64,
    /// The mean over the replicates.
    pub mean: f64,
    /// The 2.5 and 97.5 percentiles of the replicates.
    pub interval: Interval,
    /// The number of blocks drawn from.
    pub blocks: usize,
    /// The replicates in which the metric had a value.
    pub replicates: usize,
}

/// Σ cᵢlᵢ / Σ cᵢ of a loss a row, as a function of the counts c; `None` if they are for another number of rows.
///
/// ```
/// let mean = statistics::resampling::mean_by_counts(&[1.0, 4.0]).unwrap();
/// assert_eq!(mean(&[2, 1]), Some(2.0));
/// assert_eq!(mean(&[0, 0]), None);
/// ```
/// # Errors
/// [`Error::OutOfDomain`] for NaN and infinities.
pub fn mean_by_counts(losses: &[f64]) -> Result<impl Fn(&[u32]) -> Option<f64> + '_, Error> {
    check::finite(losses, "losses")?;
    Ok(|counts: &[u32]| {
        if counts.len() != losses.len() {
            return None;
        }
        let mut total = (0.0, 0.0);
        for (&loss, &count) in losses.iter().zip(counts) {
            total.0 += loss * f64::from(count);
            total.1 += f64::from(count);
        }
        (total.1 > 0.0).then(|| total.0 / total.1)
    })
}

/// The interval of one metric; `blocks[row]` names the block of a row, such as its day.
///
/// ```
/// use statistics::{Generator, resampling::{block_bootstrap, mean_by_counts}};
/// let metric = mean_by_counts(&[1.0, 1.0, 3.0, 3.0]).unwrap();
/// let found = block_bootstrap(&[0, 0, 1, 1], metric, 500, &mut Generator::from_seed(1)).unwrap();
/// assert_eq!(found.estimate, 2.0);
/// assert_eq!((found.interval.low, found.interval.high), (1.0, 3.0)); // both draws may hit one block
/// ```
/// # Errors
/// [`Error::TooFew`] with fewer than 2 blocks or 40 replicates, or if the metric has a value in fewer than half
/// of the replicates; [`Error::Undefined`] if it has none on the rows as they are, or is over other rows.
/// # Source
/// Künsch (1989), "The jackknife and the bootstrap for general stationary observations".
pub fn block_bootstrap(
    blocks: &[u64],
    metric: impl Fn(&[u32]) -> Option<f64>,
    replicates: usize,
    generator: &mut Generator,
) -> Result<Bootstrap, Error> {
    check::at_least(40, replicates, "replicates")?;
    let (block_of, len) = dense(blocks);
    check::at_least(2, len, "blocks")?;
    let estimate = metric(&vec![1; blocks.len()]).ok_or(Error::Undefined { what: "the metric" })?;
    let mut counts = vec![0; blocks.len()];
    let mut values: Vec<f64> = (0..replicates)
        .filter_map(|_| {
            draw(&block_of, len, &mut counts, generator);
            metric(&counts)
        })
        .collect();
    check::at_least(replicates.div_ceil(2), values.len(), "replicates with a value")?;
    values.sort_unstable_by(f64::total_cmp);
    Ok(Bootstrap {
        estimate,
        mean: values.iter().sum::<f64>() / values.len() as f64,
        interval: Interval {
            low: quantile_of_sorted(&values, 0.025),
            high: quantile_of_sorted(&values, 0.975),
        },
        blocks: len,
        replicates: values.len(),
    })
}

/// The interval of `challenger − champion` over the same rows, both metrics on the same draws.
///
/// ```
/// use statistics::{Generator, ranking::auc_by_counts, resampling::paired_block_bootstrap};
/// let labels = [true, false, true, false, true, false];
/// let champion = auc_by_counts(&[0.1, 0.2, 0.8, 0.7, 0.3, 0.4], &labels).unwrap();
/// let challenger = auc_by_counts(&[0.9, 0.2, 0.8, 0.3, 0.7, 0.1], &labels).unwrap();
/// let days = [1, 1, 2, 2, 3, 3];
/// let found = paired_block_bootstrap(&days, champion, challenger, 200, &mut Generator::from_seed(1)).unwrap();
/// assert!((found.estimate - (1.0 - 4.0 / 9.0)).abs() < 1e-15);
/// ```
/// # Errors
/// As [`block_bootstrap`].
pub fn paired_block_bootstrap(
    blocks: &[u64],
    champion: impl Fn(&[u32]) -> Option<f64>,
    challenger: impl Fn(&[u32]) -> Option<f64>,
    replicates: usize,
    generator: &mut Generator,
) -> Result<Bootstrap, Error> {
    let difference = |counts: &[u32]| Some(challenger(counts)? - champion(counts)?);
    block_bootstrap(blocks, difference, replicates, generator)
}

/// The quantile at `level` of the greatest of `horizon` values to come, from a series whose neighbours resemble each other.
///
/// Draws moving blocks of `block` neighbours with replacement until there are `horizon` values, and takes their maximum. A
/// threshold there is passed by chance in a share 1 − `level` of such spans; never less than history's own does the
/// drawing allow, since no value is drawn that was not seen.
/// ```
/// use statistics::{Generator, resampling::greatest_to_come};
/// let series = [0.1, 0.2, 0.1, 0.3, 0.1, 0.2];
/// assert_eq!(greatest_to_come(&series, 2, 50, 0.95, &mut Generator::from_seed(1)).unwrap(), 0.3);
/// ```
/// # Errors
/// [`Error::TooFew`] without two blocks or a horizon; [`Error::OutOfDomain`] for NaN, infinities, or a level outside [0, 1].
/// # Source
/// Künsch (1989), "The jackknife and the bootstrap for general stationary observations".
pub fn greatest_to_come(
    series: &[f64],
    block: usize,
    horizon: usize,
    level: f64,
    generator: &mut Generator,
) -> Result<f64, Error> {
    check::finite(series, "values")?;
    check::at_least(1, block.min(horizon), "values of a block and of the horizon")?;
    check::at_least(2 * block, series.len(), "values")?;
    check::inside(level, "a level", "in [0, 1]", (0.0..=1.0).contains(&level))?;
    let starts = series.len() - block + 1;
    let greatest = |_| {
        let blocks = (0..horizon.div_ceil(block)).map(|_| generator.below(starts));
        let drawn = blocks.flat_map(|start| &series[start..start + block]).take(horizon);
        drawn.copied().fold(f64::NEG_INFINITY, f64::max)
    };
    let mut maxima: Vec<f64> = (0..MAXIMA).map(greatest).collect();
    maxima.sort_unstable_by(f64::total_cmp);
    Ok(quantile_of_sorted(&maxima, level))
}

/// Block names as 0, 1, …, and how many there are.
fn dense(blocks: &[u64]) -> (Vec<usize>, usize) {
    let mut names: BTreeMap<u64, usize> = blocks.iter().map(|&name| (name, 0)).collect();
    names.values_mut().enumerate().for_each(|(number, block)| *block = number);
    (blocks.iter().map(|name| names[name]).collect(), names.len())
}

/// Draws `len` blocks with replacement and counts each row as often as its block came.
fn draw(block_of: &[usize], len: usize, counts: &mut [u32], generator: &mut Generator) {
    let mut drawn = vec![0; len];
    for _ in 0..len {
        drawn[generator.below(len)] += 1;
    }
    for (count, &block) in counts.iter_mut().zip(block_of) {
        *count = drawn[block];
    }
}

/// The q-quantile of rising values by linear interpolation at (n−1)·q; the values must not be empty or NaN.
pub(crate) fn quantile_of_sorted(sorted: &[f64], q: f64) -> f64 {
    let position = (sorted.len() - 1) as f64 * q;
    let (before, share) = (position.floor() as usize, position.fract());
    let (low, high) = (sorted[before], sorted[(before + 1).min(sorted.len() - 1)]);
    match (low == high || share == 0.0, low.is_finite() && high.is_finite()) {
        (true, _) => low,
        (false, true) => low * (1.0 - share) + high * share,
        // Between a number and an infinity there is no middle: the nearer one.
        (false, false) => {
            if share < 0.5 {
                low
            } else {
                high
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranking::{auc, auc_by_counts};

    #[test]
    fn counting_a_row_twice_is_having_it_twice() {
        let (scores, labels) = ([0.3, 0.1, 0.3, 0.9, 0.5], [true, false, false, true, false]);
        let counts = [2, 1, 0, 3, 2];
        let repeat = |row: usize| std::iter::repeat_n(row, counts[row] as usize);
        let rows: Vec<usize> = (0..5).flat_map(repeat).collect();
        let repeated = auc(
            &rows.iter().map(|&row| scores[row]).collect::<Vec<_>>(),
            &rows.iter().map(|&row| labels[row]).collect::<Vec<_>>(),
        );
        let counted = auc_by_counts(&scores, &labels).unwrap()(&counts).unwrap();
        assert!((counted - repeated.unwrap().value).abs() < 1e-15);
    }

    #[test]
    fn a_model_against_itself_differs_by_nothing_and_a_seed_fixes_the_interval() {
        let mut generator = Generator::from_seed(9);
        let scores: Vec<f64> = (0..600).map(|_| generator.uniform()).collect();
        let labels: Vec<bool> = scores.iter().map(|&p| generator.uniform() < p).collect();
        let days: Vec<u64> = (0..600).map(|row| row / 20).collect();
        let same = paired_block_bootstrap(
            &days,
            auc_by_counts(&scores, &labels).unwrap(),
            auc_by_counts(&scores, &labels).unwrap(),
            100,
            &mut Generator::from_seed(1),
        )
        .unwrap();
        assert_eq!((same.estimate, same.interval.low, same.interval.high), (0.0, 0.0, 0.0));
        let run = |seed| {
            let metric = auc_by_counts(&scores, &labels).unwrap();
            block_bootstrap(&days, metric, 200, &mut Generator::from_seed(seed)).unwrap()
        };
        assert_eq!(run(4), run(4));
        // With independent rows the blocks do not matter: as wide as DeLong's.
        let (found, delong) = (run(4).interval, auc(&scores, &labels).unwrap().interval);
        let ratio = (found.high - found.low) / (delong.high - delong.low);
        assert!((0.75..1.3).contains(&ratio), "{ratio}");
    }

    #[test]
    fn the_greatest_to_come_is_passed_as_often_as_the_level_says() {
        let mut generator = Generator::from_seed(4);
        let passed = (0..200)
            .filter(|_| {
                let history: Vec<f64> = (0..2_000).map(|_| generator.uniform()).collect();
                let limit = greatest_to_come(&history, 7, 30, 0.9, &mut Generator::from_seed(1)).unwrap();
                (0..30).any(|_| generator.uniform() > limit)
            })
            .count();
        assert!((8..=36).contains(&passed), "{passed} of 200, where 20 are due");
        assert!(greatest_to_come(&[0.1; 13], 7, 30, 0.9, &mut generator).is_err());
    }

    #[test]
    fn one_block_has_no_interval() {
        let metric = mean_by_counts(&[1.0, 2.0]).unwrap();
        let refusal = block_bootstrap(&[7, 7], metric, 100, &mut Generator::from_seed(1)).unwrap_err();
        assert_eq!(refusal, Error::TooFew { what: "blocks", needed: 2, found: 1 });
    }

    #[test]
    fn blocks_of_other_rows_than_the_metric_are_refused() {
        let metric = auc_by_counts(&[0.1, 0.2, 0.3], &[true, false, true]).unwrap();
        let refusal = block_bootstrap(&[1, 2], metric, 100, &mut Generator::from_seed(1)).unwrap_err();
        assert_eq!(refusal.to_string(), "the metric has no value on these rows");
    }
}
