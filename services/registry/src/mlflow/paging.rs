//! Pages of answers: how many, and a token that says where the next begins. To clients the token is opaque.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::input::Input;
use super::refusal::Refusal;

/// A page that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// How many answers.
    pub(crate) size: i64,
    /// How many come before.
    pub(crate) offset: i64,
}

impl Page {
    /// The page that a request names by `max_results` and `page_token`.
    pub(crate) fn of(input: &Input, usual: i64, most: i64) -> Result<Self, Refusal> {
        let size = input.whole("max_results")?.unwrap_or(usual);
        if size < 1 {
            return Err(Refusal::invalid(format!(
                "Invalid value {size} for parameter 'max_results' supplied: it must be a positive integer, but got {size}"
            )));
        }
        if size > most {
            return Err(Refusal::invalid(format!(
                "Invalid value {size} for parameter 'max_results' supplied: It must be at most {most}, but got value {size}"
            )));
        }
        let token = input.text("page_token")?.filter(|token| !token.is_empty());
        Ok(Self { size, offset: token.map_or(Ok(0), offset_of)? })
    }

    /// One more than the page holds tells whether another follows.
    pub(crate) fn limit(self) -> i64 {
        self.size + 1
    }

    /// Cuts the extra answer off; the token of the next page if there was one.
    pub(crate) fn cut<T>(self, answers: &mut Vec<T>) -> Option<String> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let more = answers.len() > size;
        answers.truncate(size);
        more.then(|| BASE64_STANDARD.encode(json!({ "offset": self.offset + self.size }).to_string()))
    }
}

fn offset_of(token: &str) -> Result<i64, Refusal> {
    let decoded = BASE64_STANDARD
        .decode(token)
        .map_err(|_| Refusal::invalid("Invalid page token, could not base64-decode"))?;
    let parsed: Option<Value> = serde_json::from_slice(&decoded).ok();
    parsed
        .and_then(|token| token.get("offset")?.as_i64())
        .filter(|offset| (0..=i64::from(i32::MAX)).contains(offset))
        .ok_or_else(|| {
            Refusal::invalid(format!(
                "Invalid page token, decoded value={}",
                String::from_utf8_lossy(&decoded)
            ))
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_to_the_next_page() {
        let mut answers = vec![1, 2, 3];
        let token = Page { size: 2, offset: 4 }.cut(&mut answers).unwrap();
        assert_eq!((answers.len(), offset_of(&token)), (2, Ok(6)));
    }

    #[test]
    fn a_token_that_was_not_given_out_is_refused() {
        for token in ["x", "e30=", "eyJvZmZzZXQiOiAtMX0=", "bnVsbA=="] {
            assert!(offset_of(token).is_err(), "{token}");
        }
    }
}
