//! Rows that a source has of its own: in files, or as the result of a query to a database that the settings name.

use std::sync::Arc;

use domain::definitions::{Dataset, DefinitionError, Definitions, Located, Object, Query, Source, ValueType};
use domain::words::did_you_mean;
use domain::{Fault, Remedy};
use frames::Frame;
use frames::training_set::ForeignSpine;
use secrecy::ExposeSecret;
use serde_json::{Map, Value};
use service_kit::{Config, Context};
use storage::foreign::Reading;

use crate::Error;

/// Rows of a query's result that are handed over at once.
const AT_ONCE: usize = 50_000;

/// A query names a database that the settings do not know.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is no connection `{name}` in the settings{hint}; set FORETIME_CONNECTIONS__{} to its address, or `{name}` under \
     `[connections]` in foretime.toml", name.to_ascii_uppercase()
)]
pub struct UnknownConnection {
    name: String,
    hint: String,
}

impl Fault for UnknownConnection {
    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }
    fn code(&self) -> &'static str {
        "unknown-connection"
    }
}

/// The address of the database that a query is for.
fn address<'a>(config: &'a Config, query: &Query) -> Result<&'a str, UnknownConnection> {
    config.connections.get(&query.connection).map(ExposeSecret::expose_secret).ok_or_else(|| {
        let known = config.connections.keys().map(String::as_str);
        UnknownConnection { name: query.connection.clone(), hint: did_you_mean(&query.connection, known) }
    })
}

/// The result of a source's query, read by and by.
#[derive(Debug)]
pub struct QueryRows {
    reading: Reading,
    columns: Arc<Vec<(String, ValueType)>>,
}

impl QueryRows {
    /// Asks the query.
    ///
    /// # Errors
    /// If the settings do not know its connection, or the database cannot be reached or refuses.
    pub async fn begin(config: &Config, source: &Source, query: &Query) -> Result<Self, Error> {
        let url = address(config, query)?;
        let exact = |kind: &ValueType| matches!(kind, ValueType::Decimal { .. }); // JSON's numbers would round them
        let names: Vec<(&str, bool)> =
            source.columns.iter().map(|(name, kind)| (name.as_str(), exact(kind))).collect();
        let reading = Reading::begin(&query.connection, url, &query.sql, &names, AT_ONCE).await?;
        Ok(Self { reading, columns: Arc::new(columns(source)) })
    }

    /// The next rows, with exactly the declared columns; `None` at the end.
    ///
    /// # Errors
    /// If the database refuses, or a column does not hold what is declared.
    pub async fn next(&mut self) -> Result<Option<Frame>, Error> {
        let rows = self.reading.next().await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let columns = Arc::clone(&self.columns);
        Ok(Some(tokio::task::spawn_blocking(move || parsed(&rows, &columns)).await??))
    }
}

fn columns(source: &Source) -> Vec<(String, ValueType)> {
    source.columns.iter().map(|(name, kind)| (name.clone(), *kind)).collect()
}

fn parsed(rows: &[String], columns: &[(String, ValueType)]) -> Result<Frame, Error> {
    let read = |row: &String| serde_json::from_str::<Map<String, Value>>(row);
    let rows: Vec<_> = rows
        .iter()
        .map(read)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::BadRequest(format!("the database answered what is no JSON: {error}")))?;
    Ok(frames::rows::pushed(&rows, columns)?)
}

/// The rows that a dataset starts from, if they are a source's and no view's.
pub(crate) async fn spine(
    context: &Context,
    definitions: &Definitions,
    dataset: &Dataset,
) -> Result<Option<ForeignSpine>, Error> {
    let Some(name) = &dataset.spine.source else { return Ok(None) };
    let undefined = || Error::undefined(definitions, "source", name, &context.config.project);
    let source = definitions.source(name).cloned().ok_or_else(undefined)?;
    let rows = match &source.query {
        Some(query) => all_of(&context.config, &source, query).await?,
        None => {
            let folder =
                context.config.offline.files.clone().unwrap_or_else(|| context.data_dir.join("files"));
            let condition = dataset.spine.filter.clone();
            tokio::task::spawn_blocking(move || {
                frames::source_file::read_where(&source, &folder, condition.as_deref())
            })
            .await??
            .rows
        }
    };
    Ok(Some(tokio::task::spawn_blocking(move || ForeignSpine::of(rows)).await??))
}

async fn all_of(config: &Config, source: &Source, query: &Query) -> Result<Frame, Error> {
    let mut all = Frame::empty(&columns(source));
    let mut rows = QueryRows::begin(config, source, query).await?;
    while let Some(more) = rows.next().await? {
        all.append(&more)?;
    }
    Ok(all)
}

/// What is wrong with the queries that `declared` spines are read from: who builds training sets must know their databases.
pub(crate) fn unknown_connections(
    declared: &Definitions,
    all: &Definitions,
    config: &Config,
) -> Vec<DefinitionError> {
    let fault = |located: &Located| {
        let Object::Dataset(dataset) = &located.object else { return None };
        let query = all.source(dataset.spine.source.as_ref()?)?.query.as_ref()?;
        let unknown = address(config, query).err()?;
        let message = format!("dataset `{}`: {unknown}", dataset.name);
        Some(DefinitionError { file: located.file.clone(), line: located.line, message })
    };
    declared.objects().filter_map(fault).collect()
}
