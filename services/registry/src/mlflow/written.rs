//! Answers that are written as JSON straight from what they are about, without a tree of values between: pages of runs and what
//! is asked most often.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use storage::tracking::Pair;

use super::refusal::Refusal;

/// A body that is JSON already.
#[derive(Debug)]
pub(crate) struct Written(Vec<u8>);

/// An answer that is written at once.
pub(crate) type WrittenAnswer = Result<Written, Refusal>;

impl Written {
    /// The JSON of what an answer holds.
    pub(crate) fn of(answer: &impl Serialize) -> Self {
        Self::sized(answer, 0)
    }

    /// The same, with room for that many bytes from the start.
    pub(crate) fn sized(answer: &impl Serialize, bytes: usize) -> Self {
        let mut written = Vec::with_capacity(bytes);
        serde_json::to_writer(&mut written, answer).expect("answers have texts for keys");
        Self(written)
    }
}

impl IntoResponse for Written {
    fn into_response(self) -> Response {
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, JSON)], self.0).into_response()
    }
}

/// `[{"key": …, "value": …}, …]`.
#[derive(Clone, Copy)]
pub(super) struct Pairs<'a>(pub(super) &'a [Pair]);

impl Pairs<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct KeyValue<'a> {
            key: &'a str,
            value: &'a str,
        }
        serializer.collect_seq(self.0.iter().map(|(key, value)| KeyValue { key, value }))
    }
}

/// A number as MLflow shows ids and versions: its digits as text.
pub(super) fn digits<S: Serializer>(
    number: &impl std::fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// A number; NaN, which JSON lacks, as the text `NaN`.
pub(super) fn number<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.is_nan() { serializer.serialize_str("NaN") } else { serializer.serialize_f64(*number) }
}
