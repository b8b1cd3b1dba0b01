//! Incidents: when a run of bad windows becomes one, how long it stays one, and how much it matters.
//!
//! Belongs here: the pure state machine, fed with one [`Look`] a window. Not here: what makes a window bad (`monitor`),
//! where the state is kept (`storage`), who is told (`monitor`).
//!
//! Ok → pending → firing → (acknowledged | silenced) → recovering → resolved. A watch is kept for each monitor, model and [`Cause`].

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::{Fault, Remedy};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$item:meta])* $variant:ident => $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$item])* #[serde(rename = $word)] $variant),* }

        impl $name {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word that is stored and shown.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(UnknownWord { what: $what, found: text.to_owned(), known: &[$($word),*] }),
                }
            }
        }
    };
}

words!(/** What a comparison over a window found. */ Verdict, "a verdict" {
    /** Within bounds. */ Ok => "ok",
    /** Further from the reference than the smallest effect worth naming, at the stated level. */ Drift => "drift",
    /** Too few rows to say. */ InsufficientData => "insufficient data",
    /** The data itself is wrong: a column is absent, of another type, or mostly missing. */ Broken => "broken",
});

words!(/** Why an incident exists; there is at most one open incident a monitor, model and cause. */ Cause, "a cause" {
    /** Outcomes come true more or less often than in training. */ LabelRate => "label-rate",
    /** Probabilities no longer mean what they say. */ Calibration => "calibration",
    /** It ranks outcomes worse than it did when it was registered. */ Performance => "performance",
    /** Inputs or scores are distributed differently. */ InputDrift => "input-drift",
    /** Data is absent or wrong. */ BrokenData => "broken-data",
});

words!(/** How much an incident matters. */ Severity, "a severity" {
    /** Drift without visible impact: recorded, nobody is told. */ Log => "log",
    /** Confirmed drift: look into it in working hours. */ Ticket => "ticket",
    /** Broken data or broken probabilities: look now. */ Page => "page",
});

words!(/** Where a watch stands. */ Phase, "a state" {
    /** Nothing is wrong. */ Ok => "ok",
    /** Bad windows, too few to be an incident. */ Pending => "pending",
    /** An incident is open. */ Firing => "firing",
    /** An incident is open and somebody has it. */ Acknowledged => "acknowledged",
    /** An incident is open and nobody wants to hear of it for a while. */
    Silenced => "silenced",
    /** An incident is open; the latest windows look well. */ Recovering => "recovering",
    /** The incident is over. */ Resolved => "resolved",
});

/// A word that this program does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not {what}; write one of {}", known.join(", "))]
pub struct UnknownWord {
    what: &'static str,
    found: String,
    known: &'static [&'static str],
}

impl Fault for UnknownWord {
    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }
    fn code(&self) -> &'static str {
        "unknown-word"
    }
}

/// What one window says about a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It shows the cause.
    Bad,
    /// It does not.
    Good,
    /// It cannot say: no data, or no labels yet. Nothing changes.
    Unknown,
}

/// How patient a watch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Bad windows in a row that make an incident; at least 1.
    pub confirm: u32,
    /// Good windows in a row that end one; at least 1.
    pub recover: u32,
    /// A new run of bad windows that begins this soon after the end re-opens the same incident.
    pub reopen_within: TimeDelta,
}

/// What a window changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A first bad window.
    Suspected,
    /// The suspicion did not hold.
    Dismissed,
    /// A new incident.
    Opened,
    /// The last incident again.
    Reopened,
    /// The first good window of an open incident.
    Recovering,
    /// A bad window during recovery.
    Relapsed,
    /// The incident is over.
    Resolved,
    /// A silence covers the open incident.
    Silenced,
    /// No silence covers it any more.
    Unsilenced,
}

impl Change {
    /// The word that history keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suspected => "suspected",
            Self::Dismissed => "dismissed",
            Self::Opened => "opened",
            Self::Reopened => "reopened",
            Self::Recovering => "recovering",
            Self::Relapsed => "relapsed",
            Self::Resolved => "resolved",
            Self::Silenced => "silenced",
            Self::Unsilenced => "unsilenced",
        }
    }
}

/// The memory of one cause of one monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Where it stands.
    pub phase: Phase,
    /// Bad windows in a row.
    pub bad: u32,
    /// Good windows in a row.
    pub good: u32,
    /// When the first window of the present run of bad ones began.
    pub since: Option<DateTime<Utc>>,
    /// When the last good window of the last incident ended.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Whether somebody has the open incident.
    pub acknowledged: bool,
    /// Whether a silence covers it.
    #[serde(default)]
    pub silenced: bool,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            phase: Phase::Ok,
            bad: 0,
            good: 0,
            since: None,
            resolved_at: None,
            acknowledged: false,
            silenced: false,
        }
    }
}

impl Watch {
    /// The watch after a window from `start` until `end`, and what that changed.
    pub fn after(
        self,
        look: Look,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
        patience: Patience,
    ) -> (Self, Option<Change>) {
        match look {
            Look::Unknown => (self, None),
            Look::Bad => self.after_bad(start, patience),
            Look::Good => self.after_good(end, patience),
        }
    }

