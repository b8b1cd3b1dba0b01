//! Months of flights, moment by moment: rows when they became known, questions two hours ahead, labels when flights landed,
//! monitors and schedules as the clock says.

use std::collections::HashMap;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use frames::Frame;
use frames::rows::to_json;
use frames::training_set::row_names;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::data::{Feed, sources};
use super::progress::Steps;
use super::{Span, Stage};
use crate::Failure;

/// Online rows older than this before the replay are needed by no window.
const MEMORY: TimeDelta = TimeDelta::days(61);
/// How long ahead a question is asked, at least.
const AHEAD: TimeDelta = TimeDelta::hours(2);
/// The columns that name a flight.
const KEY: [&str; 4] = ["carrier", "flight", "origin", "sched_dep_ts_text"];

/// One served prediction.
pub(super) struct Served {
    pub(super) day: String,
    pub(super) probability: f64,
    pub(super) version: i32,
    pub(super) late: Option<bool>,
}

/// What happened in the replay.
pub(super) struct Replayed {
    pub(super) served: Vec<Served>,
}

/// What came of a flight.
struct Outcome {
    landed: i64,
    late: bool,
}

/// A prediction that waits for its flight to land.
struct Waiting {
    id: String,
    served: usize,
    landed: i64,
    late: bool,
}

struct Replay<'a> {
    stage: &'a Stage<'a>,
    feeds: Vec<Feed>,
    schedule: Feed,
    planned: Vec<String>,
    by_departure: Vec<u32>,
    asked: usize,
    outcomes: HashMap<String, Outcome>,
    waiting: Vec<Waiting>,
    served: Vec<Served>,
}

pub(super) async fn run(stage: &Stage<'_>, steps: &mut Steps) -> Result<Replayed, Failure> {
    let began = Instant::now();
    let mut replay = Replay::prepare(stage)?;
    let Span { from, until } = stage.span;
    let tick = if stage.options.quick { TimeDelta::hours(3) } else { TimeDelta::minutes(30) };
    replay.load(from).await?;
    let days = (until - from).num_days() as u64;
    steps.doing("replay", days);
    let mut ticks = 0;
    let mut moment = from;
    while moment < until {
        stage.check()?;
        replay.tick(moment, tick).await?;
        ticks += 1;
        moment += tick;
        if moment.time() == chrono::NaiveTime::MIN {
            replay.end_of_day(moment).await?;
            steps.at((moment - from).num_days() as u64);
        }
    }
    let labelled = replay.served.iter().filter(|served| served.late.is_some()).count();
    let measured =
        format!("{} predictions in {ticks} ticks, {labelled} labels as flights landed", replay.served.len());
    let name = format!("replay {} to {}", from.date_naive(), until.date_naive());
    steps.done(&name, &measured, began);
    Ok(Replayed { served: replay.served })
}

