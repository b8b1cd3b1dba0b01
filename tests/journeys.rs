//! Everything that needs a database or several services: one binary, so that polars and candle are linked once.

mod architecture;
mod bad_input;
mod dashboards;
mod delivery;
mod demo;
mod feature_store;
mod governance;
mod jobs;
mod mlflow_client;
mod monitor;
mod registry;
