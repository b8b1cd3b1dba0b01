//! How a view is written on a command line.

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono_tz::Tz;
use domain::Horizon;
use domain::words::did_you_mean;

use super::{KeyPair, Knowledge, View};
use crate::Error;
use crate::as_of::Rule;

impl FromStr for Knowledge {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            None if text == "cutoff" => Ok(Self::Cutoff),
            None if text == "off" => Ok(Self::Off),
            Some(("column", name)) if !name.is_empty() => Ok(Self::Column(name.to_owned())),
            _ => {
                let hint = did_you_mean(text, ["cutoff", "off", "column:NAME"]);
                Err(Error::Join(format!("`{text}` does not say from when labels look{hint}")))
            }
        }
    }
}

const SETTINGS: [&str; 11] = [
    "name",
    "path",
    "keys",
    "event_time",
    "known_time",
    "seq",
    "op",
    "zone",
    "features",
    "max_age",
    "boundary",
];
/// What may be empty: no key, no feature.
const MAY_BE_EMPTY: [&str; 2] = ["keys", "features"];

impl FromStr for View {
    type Err = Error;

    /// Reads `name=w,path=f.parquet,keys=k1+label_column:k2,event_time=ts,known_time=created,seq=n,op=op,zone=UTC,`
    /// `features=a+b,max_age=7d,boundary=inclusive`, of which only the first four are required.
    fn from_str(text: &str) -> Result<Self, Error> {
        let given = settings(text)?;
        let required = |setting: &str, example: &str| {
            given
                .get(setting)
                .map(|value| (*value).to_owned())
                .ok_or_else(|| Error::Join(format!("`{setting}` is missing in `{text}`; add {example}")))
        };
        let optional = |setting: &str| given.get(setting).map(|value| (*value).to_owned());
        Ok(Self {
            name: required("name", "`name=…`, which prefixes its columns")?,
            path: required("path", "`path=….parquet`")?,
            keys: keys(&required("keys", "`keys=a+b`, or `keys=` if every row is about every label")?)?,
            event_time: required("event_time", "`event_time=COLUMN`, which says when a row happened")?,
            known_time: optional("known_time"),
            seq: optional("seq"),
            op: optional("op"),
            zone: given.get("zone").map(|name| zone(name)).transpose()?,
            features: given.get("features").map(|names| columns("features", names)).transpose()?,
            rule: Rule {
                exclusive: exclusive(given.get("boundary").copied())?,
                max_age: max_age(given.get("max_age").copied())?,
            },
        })
    }
}

fn settings(text: &str) -> Result<BTreeMap<&str, &str>, Error> {
    let mut given = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let Some((setting, value)) = part.split_once('=') else {
            return Err(Error::Join(format!("`{part}` is not a setting; write `setting=value`")));
        };
        if !SETTINGS.contains(&setting) {
            let hint = did_you_mean(setting, SETTINGS);
            return Err(Error::Join(format!("a view has no setting `{setting}`{hint}")));
        }
        if value.is_empty() && !MAY_BE_EMPTY.contains(&setting) {
            return Err(Error::Join(format!(
                "`{setting}` has no value; write one, or leave `{setting}` out"
            )));
        }
        if given.insert(setting, value).is_some() {
            return Err(Error::Join(format!("`{setting}` is set twice in `{text}`; keep one")));
        }
    }
    Ok(given)
}

fn columns(setting: &str, text: &str) -> Result<Vec<String>, Error> {
    if text.is_empty() {
        return Ok(vec![]);
    }
    let names: Vec<String> = text.split('+').map(str::to_owned).collect();
    if names.iter().any(String::is_empty) {
        return Err(Error::Join(format!(
            "`{setting}={text}` names a column without a name; write `{setting}=a+b`"
        )));
    }
    Ok(names)
}

fn keys(text: &str) -> Result<Vec<KeyPair>, Error> {
    let pair = |name: String| {
        let (label, view) = name.split_once(':').unwrap_or((&name, &name));
        if label.is_empty() || view.is_empty() {
            return Err(Error::Join(format!(
                "`{name}` is no key; write `COLUMN`, or `LABEL_COLUMN:VIEW_COLUMN`"
            )));
        }
        Ok(KeyPair { label: label.to_owned(), view: view.to_owned() })
    };
    columns("keys", text)?.into_iter().map(pair).collect()
}

/// The zone of a name such as `America/New_York`.
///
/// # Errors
/// [`Error::Join`] if there is none.
pub fn zone(name: &str) -> Result<Tz, Error> {
    name.parse().map_err(|_| {
        Error::Join(format!("there is no time zone `{name}`; write one such as `America/New_York`"))
    })
}

fn exclusive(boundary: Option<&str>) -> Result<bool, Error> {
    match boundary {
        None | Some("inclusive") => Ok(false),
        Some("exclusive") => Ok(true),
        Some(other) => {
            let hint = did_you_mean(other, ["inclusive", "exclusive"]);
            Err(Error::Join(format!("`{other}` is no boundary{hint}")))
        }
    }
}

fn max_age(span: Option<&str>) -> Result<Option<i64>, Error> {
    let parsed = span.map(str::parse::<Horizon>).transpose();
    let parsed = parsed.map_err(|refusal| Error::Join(format!("`max_age` is wrong: {refusal}")))?;
    Ok(parsed.map(Horizon::micros))
}