impl<'a> Replay<'a> {
    fn prepare(stage: &'a Stage<'a>) -> Result<Self, Failure> {
        let folder = stage.options.example.join("definitions");
        let read = |source: &str| Feed::read(stage.definitions, source, &folder, stage.options.quick);
        let outcomes = read("outcomes")?;
        let names = row_names(&outcomes.rows, &KEY)?;
        let delays = outcomes.rows.numbers("arr_delay")?;
        let outcomes = names
            .into_iter()
            .enumerate()
            .map(|(row, name)| (name, Outcome { landed: outcomes.known[row], late: delays[row] > 15.0 }))
            .collect();
        let schedule = read("schedule")?;
        let planned = row_names(&schedule.rows, &KEY)?;
        let mut by_departure: Vec<u32> = (0..schedule.rows.rows() as u32).collect();
        by_departure.sort_by_key(|&row| (schedule.events[row as usize], row));
        let first = (stage.span.from + AHEAD).timestamp_micros();
        let asked = by_departure.partition_point(|&row| schedule.events[row as usize] < first);
        // Outcomes only make training sets, and the offline store has them all; who asks at a moment sees what was known.
        let feeds = sources(stage.definitions)
            .iter()
            .filter(|source| *source != "outcomes")
            .map(|source| read(source))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            stage,
            feeds,
            schedule,
            planned,
            by_departure,
            asked,
            outcomes,
            waiting: vec![],
            served: vec![],
        })
    }

    /// Fills the online store with what was known when the replay begins.
    async fn load(&mut self, from: DateTime<Utc>) -> Result<(), Failure> {
        let since = (from - MEMORY).timestamp_micros();
        for feed in &mut self.feeds {
            let everything = if feed.source == "planes" { i64::MIN } else { since };
            if let Some(rows) = feed.until(from.timestamp_micros(), everything) {
                self.stage.client.push(&feed.source, &rows, "online", None).await?;
            }
        }
        Ok(())
    }

    async fn tick(&mut self, moment: DateTime<Utc>, tick: TimeDelta) -> Result<(), Failure> {
        self.stage.clock.advance_to(moment);
        for feed in &mut self.feeds {
            if let Some(rows) = feed.until(moment.timestamp_micros(), i64::MIN) {
                self.stage.client.push(&feed.source, &rows, "online", None).await?;
            }
        }
        self.ask((moment + AHEAD + tick).timestamp_micros(), moment).await
    }

    /// Asks about every flight that is planned to leave before `until` and was not asked about yet.
    async fn ask(&mut self, until: i64, moment: DateTime<Utc>) -> Result<(), Failure> {
        let end = self.by_departure.partition_point(|&row| self.schedule.events[row as usize] < until);
        let rows: Vec<u32> = self.by_departure[self.asked..end].to_vec();
        self.asked = end.max(self.asked);
        if rows.is_empty() {
            return Ok(());
        }
        let request = json!({ "model": "late-arrival", "rows": questions(&self.schedule.rows.take(&rows)) });
        let answer = self.stage.client.json(Method::POST, "/v1/predict", Some(&request)).await?;
        let version = answer["version"].as_i64().unwrap_or_default() as i32;
        let predictions = answer["predictions"].as_array().cloned().unwrap_or_default();
        if predictions.len() != rows.len() {
            return Err(Failure(format!(
                "{} rows were asked about and {} answered",
                rows.len(),
                predictions.len()
            )));
        }
        for (row, prediction) in rows.iter().zip(predictions) {
            let probability = prediction["probability"].as_f64().unwrap_or(f64::NAN);
            let day = moment.format("%Y-%m-%d").to_string();
            self.served.push(Served { day, probability, version, late: None });
            if let Some(outcome) = self.outcomes.get(&self.planned[*row as usize]) {
                self.waiting.push(Waiting {
                    id: prediction["prediction_id"].as_str().unwrap_or_default().to_owned(),
                    served: self.served.len() - 1,
                    landed: outcome.landed,
                    late: outcome.late,
                });
            }
        }
        Ok(())
    }

    /// Sends the labels of flights that have landed, lets the schedules fire, and waits for what they started.
    async fn end_of_day(&mut self, moment: DateTime<Utc>) -> Result<(), Failure> {
        self.stage.clock.advance_to(moment);
        self.stage.client.json(Method::POST, "/v1/prediction-log/flush", Some(&json!({}))).await?;
        let (landed, waiting): (Vec<Waiting>, Vec<Waiting>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.landed <= moment.timestamp_micros());
        self.waiting = waiting;
        let labels: Vec<Value> = landed
            .iter()
            .map(|landed| {
                let time = DateTime::from_timestamp_micros(landed.landed);
                json!({ "prediction_id": landed.id, "outcome": landed.late, "label_time": time })
            })
            .collect();
        if !labels.is_empty() {
            let answer = self.stage.client.json(Method::POST, "/v1/labels", Some(&json!(labels))).await?;
            if answer["rejected"].as_array().is_some_and(|rejected| !rejected.is_empty()) {
                return Err(Failure(format!("labels were rejected: {}", answer["rejected"][0])));
            }
        }
        for landed in landed {
            self.served[landed.served].late = Some(landed.late);
        }
        monitor::fire_due(&self.stage.context).await?;
        self.drain().await
    }

    /// Waits until no job is queued or running and no message could be leaving.
    async fn drain(&self) -> Result<(), Failure> {
        let mut pause = tokio::time::interval(std::time::Duration::from_millis(20));
        loop {
            pause.tick().await;
            self.stage.check()?;
            let mut conn = self.stage.context.db.acquire().await.map_err(storage::Error::from)?;
            let counts = storage::jobs::counts(&mut conn).await?;
            let now = self.stage.context.clock.now();
            let project = &self.stage.context.config.project;
            let leaving = storage::notifications::leaving(&mut conn, project, now).await?;
            let idle = counts
                .iter()
                .all(|(_, state, jobs)| *jobs == 0 || !matches!(state.as_str(), "queued" | "running"));
            if idle && leaving == 0 {
                return Ok(());
            }
        }
    }
}

/// The rows of a request: what is known of a planned flight.
fn questions(planned: &Frame) -> Vec<Map<String, Value>> {
    let mut rows = to_json(planned);
    for row in &mut rows {
        row.remove("published_ts");
        if let Some(time) = row.get("sched_dep_ts").cloned() {
            row.insert("event_time".to_owned(), time);
        }
    }
    rows
}
