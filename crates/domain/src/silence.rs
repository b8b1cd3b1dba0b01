//! Silences: incidents that nobody wants to hear of for a while. They are still seen, judged and kept.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::incident::{Cause, Severity};
use crate::{Fault, Remedy};

/// What a silence can ask about an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The monitor that sees it.
    pub monitor: &'a str,
    /// The registered model.
    pub model: &'a str,
    /// Why it exists.
    pub cause: Cause,
    /// How much it matters.
    pub severity: Severity,
}

/// What a matcher looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// The monitor's name.
    Monitor,
    /// The registered model.
    Model,
    /// The cause.
    Cause,
    /// The severity.
    Severity,
}

/// One condition. `*` in the value stands for any text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    /// What it looks at.
    pub label: Label,
    /// What it looks for.
    pub value: String,
    /// False for everything but.
    #[serde(default = "yes")]
    pub equal: bool,
}

fn yes() -> bool {
    true
}

/// Incidents that all matchers fit are not told between two moments of the platform's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    /// All must fit; there is at least one.
    pub matchers: Vec<Matcher>,
    /// From when.
    pub starts_at: DateTime<Utc>,
    /// Until when.
    pub ends_at: DateTime<Utc>,
    /// Who wants it.
    pub by: String,
    /// Why.
    #[serde(default)]
    pub comment: String,
}

/// A silence that would silence nothing, or everything for ever.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSilence {
    /// It has no matcher.
    #[error("a silence without a matcher would silence everything; name a monitor, model, cause or severity")]
    NoMatcher,
    /// It ends before it starts.
    #[error("the silence ends at {ends_at}, which is not after {starts_at}, when it starts")]
    EndsFirst {
        /// When it starts.
        starts_at: DateTime<Utc>,
        /// When it ends.
        ends_at: DateTime<Utc>,
    },
    /// Nobody wants it.
    #[error("say in `by` who wants the silence")]
    Nobody,
}

impl Fault for BadSilence {
    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }
    fn code(&self) -> &'static str {
        "bad-silence"
    }
}

impl Silence {
    /// The silence, if it is one.
    ///
    /// # Errors
    /// [`BadSilence`] says why it is not.
    pub fn checked(self) -> Result<Self, BadSilence> {
        if self.matchers.is_empty() {
            return Err(BadSilence::NoMatcher);
        }
        if self.ends_at <= self.starts_at {
            return Err(BadSilence::EndsFirst { starts_at: self.starts_at, ends_at: self.ends_at });
        }
        if self.by.trim().is_empty() {
            return Err(BadSilence::Nobody);
        }
        Ok(self)
    }

    /// Whether it silences an incident at a moment.
    pub fn covers(&self, subject: Subject<'_>, at: DateTime<Utc>) -> bool {
        self.starts_at <= at && at < self.ends_at && self.matchers.iter().all(|matcher| matcher.fits(subject))
    }
}

impl Matcher {
    fn fits(&self, subject: Subject<'_>) -> bool {
        let found = match self.label {
            Label::Monitor => subject.monitor,
            Label::Model => subject.model,
            Label::Cause => subject.cause.as_str(),
            Label::Severity => subject.severity.as_str(),
        };
        fits(&self.value, found) == self.equal
    }
}

/// Whether `text` is `pattern`, where `*` stands for any text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(head) else { return false };
    (0..=text.len())
        .filter(|&skipped| text.is_char_boundary(skipped))
        .any(|skipped| fits(rest, &text[skipped..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: u32) -> DateTime<Utc> {
        format!("2026-11-24T{hour:02}:00:00Z").parse().unwrap()
    }

    fn silence(matchers: Vec<Matcher>) -> Silence {
        Silence { matchers, starts_at: at(1), ends_at: at(3), by: "ada".to_owned(), comment: String::new() }
    }

    fn matcher(label: Label, value: &str) -> Matcher {
        Matcher { label, value: value.to_owned(), equal: true }
    }

    const SUBJECT: Subject<'_> =
        Subject { monitor: "flights", model: "late", cause: Cause::InputDrift, severity: Severity::Ticket };

    #[test]
    fn it_covers_what_all_matchers_fit_from_its_start_to_before_its_end() {
        let both = silence(vec![matcher(Label::Model, "late"), matcher(Label::Cause, "input-drift")]);
        assert!(!both.covers(SUBJECT, at(0)));
        assert!(both.covers(SUBJECT, at(1)) && both.covers(SUBJECT, at(2)));
        assert!(!both.covers(SUBJECT, at(3)));
        let other = silence(vec![matcher(Label::Model, "late"), matcher(Label::Cause, "calibration")]);
        assert!(!other.covers(SUBJECT, at(2)));
    }

    #[test]
    fn a_star_stands_for_any_text_and_a_matcher_can_be_turned_round() {
        assert!(fits("fl*", "flights") && fits("*", "") && fits("*igh*s", "flights"));
        assert!(!fits("fl", "flights") && !fits("*x*", "flights"));
        let not = Matcher { equal: false, ..matcher(Label::Monitor, "flights") };
        assert!(!silence(vec![not]).covers(SUBJECT, at(2)));
    }

    #[test]
    fn a_silence_of_everything_or_of_no_time_is_refused() {
        assert_eq!(silence(vec![]).checked(), Err(BadSilence::NoMatcher));
        let backwards = Silence { ends_at: at(1), ..silence(vec![matcher(Label::Model, "late")]) };
        assert!(matches!(backwards.checked(), Err(BadSilence::EndsFirst { .. })));
    }
}
