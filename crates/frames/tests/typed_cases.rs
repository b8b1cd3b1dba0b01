//! Point-in-time cases 51 to 85 that need real columns, through plain files. Each test names its case.
//!
//! Not here, because they need a server: 52, 54 as answers with status 422, 59, 61, 65, 66 and 67 in JSON, 70 to 72 (view
//! versions), 74 to 78 (erase, ingest).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, DictionaryArray, FixedSizeListArray,
    Float32Array, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int8Type, Int64Type, TimestampMicrosecondType};
use arrow::ipc::writer::FileWriter;
use frames::plain_join::{Knowledge, Options, Report, View, join, join_in_pieces};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

/// A folder with labels `l.parquet` and features `f.parquet`.
struct Files(tempfile::TempDir);

type Columns<'a> = Vec<(&'a str, ArrayRef)>;

fn write(path: &Path, columns: Columns<'_>) {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn read(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

impl Files {
    fn of(labels: Columns<'_>, features: Columns<'_>) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        write(&files.path("l.parquet"), labels);
        write(&files.path("f.parquet"), features);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn options(&self, views: &[&str]) -> Result<Options, frames::Error> {
        let folder = self.0.path().display();
        let view = |settings: &&str| settings.replace("DIR", &folder.to_string()).parse::<View>();
        let views = views.iter().map(view).collect::<Result<_, _>>()?;
        Ok(Options { cutoff: "t".into(), knowledge: Knowledge::Cutoff, zone: None, views })
    }

    fn join(&self, views: &[&str]) -> Result<(RecordBatch, Report), frames::Error> {
        let out = self.path("o.parquet");
        let report = join(&self.path("l.parquet").to_string_lossy(), &self.options(views)?, &out)?;
        Ok((read(&out), report))
    }

    /// One view of `f.parquet`, by `id`, at `ts`.
    fn joined(&self) -> RecordBatch {
        self.join(&[W]).unwrap().0
    }
}

const W: &str = "name=w,path=DIR/f.parquet,keys=id,event_time=ts";
const DAY: i64 = 86_400_000_000;

fn ids(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn utc(values: &[i64]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values.to_vec()).with_timezone("UTC"))
}

fn numbers(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

fn labels(count: i64) -> Columns<'static> {
    vec![("id", ids(&(0..count).collect::<Vec<_>>())), ("t", utc(&vec![DAY; count as usize]))]
}

/// Features of ids 0, 1, … in one column `x`, all of moment 0.
fn features(x: ArrayRef) -> Columns<'static> {
    let count = x.len() as i64;
    vec![("id", ids(&(0..count).collect::<Vec<_>>())), ("ts", utc(&vec![0; count as usize])), ("x", x)]
}

fn through(x: ArrayRef) -> ArrayRef {
    let files = Files::of(labels(x.len() as i64), features(x));
    files.joined().column_by_name("w__x").unwrap().clone()
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Vec<Option<&'a str>> {
    batch.column_by_name(name).unwrap().as_string::<i32>().iter().collect()
}

fn statuses(batch: &RecordBatch) -> Vec<Option<&str>> {
    texts(batch, "w__status")
}

#[test]
fn case_51_zones_are_compared_as_instants() {
    let noon = 12 * 3_600_000_000;
    let new_york: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from(vec![noon]).with_timezone("America/New_York"));
    let files = Files::of(
        vec![("id", ids(&[0])), ("t", new_york)],
        vec![("id", ids(&[0, 0])), ("ts", utc(&[noon, noon + 1])), ("x", numbers(&[1.0, 2.0]))],
    );
    assert_eq!(files.joined().column_by_name("w__x").unwrap().as_primitive::<Float64Type>().values(), &[1.0]);
}

#[test]
fn case_52_times_without_a_zone_are_refused_until_their_zone_is_declared() {
    let naive: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0]));
    let files = Files::of(
        vec![("id", ids(&[0])), ("t", utc(&[5 * 3_600_000_000]))],
        vec![("id", ids(&[0])), ("ts", naive), ("x", numbers(&[1.0]))],
    );
    let said = files.join(&[W]).unwrap_err().to_string();
    assert!(said.contains("`ts` holds times without a zone"), "{said}");
    let declared = files.join(&[&format!("{W},zone=America/New_York")]).unwrap().0;
    assert_eq!(statuses(&declared), [Some("PRESENT")]);
    let later = files.join(&[&format!("{W},zone=America/Chicago")]).unwrap().0;
    assert_eq!(statuses(&later), [Some("NOT_FOUND")]);
    let said = files.join(&[&format!("{W},zone=Mars/Olympus")]).unwrap_err().to_string();
    assert!(said.contains("no time zone `Mars/Olympus`"), "{said}");
}

