//! Parts hold what was written, cut or whole, and say what they are.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::frame::{Frame, NO_INTEGER, Values};
use crate::keys::Keys;
use crate::store::Store;
use crate::view::ViewRows;

fn schema() -> ViewSchema {
    ViewSchema { keys: vec![("k".into(), ValueType::Integer)], values: vec![("x".into(), ValueType::Text)] }
}

/// Rows of `(key, event, known, seq)` whose value tells their place.
fn rows(of: &[(i64, i64, i64, i64)]) -> ViewRows {
    let columns = vec![
        ("k".to_owned(), Values::Integer(of.iter().map(|row| row.0).collect())),
        ("x".to_owned(), Values::text((0..of.len()).map(|place| Some(format!("row {place}"))))),
    ];
    ViewRows {
        frame: Frame::new(of.len(), columns),
        event_time: of.iter().map(|row| row.1).collect(),
        known_time: of.iter().map(|row| row.2).collect(),
        seq: of.iter().map(|row| row.3).collect(),
        op: of.iter().map(|row| row.0 == 3).collect(),
    }
}

/// What rows hold, in the order of the format.
fn told(rows: &ViewRows) -> Vec<String> {
    let sorted = rows.sorted(&schema()).unwrap();
    (0..sorted.rows())
        .map(|row| {
            let text = sorted.frame.column("x").unwrap().text_at(row).unwrap_or("null").to_owned();
            format!(
                "{text} {} {} {} {}",
                sorted.event_time[row], sorted.known_time[row], sorted.seq[row], sorted.op[row]
            )
        })
        .collect()
}

fn folder() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(None, folder.path()).unwrap();
    (folder, store)
}

