//! Whether a probability means what it says: among the rows with forecast p, a share p should be events.
//!
//! Belongs here: measures of miscalibration and tests against perfect calibration.
//! Not here: maps that mend it ([`crate::calibrators`]).

mod reliability;
mod weak;

pub use reliability::{Bin, Binning, NullBand, ece, ece_null_band, reliability};
pub use weak::{CalibrationLine, Estimate, Spiegelhalter, in_the_large, slope_and_intercept, spiegelhalter};
