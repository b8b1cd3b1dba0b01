//! What can be wrong with the numbers handed in.

/// Why a statistic has no value for this input.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Insufficient data.
    #[error("{found} {what} given where at least {needed} are needed")]
    TooFew {
        /// What is counted.
        what: &'static str,
        /// The least number that gives an answer.
        needed: usize,
        /// The number given.
        found: usize,
    },
    /// Slices that belong together have different lengths.
    #[error("the lengths {left} and {right} differ")]
    LengthMismatch {
        /// The length of the first slice.
        left: usize,
        /// The length of the second slice.
        right: usize,
    },
    /// A value for which the statistic is not defined, such as NaN.
    #[error("{what} must be {domain}, but one is {value}")]
    OutOfDomain {
        /// What the value is.
        what: &'static str,
        /// The first offending value.
        value: f64,
        /// What would be allowed.
        domain: &'static str,
    },
    /// All labels are true, or all are false.
    #[error("all labels are of one class")]
    OneClass,
    /// A metric gave no value where one is needed.
    #[error("{what} has no value on these rows")]
    Undefined {
        /// What has no value.
        what: &'static str,
    },
    /// All values are equal where the statistic needs them to differ.
    #[error("the {what} do not vary")]
    Constant {
        /// What is constant.
        what: &'static str,
    },
    /// The likelihood grows without bound, so no finite estimate exists.
    #[error("the classes are separated perfectly: there is no finite {what}")]
    Separated {
        /// What would be estimated.
        what: &'static str,
    },
}
