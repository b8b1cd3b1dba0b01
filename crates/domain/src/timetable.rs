//! When a schedule ticks: cron fields read on the clock on the wall of a time zone, and a delay of each tick's own.
//!
//! Where a zone changes its offset, a schedule of certain hours neither loses a tick nor has one twice: what falls into the
//! hour that is left out ticks as soon as that is over, and of an hour that comes twice the first counts. A schedule of every
//! hour goes by elapsed time instead: an hour that comes twice has its ticks twice, and one that is left out has none.

use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, Offset, SubsecRound, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use cron::TimeUnitSpec;

use crate::definitions::Schedule;
use crate::words::did_you_mean;

/// No tick is looked for further away than this many changes of a zone's offset.
const MOST_CHANGES: usize = 400;
/// Spans in which the latest ticks are looked for, one after the other.
const SPANS: [TimeDelta; 5] = [
    TimeDelta::minutes(2),
    TimeDelta::hours(2),
    TimeDelta::days(2),
    TimeDelta::days(64),
    TimeDelta::days(3_660),
];

/// A schedule that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotATimetable {
    /// The cron fields.
    #[error("`cron` is `{text}`: {why}; write six fields: second minute hour day-of-month month day-of-week")]
    Fields {
        /// What was written.
        text: String,
        /// What the reader said.
        why: String,
    },
    /// The zone.
    #[error("`{0}` is no time zone{1}; write one such as `Europe/Berlin`")]
    Zone(String, String),
    /// A delay that would let ticks overtake each other.
    #[error("`jitter` is {jitter}, but ticks are only {gap} s apart; make it shorter")]
    Jitter {
        /// What was written.
        jitter: crate::Horizon,
        /// The least time between two ticks, in seconds.
        gap: i64,
    },
}

/// When a schedule ticks.
#[derive(Clone, Debug)]
pub struct Timetable {
    cron: cron::Schedule,
    zone: Tz,
    every_hour: bool,
    jitter: TimeDelta,
    seed: u64,
}

/// The ticks that are due, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The latest ones, at most as many as were asked for.
    pub ticks: Vec<DateTime<Utc>>,
    /// Whether there were more before them.
    pub more: bool,
}

impl Timetable {
    /// The ticks of a project's schedule.
    ///
    /// # Errors
    /// [`NotATimetable`] says which field is wrong.
    pub fn of(project: &str, schedule: &Schedule) -> Result<Self, NotATimetable> {
        let cron = cron::Schedule::from_str(&schedule.cron)
            .map_err(|error| NotATimetable::Fields { text: schedule.cron.clone(), why: error.to_string() })?;
        let zone = schedule.time_zone.parse().map_err(|_| {
            let known = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
            NotATimetable::Zone(schedule.time_zone.clone(), did_you_mean(&schedule.time_zone, known))
        })?;
        let table = Self {
            every_hour: cron.hours().is_all(),
            cron,
            zone,
            jitter: schedule.jitter.map_or(TimeDelta::zero(), crate::Horizon::delta),
            seed: fingerprint(&[project, &schedule.name]),
        };
        match schedule.jitter.zip(table.least_gap()) {
            Some((jitter, gap)) if jitter.delta() >= gap => {
                Err(NotATimetable::Jitter { jitter, gap: gap.num_seconds() })
            }
            _ => Ok(table),
        }
    }

    /// The ticks after a moment, in order.
    pub fn after(&self, moment: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> + '_ {
        std::iter::successors(self.next(moment), |tick| self.next(*tick))
    }

    /// When a tick happens: its own time and the delay that is always the same for it.
    pub fn happens_at(&self, tick: DateTime<Utc>) -> DateTime<Utc> {
        let span = self.jitter.num_milliseconds().unsigned_abs();
        if span == 0 {
            return tick;
        }
        let drawn = scramble(self.seed ^ tick.timestamp().cast_unsigned()) % (span + 1);
        tick + TimeDelta::milliseconds(drawn.cast_signed())
    }

    /// The latest ticks after `seen` that should have happened by `now`, at most `most`.
    pub fn due(&self, seen: DateTime<Utc>, now: DateTime<Utc>, most: usize) -> Due {
        let mut ticks = Vec::new();
        for span in SPANS {
            let since = seen.max(now - span - self.jitter);
            ticks = self.after(since).take_while(|tick| *tick <= now).collect();
            ticks.retain(|tick| self.happens_at(*tick) <= now);
            if ticks.len() > most || since == seen {
                break;
            }
        }
        let more = ticks.len() > most;
        Due { ticks: ticks.split_off(ticks.len().saturating_sub(most)), more }
    }

