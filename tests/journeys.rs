//! Everything that needs a database or several services: one binary, so that polars and candle are linked once.

mod bad_input;
mod demo;
mod feature_store;
mod jobs;
mod monitor;
