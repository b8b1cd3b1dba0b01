//! The program as a process: everything here starts it, asks it, signals it and ends it by its id. One binary, so that polars
//! and candle are linked once.

mod cli;
mod closing;
mod compose;
mod crashes;
mod faults;
mod features_cli;
mod leading;
mod monitor_cli;
mod predictions;
mod processes;
mod secrets;
mod shop;
mod steady;
mod stopping;
mod support;
mod tls;
mod traces;
