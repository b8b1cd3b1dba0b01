//! The statement of a search. A page begins after a place in the order (its keys' values), not after a number of rows, so
//! that the fiftieth page costs what the first costs and rows that come or go between pages shift nothing.

use sqlx::{Postgres, QueryBuilder};

use super::shapes::{Child, Shape, Tail};
use super::{Comparison, Condition, DatasetField, DatasetName, Lifecycle, Order, Search, Subject, Test};
use crate::Error;

/// Values are indexed by their beginning, because an index holds no long text; see the migration.
const INDEXED_CHARACTERS: &str = "200";

/// An expression that orders rows.
struct Key {
    sql: String,
    sorts_as: &'static str,
    ascending: bool,
    nullable: bool,
}

impl Key {
    /// Whether this is a key that breaks ties.
    fn is((key, tail): (&Self, &Tail)) -> bool {
        key.sql == tail.column && key.ascending == tail.ascending
    }
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

/// The column of a page that holds each row's place, an array of texts.
pub(super) const PLACE: &str = "place";

/// One page: what is `selected` of each row, and its place.
pub(super) fn page(
    shape: &Shape,
    project: &str,
    search: &Search,
    selected: &str,
) -> Result<QueryBuilder<Postgres>, Error> {
    let keys = keys(shape, &search.order);
    let mut query = QueryBuilder::new("select ");
    push_selected(&mut query, &keys, selected);
    query.push(" from ").push(shape.table).push(" it");
    for (number, order) in search.order.iter().enumerate() {
        push_join(&mut query, shape, number, order);
    }
    push_where(&mut query, shape, project, search);
    if let Some(after) = &search.after {
        push_after(&mut query, &keys, after)?;
    }
    push_order(&mut query, &keys);
    // The number itself, not a parameter: Postgres plans a prepared statement once for all values, and would plan for a tenth of
    // the table if it did not know how few rows are wanted.
    query.push(" limit ").push(search.limit);
    Ok(query)
}

/// How many of the rows that come next in an index are tried before all are.
const NEAR: i64 = 1_000;

/// One page, if it is found among the next [`NEAR`] rows of the experiment by their index; `None` if the search has another order,
/// other experiments, nothing to filter by or a larger page.
///
/// Most pages are found there, and Postgres then neither plans for the values that were asked for nor guesses how many rows match:
/// it walks the index and probes each row (`offset 0` keeps the probes where they stand).
pub(super) fn near(
    shape: &Shape,
    project: &str,
    search: &Search,
    selected: &str,
) -> Result<Option<QueryBuilder<Postgres>>, Error> {
    let keys = keys(shape, &search.order);
    if !walks(shape, &keys, search) || search.conditions.is_empty() || search.limit > NEAR {
        return Ok(None);
    }
    let mut query = QueryBuilder::new("select ");
    push_selected(&mut query, &keys, selected);
    query.push(" from (select * from ").push(shape.table).push(" it");
    push_scope(&mut query, project, search);
    if let Some(after) = &search.after {
        push_after(&mut query, &keys, after)?;
    }
    push_order(&mut query, &keys);
    query.push(" limit ").push(NEAR).push(") it where true");
    for condition in &search.conditions {
        push_condition(&mut query, shape, condition, &[], " offset 0");
    }
    push_order(&mut query, &keys);
    query.push(" limit ").push(search.limit);
    Ok(Some(query))
}

/// Whether an index holds the rows in the order of the search.
fn walks(shape: &Shape, keys: &[Key], search: &Search) -> bool {
    let one = matches!(search.experiments.as_deref(), Some([_]));
    let as_indexed = keys.len() == shape.tail.len() && keys.iter().zip(shape.tail).all(Key::is);
    shape.walks && one && as_indexed && search.datasets.is_empty()
}

/// The rows that come next in the index, whatever belongs to them: of the conditions only those on attributes hold. `None` if the
/// search has another order or other experiments.
pub(super) fn next(
    shape: &Shape,
    project: &str,
    search: &Search,
    selected: &str,
    most: i64,
) -> Result<Option<QueryBuilder<Postgres>>, Error> {
    let keys = keys(shape, &search.order);
    if !walks(shape, &keys, search) || most > NEAR {
        return Ok(None);
    }
    let mut query = QueryBuilder::new("select ");
    query.push(selected).push(" from ").push(shape.table).push(" it");
    push_scope(&mut query, project, search);
    for condition in search.conditions.iter().filter(|condition| !condition.is_of_contents()) {
        push_condition(&mut query, shape, condition, &[], "");
    }
    if let Some(after) = &search.after {
        push_after(&mut query, &keys, after)?;
    }
    push_order(&mut query, &keys);
    query.push(" limit ").push(most);
    Ok(Some(query))
}

/// Of the rows with these keys what is `selected`, and whether the conditions hold that are not on attributes.
pub(super) fn judged(
    shape: &Shape,
    project: &str,
    conditions: &[Condition],
    selected: &str,
    keys: &[String],
) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new("select ");
    query.push(selected).push(", true");
    for condition in conditions.iter().filter(|condition| condition.is_of_contents()) {
        push_condition(&mut query, shape, condition, &[], " offset 0");
    }
    query.push(" from ").push(shape.table).push(" it where it.project = ").push_bind(project.to_owned());
    query.push(" and ").push(shape.key).push(" = any(").push_bind(keys.to_vec()).push(")");
    query
}

