//! The objects, as they are written in TOML and stored as JSON. Unknown keys are refused everywhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ValueType;
use super::channel::Channel;
use super::model::Model;
use super::schedule::Schedule;
use crate::gate::Gate;
use crate::time::{Cutoff, Horizon};

/// A thing that features describe, and how it is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entity {
    /// Its name.
    pub name: String,
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The columns that name one, in order.
    pub keys: Vec<String>,
}

/// A question to a Postgres that is not ours. It runs in a transaction that cannot write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Which database: the name of a setting under `connections`, which holds its address and password.
    pub connection: String,
    /// One statement whose result has the source's columns; times have zones.
    pub sql: String,
}

/// Where rows come from: a schema that rows are pushed under, and optionally the files or the query that give them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The columns of a row and their types.
    pub columns: BTreeMap<String, ValueType>,
    /// The column that says when it happened.
    pub event_time: String,
    /// The column that says when we learned it.
    pub known_time: String,
    /// Files that hold rows: Parquet, Arrow IPC or CSV, relative to the definitions' folder, or at `s3://bucket/key`. A `*`
    /// names several.
    pub path: Option<String>,
    /// A query that gives rows, instead of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<Query>,
    /// The zone of times in the files that name none, such as `America/New_York`; without it they are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Which rows of the file to take: an expression over its columns.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Columns computed from the file's own, by expression. Later ones may use earlier ones' inputs, not their results.
    #[serde(default)]
    pub derive: BTreeMap<String, String>,
}

/// Whether a row that happened exactly at the cutoff counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Boundary {
    /// `event_time <= cutoff`.
    #[default]
    Inclusive,
    /// `event_time < cutoff`.
    Exclusive,
}

/// What a window computes. It is written as its name; a percentile as `p50`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Aggregate {
    /// How many rows (or non-null values, if a column is named).
    Count,
    /// Their sum; null without a value.
    Sum,
    /// Their mean; null without a value.
    Mean,
    /// The smallest; null without a value.
    Min,
    /// The largest; null without a value.
    Max,
    /// The sample standard deviation; null under two values.
    Std,
    /// The latest non-null value.
    Last,
    /// The earliest non-null value.
    First,
    /// Seconds from the latest row to the cutoff; null without a row.
    Age,
    /// How many different values: counted up to a thousand, estimated within some percent past that.
    ApproxDistinct,
    /// The value that so many percent (1 to 99) do not exceed, interpolated between its neighbours; null without a value.
    Percentile(u8),
}

/// The aggregates that are one word.
const AGGREGATES: [(&str, Aggregate); 10] = [
    ("count", Aggregate::Count),
    ("sum", Aggregate::Sum),
    ("mean", Aggregate::Mean),
    ("min", Aggregate::Min),
    ("max", Aggregate::Max),
    ("std", Aggregate::Std),
    ("last", Aggregate::Last),
    ("first", Aggregate::First),
    ("age", Aggregate::Age),
    ("approx_distinct", Aggregate::ApproxDistinct),
];

impl Aggregate {
    /// Whether it reckons with values, and not only tells them apart.
    pub fn needs_numbers(self) -> bool {
        !matches!(self, Self::Count | Self::Age | Self::ApproxDistinct)
    }
}

impl std::fmt::Display for Aggregate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self, AGGREGATES.iter().find(|(_, aggregate)| aggregate == self)) {
            (_, Some((word, _))) => f.write_str(word),
            (Self::Percentile(percent), None) => write!(f, "p{percent}"),
            (other, None) => unreachable!("{other:?} has no word"),
        }
    }
}

impl From<Aggregate> for String {
    fn from(aggregate: Aggregate) -> Self {
        aggregate.to_string()
    }
}

impl TryFrom<String> for Aggregate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some((_, aggregate)) = AGGREGATES.iter().find(|(word, _)| *word == text) {
            return Ok(*aggregate);
        }
        let percent = text.strip_prefix('p').and_then(|percent| percent.parse::<u8>().ok());
        if let Some(percent) =
            percent.filter(|percent| (1..=99).contains(percent) && text == format!("p{percent}"))
        {
            return Ok(Self::Percentile(percent));
        }
        let words: Vec<&str> = AGGREGATES.iter().map(|(word, _)| *word).collect();
        let hint = crate::words::did_you_mean(&text, words.iter().copied());
        Err(format!(
            "`{text}` is no aggregate{hint}; there are {}, and percentiles such as p50",
            words.join(", ")
        ))
    }
}

/// Aggregates of one column over trailing windows `(cutoff − over, cutoff]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The column; only `count` and `age` do without.
    pub column: Option<String>,
    /// What to compute.
    pub aggregates: Vec<Aggregate>,
    /// Over which spans.
    pub over: Vec<Horizon>,
}

