//! What applying definitions would change.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::Definitions;

/// An object as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its body.
    pub body: Value,
    /// How often it changed.
    pub revision: i32,
}

/// What happens to one object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What happens.
    #[serde(flatten)]
    pub change: ChangeKind,
}

/// What happens to an object.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Create,
    /// It stays as it is.
    Keep,
    /// These top-level keys change.
    Update {
        /// The keys.
        keys: Vec<String>,
    },
    /// It may not change like this.
    Refuse {
        /// Why, and what to do instead.
        why: String,
    },
}

/// Compares what is declared with what is stored (by kind and name). Objects that are stored but no longer declared stay.
pub fn plan(declared: &Definitions, stored: &BTreeMap<(String, String), Stored>) -> Vec<Change> {
    declared
        .objects()
        .map(|located| {
            let (kind, name) = (located.object.kind(), located.object.name());
            let change = match stored.get(&(kind.to_owned(), name.to_owned())) {
                None => ChangeKind::Create,
                Some(stored) => compare(kind, name, &stored.body, &located.object.body()),
            };
            Change { kind: kind.to_owned(), name: name.to_owned(), change }
        })
        .collect()
}

fn compare(kind: &str, name: &str, before: &Value, after: &Value) -> ChangeKind {
    let keys = changed_keys(before, after);
    if keys.is_empty() {
        return ChangeKind::Keep;
    }
    match fixed_keys(kind).iter().find(|fixed| keys.iter().any(|key| key == *fixed)) {
        Some(fixed) => ChangeKind::Refuse {
            why: format!(
                "`{fixed}` decides how stored rows are read and cannot change while rows exist; declare a new {kind} \
                 beside `{name}` and move its readers over"
            ),
        },
        None => ChangeKind::Update { keys },
    }
}

/// The keys that decide how rows already stored are read.
fn fixed_keys(kind: &str) -> &'static [&'static str] {
    match kind {
        "entity" => &["keys"],
        "source" => &["columns", "event_time", "known_time"],
        "feature_view" => &["entity", "source", "features", "windows", "last_k", "log"],
        _ => &[],
    }
}

fn changed_keys(before: &Value, after: &Value) -> Vec<String> {
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else {
        return if before == after { vec![] } else { vec!["body".to_owned()] };
    };
    let mut keys: Vec<String> = before
        .keys()
        .chain(after.keys())
        .filter(|key| before.get(*key) != after.get(*key))
        .cloned()
        .collect();
    keys.sort();
    keys.dedup();
    keys
}
