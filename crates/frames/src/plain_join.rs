//! The point-in-time join of plain Parquet files, without definitions, a server or a database.
//!
//! The same kernel as everywhere else; a file's row order is its order of acceptance. Rows out = label rows in, in their
//! order. Plain files hold no tombstones, so no answer is `DELETED`.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use domain::Horizon;
use domain::words::did_you_mean;

use crate::Error;
use crate::as_of::{Answer, Rule, Status, latest};
use crate::files::write_parquet;
use crate::frame::{Frame, NO_INTEGER, Values};
use crate::groups::{Groups, Moments, PUT, Question, WHENEVER_LEARNED};
use crate::keys::Keys;
use crate::source_file::{Rounding, scan};

/// From when a label looks at what was known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Knowledge {
    /// From its cutoff.
    #[default]
    Cutoff,
    /// From the end of all days: corrections that came later count.
    Off,
    /// From the time in a column of the labels.
    Column(String),
}

/// A file with features and how its rows are read.
#[derive(Clone, Debug)]
pub struct View {
    /// What its columns are prefixed with in the output.
    pub name: String,
    /// The Parquet file.
    pub path: PathBuf,
    /// The columns that labels and rows must agree in; with none, every row is about every label.
    pub keys: Vec<String>,
    /// The column that says when a row happened.
    pub event_time: String,
    /// The column that says when a row was learned; without one, when it happened.
    pub known_time: Option<String>,
    /// What of it counts.
    pub rule: Rule,
}

/// What is joined to the labels.
#[derive(Clone, Debug)]
pub struct Options {
    /// The label column after which nothing may be seen.
    pub cutoff: String,
    /// From when labels look at what was known.
    pub knowledge: Knowledge,
    /// The files with features.
    pub views: Vec<View>,
}

/// What a join did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The labels read.
    pub rows_in: usize,
    /// The rows written.
    pub rows_out: usize,
    /// How many labels got which status, by view, in the order asked.
    pub statuses: Vec<(String, BTreeMap<Status, usize>)>,
}

/// Joins `options.views` to the labels and writes the label columns, then `view__feature…` and `view__status` of each view.
///
/// # Errors
/// An error that names the file and the column that does not fit; nothing is written then.
pub fn join(labels: &Path, options: &Options, out: &Path) -> Result<Report, Error> {
    let spine = scan(labels, Rounding::Down).map_err(Error::in_file(labels))?;
    let looks = Looks::of(&spine, options).map_err(Error::in_file(labels))?;
    let mut columns = spine.columns().to_vec();
    let mut statuses = Vec::new();
    for view in &options.views {
        let rows = scan(&view.path, Rounding::Up).map_err(Error::in_file(&view.path))?;
        check_keys(labels, &spine, view, &rows)?;
        let answers = answers(&spine, &looks, view, &rows)?;
        statuses.push((view.name.clone(), counts(&answers)));
        columns.extend(joined(view, &rows, &answers));
    }
    refuse_repeated(&columns)?;
    let joined = Frame::new(spine.rows(), columns);
    write_parquet(out, &joined)?;
    Ok(Report { rows_in: spine.rows(), rows_out: joined.rows(), statuses })
}

/// From when each label looks.
struct Looks {
    cutoff: Vec<i64>,
    as_of: Vec<i64>,
}

impl Looks {
    fn of(labels: &Frame, options: &Options) -> Result<Self, Error> {
        let cutoff = moments(labels, &options.cutoff)?;
        let as_of = match &options.knowledge {
            Knowledge::Cutoff => cutoff.clone(),
            Knowledge::Off => vec![WHENEVER_LEARNED; cutoff.len()],
            Knowledge::Column(name) => moments(labels, name)?,
        };
        Ok(Self { cutoff, as_of })
    }
}

/// The times of a column that must know them all.
fn moments(frame: &Frame, name: &str) -> Result<Vec<i64>, Error> {
    let times = frame.times(name)?;
    match times.iter().filter(|time| **time == NO_INTEGER).count() {
        0 => Ok(times.to_vec()),
        nulls => Err(Error::Join(format!(
            "column `{name}` is null in {nulls} of {} rows, and without a time they have no place in the join; leave \
             these rows out",
            times.len()
        ))),
    }
}

