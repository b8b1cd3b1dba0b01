//! References between definitions: every name must lead somewhere, and what it leads to must fit.

use super::objects::{Aggregate, Object, Shape};
use super::{
    Action, Dataset, DefinitionError, Definitions, FeatureView, Invalid, Located, Model, Schedule, Source,
    ValueType, window_feature,
};
use crate::expression::{Expression, Type, type_of};
use crate::timetable::Timetable;
use crate::words::did_you_mean;

/// Refuses definitions that refer to nothing, or to something that does not fit.
///
/// # Errors
/// [`Invalid`] with everything that is wrong.
pub fn check(definitions: &Definitions) -> Result<(), Invalid> {
    let errors: Vec<DefinitionError> = definitions
        .objects()
        .flat_map(|located| misfits(definitions, located).into_iter().map(|message| at(located, &message)))
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(Invalid(errors)) }
}

fn at(located: &Located, message: &str) -> DefinitionError {
    let (kind, name) = (located.object.kind(), located.object.name());
    DefinitionError {
        file: located.file.clone(),
        line: located.line,
        message: format!("{kind} `{name}`: {message}"),
    }
}

fn misfits(all: &Definitions, located: &Located) -> Vec<String> {
    let refer = |kind: &str, name: &str| reference(all, kind, name);
    match &located.object {
        Object::Entity(entity) if entity.keys.is_empty() => vec!["it needs at least one key".to_owned()],
        Object::Entity(_) => vec![],
        Object::Channel(channel) => channel.misfits(),
        Object::Source(source) => check_source(source),
        Object::FeatureView(view) => check_view(all, view),
        Object::EventStream(stream) => match all.feature_view(&stream.view) {
            Some(view) if view.shape() == Shape::LastK => vec![],
            Some(_) => vec![format!("view `{}` has no `last_k`", stream.view)],
            None => refer("feature_view", &stream.view),
        },
        Object::Dataset(dataset) => check_dataset(all, dataset),
        Object::Model(model) => check_model(all, model),
        Object::Monitor(monitor) => {
            let retrain = monitor.on_incident.iter().flat_map(|action| refer("model", &action.retrain));
            let channels = monitor.channels.iter().flat_map(|name| refer("channel", name));
            channels.chain(retrain).chain(monitor.misfits()).collect()
        }
        Object::Gate(gate) if gate.elsewhere => vec![],
        Object::Gate(gate) => registered(all, &gate.model),
        Object::Schedule(schedule) => check_schedule(all, schedule),
    }
}

fn check_model(all: &Definitions, model: &Model) -> Vec<String> {
    let mut said = reference(all, "dataset", &model.dataset);
    let history = all.dataset(&model.dataset).map(|dataset| dataset.history.is_some());
    if model.kind.reads_histories() && history == Some(false) {
        said.push(format!(
            "kind `{}` reads histories, and dataset `{}` names no `history`; name an event stream there",
            model.kind, model.dataset
        ));
    }
    said.extend(model.misfits());
    said
}

fn check_schedule(all: &Definitions, schedule: &Schedule) -> Vec<String> {
    let missing = match &schedule.action {
        Action::Train(model) => reference(all, "model", model),
        Action::Monitor(monitor) => reference(all, "monitor", monitor),
        Action::Materialize(view) => reference(all, "feature_view", view),
        Action::Retain(view) => match all.feature_view(view) {
            Some(declared) if declared.retention.is_none() => {
                vec![format!("feature view `{view}` has no `retention`, so nothing of it would ever go")]
            }
            _ => reference(all, "feature_view", view),
        },
        Action::Backup(backup) => backup.misfits(),
        Action::Collect(_) => vec![],
    };
    let unreadable = Timetable::of("", schedule).err().map(|error| error.to_string());
    missing.into_iter().chain(schedule.misfits()).chain(unreadable).collect()
}

fn reference(all: &Definitions, kind: &str, name: &str) -> Vec<String> {
    let names = all.names(kind);
    if names.contains(&name) {
        return vec![];
    }
    vec![format!("there is no {kind} `{name}`{}", did_you_mean(name, names))]
}

