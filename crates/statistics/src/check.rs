//! The refusals every estimator shares.

use crate::Error;

pub(crate) fn same_length(left: usize, right: usize) -> Result<(), Error> {
    if left == right { Ok(()) } else { Err(Error::LengthMismatch { left, right }) }
}

pub(crate) fn at_least(needed: usize, found: usize, what: &'static str) -> Result<(), Error> {
    if found >= needed { Ok(()) } else { Err(Error::TooFew { what, needed, found }) }
}

pub(crate) fn all(
    values: &[f64],
    what: &'static str,
    domain: &'static str,
    holds: impl Fn(f64) -> bool,
) -> Result<(), Error> {
    match values.iter().find(|&&value| !holds(value)) {
        Some(&value) => Err(Error::OutOfDomain { what, value, domain }),
        None => Ok(()),
    }
}

pub(crate) fn no_nan(values: &[f64], what: &'static str) -> Result<(), Error> {
    all(values, what, "a number", |value| !value.is_nan())
}

pub(crate) fn finite(values: &[f64], what: &'static str) -> Result<(), Error> {
    all(values, what, "finite", f64::is_finite)
}

pub(crate) fn inside(value: f64, what: &'static str, domain: &'static str, holds: bool) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::OutOfDomain { what, value, domain }) }
}

/// Two (effective) sample sizes.
pub(crate) fn sizes(reference: f64, current: f64) -> Result<(), Error> {
    all(&[reference, current], "sample sizes", "positive and finite", |size| size > 0.0 && size.is_finite())
}

/// One probability a label, at least one, each in [0, 1].
pub(crate) fn forecasts(probabilities: &[f64], labels: &[bool]) -> Result<(), Error> {
    same_length(probabilities.len(), labels.len())?;
    at_least(1, labels.len(), "rows")?;
    all(probabilities, "probabilities", "in [0, 1]", |p| (0.0..=1.0).contains(&p))
}

/// The numbers of true and of false labels, both at least one.
pub(crate) fn both_classes(labels: &[bool]) -> Result<(usize, usize), Error> {
    let positives = labels.iter().filter(|&&label| label).count();
    if positives == 0 || positives == labels.len() {
        return Err(Error::OneClass);
    }
    Ok((positives, labels.len() - positives))
}
