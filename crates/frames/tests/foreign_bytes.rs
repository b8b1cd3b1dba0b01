//! Readers of files from outside meet altered bytes: each is read or refused, in bounded memory, and never ends the process.

use std::sync::Arc;
use std::sync::OnceLock;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use frames::plain_join::{Knowledge, Options, View, join};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;

fn batch() -> RecordBatch {
    let times = TimestampMicrosecondArray::from((0..200).collect::<Vec<i64>>()).with_timezone("UTC");
    let texts = (0..200).map(|row| (row % 7 != 0).then(|| format!("text {}", row % 5)));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new((0..200).map(|row| row % 9).collect::<Int64Array>())),
        ("t", Arc::new(times)),
        (
            "x",
            Arc::new((0..200).map(|row| (row % 3 > 0).then_some(f64::from(row))).collect::<Float64Array>()),
        ),
        ("s", Arc::new(texts.collect::<StringArray>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn parquet(compression: Compression) -> Vec<u8> {
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(64))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch().schema(), Some(properties)).unwrap();
    writer.write(&batch()).unwrap();
    writer.close().unwrap();
    bytes
}

fn arrow(compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let mut bytes = Vec::new();
    let mut writer = FileWriter::try_new_with_options(&mut bytes, &batch().schema(), options).unwrap();
    writer.write(&batch()).unwrap();
    writer.write(&batch()).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

fn csv() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = arrow::csv::Writer::new(&mut bytes);
    writer.write(&batch()).unwrap();
    drop(writer);
    bytes
}

/// Whole files, by the ending of their names.
fn files() -> &'static [(&'static str, Vec<u8>)] {
    static FILES: OnceLock<Vec<(&str, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        vec![
            ("parquet", parquet(Compression::SNAPPY)),
            ("parquet", parquet(Compression::UNCOMPRESSED)),
            ("arrow", arrow(None)),
            ("arrow", arrow(Some(CompressionType::LZ4_FRAME))),
            ("csv", csv()),
        ]
    })
}

/// Joins bytes to themselves, as labels and as features; a refusal is as good as an answer.
fn joined(bytes: &[u8], ending: &str) -> Result<usize, frames::Error> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(format!("f.{ending}"));
    std::fs::write(&file, bytes).unwrap();
    let view: View = format!("name=w,path={},keys=id,event_time=t", file.display()).parse()?;
    let options = Options { cutoff: "t".into(), knowledge: Knowledge::Cutoff, zone: None, views: vec![view] };
    Ok(join(&file.to_string_lossy(), &options, &folder.path().join("o.parquet"))?.rows_out)
}

/// The most memory that this process ever used, in kilobytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn whole_files_are_joined() {
    for (ending, bytes) in files() {
        assert!(joined(bytes, ending).unwrap() >= 200, "{ending}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn altered_files_are_read_or_refused_in_bounded_memory(
        which in 0usize..5,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        at_the_end in any::<bool>(),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let (ending, bytes) = &files()[which];
        let mut bytes = bytes.clone();
        let footer = bytes.len().saturating_sub(600); // where sizes and places are written
        for (at, byte) in changes {
            let at = if at_the_end { footer + at.index(bytes.len() - footer) } else { at.index(bytes.len()) };
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = joined(&bytes, ending);
        prop_assert!(peak() < 1 << 20, "{} kB", peak());
    }
}
