//! Features by reference (`view:feature`) at this moment, straight from the bytes of the online store.
//!
//! A [`Plan`] is made once from a list of references and serves many requests. Latest values are read in place: no frame and
//! no value object lies between the stored bytes and the answer. Windows go through the kernel that training sets use.

use domain::definitions::{Boundary, Columns, Definitions, FeatureView, Shape, ViewVersion, ViewVersions};
use domain::online::{Ask, Fetched, OnlineRow, OnlineRows};

use crate::Error;
use crate::as_of::Status;
use crate::assemble::schema_of;
use crate::frame::Frame;
use crate::groups::{Groups, Question};
use crate::keys::Keys;
use crate::online::{rows_of, version_of};
use crate::payload::{Cell, Decoder, Row};
use crate::view::ViewSchema;
use crate::windows;

/// A reference leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// It is not written as `view:feature`.
    #[error("`{0}` is no reference to a feature; write it as `view:feature`")]
    Malformed(String),
    /// There is no such view.
    #[error("there is no feature view `{0}`{1}")]
    View(String, String),
    /// The view serves no such feature.
    #[error("feature view `{view}` has no feature `{feature}`{hint}")]
    Feature {
        /// The view.
        view: String,
        /// The feature.
        feature: String,
        /// The likely intent.
        hint: String,
    },
}

/// Where a feature's value comes from, inside its view.
#[derive(Clone, Copy, Debug)]
enum Pick {
    /// A column of the latest row.
    Column(usize),
    /// A column of the windows' answer.
    Window(usize),
}

/// A view of a plan.
#[derive(Debug)]
struct Part {
    view: FeatureView,
    version: ViewVersion,
    schema: ViewSchema,
    decoder: Decoder,
    windows: Option<windows::Plan>,
}

/// A list of features, ready to be served.
#[derive(Debug)]
pub struct Plan {
    parts: Vec<Part>,
    features: Vec<(usize, Pick, String)>,
    keys: Columns,
}

impl Plan {
    /// The plan of a list of references.
    ///
    /// # Errors
    /// [`Unknown`] names the first that leads nowhere, and the likely intent.
    pub fn of<S: AsRef<str>>(
        definitions: &Definitions,
        versions: &ViewVersions,
        references: &[S],
    ) -> Result<Self, Unknown> {
        let mut plan = Self { parts: vec![], features: vec![], keys: vec![] };
        for reference in references {
            let reference = reference.as_ref();
            let (view, feature) =
                reference.split_once(':').ok_or_else(|| Unknown::Malformed(reference.to_owned()))?;
            let at = match plan.parts.iter().position(|part| part.view.name == view) {
                Some(at) => at,
                None => {
                    plan.parts.push(Part::of(definitions, versions, view)?);
                    plan.parts.len() - 1
                }
            };
            let pick = plan.parts[at].pick(feature)?;
            plan.features.push((at, pick, feature.to_owned()));
        }
        for part in &plan.parts {
            for key in &part.schema.keys {
                if !plan.keys.contains(key) {
                    plan.keys.push(key.clone());
                }
            }
        }
        Ok(plan)
    }

    /// The key columns that a request must bring.
    pub fn keys(&self) -> &Columns {
        &self.keys
    }

    /// View and feature of each reference, in the request's order.
    pub fn features(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.features
            .iter()
            .map(|(part, _, feature)| (self.parts[*part].view.name.as_str(), feature.as_str()))
    }

    /// The views.
    pub fn views(&self) -> impl ExactSizeIterator<Item = (&str, i32)> {
        self.parts.iter().map(|part| (part.view.name.as_str(), part.version.version))
    }

    /// The features of one view, by the view's number: the feature's number in the request, and its name.
    pub fn of_part(&self, part: usize) -> impl Iterator<Item = (usize, &str)> {
        let features = self.features.iter().enumerate();
        features.filter(move |(_, (of, ..))| *of == part).map(|(at, (.., name))| (at, name.as_str()))
    }

    /// The encoded keys of a request, one list a view.
    ///
    /// # Errors
    /// [`Error::MissingColumn`] if the request lacks a key column.
    pub fn encode(&self, entities: &Frame) -> Result<Vec<Keys>, Error> {
        self.parts.iter().map(|part| Keys::of(entities, &part.schema.key_names())).collect()
    }

