//! Estimators and tests on plain numbers: ranking, scoring, calibration, drift, sequential tests, resampling.
//!
//! Belongs here: mathematics, slices in, a value out. Not here: frames or files (`frames`), which verdict a
//! number leads to (`domain`, `monitor`), model training (`boosting`, `gpt`).
//!
//! Invariants: no I/O, no async, no clock. No random generator of its own: what simulates takes a
//! [`Generator`] that the caller seeded. Every function is total: constants, ties, ±∞ and empty slices give a
//! number or an [`Error`], never a panic and never a NaN. A label is a `bool` (true: the event happened), a
//! probability lies in [0, 1], a missing value is the caller's to separate: NaN is refused.

pub mod calibration;
pub mod calibrators;
mod check;
pub mod conformal;
pub mod distributions;
pub mod drift;
mod error;
pub mod estimated;
mod interval;
mod linear;
mod logistic;
pub mod profile;
pub mod random;
pub mod ranking;
pub mod resampling;
pub mod ridge;
pub mod rule;
pub mod scoring;
pub mod segments;
pub mod sequential;
pub mod shift;
pub mod spans;
mod venn_abers;

pub use error::Error;
pub use interval::{Interval, wilson};
pub use random::Generator;
pub use venn_abers::{Multiprobability, VennAbers};
