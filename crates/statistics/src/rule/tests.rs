use super::*;
use crate::Generator;
use crate::distributions::{normal_cdf, normal_quantile};
use crate::profile::{ColumnProfile, Edges, LevelProfile, NumberProfile};

fn normal(generator: &mut Generator) -> f64 {
    normal_quantile(generator.uniform().clamp(1e-12, 1.0 - 1e-12))
}

fn values(seed: u64, rows: usize, map: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut generator = Generator::from_seed(seed);
    (0..rows).map(|_| map(normal(&mut generator))).collect()
}

fn numbers(edges: &Edges, values: &[f64], nulls: u64) -> ColumnProfile {
    let mut profile = NumberProfile::new(edges.clone());
    profile.observe(values);
    profile.observe_nulls(nulls);
    ColumnProfile::Numbers(profile)
}

struct Numbers {
    edges: Edges,
    yardstick: Yardstick,
}

fn reference(rows: usize) -> Numbers {
    let own = values(1, rows, |x| x);
    let edges = Edges::of(&own, 500).unwrap();
    let yardstick = Yardstick::of(numbers(&edges, &own, rows as u64 / 100));
    Numbers { edges, yardstick }
}

impl Numbers {
    fn judge(&self, window: &ColumnProfile) -> Judgement {
        self.yardstick.look(window, 0, Settings::default()).unwrap().judge().unwrap()
    }

    fn window(&self, seed: u64, rows: usize, map: impl Fn(f64) -> f64) -> ColumnProfile {
        numbers(&self.edges, &values(seed, rows, map), rows as u64 / 100)
    }
}

#[test]
fn each_kind_of_move_is_seen_in_one_window_and_named() {
    let reference = reference(50_000);
    let tail = |x: f64| if (x * 1e6).rem_euclid(100.0) < 1.0 { 10.0 * x } else { x };
    let quiet = reference.judge(&reference.window(2, 5_000, |x| x));
    assert_eq!(quiet.verdict, Verdict::Ok, "{quiet:?}");
    let cases: [(Cause, ColumnProfile); 4] = [
        (Cause::Location, reference.window(2, 5_000, |x| x + 0.25)),
        (Cause::Spread, reference.window(2, 5_000, |x| 1.2 * x)),
        (Cause::Range, reference.window(2, 5_000, tail)),
        (Cause::Missing, numbers(&reference.edges, &values(2, 4_000, |x| x), 1_000)),
    ];
    for (cause, window) in cases {
        let found = reference.judge(&window);
        assert_eq!((found.verdict, found.causes[0].cause), (Verdict::Drift, cause), "{found:?}");
    }
}

#[test]
fn a_move_below_the_smallest_effect_gathers_no_evidence_however_often_one_looks() {
    let reference = reference(1_000_000);
    let mut evidence = Evidence::default();
    let mut most = f64::NEG_INFINITY;
    for hour in 0..300 {
        let window = reference.window(100 + hour, 5_000, |x| x + 0.02); // KS 0.008
        let look = reference.yardstick.look(&window, 0, Settings::default()).unwrap();
        evidence.take(&look);
        most = most.max(evidence.log_e(&look));
    }
    assert!(most < 1000_f64.ln(), "{most}");
}

#[test]
fn windows_too_small_to_say_add_up() {
    let reference = reference(200_000);
    let mut evidence = Evidence::default();
    let mut single = 0;
    let mut held_after = None;
    for hour in 0..24 {
        let window = reference.window(100 + hour, 500, |x| 1.12 * x);
        let look = reference.yardstick.look(&window, 0, Settings::default()).unwrap();
        single += u32::from(look.judge().unwrap().verdict == Verdict::Drift);
        evidence.take(&look);
        if held_after.is_none() && kept(&[evidence.log_e(&look), 0.0, 0.0], 0.001).unwrap()[0] {
            held_after = Some(hour);
            assert_eq!(evidence.cause(&look), Some(Cause::Spread));
        }
    }
    assert!(single <= 2 && held_after.is_some(), "{single} {held_after:?}");
}

