//! Pages of answers: how many, and a token that says where the next begins.
//!
//! To clients a token is opaque. Inside it is the place of the page's last row in the order, and a mark of the search it
//! belongs to: a token of another search is refused, not misread.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use storage::search::{Found, Place};

use super::input::Input;
use super::refusal::Refusal;

/// A page that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// How many answers.
    pub(crate) size: i64,
    /// Only what comes after this place.
    pub(crate) after: Option<Place>,
    mark: String,
}

/// What a token holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    of: String,
    after: Place,
}

/// The fields that change what a search finds, or in which order.
const WHAT: [&str; 11] = [
    "filter",
    "order_by",
    "experiment_ids",
    "view_type",
    "run_view_type",
    "datasets",
    "run_id",
    "run_uuid",
    "metric_key",
    "name",
    "event",
];

impl Page {
    /// The page that a request names by `max_results` and `page_token`.
    pub(crate) fn of(input: &Input, usual: i64, most: i64) -> Result<Self, Refusal> {
        let size = input.whole("max_results")?.unwrap_or(usual);
        let refused = |rule: String| {
            Err(Refusal::invalid(format!(
                "Invalid value {size} for parameter 'max_results' supplied. {rule}"
            )))
        };
        if size < 1 {
            return refused(format!("It must be a positive integer, but got {size}"));
        }
        if size > most {
            return refused(format!("It must be at most {most}, but got {size}"));
        }
        let mark = mark(input);
        let token = input.text("page_token")?.filter(|token| !token.is_empty());
        let after = token.map(|token| place(token, &mark)).transpose()?;
        Ok(Self { size, after, mark })
    }

    /// One more than the page holds tells whether another follows.
    pub(crate) fn limit(&self) -> i64 {
        self.size + 1
    }

    /// Cuts the extra answer off; the token of the next page if there was one.
    pub(crate) fn cut<T>(&self, answers: &mut Vec<T>, place: impl FnOnce(&T) -> Place) -> Option<String> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        if answers.len() <= size {
            return None;
        }
        answers.truncate(size);
        let token = Token { of: self.mark.clone(), after: place(answers.last()?) };
        Some(BASE64_STANDARD.encode(serde_json::to_vec(&token).expect("texts become JSON")))
    }

    /// The same for what a search found: the keys of the page, and the token.
    pub(crate) fn keys(&self, mut found: Vec<Found>) -> (Vec<String>, Option<String>) {
        let token = self.cut(&mut found, |last| last.place.clone());
        (found.into_iter().map(|found| found.key).collect(), token)
    }
}

/// Eight bytes of a hash over what is searched.
fn mark(input: &Input) -> String {
    let mut hash = Sha256::new();
    for field in WHAT {
        hash.update(field);
        hash.update(input.raw(field).map(Value::to_string).unwrap_or_default());
    }
    hex::encode(&hash.finalize()[..8])
}

fn place(token: &str, mark: &str) -> Result<Place, Refusal> {
    let decoded = BASE64_STANDARD
        .decode(token)
        .map_err(|_| Refusal::invalid("Invalid page token, could not base64-decode"))?;
    match serde_json::from_slice::<Token>(&decoded) {
        Ok(token) if token.of == mark => Ok(token.after),
        Ok(_) => Err(Refusal::invalid("Invalid page token: it belongs to another search")),
        Err(_) => Err(Refusal::invalid(format!(
            "Invalid page token, decoded value={}",
            String::from_utf8_lossy(&decoded)
        ))),
    }
}

/// `{key: answers, "next_page_token": token}`, each left out if there is none.
pub(crate) fn answer(key: &str, answers: Vec<Value>, token: Option<String>) -> Value {
    let mut body = json!({});
    if !answers.is_empty() {
        body[key] = Value::Array(answers);
    }
    if let Some(token) = token {
        body["next_page_token"] = Value::String(token);
    }
    body
}

/// The same, written at once.
pub(crate) struct Listed<'a, T> {
    /// What the list is called.
    pub(crate) key: &'static str,
    /// The page.
    pub(crate) answers: Vec<T>,
    /// Where the next page begins.
    pub(crate) token: Option<&'a str>,
    /// Not MLflow's: how many answers there are on all pages, if that was asked.
    pub(crate) total: Option<i64>,
}

impl<T: Serialize> Serialize for Listed<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut body = serializer.serialize_map(None)?;
        if !self.answers.is_empty() {
            body.serialize_entry(self.key, &self.answers)?;
        }
        if let Some(token) = self.token {
            body.serialize_entry("next_page_token", token)?;
        }
        if let Some(total) = self.total {
            body.serialize_entry("total_count", &total)?;
        }
        body.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &Value) -> Result<Page, Refusal> {
        Page::of(&Input::from_value(query), 2, 10)
    }

    #[test]
    fn a_token_leads_to_the_place_after_the_last_answer() {
        let mut answers = vec![1, 2, 3];
        let first = page(&json!({ "filter": "a = 'b'" })).unwrap();
        let token = first.cut(&mut answers, |last| vec![Some(last.to_string()), None]).unwrap();
        let next = page(&json!({ "filter": "a = 'b'", "page_token": token })).unwrap();
        assert_eq!((answers.len(), next.after), (2, Some(vec![Some("2".to_owned()), None])));
    }

    #[test]
    fn a_token_of_another_search_is_refused() {
        let first = page(&json!({ "filter": "a = 'b'" })).unwrap();
        let token = first.cut(&mut vec![1, 2, 3], |_| vec![None]).unwrap();
        assert!(page(&json!({ "filter": "a = 'c'", "page_token": token })).is_err());
    }

    #[test]
    fn a_token_that_was_not_given_out_is_refused() {
        for token in ["x", "e30=", "eyJvZmZzZXQiOiAxfQ==", "bnVsbA==", "eyJvZiI6IngiLCJhZnRlciI6W119"] {
            assert!(page(&json!({ "page_token": token })).is_err(), "{token}");
        }
    }
}
