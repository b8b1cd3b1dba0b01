//! Searches whose conditions a user wrote: typed conditions in, one SQL statement out, every value bound.
//!
//! Belongs here: which attributes a search knows, their columns, and the statement. Not here: the text grammar (`registry`).

use sqlx::{PgConnection, Postgres, QueryBuilder};

use crate::Error;

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
    column: &'static str,
}

#[derive(Debug)]
struct Child {
    table: &'static str,
    join: &'static str,
}

/// What can be searched: a table, its attributes and its key-value children.
#[derive(Debug)]
pub struct Shape {
    /// What a search may name.
    pub attributes: &'static [Attribute],
    table: &'static str,
    key: &'static str,
    order: &'static str,
    tags: Child,
    params: Option<Child>,
    metrics: Option<Child>,
    datasets: Option<Child>,
}

impl Shape {
    /// The attribute of that name.
    pub fn attribute(&self, name: &str) -> Option<&'static Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    /// Whether rows have parameters and metrics.
    pub fn has_measurements(&self) -> bool {
        self.metrics.is_some()
    }

    /// Whether rows have data sets.
    pub fn has_datasets(&self) -> bool {
        self.datasets.is_some()
    }
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

impl Comparison {
    fn sql(self) -> &'static str {
        match self {
            Self::Equal => " = ",
            Self::NotEqual => " <> ",
            Self::Less => " < ",
            Self::LessOrEqual => " <= ",
            Self::Greater => " > ",
            Self::GreaterOrEqual => " >= ",
            Self::Like => " like ",
            Self::ILike => " ilike ",
        }
    }

    fn is_pattern(self) -> bool {
        matches!(self, Self::Like | Self::ILike)
    }
}

/// What must hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// A number compares so.
    Number(Comparison, f64),
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

/// One key of an order.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// What is compared.
    pub subject: Subject,
    /// Smallest first.
    pub ascending: bool,
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
    /// How many rows.
    pub limit: i64,
    /// How many to skip.
    pub offset: i64,
}

/// The keys of the rows that match, in order. A version's key is `<version>/<model>`, the others are plain.
///
/// # Errors
/// [`Error::Database`] if the database refuses.
pub async fn find(
    conn: &mut PgConnection,
    shape: &Shape,
    project: &str,
    search: &Search,
) -> Result<Vec<String>, Error> {
    let mut query = QueryBuilder::new("select ");
    query.push(shape.key).push(" from ").push(shape.table).push(" it where it.project = ");
    query.push_bind(project.to_owned());
    if let Some(experiments) = &search.experiments {
        query.push(" and it.experiment_id = any(").push_bind(experiments.clone()).push(")");
    }
    match search.lifecycle {
        Lifecycle::Active => drop(query.push(" and it.lifecycle_stage = 'active'")),
        Lifecycle::Deleted => drop(query.push(" and it.lifecycle_stage = 'deleted'")),
        Lifecycle::All | Lifecycle::None => {}
    }
    for condition in &search.conditions {
        push_condition(&mut query, shape, condition);
    }
    query.push(" order by ");
    for order in &search.order {
        push_order(&mut query, shape, order);
    }
    query.push(shape.order).push(" limit ").push_bind(search.limit).push(" offset ").push_bind(search.offset);
    Ok(query.build_query_scalar().fetch_all(conn).await?)
}

fn push_condition(query: &mut QueryBuilder<Postgres>, shape: &Shape, condition: &Condition) {
    let Condition { subject, test } = condition;
    query.push(if matches!(test, Test::Absent | Test::Lacks(_)) { " and not " } else { " and " });
    match subject {
        Subject::Attribute(attribute) => {
            push_test(query, attribute.column, test);
        }
        Subject::Tag(key) => push_child(query, Some(&shape.tags), Some(key), "c.value", test),
        Subject::Param(key) => push_child(query, shape.params.as_ref(), Some(key), "c.value", test),
        Subject::Metric(key) => push_child(query, shape.metrics.as_ref(), Some(key), "c.value", test),
        Subject::Dataset(field) => {
            push_child(query, shape.datasets.as_ref(), None, dataset_column(*field), test);
        }
    }
}

