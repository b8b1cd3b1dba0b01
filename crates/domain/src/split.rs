//! Temporal splits: training before validation before test, with a purge at each cut.
//!
//! A row belongs to a window only if its outcome, too, was known by the window's end; rows that straddle a cut are purged.
//! So nothing that training or validation saw was learned after the next window began.

use serde::{Deserialize, Serialize};

use crate::definitions::Split;
use crate::time::{Cutoff, Horizon, LabelTime};

/// Where a row belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// Models learn from it.
    Train,
    /// Early stopping and calibration use it.
    Validation,
    /// Models are judged on it.
    Test,
    /// It straddles a cut and is left out.
    Purged,
}

impl Split {
    /// Where a row with this cutoff and this label time belongs.
    pub fn window(&self, cutoff: Cutoff, label_time: LabelTime) -> Window {
        if cutoff < self.train_until {
            return if label_time.0 <= self.train_until.0 { Window::Train } else { Window::Purged };
        }
        if cutoff < self.validation_until {
            return if label_time.0 <= self.validation_until.0 { Window::Validation } else { Window::Purged };
        }
        Window::Test
    }
}

/// Folds whose origin moves on: each learns from what lies before it and is judged on what follows, and the next one learns
/// from that too.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollingOrigin {
    /// How many.
    pub folds: usize,
    /// How long each is judged. The windows follow each other without a gap.
    pub test: Horizon,
    /// How long before that it stops early and calibrates.
    pub validation: Horizon,
    /// How far back it learns: a window that slides. Everything there is, if not given: a window that expands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<Horizon>,
}

/// One fold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fold {
    /// Training rows have cutoffs from here on.
    pub train_from: Option<Cutoff>,
    /// Where training and validation end.
    pub split: Split,
    /// Where the test ends.
    pub test_until: Cutoff,
}

/// A rolling origin that judges nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rolling origin has at least one fold, and `test` and `validation` are longer than 0")]
pub struct NoFold;

impl RollingOrigin {
    /// The folds, oldest first; the last one's test ends at `until`.
    ///
    /// # Errors
    /// [`NoFold`] if it has no fold or an empty window.
    pub fn folds(&self, until: Cutoff) -> Result<Vec<Fold>, NoFold> {
        let empty = |span: Horizon| span.delta() <= chrono::TimeDelta::zero();
        if self.folds == 0 || empty(self.test) || empty(self.validation) || self.train.is_some_and(empty) {
            return Err(NoFold);
        }
        let fold = |back: usize| {
            let test = self.test.delta();
            let test_until = until.0 - test * i32::try_from(back).unwrap_or(i32::MAX);
            let validation_until = test_until - test;
            let train_until = validation_until - self.validation.delta();
            Fold {
                train_from: self.train.map(|train| Cutoff(train_until - train.delta())),
                split: Split { train_until: Cutoff(train_until), validation_until: Cutoff(validation_until) },
                test_until: Cutoff(test_until),
            }
        };
        Ok((0..self.folds).rev().map(fold).collect())
    }
}

impl Fold {
    /// Where a row with this cutoff and this label time belongs; what lies before or after the fold is purged.
    pub fn window(&self, cutoff: Cutoff, label_time: LabelTime) -> Window {
        let outside = self.train_from.is_some_and(|from| cutoff < from) || cutoff >= self.test_until;
        if outside { Window::Purged } else { self.split.window(cutoff, label_time) }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use proptest::prelude::*;

    use super::*;

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hours)
    }

    #[test]
    fn folds_are_judged_one_after_the_other_and_learn_only_from_before() {
        let hours = |hours: i64| Horizon::seconds(hours * 3_600);
        let origin =
            RollingOrigin { folds: 3, test: hours(10), validation: hours(5), train: Some(hours(20)) };
        let folds = origin.folds(Cutoff(at(100))).unwrap();
        let spans: Vec<_> = folds
            .iter()
            .map(|fold| {
                (fold.train_from, fold.split.train_until, fold.split.validation_until, fold.test_until)
            })
            .collect();
        let fold = |from, train, validation, until| {
            (Some(Cutoff(at(from))), Cutoff(at(train)), Cutoff(at(validation)), Cutoff(at(until)))
        };
        assert_eq!(spans, [fold(45, 65, 70, 80), fold(55, 75, 80, 90), fold(65, 85, 90, 100)]);
        for hour in 0..110 {
            let judged = folds
                .iter()
                .filter(|fold| fold.window(Cutoff(at(hour)), LabelTime(at(hour))) == Window::Test);
            assert_eq!(judged.count(), usize::from((70..100).contains(&hour)), "{hour}");
        }
        assert_eq!(folds[0].window(Cutoff(at(44)), LabelTime(at(44))), Window::Purged);
        assert_eq!(folds[0].window(Cutoff(at(64)), LabelTime(at(66))), Window::Purged);
        assert_eq!(RollingOrigin { folds: 0, ..origin }.folds(Cutoff(at(1))), Err(NoFold));
        assert_eq!(RollingOrigin { test: hours(0), ..origin }.folds(Cutoff(at(1))), Err(NoFold));
    }

    proptest! {
        #[test]
        fn nothing_in_a_window_was_learned_after_the_next_one_began(
            cuts in (10i64..50, 60i64..90),
            rows in prop::collection::vec((0i64..120, 0i64..20), 1..60),
        ) {
            let split = Split { train_until: Cutoff(at(cuts.0)), validation_until: Cutoff(at(cuts.1)) };
            for (cutoff, lag) in rows {
                let (cutoff, label) = (Cutoff(at(cutoff)), LabelTime(at(cutoff + lag)));
                match split.window(cutoff, label) {
                    Window::Train => prop_assert!(label.0 <= split.train_until.0),
                    Window::Validation => {
                        prop_assert!(cutoff >= split.train_until && label.0 <= split.validation_until.0);
                    }
                    Window::Test => prop_assert!(cutoff >= split.validation_until),
                    Window::Purged => prop_assert!(label.0 > split.train_until.0),
                }
            }
        }
    }
}
