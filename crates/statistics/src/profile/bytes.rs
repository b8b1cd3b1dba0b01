//! Profiles as few bytes, to be stored beside a reference: a format number, then counts as LEB128.
//!
//! A profile of numbers leaves its edges out, which are the reference's: it is read back beside that reference, and a
//! checksum of the edges tells whether it is the same one.

use crate::Error;

/// The format of what is written.
pub const FORMAT: u8 = 1;

/// Writes a profile.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![FORMAT, kind])
    }

    pub(super) fn whole(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(super) fn number(&mut self, value: f64) {
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.whole(text.len() as u64);
        self.0.extend(text.as_bytes());
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Reads what a [`Writer`] wrote; whatever else it is given is an error.
pub(super) struct Reader<'a>(&'a [u8]);

fn damaged() -> Error {
    Error::Undefined { what: "a stored profile that is damaged or of another format" }
}

impl<'a> Reader<'a> {
    /// The reader of a profile's parts, and its kind.
    pub(super) fn new(bytes: &'a [u8]) -> Result<(Self, u8), Error> {
        match bytes {
            [FORMAT, kind, rest @ ..] => Ok((Self(rest), *kind)),
            _ => Err(damaged()),
        }
    }

    pub(super) fn whole(&mut self) -> Result<u64, Error> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or_else(damaged)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(damaged())
    }

    /// A count of things that follow, each at least one byte.
    pub(super) fn length(&mut self) -> Result<usize, Error> {
        let length = self.whole()?;
        if length <= self.0.len() as u64 { Ok(length as usize) } else { Err(damaged()) }
    }

    pub(super) fn number(&mut self) -> Result<f64, Error> {
        let (bytes, rest) = self.0.split_first_chunk::<8>().ok_or_else(damaged)?;
        self.0 = rest;
        Ok(f64::from_le_bytes(*bytes))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Error> {
        let length = self.length()?;
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        std::str::from_utf8(bytes).map_err(|_| damaged())
    }

    /// Nothing may follow.
    pub(super) fn done(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(damaged()) }
    }
}

/// FNV-1a over the bits of numbers, which is the same on every machine.
pub(super) fn checksum(numbers: &[f64]) -> u64 {
    let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
