//! Detectors that read a stream one value at a time and say when its law has changed.
//!
//! They start anew by themselves after a change. All but [`Cusum`] were made for independent values: a series whose
//! neighbours resemble each other makes them cry wolf, so monitors here use e-processes on windows instead
//! ([`super::Betting`]). A value that is not finite is refused and changes nothing.

mod adwin;
mod cusum;
mod errors;
mod hoeffding;
mod kswin;
mod page_hinkley;

pub use adwin::Adwin;
pub use cusum::Cusum;
pub use errors::{Ddm, Eddm};
pub use hoeffding::{HddmA, HddmW};
pub use kswin::Kswin;
pub use page_hinkley::PageHinkley;

/// What a detector says after a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Nothing has changed.
    Stable,
    /// Something may be changing.
    Warning,
    /// The law has changed.
    Drift,
}

/// A running mean (Welford's) with its count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Mean {
    count: f64,
    value: f64,
}

impl Mean {
    fn add(&mut self, x: f64) {
        self.count += 1.0;
        self.value += (x - self.value) / self.count;
    }
}
