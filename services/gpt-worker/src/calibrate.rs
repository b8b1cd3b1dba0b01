//! Calibration: fitted on the earlier half of the validation window, kept only if the later half says that it helps.

use domain::definitions::CalibratorKind;
use domain::evaluation::CalibratorChoice;
use statistics::calibrators::{Calibrator, Method};
use statistics::scoring::log_loss;

use crate::Error;

/// Fits `kind` on the first rows and asks the later ones whether it helps.
///
/// # Errors
/// [`Error::Statistics`] if the windows are empty.
pub(crate) fn choose(
    kind: CalibratorKind,
    fitting: (&[f64], &[bool]),
    judging: (&[f64], &[bool]),
) -> Result<(Calibrator, CalibratorChoice), Error> {
    let (method, name) = match kind {
        CalibratorKind::Identity => (Method::Identity, "identity"),
        CalibratorKind::Temperature => (Method::Temperature, "temperature"),
        CalibratorKind::Platt => (Method::Platt, "platt"),
        CalibratorKind::Isotonic => (Method::Isotonic, "isotonic"),
        CalibratorKind::Beta => (Method::Beta, "beta"),
    };
    let fitted = Calibrator::fit(method, fitting.0, fitting.1)?;
    let with: Vec<f64> = judging.0.iter().map(|p| fitted.apply(*p)).collect();
    let choice = CalibratorChoice {
        kind: name.to_owned(),
        log_loss_without: log_loss(judging.0, judging.1)?,
        log_loss_with: log_loss(&with, judging.1)?,
        kept: false,
    };
    let kept = choice.log_loss_with < choice.log_loss_without;
    let chosen = if kept { fitted } else { Calibrator::Identity };
    Ok((chosen, CalibratorChoice { kept, ..choice }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows whose outcome comes true with probability `truth` and that were promised `said`.
    fn rows(said: f64, truth: f64) -> (Vec<f64>, Vec<bool>) {
        let labels = (0..100).map(|row| f64::from(row) < truth * 100.0).collect();
        let said = (0..100).map(|row| said + f64::from(row % 10) * 1e-3).collect();
        (said, labels)
    }

    #[test]
    fn a_calibrator_that_helps_later_is_kept() {
        let (p, y) = rows(0.4, 0.2);
        let (_, choice) = choose(CalibratorKind::Platt, (&p, &y), (&p, &y)).unwrap();
        assert!(choice.kept, "{choice:?}");
    }

    #[test]
    fn a_calibrator_that_the_later_window_contradicts_is_refused() {
        let (p, y) = rows(0.4, 0.2);
        let (later_p, later_y) = rows(0.4, 0.5);
        let (calibrator, choice) = choose(CalibratorKind::Platt, (&p, &y), (&later_p, &later_y)).unwrap();
        assert!(!choice.kept && calibrator == Calibrator::Identity, "{choice:?}");
    }
}
