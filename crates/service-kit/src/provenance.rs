//! Where each setting comes from: the default, a line of the file, or a variable. What may be secret is not shown.

use std::collections::BTreeSet;
use std::path::Path;

use figment::Figment;
use figment::value::{Dict, Value};

use crate::config::{ConfigError, OTLP_ENDPOINT, defaults, layers};

/// Settings without a default that are no secrets. Every other without one is kept to itself: better one too many.
const PLAIN: [&str; 9] = [
    "artifacts.url",
    "artifacts.endpoint",
    "artifacts.region",
    "artifacts.access_key_id",
    "offline.url",
    "offline.files",
    "tls.certificate",
    "tls.key", // where it lies, not what it is
    "tls.name",
];

/// Settings without a default that are, or may hold, a secret.
const SECRET: [&str; 4] =
    ["artifacts.secret_access_key", "database_url", "http.token", "telemetry.otlp_endpoint"];

/// A setting, what it is, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name, sections joined by dots.
    pub key: String,
    /// Its value; none if it may be secret.
    pub value: Option<String>,
    /// `default`, the file, or the variable.
    pub source: String,
}

/// Every setting, by name; of `connections` those that are named.
///
/// # Errors
/// [`ConfigError::Unreadable`] if a layer cannot be read.
pub fn explain(file: &Path) -> Result<Vec<Setting>, ConfigError> {
    explained(&layers(file))
}

fn explained(figment: &Figment) -> Result<Vec<Setting>, ConfigError> {
    let unreadable = |error| ConfigError::Unreadable(Box::new(error));
    let plain: BTreeSet<String> = leaves(&Figment::from(defaults()).extract::<Dict>().map_err(unreadable)?)
        .into_iter()
        .map(|(key, _)| key)
        .chain(PLAIN.map(str::to_owned))
        .collect();
    let given = leaves(&figment.extract::<Dict>().map_err(unreadable)?);
    let unset = PLAIN.into_iter().chain(SECRET).filter(|key| given.iter().all(|(given, _)| given != key));
    let unset = unset.map(|key| Setting {
        key: key.to_owned(),
        value: Some("(not set)".to_owned()),
        source: "default".to_owned(),
    });
    let mut settings: Vec<Setting> = unset.collect();
    settings.extend(given.into_iter().map(|(key, value)| Setting {
        value: plain.contains(&key).then_some(value),
        source: source_of(figment, &key),
        key,
    }));
    settings.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(settings)
}

fn source_of(figment: &Figment, key: &str) -> String {
    let Some(metadata) = figment.find_metadata(key) else { return "default".to_owned() };
    match &metadata.source {
        Some(figment::Source::File(path)) => path.display().to_string(),
        _ if metadata.name.contains("FORETIME_") => {
            format!("FORETIME_{}", key.replace('.', "__").to_ascii_uppercase())
        }
        _ if metadata.name.contains("environment") => OTLP_ENDPOINT.to_owned(),
        _ => "default".to_owned(),
    }
}

/// What is below a section, as `section.key` and its text.
fn leaves(section: &Dict) -> Vec<(String, String)> {
    let below = |name: &String, value: &Value| match value {
        Value::Dict(_, inner) => {
            leaves(inner).into_iter().map(|(key, text)| (format!("{name}.{key}"), text)).collect()
        }
        Value::Empty(..) => vec![],
        other => vec![(name.clone(), text(other))],
    };
    section.iter().flat_map(|(name, value)| below(name, value)).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(_, text) => text.clone(),
        Value::Char(_, one) => one.to_string(),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(_, number) => {
            let whole = number.to_i128().map(|whole| whole.to_string());
            let whole = whole.or_else(|| number.to_u128().map(|whole| whole.to_string()));
            whole.or_else(|| number.to_f64().map(|real| real.to_string())).unwrap_or_default()
        }
        Value::Array(_, values) => {
            format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(", "))
        }
        Value::Dict(..) | Value::Empty(..) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use figment::providers::{Format, Toml};

    fn of(text: &str) -> Vec<Setting> {
        explained(&Figment::from(defaults()).merge(Toml::string(text))).unwrap()
    }

    #[test]
    fn a_default_says_so_and_what_a_file_says_takes_its_place() {
        let find = |settings: &[Setting], key: &str| {
            settings.iter().find(|setting| setting.key == key).cloned().unwrap()
        };
        let poll = find(&of(""), "jobs.poll_seconds");
        assert_eq!((poll.value.as_deref(), poll.source.as_str()), (Some("5"), "default"));
        let poll = find(&of("[jobs]\npoll_seconds = 7"), "jobs.poll_seconds");
        assert_eq!(poll.value.as_deref(), Some("7"));
        let hands = ["jobs.hands", "jobs.heavy_hands"].map(|key| find(&of("[jobs]\nhands = 3"), key).value);
        assert_eq!(hands, [Some("3".to_owned()), Some("1".to_owned())]);
    }

    #[test]
    fn what_nobody_has_set_is_named_and_can_be_set() {
        let settings = of("");
        for key in PLAIN.into_iter().chain(SECRET) {
            let own: Vec<_> = settings.iter().filter(|setting| setting.key == key).collect();
            assert!(own.len() == 1 && own[0].value.as_deref() == Some("(not set)"), "{key}: {own:?}");
            let set = Figment::from(defaults()).merge((key, "x"));
            set.extract::<crate::Config>().unwrap_or_else(|error| panic!("{key}: {error}"));
        }
    }

    #[test]
    fn no_planted_secret_is_shown() {
        let planted = "
            database_url = 'postgres://u:PLANTED@host/db'
            [http]
            token = 'PLANTED'
            [artifacts]
            url = 's3://models/ours'
            secret_access_key = 'PLANTED'
        ";
        let settings = of(planted);
        assert!(!format!("{settings:?}").contains("PLANTED"), "{settings:?}");
        let kept: Vec<_> = settings.iter().filter(|setting| setting.value.is_none()).collect();
        assert_eq!(kept.len(), 3, "{kept:?}");
        assert!(settings.iter().any(|setting| setting.value.as_deref() == Some("s3://models/ours")));
    }
}
