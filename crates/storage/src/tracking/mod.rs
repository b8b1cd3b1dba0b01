//! SQL over experiments, runs, logged models and uploaded artifacts: the tracking half of the registry.
//!
//! A training service records a run of its own with [`ensure_experiment`], [`create_run`], [`log_params`], [`log_metrics`],
//! [`set_tags`] and [`finish_run`]; MLflow's clients reach the same functions over HTTP.

pub mod artifacts;
pub mod experiments;
pub mod logged_models;
mod run_contents;
pub mod runs;

pub use experiments::ensure as ensure_experiment;
pub use run_contents::{
    Dataset, Metric, ModelLink, Role, add_datasets, delete_tag, link_models, log_metrics, log_params,
    metric_history, set_tags,
};
pub use runs::{create as create_run, finish as finish_run};

/// A key and its value.
pub type Pair = (String, String);

/// Keys and values apart, as `unnest` wants them. Of a key that is given twice the last value stays.
fn columns(pairs: &[Pair]) -> (Vec<String>, Vec<String>) {
    pairs.iter().cloned().collect::<std::collections::BTreeMap<_, _>>().into_iter().unzip()
}
