//! One row's values as bytes, for the online store.
//!
//! Format 2: the format number; the revision of the view's columns that the row was written under, two bytes; a null bitmap
//! (one bit a column, least significant first); one slot a column, in the revision's order; then the texts. A slot is eight
//! bytes little-endian for numbers, integers and times, one byte for booleans, the value itself for narrow and
//! exact types ([`crate::exact`]), and for texts where theirs begins and how long
//! it is, four bytes each. A slot's place depends on the revision alone, so one value is read without the others.
//!
//! Format 1, which older programs wrote, is read and not written: the format number, the bitmap, then what is not null, keys
//! included, one behind the other, a text as its length in four bytes and UTF-8.

use domain::definitions::{Columns, ValueType};

use crate::Error;
use crate::exact::{self, Exact};
use crate::frame::{Frame, NO_INTEGER, Values};

const LISTED: u8 = 1;
const SLOTTED: u8 = 2;
const HEADER: usize = 3;

/// One value of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Nothing.
    Null,
    /// A number.
    Number(f64),
    /// An integer.
    Integer(i64),
    /// A text.
    Text(&'a str),
    /// Microseconds since 1970, UTC.
    Time(i64),
    /// A truth value.
    Boolean(bool),
    /// A value of a narrow or exact type, as its bytes.
    Exact(ValueType, &'a [u8]),
}

impl<'a> Cell<'a> {
    /// The value of a frame's column at a row.
    pub fn of(values: &'a Values, row: usize) -> Self {
        if values.is_null(row) {
            return Self::Null;
        }
        match values {
            Values::Number(values) => Self::Number(values[row]),
            Values::Integer(values) => Self::Integer(values[row]),
            Values::Time(values) => Self::Time(values[row]),
            Values::Boolean(values) => values[row].map_or(Self::Null, Self::Boolean),
            Values::Text(..) => values.text_at(row).map_or(Self::Null, Self::Text),
            Values::Exact(values) => {
                values.get(row).map_or(Self::Null, |bytes| Self::Exact(values.kind(), bytes))
            }
        }
    }

    /// A narrower value as a wider one, if that is what the column is read as now.
    #[inline]
    fn read_as(self, kind: ValueType) -> Self {
        match (self, kind) {
            (Self::Integer(value), ValueType::Number) => Self::Number(value as f64),
            (Self::Exact(narrow, bytes), ValueType::Number) => Self::Number(exact::number(narrow, bytes)),
            (Self::Exact(_, bytes), ValueType::Integer) => Self::Integer(exact::integer(bytes)),
            (Self::Exact(_, bytes), kind) => Self::Exact(kind, bytes),
            (other, _) => other,
        }
    }
}

/// Where each column's slot lies in a row of one revision.
#[derive(Clone, Debug)]
struct Slots {
    kinds: Vec<ValueType>,
    places: Vec<usize>,
    texts: usize,
}

impl Slots {
    fn of(columns: &[(String, ValueType)]) -> Self {
        let mut next = HEADER + columns.len().div_ceil(8);
        let places = columns.iter().map(|(_, kind)| {
            let place = next;
            next += slot_width(*kind);
            place
        });
        let places = places.collect();
        Self { kinds: columns.iter().map(|(_, kind)| *kind).collect(), places, texts: next }
    }

    #[inline]
    fn cell<'a>(&self, payload: &'a [u8], column: usize) -> Option<Cell<'a>> {
        if payload.get(HEADER + column / 8)? & (1 << (column % 8)) != 0 {
            return Some(Cell::Null);
        }
        let slot = payload.get(self.places[column]..self.texts)?;
        let kind = self.kinds[column];
        if let Some(width) = kind.exact_width() {
            return Some(Cell::Exact(kind, slot.get(..width)?));
        }
        let eight = slot.first_chunk::<8>().copied();
        Some(match kind {
            ValueType::Number => Cell::Number(f64::from_le_bytes(eight?)),
            ValueType::Integer => Cell::Integer(i64::from_le_bytes(eight?)),
            ValueType::Time => Cell::Time(i64::from_le_bytes(eight?)),
            ValueType::Boolean => Cell::Boolean(*slot.first()? == 1),
            ValueType::Text => {
                let [start, length] = [*slot.first_chunk::<4>()?, *slot.get(4..)?.first_chunk::<4>()?]
                    .map(|four| u32::from_le_bytes(four) as usize);
                let texts = payload.get(self.texts..)?;
                Cell::Text(std::str::from_utf8(texts.get(start..start.checked_add(length)?)?).ok()?)
            }
            ValueType::Float32 | ValueType::Int32 | ValueType::Decimal { .. } | ValueType::Vector(_) => {
                return None;
            }
        })
    }
}

