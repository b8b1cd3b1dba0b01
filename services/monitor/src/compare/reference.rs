//! A reference as profiles: made once of a file, kept, and compared with as often as wanted.

use std::path::Path;

use frames::column_file::{ColumnFile, ColumnKind};
use serde::{Deserialize, Serialize};
use statistics::profile::ColumnProfile;

use super::{in_parallel, kind_name, levels, numbers};
use crate::Error;

/// The format of kept references.
const FORMAT: u32 = 1;

/// The profiles of a file's columns, without its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    format: u32,
    /// Rows of the file.
    pub rows: u64,
    /// Its columns.
    pub columns: Vec<ReferenceColumn>,
}

/// What is kept of a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceColumn {
    /// Its name.
    pub name: String,
    /// `number`, `category`, `time` or `other`.
    pub kind: String,
    /// What its values are like; none of times, and without a value.
    pub profile: Option<ColumnProfile>,
    /// How much of an independent value a value is worth.
    pub worth: f64,
    /// A sample of its numbers, for measures of single values; not kept.
    #[serde(skip)]
    pub(super) sample: Vec<f64>,
}

impl Reference {
    /// The profiles of a Parquet file, or those kept in a file by [`Reference::write`].
    ///
    /// # Errors
    /// [`Error`] if it is neither.
    pub fn read(path: &Path, threads: usize) -> Result<Self, Error> {
        if is_parquet(path) {
            return Self::of(&ColumnFile::open(path)?, threads);
        }
        let unreadable = |why: String| Error::ReferenceFile { file: path.to_owned(), why };
        let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
        let kept: Self = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
        match kept.format {
            FORMAT => Ok(kept),
            other => Err(unreadable(format!("its format is {other}, this program reads {FORMAT}"))),
        }
    }

    fn of(file: &ColumnFile, threads: usize) -> Result<Self, Error> {
        let names: Vec<String> = file.columns().iter().map(|(name, _)| name.clone()).collect();
        let columns = in_parallel(&names, threads, |name| {
            Ok(ReferenceColumn { sample: vec![], ..ReferenceColumn::of(file, name)? })
        })?;
        Ok(Self { format: FORMAT, rows: file.rows(), columns })
    }

    /// Keeps the profiles in a file.
    ///
    /// # Errors
    /// [`Error`] if it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let bytes = serde_json::to_vec(self).expect("profiles hold no map with odd keys");
        std::fs::write(path, bytes)
            .map_err(|error| Error::ReferenceFile { file: path.to_owned(), why: error.to_string() })
    }
}

/// Whether a file begins as Parquet files do; one that cannot be read does, and says why when it is opened.
pub(super) fn is_parquet(path: &Path) -> bool {
    use std::io::Read;
    let mut begin = [0; 4];
    match std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut begin)) {
        Ok(()) => &begin == b"PAR1",
        Err(_) => false,
    }
}

impl ReferenceColumn {
    /// What is kept of a file's column.
    pub(super) fn of(file: &ColumnFile, name: &str) -> Result<Self, Error> {
        let kind = file.kind(name).unwrap_or(ColumnKind::Other);
        let blank = Self {
            name: name.to_owned(),
            kind: kind_name(kind).to_owned(),
            profile: None,
            worth: 1.0,
            sample: vec![],
        };
        Ok(match kind {
            ColumnKind::Number => match numbers::reference(file, name)? {
                Some((profile, worth, sample)) => Self { profile: Some(profile), worth, sample, ..blank },
                None => blank,
            },
            ColumnKind::Category => {
                let (profile, worth) = levels::reference(file, name)?;
                Self { profile: Some(profile), worth, ..blank }
            }
            ColumnKind::Time | ColumnKind::Other => blank,
        })
    }
}
