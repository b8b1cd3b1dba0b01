//! What merges do to rows: cut them by bucket, and let go of versions that are past their retention.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{Bucket, Part, Selection, read};
use crate::Error;
use crate::store::Store;
use crate::view::{ViewRows, ViewSchema};

/// Rows by bucket: what falls in each of `of` buckets. Empty ones are left out.
///
/// # Errors
/// [`Error::MissingColumn`].
pub fn cut(schema: &ViewSchema, rows: &ViewRows, of: u32) -> Result<Vec<(Bucket, ViewRows)>, Error> {
    let keys = rows.keys(schema)?;
    let mut places: Vec<Vec<u32>> = vec![Vec::new(); of as usize];
    for row in 0..rows.rows() {
        places[keys.bucket(row, of) as usize].push(row as u32);
    }
    let taken = places.into_iter().enumerate().filter(|(_, places)| !places.is_empty());
    Ok(taken.map(|(number, places)| (Bucket { number: number as u32, of }, rows.take(&places))).collect())
}

/// The rows of these parts by bucket, as [`cut`] has them, part by part: in memory are the rows once, and one part of them again.
///
/// # Errors
/// As [`read`].
pub fn read_cut(
    store: &Store,
    schema: &ViewSchema,
    parts: &[Part],
    of: u32,
) -> Result<Vec<(Bucket, ViewRows)>, Error> {
    let mut pieces: BTreeMap<u32, (Bucket, ViewRows)> = BTreeMap::new();
    for part in parts {
        let rows = read(store, schema, std::slice::from_ref(part), &Selection::up_to(i64::MAX))?;
        for (bucket, piece) in cut(schema, &rows, of)? {
            match pieces.entry(bucket.number) {
                Entry::Vacant(place) => drop(place.insert((bucket, piece))),
                Entry::Occupied(mut place) => place.get_mut().1.append(&piece)?,
            }
        }
    }
    Ok(pieces.into_values().collect())
}

/// How long versions are kept. Times are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Versions that happened from here on are kept.
    pub since: i64,
    /// So is the newest version of each key that happened from here on, however old; `None` if a view has no newest version.
    pub newest_since: Option<i64>,
}

/// The rows that are kept, in their order. All rows of a key must be there, or its newest one cannot be told.
///
/// # Errors
/// [`Error::MissingColumn`].
pub fn drop_old(schema: &ViewSchema, rows: &ViewRows, kept: Kept) -> Result<ViewRows, Error> {
    let keys = rows.keys(schema)?;
    let rank = |row: usize| (rows.event_time[row], rows.known_time[row], rows.seq[row], row);
    let mut newest: std::collections::HashMap<&[u8], usize> = std::collections::HashMap::new();
    for row in 0..rows.rows() {
        let Some(key) = keys.get(row) else { continue };
        let best = newest.entry(key).or_insert(row);
        if rank(row) > rank(*best) {
            *best = row;
        }
    }
    let is_newest = |row: usize| keys.get(row).is_some_and(|key| newest.get(key) == Some(&row));
    let keep = |row: usize| {
        rows.event_time[row] >= kept.since
            || kept.newest_since.is_some_and(|since| rows.event_time[row] >= since && is_newest(row))
    };
    let places: Vec<u32> = (0..rows.rows()).filter(|&row| keep(row)).map(|row| row as u32).collect();
    Ok(rows.take(&places))
}
