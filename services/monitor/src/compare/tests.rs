use std::path::PathBuf;

use frames::files::write_parquet;
use frames::{Frame, Values};
use statistics::Generator;

use super::*;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, columns: Vec<(&str, Values)>) -> PathBuf {
        let rows = columns.first().map_or(0, |(_, values)| values.len());
        let columns = columns.into_iter().map(|(name, values)| (name.to_owned(), values)).collect();
        let path = self.0.path().join(name);
        write_parquet(&path, &Frame::new(rows, columns)).unwrap();
        path
    }

    /// The only column of two files, compared.
    fn one(&self, reference: Values, current: Values) -> ColumnReport {
        let (reference, current) =
            (self.write("reference", vec![("x", reference)]), self.write("current", vec![("x", current)]));
        compare(&reference, &current, Bounds::default(), 1).unwrap().columns.remove(0)
    }
}

fn numbers(seed: u64, rows: usize, map: impl Fn(f64, usize) -> f64) -> Values {
    let mut generator = Generator::from_seed(seed);
    let normal = |generator: &mut Generator| {
        statistics::distributions::normal_quantile(generator.uniform().clamp(1e-12, 1.0 - 1e-12))
    };
    Values::Number((0..rows).map(|row| map(normal(&mut generator), row)).collect())
}

fn levels(seed: u64, rows: usize, share: f64, name: &str) -> Values {
    let mut generator = Generator::from_seed(seed);
    Values::text((0..rows).map(|_| Some(if generator.uniform() < share { name } else { "UA" })))
}

fn causes(column: &ColumnReport) -> Vec<&str> {
    column.causes.iter().map(|cause| cause.name.as_str()).collect()
}

#[test]
fn a_file_beside_itself_has_not_moved_at_all() {
    let files = Files::new();
    let same = files.one(numbers(1, 2_000, |x, _| x), numbers(1, 2_000, |x, _| x));
    assert_eq!((same.verdict, same.effect), (ColumnVerdict::Ok, Some(0.0)));
    assert_eq!((same.measures["wasserstein"], same.measures["ks_p"]), (0.0, 1.0));
    let same = files.one(levels(1, 2_000, 0.3, "AA"), levels(1, 2_000, 0.3, "AA"));
    assert_eq!((same.verdict, same.effect), (ColumnVerdict::Ok, Some(0.0)));
}

#[test]
fn each_kind_of_move_is_seen_and_named() {
    let files = Files::new();
    let reference = || numbers(1, 20_000, |x, _| x);
    let cases: [(&str, Values); 4] = [
        ("location", numbers(2, 5_000, |x, _| x + 0.25)),
        ("spread", numbers(2, 5_000, |x, _| x * 1.2)),
        ("range", numbers(2, 5_000, |x, row| if row % 100 == 0 { x * 10.0 } else { x })),
        ("missing", numbers(2, 5_000, |x, row| if row % 5 == 0 { f64::NAN } else { x })),
    ];
    for (name, current) in cases {
        let found = files.one(reference(), current);
        assert_eq!(found.verdict, ColumnVerdict::Drift, "{name}: {found:?}");
        assert!(causes(&found).contains(&name), "{name}: {found:?}");
    }
    let moved = files.one(levels(1, 20_000, 0.3, "AA"), levels(2, 5_000, 0.35, "AA"));
    assert_eq!((moved.verdict, causes(&moved)), (ColumnVerdict::Drift, vec!["levels"]));
    let (z, squared) = (moved.measures["z_two_proportions"], moved.measures["chi_square_two_sample"]);
    assert!(z < -4.0, "UA, the second of two levels, is rarer: {z}");
    assert!((z * z - squared).abs() < 1e-6 * squared, "{z}² is not {squared}");
    let new = files.one(levels(1, 20_000, 0.02, "AA"), levels(2, 5_000, 0.02, "new"));
    assert!(causes(&new).contains(&"unseen levels"), "{new:?}");
}

#[test]
fn a_constant_that_stays_is_ok_and_one_that_changes_has_moved_wholly() {
    let files = Files::new();
    let constant = |value: f64| Values::Number(vec![value; 500]);
    let same = files.one(constant(3.25), constant(3.25));
    assert_eq!((same.verdict, same.effect), (ColumnVerdict::Ok, Some(0.0)));
    let other = files.one(constant(3.25), constant(3.5));
    assert_eq!((other.verdict, other.effect), (ColumnVerdict::Drift, Some(1.0)));
}

