//! Reading definition files: TOML with arrays of tables, such as `[[feature_view]]`.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use toml::Spanned;

use super::objects::{KINDS, Object};
use super::{DefinitionError, Invalid};
use crate::words::did_you_mean;

/// An object and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// The object.
    pub object: Object,
    /// The file.
    pub file: String,
    /// The line, from 1, where its table begins.
    pub line: usize,
}

/// Objects by kind and name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Definitions(pub BTreeMap<(&'static str, String), Located>);

macro_rules! getters {
    ($($get:ident, $variant:ident, $kind:literal, $type:ident);* $(;)?) => {
        impl Definitions {
            $(
                #[doc = concat!("The ", $kind, " of that name.")]
                pub fn $get(&self, name: &str) -> Option<&super::$type> {
                    match &self.0.get(&($kind, name.to_owned()))?.object {
                        Object::$variant(object) => Some(object),
                        _ => None,
                    }
                }
            )*
        }
    };
}

getters! {
    entity, Entity, "entity", Entity;
    source, Source, "source", Source;
    feature_view, FeatureView, "feature_view", FeatureView;
    event_stream, EventStream, "event_stream", EventStream;
    dataset, Dataset, "dataset", Dataset;
    model, Model, "model", Model;
    monitor, Monitor, "monitor", Monitor;
    schedule, Schedule, "schedule", Schedule;
    channel, Channel, "channel", Channel;
}

impl Definitions {
    /// Adds what another file declares.
    ///
    /// # Errors
    /// [`Invalid`] if a name is taken; both places are named.
    pub fn extend(&mut self, objects: Vec<Located>) -> Result<(), Invalid> {
        let mut twice = Vec::new();
        for located in objects {
            let key = (located.object.kind(), located.object.name().to_owned());
            if let Some(first) = self.0.get(&key) {
                let message = format!(
                    "{} `{}` is already declared at {}:{}; rename one",
                    key.0, key.1, first.file, first.line
                );
                twice.push(DefinitionError { file: located.file, line: located.line, message });
            } else {
                self.0.insert(key, located);
            }
        }
        if twice.is_empty() { Ok(()) } else { Err(Invalid(twice)) }
    }

    /// All objects, in the order in which they build on each other.
    pub fn objects(&self) -> impl Iterator<Item = &Located> {
        KINDS
            .iter()
            .flat_map(|kind| self.0.iter().filter(move |((k, _), _)| k == kind).map(|(_, located)| located))
    }

    /// The names of one kind.
    pub fn names(&self, kind: &str) -> Vec<&str> {
        self.0.keys().filter(|(known, _)| *known == kind).map(|(_, name)| name.as_str()).collect()
    }
}

/// Reads one file.
///
/// # Errors
/// [`Invalid`] names line, key and the likely intent.
pub fn parse_file(file: &str, text: &str) -> Result<Vec<Located>, Invalid> {
    let tables: BTreeMap<String, Vec<Spanned<toml::Table>>> = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_at(text, span.start));
        Invalid(vec![error_at(file, line, error.message().to_owned())])
    })?;
    let mut objects = Vec::new();
    let mut errors = Vec::new();
    for (kind, entries) in tables {
        for entry in entries {
            let start = entry.span().start;
            match parse_object(&kind, text, start, entry.into_inner()) {
                Ok(object) => {
                    objects.push(Located { object, file: file.to_owned(), line: line_at(text, start) });
                }
                Err((line, message)) => errors.push(error_at(file, line, message)),
            }
        }
    }
    if errors.is_empty() { Ok(objects) } else { Err(Invalid(errors)) }
}

type Misfit = (usize, String);

fn parse_object(kind: &str, text: &str, start: usize, table: toml::Table) -> Result<Object, Misfit> {
    let line = line_at(text, start);
    let name = table.get("name").and_then(toml::Value::as_str).map(str::to_owned);
    let what = name.as_deref().map_or_else(|| kind.to_owned(), |name| format!("{kind} `{name}`"));
    let object = match kind {
        "entity" => read(table).map(Object::Entity),
        "source" => read(table).map(Object::Source),
        "feature_view" => read(table).map(Object::FeatureView),
        "event_stream" => read(table).map(Object::EventStream),
        "dataset" => read(table).map(Object::Dataset),
        "model" => read(table).map(Object::Model),
        "monitor" => read(table).map(Object::Monitor),
        "gate" => read(table).map(Object::Gate),
        "schedule" => read(table).map(Object::Schedule),
        "channel" => read(table).map(Object::Channel),
        other => {
            return Err((
                line,
                format!("`{other}` is no kind of definition{}", did_you_mean(other, KINDS.iter().copied())),
            ));
        }
    };
    let object = object.map_err(|error| explain(text, start, &what, &error))?;
    check_name(object.name()).map_err(|message| (line, format!("{what}: {message}")))?;
    Ok(object)
}

