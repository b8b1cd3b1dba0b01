//! What is kept of a history that a GPT read: columns of prediction logs and of references, named as no feature can be.
//!
//! Of each history that was looked at: how unexpected it was, one of its tokens, and its vector seen through random features. A
//! row that nobody looked at holds none of them.

/// What these columns' names begin with: a dot is in no feature's name.
const FAMILY: &str = "gpt.";
/// How unexpected a history was to the model as it was trained, in nats a token.
pub const SURPRISE: &str = "gpt.surprise";
/// A token of the history, each of them as likely: over rows, the frequencies of tokens.
pub const TOKEN: &str = "gpt.token";
/// The history's vector; its features are `gpt.embedding.1` and on.
pub const EMBEDDING: &str = "gpt.embedding";
/// The file beside a reference that holds these columns of later rows than the model learned from.
pub const REFERENCE_FILE: &str = "reading.arrow";

/// The name of the feature of that place, counted from 1.
pub fn embedding(place: usize) -> String {
    format!("{EMBEDDING}.{place}")
}

/// Whether a column tells of a history that was read.
///
/// ```
/// use domain::reading;
/// assert!(reading::is_reading("gpt.surprise") && reading::is_reading(&reading::embedding(1)));
/// assert!(!reading::is_reading("gpt"));
/// ```
pub fn is_reading(column: &str) -> bool {
    column.starts_with(FAMILY)
}

/// Whether a column is a feature of vectors.
pub fn is_embedding(column: &str) -> bool {
    column.strip_prefix(EMBEDDING).is_some_and(|rest| rest.starts_with('.'))
}