fn registered(all: &Definitions, name: &str) -> Vec<String> {
    let models = all.names("model").into_iter().filter_map(|model| all.model(model));
    let mut known: Vec<&str> = models.map(|model| model.registered_model.as_str()).collect();
    known.dedup();
    if known.contains(&name) {
        return vec![];
    }
    let hint = "write `elsewhere = true` if it is trained elsewhere";
    vec![format!("no model registers as `{name}`{}; {hint}", did_you_mean(name, known))]
}

fn check_source(source: &Source) -> Vec<String> {
    let is_time = |column: &String| match source.columns.get(column) {
        Some(ValueType::Time) => None,
        Some(other) => Some(format!("`{column}` must be a time, it is declared as {other}")),
        None => Some(unknown_column(column, source)),
    };
    let times = [&source.event_time, &source.known_time].into_iter().filter_map(is_time);
    let derived = source.derive.iter().filter_map(|(column, expression)| match source.columns.get(column) {
        None => Some(format!("it derives `{column}`, which is not among its columns")),
        Some(_) => expression.parse::<Expression>().err().map(|error| error.to_string()),
    });
    let filter =
        source.filter.iter().filter_map(|text| text.parse::<Expression>().err()).map(|e| e.to_string());
    times.chain(derived).chain(filter).chain(check_query(source)).collect()
}

/// What is wrong with a source's query, as far as its text says.
fn check_query(source: &Source) -> Vec<String> {
    let Some(query) = &source.query else { return vec![] };
    let sql = query.sql.trim().to_ascii_lowercase();
    let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let reads = ["select", "with", "values", "table"].iter().any(|word| {
        sql.strip_prefix(word)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    });
    let faults = [
        (source.path.is_some(), "give `path` or `query`, not both"),
        (
            source.filter.is_some() || !source.derive.is_empty() || source.time_zone.is_some(),
            "`where`, `derive` and `time_zone` are for files; a query says in SQL what it takes, computes and when that was",
        ),
        (
            query.connection.is_empty() || !query.connection.chars().all(named),
            "`connection` is a name of lower-case letters, digits and `_`; the address and its password belong to the settings, \
             under `connections` in foretime.toml or in FORETIME_CONNECTIONS__NAME",
        ),
        (!reads, "`sql` must read: it begins with `select`, `with`, `values` or `table`"),
        (sql.contains(';'), "`sql` is one statement, without `;`"),
    ];
    faults.into_iter().filter(|(wrong, _)| *wrong).map(|(_, why)| why.to_owned()).collect()
}

fn unknown_column(column: &str, source: &Source) -> String {
    let known = source.columns.keys().map(String::as_str);
    format!("source `{}` has no column `{column}`{}", source.name, did_you_mean(column, known))
}

fn check_view(all: &Definitions, view: &FeatureView) -> Vec<String> {
    let (Some(entity), Some(source)) = (all.entity(&view.entity), all.source(&view.source)) else {
        let missing = reference(all, "entity", &view.entity).into_iter();
        return missing.chain(reference(all, "source", &view.source)).collect();
    };
    let mut said = Vec::new();
    let shapes =
        [!view.features.is_empty(), !view.windows.is_empty(), view.last_k.is_some(), !view.log.is_empty()];
    if shapes.iter().filter(|given| **given).count() != 1 {
        said.push("give exactly one of `features`, `windows`, `last_k` and `log`".to_owned());
    }
    let named = entity.keys.iter().cloned().chain(view.columns());
    said.extend(
        named.filter(|name| !source.columns.contains_key(name)).map(|name| unknown_column(&name, source)),
    );
    said.extend(view.aliases.iter().filter(|(_, column)| !view.features.contains(column)).map(
        |(alias, column)| format!("alias `{alias}` stands for `{column}`, which is not among its features"),
    ));
    said.extend(
        view.aliases.keys().filter(|alias| view.features.contains(alias)).map(|alias| {
            format!("`{alias}` is a feature itself and cannot be an alias; drop one of the two")
        }),
    );
    for (key, kind) in typed(source, &entity.keys) {
        if !matches!(kind, ValueType::Text | ValueType::Integer) {
            said.push(format!("key `{key}` is declared as {kind}; keys are texts or integers"));
        }
    }
    let events = view.last_k.as_ref().map(|last| last.columns.as_slice()).unwrap_or_default();
    for (column, _) in typed(source, events).filter(|(_, kind)| matches!(kind, ValueType::Vector(_))) {
        said.push(format!("`{column}` is a vector, which no event of a sequence can hold"));
    }
    for window in &view.windows {
        let without = |aggregate: &Aggregate| matches!(aggregate, Aggregate::Count | Aggregate::Age);
        if window.column.is_none() && !window.aggregates.iter().all(without) {
            said.push("a window without a `column` can only `count` and tell the `age`".to_owned());
        }
        let kind = window.column.as_ref().and_then(|name| source.columns.get(name));
        let reckons = window.aggregates.iter().find(|aggregate| aggregate.needs_numbers());
        if let (Some(column), Some(kind), Some(aggregate)) = (&window.column, kind, reckons)
            && !kind.is_numeric()
        {
            said.push(format!(
                "`{column}` is declared as {kind}, which has no `{aggregate}`; of what is no number a window can tell \
                 `count` and `approx_distinct`"
            ));
        }
    }
    said
}