/// The latest events of an entity, kept as a sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastK {
    /// How many.
    pub count: usize,
    /// Not older than this.
    pub over: Horizon,
    /// Which columns of each event.
    pub columns: Vec<String>,
}

/// Features of an entity that share a source and a history. Exactly one of `features`, `windows`, `last_k` and `log` says
/// what it gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureView {
    /// Its name.
    pub name: String,
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
    /// Who answers for it.
    #[serde(default)]
    pub owner: String,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The entity it describes; its keys are columns of the source.
    pub entity: String,
    /// Where its rows come from.
    pub source: String,
    /// A value older than this is reported as expired, and not given.
    pub max_age: Option<Horizon>,
    /// Versions older than this are let go, but never the newest one of a key that still counts; without it none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Horizon>,
    /// Whether a row that happened exactly at the cutoff counts.
    #[serde(default)]
    pub boundary: Boundary,
    /// Columns whose latest value is a feature.
    #[serde(default)]
    pub features: Vec<String>,
    /// Trailing windows.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// The latest events as a sequence.
    pub last_k: Option<LastK>,
    /// Columns kept for spines and labels only; never served.
    #[serde(default)]
    pub log: Vec<String>,
    /// Further names of features, new name to column: a renamed feature is served under both.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
}

/// The four shapes of a feature view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// The latest value of each column.
    Latest,
    /// Aggregates over trailing windows.
    Windows,
    /// The latest events.
    LastK,
    /// A log of events that datasets start from.
    Log,
}

impl FeatureView {
    /// Its shape. A checked view has exactly one.
    pub fn shape(&self) -> Shape {
        if !self.windows.is_empty() {
            Shape::Windows
        } else if self.last_k.is_some() {
            Shape::LastK
        } else if !self.log.is_empty() {
            Shape::Log
        } else {
            Shape::Latest
        }
    }

    /// The source's columns that its rows keep, in order, without the keys and times.
    pub fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = match (self.shape(), &self.last_k) {
            (Shape::Windows, _) => self.windows.iter().filter_map(|window| window.column.clone()).collect(),
            (Shape::LastK, Some(last)) => last.columns.clone(),
            (Shape::Log, _) => self.log.clone(),
            _ => self.features.clone(),
        };
        columns.sort();
        columns.dedup();
        columns
    }

    /// How far back online rows are needed; `None` for ever.
    pub fn memory(&self) -> Option<Horizon> {
        match self.shape() {
            Shape::Windows => self.windows.iter().flat_map(|window| window.over.iter().copied()).max(),
            Shape::LastK => self.last_k.as_ref().map(|last| last.over),
            Shape::Latest | Shape::Log => None,
        }
    }
}

/// Names the feature of one aggregate: `dep_delay_mean_3h`, `count_3h`.
pub fn window_feature(column: Option<&str>, aggregate: Aggregate, over: Horizon) -> String {
    match column {
        Some(column) => format!("{column}_{aggregate}_{over}"),
        None => format!("{aggregate}_{over}"),
    }
}

/// How one field of an event becomes tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenKind {
    /// One token a level; levels past `max_levels`, by frequency, share one.
    Category {
        /// The largest number of levels.
        max_levels: usize,
    },
    /// One token a quantile bin.
    Number {
        /// The number of bins.
        bins: usize,
    },
    /// A part of the event's time (UTC).
    Calendar {
        /// `month`, `weekday` or `hour`.
        part: String,
    },
    /// The time since the event before.
    Gap {
        /// The number of bins.
        bins: usize,
    },
}

/// One field of an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenField {
    /// The column; calendar parts and gaps have a name only.
    pub name: String,
    /// How it becomes tokens.
    #[serde(flatten)]
    pub kind: TokenKind,
}

/// How the events of a `last_k` view become the tokens of a GPT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventStream {
    /// Its name.
    pub name: String,
    /// The view that holds the events.
    pub view: String,
    /// The fields, in token order.
    pub fields: Vec<TokenField>,
}

/// Where a dataset's rows come from: exactly one of `view` and `source`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spine {
    /// A view of shape `log`: each of its rows is one row of the dataset. Its `known_time` is when the outcome was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
    /// A source with files or a query, read anew for every training set: each of its rows is one row of the dataset. Its files
    /// lie in the server's folder for them (`offline.files`) or in an object store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// With `source`: the columns that name a row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Events from here on.
    pub from: Option<Cutoff>,
    /// Events before here.
    #[serde(alias = "to")]
    pub until: Option<Cutoff>,
    /// Which rows to take: a condition over the spine's columns.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

impl Spine {
    /// The view or the source, by name.
    pub fn name(&self) -> &str {
        self.view.as_deref().or(self.source.as_deref()).unwrap_or_default()
    }
}

