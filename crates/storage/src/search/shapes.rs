//! What can be searched, and in which columns.

use super::{Attribute, Kind};

/// Key and value rows that belong to a searched row.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) table: &'static str,
    pub(super) join: &'static str,
    /// Several rows a key may belong to one searched row; the latest counts.
    pub(super) has_history: bool,
}

/// A key that orders rows when the user's keys leave a tie.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) column: &'static str,
    pub(super) sorts_as: &'static str,
    pub(super) ascending: bool,
}

/// What can be searched: a table, its attributes and its key-value children.
#[derive(Debug)]
pub struct Shape {
    /// What a search may name.
    pub attributes: &'static [Attribute],
    pub(super) table: &'static str,
    pub(super) key: &'static str,
    /// The last of these is unique together with those before it.
    pub(super) tail: &'static [Tail],
    /// Whether an index holds the rows of an experiment in that order.
    pub(super) walks: bool,
    pub(super) tags: Child,
    pub(super) params: Option<Child>,
    pub(super) metrics: Option<Child>,
    pub(super) datasets: Option<Child>,
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

const fn text(name: &'static str, column: &'static str) -> Attribute {
    Attribute {
        name,
        kind: Kind::Text,
        filters: true,
        column,
        sorts_by: column,
        sorts_as: "text",
        nullable: false,
    }
}

const fn listed(name: &'static str, column: &'static str) -> Attribute {
    Attribute { kind: Kind::ListedText, ..text(name, column) }
}

const fn number(name: &'static str, column: &'static str) -> Attribute {
    Attribute { kind: Kind::Number, sorts_as: "bigint", ..text(name, column) }
}

const fn order_only(name: &'static str, column: &'static str) -> Attribute {
    Attribute { filters: false, ..number(name, column) }
}

const fn optional_listed(name: &'static str, column: &'static str) -> Attribute {
    Attribute { nullable: true, ..listed(name, column) }
}

const fn optional_number(name: &'static str, column: &'static str) -> Attribute {
    Attribute { nullable: true, ..number(name, column) }
}

const fn ascending(column: &'static str, sorts_as: &'static str) -> Tail {
    Tail { column, sorts_as, ascending: true }
}

const fn descending(column: &'static str) -> Tail {
    Tail { column, sorts_as: "bigint", ascending: false }
}

const fn of_run(table: &'static str) -> Child {
    Child { table, join: "c.project = it.project and c.run_id = it.run_id", has_history: false }
}

const fn of_logged_model(table: &'static str) -> Child {
    Child { table, join: "c.project = it.project and c.model_id = it.model_id", has_history: false }
}

/// Runs.
pub static RUNS: Shape = Shape {
    table: "runs",
    key: "it.run_id",
    tail: &[descending("it.start_ms"), ascending("it.run_id", "text")],
    walks: true,
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
        optional_number("end_time", "it.end_ms"),
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
    tail: &[descending("it.created_ms"), ascending("it.experiment_id", "bigint")],
    walks: false,
    attributes: &[
        text("name", "it.name"),
        Attribute {
            sorts_by: "it.experiment_id",
            sorts_as: "bigint",
            ..listed("experiment_id", "it.experiment_id::text")
        },
        number("creation_time", "it.created_ms"),
        number("last_update_time", "it.updated_ms"),
    ],
    tags: Child {
        table: "experiment_tags",
        join: "c.project = it.project and c.experiment_id = it.experiment_id",
        has_history: false,
    },
    params: None,
    metrics: None,
    datasets: None,
};

/// Registered models.
pub static MODELS: Shape = Shape {
    table: "registered_models",
    key: "it.name",
    tail: &[ascending("it.name", "text")],
    walks: false,
    attributes: &[
        listed("name", "it.name"),
        order_only("creation_timestamp", "it.created_ms"),
        order_only("last_updated_timestamp", "it.updated_ms"),
        order_only("timestamp", "it.updated_ms"),
    ],
    tags: Child {
        table: "registered_model_tags",
        join: "c.project = it.project and c.model = it.name",
        has_history: false,
    },
    params: None,
    metrics: None,
    datasets: None,
};

/// Model versions.
pub static VERSIONS: Shape = Shape {
    table: "model_versions",
    key: "it.version || '/' || it.model",
    tail: &[ascending("it.model", "text"), descending("it.version")],
    walks: false,
    attributes: &[
        listed("name", "it.model"),
        optional_listed("run_id", "it.run_id"),
        text("source_path", "it.source"),
        number("version_number", "it.version"),
        number("creation_timestamp", "it.created_ms"),
        number("last_updated_timestamp", "it.updated_ms"),
    ],
    tags: Child {
        table: "model_version_tags",
        join: "c.project = it.project and c.model = it.model and c.version = it.version",
        has_history: false,
    },
    params: None,
    metrics: None,
    datasets: None,
};

/// Logged models.
pub static LOGGED_MODELS: Shape = Shape {
    table: "logged_models",
    key: "it.model_id",
    tail: &[descending("it.created_ms"), ascending("it.model_id", "text")],
    walks: false,
    attributes: &[
        listed("name", "it.name"),
        listed("model_id", "it.model_id"),
        listed("model_type", "it.model_type"),
        listed("status", "it.status"),
        optional_listed("source_run_id", "it.source_run_id"),
        number("creation_timestamp", "it.created_ms"),
        number("creation_time", "it.created_ms"),
        number("last_updated_timestamp", "it.updated_ms"),
    ],
    tags: of_logged_model("logged_model_tags"),
    params: Some(of_logged_model("logged_model_params")),
    metrics: Some(Child { has_history: true, ..of_logged_model("logged_model_metrics") }),
    datasets: None,
};