#[test]
fn nothing_and_next_to_nothing_give_no_verdict() {
    let files = Files::new();
    let full = || numbers(1, 500, |x, _| x);
    for current in [Values::Number(vec![f64::NAN; 500]), Values::Number(vec![0.5])] {
        let found = files.one(full(), current);
        assert_eq!(found.verdict, ColumnVerdict::InsufficientData, "{found:?}");
    }
    let empty = files.one(Values::Number(vec![f64::NAN; 500]), full());
    assert_eq!((empty.verdict, empty.effect), (ColumnVerdict::InsufficientData, None));
    let none = files.one(levels(1, 500, 0.5, "AA"), Values::text(vec![None::<&str>; 500]));
    assert_eq!(none.verdict, ColumnVerdict::InsufficientData);
}

#[test]
fn columns_that_vanish_appear_or_change_their_type_are_told() {
    let files = Files::new();
    let x = || numbers(1, 300, |x, _| x);
    let reference = files.write("r", vec![("gone", x()), ("kept", x()), ("retyped", x())]);
    let texts = Values::text((0..300).map(|row| Some(if row % 2 == 0 { "1" } else { "2" })));
    let current = files.write("c", vec![("kept", x()), ("retyped", texts), ("new", x())]);
    let report = compare(&reference, &current, Bounds::default(), 2).unwrap();
    let verdicts: Vec<(&str, ColumnVerdict)> =
        report.columns.iter().map(|column| (column.name.as_str(), column.verdict)).collect();
    assert_eq!(
        verdicts,
        [
            ("gone", ColumnVerdict::Broken),
            ("kept", ColumnVerdict::Ok),
            ("retyped", ColumnVerdict::Broken),
            ("new", ColumnVerdict::Ok)
        ]
    );
    assert_eq!(report.verdict, ColumnVerdict::Broken);
}

#[test]
fn infinities_and_the_ends_of_the_number_line_are_values() {
    let files = Files::new();
    let ends = |x: f64, row: usize| match row % 50 {
        0 => f64::INFINITY,
        1 => f64::MIN,
        2 => f64::MAX,
        _ => x,
    };
    let found = files.one(numbers(1, 2_000, ends), numbers(2, 2_000, ends));
    assert_eq!(found.verdict, ColumnVerdict::Ok, "{found:?}");
    assert!(serde_json::to_string(&found).is_ok());
}

#[test]
fn a_long_text_and_many_levels_take_bounded_room() {
    let files = Files::new();
    let long = "x".repeat(1 << 20);
    let column = |offset: usize| {
        let names: Vec<String> = (0..3_000)
            .map(|row| if row == 0 { long.clone() } else { format!("L{}", (row * 7 + offset) % 2_500) })
            .collect();
        Values::text(names.iter().map(Some))
    };
    let found = files.one(column(0), column(3));
    assert!(serde_json::to_string(&found).unwrap().len() < 64 << 10);
    assert_ne!(found.verdict, ColumnVerdict::Broken, "{:?}", found.causes);
}

#[test]
fn rows_that_repeat_their_neighbours_do_not_cry_wolf() {
    let files = Files::new();
    let slow = |seed: u64| {
        let mut generator = Generator::from_seed(seed);
        let mut x = 0.0;
        let mut step = move || {
            let noise =
                statistics::distributions::normal_quantile(generator.uniform().clamp(1e-12, 1.0 - 1e-12));
            x = 0.9 * x + noise;
            x
        };
        Values::Number((0..5_000).map(|_| step()).collect())
    };
    let false_alarms = (0..20)
        .filter(|seed| files.one(slow(100 + seed), slow(200 + seed)).verdict == ColumnVerdict::Drift)
        .count();
    assert!(false_alarms <= 1, "{false_alarms} of 20");
}

#[test]
fn the_page_shows_names_as_text() {
    let files = Files::new();
    let x = || numbers(1, 300, |x, _| x);
    let reference = files.write("r", vec![("<script>", x())]);
    let report = compare(&reference, &reference, Bounds::default(), 1).unwrap();
    let page = page(&report);
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"), "{page}");
}

