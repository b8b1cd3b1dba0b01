//! Served rows as profiles: every file is read once, and from then on windows are merges of hours.
//!
//! A file that comes late is merged into the hours that it touches; the run sees that their windows hold more rows than they
//! were judged by. Hours that are old are merged into days, and days that are very old are let go.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use domain::ids::PredictionLogId;
use domain::reading;
use domain::tabular::Column;
use frames::assemble::table;
use frames::files::{read_arrow, verify};
use service_kit::Context;
use statistics::profile::{ColumnProfile, Edges, LevelProfile, MOST_BINS, NumberProfile};
use storage::profiles::{Part, UnprofiledLog, Version};

use crate::Error;

/// Profiles by column name.
pub(crate) type Profiles = BTreeMap<String, ColumnProfile>;

/// Files that are read at a time.
const FILES: i64 = 16;
const HOUR_SECONDS: i32 = 3_600;
const DAY_SECONDS: i32 = 86_400;
/// Hours older than this are merged into days, and days older than that are let go.
const HOURS_KEPT: TimeDelta = TimeDelta::days(60);
const DAYS_KEPT: TimeDelta = TimeDelta::days(800);

/// The profile of a whole reference column; `None` if it holds no value, so that nothing can be compared with it.
pub(crate) fn of_reference(column: &Column) -> Result<Option<ColumnProfile>, Error> {
    Ok(match column {
        Column::Number(numbers) => {
            let known: Vec<f64> = numbers.iter().copied().filter(|number| !number.is_nan()).collect();
            if !known.iter().any(|number| number.is_finite()) {
                return Ok(None);
            }
            let mut profile = NumberProfile::new(Edges::of(&known, MOST_BINS)?);
            profile.observe(numbers);
            Some(ColumnProfile::Numbers(profile))
        }
        Column::Category { codes, levels } => {
            let mut counts = vec![0_u64; levels.len()];
            let known =
                codes.iter().filter_map(|&code| counts.get_mut(code as usize).map(|count| *count += 1));
            let known = known.count() as u64;
            let named = levels.iter().map(String::as_str).zip(counts);
            let profile = LevelProfile::of_reference(named, codes.len() as u64 - known);
            (known > 0).then_some(ColumnProfile::Levels(profile))
        }
    })
}

/// The profile of the rows of `order`, which is by time, over a reference's bins or levels; `None` if they are of the other
/// kind. A column without a value has no kind yet.
pub(crate) fn of_rows(column: &Column, order: &[usize], reference: &ColumnProfile) -> Option<ColumnProfile> {
    match (column, reference) {
        (Column::Number(numbers), ColumnProfile::Numbers(reference)) => {
            let mut profile = NumberProfile::new(reference.edges().clone());
            let values: Vec<f64> = order.iter().map(|&row| numbers[row]).collect();
            profile.observe(&values);
            Some(ColumnProfile::Numbers(profile))
        }
        (Column::Category { .. }, ColumnProfile::Levels(reference)) => {
            let mut profile = LevelProfile::like(reference);
            for &row in order {
                match column.category(row) {
                    Some(level) => profile.observe(level),
                    None => profile.observe_nulls(1),
                }
            }
            Some(ColumnProfile::Levels(profile))
        }
        _ => order.iter().all(|&row| is_missing(column, row)).then(|| nothing(reference, order.len() as u64)),
    }
}

/// The rows that say something about a column: of a history that was read, those that were looked at.
fn looked_at<'a>(name: &str, column: &Column, order: &'a [usize]) -> Cow<'a, [usize]> {
    match reading::is_reading(name) {
        true => order.iter().copied().filter(|&row| !is_missing(column, row)).collect(),
        false => Cow::Borrowed(order),
    }
}

fn is_missing(column: &Column, row: usize) -> bool {
    match column {
        Column::Number(numbers) => numbers[row].is_nan(),
        Column::Category { .. } => column.category(row).is_none(),
    }
}

