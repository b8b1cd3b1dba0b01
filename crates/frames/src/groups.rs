//! Rows of a view, grouped by key and sorted inside a group: what all point-in-time kernels read.

use std::collections::HashMap;
use std::ops::Range;

use crate::frame::NO_INTEGER;
use crate::keys::Keys;

/// The `as_of` of a question that may see whatever was learned, and whenever.
pub const WHENEVER_LEARNED: i64 = i64::MAX;

/// Whether a row brings values or takes the entity away.
pub const PUT: bool = false;
/// A row that takes the entity away: nothing before it remains.
pub const TOMBSTONE: bool = true;

/// The moments of a view's rows.
#[derive(Clone, Copy, Debug)]
pub struct Moments<'a> {
    /// When each row happened, in microseconds.
    pub event_time: &'a [i64],
    /// When it was learned; [`NO_INTEGER`] if nobody knows, which only [`WHENEVER_LEARNED`] sees.
    pub known_time: &'a [i64],
    /// The order in which rows were accepted.
    pub seq: &'a [i64],
    /// [`PUT`] or [`TOMBSTONE`].
    pub op: &'a [bool],
}

/// One question of a point-in-time join: what was known of this key?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// The entity; `None` matches nothing.
    pub key: Option<&'a [u8]>,
    /// Nothing that happened later counts.
    pub cutoff: i64,
    /// Nothing that was learned later counts.
    pub as_of: i64,
}

/// Row numbers sorted by (key, `event_time`, `known_time`, seq).
#[derive(Debug)]
pub struct Groups<'a> {
    moments: Moments<'a>,
    order: Vec<u32>,
    event_times: Vec<i64>,
    ranges: HashMap<&'a [u8], Range<usize>>,
}

impl<'a> Groups<'a> {
    /// Groups rows by `keys`; rows without a key are left out.
    pub fn new(keys: &'a Keys, moments: Moments<'a>) -> Self {
        let mut order: Vec<u32> =
            (0..keys.len() as u32).filter(|&row| keys.get(row as usize).is_some()).collect();
        let rank = |row: u32| {
            let row = row as usize;
            (keys.get(row), moments.event_time[row], moments.known_time[row], moments.seq[row], row)
        };
        order.sort_unstable_by_key(|&row| rank(row));
        let mut ranges: HashMap<&[u8], Range<usize>> = HashMap::new();
        for (position, &row) in order.iter().enumerate() {
            if let Some(key) = keys.get(row as usize) {
                ranges.entry(key).or_insert(position..position).end = position + 1;
            }
        }
        let event_times = order.iter().map(|&row| moments.event_time[row as usize]).collect();
        Self { moments, order, event_times, ranges }
    }

    /// The rows of the question's key that happened by its cutoff (before it, if `exclusive`), oldest first, as positions.
    pub fn happened(&self, question: &Question<'_>, exclusive: bool) -> Range<usize> {
        let Some(range) = question.key.and_then(|key| self.ranges.get(key)) else { return 0..0 };
        let times = &self.event_times[range.clone()];
        let until = times.partition_point(|&t| t < question.cutoff || (t == question.cutoff && !exclusive));
        range.start..range.start + until
    }

    /// The first position in `range` that happened after `moment`.
    pub fn first_after(&self, range: &Range<usize>, moment: i64) -> usize {
        range.start + self.event_times[range.clone()].partition_point(|&t| t <= moment)
    }

    /// The row at a position.
    pub fn row(&self, position: usize) -> usize {
        self.order[position] as usize
    }

    /// When the row at a position happened.
    pub fn event_time(&self, position: usize) -> i64 {
        self.event_times[position]
    }

    /// Whether the question's moment of knowledge could see the row at a position.
    pub fn known(&self, position: usize, question: &Question<'_>) -> bool {
        let known_time = self.known_time(position);
        known_time <= question.as_of && (known_time != NO_INTEGER || question.as_of == WHENEVER_LEARNED)
    }

    /// When the row at a position was learned.
    pub fn known_time(&self, position: usize) -> i64 {
        self.moments.known_time[self.row(position)]
    }

    /// Whether the row at a position is a tombstone.
    pub fn is_tombstone(&self, position: usize) -> bool {
        self.moments.op[self.row(position)] == TOMBSTONE
    }
}