#[test]
fn evidence_that_windows_do_not_bear_out_any_more_is_forgotten() {
    let reference = reference(200_000);
    let mut evidence = Evidence::default();
    let take = |evidence: &mut Evidence, seed: u64, shift: f64| {
        let window = reference.window(seed, 2_000, |x| x + shift);
        let look = reference.yardstick.look(&window, 0, Settings::default()).unwrap();
        evidence.take(&look);
        evidence.log_e(&look)
    };
    let moved: Vec<f64> = (0..10).map(|hour| take(&mut evidence, hour, 0.3)).collect();
    assert!(moved[9] > 20.0, "{moved:?}");
    let over: Vec<f64> = (10..14).map(|hour| take(&mut evidence, hour, 0.0)).collect();
    assert!(over[3] < 2.0, "{over:?}");
}

#[test]
fn evidence_survives_being_stored() {
    let reference = reference(10_000);
    let window = reference.window(3, 2_000, |x| x + 0.2);
    let look = reference.yardstick.look(&window, 0, Settings::default()).unwrap();
    let mut evidence = Evidence::default();
    evidence.take(&look);
    let text = serde_json::to_string(&evidence).unwrap();
    assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
}

#[test]
fn an_hour_is_held_against_its_own_season() {
    let wave = |hour: usize| if hour % 24 < 12 { 0.0 } else { 1.0 };
    let hourly: Vec<Vec<f64>> =
        (0..24 * 28).map(|hour| values(hour as u64, 500, |x| x + wave(hour))).collect();
    let edges = Edges::of(&hourly.concat(), 500).unwrap();
    let windows: Vec<ColumnProfile> = hourly.iter().map(|values| numbers(&edges, values, 5)).collect();
    let mut whole = windows[0].clone();
    windows[1..].iter().for_each(|window| whole.merge(window).unwrap());
    let placed = windows.iter().enumerate().map(|(hour, window)| ((hour / 24) as i64, hour % 24, window));
    let seasonal = Yardstick::with_season(whole.clone(), Season { slots: 24 }, placed);
    let plain = Yardstick::of(whole);
    let night = numbers(&edges, &values(9_999, 500, |x| x), 5);
    let verdict = |yardstick: &Yardstick, slot| {
        yardstick.look(&night, slot, Settings::default()).unwrap().judge().unwrap().verdict
    };
    assert_eq!(verdict(&plain, 0), Verdict::Drift);
    assert_eq!((verdict(&seasonal, 0), verdict(&seasonal, 12)), (Verdict::Ok, Verdict::Drift));
}

#[test]
fn days_that_differ_among_themselves_widen_what_is_no_drift() {
    let mut generator = Generator::from_seed(5);
    let days: Vec<f64> = (0..28).map(|_| 0.2 * normal(&mut generator)).collect();
    let hourly: Vec<Vec<f64>> =
        (0..24 * 28).map(|hour| values(hour as u64, 500, |x| x + days[hour / 24])).collect();
    let edges = Edges::of(&hourly.concat(), 500).unwrap();
    let windows: Vec<ColumnProfile> = hourly.iter().map(|values| numbers(&edges, values, 5)).collect();
    let mut whole = windows[0].clone();
    windows[1..].iter().for_each(|window| whole.merge(window).unwrap());
    let placed = windows.iter().enumerate().map(|(hour, window)| ((hour / 24) as i64, 0, window));
    let learned = Yardstick::with_season(whole.clone(), Season { slots: 1 }, placed);
    let verdict = |yardstick: &Yardstick, shift: f64| {
        let window = numbers(&edges, &values(9_999, 5_000, |x| x + shift), 50);
        yardstick.look(&window, 0, Settings::default()).unwrap().judge().unwrap().verdict
    };
    assert_eq!((verdict(&learned, 0.3), verdict(&Yardstick::of(whole), 0.3)), (Verdict::Ok, Verdict::Drift));
    assert_eq!(verdict(&learned, 1.5), Verdict::Drift);
}