    fn after_bad(self, start: DateTime<Utc>, patience: Patience) -> (Self, Option<Change>) {
        let seen = Self { bad: self.bad + 1, good: 0, ..self };
        match self.phase {
            Phase::Firing | Phase::Acknowledged | Phase::Silenced => (seen, None),
            Phase::Recovering => (Self { phase: self.open_phase(), ..seen }, Some(Change::Relapsed)),
            Phase::Ok | Phase::Resolved | Phase::Pending => {
                let first = self.phase != Phase::Pending;
                let seen = Self { since: if first { Some(start) } else { self.since }, ..seen };
                if seen.bad < patience.confirm {
                    return (Self { phase: Phase::Pending, ..seen }, first.then_some(Change::Suspected));
                }
                let again = seen.is_soon_again(patience);
                let fired = Self { phase: Phase::Firing, acknowledged: false, ..seen };
                (fired, Some(if again { Change::Reopened } else { Change::Opened }))
            }
        }
    }

    fn after_good(self, end: DateTime<Utc>, patience: Patience) -> (Self, Option<Change>) {
        let seen = Self { good: self.good + 1, bad: 0, ..self };
        match self.phase {
            Phase::Ok | Phase::Resolved => (seen, None),
            Phase::Pending => {
                let phase = if self.resolved_at.is_some() { Phase::Resolved } else { Phase::Ok };
                (Self { phase, since: None, ..seen }, Some(Change::Dismissed))
            }
            Phase::Firing | Phase::Acknowledged | Phase::Silenced | Phase::Recovering
                if seen.good >= patience.recover =>
            {
                (
                    Self { phase: Phase::Resolved, since: None, resolved_at: Some(end), ..seen },
                    Some(Change::Resolved),
                )
            }
            Phase::Recovering => (seen, None),
            Phase::Firing | Phase::Acknowledged | Phase::Silenced => {
                (Self { phase: Phase::Recovering, ..seen }, Some(Change::Recovering))
            }
        }
    }

    fn is_soon_again(self, patience: Patience) -> bool {
        self.resolved_at.zip(self.since).is_some_and(|(ended, began)| began - ended <= patience.reopen_within)
    }

    fn open_phase(self) -> Phase {
        match (self.acknowledged, self.silenced) {
            (true, _) => Phase::Acknowledged,
            (false, true) => Phase::Silenced,
            (false, false) => Phase::Firing,
        }
    }

    /// Whether an incident is open.
    pub fn is_open(self) -> bool {
        matches!(self.phase, Phase::Firing | Phase::Acknowledged | Phase::Silenced | Phase::Recovering)
    }

    /// The watch where a silence covers the incident, or none does, and what that changed. Whoever has acknowledged an
    /// incident keeps it, silenced or not.
    pub fn hushed(self, silenced: bool) -> (Self, Option<Change>) {
        let watch = Self { silenced, ..self };
        match (self.phase, watch.open_phase()) {
            (Phase::Firing, Phase::Silenced) => {
                (Self { phase: Phase::Silenced, ..watch }, Some(Change::Silenced))
            }
            (Phase::Silenced, Phase::Firing) => {
                (Self { phase: Phase::Firing, ..watch }, Some(Change::Unsilenced))
            }
            _ => (watch, None),
        }
    }

    /// The watch once somebody has taken the incident.
    ///
    /// # Errors
    /// [`NotOpen`] if there is no open incident.
    pub fn acknowledge(self) -> Result<Self, NotOpen> {
        match self.phase {
            Phase::Firing | Phase::Acknowledged | Phase::Silenced => {
                Ok(Self { phase: Phase::Acknowledged, acknowledged: true, ..self })
            }
            Phase::Recovering => Ok(Self { acknowledged: true, ..self }),
            phase => Err(NotOpen { phase }),
        }
    }
}

/// An incident that is over cannot be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the incident is {phase}; only an open one can be acknowledged")]
pub struct NotOpen {
    phase: Phase,
}

impl Fault for NotOpen {
    fn remedy(&self) -> Remedy {
        Remedy::ResolveConflict
    }
    fn code(&self) -> &'static str {
        "incident-not-open"
    }
}

