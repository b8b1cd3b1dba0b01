//! SQL over experiments, runs, logged models and uploaded artifacts: the tracking half of the registry.
//!
//! A training service records a run of its own with [`ensure_experiment`], [`create_run`], [`log_params`], [`log_metrics`],
//! [`set_tags`] and [`finish_run`]; MLflow's clients reach the same functions over HTTP.

pub mod artifacts;
pub mod experiments;
pub mod logged_models;
mod metrics;
mod run_contents;
pub mod runs;

pub use experiments::ensure as ensure_experiment;
pub use metrics::{
    Metric, PointPlace, RunMetric, log_metric, log_metrics, metric_histories, metric_history,
    sampled_metric_histories,
};
pub use run_contents::{
    Contents, Dataset, DatasetSummary, ModelLink, Role, add_datasets, contents_of, datasets_of, delete_tag,
    link_models, log_params, set_tags, tag_of,
};
pub use runs::{create as create_run, end_tagged as end_runs_tagged, finish as finish_run};

/// A key and its value.
pub type Pair = (String, String);

/// Values by key, as `jsonb_object_agg` gives them.
pub(crate) type Tags = std::collections::BTreeMap<String, String>;

/// Pairs by key; none if nothing was aggregated.
pub(crate) fn pairs(tags: Option<sqlx::types::Json<Tags>>) -> Vec<Pair> {
    tags.map(|tags| tags.0.into_iter().collect()).unwrap_or_default()
}

/// Keys and values apart, as `unnest` wants them. Of a key that is given twice the last value stays.
pub(crate) fn columns(pairs: &[Pair]) -> (Vec<String>, Vec<String>) {
    pairs.iter().cloned().collect::<std::collections::BTreeMap<_, _>>().into_iter().unzip()
}
