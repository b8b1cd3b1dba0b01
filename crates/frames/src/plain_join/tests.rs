//! The settings of a view, and what plain files are refused for.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampNanosecondArray};
use parquet::arrow::ArrowWriter;

use super::*;
use crate::Frame;
use crate::files::read_parquet;
use crate::frame::Values;

const VIEW: &str = "name=w,path=f.parquet,keys=a+b,event_time=ts";

fn same(name: &str) -> KeyPair {
    KeyPair { label: name.to_owned(), view: name.to_owned() }
}

fn refusal(view: &str) -> String {
    view.parse::<View>().unwrap_err().to_string()
}

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn nanoseconds(zone: Option<&str>, times: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from(times).with_timezone_opt(zone))
}

fn ids(count: i64) -> ArrayRef {
    Arc::new((1..=count).collect::<Int64Array>())
}

/// Joins one view of `f.parquet`, read by these settings, to `l.parquet` in a folder.
fn join_view(folder: &Path, settings: &str) -> Result<(Frame, Report), Error> {
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let view: View = format!("name=w,path={},{settings}", path("f.parquet")).parse()?;
    let options =
        Options { cutoff: "cutoff".into(), knowledge: Knowledge::Cutoff, zone: None, views: vec![view] };
    let out = folder.join("o.parquet");
    let report = join(&path("l.parquet"), &options, &out)?;
    Ok((read_parquet(&out)?, report))
}

/// Joins one view of `f.parquet` by `id` to `l.parquet` in a folder.
fn join_in(folder: &Path) -> Result<Frame, Error> {
    join_view(folder, "keys=id,event_time=ts").map(|(joined, _)| joined)
}

#[test]
fn a_view_is_read_from_its_settings() {
    let view: View = format!("{VIEW},known_time=created,max_age=7d,boundary=exclusive").parse().unwrap();
    assert_eq!((view.name.as_str(), view.keys), ("w", vec![same("a"), same("b")]));
    assert_eq!(view.known_time.as_deref(), Some("created"));
    assert_eq!((view.rule.exclusive, view.rule.max_age), (true, Some(7 * 86_400_000_000)));
    let plain: View = "name=w,path=f.parquet,keys=,event_time=ts".parse().unwrap();
    assert_eq!((plain.keys.len(), plain.known_time, plain.rule.max_age), (0, None, None));
}

#[test]
fn a_misspelt_view_is_refused_with_what_was_meant() {
    for (view, expected) in [
        (format!("{VIEW},bondary=inclusive"), "did you mean `boundary`?"),
        (format!("{VIEW},boundary=inclusiv"), "did you mean `inclusive`?"),
        (format!("{VIEW},max_age=7"), "such as `90s`"),
        (format!("{VIEW},name=v"), "`name` is set twice"),
        (format!("{VIEW},known_time="), "`known_time` has no value"),
        (format!("{VIEW},exclusive"), "`exclusive` is not a setting; write `setting=value`"),
        ("name=w,path=f.parquet,event_time=ts".into(), "`keys=` if every row is about every label"),
        ("name=w,path=f.parquet,keys=a+,event_time=ts".into(), "without a name"),
    ] {
        let said = refusal(&view);
        assert!(said.contains(expected), "{view}: {said}");
    }
}

#[test]
fn when_labels_look_is_one_of_three() {
    assert_eq!("column:seen".parse::<Knowledge>().unwrap(), Knowledge::Column("seen".into()));
    assert_eq!("off".parse::<Knowledge>().unwrap(), Knowledge::Off);
    let said = "cutof".parse::<Knowledge>().unwrap_err().to_string();
    assert!(said.contains("did you mean `cutoff`?"), "{said}");
}

#[test]
fn nanoseconds_never_let_a_label_see_the_future() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let cutoffs = nanoseconds(Some("UTC"), vec![2_999, 3_000]);
    write(&path("l.parquet"), vec![("id", ids(2)), ("cutoff", cutoffs)]);
    let events = nanoseconds(Some("UTC"), vec![2_001, 2_001]);
    write(&path("f.parquet"), vec![("id", ids(2)), ("ts", events), ("x", ids(2))]);
    let joined = join_in(folder.path()).unwrap();
    assert_eq!(joined.column("w__x").unwrap(), &Values::Integer(vec![NO_INTEGER, 2]));
    let statuses: Vec<_> = (0..2).map(|row| joined.find("w__status").unwrap().text_at(row)).collect();
    assert_eq!(statuses, [Some("NOT_FOUND"), Some("PRESENT")]);
}

#[test]
fn times_without_a_zone_are_refused_with_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write(&path("l.parquet"), vec![("id", ids(1)), ("cutoff", nanoseconds(Some("UTC"), vec![1]))]);
    write(&path("f.parquet"), vec![("id", ids(1)), ("ts", nanoseconds(None, vec![1]))]);
    let said = join_in(folder.path()).unwrap_err().to_string();
    assert!(said.contains("f.parquet`: column `ts` holds times without a zone"), "{said}");
    write(&path("l.parquet"), vec![("id", ids(1)), ("cutoff", nanoseconds(None, vec![1]))]);
    let said = join_in(folder.path()).unwrap_err().to_string();
    assert!(said.contains("l.parquet`: column `cutoff` holds times without a zone"), "{said}");
    assert!(!path("o.parquet").exists());
}

#[test]
fn a_label_without_a_cutoff_is_refused_with_the_number_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let cutoffs: ArrayRef =
        Arc::new(TimestampNanosecondArray::from(vec![None, Some(1)]).with_timezone("UTC"));
    write(&path("l.parquet"), vec![("id", ids(2)), ("cutoff", cutoffs)]);
    write(&path("f.parquet"), vec![("id", ids(1)), ("ts", nanoseconds(Some("UTC"), vec![1]))]);
    let said = join_in(folder.path()).unwrap_err().to_string();
    assert!(said.contains("l.parquet`: column `cutoff` is null in 1 of 2 rows"), "{said}");
}

#[test]
fn a_label_column_named_like_a_feature_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let time = || nanoseconds(Some("UTC"), vec![1]);
    write(&path("l.parquet"), vec![("id", ids(1)), ("cutoff", time()), ("w__x", ids(1))]);
    write(&path("f.parquet"), vec![("id", ids(1)), ("ts", time()), ("x", ids(1))]);
    let said = join_in(folder.path()).unwrap_err().to_string();
    assert!(said.contains("two columns `w__x`"), "{said}");
}
