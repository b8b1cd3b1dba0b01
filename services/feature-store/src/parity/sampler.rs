//! Keeping some of the answers that are given: of the entities that are followed, and of these answers as many as a check takes.

use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};

use frames::keys::Keys;
use frames::rows::write_cell;
use frames::served::{Answer, Plan};
use frames::{Frame, Values};

/// Answers about one entity that are kept of a view until they are checked, at most.
pub(super) const ANSWERS: usize = 256;

/// One served value.
#[derive(Clone, Debug)]
pub(super) struct Record {
    key: Vec<u8>,
    served_at: i64,
    seq: i64,
    feature: String,
    status: &'static str,
    value: String,
}

/// Answers about followed entities: of those that were given, each as likely as another to be among the kept (Vitter's algorithm R).
#[derive(Clone, Debug, Default)]
struct Kept {
    given: u64,
    answers: Vec<Vec<Record>>,
    random: RandomState,
}

impl Kept {
    /// Counts an answer, and keeps it if it is drawn.
    fn draw(&mut self, answer: impl FnOnce() -> Vec<Record>) {
        self.given += 1;
        if self.answers.len() < ANSWERS {
            self.answers.push(answer());
            return;
        }
        let place = (self.random.hash_one(self.given) % self.given) as usize;
        if let Some(kept) = self.answers.get_mut(place) {
            *kept = answer();
        }
    }
}

/// Kept answers by view and version.
type Waiting = HashMap<(String, i32), Kept>;

/// Looks at answers as they leave.
#[derive(Clone, Debug)]
pub(crate) struct Sampler {
    one_in: u64,
    waiting: Arc<Mutex<Waiting>>,
}

impl Sampler {
    /// Follows one entity in `one_in`; none if it is 0.
    pub(crate) fn new(one_in: u64) -> Self {
        Self { one_in, waiting: Arc::default() }
    }

    /// Looks at what is answered of the entities that are followed.
    pub(crate) fn look(&self, plan: &Plan, keys: &[Keys], answer: &Answer<'_>, now: i64, seq: i64) {
        if self.one_in == 0 {
            return;
        }
        for (part, ((view, version), keys)) in plan.views().zip(keys).enumerate() {
            for row in (0..keys.len()).filter(|row| keys.get(*row).is_some_and(|key| self.follows(key))) {
                let records = || {
                    let of_feature = |(feature, name): (usize, &str)| {
                        let served = answer.served(feature, row).ok()?;
                        let mut value = Vec::new();
                        write_cell(&mut value, served.value);
                        Some(Record {
                            key: keys.get(row).unwrap_or_default().to_vec(),
                            served_at: now,
                            seq,
                            feature: name.to_owned(),
                            status: served.status.name(),
                            value: String::from_utf8(value).unwrap_or_default(),
                        })
                    };
                    plan.of_part(part).filter_map(of_feature).collect()
                };
                self.waiting().entry((view.to_owned(), version)).or_default().draw(records);
            }
        }
    }

    fn follows(&self, key: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.finish().is_multiple_of(self.one_in)
    }

    /// Drops what waits of these views.
    pub(crate) fn forget(&self, views: &[String]) {
        self.waiting().retain(|(view, _), _| !views.contains(view));
    }

    /// What waits, by view and version.
    pub(super) fn drain(&self) -> impl Iterator<Item = ((String, i32), Vec<Record>)> + use<> {
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.into_iter().map(|(view, kept)| (view, kept.answers.concat()))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no holder of this lock can panic")
    }
}

/// Records as they are written.
pub(super) fn to_frame(records: &[Record]) -> Frame {
    let text = |read: fn(&Record) -> &str| Values::text(records.iter().map(|record| Some(read(record))));
    let columns = vec![
        ("key".to_owned(), Values::text(records.iter().map(|record| Some(hex::encode(&record.key))))),
        ("served_at".to_owned(), Values::Time(records.iter().map(|record| record.served_at).collect())),
        ("seq".to_owned(), Values::Integer(records.iter().map(|record| record.seq).collect())),
        ("feature".to_owned(), text(|record| &record.feature)),
        ("status".to_owned(), text(|record| record.status)),
        ("value".to_owned(), text(|record| &record.value)),
    ];
    Frame::new(records.len(), columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_as_likely_to_be_kept_and_no_more_are_kept_than_a_check_takes() {
        let (given, rounds) = (4 * ANSWERS as i64, 200);
        let mut early = 0;
        for _ in 0..rounds {
            let mut kept = Kept::default();
            for served_at in 0..given {
                let record = Record {
                    key: vec![],
                    served_at,
                    seq: 0,
                    feature: String::new(),
                    status: "PRESENT",
                    value: String::new(),
                };
                kept.draw(|| vec![record]);
            }
            assert_eq!(kept.answers.len(), ANSWERS);
            early += kept.answers.concat().iter().filter(|record| record.served_at < given / 2).count();
        }
        let share = early as f64 / (rounds * ANSWERS) as f64;
        assert!((share - 0.5).abs() < 0.02, "{share} of the kept are of the first half"); // ten standard deviations
    }
}