    /// What to fetch for these keys at `now`.
    pub fn asks(&self, keys: &[Keys], now: i64) -> Vec<Ask> {
        let ask = |(part, keys): (&Part, &Keys)| Ask {
            version_id: part.version.id,
            keys: keys.distinct(),
            since: (part.view.shape() != Shape::Latest)
                .then(|| now.saturating_sub(part.version.layout.memory.unwrap_or_default())),
        };
        self.parts.iter().zip(keys).map(ask).collect()
    }

    /// The answer at `now` from what was fetched.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if a stored row does not fit its view.
    pub fn answer<'a>(
        &'a self,
        keys: &'a [Keys],
        fetched: &'a Fetched,
        now: i64,
    ) -> Result<Answer<'a>, Error> {
        let parts = self
            .parts
            .iter()
            .zip(keys)
            .map(|(part, keys)| part.answer(keys, fetched, now))
            .collect::<Result<_, _>>()?;
        Ok(Answer { plan: self, parts, rows: keys.first().map_or(0, Keys::len) })
    }
}

impl Part {
    fn of(definitions: &Definitions, versions: &ViewVersions, name: &str) -> Result<Self, Unknown> {
        let servable = |name: &&str| {
            definitions
                .feature_view(name)
                .is_some_and(|view| matches!(view.shape(), Shape::Latest | Shape::Windows))
        };
        let unknown = || {
            let known = definitions.names("feature_view").into_iter().filter(servable);
            Unknown::View(name.to_owned(), domain::words::did_you_mean(name, known))
        };
        let view = definitions
            .feature_view(name)
            .filter(|view| servable(&view.name.as_str()))
            .ok_or_else(unknown)?;
        let schema = schema_of(definitions, view).map_err(|_| unknown())?;
        let version = version_of(versions, name).map_err(|_| unknown())?.clone();
        let decoder = Decoder::new(&schema.keys, &schema.values, &version.revisions);
        let windows = (view.shape() == Shape::Windows).then(|| windows::Plan::of(view));
        Ok(Self { view: view.clone(), version, schema, decoder, windows })
    }

    fn pick(&self, feature: &str) -> Result<Pick, Unknown> {
        let columns: Vec<String> = match &self.windows {
            Some(windows) => windows.names().map(str::to_owned).collect(),
            None => self.schema.values.iter().map(|(name, _)| name.clone()).collect(),
        };
        let name = self.view.aliases.get(feature).map_or(feature, String::as_str);
        match columns.iter().position(|column| column == name) {
            Some(at) if self.windows.is_some() => Ok(Pick::Window(at)),
            Some(at) => Ok(Pick::Column(at)),
            None => Err(Unknown::Feature {
                view: self.view.name.clone(),
                feature: feature.to_owned(),
                hint: domain::words::did_you_mean(feature, columns.iter().map(String::as_str)),
            }),
        }
    }

    fn answer<'a>(&'a self, keys: &'a Keys, fetched: &'a Fetched, now: i64) -> Result<PartAnswer<'a>, Error> {
        if let Some(windows) = &self.windows {
            return self.windows_of(windows, keys, fetched, now);
        }
        let online = fetched.get(self.version.id);
        let hits = (0..keys.len())
            .map(|row| match (online, keys.get(row)) {
                (Some(online), Some(key)) => self.latest(online, key, now),
                _ => Ok(NOT_FOUND),
            })
            .collect::<Result<_, Error>>()?;
        Ok(PartAnswer::Latest(hits))
    }

    fn latest<'a>(&'a self, online: &'a OnlineRows, key: &[u8], now: i64) -> Result<Hit<'a>, Error> {
        let Some(row) = online.of(key).last().filter(|row| self.happened(row, now)) else {
            return Ok(NOT_FOUND);
        };
        let status = if row.op {
            Status::Deleted
        } else if self.view.max_age.is_some_and(|oldest| now.saturating_sub(row.event_time) > oldest.micros())
        {
            Status::Expired
        } else {
            Status::Present
        };
        let values =
            if status == Status::Present { Some(self.decoder.row(online.payload(row))?) } else { None };
        Ok(Hit { status, event_time: row.event_time, values })
    }

    fn happened(&self, row: &OnlineRow, now: i64) -> bool {
        row.event_time < now || (row.event_time == now && self.view.boundary == Boundary::Inclusive)
    }

    fn windows_of<'a>(
        &'a self,
        windows: &windows::Plan,
        keys: &Keys,
        fetched: &Fetched,
        now: i64,
    ) -> Result<PartAnswer<'a>, Error> {
        let rows = rows_of(&self.schema, &self.version, keys, fetched)?;
        let held = rows.keys(&self.schema)?;
        let groups = Groups::new(&held, rows.moments());
        let questions: Vec<Question<'_>> =
            (0..keys.len()).map(|row| Question { key: keys.get(row), cutoff: now, as_of: now }).collect();
        let exclusive = self.view.boundary == Boundary::Exclusive;
        let newest = |question: &Question<'_>| {
            groups.happened(question, exclusive).next_back().map(|position| groups.event_time(position))
        };
        let event_times = questions.iter().map(newest).collect();
        let (frame, known) = windows.answer(&groups, &rows.frame, &questions)?;
        Ok(PartAnswer::Windows { frame, found: known.iter().map(Option::is_some).collect(), event_times })
    }
}