/// An hour's values of a normal law about `level`: counts as the law has them, without chance.
fn expected_numbers(edges: &Edges, rows: f64, level: f64) -> ColumnProfile {
    let below = edges.as_slice().iter().map(|edge| normal_cdf(edge - level)).chain([1.0]);
    let before = [0.0].into_iter().chain(below.clone());
    let counts = below.zip(before).map(|(end, begin)| ((end - begin) * rows).round() as u64).collect();
    ColumnProfile::Numbers(NumberProfile::of_counts(edges.clone(), counts, 0).unwrap())
}

#[test]
fn days_that_lie_elsewhere_are_no_drift_of_the_spread_at_any_hour_though_none_of_it_is_left_over_the_day() {
    let wave = |hour: usize| 0.4 * (hour as f64 * std::f64::consts::TAU / 24.0).sin();
    let days = |day: usize| 0.05 * normal_quantile((day * 11 % 28) as f64 / 28.0 + 1.0 / 56.0);
    let edges = Edges::try_from((-40..=40).map(|edge| f64::from(edge) / 10.0).collect::<Vec<_>>()).unwrap();
    let windows: Vec<ColumnProfile> = (0..24 * 28)
        .map(|hour| expected_numbers(&edges, 50_000.0, wave(hour % 24) + days(hour / 24)))
        .collect();
    let mut whole = windows[0].clone();
    windows[1..].iter().for_each(|window| whole.merge(window).unwrap());
    let placed = windows.iter().enumerate().map(|(hour, window)| ((hour / 24) as i64, hour % 24, window));
    let yardstick = Yardstick::with_season(whole, Season { slots: 24 }, placed);
    let drifted = |hour: usize, level: f64, deviation: f64| {
        let values = values(hour as u64, 50_000, |x| wave(hour) + level + deviation * x);
        let window = numbers(&edges, &values, 0);
        yardstick.look(&window, hour, Settings::default()).unwrap().judge().unwrap().verdict == Verdict::Drift
    };
    let hours = |level: f64, deviation: f64| (0..24).filter(|hour| drifted(*hour, level, deviation)).count();
    assert_eq!((hours(0.12, 1.0), hours(-0.12, 1.0)), (0, 0));
    assert_eq!((hours(1.0, 1.0), hours(0.0, 1.5)), (24, 24));
}

#[test]
fn levels_without_a_name_have_their_seasons() {
    let names: Vec<String> = (0..400).map(|level| format!("L{level}")).collect();
    // At night one in ten values is of the 300 rare levels, by day one in five.
    let counts = |day: bool| {
        let rare = if day { 20 } else { 10 };
        names
            .iter()
            .enumerate()
            .map(move |(place, name)| (name.as_str(), if place < 100 { 300 - rare * 3 } else { rare }))
    };
    let both = counts(false).zip(counts(true)).map(|((name, night), (_, day))| (name, 28 * (night + day)));
    let whole = LevelProfile::of_reference(both, 0);
    let window = |day: bool, new: u64| {
        let mut window = LevelProfile::like(&whole);
        counts(day).for_each(|(name, count)| window.add(name, count));
        window.add("new", new);
        ColumnProfile::Levels(window)
    };
    let windows: Vec<ColumnProfile> = (0..56).map(|half| window(half % 2 == 1, 0)).collect();
    let placed = windows.iter().enumerate().map(|(half, window)| ((half / 2) as i64, half % 2, window));
    let yardstick = Yardstick::with_season(ColumnProfile::Levels(whole.clone()), Season { slots: 2 }, placed);
    let verdict = |slot: usize, window: &ColumnProfile| {
        yardstick.look(window, slot, Settings::default()).unwrap().judge().unwrap().verdict
    };
    assert_eq!((verdict(0, &window(false, 0)), verdict(1, &window(true, 0))), (Verdict::Ok, Verdict::Ok));
    assert_eq!(verdict(0, &window(false, 1_500)), Verdict::Drift);
}