fn read<T: DeserializeOwned>(table: toml::Table) -> Result<T, toml::de::Error> {
    T::deserialize(toml::Value::Table(table))
}

/// Points at the offending key inside the object's table, and guesses what was meant.
fn explain(text: &str, start: usize, what: &str, error: &toml::de::Error) -> Misfit {
    let said = error.message();
    let quoted: Vec<&str> = said.split('`').skip(1).step_by(2).collect();
    let line =
        quoted.first().and_then(|key| line_of_key(text, start, key)).unwrap_or_else(|| line_at(text, start));
    let hint = match quoted.split_first() {
        Some((unknown, known)) if said.starts_with("unknown") => did_you_mean(unknown, known.iter().copied()),
        _ => String::new(),
    };
    (line, format!("{what}: {}{hint}", said.trim_end()))
}

fn line_of_key(text: &str, start: usize, key: &str) -> Option<usize> {
    let first = line_at(text, start);
    let found = text.lines().enumerate().skip(first - 1).find(|(_, line)| {
        let (left, is_pair) = line.split_once('=').map_or((*line, false), |(left, _)| (left, true));
        is_pair && left.trim().trim_matches('"').split('.').any(|part| part.trim() == key)
            || line.contains(&format!("{key} ="))
    })?;
    Some(found.0 + 1)
}

fn check_name(name: &str) -> Result<(), String> {
    let starts_well = name.starts_with(|first: char| first.is_ascii_lowercase());
    let fits = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
    if starts_well && fits && name.len() <= 63 {
        return Ok(());
    }
    Err(format!("`{name}` cannot be a name; use a letter, then at most 62 of a–z, 0–9, `_` and `-`"))
}

fn error_at(file: &str, line: usize, message: String) -> DefinitionError {
    DefinitionError { file: file.to_owned(), line, message }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse_file("views.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_likely_intent() {
        let said = refusal("[[entity]]\nname = \"origin\"\nkeyz = [\"origin\"]\n");
        assert!(said.starts_with("views.toml:3: entity `origin`: unknown field `keyz`"), "{said}");
        assert!(said.contains("did you mean `keys`?"), "{said}");
    }

    #[test]
    fn a_wrong_type_is_named_with_its_line() {
        let said = refusal("[[entity]]\nname = \"origin\"\nkeys = 7\n");
        assert!(said.contains("views.toml:") && said.contains("invalid type: integer `7`"), "{said}");
    }

    #[test]
    fn an_aggregate_is_a_word_or_a_percentile() {
        let view = |aggregate: &str| {
            format!(
                "[[feature_view]]\nname = \"v\"\nentity = \"k\"\nsource = \"s\"\n\
                 windows = [{{ column = \"x\", aggregates = [\"{aggregate}\"], over = [\"1h\"] }}]\n"
            )
        };
        for good in ["p1", "p50", "p99", "approx_distinct", "mean"] {
            assert!(parse_file("views.toml", &view(good)).is_ok(), "{good}");
        }
        for wrong in ["p0", "p100", "p05", "p", "median", "p5.5"] {
            let said = refusal(&view(wrong));
            assert!(said.contains(&format!("`{wrong}` is no aggregate")) && said.contains("p50"), "{said}");
        }
        assert!(refusal(&view("meen")).contains("did you mean `mean`?"));
    }

    #[test]
    fn an_unknown_kind_is_refused_with_the_likely_intent() {
        let said = refusal("[[feature_veiw]]\nname = \"x\"\n");
        assert!(said.contains("did you mean `feature_view`?"), "{said}");
    }

    #[test]
    fn broken_toml_is_refused_with_its_line() {
        assert!(refusal("[[entity]]\nname = \n").starts_with("views.toml:2:"));
    }

    #[test]
    fn all_errors_of_a_file_are_reported_at_once() {
        let said = refusal("[[entity]]\nname = \"A\"\nkeys = [\"a\"]\n[[entity]]\nname = \"b\"\n");
        assert_eq!(said.lines().count(), 2, "{said}");
    }
}