/// Where training ends, and where validation ends; what follows is the test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Training rows have cutoffs before this, and outcomes known by then.
    pub train_until: Cutoff,
    /// Validation rows come next, with cutoffs before this, and outcomes known by then.
    pub validation_until: Cutoff,
}

/// How the rows of a training set are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// An Arrow IPC file.
    #[default]
    Arrow,
    /// A Parquet file.
    Parquet,
}

impl Format {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How names of such files end.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Arrow => "arrow",
            Self::Parquet => "parquet",
        }
    }
}

/// A question, and the features that may answer it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// What is asked, for people.
    #[serde(default)]
    pub description: String,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Where the rows come from.
    pub spine: Spine,
    /// How long before the event the question is asked: `cutoff = event_time − horizon`.
    pub horizon: Horizon,
    /// The outcome: an expression over the spine's columns that is true, false or null (then the row has no label).
    pub label: String,
    /// Views to join, of shape latest or windows.
    #[serde(default)]
    pub views: Vec<String>,
    /// The event stream to join, if models read histories.
    pub history: Option<String>,
    /// Features by expression, over spine columns, `event_time`, `cutoff` and joined features (`view__feature`).
    #[serde(default)]
    pub features: BTreeMap<String, String>,
    /// Joined features that models do not get: they only serve expressions.
    #[serde(default)]
    pub hidden: Vec<String>,
    /// How its training sets are kept.
    #[serde(default, skip_serializing_if = "Format::is_default")]
    pub format: Format,
    /// The temporal split.
    pub split: Split,
}

/// What a monitor does when an incident opens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnIncident {
    /// The model to retrain.
    pub retrain: String,
    /// Not again before this long.
    pub cool_down: Horizon,
    /// What retraining may cost; without it, the cool-down alone holds it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

/// What the training of one model may cost, whoever asked for it: no incident asks for more once it is spent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// How long its training jobs may work in all.
    pub train_time: Horizon,
    /// Within this long, looking back.
    pub per: Horizon,
}

/// What is watched about a served model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Monitor {
    /// Its name.
    pub name: String,
    /// The registered model it watches.
    pub model: String,
    /// The alias it watches.
    #[serde(default = "champion")]
    pub alias: String,
    /// How long a window is.
    #[serde(default = "one_day")]
    pub window: Horizon,
    /// How long a season is, such as `7d`: a window is held against the training rows of the same place in the season, and
    /// what days differ by among themselves is no drift. Without it, against all training rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub season: Option<Horizon>,
    /// Input columns to watch; all if empty.
    #[serde(default)]
    pub columns: Vec<String>,
    /// Input columns not to watch: parts of the calendar, say, which no short window can share with a year.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// The smallest distance (KS or total variation) worth calling drift.
    #[serde(default = "min_effect")]
    pub min_effect: f64,
    /// The false-alarm level.
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// The smallest change of the label rate, calibration error or loss of AUC worth an incident.
    #[serde(default = "min_rate_change")]
    pub min_rate_change: f64,
    /// Fewer rows than this in a window give `insufficient data`.
    #[serde(default = "min_rows")]
    pub min_rows: u64,
    /// Input columns whose values part the rows into segments, such as `carrier`: outcomes are judged in each of them too. A
    /// number parts at the fifths of the training rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<String>,
    /// How many segments to show of those that fare worst, looked for among all values of the watched columns and of pairs of
    /// them; none if 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub worst_segments: u32,
    /// Bounds of one's own on named measures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<Threshold>,
    /// How many windows in a row must look well before an incident resolves.
    #[serde(default = "recovery_windows")]
    pub recovery_windows: u32,
    /// How many messages about its model a channel gets a day (UTC); pages come on top. The rest is counted and told later.
    #[serde(default = "notifications_per_day")]
    pub notifications_per_day: u32,
    /// What to do when an incident opens.
    pub on_incident: Option<OnIncident>,
    /// Where to tell.
    #[serde(default)]
    pub channels: Vec<String>,
}

impl Monitor {
    /// What cannot be watched so.
    pub(crate) fn misfits(&self) -> Vec<String> {
        let seconds = self.window.delta().num_seconds();
        let mut wrong = Vec::new();
        if seconds <= 0 || seconds % 3_600 != 0 {
            wrong.push(format!("`window` is {}, it must be a whole number of hours", self.window));
        } else if let Some(season) = &self.season
            && (season.delta().num_seconds() <= seconds || season.delta().num_seconds() % seconds != 0)
        {
            wrong.push(format!("`season` is {season}, it must be several windows of {}", self.window));
        }
        if !(self.alpha > 0.0 && self.alpha < 1.0) {
            wrong.push(format!("`alpha` is {}, it must lie between 0 and 1", self.alpha));
        }
        if !(0.0..1.0).contains(&self.min_effect) {
            wrong.push(format!("`min_effect` is {}, it must lie from 0 up to 1", self.min_effect));
        }
        wrong.into_iter().chain(self.thresholds.iter().flat_map(Threshold::misfits)).collect()
    }
}

