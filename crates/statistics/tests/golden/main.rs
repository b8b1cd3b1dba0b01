//! The numbers of scipy, scikit-learn, netcal, statsmodels, calzone, betacal, feature-engine, evidently and
//! online-fdr, recomputed. `tests/golden/README.md` says what the files hold.

mod calibration;
mod detectors;
mod drift;

use serde_json::Value;
use statistics::Error;
use statistics::calibration::{Binning, ece, in_the_large, slope_and_intercept, spiegelhalter};
use statistics::calibrators::{Calibrator, Method};
use statistics::drift::{
    EmptyBins, chi_square, count_into, hellinger, jensen_shannon, ks, psi, quantile_edges, total_variation,
    wasserstein,
};
use statistics::ranking::{auc, average_precision};
use statistics::scoring::{brier, log_loss};
use statistics::sequential::{Addis, Betting, LordPlusPlus, Saffron, bh, bh_adjusted, by, holm};

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn samples() -> Value {
    read(include_str!("samples.json"))
}

fn expected() -> Value {
    read(include_str!("expected.json"))
}

/// The numbers of a list; missing ones and infinities are left out, as the libraries did.
fn finite(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().filter_map(Value::as_f64).collect()
}

fn counts(values: &Value) -> Vec<u64> {
    values.as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect()
}

fn bits(text: &Value) -> Vec<bool> {
    text.as_str().unwrap().chars().map(|bit| bit == '1').collect()
}

/// Relative where the expected number is not tiny.
fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    let scale = if expected == 0.0 { 1.0 } else { expected.abs() };
    assert!((found - expected).abs() <= tolerance * scale, "{what}: {found} where {expected} is expected");
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().unwrap().iter()
}

#[test]
fn kolmogorov_smirnov_and_wasserstein_are_those_of_scipy() {
    let (samples, expected) = (samples(), expected());
    let mut compared = 0;
    for (case, metrics) in object(&expected["univariate"]) {
        let pair = &samples["univariate"][case];
        let (reference, current) = (finite(&pair["ref"]), finite(&pair["cur"]));
        if current.is_empty() {
            let refusal = ks(&reference, &current).unwrap_err();
            assert_eq!(refusal, Error::TooFew { what: "values", needed: 1, found: 0 }, "{case}");
            continue;
        }
        let found = ks(&reference, &current).unwrap();
        assert_close(found.distance, metrics["scipy.ks_2samp.statistic"].as_f64().unwrap(), 1e-10, case);
        if let Some(p) = metrics["scipy.ks_2samp.p_asymp"].as_f64() {
            let asymptotic = found.p_value_effective(reference.len() as f64, current.len() as f64);
            assert_close(asymptotic, p, 1e-8, &format!("{case} asymptotic"));
        }
        if let Some(p) = metrics["scipy.ks_2samp.p_exact"].as_f64() {
            assert_close(found.p_value(), p, 1e-9, &format!("{case} exact"));
            compared += 1;
        }
        let moved = wasserstein(&reference, &current).unwrap();
        assert_close(moved, metrics["scipy.wasserstein_distance"].as_f64().unwrap(), 1e-10, case);
    }
    assert!(compared >= 15, "{compared} exact p-values compared");
}

#[test]
fn psi_over_deciles_is_that_of_feature_engine() {
    const KEY: &str = "feature_engine.PSI(equal_frequency,10 bins,min_pct_empty=1e-4)";
    let (samples, expected) = (samples(), expected());
    let mut compared = 0;
    for (case, metrics) in object(&expected["univariate"]) {
        let Some(index) = metrics[KEY].as_f64() else { continue };
        let pair = &samples["univariate"][case];
        let (reference, current) = (finite(&pair["ref"]), finite(&pair["cur"]));
        let edges = quantile_edges(&reference, 10).unwrap();
        let ends = [f64::min, f64::max].map(|end| reference.iter().copied().reduce(end).unwrap());
        if edges.iter().any(|edge| ends.contains(edge)) {
            continue; // feature-engine drops such an edge, and with it what moved across it
        }
        let of = |values: &[f64]| count_into(&edges, values).unwrap();
        let found = psi(&of(&reference), &of(&current), EmptyBins::Floor(1e-4)).unwrap();
        assert_close(found, index, 1e-10, case);
        compared += 1;
    }
    assert!(compared >= 10, "{compared} indices compared");
}