fn slot_width(kind: ValueType) -> usize {
    kind.exact_width().unwrap_or(if kind == ValueType::Boolean { 1 } else { 8 })
}

/// Writes rows of one revision.
#[derive(Clone, Debug)]
pub struct Encoder {
    revision: u16,
    slots: Slots,
}

impl Encoder {
    /// Writes rows of these columns under this number.
    pub fn new(revision: u16, columns: &[(String, ValueType)]) -> Self {
        Self { revision, slots: Slots::of(columns) }
    }

    /// Appends row `row` of `columns`, which are the revision's, in its order.
    pub fn write(&self, bytes: &mut Vec<u8>, columns: &[&Values], row: usize) {
        let start = bytes.len();
        bytes.resize(start + self.slots.texts, 0);
        bytes[start] = SLOTTED;
        bytes[start + 1..start + HEADER].copy_from_slice(&self.revision.to_le_bytes());
        for (at, values) in columns.iter().enumerate() {
            let slot = start + self.slots.places[at];
            match Cell::of(values, row) {
                Cell::Null => bytes[start + HEADER + at / 8] |= 1 << (at % 8),
                Cell::Number(value) => bytes[slot..slot + 8].copy_from_slice(&value.to_le_bytes()),
                Cell::Integer(value) | Cell::Time(value) => {
                    bytes[slot..slot + 8].copy_from_slice(&value.to_le_bytes());
                }
                Cell::Boolean(value) => bytes[slot] = u8::from(value),
                Cell::Exact(_, value) => bytes[slot..slot + value.len()].copy_from_slice(value),
                Cell::Text(text) => {
                    let begins = (bytes.len() - start - self.slots.texts) as u32;
                    bytes[slot..slot + 4].copy_from_slice(&begins.to_le_bytes());
                    bytes[slot + 4..slot + 8].copy_from_slice(&(text.len() as u32).to_le_bytes());
                    bytes.extend_from_slice(text.as_bytes());
                }
            }
        }
    }
}

/// Reads rows of every revision of a view version as the columns it has now.
#[derive(Clone, Debug)]
pub struct Decoder {
    columns: Columns,
    revisions: Vec<Revision>,
    /// The columns that a row of format 1 lists: keys, then the first revision's.
    listed: Columns,
}

/// One revision, and where in it each of today's columns lies.
#[derive(Clone, Debug)]
pub struct Revision {
    slots: Slots,
    found: Vec<Option<usize>>,
}

impl Decoder {
    /// Reads rows of `revisions` as `columns`; a column that a revision lacks is null. `keys` are the view's key columns.
    pub fn new(keys: &Columns, columns: &Columns, revisions: &[Columns]) -> Self {
        let revision = |held: &Columns| Revision {
            slots: Slots::of(held),
            found: columns.iter().map(|(name, _)| held.iter().position(|(known, _)| known == name)).collect(),
        };
        let first = revisions.first().unwrap_or(columns);
        Self {
            columns: columns.clone(),
            revisions: revisions.iter().map(revision).collect(),
            listed: keys.iter().chain(first).cloned().collect(),
        }
    }

    /// The columns that rows are read as.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// One row, ready to be read.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if the bytes are of no format or revision that this decoder knows.
    pub fn row<'a>(&'a self, payload: &'a [u8]) -> Result<Row<'a>, Error> {
        match payload {
            [SLOTTED, low, high, ..] => {
                let number = u16::from_le_bytes([*low, *high]);
                let revision = usize::from(number).checked_sub(1).and_then(|at| self.revisions.get(at));
                let revision = revision.ok_or_else(|| {
                    refused(&format!("its revision is {number}, {} are known", self.revisions.len()))
                })?;
                Ok(Row::Slotted { columns: &self.columns, revision, payload })
            }
            [LISTED, rest @ ..] => self.listed(rest),
            [] => Err(refused("it is empty")),
            [format, ..] => Err(refused(&format!("its format is {format}, this program knows 1 and 2"))),
        }
    }