/// A bound of one's own on a named measure of a column; beyond it, a window counts as drifted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// The measure, as `foretime monitor compare` names it.
    pub measure: String,
    /// The column; every watched one that has the measure if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Values above this are too much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// Values below this are too little.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
}

impl Threshold {
    /// The measures that profiles give, for numbers over ten groups of equally many reference values.
    pub const MEASURES: &[&str] = &[
        "effective_rows_current",
        "greatest_current",
        "hellinger",
        "hellinger_q10",
        "infinities_current",
        "jensen_shannon_distance_base2",
        "jensen_shannon_distance_q10_base2",
        "kullback_leibler_eps1e-4_nats",
        "kullback_leibler_q10_eps1e-4_nats",
        "l_infinity",
        "l_infinity_q10",
        "least_current",
        "mean_current",
        "median_binned_current",
        "missing_share_current",
        "psi_eps1e-4",
        "psi_q10_eps1e-4",
        "standard_deviation_current",
        "total_variation",
        "total_variation_q10",
        "unseen_share_current",
        "vanished_levels",
    ];

    fn misfits(&self) -> Vec<String> {
        let name = &self.measure;
        let known = Self::MEASURES;
        if !known.contains(&name.as_str()) {
            let hint = crate::words::did_you_mean(name, known.to_vec());
            return vec![format!("a threshold is on `{name}`, which is no measure of a profile{hint}")];
        }
        match (self.above, self.below) {
            (None, None) => vec![format!("the threshold on `{name}` has neither `above` nor `below`")],
            (Some(above), Some(below)) if below > above => {
                vec![format!("the threshold on `{name}` leaves nothing between {below} and {above}")]
            }
            _ => vec![],
        }
    }

    /// Whether a value is beyond the bounds.
    pub fn is_beyond(&self, value: f64) -> bool {
        self.above.is_some_and(|above| value > above) || self.below.is_some_and(|below| value < below)
    }
}

fn champion() -> String {
    "champion".to_owned()
}
fn one_day() -> Horizon {
    Horizon::seconds(86_400)
}
fn min_effect() -> f64 {
    0.1
}
fn alpha() -> f64 {
    0.001
}
fn min_rate_change() -> f64 {
    0.03
}
fn min_rows() -> u64 {
    200
}
fn is_zero(number: &u32) -> bool {
    *number == 0
}
fn recovery_windows() -> u32 {
    3
}
fn notifications_per_day() -> u32 {
    3
}

/// Any object.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// An entity.
    Entity(Entity),
    /// A source.
    Source(Source),
    /// A feature view.
    FeatureView(FeatureView),
    /// An event stream.
    EventStream(EventStream),
    /// A dataset.
    Dataset(Dataset),
    /// A model.
    Model(Model),
    /// A monitor.
    Monitor(Monitor),
    /// A gate.
    Gate(Gate),
    /// A schedule.
    Schedule(Schedule),
    /// A channel.
    Channel(Channel),
}

macro_rules! each_kind {
    ($($variant:ident => $kind:literal),* $(,)?) => {
        /// The kinds, as they are written in TOML and stored, in the order in which they build on each other.
        pub const KINDS: &[&str] = &[$($kind),*];

        impl Object {
            /// The kind, as it is written in TOML and stored.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => $kind),* }
            }

            /// The name, unique within its kind.
            pub fn name(&self) -> &str {
                match self { $(Self::$variant(object) => &object.name),* }
            }

            /// The object as it is stored.
            pub fn body(&self) -> serde_json::Value {
                match self {
                    $(Self::$variant(object) => serde_json::to_value(object).expect("definitions have only string keys")),*
                }
            }

            /// Reads a stored object.
            ///
            /// # Errors
            /// What the reader said.
            pub fn from_body(kind: &str, body: serde_json::Value) -> Result<Self, serde_json::Error> {
                match kind {
                    $($kind => serde_json::from_value(body).map(Self::$variant),)*
                    other => Err(serde::de::Error::custom(format!("`{other}` is no kind of definition"))),
                }
            }
        }
    };
}

each_kind! {
    Entity => "entity",
    Source => "source",
    FeatureView => "feature_view",
    EventStream => "event_stream",
    Dataset => "dataset",
    Model => "model",
    Channel => "channel",
    Monitor => "monitor",
    Gate => "gate",
    Schedule => "schedule",
}