#[test]
fn a_kept_reference_gives_the_verdicts_of_its_rows() {
    let files = Files::new();
    let columns = |seed, shift: f64, aa| {
        vec![
            ("fare", numbers(seed, 4_000, |x, row| if row % 40 == 0 { f64::NAN } else { x + shift })),
            ("carrier", levels(seed, 4_000, aa, "AA")),
        ]
    };
    let (reference, current) =
        (files.write("r", columns(1, 0.0, 0.3)), files.write("c", columns(2, 0.3, 0.3)));
    let kept = files.0.path().join("kept");
    Reference::read(&reference, 1).unwrap().write(&kept).unwrap();
    let of_rows = compare(&reference, &current, Bounds::default(), 1).unwrap();
    let of_kept = compare(&kept, &current, Bounds::default(), 1).unwrap();
    assert_eq!(of_rows.columns[0].verdict, ColumnVerdict::Drift);
    for (rows, kept) in of_rows.columns.iter().zip(&of_kept.columns) {
        assert_eq!((rows.verdict, &rows.causes, rows.effect), (kept.verdict, &kept.causes, kept.effect));
    }
}

#[test]
fn what_is_no_reference_is_refused() {
    let files = Files::new();
    let current = files.write("c", vec![("x", numbers(1, 50, |x, _| x))]);
    let odd = files.0.path().join("odd");
    std::fs::write(&odd, "{\"format\":7,\"rows\":0,\"columns\":[]}").unwrap();
    let refusal = compare(&odd, &current, Bounds::default(), 1).unwrap_err().to_string();
    assert!(refusal.contains("its format is 7"), "{refusal}");
}

#[test]
fn ten_thousand_columns_are_a_report_of_ten_thousand_columns() {
    let files = Files::new();
    let names: Vec<String> = (0..10_000).map(|column| format!("x{column}")).collect();
    let rows = |last: f64| {
        let column = |name| (name, Values::Number((0..40).map(f64::from).chain([last]).collect()));
        names.iter().map(|name| column(name.as_str())).collect::<Vec<_>>()
    };
    let report =
        compare(&files.write("r", rows(40.0)), &files.write("c", rows(40.0)), Bounds::default(), 2).unwrap();
    assert_eq!((report.columns.len(), report.verdict), (10_000, ColumnVerdict::Ok));
}

#[test]
fn columns_that_only_go_together_otherwise_are_seen_when_they_are_looked_at_together() {
    let files = Files::new();
    let pair = |seed: u64, along: f64| {
        let (x, noise) = (numbers(seed, 4_000, |x, _| x), numbers(seed + 1, 4_000, |x, _| x));
        let (Values::Number(x), Values::Number(noise)) = (x, noise) else { unreachable!("they are numbers") };
        let across = (1.0 - along * along).sqrt();
        let y = x.iter().zip(&noise).map(|(x, noise)| along * x + across * noise).collect();
        vec![("x", Values::Number(x)), ("y", Values::Number(y))]
    };
    let reference = files.write("reference", pair(1, 0.8));
    let found = |current: PathBuf| {
        let mut report = compare(&reference, &current, Bounds::default(), 1).unwrap();
        assert!(report.columns.iter().all(|column| column.verdict == ColumnVerdict::Ok), "no column moved");
        assert!(report.together.is_none(), "nobody asked");
        report.look_together(&reference, &current).unwrap();
        (report.verdict, report.together.unwrap())
    };
    let (verdict, same) = found(files.write("same", pair(11, 0.8)));
    assert_eq!((verdict, same.verdict, same.columns), (ColumnVerdict::Ok, ColumnVerdict::Ok, 2));
    let (verdict, turned) = found(files.write("turned", pair(21, -0.8)));
    assert_eq!((verdict, turned.verdict), (ColumnVerdict::Drift, ColumnVerdict::Drift));
    assert!(turned.auc_low > 0.7, "{turned:?}");
    assert!(turned.reconstruction_error_current > 1.5 * turned.reconstruction_error_reference, "{turned:?}");

    let few = files.write("few", vec![("x", numbers(1, 5, |x, _| x)), ("y", numbers(2, 5, |x, _| x))]);
    let mut report = compare(&reference, &few, Bounds::default(), 1).unwrap();
    report.look_together(&reference, &few).unwrap();
    assert!(report.together.is_none());
}
