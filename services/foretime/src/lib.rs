//! The one binary: runs the services together or alone, and is the command line of them all.
//!
//! Belongs here: composition (`up`), commands, the demo. Not here: anything a service does.
//!
//! Invariants: this is the only crate that knows more than one service; commands talk to a running Foretime over HTTP.

mod backtest;
pub mod backup;
pub mod cli;
mod client;
mod dataset;
pub mod demo;
mod doctor;
mod failure;
mod features;
pub mod garbage;
mod gpt;
mod jobs;
mod loops;
pub mod metrics;
mod monitor;
mod operations;
mod registry;
pub mod report;
mod scaling;
mod schedules;
mod tokens;
pub mod up;
mod watch;

pub use client::{Client, definition_files};
pub use failure::Failure;
