//! One row's values as bytes, for the online store.
//!
//! Format 1: the format number, a null bitmap (one bit a column, least significant first), then for each column that is not
//! null, in schema order: eight bytes little-endian for numbers, integers and times, one byte for booleans, and for texts a
//! length of four bytes and UTF-8.

use domain::definitions::ValueType;

use crate::Error;
use crate::frame::{Frame, Values};

const FORMAT: u8 = 1;

/// Encodes one row of a frame.
pub fn encode(frame: &Frame, row: usize) -> Vec<u8> {
    let columns = frame.columns();
    let mut bytes = vec![0; 1 + columns.len().div_ceil(8)];
    bytes[0] = FORMAT;
    for (at, (_, values)) in columns.iter().enumerate() {
        if values.is_null(row) {
            bytes[1 + at / 8] |= 1 << (at % 8);
            continue;
        }
        match values {
            Values::Number(values) => bytes.extend_from_slice(&values[row].to_le_bytes()),
            Values::Integer(values) | Values::Time(values) => {
                bytes.extend_from_slice(&values[row].to_le_bytes());
            }
            Values::Boolean(values) => bytes.push(u8::from(values[row] == Some(true))),
            Values::Text(..) => {
                let text = values.text_at(row).unwrap_or_default();
                bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
    bytes
}

/// Decodes rows that were encoded under this schema.
///
/// # Errors
/// [`Error::Unreadable`] if the bytes are not of this format or schema.
pub fn decode(schema: &[(String, ValueType)], payloads: &[Vec<u8>]) -> Result<Frame, Error> {
    let mut builders: Vec<Builder> = schema.iter().map(|(_, kind)| Builder::new(*kind)).collect();
    for payload in payloads {
        decode_row(&mut builders, payload)?;
    }
    let columns =
        schema.iter().zip(builders).map(|((name, _), builder)| (name.clone(), builder.finish())).collect();
    Ok(Frame::new(payloads.len(), columns))
}

fn decode_row(builders: &mut [Builder], payload: &[u8]) -> Result<(), Error> {
    let refused = |why: &str| Error::unreadable("online row", why);
    let (format, rest) = payload.split_first().ok_or_else(|| refused("it is empty"))?;
    if *format != FORMAT {
        return Err(refused(&format!("its format is {format}, this program knows {FORMAT}")));
    }
    let bitmap_length = builders.len().div_ceil(8);
    let (bitmap, mut rest) =
        rest.split_at_checked(bitmap_length).ok_or_else(|| refused("it is cut short"))?;
    for (at, builder) in builders.iter_mut().enumerate() {
        if bitmap[at / 8] & (1 << (at % 8)) != 0 {
            builder.push_null();
        } else {
            rest = builder.push(rest).ok_or_else(|| refused("it does not fit the schema"))?;
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(refused("it is longer than the schema")) }
}

enum Builder {
    Number(Vec<f64>),
    Integer(Vec<i64>),
    Time(Vec<i64>),
    Boolean(Vec<Option<bool>>),
    Text(Vec<Option<String>>),
}

impl Builder {
    fn new(kind: ValueType) -> Self {
        match kind {
            ValueType::Number => Self::Number(vec![]),
            ValueType::Integer => Self::Integer(vec![]),
            ValueType::Time => Self::Time(vec![]),
            ValueType::Boolean => Self::Boolean(vec![]),
            ValueType::Text => Self::Text(vec![]),
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::Number(values) => values.push(f64::NAN),
            Self::Integer(values) | Self::Time(values) => values.push(crate::NO_INTEGER),
            Self::Boolean(values) => values.push(None),
            Self::Text(values) => values.push(None),
        }
    }

    /// Takes one value from the front of `bytes` and gives back the rest.
    fn push<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Number(values) => {
                let (slot, rest) = bytes.split_first_chunk::<8>()?;
                values.push(f64::from_le_bytes(*slot));
                Some(rest)
            }
            Self::Integer(values) | Self::Time(values) => {
                let (slot, rest) = bytes.split_first_chunk::<8>()?;
                values.push(i64::from_le_bytes(*slot));
                Some(rest)
            }
            Self::Boolean(values) => {
                let (slot, rest) = bytes.split_first()?;
                values.push(Some(*slot == 1));
                Some(rest)
            }
            Self::Text(values) => {
                let (length, rest) = bytes.split_first_chunk::<4>()?;
                let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                values.push(Some(std::str::from_utf8(text).ok()?.to_owned()));
                Some(rest)
            }
        }
    }

    fn finish(self) -> Values {
        match self {
            Self::Number(values) => Values::Number(values),
            Self::Integer(values) => Values::Integer(values),
            Self::Time(values) => Values::Time(values),
            Self::Boolean(values) => Values::Boolean(values),
            Self::Text(values) => Values::text(values),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame() -> Frame {
        Frame::new(
            2,
            vec![
                ("n".into(), Values::Number(vec![1.5, 2.0])),
                ("i".into(), Values::Integer(vec![crate::NO_INTEGER, 7])),
                ("s".into(), Values::text([Some("UA"), None])),
                ("b".into(), Values::Boolean(vec![None, Some(false)])),
                ("t".into(), Values::Time(vec![5, crate::NO_INTEGER])),
            ],
        )
    }

    #[test]
    fn rows_survive_the_encoding() {
        let payloads = vec![encode(&frame(), 0), encode(&frame(), 1)];
        assert_eq!(decode(&frame().schema(), &payloads).unwrap(), frame());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&frame().schema(), &[bytes]);
        }

        #[test]
        fn a_cut_row_is_refused(length in 0usize..20) {
            let whole = encode(&frame(), 0);
            prop_assert!(length >= whole.len() || decode(&frame().schema(), &[whole[..length].to_vec()]).is_err());
        }
    }
}
