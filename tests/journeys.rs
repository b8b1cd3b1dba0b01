//! Everything that needs a database or several services: one binary, so that polars and candle are linked once.

mod architecture;
mod artifacts;
mod bad_input;
mod dashboards;
mod delivery;
mod demo;
mod feature_store;
mod feature_store_erase;
mod feature_store_feast;
mod feature_store_parity;
mod feature_store_types;
mod feature_store_versions;
mod governance;
mod housing;
mod jobs;
mod mlflow_client;
mod monitor;
mod monitor_profiles;
mod monitor_schedules;
mod monitor_told;
mod object_store;
mod offline_store;
mod openapi;
mod registry;
mod registry_rooms;
mod watched;