/// How much an incident matters, by what it costs: broken data, broken probabilities and lost performance cost now, a moved label rate or
/// moved scores probably do, moved inputs that leave the scores alone do not.
pub fn severity(cause: Cause, scores_moved: bool) -> Severity {
    match cause {
        Cause::BrokenData | Cause::Calibration | Cause::Performance => Severity::Page,
        Cause::LabelRate => Severity::Ticket,
        Cause::InputDrift if scores_moved => Severity::Ticket,
        Cause::InputDrift => Severity::Log,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { confirm: 2, recover: 3, reopen_within: TimeDelta::hours(24) };

    fn day(day: i64) -> DateTime<Utc> {
        "2013-11-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(day)
    }

    /// The changes and the last phase of a run of days: `b`ad, `g`ood, `?`.
    fn run(days: &str) -> (Vec<Change>, Watch) {
        let mut watch = Watch::default();
        let mut changes = Vec::new();
        for (i, letter) in days.chars().enumerate() {
            let look = match letter {
                'b' => Look::Bad,
                'g' => Look::Good,
                _ => Look::Unknown,
            };
            let (next, change) = watch.after(look, day(i as i64), day(i as i64 + 1), PATIENCE);
            watch = next;
            changes.extend(change);
        }
        (changes, watch)
    }

    #[test]
    fn one_bad_window_is_a_suspicion_and_not_an_incident() {
        let (changes, watch) = run("gbg");
        assert_eq!(changes, [Change::Suspected, Change::Dismissed]);
        assert_eq!(watch.phase, Phase::Ok);
    }

    #[test]
    fn an_incident_opens_once_however_long_it_lasts() {
        let (changes, watch) = run("bbbbbbbb");
        assert_eq!(changes, [Change::Suspected, Change::Opened]);
        assert_eq!((watch.phase, watch.since), (Phase::Firing, Some(day(0))));
    }

    #[test]
    fn it_resolves_only_after_enough_good_windows_in_a_row() {
        let (changes, watch) = run("bbggbggg");
        use Change::{Opened, Recovering, Relapsed, Resolved, Suspected};
        assert_eq!(changes, [Suspected, Opened, Recovering, Relapsed, Recovering, Resolved]);
        assert_eq!((watch.phase, watch.resolved_at), (Phase::Resolved, Some(day(8))));
    }

    #[test]
    fn windows_that_cannot_say_change_nothing() {
        let (changes, watch) = run("b??b???");
        assert_eq!(changes, [Change::Suspected, Change::Opened]);
        assert_eq!(watch.phase, Phase::Firing);
    }

    #[test]
    fn trouble_that_is_soon_back_reopens_the_same_incident_and_later_trouble_is_new() {
        assert_eq!(run("bbgggbb").0.last(), Some(&Change::Reopened));
        assert_eq!(run("bbgggggbb").0.last(), Some(&Change::Opened));
    }

    #[test]
    fn an_acknowledged_incident_that_relapses_stays_acknowledged() {
        let (_, watch) = run("bb");
        let watch = watch.acknowledge().unwrap();
        let (watch, _) = watch.after(Look::Good, day(2), day(3), PATIENCE);
        let (watch, change) = watch.after(Look::Bad, day(3), day(4), PATIENCE);
        assert_eq!((watch.phase, change), (Phase::Acknowledged, Some(Change::Relapsed)));
    }

    #[test]
    fn a_silenced_incident_goes_on_and_fires_once_the_silence_is_over() {
        let (watch, change) = run("bb").1.hushed(true);
        assert_eq!((watch.phase, change), (Phase::Silenced, Some(Change::Silenced)));
        let (watch, change) = watch.after(Look::Bad, day(2), day(3), PATIENCE);
        assert_eq!((watch.phase, change), (Phase::Silenced, None));
        let (watch, _) = watch.after(Look::Good, day(3), day(4), PATIENCE);
        let (watch, change) = watch.after(Look::Bad, day(4), day(5), PATIENCE);
        assert_eq!((watch.phase, change), (Phase::Silenced, Some(Change::Relapsed)));
        let (watch, change) = watch.hushed(false);
        assert_eq!((watch.phase, change), (Phase::Firing, Some(Change::Unsilenced)));
    }

    #[test]
    fn an_acknowledged_incident_is_not_moved_by_silences() {
        let watch = run("bb").1.acknowledge().unwrap();
        assert_eq!(watch.hushed(true).1, None);
        assert_eq!(watch.hushed(true).0.phase, Phase::Acknowledged);
    }

    #[test]
    fn what_is_over_cannot_be_acknowledged() {
        let refusal = run("bbggg").1.acknowledge().unwrap_err();
        assert_eq!(refusal.to_string(), "the incident is resolved; only an open one can be acknowledged");
    }

    #[test]
    fn a_new_run_after_an_acknowledged_one_is_not_acknowledged() {
        let (_, watch) = run("bb");
        let mut watch = watch.acknowledge().unwrap();
        for (i, look) in [Look::Good, Look::Good, Look::Good, Look::Bad, Look::Bad].into_iter().enumerate() {
            watch = watch.after(look, day(i as i64 + 2), day(i as i64 + 3), PATIENCE).0;
        }
        assert_eq!((watch.phase, watch.acknowledged), (Phase::Firing, false));
    }

    #[test]
    fn severity_follows_the_consequence() {
        assert_eq!(severity(Cause::BrokenData, false), Severity::Page);
        assert_eq!(severity(Cause::InputDrift, true), Severity::Ticket);
        assert_eq!(severity(Cause::InputDrift, false), Severity::Log);
    }

    #[test]
    fn an_unknown_word_is_refused_with_the_known_ones() {
        let refusal = "drit".parse::<Verdict>().unwrap_err().to_string();
        assert_eq!(refusal, "`drit` is not a verdict; write one of ok, drift, insufficient data, broken");
    }
}
