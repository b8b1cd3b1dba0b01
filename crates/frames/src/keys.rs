//! Entity keys as bytes: an order-preserving encoding of a tuple, so that bytes compare as the values do.
//!
//! A text is `0x02`, its bytes with `0x00` written as `0x00 0xFF`, then `0x00`; an integer is `0x15` and eight bytes, big
//! end first, with the sign bit flipped. (The scheme of FoundationDB's tuple layer.) A key with a null part is no key.

use std::collections::HashMap;

use domain::definitions::ValueType;

use crate::Error;
use crate::frame::{Frame, NO_INTEGER, Values};

/// One encoded key a row, end to end; `None` where a part is null.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    present: Vec<bool>,
}

impl Keys {
    /// The keys of a frame's rows.
    ///
    /// # Errors
    /// [`Error::MissingColumn`], or [`Error::WrongType`] if a key column holds neither texts nor integers.
    pub fn of<S: AsRef<str>>(frame: &Frame, columns: &[S]) -> Result<Self, Error> {
        let parts = columns
            .iter()
            .map(|name| match frame.column(name.as_ref())? {
                part @ (Values::Text(..) | Values::Integer(_)) => Ok(part),
                other => Err(Error::WrongType {
                    column: name.as_ref().to_owned(),
                    found: format!("{}s", other.kind()),
                    expected: "texts or integers, as keys are".to_owned(),
                }),
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let mut keys = Self::default();
        for row in 0..frame.rows() {
            keys.push(&parts, row);
        }
        Ok(keys)
    }

    fn push(&mut self, parts: &[&Values], row: usize) {
        let start = self.bytes.len();
        let mut present = true;
        for part in parts {
            match part {
                Values::Integer(values) if values[row] != NO_INTEGER => {
                    push_integer(&mut self.bytes, values[row]);
                }
                Values::Text(codes, levels) if (codes[row] as usize) < levels.len() => {
                    push_text(&mut self.bytes, &levels[codes[row] as usize]);
                }
                _ => present = false,
            }
        }
        if !present {
            self.bytes.truncate(start);
        }
        self.ends.push(self.bytes.len());
        self.present.push(present);
    }

    /// Keys that were encoded before.
    pub fn encoded<'a>(keys: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut all = Self::default();
        for key in keys {
            all.bytes.extend_from_slice(key);
            all.ends.push(all.bytes.len());
            all.present.push(true);
        }
        all
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True without a row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The key of a row; `None` if a part of it is null.
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        self.present[row].then(|| &self.bytes[start..self.ends[row]])
    }

    /// The bucket of a row's key; keys that are none are in the first.
    pub fn bucket(&self, row: usize, of: u32) -> u32 {
        self.get(row).map_or(0, |key| bucket(key, of))
    }

    /// The distinct keys, in order of first appearance.
    pub fn distinct(&self) -> Vec<Vec<u8>> {
        let mut seen: HashMap<&[u8], ()> = HashMap::new();
        (0..self.len())
            .filter_map(|row| self.get(row))
            .filter(|key| seen.insert(key, ()).is_none())
            .map(<[u8]>::to_vec)
            .collect()
    }
}

/// The bucket of a key among `of` of them, a power of two: the low bits of its hash, so that twice as many buckets halve each.
pub fn bucket(key: &[u8], of: u32) -> u32 {
    debug_assert!(of.is_power_of_two());
    hash(key) as u32 & (of - 1)
}

/// FNV-1a of 64 bits with the finaliser of `MurmurHash3`. Files are named by it: it never changes.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The parts of encoded keys as columns; the inverse of [`Keys::of`].
///
/// # Errors
/// [`Error::Unreadable`] if the bytes are no key of these columns.
pub fn decode<'a>(
    columns: &[(String, ValueType)],
    keys: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<(String, Values)>, Error> {
    let refused = || Error::unreadable("key", "its bytes are not of the view's key columns");
    let mut parts: Vec<Vec<Part>> = columns.iter().map(|_| Vec::new()).collect();
    for key in keys {
        let mut rest = key;
        for ((_, kind), part) in columns.iter().zip(&mut parts) {
            let (value, behind) = take_part(*kind, rest).ok_or_else(refused)?;
            part.push(value);
            rest = behind;
        }
        if !rest.is_empty() {
            return Err(refused());
        }
    }
    let column = |((name, kind), part): (&(String, ValueType), Vec<Part>)| {
        let values = match kind {
            ValueType::Integer => Values::Integer(part.iter().map(Part::integer).collect()),
            _ => Values::text(part.iter().map(|part| Some(part.text()))),
        };
        (name.clone(), values)
    };
    Ok(columns.iter().zip(parts).map(column).collect())
}

enum Part {
    Text(String),
    Integer(i64),
}

impl Part {
    fn integer(&self) -> i64 {
        match self {
            Self::Integer(value) => *value,
            Self::Text(_) => NO_INTEGER,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Integer(_) => "",
        }
    }
}

fn take_part(kind: ValueType, bytes: &[u8]) -> Option<(Part, &[u8])> {
    match (kind, bytes) {
        (ValueType::Integer, [0x15, rest @ ..]) => {
            let (value, rest) = rest.split_first_chunk::<8>()?;
            Some((Part::Integer((u64::from_be_bytes(*value) ^ (1 << 63)).cast_signed()), rest))
        }
        (ValueType::Text, [0x02, rest @ ..]) => take_text(rest),
        _ => None,
    }
}

fn take_text(bytes: &[u8]) -> Option<(Part, &[u8])> {
    let mut text = Vec::new();
    let mut at = 0;
    loop {
        match (bytes.get(at)?, bytes.get(at + 1)) {
            (0, Some(0xFF)) => {
                text.push(0);
                at += 2;
            }
            (0, _) => return Some((Part::Text(String::from_utf8(text).ok()?), &bytes[at + 1..])),
            (byte, _) => {
                text.push(*byte);
                at += 1;
            }
        }
    }
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(0x02);
    for byte in text.bytes() {
        bytes.push(byte);
        if byte == 0 {
            bytes.push(0xFF);
        }
    }
    bytes.push(0);
}

fn push_integer(bytes: &mut Vec<u8>, value: i64) {
    bytes.push(0x15);
    bytes.extend_from_slice(&(value.cast_unsigned() ^ (1 << 63)).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(text: &str, integer: i64) -> Vec<u8> {
        let frame = Frame::new(
            1,
            vec![("a".into(), Values::text([Some(text)])), ("b".into(), Values::Integer(vec![integer]))],
        );
        Keys::of(&frame, &["a", "b"]).unwrap().get(0).unwrap().to_vec()
    }

    proptest! {
        #[test]
        fn encoded_keys_compare_as_their_values_do(a in ".{0,4}", b in ".{0,4}", x in (i64::MIN + 1)..i64::MAX, y in -3i64..3) {
            let by_value = (a.as_bytes(), x).cmp(&(b.as_bytes(), y));
            prop_assert_eq!(key(&a, x).cmp(&key(&b, y)), by_value);
        }

        #[test]
        fn a_key_is_decoded_into_what_it_was(text in ".{0,6}", nul: bool, integer in (i64::MIN + 1)..i64::MAX) {
            let text = if nul { format!("{text}\0") } else { text };
            let columns = [("a".to_owned(), ValueType::Text), ("b".to_owned(), ValueType::Integer)];
            let encoded = key(&text, integer);
            let parts = decode(&columns, [encoded.as_slice()]).unwrap();
            prop_assert_eq!(parts[0].1.text_at(0), Some(text.as_str()));
            prop_assert_eq!(&parts[1].1, &Values::Integer(vec![integer]));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(0u8..0x20, 0..20)) {
            let _ = decode(&[("a".to_owned(), ValueType::Text), ("b".to_owned(), ValueType::Integer)], [bytes.as_slice()]);
        }
    }

    #[test]
    fn a_key_stays_in_its_bucket_for_ever_and_twice_as_many_buckets_halve_it() {
        let buckets: Vec<u32> = (0..6).map(|number| bucket(&key("shop", number), 256)).collect();
        assert_eq!(buckets, [242, 247, 99, 76, 58, 218]);
        let halved = |number: i64| bucket(&key("shop", number), 16) == bucket(&key("shop", number), 256) & 15;
        assert!((0..1000).all(halved));
        let mut counts = [0; 16];
        (0..16_000).for_each(|number| counts[bucket(&key("shop", number), 16) as usize] += 1);
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_key_with_a_null_part_is_no_key() {
        let frame = Frame::new(1, vec![("a".into(), Values::text::<&str>([None]))]);
        assert_eq!(Keys::of(&frame, &["a"]).unwrap().get(0), None);
    }
}
