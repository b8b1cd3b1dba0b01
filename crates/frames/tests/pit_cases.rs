//! The golden point-in-time cases, through the kernel and through plain files.
//!
//! A row of a case is `[key…, event_time, known_time, value]`, a label `[key…, cutoff]` or `[key…, cutoff, as_of]`; times are
//! in microseconds and may be negative. A case that cannot be expressed is listed with its reason, and has to fail.

use std::collections::BTreeMap;

use frames::as_of::{Answer, Rule, Status, latest};
use frames::files::{read_parquet, write_parquet};
use frames::groups::{Groups, Moments, Question, WHENEVER_LEARNED};
use frames::keys::Keys;
use frames::plain_join::{Knowledge, Options, View, join};
use frames::{Frame, NO_INTEGER, Values};
use serde::Deserialize;
use serde_json::Value;

/// What the kernel gets wrong.
const NOT_YET: [(&str, &str); 1] =
    [("int64_extremes_keys", "the least integer is how a frame writes null, so it is no key")];

/// What plain files get wrong or refuse.
const NOT_IN_FILES: [(&str, &str); 5] = [
    ("int64_extremes_keys", "the least integer is how a frame writes null, so it is no key"),
    ("int_vs_string_key_do_not_match", "refused: keys of two types are a mistake, not a miss"),
    ("tombstone_hides_older", "a plain file has no tombstones"),
    ("tombstone_unknown_yet_as_of", "a plain file has no tombstones"),
    ("write_after_tombstone", "a plain file has no tombstones"),
];

#[derive(Deserialize)]
struct Case {
    name: String,
    keys: usize,
    opts: Opts,
    features: Vec<Vec<Value>>,
    labels: Vec<Vec<Value>>,
    want: Vec<(Option<f64>, String)>,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opts {
    ttl_us: i64,
    boundary: String,
    as_of: bool,
}

type Got = Vec<(Option<f64>, String)>;

fn cases() -> Vec<Case> {
    let cases: Vec<Case> = serde_json::from_str(include_str!("golden/pit_cases.json")).unwrap();
    assert_eq!(cases.len(), 50);
    cases
}

/// A cell as an integer; null, or no cell at all, is none.
fn integer(row: &[Value], place: usize) -> Option<i64> {
    row.get(place).filter(|cell| !cell.is_null()).map(|cell| cell.as_i64().expect("an integer"))
}

fn integers(rows: &[Vec<Value>], place: usize) -> Vec<i64> {
    rows.iter().map(|row| integer(row, place).unwrap_or(NO_INTEGER)).collect()
}

impl Case {
    /// The key columns of features or labels: texts if they hold one, else integers.
    fn key_columns(&self, rows: &[Vec<Value>]) -> Vec<(String, Values)> {
        let column = |place: usize| {
            if rows.iter().any(|row| row[place].is_string()) {
                Values::text(rows.iter().map(|row| row[place].as_str()))
            } else {
                Values::Integer(integers(rows, place))
            }
        };
        (0..self.keys).map(|place| (format!("k{place}"), column(place))).collect()
    }

    fn key_names(&self) -> Vec<String> {
        (0..self.keys).map(|place| format!("k{place}")).collect()
    }

    fn has_tombstones(&self) -> bool {
        self.features.iter().any(|row| row[self.keys + 2] == "TOMBSTONE")
    }

    fn rule(&self) -> Rule {
        assert!(["inclusive", "exclusive"].contains(&self.opts.boundary.as_str()));
        let max_age = (self.opts.ttl_us > 0).then_some(self.opts.ttl_us);
        Rule { exclusive: self.opts.boundary == "exclusive", max_age }
    }

    fn values(&self) -> Vec<f64> {
        self.features.iter().map(|row| row[self.keys + 2].as_f64().unwrap_or(f64::NAN)).collect()
    }

    fn cutoffs(&self) -> Vec<i64> {
        integers(&self.labels, self.keys)
    }

    /// From when each label looks, if its case asks for that: from its own moment, or from its cutoff.
    fn as_of(&self) -> Vec<i64> {
        let own = |row: &Vec<Value>| integer(row, self.keys + 1).or(integer(row, self.keys));
        self.labels.iter().map(|row| own(row).expect("a label has a cutoff")).collect()
    }

