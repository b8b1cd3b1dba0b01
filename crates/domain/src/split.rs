//! Temporal splits: training before validation before test, with a purge at each cut.
//!
//! A row belongs to a window only if its outcome, too, was known by the window's end; rows that straddle a cut are purged.
//! So nothing that training or validation saw was learned after the next window began.

use serde::{Deserialize, Serialize};

use crate::definitions::Split;
use crate::time::{Cutoff, LabelTime};

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

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use proptest::prelude::*;

    use super::*;

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hours)
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