#[test]
fn tests_and_distances_of_categories_are_those_of_scipy_and_evidently() {
    for (case, metrics) in object(&expected()["categorical"]) {
        let (reference, current) = (counts(&metrics["ref"]), counts(&metrics["cur"]));
        let test = chi_square(&reference, &current).unwrap();
        let number = |key: &str| metrics[key].as_f64().unwrap();
        let scipy = metrics["scipy.chi2_contingency.nocorr"].as_array().unwrap();
        assert_close(test.statistic, scipy[0].as_f64().unwrap(), 1e-10, case);
        assert_close(test.p_value, scipy[1].as_f64().unwrap(), 1e-8, case);
        assert_eq!(test.degrees as u64, scipy[2].as_u64().unwrap(), "{case}");
        let moved = total_variation(&reference, &current).unwrap().distance;
        assert_close(moved, number("scipy.tvd=cityblock/2"), 1e-10, case);
        let js = jensen_shannon(&reference, &current).unwrap();
        assert_close(js, number("scipy.jensenshannon.base2"), 1e-10, case);
        assert_close(hellinger(&reference, &current).unwrap(), number("evidently.hellinger"), 1e-10, case);
        let index = psi(&reference, &current, EmptyBins::Floor(1e-4)).unwrap();
        assert_close(index, number("evidently.psi"), 1e-10, case);
    }
}

#[test]
fn scores_and_rankings_are_those_of_scikit_learn() {
    let (samples, expected) = (samples(), expected());
    for (case, metrics) in object(&expected["probability"]) {
        let (y, p) = (bits(&samples["probability"][case]["y"]), finite(&samples["probability"][case]["p"]));
        let number = |key: &str| metrics[key].as_f64().unwrap();
        assert_close(log_loss(&p, &y).unwrap(), number("sklearn.log_loss(labels=[0,1])"), 1e-10, case);
        assert_close(brier(&p, &y).unwrap(), number("sklearn.brier"), 1e-10, case);
        match metrics["sklearn.roc_auc"].as_f64() {
            Some(area) => {
                assert_close(auc(&p, &y).unwrap().value, area, 1e-10, case);
                let precision = average_precision(&p, &y).unwrap();
                assert_close(precision, number("sklearn.average_precision"), 1e-10, case);
            }
            None => assert_eq!(auc(&p, &y).unwrap_err(), Error::OneClass, "{case}"),
        }
    }
}

#[test]
fn the_calibration_error_is_that_of_netcal() {
    let (samples, expected) = (samples(), expected());
    for (case, metrics) in object(&expected["probability"]) {
        let (y, p) = (bits(&samples["probability"][case]["y"]), finite(&samples["probability"][case]["p"]));
        for bins in [10, 15] {
            let netcal = metrics[format!("netcal.ECE{bins}")].as_f64().unwrap();
            let found = ece(&p, &y, Binning::EqualWidth(bins)).unwrap();
            assert!((found - netcal).abs() < 1e-10, "{case} {bins}: {found} {netcal}");
        }
    }
}

#[test]
fn slope_intercept_and_spiegelhalter_are_those_of_statsmodels_and_calzone() {
    let (samples, expected) = (samples(), expected());
    for (case, metrics) in object(&expected["probability"]) {
        let (y, p) = (bits(&samples["probability"][case]["y"]), finite(&samples["probability"][case]["p"]));
        let z = spiegelhalter(&p, &y).unwrap();
        assert!((0.0..=1.0).contains(&z.p_value), "{case}");
        if let Some(calzone) = metrics["calzone.spiegelhalter_z"][0].as_f64() {
            assert_close(z.z, calzone, 1e-10, case);
        }
        match case.as_str() {
            "single_class" => assert_eq!(slope_and_intercept(&p, &y).unwrap_err(), Error::OneClass),
            "perfect" => {
                assert_eq!(slope_and_intercept(&p, &y).unwrap_err(), Error::Separated { what: "slope" });
            }
            _ => {
                let fit = &metrics["statsmodels.calibration_slope_intercept"];
                let number = |key: &str| fit[key].as_f64().unwrap();
                let line = slope_and_intercept(&p, &y).unwrap();
                let level = in_the_large(&p, &y).unwrap();
                for (found, key) in [
                    (line.slope.value, "slope"),
                    (line.slope.standard_error, "se_slope"),
                    (line.intercept.value, "intercept"),
                    (line.intercept.standard_error, "se_intercept"),
                    (level.value, "intercept_slope1(calibration-in-the-large)"),
                    (level.standard_error, "se"),
                ] {
                    assert_close(found, number(key), 1e-6, &format!("{case} {key}"));
                }
            }
        }
    }
}