#[test]
fn case_53_and_54_the_offset_decides_in_the_hour_that_comes_twice_and_the_hour_that_never_comes_is_refused() {
    let files = Files::of(labels(1), features(numbers(&[1.0])));
    std::fs::write(files.path("f.csv"), "id,ts,x\n0,2026-11-01T01:30:00-05:00,2.5\n").unwrap();
    std::fs::write(files.path("l.csv"), "id,t\n0,2026-11-01T01:30:00-04:00\n0,2026-11-01T01:30:00-05:00\n")
        .unwrap();
    let options = files.options(&["name=w,path=DIR/f.csv,keys=id,event_time=ts"]).unwrap();
    let out = files.path("o.parquet");
    join(&files.path("l.csv").to_string_lossy(), &options, &out).unwrap();
    assert_eq!(statuses(&read(&out)), [Some("NOT_FOUND"), Some("PRESENT")]);
    for never_or_twice in ["2026-03-08T02:30:00", "2026-11-01T01:30:00"] {
        std::fs::write(files.path("f.csv"), format!("id,ts,x\n0,{never_or_twice},2.5\n")).unwrap();
        let zoned = "name=w,path=DIR/f.csv,keys=id,event_time=ts,zone=America/New_York";
        let said = files.join(&[zoned]).unwrap_err().to_string();
        assert!(said.contains("`ts`") && said.contains(never_or_twice), "{said}");
    }
}

#[test]
fn case_55_a_nanosecond_after_the_label_is_the_future() {
    let nanoseconds: ArrayRef =
        Arc::new(TimestampNanosecondArray::from(vec![1_000_001]).with_timezone("UTC"));
    let features = vec![("id", ids(&[0])), ("ts", nanoseconds), ("x", numbers(&[1.0]))];
    let files = Files::of(vec![("id", ids(&[0, 0])), ("t", utc(&[1_000, 1_001]))], features);
    assert_eq!(statuses(&files.joined()), [Some("NOT_FOUND"), Some("PRESENT")]);
}

#[test]
fn case_56_a_millisecond_label_does_not_see_the_microseconds_after_it() {
    let milliseconds: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![7, 8]).with_timezone("UTC"));
    let features = vec![("id", ids(&[0])), ("ts", utc(&[7_400])), ("x", numbers(&[1.0]))];
    let files = Files::of(vec![("id", ids(&[0, 0])), ("t", milliseconds)], features);
    assert_eq!(statuses(&files.joined()), [Some("NOT_FOUND"), Some("PRESENT")]);
}

#[test]
fn case_57_microseconds_reach_further_than_nanoseconds_and_what_fits_neither_is_refused() {
    let year_3000 = 32_503_680_000_000_000;
    let files = Files::of(
        vec![("id", ids(&[0])), ("t", utc(&[year_3000]))],
        vec![("id", ids(&[0])), ("ts", utc(&[-year_3000])), ("x", numbers(&[1.0]))],
    );
    assert_eq!(statuses(&files.joined()), [Some("PRESENT")]);
    let beyond: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![i64::MAX]).with_timezone("UTC"));
    let files = Files::of(labels(1), vec![("id", ids(&[0])), ("ts", beyond), ("x", numbers(&[1.0]))]);
    let said = files.join(&[W]).unwrap_err().to_string();
    assert!(said.contains("outside the calendar"), "{said}");
}

#[test]
fn case_58_to_60_nan_infinities_and_minus_zero_are_values_and_kept_to_the_bit() {
    let given = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0];
    let files = Files::of(labels(4), features(numbers(&given)));
    let joined = files.joined();
    let got = joined.column_by_name("w__x").unwrap().as_primitive::<Float64Type>();
    assert_eq!(got.null_count(), 0);
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(got.values()), bits(&given));
    assert_eq!(statuses(&joined), [Some("PRESENT"); 4]);
}

#[test]
fn case_61_and_65_integers_stay_integers_beyond_what_a_float_holds_and_beside_a_null() {
    let given: ArrayRef = Arc::new(Int64Array::from(vec![Some((1 << 53) + 1), None, Some(i64::MAX)]));
    assert_eq!(through(given.clone()).as_primitive::<Int64Type>(), given.as_primitive::<Int64Type>());
}