    /// All rows as a frame.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if a row is not of this view.
    pub fn frame<'a>(&self, payloads: impl Iterator<Item = &'a [u8]> + Clone) -> Result<Frame, Error> {
        let rows: Vec<Row<'_>> = payloads.map(|payload| self.row(payload)).collect::<Result<_, _>>()?;
        let columns = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, (name, kind))| Ok((name.clone(), gather(&rows, at, *kind)?)))
            .collect::<Result<_, Error>>()?;
        Ok(Frame::new(rows.len(), columns))
    }

    fn listed<'a>(&'a self, bytes: &'a [u8]) -> Result<Row<'a>, Error> {
        let bitmap_length = self.listed.len().div_ceil(8);
        let (bitmap, mut rest) =
            bytes.split_at_checked(bitmap_length).ok_or_else(|| refused("it is cut short"))?;
        let mut cells = vec![Cell::Null; self.columns.len()];
        for (at, (name, kind)) in self.listed.iter().enumerate() {
            if bitmap[at / 8] & (1 << (at % 8)) != 0 {
                continue;
            }
            let (cell, behind) =
                listed_cell(*kind, rest).ok_or_else(|| refused("it does not fit its view"))?;
            rest = behind;
            if let Some(place) = self.columns.iter().position(|(known, _)| known == name) {
                cells[place] = cell.read_as(self.columns[place].1);
            }
        }
        if rest.is_empty() { Ok(Row::Listed(cells)) } else { Err(refused("it is longer than its view")) }
    }
}

fn refused(why: &str) -> Error {
    Error::unreadable("online row", why)
}

fn listed_cell(kind: ValueType, bytes: &[u8]) -> Option<(Cell<'_>, &[u8])> {
    Some(match kind {
        ValueType::Boolean => {
            let (slot, rest) = bytes.split_first()?;
            (Cell::Boolean(*slot == 1), rest)
        }
        ValueType::Text => {
            let (length, rest) = bytes.split_first_chunk::<4>()?;
            let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            (Cell::Text(std::str::from_utf8(text).ok()?), rest)
        }
        ValueType::Float32 | ValueType::Int32 | ValueType::Decimal { .. } | ValueType::Vector(_) => {
            return None;
        }
        ValueType::Number | ValueType::Integer | ValueType::Time => {
            let (slot, rest) = bytes.split_first_chunk::<8>()?;
            let cell = match kind {
                ValueType::Number => Cell::Number(f64::from_le_bytes(*slot)),
                ValueType::Integer => Cell::Integer(i64::from_le_bytes(*slot)),
                _ => Cell::Time(i64::from_le_bytes(*slot)),
            };
            (cell, rest)
        }
    })
}

/// A row that is about to be read.
#[derive(Clone, Debug)]
pub enum Row<'a> {
    /// Of format 2: a value is found by its place.
    Slotted {
        /// Today's columns.
        columns: &'a Columns,
        /// The revision that it was written under.
        revision: &'a Revision,
        /// Its bytes.
        payload: &'a [u8],
    },
    /// Of format 1: all values were read.
    Listed(Vec<Cell<'a>>),
}

impl<'a> Row<'a> {
    /// The value of a column, by its number.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if the row is cut short or holds no UTF-8 where a text should be.
    #[inline]
    pub fn cell(&self, column: usize) -> Result<Cell<'a>, Error> {
        match self {
            Self::Listed(cells) => Ok(cells[column]),
            Self::Slotted { columns, revision, payload } => {
                let Some(place) = revision.found[column] else { return Ok(Cell::Null) };
                let cell =
                    revision.slots.cell(payload, place).ok_or_else(|| refused("it does not fit its view"))?;
                Ok(cell.read_as(columns[column].1))
            }
        }
    }
}

