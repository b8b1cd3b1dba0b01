//! The only source of "now". Services hold one; tests and replays hold one they can set.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Utc};

/// The only source of "now".
pub trait Clock: Send + Sync {
    /// The present moment, as this clock sees it.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine for the time")]
        Utc::now()
    }
}

/// A clock that stands still until it is moved: for tests, and for replaying recorded events.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `start`.
    pub fn starting_at(start: DateTime<Utc>) -> Self {
        Self(AtomicI64::new(start.timestamp_micros()))
    }

    /// Moves the clock to `to`. A clock never runs backwards: an earlier moment is ignored.
    pub fn advance_to(&self, to: DateTime<Utc>) {
        self.0.fetch_max(to.timestamp_micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0.load(Ordering::SeqCst))
            .expect("only moments that chrono could represent were ever stored")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_manual_clock_never_runs_backwards() {
        let clock = ManualClock::starting_at(at("2013-11-01T00:00:00Z"));
        clock.advance_to(at("2013-11-02T00:00:00Z"));
        clock.advance_to(at("2013-10-01T00:00:00Z"));
        assert_eq!(clock.now(), at("2013-11-02T00:00:00Z"));
    }
}