/// The number of rows on all pages.
pub(super) fn count(shape: &Shape, project: &str, search: &Search) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new("select count(*) from ");
    query.push(shape.table).push(" it");
    push_where(&mut query, shape, project, search);
    query
}

/// What is selected of each row, and its place.
fn push_selected(query: &mut QueryBuilder<Postgres>, keys: &[Key], selected: &str) {
    query.push(selected).push(", array[");
    for (number, key) in keys.iter().enumerate() {
        query.push(if number == 0 { "(" } else { ", (" }).push(&key.sql).push(")::text");
    }
    query.push("] as ").push(PLACE);
}

fn push_order(query: &mut QueryBuilder<Postgres>, keys: &[Key]) {
    query.push(" order by ");
    for (number, key) in keys.iter().enumerate() {
        query.push(if number == 0 { "" } else { ", " }).push(&key.sql);
        query.push(if key.ascending { " asc" } else { " desc" });
        query.push(if key.nullable { " nulls last" } else { "" });
    }
}

/// The user's keys, then those of the shape that break ties.
fn keys(shape: &Shape, orders: &[Order]) -> Vec<Key> {
    let mut keys = Vec::new();
    for (number, order) in orders.iter().enumerate() {
        let ascending = order.ascending;
        match &order.subject {
            Subject::Attribute(attribute) => keys.push(Key {
                sql: attribute.sorts_by.to_owned(),
                sorts_as: attribute.sorts_as,
                ascending,
                nullable: attribute.nullable,
            }),
            Subject::Metric(_) => keys.extend(metric_keys(number, ascending)),
            Subject::Param(_) | Subject::Tag(_) => {
                let sql = format!("o{number}.value");
                keys.push(Key { sql, sorts_as: "text", ascending, nullable: true });
            }
            Subject::Dataset(_) => {}
        }
    }
    for tail in shape.tail {
        if keys.iter().all(|key| key.sql != tail.column) {
            let (sql, sorts_as, ascending) = (tail.column.to_owned(), tail.sorts_as, tail.ascending);
            keys.push(Key { sql, sorts_as, ascending, nullable: false });
        }
    }
    keys
}

/// In either direction numbers come first, then NaN, then rows without the metric.
fn metric_keys(number: usize, ascending: bool) -> [Key; 2] {
    let rank =
        format!("case when o{number}.value is null then 2 when o{number}.value = 'NaN' then 1 else 0 end");
    let value = format!("nullif(o{number}.value, 'NaN')");
    [
        Key { sql: rank, sorts_as: "integer", ascending: true, nullable: false },
        Key { sql: value, sorts_as: "double precision", ascending, nullable: true },
    ]
}

/// Joins the row that holds the value of an order's key.
fn push_join(query: &mut QueryBuilder<Postgres>, shape: &Shape, number: usize, order: &Order) {
    let (child, key) = match &order.subject {
        Subject::Metric(key) => (shape.metrics.as_ref(), key),
        Subject::Param(key) => (shape.params.as_ref(), key),
        Subject::Tag(key) => (Some(&shape.tags), key),
        Subject::Attribute(_) | Subject::Dataset(_) => return,
    };
    let Some(child) = child else { return };
    query.push(" left join lateral (select c.value from ").push(child.table).push(" c where ");
    query.push(child.join).push(" and c.key = ").push_bind(key.clone());
    if let Some(dataset) = &order.dataset {
        push_measured_on(query, std::slice::from_ref(dataset));
    }
    query.push(if child.has_history { " order by c.timestamp_ms desc, c.step desc limit 1" } else { "" });
    query.push(format!(") o{number} on true"));
}

