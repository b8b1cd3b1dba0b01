//! Online features of a dataset: which rows a request needs, and what they make of it. The kernels are the offline ones.

use domain::definitions::{Dataset, Definitions, FeatureView, Shape, ViewVersion, ViewVersions};
use domain::online::{Ask, Fetched, OnlineRow, OnlineRows};
use domain::tabular::History;

use crate::Error;
use crate::assemble::{Assembled, assemble, needed, schema_of};
use crate::frame::{Frame, Values};
use crate::groups::{Groups, Question};
use crate::history::last_k;
use crate::keys::Keys;
use crate::payload::Decoder;
use crate::source_file::conform;
use crate::view::{ViewRows, ViewSchema};

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
pub fn asks(
    definitions: &Definitions,
    versions: &ViewVersions,
    dataset: &Dataset,
    spine: &Frame,
    now: i64,
) -> Result<Vec<Ask>, Error> {
    needed(definitions, dataset)?
        .into_iter()
        .map(|needed| {
            let keys = Keys::of(spine, &needed.schema.key_names())?.distinct();
            let memory = needed.view.memory().map_or(0, domain::Horizon::micros);
            let since = (needed.view.shape() != Shape::Latest).then(|| now.saturating_sub(memory));
            Ok(Ask { version_id: version_of(versions, &needed.view.name)?.id, keys, since })
        })
        .collect()
}

/// The features of a request at `now` from what was fetched.
///
/// # Errors
/// [`Error::Unreadable`] if a stored row does not fit its view.
pub fn features(
    definitions: &Definitions,
    versions: &ViewVersions,
    dataset: &Dataset,
    spine: &Frame,
    now: i64,
    fetched: &Fetched,
) -> Result<Assembled, Error> {
    let moments = vec![now; spine.rows()];
    assemble(definitions, dataset, spine, &moments, &moments, |needed, asked| {
        let version = version_of(versions, &needed.view.name)?;
        rows_of(&needed.schema, version, asked, fetched)
    })
}

/// The history of every key that a view of shape `last_k` has online at `now`, and the key columns, one row a key. A key whose
/// events are all too old, or that was deleted, is left out.
///
/// # Errors
/// [`Error::Unreadable`] if the view has no `last_k`, or a stored row does not fit it.
pub fn all_histories(
    definitions: &Definitions,
    versions: &ViewVersions,
    view: &FeatureView,
    online: &OnlineRows,
    now: i64,
) -> Result<(Frame, History), Error> {
    let missing = || Error::unreadable("definitions", format!("view `{}` has no `last_k`", view.name));
    let last = view.last_k.as_ref().ok_or_else(missing)?;
    let schema = schema_of(definitions, view)?;
    let version = version_of(versions, &view.name)?;
    let decoder = Decoder::new(&schema.keys, &schema.values, &version.revisions);
    let stored: Vec<&OnlineRow> = online.rows().iter().collect();
    let rows = ViewRows::from_online(&schema, &decoder, online, &stored)?;
    let keys = rows.keys(&schema)?;
    let groups = Groups::new(&keys, rows.moments());
    let distinct = keys.distinct();
    let questions: Vec<Question<'_>> =
        distinct.iter().map(|key| Question { key: Some(key), cutoff: now, as_of: now }).collect();
    let exclusive = view.boundary == domain::definitions::Boundary::Exclusive;
    let (history, known) = last_k(&groups, &rows.frame, &questions, last, exclusive)?;
    let found: Vec<usize> = (0..distinct.len()).filter(|&key| known[key].is_some()).collect();
    let names = found.iter().map(|&key| distinct[key].as_slice());
    let named = Frame::new(found.len(), crate::keys::decode(&schema.keys, names)?);
    Ok((named, history.take(&found)))
}

/// The rows of the keys that are asked for, out of what was fetched for many.
///
/// # Errors
/// [`Error::Unreadable`] if a stored row does not fit its view.
pub(crate) fn rows_of(
    schema: &ViewSchema,
    version: &ViewVersion,
    asked: &Keys,
    fetched: &Fetched,
) -> Result<ViewRows, Error> {
    let Some(online) = fetched.get(version.id) else { return Ok(ViewRows::empty(schema)) };
    let decoder = Decoder::new(&schema.keys, &schema.values, &version.revisions);
    let rows: Vec<&OnlineRow> = asked.distinct().iter().flat_map(|key| online.of(key)).collect();
    ViewRows::from_online(schema, &decoder, online, &rows)
}

pub(crate) fn version_of<'a>(versions: &'a ViewVersions, view: &str) -> Result<&'a ViewVersion, Error> {
    versions.get(view).ok_or_else(|| {
        Error::unreadable("definitions", format!("view `{view}` has no version; apply it again"))
    })
}
