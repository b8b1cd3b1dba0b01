//! Taking entities out of a part. The file is read as it is, whatever revision wrote it, and loses rows only.

use std::collections::HashMap;
use std::path::Path;

use crate::Error;
use crate::files::read_parquet;
use crate::frame::Frame;
use crate::keys::Keys;

/// What is left of a part.
#[derive(Clone, Debug)]
pub struct Left {
    /// The rows that stay, with all their columns.
    pub frame: Frame,
    /// How many do not.
    pub removed: usize,
}

/// A part without the rows of these keys, as far as they happened by the key's horizon (microseconds); `None` if it holds
/// none of them.
///
/// # Errors
/// [`Error::File`], or an error that names a column.
pub fn without<S: AsRef<str>>(
    path: &Path,
    key_columns: &[S],
    horizons: &HashMap<Vec<u8>, i64>,
) -> Result<Option<Left>, Error> {
    let part = read_parquet(path)?;
    let keys = Keys::of(&part, key_columns)?;
    let event_times = part.times("__event_time")?;
    let gone = |row: usize| {
        let horizon = keys.get(row).and_then(|key| horizons.get(key));
        horizon.is_some_and(|horizon| event_times[row] <= *horizon)
    };
    let frame = part.filter(|row| !gone(row));
    let removed = part.rows() - frame.rows();
    Ok((removed > 0).then_some(Left { frame, removed }))
}
