//! Columns: Arrow and Parquet files, the point-in-time joins, trailing windows, expressions, and what a model gets of them.
//!
//! Belongs here: everything that touches a column of data. Not here: which data (`domain`), where it is listed (`storage`),
//! what is learned from it (`gpt`, `boosting`, `statistics`).
//!
//! Invariants: only this crate names polars, arrow and parquet; its interface speaks [`Frame`], domain types and bytes. It
//! reads no clock. A file is written under a temporary name, synced and renamed, so that it is whole or absent. Offline and
//! online features come from the same kernels.

pub mod as_of;
pub mod assemble;
pub mod column_file;
mod contest;
pub mod describe;
mod error;
pub mod evaluate;
pub mod exact;
pub mod files;
mod frame;
mod framing;
pub mod groups;
pub mod history;
pub mod judged;
mod key_index;
pub mod keys;
mod moments;
pub mod objects;
pub mod online;
pub mod parts;
pub mod payload;
mod place;
pub mod plain_join;
pub mod redact;
pub mod rows;
mod scan;
pub mod served;
pub mod source_file;
pub mod spool;
pub mod store;
pub mod training_set;
pub mod view;
pub mod windows;
pub mod wire;

pub use chrono_tz::Tz;
pub use error::Error;
pub use frame::{Frame, NO_INTEGER, NOT_A_NUMBER, Values};
