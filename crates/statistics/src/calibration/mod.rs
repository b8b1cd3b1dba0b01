//! Whether a probability means what it says: among the rows with forecast p, a share p should be events.
//!
//! Belongs here: measures of miscalibration and tests against perfect calibration.
//! Not here: maps that mend it ([`crate::calibrators`]).

mod decomposition;
mod goodness;
mod reliability;
mod smooth;
mod weak;

pub use decomposition::{BrierParts, brier_decomposition};
pub use goodness::{HosmerLemeshow, hosmer_lemeshow};
pub use reliability::{Bin, Binning, NullBand, ace, ece, ece_null_band, mce, reliability};
pub use smooth::{SmoothEce, smooth_ece, smooth_ece_at};
pub use weak::{CalibrationLine, Estimate, Spiegelhalter, in_the_large, slope_and_intercept, spiegelhalter};