#[test]
fn a_column_that_is_mostly_missing_is_broken_and_a_short_one_says_what_it_needs() {
    let reference = reference(10_000);
    let broken = reference.judge(&numbers(&reference.edges, &values(2, 100, |x| x), 900));
    assert_eq!(broken.verdict, Verdict::Broken);
    let short = reference.judge(&numbers(&reference.edges, &values(2, 8, |x| x + 5.0), 0));
    assert_eq!((short.verdict, short.needed), (Verdict::InsufficientData, Some(30)));
    let none = reference.judge(&numbers(&reference.edges, &[], 0));
    assert_eq!((none.verdict, none.effect), (Verdict::InsufficientData, None));
}

#[test]
fn another_kind_of_column_cannot_be_held_against_it() {
    let reference = reference(1_000);
    let texts = ColumnProfile::Levels(LevelProfile::of_reference([("a", 50)], 0));
    assert!(reference.yardstick.look(&texts, 0, Settings::default()).is_none());
}

#[test]
fn new_levels_are_expected_where_the_reference_kept_finding_them() {
    let singles: Vec<String> = (0..300).map(|level| format!("rare {level}")).collect();
    let rare = singles.iter().map(|level| (level.as_str(), 1));
    let open = LevelProfile::of_reference(rare.chain([("common", 9_700)]), 0); // 3 % of a kind
    let closed = LevelProfile::of_reference([("common", 9_700), ("other", 300)], 0);
    let verdict = |reference: &LevelProfile| {
        let mut window = LevelProfile::like(reference);
        window.add("common", 4_900);
        (0..100).for_each(|level| window.add(&format!("new {level}"), 1));
        let reference = Yardstick::of(ColumnProfile::Levels(reference.clone()));
        let window = ColumnProfile::Levels(window);
        reference.look(&window, 0, Settings::default()).unwrap().judge().unwrap()
    };
    assert_eq!(verdict(&open).verdict, Verdict::Ok, "{:?}", verdict(&open));
    let found = verdict(&closed);
    assert!(found.verdict == Verdict::Drift && found.causes.iter().take(2).any(|s| s.cause == Cause::Unseen));
}

#[test]
fn a_score_is_never_above_what_the_binomial_law_allows() {
    let exact = |n: u64, k: u64, p: f64| {
        let mut mass = (1.0 - p).powi(n as i32);
        let mut below = 0.0;
        for i in 0..k {
            below += mass;
            mass *= p / (1.0 - p) * (n - i) as f64 / (i + 1) as f64;
        }
        1.0 - below
    };
    for (n, p) in [(50, 0.02), (200, 0.1), (400, 0.5)] {
        for k in (1..=n).step_by(7).filter(|&k| k as f64 > p * n as f64) {
            let claim = super::yardstick::Claim {
                cause: Cause::Levels,
                share: k as f64 / n as f64,
                expected: p - 0.01,
                size: n as f64,
                bound: 0.01,
            };
            let score = claim.score_squared().sqrt();
            let said = if score > 0.0 { crate::distributions::normal_sf(score) } else { 1.0 };
            assert!(said >= exact(n, k, p) * 0.999_999 - 1e-12, "{n} {p} {k}: {said} {}", exact(n, k, p));
        }
    }
}

#[test]
fn the_scale_of_numbers_does_not_matter() {
    let judge = |scale: f64| {
        let own = values(1, 5_000, |x| x * scale);
        let edges = Edges::of(&own, 500).unwrap();
        let yardstick = Yardstick::of(numbers(&edges, &own, 0));
        let window = numbers(&edges, &values(2, 2_000, |x| (x + 0.3) * scale), 0);
        let found = yardstick.look(&window, 0, Settings::default()).unwrap().judge().unwrap();
        (found.verdict, found.effect, found.p_value)
    };
    assert_eq!(judge(1.0), judge(1e300));
    assert_eq!(judge(1.0), judge(1e-300));
}