fn check_keys(labels: &Path, spine: &Frame, view: &View, rows: &Frame) -> Result<(), Error> {
    for key in &view.keys {
        let asked = spine.column(key).map_err(Error::in_file(labels))?.kind();
        let there = rows.column(key).map_err(Error::in_file(&view.path))?.kind();
        if asked != there {
            return Err(Error::Join(format!(
                "key `{key}` holds {asked}s in `{}` and {there}s in `{}`, so that no row could match; convert one of them",
                labels.display(),
                view.path.display()
            )));
        }
    }
    Ok(())
}

fn answers(spine: &Frame, looks: &Looks, view: &View, rows: &Frame) -> Result<Vec<Answer>, Error> {
    let in_view = || Error::in_file(&view.path);
    let event_time = moments(rows, &view.event_time).map_err(in_view())?;
    let known_time = match &view.known_time {
        Some(name) => rows.times(name).map_err(in_view())?,
        None => &event_time,
    };
    let seq: Vec<i64> = (0..rows.rows() as i64).collect();
    let op = vec![PUT; rows.rows()];
    let keys = Keys::of(rows, &view.keys).map_err(in_view())?;
    let groups = Groups::new(&keys, Moments { event_time: &event_time, known_time, seq: &seq, op: &op });
    let asked = Keys::of(spine, &view.keys)?;
    let questions: Vec<Question<'_>> = (0..spine.rows())
        .map(|row| Question { key: asked.get(row), cutoff: looks.cutoff[row], as_of: looks.as_of[row] })
        .collect();
    Ok(latest(&groups, &questions, view.rule))
}

fn counts(answers: &[Answer]) -> BTreeMap<Status, usize> {
    let mut counts: BTreeMap<Status, usize> = Status::ALL.into_iter().map(|status| (status, 0)).collect();
    for answer in answers {
        *counts.entry(answer.status).or_default() += 1;
    }
    counts
}

/// The view's features and status, one row a label.
fn joined(view: &View, rows: &Frame, answers: &[Answer]) -> Vec<(String, Values)> {
    let places: Vec<u32> = answers.iter().map(|answer| answer.row.unwrap_or(u32::MAX)).collect();
    let is_feature = |name: &String| {
        !view.keys.contains(name) && *name != view.event_time && Some(name) != view.known_time.as_ref()
    };
    let status = Values::text(answers.iter().map(|answer| Some(answer.status.name())));
    rows.columns()
        .iter()
        .filter(|(name, _)| is_feature(name))
        .map(|(name, values)| (format!("{}__{name}", view.name), values.take(&places)))
        .chain([(format!("{}__status", view.name), status)])
        .collect()
}

fn refuse_repeated(columns: &[(String, Values)]) -> Result<(), Error> {
    let mut seen = HashSet::new();
    match columns.iter().find(|(name, _)| !seen.insert(name)) {
        None => Ok(()),
        Some((name, _)) => Err(Error::Join(format!(
            "the output would have two columns `{name}`; give the view another name, or rename the column"
        ))),
    }
}

impl FromStr for Knowledge {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            None if text == "cutoff" => Ok(Self::Cutoff),
            None if text == "off" => Ok(Self::Off),
            Some(("column", name)) if !name.is_empty() => Ok(Self::Column(name.to_owned())),
            _ => {
                let hint = did_you_mean(text, ["cutoff", "off", "column:NAME"]);
                Err(Error::Join(format!("`{text}` does not say from when labels look{hint}")))
            }
        }
    }
}

const SETTINGS: [&str; 7] = ["name", "path", "keys", "event_time", "known_time", "max_age", "boundary"];

impl FromStr for View {
    type Err = Error;

