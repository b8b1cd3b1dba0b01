//! A hostile column costs no more than a tame one: ten million distinct levels, and levels of a megabyte.
//!
//! One test in a process of its own, for it measures the memory of the whole process.

use statistics::profile::{ColumnProfile, LevelProfile, MOST_LEVELS};
use statistics::rule::{Cause, Settings, Verdict, Yardstick};

/// The most that this process ever held, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("it runs on Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts it");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("it is a number") << 10
}

#[test]
fn ten_million_levels_and_levels_of_a_megabyte_are_counted_in_a_profile_of_bounded_size() {
    let before = peak();
    let mut profile = LevelProfile::default();
    for level in 0..10_000_000_u64 {
        let mut digits = [0; 16];
        let mut rest = level.wrapping_mul(0x9e37_79b9_7f4a_7c15); // distinct for distinct levels
        for digit in &mut digits {
            *digit = b"0123456789abcdef"[(rest & 15) as usize];
            rest >>= 4;
        }
        profile.observe(std::str::from_utf8(&digits).expect("digits are ASCII"));
    }
    for level in 0..100_u8 {
        let long = String::from_utf8(vec![b'a' + level % 26; 1 << 20]).expect("letters are ASCII");
        profile.observe(&long);
    }
    assert_eq!((profile.values(), profile.levels().len()), (10_000_100, MOST_LEVELS));
    let window = ColumnProfile::Levels(profile);
    assert!(window.to_bytes().len() <= 32 << 10, "{}", window.to_bytes().len());
    assert!(peak() - before < 16 << 20, "{} bytes more than before", peak() - before);

    // Hours with few rows keep their new levels by name; a span of a thousand such hours does not keep them all.
    let reference = LevelProfile::of_reference([("AA", 900), ("UA", 100)], 0);
    let before = peak();
    let mut span = LevelProfile::like(&reference);
    for hour in 0..1_000 {
        let mut few = LevelProfile::like(&reference);
        (0..200).for_each(|level| few.observe(&format!("{hour} {level} {}", "ä".repeat(1 << 10))));
        let hour = ColumnProfile::Levels(few.clone());
        assert!(hour.to_bytes().len() <= 32 << 10, "{}", hour.to_bytes().len());
        span.merge(&few);
    }
    assert_eq!((span.values(), span.levels().len()), (200_000, MOST_LEVELS));
    let span = ColumnProfile::Levels(span);
    assert!(span.to_bytes().len() <= 32 << 10, "{}", span.to_bytes().len());
    assert!(peak() - before < 4 << 20, "{} bytes more than before", peak() - before);

    let yardstick = Yardstick::of(ColumnProfile::Levels(reference));
    let look = yardstick.look(&window, 0, Settings::default()).expect("both are levels");
    let found = look.judge().expect("the settings are some");
    assert_eq!(found.verdict, Verdict::Drift);
    let unseen = found.causes.iter().find(|shown| shown.cause == Cause::Unseen).expect("it is asked about");
    assert_eq!((unseen.now, unseen.p_value), (1.0, 0.0), "all of it is new");
}