    /// The first tick after a moment; `None` if the fields name no later one.
    fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = after.trunc_subsecs(0);
        let mut on_the_wall = self.wall(from);
        for _ in 0..MOST_CHANGES {
            let ahead = self.ahead(from);
            let wanted = self.cron.after(&on_the_wall.and_utc()).next()?.naive_utc();
            let tick = (wanted - ahead).and_utc();
            let Some(change) = self.change(from, tick, ahead) else {
                if self.every_hour || !self.came_before(tick) {
                    return Some(tick);
                }
                (from, on_the_wall) = (tick, wanted);
                continue;
            };
            let left_out = wanted >= change.naive_utc() + ahead && wanted < self.wall(change);
            if left_out && !self.every_hour {
                return Some(change);
            }
            // what is on the wall from here on, this very second among it
            (from, on_the_wall) = (change, self.wall(change) - TimeDelta::seconds(1));
        }
        None
    }

    /// How far the wall is ahead of UTC.
    fn ahead(&self, moment: DateTime<Utc>) -> TimeDelta {
        let offset = self.zone.offset_from_utc_datetime(&moment.naive_utc()).fix();
        TimeDelta::seconds(offset.local_minus_utc().into())
    }

    fn wall(&self, moment: DateTime<Utc>) -> NaiveDateTime {
        moment.naive_utc() + self.ahead(moment)
    }

    /// The first second in `(from, until]` at which the wall is not `ahead` of UTC any more.
    fn change(&self, from: DateTime<Utc>, until: DateTime<Utc>, ahead: TimeDelta) -> Option<DateTime<Utc>> {
        // A zone keeps an offset for weeks at least, Ramadan's pauses included: a day is a safe step.
        let mut same = from;
        while same < until {
            let ahead_of = (same + TimeDelta::days(1)).min(until);
            if self.ahead(ahead_of) != ahead {
                return Some(self.narrow(same, ahead_of, ahead));
            }
            same = ahead_of;
        }
        None
    }

    fn narrow(&self, mut same: DateTime<Utc>, mut other: DateTime<Utc>, ahead: TimeDelta) -> DateTime<Utc> {
        while other - same > TimeDelta::seconds(1) {
            let middle = same + TimeDelta::seconds((other - same).num_seconds() / 2);
            if self.ahead(middle) == ahead { same = middle } else { other = middle }
        }
        other
    }

    /// Whether the wall showed this very time before.
    fn came_before(&self, tick: DateTime<Utc>) -> bool {
        let earliest = self.zone.from_local_datetime(&self.wall(tick)).earliest();
        earliest.is_some_and(|earliest| earliest < tick)
    }

    /// The least time between two of the next ticks from a fixed moment on; no clock is asked.
    fn least_gap(&self) -> Option<TimeDelta> {
        let ticks: Vec<_> = self.after(DateTime::from_timestamp(1_767_225_600, 0)?).take(64).collect();
        ticks.windows(2).map(|pair| pair[1] - pair[0]).min()
    }
}