fn typed<'a>(source: &'a Source, names: &'a [String]) -> impl Iterator<Item = (&'a String, ValueType)> {
    names.iter().filter_map(|name| Some((name, *source.columns.get(name)?)))
}

impl FeatureView {
    /// The features it gives, with their types, in order.
    pub fn outputs(&self, source: &Source) -> Vec<(String, ValueType)> {
        let typed =
            |name: &String| (name.clone(), source.columns.get(name).copied().unwrap_or(ValueType::Number));
        match self.shape() {
            Shape::Windows => self.window_outputs(),
            Shape::Latest => self.features.iter().map(typed).collect(),
            Shape::LastK | Shape::Log => vec![],
        }
    }

    fn window_outputs(&self) -> Vec<(String, ValueType)> {
        let mut outputs = Vec::new();
        for window in &self.windows {
            for over in &window.over {
                for aggregate in &window.aggregates {
                    let name = window_feature(window.column.as_deref(), *aggregate, *over);
                    outputs.push((name, ValueType::Number));
                }
            }
        }
        outputs
    }
}

fn check_dataset(all: &Definitions, dataset: &Dataset) -> Vec<String> {
    let mut said: Vec<String> =
        dataset.views.iter().flat_map(|name| reference(all, "feature_view", name)).collect();
    said.extend(dataset.history.iter().flat_map(|name| reference(all, "event_stream", name)));
    said.extend(check_spine(all, dataset));
    if dataset.split.train_until >= dataset.split.validation_until {
        said.push("the split's `train_until` must come before its `validation_until`".to_owned());
    }
    if !said.is_empty() {
        return said;
    }
    let columns = dataset_columns(all, dataset);
    let expect = |text: &str, wanted: Option<Type>| match type_in(text, &columns) {
        Err(message) => Some(message),
        Ok(found) if wanted.is_some_and(|wanted| wanted != found) => {
            Some(format!("`{text}` must be true or false"))
        }
        Ok(Type::Time | Type::Duration) => {
            Some(format!("`{text}` is a time; make it a number with minutes_between(…)"))
        }
        Ok(_) => None,
    };
    said.extend(expect(&dataset.label, Some(Type::Boolean)));
    said.extend(dataset.spine.filter.iter().filter_map(|text| expect(text, Some(Type::Boolean))));
    said.extend(dataset.features.values().filter_map(|text| expect(text, None)));
    for name in &dataset.views {
        said.extend(check_join(all, dataset, name));
    }
    said
}

