//! What names, keys and values may be, in MLflow's words.

use storage::tracking::Pair;

use super::refusal::Refusal;

const KEY: usize = 250;
const PARAM_VALUE: usize = 6_000;
const RUN_TAG_VALUE: usize = 8_000;
const EXPERIMENT_TAG_VALUE: usize = 20_000;
const REGISTRY_TAG_VALUE: usize = 100_000;
const EXPERIMENT_NAME: usize = 500;
const ALIAS: usize = 255;

/// A registered model's name.
pub(crate) fn model_name(name: &str) -> Result<(), Refusal> {
    if name.trim().is_empty() {
        return Err(Refusal::invalid("Missing value for required parameter 'name'."));
    }
    if name.contains(['/', ':']) {
        return Err(Refusal::invalid(format!(
            "Invalid model name '{name}'. Names cannot contain '/' or ':'."
        )));
    }
    length("name", 256, name)?;
    plain_path("name", name)
}

/// An alias.
pub(crate) fn alias(alias: &str) -> Result<(), Refusal> {
    readable_alias(alias)?;
    if alias.eq_ignore_ascii_case("latest") {
        return Err(Refusal::invalid("'latest' alias name (case insensitive) is reserved."));
    }
    let digits = alias.strip_prefix(['v', 'V']).unwrap_or_default();
    if !digits.is_empty() && digits.chars().all(|digit| digit.is_ascii_digit()) {
        return Err(Refusal::invalid(format!("Version alias name '{alias}' is reserved.")));
    }
    Ok(())
}

/// An alias that is asked for: `latest` means something then.
pub(crate) fn readable_alias(alias: &str) -> Result<(), Refusal> {
    if alias.is_empty() {
        return Err(Refusal::invalid("Registered model alias name cannot be empty."));
    }
    if !alias.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') {
        return Err(Refusal::invalid(format!(
            "Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )));
    }
    length("Registered model alias name", ALIAS, alias)
}

/// A version's number.
pub(crate) fn version(text: &str) -> Result<i32, Refusal> {
    let number: i128 = text
        .trim()
        .parse()
        .map_err(|_| Refusal::invalid(format!("Parameter 'version' must be an integer, got '{text}'.")))?;
    Ok(i32::try_from(number).unwrap_or(-1)) // no version has such a number, which the caller will find
}

/// An experiment's name.
pub(crate) fn experiment_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::invalid(format!("Invalid experiment name: '{name}'")));
    }
    length("name", EXPERIMENT_NAME, name)
}

/// An experiment's number.
pub(crate) fn experiment_id(text: &str) -> Result<i64, Refusal> {
    let refused = || {
        Refusal::invalid(format!("Invalid experiment ID '{text}'. Experiment ID must be a valid integer."))
    };
    if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| refused()) }
}

/// An id that a client may choose: of a run elsewhere, say.
pub(crate) fn id(what: &str, id: &str) -> Result<(), Refusal> {
    let plain = id.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    if plain && id.chars().next().is_some_and(char::is_alphanumeric) && id.chars().count() <= 256 {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "Invalid value {} for parameter '{what}' supplied.",
        serde_json::Value::from(id)
    )))
}

/// A stage's canonical spelling.
pub(crate) fn stage(text: &str) -> Result<&'static str, Refusal> {
    ["None", "Staging", "Production", "Archived"]
        .into_iter()
        .find(|stage| stage.eq_ignore_ascii_case(text))
        .ok_or_else(|| {
            Refusal::invalid(format!(
                "Invalid Model Version stage: {text}. Value must be one of None, Staging, Production, Archived."
            ))
        })
}

/// A logged model's name.
pub(crate) fn logged_model_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.contains(['/', ':', '.', '%', '"', '\'']) {
        return Err(Refusal::invalid(format!(
            "Invalid model name ('{name}') provided. Model name must be a non-empty string and cannot contain the \
             following characters: ('/', ':', '.', '%', '\"', \"'\")"
        )));
    }
    length("name", EXPERIMENT_NAME, name)
}

/// A metric's key.
pub(crate) fn metric_key(path: &str, key: &str) -> Result<(), Refusal> {
    name(path, key)?;
    length("Metric name", KEY, key)
}

