//! What every service shares on the outside: its context, configuration, telemetry, HTTP surface, problems and job loop.
//!
//! Belongs here: running a service, and what several must do in one way (judging, reading online rows). Not here: what
//! any one service does, SQL (`storage`), files (`frames`).
//!
//! Invariants: a service gets everything it may use from its [`Context`]; errors become HTTP in [`Problem`] and are logged
//! there, once; a job's lease is held and extended here, so that handlers only do the work.

pub mod auth;
pub mod catalogue;
pub mod config;
pub mod context;
pub mod http;
pub mod jobs;
pub mod judging;
pub mod metrics;
pub mod online;
pub mod openapi;
pub mod passwords;
mod patience;
pub mod problem;
pub mod provenance;
pub mod receivers;
pub mod shutdown;
pub mod telemetry;
mod tls;
mod traces;

pub use config::Config;
pub use context::Context;
pub use problem::{JsonBody, Problem, WholeBody};