#[test]
fn case_62_an_unsigned_integer_above_63_bits_is_refused_by_its_value() {
    let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    let files = Files::of(labels(1), features(large.clone()));
    let said = files.join(&[W]).unwrap_err().to_string();
    assert!(said.contains("`x`") && said.contains("18446744073709551615"), "{said}");
    let files = Files::of(labels(1), vec![("id", large), ("ts", utc(&[0])), ("x", numbers(&[1.0]))]);
    let said = files.join(&[W]).unwrap_err().to_string();
    assert!(said.contains("`id`") && said.contains("do not fit"), "{said}");
}

#[test]
fn case_63_a_decimal_is_exact() {
    let given = Decimal128Array::from(vec![Some(12_345_678_901_234_567_890_123_456_789), None])
        .with_precision_and_scale(38, 9)
        .unwrap();
    assert_eq!(through(Arc::new(given.clone())).to_data(), given.to_data());
}

#[test]
fn case_64_a_narrow_float_is_not_widened() {
    let got = through(Arc::new(Float32Array::from(vec![0.1])));
    assert_eq!(got.data_type(), &DataType::Float32);
    assert_eq!(got.as_primitive::<Float32Type>().value(0).to_string(), "0.1");
}

#[test]
fn case_66_an_empty_list_is_not_a_null_and_an_embedding_keeps_its_length() {
    let lists = ListArray::from_iter_primitive::<Float32Type, _, _>(vec![
        Some(vec![Some(1.0), Some(2.0)]),
        Some(vec![]),
        None,
    ]);
    let got = through(Arc::new(lists));
    assert_eq!((got.is_null(1), got.as_list::<i32>().value(1).len(), got.is_null(2)), (false, 0, true));
    let embedding = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
        vec![Some(vec![Some(0.5), Some(-1.0)])],
        2,
    );
    assert_eq!(through(Arc::new(embedding)).as_fixed_size_list().value_length(), 2);
}

#[test]
fn case_67_an_empty_text_is_not_a_null_and_an_embedded_nul_is_kept() {
    let given: ArrayRef = Arc::new(StringArray::from(vec![Some(""), None, Some("a\0b")]));
    assert_eq!(through(given.clone()).as_string::<i32>(), given.as_string::<i32>());
}

#[test]
fn case_68_a_boolean_can_be_null() {
    let given = BooleanArray::from(vec![Some(true), None, Some(false)]);
    assert_eq!(through(Arc::new(given.clone())).as_boolean(), &given);
}

#[test]
fn case_69_a_row_that_lacks_a_column_added_later_is_found_with_a_null_and_never_not_found() {
    let added: ArrayRef = Arc::new(Float64Array::from(vec![None, Some(2.0)]));
    let columns = vec![
        ("id", ids(&[0, 0])),
        ("ts", utc(&[0, 2 * DAY])),
        ("old", numbers(&[1.0, 1.0])),
        ("added", added),
    ];
    let files = Files::of(vec![("id", ids(&[0])), ("t", utc(&[DAY]))], columns);
    let only_added = files.join(&[&format!("{W},features=added")]).unwrap().0;
    assert_eq!(statuses(&only_added), [Some("NULL")]);
    let both = files.join(&[&format!("{W},features=added+old")]).unwrap().0;
    assert_eq!(statuses(&both), [Some("PRESENT")]);
    assert!(both.column_by_name("w__added").unwrap().is_null(0));
}