/// What was found of one entity in one view.
#[derive(Debug)]
struct Hit<'a> {
    status: Status,
    event_time: i64,
    values: Option<Row<'a>>,
}

const NOT_FOUND: Hit<'static> = Hit { status: Status::NotFound, event_time: 0, values: None };

#[derive(Debug)]
enum PartAnswer<'a> {
    Latest(Vec<Hit<'a>>),
    Windows { frame: Frame, found: Vec<bool>, event_times: Vec<Option<i64>> },
}

/// What becomes of one value; a row that is there may hold nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ValueStatus {
    /// There is a value.
    Present,
    /// The row is there, its value is null.
    Null,
    /// The row is older than `max_age`.
    Expired,
    /// Nothing is known of the entity.
    NotFound,
    /// The entity was taken away.
    Deleted,
}

impl ValueStatus {
    /// The status as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Present => "PRESENT",
            Self::Null => "NULL",
            Self::Expired => "EXPIRED",
            Self::NotFound => "NOT_FOUND",
            Self::Deleted => "DELETED",
        }
    }
}

/// One served value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Served<'a> {
    /// What became of it.
    pub status: ValueStatus,
    /// The value; null unless present.
    pub value: Cell<'a>,
    /// When the newest row behind it happened, in microseconds; `None` if nothing was found.
    pub event_time: Option<i64>,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer<'a> {
    plan: &'a Plan,
    parts: Vec<PartAnswer<'a>>,
    rows: usize,
}

impl Answer<'_> {
    /// The number of entities.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The values of a feature, one an entity, with what they have in common looked up once.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if a stored row does not fit its view.
    pub fn each<'a>(&'a self, feature: usize, mut take: impl FnMut(usize, Served<'a>)) -> Result<(), Error> {
        let (part, pick, _) = &self.plan.features[feature];
        if let (PartAnswer::Latest(hits), Pick::Column(column)) = (&self.parts[*part], pick) {
            return hits.iter().enumerate().try_for_each(|(row, hit)| {
                take(row, hit.served(*column)?);
                Ok(())
            });
        }
        (0..self.rows).try_for_each(|row| {
            take(row, self.served(feature, row)?);
            Ok(())
        })
    }

    /// One value, by the numbers of its feature and its entity.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if a stored row does not fit its view.
    pub fn served(&self, feature: usize, row: usize) -> Result<Served<'_>, Error> {
        let (part, pick, _) = &self.plan.features[feature];
        match (&self.parts[*part], pick) {
            (PartAnswer::Latest(hits), Pick::Column(column) | Pick::Window(column)) => {
                hits[row].served(*column)
            }
            (
                PartAnswer::Windows { frame, found, event_times },
                Pick::Window(column) | Pick::Column(column),
            ) => {
                let value = Cell::of(&frame.columns()[*column].1, row);
                let status = match (found[row], value) {
                    (false, _) => ValueStatus::NotFound,
                    (true, Cell::Null) => ValueStatus::Null,
                    (true, _) => ValueStatus::Present,
                };
                let event_time = event_times[row].filter(|_| found[row]);
                Ok(Served { status, value, event_time })
            }
        }
    }
}

impl<'a> Hit<'a> {
    #[inline]
    fn served(&self, column: usize) -> Result<Served<'a>, Error> {
        let event_time = (self.status != Status::NotFound).then_some(self.event_time);
        let (status, value) = match (self.status, &self.values) {
            (Status::Present, Some(row)) => match row.cell(column)? {
                Cell::Null => (ValueStatus::Null, Cell::Null),
                value => (ValueStatus::Present, value),
            },
            (Status::Expired, _) => (ValueStatus::Expired, Cell::Null),
            (Status::Deleted, _) => (ValueStatus::Deleted, Cell::Null),
            _ => (ValueStatus::NotFound, Cell::Null),
        };
        Ok(Served { status, value, event_time })
    }
}