/// Only points that were measured on one of these data sets.
fn push_measured_on(query: &mut QueryBuilder<Postgres>, datasets: &[DatasetName]) {
    query.push(" and (");
    for (number, dataset) in datasets.iter().enumerate() {
        query.push(if number == 0 { "(true" } else { " or (true" });
        if let Some(name) = &dataset.name {
            query.push(" and c.dataset_name = ").push_bind(name.clone());
        }
        if let Some(digest) = &dataset.digest {
            query.push(" and c.dataset_digest = ").push_bind(digest.clone());
        }
        query.push(")");
    }
    query.push(")");
}

/// Of which project, experiments and life stages.
fn push_scope(query: &mut QueryBuilder<Postgres>, project: &str, search: &Search) {
    query.push(" where it.project = ").push_bind(project.to_owned());
    match search.experiments.as_deref() {
        None => {}
        Some([one]) => drop(query.push(" and it.experiment_id = ").push_bind(*one)),
        Some(several) => {
            query.push(" and it.experiment_id = any(").push_bind(several.to_vec()).push(")");
        }
    }
    match search.lifecycle {
        Lifecycle::Active => drop(query.push(" and it.lifecycle_stage = 'active'")),
        Lifecycle::Deleted => drop(query.push(" and it.lifecycle_stage = 'deleted'")),
        Lifecycle::All | Lifecycle::None => {}
    }
}

fn push_where(query: &mut QueryBuilder<Postgres>, shape: &Shape, project: &str, search: &Search) {
    push_scope(query, project, search);
    for condition in &search.conditions {
        push_condition(query, shape, condition, &search.datasets, "");
    }
    if let (Some(metrics), false) = (&shape.metrics, search.datasets.is_empty()) {
        query.push(" and exists (select 1 from ").push(metrics.table).push(" c where ").push(metrics.join);
        push_measured_on(query, &search.datasets);
        query.push(")");
    }
}

/// Rows behind a place.
fn push_after(
    query: &mut QueryBuilder<Postgres>,
    keys: &[Key],
    after: &[Option<String>],
) -> Result<(), Error> {
    let place: Vec<(&Key, Option<&str>)> = keys.iter().zip(after.iter().map(Option::as_deref)).collect();
    if keys.len() != after.len() || !place.iter().all(|(key, value)| fits(key, *value)) {
        return Err(Error::Unreadable {
            what: "place in a search",
            why: "it is of another search".to_owned(),
        });
    }
    match place.split_first() {
        Some(((first, Some(value)), rest)) if !first.nullable => {
            // Not behind only if level with the first key and not behind in the rest: in this form an index can begin at the place,
            // and Postgres does not guess twice how many rows lie behind it.
            query.push(" and ").push(&first.sql).push(if first.ascending { " >= " } else { " <= " });
            push_value(query, first, value);
            query.push(" and not (");
            push_level(query, first, Some(value));
            query.push(" and not (");
            push_behind_all(query, rest);
            query.push("))");
        }
        _ => {
            query.push(" and (");
            push_behind_all(query, &place);
            query.push(")");
        }
    }
    Ok(())
}

/// Behind in the first key, or level in it and behind in the second, and so on.
fn push_behind_all(query: &mut QueryBuilder<Postgres>, place: &[(&Key, Option<&str>)]) {
    query.push("false");
    for depth in 0..place.len() {
        query.push(" or (");
        for (key, value) in &place[..depth] {
            push_level(query, key, *value);
            query.push(" and ");
        }
        push_behind(query, place[depth].0, place[depth].1);
        query.push(")");
    }
}

/// Whether a value can be one of this key.
fn fits(key: &Key, value: Option<&str>) -> bool {
    match (value, key.sorts_as) {
        (None, _) => key.nullable,
        (Some(value), "bigint") => value.parse::<i64>().is_ok(),
        (Some(value), "integer") => value.parse::<i32>().is_ok(),
        (Some(value), "double precision") => value.parse::<f64>().is_ok(),
        (Some(value), _) => !value.contains('\0'),
    }
}

