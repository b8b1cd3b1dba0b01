//! Parts of a UTC time, from microseconds since 1970.

use super::CalendarPart;

const DAY: i64 = 86_400_000_000;

pub(super) fn part(part: CalendarPart, micros: i64) -> usize {
    let (day, within) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    match part {
        CalendarPart::Hour => (within / 3_600_000_000) as usize,
        CalendarPart::Weekday => (day + 3).rem_euclid(7) as usize, // 1970-01-01 was a Thursday
        CalendarPart::Month => month(day),
    }
}

/// The month (January is 0) of a day since 1970.
///
/// # Source
/// Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`: years begin in March.
fn month(day: i64) -> usize {
    let day_of_era = (day + 719_468).rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    ((from_march + 2) % 12) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants_have_their_calendar_parts() {
        let micros = |seconds: i64| seconds * 1_000_000;
        let parts = |seconds| {
            [CalendarPart::Month, CalendarPart::Weekday, CalendarPart::Hour].map(|p| part(p, micros(seconds)))
        };
        assert_eq!(parts(0), [0, 3, 0]); // Thursday, 1 January 1970
        assert_eq!(parts(951_825_599), [1, 1, 11]); // Tuesday, 29 February 2000, 11:59:59
        assert_eq!(parts(1_388_534_399), [11, 1, 23]); // Tuesday, 31 December 2013, 23:59:59
        assert_eq!(parts(-1), [11, 2, 23]); // the second before 1970
    }
}