    fn through_the_kernel(&self) -> Got {
        let (event_time, known_time) =
            (integers(&self.features, self.keys), integers(&self.features, self.keys + 1));
        let seq: Vec<i64> = (0..self.features.len() as i64).collect();
        let op: Vec<bool> = self.features.iter().map(|row| row[self.keys + 2] == "TOMBSTONE").collect();
        let keys_of = |rows: &[Vec<Value>]| {
            Keys::of(&Frame::new(rows.len(), self.key_columns(rows)), &self.key_names()).unwrap()
        };
        let (keys, asked) = (keys_of(&self.features), keys_of(&self.labels));
        let moments = Moments { event_time: &event_time, known_time: &known_time, seq: &seq, op: &op };
        let groups = Groups::new(&keys, moments);
        let (cutoffs, as_of) = (self.cutoffs(), self.as_of());
        let questions: Vec<Question<'_>> = (0..self.labels.len())
            .map(|row| Question {
                key: asked.get(row),
                cutoff: cutoffs[row],
                as_of: if self.opts.as_of { as_of[row] } else { WHENEVER_LEARNED },
            })
            .collect();
        let values = self.values();
        let got = |answer: &Answer| {
            told(answer.status.name(), answer.row.map_or(f64::NAN, |row| values[row as usize]))
        };
        latest(&groups, &questions, self.rule()).iter().map(got).collect()
    }

    fn through_files(&self) -> Result<Got, String> {
        if self.has_tombstones() {
            return Err("a plain file has no tombstones".to_owned());
        }
        let folder = tempfile::tempdir().unwrap();
        let [labels, features, out] = ["l", "f", "o"].map(|name| folder.path().join(name));
        let mut columns = self.key_columns(&self.labels);
        columns.push(("cutoff".into(), Values::Time(self.cutoffs())));
        columns.push(("as_of".into(), Values::Time(self.as_of())));
        write_parquet(&labels, &Frame::new(self.labels.len(), columns)).unwrap();
        let mut columns = self.key_columns(&self.features);
        columns.push(("ts".into(), Values::Time(integers(&self.features, self.keys))));
        columns.push(("created".into(), Values::Time(integers(&self.features, self.keys + 1))));
        columns.push(("x".into(), Values::Number(self.values())));
        write_parquet(&features, &Frame::new(self.features.len(), columns)).unwrap();
        let view = View {
            name: "w".into(),
            path: features,
            keys: self.key_names(),
            event_time: "ts".into(),
            known_time: Some("created".into()),
            rule: self.rule(),
        };
        let knowledge = if self.opts.as_of { Knowledge::Column("as_of".into()) } else { Knowledge::Off };
        let options = Options { cutoff: "cutoff".into(), knowledge, views: vec![view] };
        let report = join(&labels, &options, &out).map_err(|refusal| refusal.to_string())?;
        assert_eq!(
            (report.rows_in, report.rows_out),
            (self.labels.len(), self.labels.len()),
            "{}",
            self.name
        );
        let joined = read_parquet(&out).unwrap();
        let (values, statuses) = (joined.numbers("w__x").unwrap(), joined.column("w__status").unwrap());
        Ok((0..joined.rows()).map(|row| told(statuses.text_at(row).unwrap(), values[row])).collect())
    }
}

/// A case has one value, so it can tell a null from a row.
fn told(status: &str, value: f64) -> (Option<f64>, String) {
    let null = status == Status::Present.name() && value.is_nan();
    ((!value.is_nan()).then_some(value), if null { "NULL" } else { status }.to_owned())
}

/// Fails unless exactly the `known` cases differ from what is wanted.
fn only_these_differ<const N: usize>(known: [(&str, &str); N], run: impl Fn(&Case) -> Result<Got, String>) {
    let differ: BTreeMap<String, String> = cases()
        .iter()
        .filter_map(|case| {
            let got = run(case);
            let said = format!("want {:?}, got {got:?}; {}", case.want, case.why);
            (got.as_ref() != Ok(&case.want)).then(|| (case.name.clone(), said))
        })
        .collect();
    let names: Vec<&str> = differ.keys().map(String::as_str).collect();
    assert_eq!(names, known.map(|(name, _)| name), "{differ:#?}");
}

#[test]
fn the_kernel_answers_every_golden_case() {
    only_these_differ(NOT_YET, |case| Ok(case.through_the_kernel()));
}

#[test]
fn a_join_of_plain_files_answers_every_golden_case_that_files_can_express() {
    only_these_differ(NOT_IN_FILES, Case::through_files);
}

#[test]
fn only_the_label_with_the_least_integer_as_its_key_goes_without_an_answer() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == NOT_YET[0].0).unwrap();
    let got = case.through_the_kernel();
    let differ: Vec<usize> = (0..got.len()).filter(|&row| got[row] != case.want[row]).collect();
    assert_eq!(differ.len(), 1);
    assert_eq!(integer(&case.labels[differ[0]], 0), Some(i64::MIN));
    assert_eq!(got[differ[0]], (None, "NOT_FOUND".to_owned()));
}

#[test]
fn a_join_with_a_key_of_another_type_is_refused_by_name() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == "int_vs_string_key_do_not_match").unwrap();
    let refusal = case.through_files().unwrap_err();
    assert!(refusal.contains("key `k0` holds integers") && refusal.contains("texts"), "{refusal}");
}

#[test]
fn a_join_of_no_labels_still_has_its_columns() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == "empty_labels").unwrap();
    assert_eq!(case.through_files().unwrap(), vec![]);
}
