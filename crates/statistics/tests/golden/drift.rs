//! Two-sample tests and distances beyond those of `main.rs`.

use serde_json::Value;
use statistics::Generator;
use statistics::drift::{
    Reconstruction, anderson_darling, cramer_von_mises, domain_classifier, energy_distance, epps_singleton,
    g_test, l_infinity, mann_whitney, mmd, mmd_linear, two_proportions,
};

use super::{assert_close, counts, expected, finite, object, samples};

fn pair(value: &Value) -> Option<(f64, f64)> {
    Some((value[0].as_f64()?, value[1].as_f64()?))
}

#[test]
fn rank_tests_are_those_of_scipy() {
    let (samples, expected) = (samples(), expected());
    let mut compared = [0; 3];
    for (case, metrics) in object(&expected["univariate"]) {
        let of = &samples["univariate"][case];
        let (reference, current) = (finite(&of["ref"]), finite(&of["cur"]));
        let constant = reference.iter().chain(&current).all(|value| *value == reference[0]);
        if constant {
            continue; // scipy's numbers are no answer there; ours is p = 1
        }
        if let Some((statistic, p)) = pair(&metrics["scipy.mannwhitneyu.two_sided_asymp"]) {
            let found = mann_whitney(&reference, &current).unwrap();
            assert_close(found.statistic, statistic, 1e-10, case);
            assert_close(found.p_value, p, 1e-8, &format!("{case} Mann–Whitney"));
            compared[0] += 1;
        }
        if let Some((statistic, p)) = pair(&metrics["scipy.cramervonmises_2samp.asymptotic"]) {
            let found = cramer_von_mises(&reference, &current).unwrap();
            assert_close(found.statistic, statistic, 1e-10, case);
            // Below, scipy's series ends in rounding errors.
            if p > 1e-6 {
                assert!((found.p_value - p).abs() < 1e-9, "{case} Cramér–von Mises: {} {p}", found.p_value);
            }
            compared[1] += 1;
        }
        if let Some(statistic) = metrics["scipy.anderson_ksamp.midrank.stat_norm"].as_f64() {
            let found = anderson_darling(&reference, &current).unwrap();
            assert_close(found.statistic, statistic, 1e-9, &format!("{case} Anderson–Darling"));
            let p = metrics["scipy.anderson_ksamp.midrank.p_interp"].as_f64().unwrap();
            assert_close(found.p_value, p, 1e-8, &format!("{case} Anderson–Darling"));
            compared[2] += 1;
        }
    }
    assert!(compared.iter().all(|&cases| cases >= 15), "{compared:?} compared");
}

#[test]
fn energy_and_characteristic_functions_are_those_of_scipy() {
    let (samples, expected) = (samples(), expected());
    let mut compared = 0;
    for (case, metrics) in object(&expected["univariate"]) {
        let of = &samples["univariate"][case];
        let (reference, current) = (finite(&of["ref"]), finite(&of["cur"]));
        if let Some(distance) = metrics["scipy.energy_distance"].as_f64() {
            assert_close(energy_distance(&reference, &current).unwrap(), distance, 1e-9, case);
        }
        // Where the covariance is singular, the rank is a matter of rounding.
        if let Some((statistic, p)) = pair(&metrics["scipy.epps_singleton_2samp"])
            && statistic < 1e6
        {
            let found = epps_singleton(&reference, &current).unwrap();
            assert_close(found.statistic, statistic, 1e-7, &format!("{case} Epps–Singleton"));
            assert_close(found.p_value, p, 1e-6, &format!("{case} Epps–Singleton"));
            compared += 1;
        }
    }
    assert!(compared >= 12, "{compared} compared");
}

#[test]
fn category_tests_are_those_of_scipy_and_evidently() {
    let mut shares = 0;
    for (case, metrics) in object(&expected()["categorical"]) {
        let (reference, current) = (counts(&metrics["ref"]), counts(&metrics["cur"]));
        if let Some((statistic, p)) = pair(&metrics["scipy.g_test.nocorr"]) {
            let found = g_test(&reference, &current).unwrap();
            assert_close(found.statistic, statistic, 1e-9, case);
            assert_close(found.p_value, p, 1e-8, case);
        }
        let greatest = metrics["scipy.linf=chebyshev"].as_f64().unwrap();
        assert_close(l_infinity(&reference, &current).unwrap(), greatest, 1e-10, case);
        if let (Some(p), 2) = (metrics["evidently.z"].as_f64(), reference.len()) {
            let trials = |counts: &[u64]| counts.iter().sum::<u64>();
            let found =
                two_proportions(reference[1], trials(&reference), current[1], trials(&current)).unwrap();
            assert!((found.p_value - p).abs() < 1e-8, "{case}: {} {p}", found.p_value);
            shares += 1;
        }
    }
    assert!(shares >= 1);
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(finite).collect()
}

#[test]
fn multivariate_measures_are_those_of_frouros_and_nannyml() {
    let (samples, expected) = (samples(), expected());
    let reference = rows(&samples["multivariate"]["ref"]);
    let components = Reconstruction::fit(&reference, 0.65).unwrap();
    for (case, metrics) in object(&expected["multivariate"]) {
        let current = rows(&samples["multivariate"][case]);
        let error = components.error(&current).unwrap();
        assert_close(error, metrics["nannyml.pca"].as_f64().unwrap(), 1e-9, case);
        if case != "ref" {
            let squared = mmd(&reference[..300], &current[..300], 1.0).unwrap();
            assert!(
                (squared - metrics["frouros.mmd_300"].as_f64().unwrap()).abs() < 1e-10,
                "{case}: {squared}"
            );
        }
    }
}

#[test]
fn a_change_of_correlation_alone_is_told_from_none() {
    let samples = samples();
    let reference = rows(&samples["multivariate"]["ref"]);
    let mut generator = Generator::from_seed(11);
    let mut found = |case: &str| {
        let current = rows(&samples["multivariate"][case]);
        let domain = domain_classifier(&reference, &current, &mut generator).unwrap();
        (domain.interval, mmd_linear(&reference, &current, &mut generator).unwrap().p_value)
    };
    let ((null, null_p), (moved, _), (shifted, _)) = (found("null"), found("corr_only"), found("mean_a+0.3"));
    assert!(null.low < 0.5 && null_p > 0.01, "{null:?} {null_p}");
    assert!(moved.low > 0.6, "{moved:?}");
    assert!(shifted.low > 0.52, "{shifted:?}");
}
