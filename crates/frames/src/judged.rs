//! Judged rows: what a model said of rows it never saw, and what came true. Gates compare two of these; of a model trained
//! elsewhere only what it said is asked, and a training set says what came true.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::Error;
use crate::files::{Written, read_arrow, read_table, verify, write_arrow};
use crate::frame::{Frame, Values};

/// What a model said, and what came true.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// Names each row.
    pub rows: Vec<String>,
    /// When each question was asked, in microseconds.
    pub cutoffs: Vec<i64>,
    /// The outcomes.
    pub labels: Vec<bool>,
    /// What the model said.
    pub probabilities: Vec<f64>,
}

/// Rows that two models were judged on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shared {
    /// When each question was asked, in microseconds.
    pub cutoffs: Vec<i64>,
    /// The outcomes.
    pub labels: Vec<bool>,
    /// What the first said.
    pub first: Vec<f64>,
    /// What the second said.
    pub second: Vec<f64>,
}

/// What came true of the rows of a training set.
#[derive(Clone, Debug, Default)]
pub struct Outcomes(HashMap<(String, i64), bool>);

impl Outcomes {
    /// The outcomes of a training set's file, after its hash was checked.
    ///
    /// # Errors
    /// [`Error::Altered`], [`Error::File`], or an error that names a column.
    pub fn read(path: &Path, sha256: &str) -> Result<Self, Error> {
        verify(path, sha256)?;
        let frame = read_table(path)?;
        let (rows, cutoffs) = (frame.column("__row")?, frame.times("__cutoff")?);
        let Values::Boolean(labels) = frame.column("__label")? else {
            return Err(Error::unreadable("training set", "its labels are not booleans"));
        };
        let known = labels.iter().enumerate().filter_map(|(place, label)| {
            Some(((rows.text_at(place)?.to_owned(), cutoffs[place]), (*label)?))
        });
        Ok(Self(known.collect()))
    }
}

impl Judged {
    /// What a model foretold of rows of a training set, beside what came true there. `foretold` has the columns `row`,
    /// `cutoff` and `probability`; the names that an exported training set gives the first two (`__row`, `__cutoff`) will do.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if a row is not the training set's or is there twice, or a probability is none; an error that
    /// names a column that is missing.
    pub fn of(foretold: &Frame, outcomes: &Outcomes) -> Result<Self, Error> {
        let named = |name: &str, other: &str| {
            if foretold.find(name).is_some() { name.to_owned() } else { other.to_owned() }
        };
        let rows = foretold.column(&named("row", "__row"))?;
        let cutoffs = foretold.times(&named("cutoff", "__cutoff"))?;
        let probabilities = foretold.numbers("probability")?;
        let mut judged = Self::default();
        let mut seen = HashSet::new();
        for (place, &probability) in probabilities.iter().enumerate() {
            let refused = |why: &str| Error::unreadable("predictions", format!("row {place}: {why}"));
            let row =
                rows.text_at(place).ok_or_else(|| refused("`row` is no text or is missing"))?.to_owned();
            if !(0.0..=1.0).contains(&probability) {
                return Err(refused(&format!("{probability} is no probability")));
            }
            let key = (row, cutoffs[place]);
            let label = outcomes.0.get(&key).ok_or_else(|| {
                refused(&format!("the training set holds no outcome of `{}` at that cutoff", key.0))
            })?;
            if seen.contains(&key) {
                return Err(refused(&format!("`{}` is there twice at that cutoff", key.0)));
            }
            judged.push(key.clone(), *label, probability);
            seen.insert(key);
        }
        Ok(judged)
    }

    fn push(&mut self, (row, cutoff): (String, i64), label: bool, probability: f64) {
        self.rows.push(row);
        self.cutoffs.push(cutoff);
        self.labels.push(label);
        self.probabilities.push(probability);
    }