fn dataset_column(field: DatasetField) -> &'static str {
    match field {
        DatasetField::Name => "c.name",
        DatasetField::Digest => "c.digest",
        DatasetField::Context => "c.tags ->> 'mlflow.data.context'",
    }
}

fn push_child(
    query: &mut QueryBuilder<Postgres>,
    child: Option<&Child>,
    key: Option<&str>,
    column: &'static str,
    test: &Test,
) {
    let Some(child) = child else {
        query.push("false");
        return;
    };
    query.push("exists (select 1 from ").push(child.table).push(" c where ").push(child.join);
    if let Some(key) = key {
        query.push(" and c.key = ").push_bind(key.to_owned());
    }
    if !matches!(test, Test::Present | Test::Absent) {
        query.push(" and ");
        push_test(query, column, test);
    }
    query.push(")");
}

fn push_test(query: &mut QueryBuilder<Postgres>, column: &'static str, test: &Test) {
    match test {
        Test::Number(comparison, value) => {
            // Postgres orders NaN above every number; to a search it compares with nothing.
            if matches!(comparison, Comparison::Greater | Comparison::GreaterOrEqual) {
                query.push(column).push("::double precision <> 'NaN' and ");
            }
            query.push(column).push("::double precision").push(comparison.sql()).push_bind(*value);
        }
        Test::Text(comparison, value) => {
            query.push(column).push(comparison.sql()).push_bind(value.clone());
            if comparison.is_pattern() {
                query.push(" escape ''"); // a back-slash is itself, and cannot break the pattern
            }
        }
        Test::Lacks(value) => drop(query.push(column).push(" = ").push_bind(value.clone())),
        Test::OneOf(values) => drop(query.push(column).push(" = any(").push_bind(values.clone()).push(")")),
        Test::NoneOf(values) => drop(query.push(column).push(" <> all(").push_bind(values.clone()).push(")")),
        Test::Present | Test::Absent => drop(query.push(column).push(" is not null")),
    }
}

fn push_order(query: &mut QueryBuilder<Postgres>, shape: &Shape, order: &Order) {
    let direction = if order.ascending { " asc nulls last, " } else { " desc nulls last, " };
    let child = match &order.subject {
        Subject::Attribute(attribute) => {
            query.push(attribute.column).push(direction);
            return;
        }
        Subject::Metric(key) => shape.metrics.as_ref().map(|child| (child, key)),
        Subject::Param(key) => shape.params.as_ref().map(|child| (child, key)),
        Subject::Tag(key) => Some((&shape.tags, key)),
        Subject::Dataset(_) => None,
    };
    let Some((child, key)) = child else { return };
    if matches!(order.subject, Subject::Metric(_)) {
        // Numbers first in either direction, then NaN, then rows without the metric.
        query.push("nullif(");
        push_latest(query, child, key);
        query.push(", 'NaN'::double precision)").push(direction);
        push_latest(query, child, key);
        query.push(" nulls last, ");
    } else {
        push_latest(query, child, key);
        query.push(direction);
    }
}

fn push_latest(query: &mut QueryBuilder<Postgres>, child: &Child, key: &str) {
    query.push("(select c.value from ").push(child.table).push(" c where ").push(child.join);
    query.push(" and c.key = ").push_bind(key.to_owned());
    // Only logged models keep several points a metric; for the others there is one row.
    query.push(if child.table == "logged_model_metrics" {
        " order by c.timestamp_ms desc, c.step desc limit 1)"
    } else {
        ")"
    });
}

const fn text(name: &'static str, column: &'static str) -> Attribute {
    Attribute { name, kind: Kind::Text, filters: true, column }
}

const fn listed(name: &'static str, column: &'static str) -> Attribute {
    Attribute { name, kind: Kind::ListedText, filters: true, column }
}

