//! The candidate against the reigning champion, on the rows that both were judged on.

use domain::evaluation::{Evaluation, Interval};
use domain::gate::{Challenge, Reigning};
use frames::judged::{Judged, Shared};
use service_kit::Context;
use statistics::Generator;
use statistics::ranking::auc_by_counts;
use statistics::resampling::paired_block_bootstrap;

/// Fewer shared rows than this say nothing about two models.
const NEEDED_ROWS: usize = 100;
/// Replicates of the bootstrap.
const REPLICATES: usize = 500;
/// The bootstrap draws whole days: rows of one day depend on each other.
const BLOCK_MICROS: i64 = 86_400 * 1_000_000;

/// Compares two judged versions by a paired block bootstrap over days (UTC) of the difference of their AUCs.
pub(crate) async fn compare(
    context: &Context,
    candidate: &Evaluation,
    champion_version: i32,
    champion: &Evaluation,
) -> Reigning {
    let folder = context.data_dir.clone();
    let files = [candidate, champion]
        .map(|evaluation| (folder.join(&evaluation.predictions_path), evaluation.predictions_sha256.clone()));
    let compared = tokio::task::spawn_blocking(move || {
        let [candidate, champion] = &files;
        let judged =
            |file: &(std::path::PathBuf, String)| Judged::read(&file.0, &file.1).map_err(|e| e.to_string());
        difference(&judged(candidate)?.shared(&judged(champion)?))
    });
    match compared.await.unwrap_or_else(|error| Err(format!("the comparison ended early: {error}"))) {
        Ok((rows, auc_difference)) => {
            Reigning::Compared(Challenge { champion_version, rows: rows as u64, auc_difference })
        }
        Err(why) => Reigning::Incomparable { champion_version, why },
    }
}

/// First minus second, with its interval; or why there is none.
fn difference(shared: &Shared) -> Result<(usize, Interval), String> {
    let rows = shared.labels.len();
    if rows < NEEDED_ROWS {
        return Err(format!("only {rows} rows were judged by both, at least {NEEDED_ROWS} are needed"));
    }
    let days: Vec<u64> =
        shared.cutoffs.iter().map(|cutoff| cutoff.div_euclid(BLOCK_MICROS).cast_unsigned()).collect();
    let said = |error: statistics::Error| error.to_string();
    let candidate = auc_by_counts(&shared.first, &shared.labels).map_err(said)?;
    let champion = auc_by_counts(&shared.second, &shared.labels).map_err(said)?;
    let mut generator = Generator::from_seed(rows as u64);
    let found =
        paired_block_bootstrap(&days, champion, candidate, REPLICATES, &mut generator).map_err(said)?;
    Ok((rows, Interval { value: found.estimate, low: found.interval.low, high: found.interval.high }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(rows: usize, first: impl Fn(usize) -> f64, second: impl Fn(usize) -> f64) -> Shared {
        Shared {
            cutoffs: (0..rows).map(|row| row as i64 * BLOCK_MICROS / 20).collect(),
            labels: (0..rows).map(|row| row % 3 == 0).collect(),
            first: (0..rows).map(first).collect(),
            second: (0..rows).map(second).collect(),
        }
    }

    #[test]
    fn a_candidate_that_knows_more_differs_upward_and_the_interval_says_so() {
        let knows = |row: usize| if row.is_multiple_of(3) { 0.8 } else { 0.2 };
        let guesses = |row: usize| (row * 7 % 10) as f64 / 10.0;
        let (_, difference) = difference(&shared(400, knows, guesses)).unwrap();
        assert!(difference.low > 0.3 && difference.value > 0.3, "{difference:?}");
    }

    #[test]
    fn too_few_shared_rows_are_no_comparison() {
        assert!(difference(&shared(99, |_| 0.5, |_| 0.5)).unwrap_err().contains("99 rows"));
    }
}