#[test]
fn case_73_a_dictionary_is_the_texts_it_stands_for_as_key_and_as_feature() {
    let dictionary = |values: &[&str]| -> ArrayRef {
        Arc::new(values.iter().copied().collect::<DictionaryArray<Int8Type>>())
    };
    let plain = |values: &[&str]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let labels = || vec![("id", plain(&["b", "a"])), ("t", utc(&[DAY, DAY]))];
    let of = |encode: &dyn Fn(&[&str]) -> ArrayRef| {
        let rows = vec![("id", encode(&["a", "b"])), ("ts", utc(&[0, 0])), ("x", encode(&["one", "two"]))];
        let joined = Files::of(labels(), rows).joined();
        texts(&joined, "w__x").into_iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(of(&dictionary), of(&plain));
    assert_eq!(of(&plain), [Some("two".to_owned()), Some("one".to_owned())]);
}

#[test]
fn case_77_of_two_rows_with_one_key_and_one_moment_the_later_in_the_file_wins() {
    let rows = vec![("id", ids(&[0, 0])), ("ts", utc(&[0, 0])), ("x", numbers(&[1.0, 2.0]))];
    let joined = Files::of(labels(1), rows).joined();
    assert_eq!(joined.column_by_name("w__x").unwrap().as_primitive::<Float64Type>().values(), &[2.0]);
}

#[test]
fn case_77_a_column_of_acceptance_overrules_the_order_in_the_file() {
    let rows =
        vec![("id", ids(&[0, 0])), ("ts", utc(&[0, 0])), ("n", ids(&[9, 3])), ("x", numbers(&[1.0, 2.0]))];
    let joined = Files::of(labels(1), rows).join(&[&format!("{W},seq=n")]).unwrap().0;
    assert_eq!(joined.column_by_name("w__x").unwrap().as_primitive::<Float64Type>().values(), &[1.0]);
    assert!(joined.column_by_name("w__n").is_none(), "the order of acceptance is no feature");
}

#[test]
fn case_79_labels_after_all_data_are_answered_and_counted() {
    let files = Files::of(labels(2), features(numbers(&[1.0, 2.0])));
    let (joined, report) = files.join(&[W]).unwrap();
    assert_eq!(report.views[0].labels_after_watermark, 2);
    assert_eq!(statuses(&joined), [Some("PRESENT"); 2]);
}

#[test]
fn case_80_two_views_with_one_feature_name_keep_both_and_two_views_of_one_name_are_refused() {
    let files = Files::of(labels(1), features(numbers(&[1.0])));
    let (joined, _) = files.join(&[W, &W.replace("name=w", "name=v")]).unwrap();
    assert!(joined.column_by_name("w__x").is_some() && joined.column_by_name("v__x").is_some());
    let said = files.join(&[W, W]).unwrap_err().to_string();
    assert!(said.contains("two columns `w__x`"), "{said}");
}

#[test]
fn case_81_one_file_is_joined_twice_under_two_keys() {
    let plain = |values: &[&str]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let files = Files::of(
        vec![("from", plain(&["JFK", "LAX"])), ("to", plain(&["LAX", "SFO"])), ("t", utc(&[DAY, DAY]))],
        vec![("airport", plain(&["JFK", "LAX"])), ("ts", utc(&[0, 0])), ("x", numbers(&[1.0, 2.0]))],
    );
    let view = |name: &str| format!("name={name},path=DIR/f.parquet,keys={name}:airport,event_time=ts");
    let (joined, _) = files.join(&[&view("from"), &view("to")]).unwrap();
    let column = |name: &str| joined.column_by_name(name).unwrap().as_primitive::<Float64Type>().clone();
    assert_eq!(column("from__x"), Float64Array::from(vec![1.0, 2.0]));
    assert_eq!(column("to__x"), Float64Array::from(vec![Some(2.0), None]));
}

#[test]
fn case_82_a_label_column_named_like_a_feature_is_never_overwritten() {
    let mut with_x = labels(1);
    with_x.push(("w__x", numbers(&[7.0])));
    let files = Files::of(with_x, features(numbers(&[1.0])));
    let said = files.join(&[W]).unwrap_err().to_string();
    assert!(said.contains("two columns `w__x`"), "{said}");
    assert!(!files.path("o.parquet").exists());
    let mut with_x = labels(1);
    with_x.push(("x", numbers(&[7.0])));
    let joined = Files::of(with_x, features(numbers(&[1.0]))).joined();
    let column = |name: &str| joined.column_by_name(name).unwrap().as_primitive::<Float64Type>().value(0);
    assert_eq!((column("x"), column("w__x")), (7.0, 1.0));
}

#[test]
fn case_83_without_a_view_or_a_feature_the_labels_come_back() {
    let files = Files::of(labels(3), features(numbers(&[1.0])));
    let (joined, report) = files.join(&[]).unwrap();
    assert_eq!(joined, read(&files.path("l.parquet")));
    assert_eq!((report.rows_in, report.rows_out), (3, 3));
    let (joined, _) = files.join(&[&format!("{W},features=")]).unwrap();
    assert_eq!(joined.num_columns(), 3);
    assert_eq!(statuses(&joined), [Some("PRESENT"), Some("NOT_FOUND"), Some("NOT_FOUND")]);
}

#[test]
fn a_feature_that_is_not_there_is_refused_with_what_there_is() {
    let files = Files::of(labels(1), features(numbers(&[1.0])));
    let said = files.join(&[&format!("{W},features=y")]).unwrap_err().to_string();
    assert!(said.contains("f.parquet`: there is no column `y`; there are: id, ts, x"), "{said}");
}

#[test]
fn csv_arrow_and_several_parquet_files_join_as_one_parquet_file_does() {
    let files = Files::of(labels(4), features(numbers(&[1.0, 2.0, 3.0])));
    let expected = files.joined();
    let whole = read(&files.path("f.parquet"));
    let mut writer =
        FileWriter::try_new(File::create(files.path("f.arrow")).unwrap(), &whole.schema()).unwrap();
    writer.write(&whole).unwrap();
    writer.finish().unwrap();
    let csv = "id,ts,x\n0,1970-01-01T00:00:00Z,1.0\n1,1970-01-01T00:00:00Z,2.0\n2,1970-01-01T00:00:00Z,3.0\n";
    std::fs::write(files.path("f.csv"), csv).unwrap();
    for (name, rows) in [("g1.parquet", 0..1), ("g2.parquet", 1..3)] {
        let part = whole.slice(rows.start, rows.len());
        let columns = whole.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        write(
            &files.path(name),
            columns.iter().map(String::as_str).zip(part.columns().iter().cloned()).collect(),
        );
    }
    for other in ["f.arrow", "f.csv", "g*.parquet"] {
        let (joined, _) = files.join(&[&W.replace("f.parquet", other)]).unwrap();
        assert_eq!(joined.columns(), expected.columns(), "{other}");
    }
    let said = files.join(&[&W.replace("f.parquet", "none*.parquet")]).unwrap_err().to_string();
    assert!(said.contains("no file matches"), "{said}");
}

#[test]
fn files_of_two_schemas_are_not_one_table() {
    let files = Files::of(labels(1), features(numbers(&[1.0])));
    write(&files.path("f2.parquet"), features(ids(&[1])));
    let said = files.join(&[&W.replace("f.parquet", "f*.parquet")]).unwrap_err().to_string();
    assert!(said.contains("f2.parquet") && said.contains("`x` holds Int64 values"), "{said}");
}

#[test]
fn an_output_is_arrow_or_csv_if_its_name_says_so() {
    let files = Files::of(labels(2), features(numbers(&[1.5])));
    let labels = files.path("l.parquet");
    let options = files.options(&[W]).unwrap();
    join(&labels.to_string_lossy(), &options, &files.path("o.csv")).unwrap();
    let csv = std::fs::read_to_string(files.path("o.csv")).unwrap();
    assert_eq!(csv.lines().next(), Some("id,t,w__x,w__status"));
    assert!(csv.contains("1.5,PRESENT") && csv.contains(",NOT_FOUND"), "{csv}");
    join(&labels.to_string_lossy(), &options, &files.path("o.arrow")).unwrap();
    let reader =
        arrow::ipc::reader::FileReader::try_new(File::open(files.path("o.arrow")).unwrap(), None).unwrap();
    let rows: usize = reader.map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 2);
}

