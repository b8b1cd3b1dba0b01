//! Online features: which rows a request needs, and what they make of it. The kernels are the offline ones.

use std::collections::HashMap;

use domain::definitions::{Dataset, Definitions, Shape};

use crate::Error;
use crate::assemble::{Assembled, assemble, needed};
use crate::frame::{Frame, Values};
use crate::keys::Keys;
use crate::source_file::conform;
use crate::view::{ViewRows, ViewSchema};

/// What to fetch from the online store for one view.
#[derive(Clone, Debug)]
pub struct Read {
    /// The view.
    pub view: String,
    /// The encoded keys.
    pub keys: Vec<Vec<u8>>,
    /// Events after this moment, in microseconds; `None` asks for the latest row of each key.
    pub since: Option<i64>,
    /// The columns of the view's rows.
    pub schema: ViewSchema,
}

/// Rows as the online store holds them.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Encoded values.
    pub payloads: Vec<Vec<u8>>,
    /// When each happened.
    pub event_times: Vec<i64>,
    /// When each was learned.
    pub known_times: Vec<i64>,
    /// Which ingest brought it.
    pub seqs: Vec<i64>,
    /// Whether it takes the entity away.
    pub ops: Vec<bool>,
}

/// A request's rows as a spine: the dataset's spine columns and `event_time`. Columns that the request lacks are null.
///
/// # Errors
/// [`Error::WrongType`] if a column holds another type than the spine's source declares.
pub fn spine(definitions: &Definitions, dataset: &Dataset, request: &Frame) -> Result<Frame, Error> {
    let mut declared = domain::definitions::spine_columns(definitions, dataset);
    declared.push(("event_time".to_owned(), domain::definitions::ValueType::Time));
    let columns = declared
        .into_iter()
        .map(|(name, kind)| match request.find(&name) {
            Some(values) => Ok((name.clone(), conform(&name, values.clone(), kind)?)),
            None => Ok((name, Values::nulls(kind, request.rows()))),
        })
        .collect::<Result<_, Error>>()?;
    Ok(Frame::new(request.rows(), columns))
}

/// What a request at `now` has to fetch.
///
/// # Errors
/// An error that names the column that does not fit.
pub fn reads(
    definitions: &Definitions,
    dataset: &Dataset,
    spine: &Frame,
    now: i64,
) -> Result<Vec<Read>, Error> {
    needed(definitions, dataset)?
        .into_iter()
        .map(|needed| {
            let keys = Keys::of(spine, &needed.schema.key_names())?.distinct();
            let memory = needed.view.memory().map_or(0, domain::Horizon::micros);
            let since = (needed.view.shape() != Shape::Latest).then(|| now.saturating_sub(memory));
            Ok(Read { view: needed.view.name.clone(), keys, since, schema: needed.schema })
        })
        .collect()
}

/// The features of a request at `now` from what was fetched, by view.
///
/// # Errors
/// [`Error::Unreadable`] if a stored row does not fit its view.
pub fn features(
    definitions: &Definitions,
    dataset: &Dataset,
    spine: &Frame,
    now: i64,
    mut fetched: HashMap<String, Fetched>,
) -> Result<Assembled, Error> {
    let moments = vec![now; spine.rows()];
    assemble(definitions, dataset, spine, &moments, &moments, |needed, _| {
        let rows = fetched.remove(&needed.view.name).unwrap_or_default();
        let Fetched { payloads, event_times, known_times, seqs, ops } = rows;
        ViewRows::from_online(&needed.schema, &payloads, event_times, known_times, seqs, ops)
    })
}