    /// Writes the rows as an Arrow file.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, path: &Path) -> Result<Written, Error> {
        let columns = vec![
            ("row".to_owned(), Values::text(self.rows.iter().map(Some))),
            ("cutoff".to_owned(), Values::Time(self.cutoffs.clone())),
            ("label".to_owned(), Values::Boolean(self.labels.iter().copied().map(Some).collect())),
            ("probability".to_owned(), Values::Number(self.probabilities.clone())),
        ];
        write_arrow(path, &Frame::new(self.rows.len(), columns))
    }

    /// Reads the rows back, after the file's hash was checked.
    ///
    /// # Errors
    /// [`Error::Altered`], [`Error::File`], or an error that names a column.
    pub fn read(path: &Path, sha256: &str) -> Result<Self, Error> {
        verify(path, sha256)?;
        let frame = read_arrow(path)?;
        let names = frame.column("row")?;
        let Values::Boolean(labels) = frame.column("label")? else {
            return Err(Error::unreadable("judged rows", "their labels are not booleans"));
        };
        Ok(Self {
            rows: (0..frame.rows()).map(|row| names.text_at(row).unwrap_or_default().to_owned()).collect(),
            cutoffs: frame.times("cutoff")?.to_vec(),
            labels: labels.iter().map(|label| *label == Some(true)).collect(),
            probabilities: frame.numbers("probability")?.to_vec(),
        })
    }

    /// The rows that both were judged on: the same row asked about at the same cutoff with the same outcome.
    pub fn shared(&self, other: &Self) -> Shared {
        let places: HashMap<(&str, i64), usize> = other
            .rows
            .iter()
            .enumerate()
            .map(|(place, row)| ((row.as_str(), other.cutoffs[place]), place))
            .collect();
        let mut shared = Shared::default();
        for (place, row) in self.rows.iter().enumerate() {
            let Some(&there) = places.get(&(row.as_str(), self.cutoffs[place])) else { continue };
            if other.labels[there] == self.labels[place] {
                shared.cutoffs.push(self.cutoffs[place]);
                shared.labels.push(self.labels[place]);
                shared.first.push(self.probabilities[place]);
                shared.second.push(other.probabilities[there]);
            }
        }
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(rows: &[(&str, i64, f64)]) -> Judged {
        Judged {
            rows: rows.iter().map(|row| row.0.to_owned()).collect(),
            cutoffs: rows.iter().map(|row| row.1).collect(),
            labels: vec![true; rows.len()],
            probabilities: rows.iter().map(|row| row.2).collect(),
        }
    }

    #[test]
    fn judged_rows_survive_their_file_and_an_altered_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("judged.arrow");
        let written = judged(&[("a", 1, 0.5)]).write(&path).unwrap();
        assert_eq!(Judged::read(&path, &written.sha256).unwrap(), judged(&[("a", 1, 0.5)]));
        assert!(Judged::read(&path, "00").is_err());
    }

    #[test]
    fn a_foretelling_is_judged_by_the_training_sets_own_outcomes() {
        let outcomes = Outcomes([(("a".to_owned(), 1), true), (("b".to_owned(), 1), false)].into());
        let foretold = |rows: &[(&str, i64, f64)]| {
            let columns = vec![
                ("__row".to_owned(), Values::text(rows.iter().map(|row| Some(row.0)))),
                ("cutoff".to_owned(), Values::Time(rows.iter().map(|row| row.1).collect())),
                ("probability".to_owned(), Values::Number(rows.iter().map(|row| row.2).collect())),
            ];
            Judged::of(&Frame::new(rows.len(), columns), &outcomes)
        };
        assert_eq!(foretold(&[("b", 1, 0.2), ("a", 1, 0.9)]).unwrap().labels, [false, true]);
        for (wrong, why) in [
            (("c", 1, 0.2), "no outcome of `c`"),
            (("a", 2, 0.2), "no outcome of `a`"),
            (("a", 1, 1.5), "no probability"),
            (("a", 1, f64::NAN), "no probability"),
            (("b", 1, 0.2), "twice"),
        ] {
            let said = foretold(&[("b", 1, 0.1), wrong]).unwrap_err().to_string();
            assert!(said.contains(why), "{wrong:?}: {said}");
        }
    }

    #[test]
    fn only_rows_asked_about_at_the_same_moment_are_shared() {
        let shared = judged(&[("a", 1, 0.1), ("b", 1, 0.2), ("c", 1, 0.3)])
            .shared(&judged(&[("b", 1, 0.9), ("a", 2, 0.8)]));
        assert_eq!((shared.first, shared.second), (vec![0.2], vec![0.9]));
    }
}