fn check_spine(all: &Definitions, dataset: &Dataset) -> Vec<String> {
    let spine = &dataset.spine;
    let (found, name) = match (&spine.view, &spine.source) {
        (Some(view), None) if spine.keys.is_empty() => return reference(all, "feature_view", view),
        (Some(view), None) => {
            return vec![format!("the keys of spine `{view}` are those of its entity; drop `keys`")];
        }
        (None, Some(source)) => (all.source(source), source),
        _ => return vec!["give its spine exactly one of `view` and `source`".to_owned()],
    };
    let Some(source) = found else { return reference(all, "source", name) };
    let mut said: Vec<String> = spine
        .keys
        .iter()
        .filter(|key| !source.columns.contains_key(*key))
        .map(|key| unknown_column(key, source))
        .collect();
    if spine.keys.is_empty() {
        said.push("a spine of a `source` needs `keys`: the columns that name a row".to_owned());
    }
    said.extend(match (&source.path, &source.query) {
        (None, None) => Some(format!("source `{name}` has neither files nor a query, so no spine can be read from it")),
        (Some(path), _) if !is_below(path) => Some(format!(
            "source `{name}` has files at `{path}`; those of a spine are named relative to the server's folder for them \
             (`offline.files`), without `..`, or as `s3://bucket/key`"
        )),
        _ => None,
    });
    said
}

/// Whether a path can only lead below the folder that it starts in, or to an object store.
fn is_below(path: &str) -> bool {
    path.starts_with("s3://")
        || (!path.contains("://") && !path.starts_with('/') && path.split('/').all(|part| part != ".."))
}

fn check_join(all: &Definitions, dataset: &Dataset, name: &str) -> Vec<String> {
    let Some(view) = all.feature_view(name) else { return vec![] };
    let mut said = Vec::new();
    if matches!(view.shape(), Shape::LastK | Shape::Log) {
        said.push(format!("view `{name}` has no features to join; use `history` for sequences"));
    }
    let spine = spine_columns(all, dataset);
    let keys = all.entity(&view.entity).map(|entity| entity.keys.clone()).unwrap_or_default();
    for key in keys.iter().filter(|key| !spine.iter().any(|(known, _)| known == *key)) {
        said.push(format!(
            "view `{name}` is joined by `{key}`, which spine `{}` does not hold",
            dataset.spine.name()
        ));
    }
    said
}

fn type_in(text: &str, columns: &[(String, ValueType)]) -> Result<Type, String> {
    let expression: Expression =
        text.parse().map_err(|error: crate::expression::ExpressionError| error.to_string())?;
    type_of(text, &expression, columns).map_err(|error| error.to_string())
}

/// The columns of a dataset's spine, without its times: keys and kept columns of a view, all columns of a source.
pub fn spine_columns(all: &Definitions, dataset: &Dataset) -> Vec<(String, ValueType)> {
    if let Some(source) = dataset.spine.source.as_ref().and_then(|name| all.source(name)) {
        let is_time = |name: &String| *name == source.event_time || *name == source.known_time;
        let columns = source.columns.iter().filter(|(name, _)| !is_time(name));
        return columns.map(|(name, kind)| (name.clone(), *kind)).collect();
    }
    let Some(view) = all.feature_view(dataset.spine.name()) else { return vec![] };
    let keys = all.entity(&view.entity).map(|entity| entity.keys.clone()).unwrap_or_default();
    let Some(source) = all.source(&view.source) else { return vec![] };
    let mut columns: Vec<(String, ValueType)> = Vec::new();
    for name in keys.into_iter().chain(view.columns()) {
        if let Some(kind) = source.columns.get(&name) {
            columns.push((name, *kind));
        }
    }
    columns
}

/// Everything that a dataset's expressions may read: the spine's columns, `event_time`, `cutoff` and joined features.
pub fn dataset_columns(all: &Definitions, dataset: &Dataset) -> Vec<(String, ValueType)> {
    let mut columns = spine_columns(all, dataset);
    columns.push(("event_time".to_owned(), ValueType::Time));
    columns.push(("cutoff".to_owned(), ValueType::Time));
    for name in &dataset.views {
        let Some(view) = all.feature_view(name) else { continue };
        let Some(source) = all.source(&view.source) else { continue };
        let joined =
            view.outputs(source).into_iter().map(|(feature, kind)| (format!("{name}__{feature}"), kind));
        columns.extend(joined);
    }
    columns
}
