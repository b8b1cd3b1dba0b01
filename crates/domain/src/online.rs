//! Rows of the online store on their way: what is asked, and what came back, as bytes and moments.
//!
//! `storage` fetches and merges them, `frames` encodes and reads them; neither knows the other.

use std::collections::HashMap;

/// Which rows of one view to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The view version, by its number in `view_versions`.
    pub version_id: i64,
    /// Encoded keys.
    pub keys: Vec<Vec<u8>>,
    /// Events from this moment on, in microseconds; `None` asks for the latest row of each key.
    pub since: Option<i64>,
}

/// One row: moments, and where its bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnlineRow {
    start: u32,
    key_end: u32,
    end: u32,
    /// When it happened, in microseconds.
    pub event_time: i64,
    /// When it was learned.
    pub known_time: i64,
    /// Which ingest brought it.
    pub seq: i64,
    /// Its number in its batch.
    pub position: i32,
    /// Whether it takes the entity away.
    pub op: bool,
}

/// The moments of a row, as they come and go beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When it happened, in microseconds.
    pub event_time: i64,
    /// When it was learned.
    pub known_time: i64,
    /// Which ingest brought it.
    pub seq: i64,
    /// Its number in its batch.
    pub position: i32,
    /// Whether it takes the entity away.
    pub op: bool,
}

/// Rows of one view: all keys and payloads end to end in one buffer, so that a batch costs two allocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnlineRows {
    bytes: Vec<u8>,
    rows: Vec<OnlineRow>,
}

impl OnlineRows {
    /// Adds a row.
    ///
    /// # Panics
    /// Past 4 GiB of keys and payloads: batches are bounded far below.
    pub fn push(&mut self, key: &[u8], stamp: Stamp, payload: &[u8]) {
        self.push_with(key, stamp, |bytes| bytes.extend_from_slice(payload));
    }

    /// Adds a row whose payload `write` appends to the buffer.
    ///
    /// # Panics
    /// Past 4 GiB of keys and payloads: batches are bounded far below.
    pub fn push_with(&mut self, key: &[u8], stamp: Stamp, write: impl FnOnce(&mut Vec<u8>)) {
        let place = |at: usize| u32::try_from(at).expect("a batch of online rows is smaller than 4 GiB");
        let start = place(self.bytes.len());
        self.bytes.extend_from_slice(key);
        let key_end = place(self.bytes.len());
        write(&mut self.bytes);
        let Stamp { event_time, known_time, seq, position, op } = stamp;
        let end = place(self.bytes.len());
        self.rows.push(OnlineRow { start, key_end, end, event_time, known_time, seq, position, op });
    }

    /// Gives all rows their place in the order of ingests.
    pub fn set_seq(&mut self, seq: i64) {
        self.rows.iter_mut().for_each(|row| row.seq = seq);
    }

    /// Sorts by (key, `event_time`, `known_time`, seq, position), which [`OnlineRows::of`] needs.
    pub fn sort(&mut self) {
        let bytes = &self.bytes;
        let rank = |row: &OnlineRow| (row.event_time, row.known_time, row.seq, row.position);
        self.rows.sort_unstable_by(|a, b| {
            let (left, right) = (key_in(bytes, a), key_in(bytes, b));
            left.cmp(right).then_with(|| rank(a).cmp(&rank(b)))
        });
    }

    /// The rows of a key, oldest first; the rows must be sorted.
    pub fn of(&self, key: &[u8]) -> &[OnlineRow] {
        let from = self.rows.partition_point(|row| self.key(row) < key);
        let rest = &self.rows[from..];
        let count = rest.iter().take_while(|row| self.key(row) == key).count();
        &rest[..count]
    }

    /// All rows.
    pub fn rows(&self) -> &[OnlineRow] {
        &self.rows
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without a row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The size of keys and payloads.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The encoded key of a row.
    pub fn key(&self, row: &OnlineRow) -> &[u8] {
        key_in(&self.bytes, row)
    }

    /// The encoded values of a row.
    pub fn payload(&self, row: &OnlineRow) -> &[u8] {
        &self.bytes[row.key_end as usize..row.end as usize]
    }
}

fn key_in<'a>(bytes: &'a [u8], row: &OnlineRow) -> &'a [u8] {
    &bytes[row.start as usize..row.key_end as usize]
}

/// What came back for several questions, all seen at the same moment. It may hold more keys than one caller asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The rows, by view version; sorted.
    pub rows: HashMap<i64, OnlineRows>,
    /// The newest ingest that could be seen: the offline store up to here holds the same.
    pub seq: i64,
}

impl Fetched {
    /// The rows of a view version; `None` if nobody asked for it.
    pub fn get(&self, version_id: i64) -> Option<&OnlineRows> {
        self.rows.get(&version_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(event_time: i64, seq: i64) -> Stamp {
        Stamp { event_time, known_time: event_time, seq, position: 0, op: false }
    }

    #[test]
    fn the_rows_of_a_key_come_oldest_first_and_no_others() {
        let mut rows = OnlineRows::default();
        for (key, event, seq) in [("b", 5, 1), ("a", 9, 2), ("a", 3, 3), ("ab", 1, 4), ("a", 3, 1)] {
            rows.push(key.as_bytes(), stamp(event, seq), &[seq as u8]);
        }
        rows.sort();
        let found: Vec<(i64, &[u8])> =
            rows.of(b"a").iter().map(|row| (row.event_time, rows.payload(row))).collect();
        assert_eq!(found, [(3, &[1u8][..]), (3, &[3][..]), (9, &[2][..])]);
        assert!(rows.of(b"c").is_empty());
    }
}