fn nothing(reference: &ColumnProfile, rows: u64) -> ColumnProfile {
    let mut profile = reference.like();
    match &mut profile {
        ColumnProfile::Numbers(numbers) => numbers.observe_nulls(rows),
        ColumnProfile::Levels(levels) => levels.observe_nulls(rows),
    }
    profile
}

/// What is known of one column over one span.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Served {
    /// Rows.
    pub(crate) rows: u64,
    /// What its values were like; `None` if they were of another type than the reference's.
    pub(crate) profile: Option<ColumnProfile>,
}

/// The served hours (and days) of some columns.
#[derive(Debug, Default)]
pub(crate) struct Hours(BTreeMap<DateTime<Utc>, BTreeMap<String, Served>>);

impl Hours {
    /// Reads parts back, beside the reference whose bins they count.
    pub(crate) fn of(parts: Vec<Part>, references: &Profiles) -> Result<Self, Error> {
        let mut hours = Self::default();
        for part in parts {
            let Some(reference) = references.get(&part.column) else { continue };
            let profile =
                part.profile.map(|bytes| ColumnProfile::from_bytes(&bytes, reference)).transpose()?;
            let rows = part.rows.max(0).cast_unsigned();
            hours.add(part.starts_at, &part.column, Served { rows, profile })?;
        }
        Ok(hours)
    }

    fn add(&mut self, start: DateTime<Utc>, column: &str, later: Served) -> Result<(), Error> {
        let columns = self.0.entry(start).or_default();
        match columns.get_mut(column) {
            Some(own) => own.merge(&later)?,
            None => drop(columns.insert(column.to_owned(), later)),
        }
        Ok(())
    }