const fn number(name: &'static str, column: &'static str) -> Attribute {
    Attribute { name, kind: Kind::Number, filters: true, column }
}

const fn order_only(name: &'static str, column: &'static str) -> Attribute {
    Attribute { name, kind: Kind::Number, filters: false, column }
}

const fn of_run(table: &'static str) -> Child {
    Child { table, join: "c.project = it.project and c.run_id = it.run_id" }
}

const fn of_logged_model(table: &'static str) -> Child {
    Child { table, join: "c.project = it.project and c.model_id = it.model_id" }
}

/// Runs.
pub static RUNS: Shape = Shape {
    table: "runs",
    key: "it.run_id",
    order: "it.start_ms desc, it.run_id",
    attributes: &[
        listed("run_id", "it.run_id"),
        text("run_name", "it.name"),
        text("run name", "it.name"),
        text("Run name", "it.name"),
        text("Run Name", "it.name"),
        text("user_id", "it.user_id"),
        text("status", "it.status"),
        text("artifact_uri", "it.artifact_uri"),
        number("start_time", "it.start_ms"),
        number("created", "it.start_ms"),
        number("Created", "it.start_ms"),
        number("end_time", "it.end_ms"),
    ],
    tags: of_run("run_tags"),
    params: Some(of_run("run_params")),
    metrics: Some(of_run("run_latest_metrics")),
    datasets: Some(of_run("run_datasets")),
};

/// Experiments.
pub static EXPERIMENTS: Shape = Shape {
    table: "experiments",
    key: "it.experiment_id::text",
    order: "it.created_ms desc, it.experiment_id",
    attributes: &[
        text("name", "it.name"),
        listed("experiment_id", "it.experiment_id::text"),
        number("creation_time", "it.created_ms"),
        number("last_update_time", "it.updated_ms"),
    ],
    tags: Child {
        table: "experiment_tags",
        join: "c.project = it.project and c.experiment_id = it.experiment_id",
    },
    params: None,
    metrics: None,
    datasets: None,
};

/// Registered models.
pub static MODELS: Shape = Shape {
    table: "registered_models",
    key: "it.name",
    order: "it.name",
    attributes: &[
        listed("name", "it.name"),
        order_only("creation_timestamp", "it.created_ms"),
        order_only("last_updated_timestamp", "it.updated_ms"),
        order_only("timestamp", "it.updated_ms"),
    ],
    tags: Child { table: "registered_model_tags", join: "c.project = it.project and c.model = it.name" },
    params: None,
    metrics: None,
    datasets: None,
};

/// Model versions.
pub static VERSIONS: Shape = Shape {
    table: "model_versions",
    key: "it.version || '/' || it.model",
    order: "it.model, it.version desc",
    attributes: &[
        listed("name", "it.model"),
        listed("run_id", "it.run_id"),
        text("source_path", "it.source"),
        number("version_number", "it.version"),
        number("creation_timestamp", "it.created_ms"),
        number("last_updated_timestamp", "it.updated_ms"),
    ],
    tags: Child {
        table: "model_version_tags",
        join: "c.project = it.project and c.model = it.model and c.version = it.version",
    },
    params: None,
    metrics: None,
    datasets: None,
};

/// Logged models.
pub static LOGGED_MODELS: Shape = Shape {
    table: "logged_models",
    key: "it.model_id",
    order: "it.created_ms desc, it.model_id",
    attributes: &[
        text("name", "it.name"),
        listed("model_id", "it.model_id"),
        text("model_type", "it.model_type"),
        text("status", "it.status"),
        text("source_run_id", "it.source_run_id"),
        number("creation_timestamp", "it.created_ms"),
        number("creation_time", "it.created_ms"),
        number("last_updated_timestamp", "it.updated_ms"),
    ],
    tags: of_logged_model("logged_model_tags"),
    params: Some(of_logged_model("logged_model_params")),
    metrics: Some(of_logged_model("logged_model_metrics")),
    datasets: None,
};