fn listed(path: &str, bucket: Bucket, written: &WrittenPart) -> Part {
    Part {
        path: path.to_owned(),
        bucket,
        seqs: written.seqs,
        events: written.events,
        min_known: Some(written.known.0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn however_rows_are_cut_into_parts_a_selection_finds_the_same(
        given in prop::collection::vec((0i64..6, 0i64..50, 0i64..60, 1i64..5), 1..40),
        of in prop::sample::select(vec![1u32, 16, 256]),
        events in (0i64..50, 0i64..60),
        max_known in 0i64..70,
        max_seq in 0i64..6,
        asked_of in prop::sample::select(vec![1u32, 16]),
        asked_keys in prop::collection::hash_set(0i64..8, 0..4),
    ) {
        let (_folder, store) = folder();
        let schema = schema();
        let all = rows(&given);
        let mut parts = Vec::new();
        for (bucket, rows) in cut(&schema, &all, of).unwrap() {
            let path = format!("features/p/v/{}.parquet", bucket.number);
            parts.push(listed(&path, bucket, &write(&store, &path, &schema, &rows).unwrap()));
        }
        let encoded: HashSet<Vec<u8>> = {
            let frame = Frame::new(asked_keys.len(), vec![("k".into(), Values::Integer(asked_keys.iter().copied().collect()))]);
            Keys::of(&frame, &["k"]).unwrap().distinct().into_iter().collect()
        };
        let (mut found, mut of_keys) = (Vec::new(), Vec::new());
        for number in 0..asked_of {
            let wanted = Selection { bucket: Bucket { number, of: asked_of }, max_seq, events, max_known };
            found.extend(told(&read(&store, &schema, &parts, &wanted).unwrap()));
            of_keys.extend(told(&read_keys(&store, &schema, &parts, &wanted, &encoded).unwrap()));
        }
        found.sort();
        of_keys.sort();
        let keep = |row: &usize| {
            let (_, event, known, seq) = given[*row];
            seq <= max_seq && known <= max_known && (events.0..=events.1).contains(&event)
        };
        let kept: Vec<u32> = (0..given.len()).filter(keep).map(|row| row as u32).collect();
        let expected = |kept: &[u32]| {
            let mut expected = told(&all.take(kept));
            expected.sort();
            expected
        };
        prop_assert_eq!(found, expected(&kept));
        let kept: Vec<u32> = kept.into_iter().filter(|row| asked_keys.contains(&given[*row as usize].0)).collect();
        prop_assert_eq!(of_keys, expected(&kept));
    }
}

#[test]
fn rows_of_one_ingest_and_one_moment_keep_their_order_through_every_merge() {
    let (_folder, store) = folder();
    let schema = schema();
    let all = rows(&[(1, 5, 5, 1), (1, 5, 5, 1), (1, 5, 5, 1), (2, 0, 0, 1)]);
    let written = write(&store, "a.parquet", &schema, &all).unwrap();
    let first =
        read(&store, &schema, &[listed("a.parquet", Bucket::ALL, &written)], &Selection::up_to(1)).unwrap();
    let written = write(&store, "b.parquet", &schema, &first).unwrap();
    let again =
        read(&store, &schema, &[listed("b.parquet", Bucket::ALL, &written)], &Selection::up_to(1)).unwrap();
    assert_eq!(told(&again)[..3], ["row 0 5 5 1 false", "row 1 5 5 1 false", "row 2 5 5 1 false"]);
}

#[test]
fn a_column_added_later_is_null_in_older_parts_and_a_retyped_one_is_refused() {
    let (_folder, store) = folder();
    let written = write(&store, "a.parquet", &schema(), &rows(&[(1, 5, 5, 1)])).unwrap();
    let part = [listed("a.parquet", Bucket::ALL, &written)];
    let mut wider = schema();
    wider.values.push(("y".into(), ValueType::Number));
    let read_back = read(&store, &wider, &part, &Selection::up_to(1)).unwrap();
    assert!(read_back.frame.column("y").unwrap().is_null(0));
    let mut retyped = schema();
    retyped.values[0].1 = ValueType::Number;
    let said = read(&store, &retyped, &part, &Selection::up_to(1)).unwrap_err().to_string();
    assert!(said.contains("a.parquet") && said.contains("`x`"), "{said}");
}

#[test]
fn a_part_of_an_unknown_format_is_refused_with_what_to_do() {
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::KeyValue;
    let (folder, store) = folder();
    let batch =
        crate::wire::to_batch(&Frame::new(1, vec![("k".into(), Values::Integer(vec![1]))]), false).unwrap();
    let file = std::fs::File::create(folder.path().join("new.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.append_key_value_metadata(KeyValue::new(FORMAT_KEY.to_owned(), "3".to_owned()));
    writer.close().unwrap();
    let part = Part {
        path: "new.parquet".into(),
        bucket: Bucket::ALL,
        seqs: (1, 1),
        events: (0, 0),
        min_known: None,
    };
    let said = read(&store, &schema(), &[part], &Selection::up_to(1)).unwrap_err().to_string();
    assert!(said.contains("format 3") && said.contains("use a newer one"), "{said}");
}

#[test]
fn old_versions_go_but_never_the_newest_one_that_still_counts() {
    let all = rows(&[(1, 10, 10, 1), (1, 20, 20, 1), (2, 5, 5, 1), (2, 90, 90, 1), (4, 1, 1, 1)]);
    let of = |kept: Kept| {
        let rows = drop_old(&schema(), &all, kept).unwrap();
        (0..rows.rows()).map(|row| rows.event_time[row]).collect::<Vec<_>>()
    };
    assert_eq!(of(Kept { since: 50, newest_since: Some(i64::MIN) }), [20, 90, 1]);
    assert_eq!(of(Kept { since: 50, newest_since: Some(15) }), [20, 90]);
    assert_eq!(of(Kept { since: 50, newest_since: None }), [90]);
    assert_eq!(of(Kept { since: NO_INTEGER, newest_since: None }).len(), 5);
}

#[test]
fn a_bucket_of_more_lies_within_one_of_fewer() {
    let (few, many) = (Bucket { number: 3, of: 16 }, Bucket { number: 19, of: 256 });
    assert!(many.within(few) && !few.within(many) && few.meets(many));
    assert!(!Bucket { number: 20, of: 256 }.meets(few));
    assert!(many.within(Bucket::ALL));
}
