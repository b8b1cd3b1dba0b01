//! The hash chain of alias history: each row's hash covers its contents and the hash of the row before.
//!
//! Whoever keeps the last hash elsewhere can prove that no row before it was changed, added or dropped.

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use storage::models::history::Entry;

/// What stands before the first row.
pub(crate) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The hash that `entry` should have: SHA-256 over its members as JSON with sorted keys, times in microseconds.
pub(crate) fn hash_of(project: &str, model: &str, entry: &Entry) -> String {
    let members = json!({
        "actor": entry.actor,
        "alias": entry.alias,
        "at": entry.at.timestamp_micros(),
        "from_version": entry.from_version,
        "model": model,
        "outcome": entry.outcome,
        "previous_hash": entry.previous_hash,
        "project": project,
        "reason": entry.reason,
        "sequence": entry.sequence,
        "to_version": entry.to_version,
        "verdict": entry.verdict,
    });
    let mut text = String::new();
    write_sorted(&members, &mut text);
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// JSON without spaces and with sorted keys, whatever order the map kept.
fn write_sorted(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                text.push_str(&Value::String(key.clone()).to_string());
                text.push(':');
                write_sorted(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write_sorted(item, text);
            }
            text.push(']');
        }
        plain => text.push_str(&plain.to_string()),
    }
}

/// What re-computing the chain found so far.
#[derive(Debug, Serialize)]
pub(crate) struct Audit {
    /// Whether every row is as it was written.
    pub(crate) intact: bool,
    /// How many rows were re-computed.
    pub(crate) rows: i64,
    /// The last good hash: keep it elsewhere to notice if the end is cut off.
    pub(crate) head: String,
    /// The first row that does not fit, and why.
    pub(crate) broken_at: Option<i64>,
    /// Why it does not fit.
    pub(crate) why: Option<&'static str>,
}

impl Default for Audit {
    fn default() -> Self {
        Self { intact: true, rows: 0, head: GENESIS.to_owned(), broken_at: None, why: None }
    }
}

impl Audit {
    /// Checks the next row. After the first one that does not fit, nothing more is said.
    pub(crate) fn follow(&mut self, project: &str, model: &str, entry: &Entry) {
        if !self.intact {
            return;
        }
        let why = if entry.sequence != self.rows + 1 {
            Some("a row is missing before it")
        } else if entry.previous_hash != self.head {
            Some("it does not continue from the row before")
        } else if entry.hash != hash_of(project, model, entry) {
            Some("its contents do not have its hash")
        } else {
            None
        };
        if why.is_some() {
            (self.intact, self.broken_at, self.why) = (false, Some(entry.sequence), why);
        } else {
            self.rows += 1;
            self.head.clone_from(&entry.hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(length: i64) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut previous_hash = GENESIS.to_owned();
        for sequence in 1..=length {
            let mut entry = Entry {
                sequence,
                alias: "champion".into(),
                outcome: "moved".into(),
                from_version: (sequence > 1).then_some(1),
                to_version: Some(2),
                actor: "ana".into(),
                reason: Some("it is \"better\"".into()),
                verdict: Some(json!({ "passed": true, "checks": [{ "b": 1, "a": "ü" }] })),
                at: "2026-11-24T09:00:00.123456Z".parse().unwrap(),
                previous_hash,
                hash: String::new(),
            };
            entry.hash = hash_of("default", "late", &entry);
            previous_hash = entry.hash.clone();
            entries.push(entry);
        }
        entries
    }

    fn audit(entries: &[Entry]) -> Audit {
        let mut audit = Audit::default();
        entries.iter().for_each(|entry| audit.follow("default", "late", entry));
        audit
    }

    #[test]
    fn an_untouched_chain_is_intact_and_shows_its_last_hash() {
        let entries = chain(3);
        let audit = audit(&entries);
        assert!(audit.intact && audit.rows == 3 && audit.head == entries[2].hash);
    }

    #[test]
    fn a_changed_row_is_named() {
        let mut entries = chain(3);
        entries[1].actor = "eve".into();
        let audit = audit(&entries);
        assert_eq!((audit.intact, audit.broken_at), (false, Some(2)));
    }

    #[test]
    fn a_row_that_was_changed_and_hashed_anew_breaks_the_next() {
        let mut entries = chain(3);
        entries[1].to_version = Some(7);
        entries[1].hash = hash_of("default", "late", &entries[1]);
        assert_eq!(audit(&entries).broken_at, Some(3));
    }

    #[test]
    fn a_dropped_row_is_noticed() {
        let mut entries = chain(3);
        entries.remove(1);
        assert_eq!(audit(&entries).broken_at, Some(3));
    }

    #[test]
    fn the_hash_does_not_depend_on_the_order_of_keys() {
        let mut text = String::new();
        write_sorted(&json!({ "b": [1, { "d": null, "c": 0.5 }], "a": "x" }), &mut text);
        assert_eq!(text, r#"{"a":"x","b":[1,{"c":0.5,"d":null}]}"#);
    }
}