fn push_value(query: &mut QueryBuilder<Postgres>, key: &Key, value: &str) {
    match key.sorts_as {
        "text" => drop(query.push_bind(value.to_owned())),
        number => drop(query.push_bind(value.to_owned()).push("::text::").push(number)),
    }
}

fn push_level(query: &mut QueryBuilder<Postgres>, key: &Key, value: Option<&str>) {
    query.push(&key.sql);
    match value {
        None => drop(query.push(" is null")),
        Some(value) => {
            query.push(" = ");
            push_value(query, key, value);
        }
    }
}

/// Rows without the key come last, so nothing is behind them.
fn push_behind(query: &mut QueryBuilder<Postgres>, key: &Key, value: Option<&str>) {
    let Some(value) = value else {
        query.push("false");
        return;
    };
    query.push("(").push(&key.sql).push(if key.ascending { " > " } else { " < " });
    push_value(query, key, value);
    if key.nullable {
        query.push(" or ").push(&key.sql).push(" is null");
    }
    query.push(")");
}

fn push_condition(
    query: &mut QueryBuilder<Postgres>,
    shape: &Shape,
    condition: &Condition,
    datasets: &[DatasetName],
    fence: &'static str,
) {
    let Condition { subject, test } = condition;
    query.push(if matches!(test, Test::Absent | Test::Lacks(_)) { " and not " } else { " and " });
    match subject {
        Subject::Attribute(attribute) => push_test(query, attribute.column, test, false),
        Subject::Tag(key) => push_child(query, Some(&shape.tags), Some(key), "c.value", test, &[], fence),
        Subject::Param(key) => {
            push_child(query, shape.params.as_ref(), Some(key), "c.value", test, &[], fence);
        }
        Subject::Metric(key) => {
            push_child(query, shape.metrics.as_ref(), Some(key), "c.value", test, datasets, fence);
        }
        Subject::Dataset(field) => {
            push_child(query, shape.datasets.as_ref(), None, dataset_column(*field), test, &[], fence);
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
    datasets: &[DatasetName],
    fence: &'static str,
) {
    let Some(child) = child else {
        query.push("false");
        return;
    };
    query.push("exists (select 1 from ").push(child.table).push(" c where ").push(child.join);
    if let Some(key) = key {
        query.push(" and c.key = ").push_bind(key.to_owned());
    }
    if !datasets.is_empty() {
        push_measured_on(query, datasets);
    }
    if !matches!(test, Test::Present | Test::Absent) {
        query.push(" and ");
        push_test(query, column, test, key.is_some());
    }
    query.push(fence).push(")");
}

/// `indexed`: the column is indexed by its beginning.
fn push_test(query: &mut QueryBuilder<Postgres>, column: &'static str, test: &Test, indexed: bool) {
    match test {
        Test::Number(comparison, value) => {
            // Postgres orders NaN above every number; to a search it compares with nothing.
            if matches!(comparison, Comparison::Greater | Comparison::GreaterOrEqual) {
                query.push(column).push(" <> 'NaN' and ");
            }
            query.push(column).push(comparison.sql()).push_bind(*value);
        }
        Test::Whole(comparison, value) => {
            query.push(column).push(comparison.sql()).push_bind(*value);
        }
        Test::Text(Comparison::Equal, value) | Test::Lacks(value) => {
            query.push("(").push(column).push(" = ").push_bind(value.clone());
            if indexed {
                push_beginning(query, column, value);
            }
            query.push(")");
        }
        Test::Text(comparison, value) => {
            query.push(column).push(comparison.sql()).push_bind(value.clone());
            if comparison.is_pattern() {
                query.push(" escape ''"); // a back-slash is itself, and cannot break the pattern
            }
        }
        Test::OneOf(values) => drop(query.push(column).push(" = any(").push_bind(values.clone()).push(")")),
        Test::NoneOf(values) => drop(query.push(column).push(" <> all(").push_bind(values.clone()).push(")")),
        Test::Present | Test::Absent => drop(query.push(column).push(" is not null")),
    }
}

/// Says again that the beginnings are equal, which an index can answer.
fn push_beginning(query: &mut QueryBuilder<Postgres>, column: &'static str, value: &str) {
    query.push(" and left(").push(column).push(", ").push(INDEXED_CHARACTERS).push(") = left(");
    query.push_bind(value.to_owned()).push(", ").push(INDEXED_CHARACTERS).push(")");
}
