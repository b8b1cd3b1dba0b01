//! What applying definitions would change.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::{Definitions, Evolution, FeatureView, Layout, Object, ViewVersions};

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
        /// What it means for rows that are stored, if it means anything.
        #[serde(skip_serializing_if = "Option::is_none")]
        rows: Option<String>,
    },
    /// Its stored rows cannot be read under the new definition: it goes on as a new version, which begins without rows.
    /// Refused unless new versions are allowed.
    NewVersion {
        /// The new version's number.
        version: i32,
        /// Why the old one cannot go on.
        why: String,
    },
}

/// What is stored, and what will be.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// Bodies by kind and name.
    pub stored: &'a BTreeMap<(String, String), Stored>,
    /// The newest version of each view.
    pub views: &'a ViewVersions,
}

/// Compares what is declared with what is stored. Objects that are stored but no longer declared stay; of those only views
/// are listed whose rows a change of their entity or source touches. `merged` is everything stored with what is declared
/// over it.
pub fn plan(declared: &Definitions, merged: &Definitions, before: Before<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut listed = BTreeSet::new();
    for located in declared.objects() {
        let (kind, name) = (located.object.kind(), located.object.name());
        let keys = before
            .stored
            .get(&(kind.to_owned(), name.to_owned()))
            .map(|stored| changed_keys(&stored.body, &located.object.body()));
        let change = match (&located.object, keys) {
            (_, None) => ChangeKind::Create,
            (Object::FeatureView(view), Some(keys)) => change_of(view, keys, merged, before.views),
            (_, Some(keys)) if keys.is_empty() => ChangeKind::Keep,
            (_, Some(keys)) => ChangeKind::Update { keys, rows: None },
        };
        listed.insert((kind, name.to_owned()));
        changes.push(Change { kind: kind.to_owned(), name: name.to_owned(), change });
    }
    for located in merged.objects() {
        let Object::FeatureView(view) = &located.object else { continue };
        if listed.contains(&("feature_view", view.name.clone())) {
            continue;
        }
        let change = change_of(view, vec![], merged, before.views);
        if change != ChangeKind::Keep {
            changes.push(Change { kind: "feature_view".to_owned(), name: view.name.clone(), change });
        }
    }
    changes
}

/// What becomes of a view of which `keys` changed, given what its entity and source will be.
fn change_of(
    view: &FeatureView,
    keys: Vec<String>,
    merged: &Definitions,
    views: &ViewVersions,
) -> ChangeKind {
    let before = views.get(&view.name);
    let evolution = before
        .zip(Layout::of(merged, view))
        .map(|(before, next)| (before.version, before.layout.evolve(&next, &before.revisions)));
    match evolution {
        Some((version, Evolution::Incompatible { why })) => {
            ChangeKind::NewVersion { version: version + 1, why }
        }
        Some((_, Evolution::Additive { added, dropped, widened, longer_memory })) => {
            ChangeKind::Update { keys, rows: Some(said(&added, &dropped, &widened, longer_memory)) }
        }
        _ if keys.is_empty() => ChangeKind::Keep,
        _ => ChangeKind::Update { keys, rows: None },
    }
}

fn said(added: &[String], dropped: &[String], widened: &[String], longer_memory: bool) -> String {
    let list = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut said = Vec::new();
    if !added.is_empty() {
        said.push(format!("{} will be null in the rows of before", list(added)));
    }
    if !dropped.is_empty() {
        said.push(format!("{} will no longer be read", list(dropped)));
    }
    if !widened.is_empty() {
        said.push(format!("{} will be read as numbers", list(widened)));
    }
    if longer_memory {
        said.push("the online store will be filled from the offline store for the longer windows".to_owned());
    }
    if said.is_empty() {
        said.push("the rows stay as they are".to_owned());
    }
    said.join("; ")
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