#[test]
fn platt_isotonic_and_beta_maps_are_those_of_scikit_learn_and_betacal() {
    let (samples, expected) = (samples(), expected());
    let grid: Vec<f64> = (0..21).map(|i| 0.01 + 0.98 * f64::from(i) / 20.0).collect();
    for (case, metrics) in object(&expected["probability"]) {
        let (y, p) = (bits(&samples["probability"][case]["y"]), finite(&samples["probability"][case]["p"]));
        let isotonic = Calibrator::fit(Method::Isotonic, &p, &y).unwrap();
        for (x, fitted) in grid.iter().zip(finite(&metrics["sklearn.isotonic.grid"])) {
            assert!((isotonic.apply(*x) - fitted).abs() < 1e-12, "{case} {x}: {}", isotonic.apply(*x));
        }
        let sigmoid = &metrics["sklearn._SigmoidCalibration(logit p)"];
        let (a, b) = (sigmoid["a"].as_f64().unwrap(), sigmoid["b"].as_f64().unwrap());
        let Ok(Calibrator::Platt { slope, intercept }) = Calibrator::fit(Method::Platt, &p, &y) else {
            panic!("{case} has a platt map");
        };
        assert!((slope + a).abs() < 1e-6 && (intercept + b).abs() < 1e-6, "{case}: {slope} {intercept}");
        // Elsewhere betacal clips at 2⁻⁵² or stops on a flat likelihood: its loss is above ours.
        if ["calibrated", "overconfident_T2", "underconfident_T0.5", "bias_logit+0.5", "small_50"]
            .contains(&case.as_str())
        {
            let beta = Calibrator::fit(Method::Beta, &p, &y).unwrap();
            for (x, fitted) in grid.iter().zip(finite(&metrics["betacal.abm.grid"])) {
                assert!((beta.apply(*x) - fitted).abs() < 1e-3, "{case} {x}: {} {fitted}", beta.apply(*x));
            }
        }
    }
}

#[test]
fn false_discovery_control_is_that_of_scipy_and_statsmodels() {
    let fdr = &expected()["fdr"];
    let p = finite(&fdr["p"]);
    for (found, scipy) in
        bh_adjusted(&p).unwrap().iter().zip(finite(&fdr["scipy.false_discovery_control.bh"]))
    {
        assert_close(*found, scipy, 1e-11, "bh");
    }
    let rejected: Vec<Value> = bh(&p, 0.05).unwrap().into_iter().map(Value::from).collect();
    assert_eq!(&Value::from(rejected), &fdr["statsmodels.fdr_bh"]["reject"]);
    for (rejected, golden) in [(by(&p, 0.05), "statsmodels.fdr_by"), (holm(&p, 0.05), "statsmodels.holm")] {
        assert_eq!(&Value::from(rejected.unwrap()), &fdr[golden]["reject"], "{golden}");
    }
}

/// Levels and rejections of 200 p-values, one after the other.
fn assert_online(name: &str, mut test: impl FnMut(f64) -> (f64, bool)) {
    let expected = &expected()["online_fdr"];
    let (mut levels, mut rejected) = (vec![], vec![]);
    for (index, p) in finite(&expected["p"]).into_iter().enumerate() {
        let (level, rejects) = test(p);
        levels.push(level);
        if rejects {
            rejected.push(Value::from(index));
        }
    }
    let golden = &expected[name];
    assert_eq!(Value::from(rejected), golden["rejected_idx"], "{name}");
    for (found, expected) in levels.iter().zip(finite(&golden["first_20_levels"])) {
        assert_close(*found, expected, 1e-9, name);
    }
    assert_close(levels[199], golden["last_level"].as_f64().unwrap(), 1e-9, name);
}

#[test]
fn online_false_discovery_control_is_that_of_online_fdr() {
    let mut lord = LordPlusPlus::new(0.05, 0.005).unwrap();
    assert_online("LORD++(alpha=.05,w0=.005)", |p| (lord.level(), lord.test(p).unwrap()));
    let mut saffron = Saffron::new(0.05, 0.0125, 0.5).unwrap();
    assert_online("SAFFRON(alpha=.05,w0=.0125,lambda=.5)", |p| (saffron.level(), saffron.test(p).unwrap()));
    let mut addis = Addis::new(0.05, 0.00625, 0.25, 0.5).unwrap();
    assert_online("ADDIS(.05,.00625,lambda=.25,tau=.5)", |p| (addis.level(), addis.test(p).unwrap()));
}

#[test]
fn a_betting_process_has_the_wealth_of_online_fdr() {
    let (samples, expected) = (samples(), expected());
    for (case, processes) in object(&expected["stream"]) {
        if !case.starts_with("bern") {
            continue;
        }
        let stream = bits(&samples["stream"][case]);
        for (name, golden) in object(processes).filter(|(name, _)| name.starts_with("online_fdr")) {
            // "online_fdr.BettingEProcess(stake=0.5, score=x-0.2)"
            let numbers: Vec<f64> = name
                .split(['=', ',', ')'])
                .filter_map(|part| part.trim_start_matches("x-").parse().ok())
                .collect();
            let mut betting = Betting::with_bets(numbers[1], vec![numbers[0]]).unwrap();
            for (index, &bit) in stream.iter().enumerate() {
                betting.observe(f64::from(u8::from(bit))).unwrap();
                if let Some(wealth) = golden["log_e_at"][(index + 1).to_string()].as_f64() {
                    assert_close(betting.log_e(), wealth, 1e-10, name);
                }
            }
        }
    }
}