/// FNV-1a over the words; the same everywhere and for ever.
fn fingerprint(words: &[&str]) -> u64 {
    let bytes = words.iter().flat_map(|word| word.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): neighbours become strangers.
fn scramble(seed: u64) -> u64 {
    let mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::definitions::{Action, CatchUp, Overlap};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn schedule(cron: &str, time_zone: &str, jitter: Option<&str>) -> Schedule {
        Schedule {
            name: "nightly".to_owned(),
            cron: cron.to_owned(),
            time_zone: time_zone.to_owned(),
            catch_up: CatchUp::One,
            catch_up_limit: 10,
            overlap: Overlap::Queue,
            jitter: jitter.map(|span| span.parse().unwrap()),
            action: Action::Monitor("flights".to_owned()),
        }
    }

    fn table(cron: &str, time_zone: &str) -> Timetable {
        Timetable::of("default", &schedule(cron, time_zone, None)).unwrap()
    }

    fn first(table: &Timetable, after: &str, count: usize) -> Vec<String> {
        table.after(at(after)).take(count).map(|tick| tick.format("%m-%dT%H:%M").to_string()).collect()
    }

    #[test]
    fn the_fields_are_read_in_the_schedules_own_zone() {
        // New York left daylight time on 2013-11-03 at 06:00 UTC
        let nightly = table("0 30 2 * * *", "America/New_York");
        assert_eq!(first(&nightly, "2013-11-02T00:00:00Z", 2), ["11-02T06:30", "11-03T07:30"]);
    }

    #[test]
    fn what_falls_into_an_hour_that_is_left_out_ticks_when_that_is_over() {
        // New York went to daylight time on 2013-03-10 at 07:00 UTC: 02:00 to 03:00 did not exist
        let nightly = table("0 30 2 * * *", "America/New_York");
        assert_eq!(first(&nightly, "2013-03-09T00:00:00Z", 3), ["03-09T07:30", "03-10T07:00", "03-11T06:30"]);
        let often = table("0 0,20,40 2 * * *", "America/New_York");
        assert_eq!(first(&often, "2013-03-10T00:00:00Z", 2), ["03-10T07:00", "03-11T06:00"]);
    }

    #[test]
    fn of_an_hour_that_comes_twice_the_first_counts() {
        let nightly = table("0 30 1 * * *", "America/New_York");
        assert_eq!(first(&nightly, "2013-11-02T00:00:00Z", 3), ["11-02T05:30", "11-03T05:30", "11-04T06:30"]);
    }

    #[test]
    fn a_schedule_of_every_hour_goes_by_elapsed_time() {
        let hourly = table("0 15 * * * *", "Europe/Berlin");
        let autumn = ["10-27T00:15", "10-27T01:15", "10-27T02:15"]; // 02:15, 02:15 again, 03:15
        assert_eq!(first(&hourly, "2013-10-27T00:00:00Z", 3), autumn);
        let spring = ["03-31T00:15", "03-31T01:15"]; // 01:15, 03:15
        assert_eq!(first(&hourly, "2013-03-31T00:00:00Z", 2), spring);
    }

    #[test]
    fn zones_that_move_by_half_an_hour_or_leave_out_a_day_are_no_exception() {
        // Lord Howe goes from +10:30 to +11 on 2013-10-05 at 15:30 UTC: 02:00 becomes 02:30
        let nightly = table("0 10 2 * * *", "Australia/Lord_Howe");
        assert_eq!(first(&nightly, "2013-10-04T16:00:00Z", 2), ["10-05T15:30", "10-06T15:10"]);
        // Apia left out 2011-12-30
        let noon = table("0 0 12 * * *", "Pacific/Apia");
        assert_eq!(first(&noon, "2011-12-28T23:00:00Z", 3), ["12-29T22:00", "12-30T10:00", "12-30T22:00"]);
    }

    #[test]
    fn the_latest_that_are_due_are_found_however_long_ago_anybody_looked() {
        let nightly = table("0 30 2 * * *", "UTC");
        let (seen, now) = (at("2010-11-01T00:00:00Z"), at("2013-11-03T12:00:00Z"));
        let two = Due { ticks: vec![at("2013-11-02T02:30:00Z"), at("2013-11-03T02:30:00Z")], more: true };
        assert_eq!(nightly.due(seen, now, 2), two);
        assert_eq!(nightly.due(two.ticks[1], now, 2), Due { ticks: vec![], more: false });
        assert_eq!(nightly.due(two.ticks[0], now, 2).ticks, [two.ticks[1]]);
        let this_second = at("2013-11-04T02:30:00Z");
        assert_eq!(nightly.due(now, this_second, 1).ticks, [this_second]);
        assert!(nightly.due(now, this_second - TimeDelta::milliseconds(1), 1).ticks.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_what_to_write() {
        let refused = |schedule| Timetable::of("default", &schedule).unwrap_err().to_string();
        let zone = refused(schedule("0 0 * * * *", "Europe/Berln", None));
        assert!(zone.contains("Europe/Berln") && zone.contains("Europe/Berlin"), "{zone}");
        assert!(refused(schedule("0 0 * *", "UTC", None)).contains("six fields"));
        let jitter = refused(schedule("0 * * * * *", "UTC", Some("2m")));
        assert!(jitter.contains("60 s apart"), "{jitter}");
    }

    proptest! {
        #[test]
        fn ticks_come_in_order_and_their_delays_are_theirs(start in 0i64..1_700_000_000, zone in 0usize..40) {
            let zones = ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca"];
            let declared = schedule("0 0 1,2,3 * * *", zones[zone % 4], Some("20m"));
            let (one, other) = (Timetable::of("a", &declared).unwrap(), Timetable::of("b", &declared).unwrap());
            let ticks: Vec<_> = one.after(DateTime::from_timestamp(start, 0).unwrap()).take(9).collect();
            prop_assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]));
            let delays: Vec<_> = ticks.iter().map(|tick| one.happens_at(*tick) - *tick).collect();
            prop_assert!(delays.iter().all(|delay| *delay >= TimeDelta::zero() && *delay <= TimeDelta::minutes(20)));
            prop_assert!(ticks.iter().any(|tick| one.happens_at(*tick) != other.happens_at(*tick)));
            // a tick that was seen is not due again, and each is due exactly from when it happens
            for tick in &ticks {
                let happens = one.happens_at(*tick);
                prop_assert_eq!(one.due(*tick - TimeDelta::seconds(1), happens, 1).ticks, vec![*tick]);
                prop_assert!(one.due(*tick, happens, 9).ticks.is_empty());
            }
        }
    }
}