#[test]
fn more_labels_than_are_held_at_once_are_joined_piece_by_piece_to_the_same_rows() {
    let count = 40_000; // more than two batches
    let cutoffs: Vec<i64> = (0..count).map(|label| (label * 7919) % 1000).collect();
    let keys: Vec<i64> = (0..count).map(|label| label % 37).collect();
    let events: Vec<i64> = (0..5_000).map(|row| (row * 31) % 1000).collect();
    let owners: Vec<i64> = (0..5_000).map(|row| row % 41).collect();
    let values: Vec<f64> = (0..5_000).map(f64::from).collect();
    let files = Files::of(
        vec![("id", ids(&keys)), ("t", utc(&cutoffs))],
        vec![("id", ids(&owners)), ("ts", utc(&events)), ("x", numbers(&values))],
    );
    let whole = files.joined();
    let out = files.path("pieces.parquet");
    let options = files.options(&[W]).unwrap();
    let report = join_in_pieces(&files.path("l.parquet").to_string_lossy(), &options, &out, 1).unwrap();
    assert_eq!(report.rows_out, count as usize);
    assert_eq!(read(&out).columns(), whole.columns());
}

#[derive(Clone, Debug)]
struct Row {
    key: (Option<i64>, Option<&'static str>),
    event: i64,
    known: Option<i64>,
    deleted: bool,
    value: Option<i32>,
}

fn key() -> impl Strategy<Value = (Option<i64>, Option<&'static str>)> {
    let number = prop::option::weighted(0.9, prop::sample::select(vec![i64::MIN, 0, 1]));
    let text = prop::option::weighted(0.9, prop::sample::select(vec!["", "a", "A"]));
    (number, text)
}

fn row() -> impl Strategy<Value = Row> {
    (
        key(),
        0i64..12,
        prop::option::weighted(0.9, 0i64..15),
        prop::bool::weighted(0.15),
        prop::option::of(0..100),
    )
        .prop_map(|(key, event, known, deleted, value)| Row { key, event, known, deleted, value })
}

/// What the definition says, read row by row.
fn by_definition(
    rows: &[Row],
    (key, cutoff): ((Option<i64>, Option<&str>), i64),
    as_of: Option<i64>,
    exclusive: bool,
    max_age: Option<i64>,
) -> (&'static str, Option<i32>) {
    let seen = rows.iter().enumerate().filter(|(_, row)| {
        key.0.is_some()
            && key.1.is_some()
            && row.key == key
            && (row.event < cutoff || (row.event == cutoff && !exclusive))
            && as_of.is_none_or(|as_of| row.known.is_some_and(|known| known <= as_of))
    });
    match seen.max_by_key(|(place, row)| (row.event, row.known, *place)) {
        None => ("NOT_FOUND", None),
        Some((_, row)) if row.deleted => ("DELETED", None),
        Some((_, row)) if max_age.is_some_and(|oldest| cutoff - row.event > oldest) => ("EXPIRED", None),
        Some((_, Row { value: None, .. })) => ("NULL", None),
        Some((_, row)) => ("PRESENT", row.value),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn a_join_of_files_is_what_the_definition_says(
        rows in prop::collection::vec(row(), 0..40),
        asked in prop::collection::vec((key(), 0i64..15, 0i64..18), 0..25),
        mode in 0usize..3,
        exclusive: bool,
        max_age in prop::option::of(1i64..8),
    ) {
        let parts = |keys: Vec<(Option<i64>, Option<&str>)>| -> (ArrayRef, ArrayRef) {
            let (numbers, texts): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
            (Arc::new(Int64Array::from(numbers)), Arc::new(StringArray::from(texts)))
        };
        let (a, b) = parts(asked.iter().map(|label| label.0).collect());
        let cutoffs: Vec<i64> = asked.iter().map(|label| label.1).collect();
        let as_of: Vec<i64> = asked.iter().map(|label| label.2).collect();
        let labels = vec![("a", a), ("b", b), ("t", utc(&cutoffs)), ("seen", utc(&as_of))];
        let (a, b) = parts(rows.iter().map(|row| row.key).collect());
        let known: TimestampMicrosecondArray = rows.iter().map(|row| row.known).collect();
        let events: Vec<i64> = rows.iter().map(|row| row.event).collect();
        let features: Columns<'_> = vec![
            ("a", a),
            ("b", b),
            ("ts", utc(&events)),
            ("known", Arc::new(known.with_timezone("UTC"))),
            ("gone", Arc::new(BooleanArray::from(rows.iter().map(|row| row.deleted).collect::<Vec<_>>()))),
            ("x", Arc::new(Int32Array::from(rows.iter().map(|row| row.value).collect::<Vec<_>>()))),
        ];
        let files = Files::of(labels, features);
        let mut settings = "name=w,path=DIR/f.parquet,keys=a+b,event_time=ts,known_time=known,op=gone".to_owned();
        settings += if exclusive { ",boundary=exclusive" } else { "" };
        let mut options = files.options(&[&settings]).unwrap();
        options.views[0].rule.max_age = max_age;
        options.knowledge = [Knowledge::Cutoff, Knowledge::Off, Knowledge::Column("seen".into())][mode].clone();
        let out = files.path("o.parquet");
        join(&files.path("l.parquet").to_string_lossy(), &options, &out).unwrap();
        let joined = read(&out);
        prop_assert_eq!(joined.num_rows(), asked.len());
        let values = joined.column_by_name("w__x").unwrap().as_primitive::<arrow::datatypes::Int32Type>();
        let cut = joined.column_by_name("t").unwrap().as_primitive::<TimestampMicrosecondType>();
        for (place, label) in asked.iter().enumerate() {
            prop_assert_eq!(cut.value(place), label.1);
            let looks = [Some(label.1), None, Some(label.2)][mode];
            let expected = by_definition(&rows, (label.0, label.1), looks, exclusive, max_age);
            let value = values.is_valid(place).then(|| values.value(place));
            prop_assert_eq!((statuses(&joined)[place].unwrap(), value), expected, "{:?}", label);
        }
    }
}
