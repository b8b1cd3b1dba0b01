//! The golden point-in-time cases, through the kernel and through plain files.
//!
//! A row of a case is `[key…, event_time, known_time, value]`, a label `[key…, cutoff]` or `[key…, cutoff, as_of]`; times are
//! in microseconds and may be negative. A case that cannot be expressed is listed with its reason, and has to fail.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use frames::as_of::{Answer, Rule, Status, latest};
use frames::groups::{Groups, Moments, Question, WHENEVER_LEARNED};
use frames::keys::Keys;
use frames::plain_join::{Knowledge, Options, View, join};
use frames::{Frame, NO_INTEGER, Values};
use serde::Deserialize;
use serde_json::Value;

/// What a frame, which the kernel of training sets reads, cannot hold; [`frames::plain_join`] can.
const NOT_IN_FRAMES: [(&str, &str); 1] =
    [("int64_extremes_keys", "the least integer is how a frame writes null, so it is no key")];

/// What plain files refuse.
const NOT_IN_FILES: [(&str, &str); 1] =
    [("int_vs_string_key_do_not_match", "refused: keys of two types are a mistake, not a miss")];

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
        let folder = tempfile::tempdir().unwrap();
        let [labels, features, out] = ["l", "f", "o"].map(|name| folder.path().join(name));
        let times = |values: Vec<i64>| {
            values
                .into_iter()
                .map(|value| (value != NO_INTEGER).then_some(value))
                .collect::<TimestampMicrosecondArray>()
                .with_timezone("UTC")
        };
        let mut columns = arrow_keys(self, &self.labels);
        columns.push(("cutoff".into(), Arc::new(times(self.cutoffs()))));
        columns.push(("as_of".into(), Arc::new(times(self.as_of()))));
        write(&labels, columns);
        let mut columns = arrow_keys(self, &self.features);
        columns.push(("ts".into(), Arc::new(times(integers(&self.features, self.keys)))));
        columns.push(("created".into(), Arc::new(times(integers(&self.features, self.keys + 1)))));
        let values = self.features.iter().map(|row| row[self.keys + 2].as_f64());
        columns.push(("x".into(), Arc::new(values.collect::<Float64Array>())));
        let op = self.features.iter().map(|row| Some(row[self.keys + 2] == "TOMBSTONE"));
        columns.push(("op".into(), Arc::new(op.collect::<BooleanArray>())));
        write(&features, columns);
        let keys = self.key_names().join("+");
        let features = features.display();
        let settings = format!("name=w,path={features},keys={keys},event_time=ts,known_time=created,op=op");
        let view = View { rule: self.rule(), ..settings.parse().unwrap() };
        let knowledge = if self.opts.as_of { Knowledge::Column("as_of".into()) } else { Knowledge::Off };
        let options = Options { cutoff: "cutoff".into(), knowledge, zone: None, views: vec![view] };
        let report =
            join(&labels.to_string_lossy(), &options, &out).map_err(|refusal| refusal.to_string())?;
        assert_eq!(
            (report.rows_in, report.rows_out),
            (self.labels.len(), self.labels.len()),
            "{}",
            self.name
        );
        Ok(answers(&out))
    }
}

/// Values and statuses of a joined file, as Arrow reads it: a frame would refuse the least integer among the keys.
fn answers(path: &Path) -> Got {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let of_batch = |batch: RecordBatch| -> Got {
        let column = |name: &str, kind| cast(batch.column_by_name(name).unwrap(), &kind).unwrap();
        let (values, statuses) = (column("w__x", DataType::Float64), column("w__status", DataType::Utf8));
        let statuses = statuses.as_string::<i32>().iter().map(|status| status.unwrap().to_owned());
        values.as_primitive::<Float64Type>().iter().zip(statuses).collect()
    };
    reader.flat_map(|batch| of_batch(batch.unwrap())).collect()
}

/// The key columns of features or labels as Arrow holds them, in which the least integer is an integer like any other.
fn arrow_keys(case: &Case, rows: &[Vec<Value>]) -> Vec<(String, ArrayRef)> {
    let column = |place: usize| -> ArrayRef {
        if rows.iter().any(|row| row[place].is_string()) {
            Arc::new(rows.iter().map(|row| row[place].as_str()).collect::<StringArray>())
        } else {
            Arc::new(rows.iter().map(|row| integer(row, place)).collect::<Int64Array>())
        }
    };
    case.key_names().into_iter().enumerate().map(|(place, name)| (name, column(place))).collect()
}

fn write(path: &Path, columns: Vec<(String, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    );
    let batch = batch.unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
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
    only_these_differ(NOT_IN_FRAMES, |case| Ok(case.through_the_kernel()));
}

#[test]
fn a_join_of_plain_files_answers_every_golden_case_that_files_can_express() {
    only_these_differ(NOT_IN_FILES, Case::through_files);
}

#[test]
fn only_the_label_with_the_least_integer_as_its_key_goes_without_an_answer() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == NOT_IN_FRAMES[0].0).unwrap();
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