/// A parameter; a value that is too long is cut, as MLflow does.
pub(crate) fn param(path: &str, (key, value): Pair) -> Result<Pair, Refusal> {
    name(path, &key)?;
    length("Param key", KEY, &key)?;
    Ok((key, value.chars().take(PARAM_VALUE).collect()))
}

/// A tag of a data set that a run read.
pub(crate) fn input_tag((key, value): &Pair) -> Result<(), Refusal> {
    length("key", 255, key)?;
    length("value", 500, value)
}

/// Where an experiment's runs put their files.
pub(crate) fn artifact_location(location: &str) -> Result<(), Refusal> {
    if location.starts_with("runs:") {
        return Err(Refusal::invalid(format!(
            "Artifact location cannot be a runs:/ URI. Given: '{location}'"
        )));
    }
    if location.chars().count() > 2_048 {
        return Err(Refusal::invalid(
            "Invalid artifact path length. The length of the artifact path cannot be greater than 2048 characters.",
        ));
    }
    if location.contains(['?', '#']) {
        return Err(Refusal::invalid("'artifact_location' URL can't include fragments or params."));
    }
    Ok(())
}

/// A run's tag; a value that is too long is cut, as MLflow does.
pub(crate) fn run_tag(path: &str, (key, value): Pair) -> Result<Pair, Refusal> {
    name(path, &key)?;
    length("key", KEY, &key)?;
    Ok((key, value.chars().take(RUN_TAG_VALUE).collect()))
}

/// An experiment's tag.
pub(crate) fn experiment_tag((key, value): &Pair) -> Result<(), Refusal> {
    name("key", key)?;
    length("key", KEY, key)?;
    length("value", EXPERIMENT_TAG_VALUE, value)
}

/// A tag of a registered model or of a version.
pub(crate) fn registry_tag((key, value): &Pair) -> Result<(), Refusal> {
    name("key", key)?;
    length("key", KEY, key)?;
    length("value", REGISTRY_TAG_VALUE, value)
}

fn name(path: &str, name: &str) -> Result<(), Refusal> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '/' | '_' | '.' | '-' | ' ' | ':');
    if !name.chars().all(allowed) {
        return Err(Refusal::invalid(format!(
            "Invalid value {} for parameter '{path}' supplied: Names may only contain alphanumerics, underscores (_), \
             dashes (-), periods (.), spaces ( ), colon(:) and slashes (/).",
            serde_json::Value::from(name)
        )));
    }
    plain_path(path, name)
}

/// A name may become a file's name, so it must not resolve to another.
fn plain_path(path: &str, name: &str) -> Result<(), Refusal> {
    let resolved = resolved(name);
    if resolved == name && name != "." && !name.starts_with("..") && !name.starts_with('/') {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "Invalid value {} for parameter '{path}' supplied: Names may be treated as files in certain cases, and must not \
         resolve to other names when treated as such. This name would resolve to '{resolved}'",
        serde_json::Value::from(name)
    )))
}

/// What a path means: without empty parts, `.`, and `..` that can be followed.
fn resolved(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if path.starts_with('/') => {}
            other => parts.push(other),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    let joined = format!("{root}{}", parts.join("/"));
    if joined.is_empty() { ".".to_owned() } else { joined }
}

/// A text of at most `limit` characters.
pub(crate) fn length(what: &str, limit: usize, text: &str) -> Result<(), Refusal> {
    if text.chars().count() <= limit {
        return Ok(());
    }
    Err(Refusal::invalid(format!("'{what}' exceeds the maximum length of {limit} characters")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_aliases_are_refused_and_others_are_not() {
        for reserved in ["latest", "LATEST", "v1", "V12", "", "a b", "a/b"] {
            assert!(alias(reserved).is_err(), "{reserved}");
        }
        for free in ["champion", "v", "v1x", "prod-2", "Ü_1"] {
            assert!(alias(free).is_ok(), "{free}");
        }
    }

    #[test]
    fn a_name_that_resolves_to_another_is_refused() {
        for bad in ["", ".", "..", "/a", "a/", "a//b", "a/../b", "a;b", "a\\b"] {
            assert!(name("key", bad).is_err(), "{bad}");
        }
        assert!(name("key", "val/loss: top-1 é").is_ok());
    }
}
