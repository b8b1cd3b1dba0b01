//! The example's rows: read from its files, sampled, and dealt out in the order in which they became known.

use std::collections::BTreeMap;
use std::path::Path;

use domain::definitions::{Definitions, Object, check, parse_file};
use frames::{Frame, Values};

use crate::Failure;

/// An eighth of the aircraft make a quick run.
const SAMPLE: u64 = 8;

/// What definition files declare, checked.
///
/// # Errors
/// Everything that does not fit, with file and line.
pub fn declared(files: &BTreeMap<String, String>) -> Result<Definitions, Failure> {
    let mut definitions = Definitions::default();
    for (name, text) in files {
        definitions.extend(parse_file(name, text)?)?;
    }
    check(&definitions)?;
    Ok(definitions)
}

/// The rows of one source, in the order in which they became known.
pub(super) struct Feed {
    pub(super) source: String,
    pub(super) rows: Frame,
    pub(super) known: Vec<i64>,
    pub(super) events: Vec<i64>,
    next: usize,
}

impl Feed {
    /// Reads the file of a source.
    pub(super) fn read(
        definitions: &Definitions,
        source: &str,
        folder: &Path,
        quick: bool,
    ) -> Result<Self, Failure> {
        let source = definitions
            .source(source)
            .ok_or_else(|| Failure(format!("the example declares no source `{source}`")))?;
        let rows = frames::source_file::read(source, folder)?;
        let rows = if quick { sampled(rows) } else { rows };
        let known = rows.times(&source.known_time)?;
        let mut order: Vec<u32> = (0..rows.rows() as u32).collect();
        order.sort_by_key(|&row| known[row as usize]);
        let rows = rows.take(&order);
        let (known, events) =
            (rows.times(&source.known_time)?.to_vec(), rows.times(&source.event_time)?.to_vec());
        Ok(Self { source: source.name.clone(), rows, known, events, next: 0 })
    }

    /// The rows that became known since the last call, up to `moment`; of those only what happened after `since`.
    pub(super) fn until(&mut self, moment: i64, since: i64) -> Option<Frame> {
        let end = self.known.partition_point(|known| *known <= moment);
        let rows: Vec<u32> =
            (self.next..end).filter(|&row| self.events[row] > since).map(|row| row as u32).collect();
        self.next = end.max(self.next);
        (!rows.is_empty()).then(|| self.rows.take(&rows))
    }
}

/// The names of all sources that a view reads.
pub(super) fn sources(definitions: &Definitions) -> Vec<String> {
    let mut names: Vec<String> = definitions
        .objects()
        .filter_map(|located| match &located.object {
            Object::FeatureView(view) => Some(view.source.clone()),
            _ => None,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The rows of an eighth of the aircraft, by a hash of the tail number (FNV-1a); all rows without one.
fn sampled(rows: Frame) -> Frame {
    let Some(tails @ Values::Text(..)) = rows.find("tailnum") else { return rows };
    let hash = |text: &str| {
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    rows.filter(|row| tails.text_at(row).is_some_and(|tail| (hash(tail) >> 32) % SAMPLE == 0))
}
