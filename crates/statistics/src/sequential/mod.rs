//! Tests that may be looked at every hour, and many at once.
//!
//! An e-value is a non-negative number of mean at most 1 under the null: E ≥ 1/α has probability at most α.
//! An e-process keeps that at every moment one may stop (Ville's inequality), so peeking costs nothing.

mod betting;
pub mod detectors;
mod martingale;
mod multiplicity;
mod online;

pub use betting::{Betting, Direction, ECusum};
pub use martingale::ConformalMartingale;
pub use multiplicity::{bh, bh_adjusted, by, e_bh, e_from_p, holm};
pub use online::{Addis, LordPlusPlus, Saffron};