    /// Reads `name=w,path=f.parquet,keys=k1+k2,event_time=ts,known_time=created,max_age=7d,boundary=inclusive`, of which the
    /// last three may be left out.
    fn from_str(text: &str) -> Result<Self, Error> {
        let given = settings(text)?;
        let required = |setting: &str, example: &str| {
            given
                .get(setting)
                .map(|value| (*value).to_owned())
                .ok_or_else(|| Error::Join(format!("`{setting}` is missing in `{text}`; add {example}")))
        };
        Ok(Self {
            name: required("name", "`name=…`, which prefixes its columns")?,
            path: required("path", "`path=….parquet`")?.into(),
            keys: keys(&required("keys", "`keys=a+b`, or `keys=` if every row is about every label")?)?,
            event_time: required("event_time", "`event_time=COLUMN`, which says when a row happened")?,
            known_time: given.get("known_time").map(|name| (*name).to_owned()),
            rule: Rule {
                exclusive: exclusive(given.get("boundary").copied())?,
                max_age: max_age(given.get("max_age").copied())?,
            },
        })
    }
}

fn settings(text: &str) -> Result<BTreeMap<&str, &str>, Error> {
    let mut given = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let Some((setting, value)) = part.split_once('=') else {
            return Err(Error::Join(format!("`{part}` is not a setting; write `setting=value`")));
        };
        if !SETTINGS.contains(&setting) {
            let hint = did_you_mean(setting, SETTINGS);
            return Err(Error::Join(format!("a view has no setting `{setting}`{hint}")));
        }
        if value.is_empty() && setting != "keys" {
            return Err(Error::Join(format!(
                "`{setting}` has no value; write one, or leave `{setting}` out"
            )));
        }
        if given.insert(setting, value).is_some() {
            return Err(Error::Join(format!("`{setting}` is set twice in `{text}`; keep one")));
        }
    }
    Ok(given)
}

fn keys(text: &str) -> Result<Vec<String>, Error> {
    if text.is_empty() {
        return Ok(vec![]);
    }
    let keys: Vec<String> = text.split('+').map(str::to_owned).collect();
    if keys.iter().any(String::is_empty) {
        return Err(Error::Join(format!("`keys={text}` names a column without a name; write `keys=a+b`")));
    }
    Ok(keys)
}

fn exclusive(boundary: Option<&str>) -> Result<bool, Error> {
    match boundary {
        None | Some("inclusive") => Ok(false),
        Some("exclusive") => Ok(true),
        Some(other) => {
            let hint = did_you_mean(other, ["inclusive", "exclusive"]);
            Err(Error::Join(format!("`{other}` is no boundary{hint}")))
        }
    }
}

fn max_age(span: Option<&str>) -> Result<Option<i64>, Error> {
    let parsed = span.map(str::parse::<Horizon>).transpose();
    let parsed = parsed.map_err(|refusal| Error::Join(format!("`max_age` is wrong: {refusal}")))?;
    Ok(parsed.map(Horizon::micros))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampNanosecondArray, UInt64Array};
    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::files::read_parquet;

    const VIEW: &str = "name=w,path=f.parquet,keys=a+b,event_time=ts";

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

    /// Joins one view of `f.parquet` by `id` to `l.parquet` in a folder.
    fn join_in(folder: &Path) -> Result<Frame, Error> {
        let view = View {
            path: folder.join("f.parquet"),
            ..format!("{VIEW},boundary=inclusive").replace("a+b", "id").parse().unwrap()
        };
        let options = Options { cutoff: "cutoff".into(), knowledge: Knowledge::Cutoff, views: vec![view] };
        let out = folder.join("o.parquet");
        join(&folder.join("l.parquet"), &options, &out)?;
        read_parquet(&out)
    }

    #[test]
    fn a_view_is_read_from_its_settings() {
        let view: View = format!("{VIEW},known_time=created,max_age=7d,boundary=exclusive").parse().unwrap();
        assert_eq!((view.name.as_str(), view.keys), ("w", vec!["a".to_owned(), "b".to_owned()]));
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
        assert_eq!(joined.times("cutoff").unwrap(), [2, 3]);
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
    fn an_integer_that_does_not_fit_is_refused_and_not_made_null() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write(&path("l.parquet"), vec![("id", ids(1)), ("cutoff", nanoseconds(Some("UTC"), vec![1]))]);
        let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        let events = nanoseconds(Some("UTC"), vec![1]);
        write(&path("f.parquet"), vec![("id", ids(1)), ("ts", events), ("x", large)]);
        let said = join_in(folder.path()).unwrap_err().to_string();
        assert!(said.contains("f.parquet"), "{said}");
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
}