fn gather(rows: &[Row<'_>], column: usize, kind: ValueType) -> Result<Values, Error> {
    fn each<T>(rows: &[Row<'_>], column: usize, read: impl Fn(Cell<'_>) -> T) -> Result<Vec<T>, Error> {
        rows.iter().map(|row| row.cell(column).map(&read)).collect()
    }
    let integer = |cell: Cell<'_>| match cell {
        Cell::Integer(value) | Cell::Time(value) => value,
        _ => NO_INTEGER,
    };
    Ok(match kind {
        ValueType::Number => Values::Number(each(rows, column, |cell| match cell {
            Cell::Number(value) => value,
            _ => f64::NAN,
        })?),
        ValueType::Integer => Values::Integer(each(rows, column, integer)?),
        ValueType::Time => Values::Time(each(rows, column, integer)?),
        ValueType::Boolean => Values::Boolean(each(rows, column, |cell| match cell {
            Cell::Boolean(value) => Some(value),
            _ => None,
        })?),
        ValueType::Text => Values::text(each(rows, column, |cell| match cell {
            Cell::Text(text) => Some(text.to_owned()),
            _ => None,
        })?),
        exact => {
            let mut values = Exact::new(exact);
            for row in rows {
                match row.cell(column)? {
                    Cell::Exact(_, bytes) => values.push(Some(bytes)),
                    _ => values.push(None),
                }
            }
            Values::Exact(values)
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame() -> Frame {
        Frame::new(
            2,
            vec![
                ("n".into(), Values::Number(vec![1.5, -0.0])),
                ("i".into(), Values::Integer(vec![NO_INTEGER, (1 << 53) + 1])),
                ("s".into(), Values::text([Some("UA"), None])),
                ("b".into(), Values::Boolean(vec![None, Some(false)])),
                ("t".into(), Values::Time(vec![5, NO_INTEGER])),
                ("e".into(), Values::text([Some(""), Some("naïve\0")])),
            ],
        )
    }

    fn encode(frame: &Frame, revision: u16, row: usize) -> Vec<u8> {
        let columns: Vec<&Values> = frame.columns().iter().map(|(_, values)| values).collect();
        let mut bytes = Vec::new();
        Encoder::new(revision, &frame.schema()).write(&mut bytes, &columns, row);
        bytes
    }

    fn decoder() -> Decoder {
        Decoder::new(&vec![], &frame().schema(), &[frame().schema()])
    }

    #[test]
    fn rows_survive_the_encoding() {
        let payloads = [encode(&frame(), 1, 0), encode(&frame(), 1, 1)];
        let read = decoder().frame(payloads.iter().map(Vec::as_slice)).unwrap();
        assert_eq!(read, frame());
        assert!(read.numbers("n").unwrap()[1].is_sign_negative(), "-0.0 lost its sign");
    }

    #[test]
    fn a_row_of_format_1_is_still_read() {
        // key "k" = "a", then n = 2.0, i null; as the first release wrote it
        let mut bytes = vec![1, 0b100];
        bytes.extend_from_slice(&1u32.to_le_bytes());
        bytes.push(b'a');
        bytes.extend_from_slice(&2.0f64.to_le_bytes());
        let columns = vec![("n".to_owned(), ValueType::Number), ("i".to_owned(), ValueType::Integer)];
        let decoder =
            Decoder::new(&vec![("k".into(), ValueType::Text)], &columns, std::slice::from_ref(&columns));
        let row = decoder.row(&bytes).unwrap();
        assert_eq!((row.cell(0).unwrap(), row.cell(1).unwrap()), (Cell::Number(2.0), Cell::Null));
    }

    #[test]
    fn a_row_of_an_older_revision_is_null_where_it_lacks_a_column_and_widened_where_it_must_be() {
        let before = vec![("i".to_owned(), ValueType::Integer)];
        let after = vec![("new".to_owned(), ValueType::Text), ("i".to_owned(), ValueType::Number)];
        let frame = Frame::new(1, vec![("i".into(), Values::Integer(vec![7]))]);
        let bytes = encode(&frame, 1, 0);
        let decoder = Decoder::new(&vec![], &after, &[before, after.clone()]);
        let row = decoder.row(&bytes).unwrap();
        assert_eq!((row.cell(0).unwrap(), row.cell(1).unwrap()), (Cell::Null, Cell::Number(7.0)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), format in 0u8..3) {
            let bytes: Vec<u8> = [&[format, 1, 0][..], &bytes].concat();
            let _ = decoder().frame(std::iter::once(bytes.as_slice()));
        }

        #[test]
        fn a_cut_row_is_refused(length in 0usize..60) {
            let whole = encode(&frame(), 1, 0);
            prop_assert!(length >= whole.len() || decoder().frame(std::iter::once(&whole[..length])).is_err());
        }
    }
}
