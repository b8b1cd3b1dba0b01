//! Entity keys as bytes: an order-preserving encoding of a tuple, so that bytes compare as the values do.
//!
//! A text is `0x02`, its bytes with `0x00` written as `0x00 0xFF`, then `0x00`; an integer is `0x15` and eight bytes, big
//! end first, with the sign bit flipped. (The scheme of FoundationDB's tuple layer.) A key with a null part is no key.

use std::collections::HashMap;

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
///
/// The hash is FNV-1a of 64 bits with the finaliser of `MurmurHash3`. Files are named by it: it never changes.
pub fn bucket(key: &[u8], of: u32) -> u32 {
    debug_assert!(of.is_power_of_two());
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in key {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    ((hash ^ (hash >> 33)) as u32) & (of - 1)
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
