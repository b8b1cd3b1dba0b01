//! The offline store's files: rows of one view version, sorted by (key, `event_time`, `known_time`, seq), in Parquet.
//!
//! A part holds the keys of one bucket, or of any if an ingest wrote it; merges cut parts by bucket ([`crate::keys::bucket`]).
//! Rows of one ingest and one key always share a part and keep their order in it, so every layout of the same rows gives the
//! same answers. The format's number lies in the file; a reader refuses one that it does not know.

mod read;
mod rewrite;
mod write;

use domain::definitions::ValueType;
use sha2::{Digest, Sha256};

use crate::view::ViewSchema;

pub use read::{Part, Selection, read, read_keys, widest};
pub use rewrite::{Kept, cut, drop_old, read_cut};
pub use write::{WrittenPart, write};

/// The layout that is written. 1, which files of old have, says nothing about itself and is otherwise the same.
pub const FORMAT: i32 = 2;
/// Where the format's number lies in a file.
const FORMAT_KEY: &str = "foretime.part";

const EVENT_TIME: &str = "__event_time";
const KNOWN_TIME: &str = "__known_time";
const SEQ: &str = "__seq";
const OP: &str = "__op";

/// One bucket of several, whose number is a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its number.
    pub number: u32,
    /// Of how many.
    pub of: u32,
}

impl Bucket {
    /// The one that holds every key.
    pub const ALL: Self = Self { number: 0, of: 1 };

    /// Whether some key could be in both.
    pub fn meets(self, other: Self) -> bool {
        let shared = self.of.min(other.of) - 1;
        self.number & shared == other.number & shared
    }

    /// Whether all keys of this one are in `other`.
    pub fn within(self, other: Self) -> bool {
        self.of >= other.of && self.meets(other)
    }
}

/// Into how many buckets a view of so many rows is cut: so that one bucket always fits in memory.
pub fn buckets_for(rows: i64) -> u32 {
    if rows <= 1_000_000 {
        1
    } else if rows <= 50_000_000 {
        16
    } else {
        256
    }
}

/// Hash of a view's columns and their types.
pub fn schema_hash(schema: &ViewSchema) -> String {
    let named = |(name, kind): &(String, ValueType)| format!("{name}:{kind}");
    let keys: Vec<String> = schema.keys.iter().map(named).collect();
    let values: Vec<String> = schema.values.iter().map(named).collect();
    hex::encode(Sha256::digest(format!("{}|{}", keys.join(","), values.join(",")).as_bytes()))
}

#[cfg(test)]
mod tests;
