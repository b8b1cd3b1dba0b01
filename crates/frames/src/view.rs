//! Rows of a feature view: cut from a source's rows, sorted, and kept online; [`crate::parts`] keeps them in files.

use std::path::{Path, PathBuf};

use domain::definitions::{Entity, FeatureView, Shape, Source, ValueType};
use domain::online::{OnlineRow, OnlineRows, Stamp};

use crate::Error;
use crate::frame::{Frame, Values};
use crate::groups::Moments;
use crate::keys::{self, Keys};
use crate::parts::{self, Part, Selection, WrittenPart};
use crate::payload::{Decoder, Encoder};
use crate::store::Store;

/// A file's folder as a store, and its name there.
fn apart(path: &Path) -> (Store, String) {
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    (Store::Folder(folder), path.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

/// The column of pushed rows that says whether a row takes its entity away; rows without it bring values.
pub const DELETED: &str = "__deleted";

/// The columns of a view's rows: which are keys, which are values.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewSchema {
    /// The key columns, in order.
    pub keys: Vec<(String, ValueType)>,
    /// The value columns, in order.
    pub values: Vec<(String, ValueType)>,
}

impl ViewSchema {
    /// The schema of a checked view.
    pub fn of(view: &FeatureView, entity: &Entity, source: &Source) -> Self {
        let typed =
            |name: &String| (name.clone(), source.columns.get(name).copied().unwrap_or(ValueType::Number));
        let values = view.columns().into_iter().filter(|name| !entity.keys.contains(name));
        Self {
            keys: entity.keys.iter().map(typed).collect(),
            values: values.map(|name| typed(&name)).collect(),
        }
    }

    /// About what one row takes in memory, in bytes: its values, its two times, its seq and its op.
    pub fn row_bytes(&self) -> i64 {
        let columns = self.keys.iter().chain(&self.values);
        25 + columns.map(|(_, kind)| kind.bytes()).sum::<i64>()
    }

    /// The names of the key columns.
    pub fn key_names(&self) -> Vec<&str> {
        self.keys.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// Tells apart the rows of a key that one ingest brought for the same moment: numbered in the order of knowledge, then of the
/// batch. A part is sorted the same way, so a row has the same number whether it comes from a batch or from its part.
#[derive(Debug, Default)]
struct Positions<'a>(std::collections::HashMap<(&'a [u8], i64, i64), i32>);

impl<'a> Positions<'a> {
    fn next(&mut self, key: &'a [u8], event_time: i64, seq: i64) -> i32 {
        let next = self.0.entry((key, event_time, seq)).or_default();
        *next += 1;
        *next - 1
    }
}

/// Rows of a view, with their moments.
#[derive(Clone, Debug)]
pub struct ViewRows {
    /// Keys and values.
    pub frame: Frame,
    /// When each happened.
    pub event_time: Vec<i64>,
    /// When each was learned.
    pub known_time: Vec<i64>,
    /// Which ingest brought it.
    pub seq: Vec<i64>,
    /// Whether it takes the entity away.
    pub op: Vec<bool>,
}

impl ViewRows {
    /// No rows yet.
    pub fn empty(schema: &ViewSchema) -> Self {
        let columns: Vec<(String, ValueType)> = schema.keys.iter().chain(&schema.values).cloned().collect();
        Self {
            frame: Frame::empty(&columns),
            event_time: vec![],
            known_time: vec![],
            seq: vec![],
            op: vec![],
        }
    }

    /// Cuts a view's rows out of a source's rows; rows without a key are left out.
    ///
    /// # Errors
    /// [`Error::MissingColumn`] or [`Error::WrongType`].
    pub fn cut(schema: &ViewSchema, source: &Source, rows: &Frame, seq: i64) -> Result<Self, Error> {
        let keys = Keys::of(rows, &schema.key_names())?;
        let kept: Vec<u32> =
            (0..rows.rows()).filter(|&row| keys.get(row).is_some()).map(|row| row as u32).collect();
        let names: Vec<&str> =
            schema.keys.iter().chain(&schema.values).map(|(name, _)| name.as_str()).collect();
        let pick = |times: &[i64]| kept.iter().map(|&row| times[row as usize]).collect();
        Ok(Self {
            frame: rows.select(&names)?.take(&kept),
            event_time: pick(rows.times(&source.event_time)?),
            known_time: pick(rows.times(&source.known_time)?),
            seq: vec![seq; kept.len()],
            op: match rows.find(DELETED) {
                Some(Values::Boolean(deleted)) => {
                    kept.iter().map(|&row| deleted[row as usize] == Some(true)).collect()
                }
                _ => vec![false; kept.len()],
            },
        })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.frame.rows()
    }

    /// The rows' moments, for the kernels.
    pub fn moments(&self) -> Moments<'_> {
        Moments { event_time: &self.event_time, known_time: &self.known_time, seq: &self.seq, op: &self.op }
    }

    /// The rows at these places.
    #[must_use]
    pub fn take(&self, places: &[u32]) -> Self {
        let pick = |values: &[i64]| places.iter().map(|&row| values[row as usize]).collect();
        Self {
            frame: self.frame.take(places),
            event_time: pick(&self.event_time),
            known_time: pick(&self.known_time),
            seq: pick(&self.seq),
            op: places.iter().map(|&row| self.op[row as usize]).collect(),
        }
    }

    /// The same rows sorted by (key, `event_time`, `known_time`, seq).
    ///
    /// # Errors
    /// [`Error::MissingColumn`].
    pub fn sorted(&self, schema: &ViewSchema) -> Result<Self, Error> {
        let keys = Keys::of(&self.frame, &schema.key_names())?;
        let mut order: Vec<u32> = (0..self.rows() as u32).collect();
        order.sort_by_key(|&row| {
            let row = row as usize;
            (keys.get(row), self.event_time[row], self.known_time[row], self.seq[row])
        });
        Ok(self.take(&order))
    }

    /// Appends other rows of the same view.
    ///
    /// # Errors
    /// [`Error::WrongType`] if a column changed its type.
    pub fn append(&mut self, other: &Self) -> Result<(), Error> {
        self.frame.append(&other.frame)?;
        self.event_time.extend_from_slice(&other.event_time);
        self.known_time.extend_from_slice(&other.known_time);
        self.seq.extend_from_slice(&other.seq);
        self.op.extend_from_slice(&other.op);
        Ok(())
    }

    /// Writes the rows as one part, sorted.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write_part(&self, schema: &ViewSchema, path: &Path) -> Result<WrittenPart, Error> {
        let (store, name) = apart(path);
        parts::write(&store, &name, schema, self)
    }

    /// Reads parts, in order.
    ///
    /// # Errors
    /// [`Error::File`], or an error that names a column.
    pub fn read_parts(schema: &ViewSchema, paths: &[PathBuf]) -> Result<Self, Error> {
        let mut all = Self::empty(schema);
        for path in paths {
            let (store, name) = apart(path);
            let part = Part::unlisted(&name);
            all.append(&parts::read(&store, schema, &[part], &Selection::up_to(i64::MAX))?)?;
        }
        Ok(all)
    }

    /// Which rows the online store needs, in its order: for `latest` views the newest of each key; for events those that
    /// a window still reaches at `now`.
    ///
    /// # Errors
    /// [`Error::MissingColumn`].
    pub fn online_places(
        &self,
        schema: &ViewSchema,
        view: &FeatureView,
        now: i64,
    ) -> Result<Vec<u32>, Error> {
        if view.shape() == Shape::Log {
            return Ok(vec![]);
        }
        if let Some(memory) = view.memory() {
            let since = now.saturating_sub(memory.micros());
            let reached = (0..self.rows() as u32).filter(|&row| self.event_time[row as usize] >= since);
            let mut places: Vec<u32> = reached.collect();
            places.sort_by_key(|&row| self.known_time[row as usize]); // as a part is sorted within a key and moment
            return Ok(places);
        }
        let keys = Keys::of(&self.frame, &schema.key_names())?;
        let mut newest: std::collections::BTreeMap<&[u8], u32> = std::collections::BTreeMap::new();
        let rank = |row: u32| {
            let at = row as usize;
            (self.event_time[at], self.known_time[at], self.seq[at], row)
        };
        for row in 0..self.rows() as u32 {
            let Some(key) = keys.get(row as usize) else { continue };
            let best = newest.entry(key).or_insert(row);
            if rank(row) > rank(*best) {
                *best = row;
            }
        }
        Ok(newest.into_values().collect())
    }

    /// The encoded keys.
    ///
    /// # Errors
    /// [`Error::MissingColumn`].
    pub fn keys(&self, schema: &ViewSchema) -> Result<Keys, Error> {
        Keys::of(&self.frame, &schema.key_names())
    }

    /// The rows that the online store needs, as it keeps them. `revision` is the number that payloads carry.
    ///
    /// # Errors
    /// [`Error::MissingColumn`].
    pub fn online(
        &self,
        schema: &ViewSchema,
        view: &FeatureView,
        revision: u16,
        now: i64,
    ) -> Result<OnlineRows, Error> {
        let places = self.online_places(schema, view, now)?;
        let keys = self.keys(schema)?;
        let encoder = Encoder::new(revision, &schema.values);
        let columns: Vec<&Values> =
            schema.values.iter().map(|(name, _)| self.frame.column(name)).collect::<Result<_, _>>()?;
        let mut online = OnlineRows::default();
        let mut positions = Positions::default();
        for place in places {
            let row = place as usize;
            let Some(key) = keys.get(row) else { continue };
            let position = match view.shape() {
                Shape::Latest => 0,
                _ => positions.next(key, self.event_time[row], self.seq[row]),
            };
            let stamp = Stamp {
                event_time: self.event_time[row],
                known_time: self.known_time[row],
                seq: self.seq[row],
                position,
                op: self.op[row],
            };
            online.push_with(key, stamp, |bytes| encoder.write(bytes, &columns, row));
        }
        Ok(online)
    }

    /// Rows read back from the online store.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if a row does not fit its view.
    pub fn from_online<'a>(
        schema: &ViewSchema,
        decoder: &Decoder,
        online: &'a OnlineRows,
        rows: &[&'a OnlineRow],
    ) -> Result<Self, Error> {
        let mut columns = keys::decode(&schema.keys, rows.iter().map(|row| online.key(row)))?;
        let values = decoder.frame(rows.iter().map(|row| online.payload(row)))?;
        columns.extend(values.columns().iter().cloned());
        let each = |read: fn(&OnlineRow) -> i64| rows.iter().map(|row| read(row)).collect();
        Ok(Self {
            frame: Frame::new(rows.len(), columns),
            event_time: each(|row| row.event_time),
            known_time: each(|row| row.known_time),
            seq: each(|row| row.seq),
            op: rows.iter().map(|row| row.op).collect(),
        })
    }
}