    /// The columns over `[from, until)`: a merge, in the order of time.
    pub(crate) fn over(
        &self,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<BTreeMap<String, Served>, Error> {
        let mut merged: BTreeMap<String, Served> = BTreeMap::new();
        for (column, served) in self.0.range(from..until).flat_map(|(_, columns)| columns) {
            match merged.get_mut(column) {
                Some(own) => own.merge(served)?,
                None => drop(merged.insert(column.clone(), served.clone())),
            }
        }
        Ok(merged)
    }

    /// The same, leaving out hours in which a column was of another type.
    pub(crate) fn known_over(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> Result<Profiles, Error> {
        let mut merged = Profiles::new();
        for (column, served) in self.0.range(from..until).flat_map(|(_, columns)| columns) {
            match (merged.get_mut(column), &served.profile) {
                (Some(own), Some(later)) => own.merge(later)?,
                (None, Some(first)) => drop(merged.insert(column.clone(), first.clone())),
                (_, None) => {}
            }
        }
        Ok(merged)
    }

    fn parts(&self, seconds: i32) -> Vec<Part> {
        let all =
            self.0.iter().flat_map(|(start, columns)| columns.iter().map(move |column| (start, column)));
        all.map(|(start, (column, served))| Part {
            starts_at: *start,
            seconds,
            column: column.clone(),
            rows: served.rows.cast_signed(),
            profile: served.profile.as_ref().map(ColumnProfile::to_bytes),
        })
        .collect()
    }
}

impl Served {
    fn merge(&mut self, later: &Self) -> Result<(), Error> {
        self.rows += later.rows;
        match (&mut self.profile, &later.profile) {
            (Some(own), Some(later)) => own.merge(later)?,
            _ => self.profile = None,
        }
        Ok(())
    }
}

/// Brings the files of a version that are not in its profiles into them; answers how many rows that were.
pub(crate) async fn catch_up(context: &Context, of: &Version, references: &Profiles) -> Result<u64, Error> {
    let mut rows = 0;
    loop {
        let mut tx = context.db.begin().await?;
        storage::profiles::lock(&mut tx, of).await?;
        let logs = storage::profiles::unprofiled(&mut tx, of, FILES).await?;
        if logs.is_empty() {
            return Ok(rows);
        }
        let ids: Vec<PredictionLogId> = logs.iter().map(|log| log.id).collect();
        let (data_dir, wanted) = (context.data_dir.clone(), references.clone());
        let read = move || read(&data_dir, &logs, &wanted);
        let (mut hours, new) = tokio::task::spawn_blocking(read).await??;
        if let (Some((first, _)), Some((last, _))) = (hours.0.first_key_value(), hours.0.last_key_value()) {
            let until = *last + TimeDelta::seconds(i64::from(HOUR_SECONDS));
            let known = storage::profiles::parts(&mut tx, of, *first, until).await?;
            let known = known.into_iter().filter(|part| part.seconds == HOUR_SECONDS).collect();
            for (start, columns) in Hours::of(known, references)?.0 {
                for (column, served) in columns {
                    hours.add(start, &column, served)?;
                }
            }
        }
        let now = context.clock.now();
        for parts in hours.parts(HOUR_SECONDS).chunks(2_000) {
            storage::profiles::save(&mut tx, of, parts, now).await?;
        }
        storage::profiles::set_profiled(&mut tx, &ids, now).await?;
        tx.commit().await?;
        rows += new;
    }
}

fn read(data_dir: &Path, logs: &[UnprofiledLog], references: &Profiles) -> Result<(Hours, u64), Error> {
    let (mut hours, mut count) = (Hours::default(), 0);
    for log in logs {
        let path = data_dir.join(&log.path);
        verify(&path, &log.sha256)?;
        let rows = read_arrow(&path)?;
        count += rows.rows() as u64;
        let orders = by_hour(rows.times("cutoff")?);
        let seen = table(&rows)?;
        for (name, column) in seen.columns() {
            let Some(reference) = references.get(name) else { continue };
            for (start, order) in &orders {
                let order = looked_at(name, column, order);
                if !order.is_empty() {
                    let profile = of_rows(column, &order, reference);
                    hours.add(*start, name, Served { rows: order.len() as u64, profile })?;
                }
            }
        }
    }
    Ok((hours, count))
}

/// The rows of each hour in the order of their cutoffs. A cutoff that no calendar knows is in no hour.
fn by_hour(cutoffs: &[i64]) -> BTreeMap<DateTime<Utc>, Vec<usize>> {
    let length = i64::from(HOUR_SECONDS) * 1_000_000;
    let mut hours: BTreeMap<DateTime<Utc>, Vec<usize>> = BTreeMap::new();
    for (row, cutoff) in cutoffs.iter().enumerate() {
        if let Some(start) = DateTime::from_timestamp_micros(cutoff.div_euclid(length) * length) {
            hours.entry(start).or_default().push(row);
        }
    }
    hours.values_mut().for_each(|rows| rows.sort_by_key(|&row| cutoffs[row]));
    hours
}

/// The columns of a version over `[from, until)`, as far as they are profiled.
pub(crate) async fn over(
    context: &Context,
    of: &Version,
    references: &Profiles,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Profiles, Error> {
    let mut conn = context.db.acquire().await?;
    let parts = storage::profiles::parts(&mut conn, of, from, until).await?;
    Hours::of(parts, references)?.known_over(from, until)
}

/// Merges hours that are old into days, and lets days that are very old go.
pub(crate) async fn tidy(context: &Context, of: &Version, references: &Profiles) -> Result<(), Error> {
    let now = context.clock.now();
    let day = |at: DateTime<Utc>| DateTime::from_timestamp(at.timestamp().div_euclid(86_400) * 86_400, 0);
    let (Some(until), Some(gone)) = (day(now - HOURS_KEPT), day(now - DAYS_KEPT)) else { return Ok(()) };
    let mut tx = context.db.begin().await?;
    storage::profiles::lock(&mut tx, of).await?;
    storage::profiles::remove(&mut tx, of, DAY_SECONDS, DateTime::UNIX_EPOCH, gone).await?;
    while let Some(oldest) = storage::profiles::oldest(&mut tx, of, HOUR_SECONDS).await? {
        let Some(start) = day(oldest).filter(|start| *start < until) else { break };
        let end = start + TimeDelta::days(1);
        let parts = storage::profiles::parts(&mut tx, of, start, end).await?;
        let whole = Hours::of(parts, references)?.over(start, end)?;
        let whole = Hours(BTreeMap::from([(start, whole)]));
        storage::profiles::remove(&mut tx, of, HOUR_SECONDS, start, end).await?;
        storage::profiles::save(&mut tx, of, &whole.parts(DAY_SECONDS), now).await?;
    }
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn numbers(values: &[f64]) -> Column {
        Column::Number(values.to_vec())
    }

    #[test]
    fn a_cutoff_belongs_to_the_hour_that_begins_at_or_before_it() {
        let cutoffs = ["2013-11-01T00:59:59.999999Z", "2013-11-01T00:00:00Z", "2013-11-01T01:00:00Z"];
        let micros: Vec<i64> = cutoffs.iter().map(|text| at(text).timestamp_micros()).collect();
        let hours = by_hour(&micros);
        assert_eq!(hours[&at("2013-11-01T00:00:00Z")], [1, 0]);
        assert_eq!(hours[&at("2013-11-01T01:00:00Z")], [2]);
        assert!(by_hour(&[i64::MAX]).is_empty());
    }

    #[test]
    fn hours_come_back_from_their_parts_and_merge_into_windows() {
        let reference = of_reference(&numbers(&[1.0, 2.0, 3.0, 4.0])).unwrap().unwrap();
        let references = Profiles::from([("x".to_owned(), reference.clone())]);
        let mut hours = Hours::default();
        let profile =
            |values: &[f64]| of_rows(&numbers(values), &(0..values.len()).collect::<Vec<_>>(), &reference);
        let (first, second) = (at("2013-11-01T00:00:00Z"), at("2013-11-01T01:00:00Z"));
        hours.add(first, "x", Served { rows: 2, profile: profile(&[1.0, f64::NAN]) }).unwrap();
        hours.add(second, "x", Served { rows: 1, profile: profile(&[4.0]) }).unwrap();
        let back = Hours::of(hours.parts(HOUR_SECONDS), &references).unwrap();
        let whole = back.over(first, at("2013-11-02T00:00:00Z")).unwrap();
        assert_eq!(whole["x"].rows, 3);
        let profile = whole["x"].profile.as_ref().unwrap();
        assert_eq!((profile.values(), profile.missing()), (2, 1));
        assert_eq!(back.over(second, at("2013-11-02T00:00:00Z")).unwrap()["x"].rows, 1);
    }

    #[test]
    fn an_hour_of_another_type_spoils_its_window_and_not_what_is_known_of_the_others() {
        let reference = of_reference(&numbers(&[1.0, 2.0])).unwrap().unwrap();
        let texts = Column::from_text([Some("12")]);
        assert_eq!(of_rows(&texts, &[0], &reference), None);
        let mut hours = Hours::default();
        let (first, second, end) =
            (at("2013-11-01T00:00:00Z"), at("2013-11-01T01:00:00Z"), at("2013-11-01T02:00:00Z"));
        hours
            .add(first, "x", Served { rows: 1, profile: of_rows(&numbers(&[1.0]), &[0], &reference) })
            .unwrap();
        hours.add(second, "x", Served { rows: 1, profile: None }).unwrap();
        assert_eq!(hours.over(first, end).unwrap()["x"], Served { rows: 2, profile: None });
        assert_eq!(hours.known_over(first, end).unwrap()["x"].values(), 1);
    }

    #[test]
    fn rows_without_a_value_have_no_type_and_a_reference_without_one_compares_with_nothing() {
        let reference = of_reference(&Column::from_text([Some("AA"), None])).unwrap().unwrap();
        let empty = of_rows(&numbers(&[f64::NAN, f64::NAN]), &[0, 1], &reference).unwrap();
        assert_eq!((empty.rows(), empty.missing()), (2, 2));
        assert!(of_reference(&numbers(&[f64::NAN])).unwrap().is_none());
        assert!(of_reference(&Column::from_text([None::<&str>])).unwrap().is_none());
    }
}
