//! What monitors keep of a column instead of its rows: fixed size, one pass, and any window is a merge.
//!
//! A profile of numbers counts them into bins between a reference's quantiles, so the distance to that reference comes from
//! counts alone. A profile of levels counts the common levels by name and the rest together.

mod bytes;
mod column;
mod levels;
mod numbers;

pub use bytes::FORMAT;
pub use column::ColumnProfile;
pub use levels::{Beside, LevelProfile, MOST_LEVELS};
pub use numbers::{Edges, MOST_BINS, NumberProfile};
