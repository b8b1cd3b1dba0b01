//! Online features of a dataset: which rows a request needs, and what they make of it. The kernels are the offline ones.

use domain::definitions::{Dataset, Definitions, Shape, ViewVersion, ViewVersions};
use domain::online::{Ask, Fetched, OnlineRow};

use crate::Error;
use crate::assemble::{Assembled, assemble, needed};
use crate::frame::{Frame, Values};
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
