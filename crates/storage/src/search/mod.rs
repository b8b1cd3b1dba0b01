//! Searches whose conditions a user wrote: typed conditions in, one SQL statement a page out, every value bound.
//!
//! No search is kept as a prepared statement: after a few uses Postgres would plan it once for all values, and a plan that suits
//! most metrics takes every row of the few that all runs have. Planning costs less than a third of a millisecond.
//!
//! Belongs here: which attributes a search knows, their columns, and the statement. Not here: the text grammar (`registry`).

mod shapes;
mod statement;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use crate::Error;

pub use shapes::{EXPERIMENTS, LOGGED_MODELS, MODELS, RUNS, Shape, VERSIONS};

/// What an attribute holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// Text that may also be compared with a list.
    ListedText,
    /// A whole number.
    Number,
}

/// A column that searches may name.
#[derive(Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name in a search.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether it may filter; otherwise it only orders.
    pub filters: bool,
    /// What is compared with a filter's value.
    column: &'static str,
    /// What orders rows.
    sorts_by: &'static str,
    /// The SQL type of what orders rows.
    sorts_as: &'static str,
    /// Whether rows may lack it.
    nullable: bool,
}

/// A property of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatasetField {
    /// Its name.
    Name,
    /// Its digest.
    Digest,
    /// What the run used it for.
    Context,
}

/// What a condition or an order is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// A column.
    Attribute(&'static Attribute),
    /// The latest value of a metric.
    Metric(String),
    /// A parameter.
    Param(String),
    /// A tag.
    Tag(String),
    /// A data set.
    Dataset(DatasetField),
}

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
    ILike,
}

/// What must hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// A metric compares so.
    Number(Comparison, f64),
    /// A whole number compares so.
    Whole(Comparison, i64),
    /// A text compares so.
    Text(Comparison, String),
    /// A text is one of these.
    OneOf(Vec<String>),
    /// A text is none of these.
    NoneOf(Vec<String>),
    /// The tag or parameter is there.
    Present,
    /// The tag or parameter is not there.
    Absent,
    /// The tag is not there, or has another value.
    Lacks(String),
}

/// One clause of a filter; all must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What it is about.
    pub subject: Subject,
    /// What must hold.
    pub test: Test,
}

impl Condition {
    /// Whether it is about what belongs to a row, not about the row itself.
    pub fn is_of_contents(&self) -> bool {
        !matches!(self.subject, Subject::Attribute(_))
    }
}

/// A data set that metrics were measured on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetName {
    /// Its name.
    pub name: Option<String>,
    /// Its digest, if only that state of it is meant.
    pub digest: Option<String>,
}

/// One key of an order.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// What is compared.
    pub subject: Subject,
    /// Smallest first.
    pub ascending: bool,
    /// For metrics of logged models: only points that were measured on this data set.
    pub dataset: Option<DatasetName>,
}

/// Which life stages are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// Those in use.
    Active,
    /// Those that were deleted and can be restored.
    Deleted,
    /// Both.
    All,
    /// The table has no life stages.
    None,
}

/// A whole search.
#[derive(Clone, Debug)]
pub struct Search {
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// Most important first; the shape's own order breaks ties.
    pub order: Vec<Order>,
    /// Only rows of these experiments.
    pub experiments: Option<Vec<i64>>,
    /// Only rows of these life stages.
    pub lifecycle: Lifecycle,
    /// Only metrics that were measured on one of these, if any are named.
    pub datasets: Vec<DatasetName>,
    /// How many rows.
    pub limit: i64,
    /// Only rows after this place.
    pub after: Option<Place>,
}

/// A row's place in the order of a search: the value of each key, as text. The next page begins after it.
pub type Place = Vec<Option<String>>;

/// A row that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its key. A version's is `<version>/<model>`, the others are plain.
    pub key: String,
    /// Its place in the order.
    pub place: Place,
}

/// The rows that match, in order.
///
/// # Errors
/// [`Error::Unreadable`] if `after` is no place of this search; [`Error::Database`] if the database refuses.
pub async fn find(
    conn: &mut PgConnection,
    shape: &Shape,
    project: &str,
    search: &Search,
) -> Result<Vec<Found>, Error> {
    let rows = rows(conn, shape, project, search, shape.key).await?;
    rows.iter().map(|row| Ok(Found { key: row.try_get(0)?, place: place(row)? })).collect()
}

/// The rows that match, in order: of each what is `selected`, then its [`place`].
pub(crate) async fn rows(
    conn: &mut PgConnection,
    shape: &Shape,
    project: &str,
    search: &Search,
    selected: &str,
) -> Result<Vec<PgRow>, Error> {
    if let Some(mut near) = statement::near(shape, project, search, selected)? {
        let rows = near.build().fetch_all(&mut *conn).await?;
        if rows.len() as i64 == search.limit {
            return Ok(rows);
        }
    }
    let mut query = statement::page(shape, project, search, selected)?;
    Ok(query.build().persistent(false).fetch_all(conn).await?)
}

/// At most so many of the rows that come next, of which the conditions on attributes hold; `None` if no index has their order.
pub(crate) async fn next(
    conn: &mut PgConnection,
    shape: &Shape,
    project: &str,
    search: &Search,
    selected: &str,
    most: i64,
) -> Result<Option<Vec<PgRow>>, Error> {
    let Some(mut query) = statement::next(shape, project, search, selected, most)? else { return Ok(None) };
    Ok(Some(query.build().fetch_all(conn).await?))
}

/// Of the rows with these keys what is `selected`, and whether the conditions hold that [are of contents](Condition::is_of_contents);
/// in any order.
pub(crate) async fn judged(
    conn: &mut PgConnection,
    shape: &Shape,
    project: &str,
    conditions: &[Condition],
    selected: &str,
    keys: &[String],
) -> Result<Vec<PgRow>, Error> {
    let mut query = statement::judged(shape, project, conditions, selected, keys);
    Ok(query.build().persistent(false).fetch_all(conn).await?)
}

/// A row's place in the order of the search that found it.
pub(crate) fn place(row: &PgRow) -> Result<Place, Error> {
    Ok(row.try_get(statement::PLACE)?)
}

/// How many rows match, on all pages together.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn count(
    conn: &mut PgConnection,
    shape: &Shape,
    project: &str,
    search: &Search,
) -> Result<i64, Error> {
    Ok(statement::count(shape, project, search)
        .build_query_scalar()
        .persistent(false)
        .fetch_one(conn)
        .await?)
}
