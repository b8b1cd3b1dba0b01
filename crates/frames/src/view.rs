//! Rows of a feature view: cut from a source's rows, sorted, and kept online; [`crate::parts`] keeps them in files.

use std::path::{Path, PathBuf};

use domain::definitions::{Entity, FeatureView, Shape, Source, ValueType};

use crate::frame::Frame;
use crate::groups::Moments;
use crate::keys::Keys;
use crate::parts::{self, Part, Selection, WrittenPart};
use crate::store::Store;
use crate::{Error, payload};

/// A file's folder as a store, and its name there.
fn apart(path: &Path) -> (Store, String) {
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    (Store::Folder(folder), path.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

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

    /// The names of the key columns.
    pub fn key_names(&self) -> Vec<&str> {
        self.keys.iter().map(|(name, _)| name.as_str()).collect()
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
            op: vec![false; kept.len()],
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
            return Ok((0..self.rows())
                .filter(|&row| self.event_time[row] > since)
                .map(|row| row as u32)
                .collect());
        }
        let keys = Keys::of(&self.frame, &schema.key_names())?;
        let mut newest: std::collections::BTreeMap<&[u8], u32> = std::collections::BTreeMap::new();
        let rank = |row: u32| (self.event_time[row as usize], self.known_time[row as usize], row);
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

    /// The encoded keys and values of each row, for the online store.
    pub fn payloads(&self) -> Vec<Vec<u8>> {
        (0..self.rows()).map(|row| payload::encode(&self.frame, row)).collect()
    }

    /// Rows read back from the online store.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if a payload does not fit the schema.
    pub fn from_online(
        schema: &ViewSchema,
        payloads: &[Vec<u8>],
        event_time: Vec<i64>,
        known_time: Vec<i64>,
        seq: Vec<i64>,
        op: Vec<bool>,
    ) -> Result<Self, Error> {
        let columns = Self::empty(schema).frame.schema();
        Ok(Self { frame: payload::decode(&columns, payloads)?, event_time, known_time, seq, op })
    }
}
