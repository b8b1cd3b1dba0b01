//! The words of the product: ids, times, definitions, models, jobs, incidents, and the rules that hold between them.
//!
//! Belongs here: types every service agrees on, and decisions that need no I/O.
//! Not here: SQL (`storage`), HTTP (`service-kit`), columns on disk (`frames`), tensors (`gpt`), estimators (`statistics`).
//!
//! Invariants: no I/O, no async, no clock but the one handed in, no random generator of its own.

pub mod clock;
pub mod definitions;
pub mod evaluation;
pub mod expression;
pub mod fault;
pub mod gate;
pub mod ids;
pub mod incident;
pub mod online;
pub mod reading;
pub mod silence;
pub mod split;
pub mod tabular;
pub mod time;
pub mod timetable;
pub mod words;

pub use clock::{Clock, ManualClock, SystemClock};
pub use fault::{Fault, Remedy};
pub use time::{AsOf, Cutoff, EventTime, Horizon, KnownTime, LabelTime};
