//! Measures of calibration beyond those of `main.rs`, and performance without outcomes.

use statistics::calibration::{
    Binning, ace, brier_decomposition, hosmer_lemeshow, mce, smooth_ece, smooth_ece_at,
};
use statistics::estimated::{Metric, estimate};
use statistics::scoring::brier;
use statistics::{Generator, VennAbers};

use super::{assert_close, bits, expected, finite, object, samples};

#[test]
fn gaps_of_bins_are_those_of_netcal() {
    let (samples, expected) = (samples(), expected());
    for (case, metrics) in object(&expected["probability"]) {
        if case == "with_0_and_1" || case == "ties_11_levels" {
            continue; // netcal puts a forecast on an edge into the lower bin
        }
        let of = &samples["probability"][case];
        let (p, y) = (finite(&of["p"]), bits(&of["y"]));
        for bins in [10, 15] {
            let number = |name: &str| metrics[format!("netcal.{name}{bins}")].as_f64();
            let binning = Binning::EqualWidth(bins);
            if let (Some(average), Some(greatest)) = (number("ACE"), number("MCE")) {
                let found = (ace(&p, &y, binning).unwrap(), mce(&p, &y, binning).unwrap());
                assert!((found.0 - average).abs() < 1e-9, "{case} ACE{bins}: {} {average}", found.0);
                assert!((found.1 - greatest).abs() < 1e-9, "{case} MCE{bins}: {} {greatest}", found.1);
            }
        }
    }
}

#[test]
fn smooth_ece_is_that_of_relplot() {
    let (samples, expected) = (samples(), expected());
    let mut compared = 0;
    for (case, metrics) in object(&expected["probability"]) {
        if case == "with_0_and_1" {
            continue; // relplot reflects a forecast of exactly 0 or 1 only once, and so loses half of its weight
        }
        let of = &samples["probability"][case];
        let (p, y) = (finite(&of["p"]), bits(&of["y"]));
        if let Some(golden) = metrics["relplot.smECE_sigma0.05"].as_f64() {
            let found = smooth_ece_at(&p, &y, 0.05).unwrap();
            assert!((found - golden).abs() < 5e-3, "{case} at 0.05: {found} {golden}");
        }
        if let Some(golden) = metrics["relplot.smECE"]["smECE"].as_f64() {
            let found = smooth_ece(&p, &y).unwrap();
            assert!((found.value - golden).abs() < 5e-3, "{case}: {found:?} {golden}");
            compared += 1;
        }
    }
    assert!(compared >= 8, "{compared} compared");
}

#[test]
fn hosmer_lemeshow_is_that_of_calzone() {
    let (samples, expected) = (samples(), expected());
    let mut compared = 0;
    for (case, metrics) in object(&expected["probability"]) {
        let of = &samples["probability"][case];
        let (p, y) = (finite(&of["p"]), bits(&of["y"]));
        let golden = &metrics["calzone.hosmer_lemeshow.uniform10"];
        if let Some(statistic) = golden["chi2"].as_f64() {
            let found = hosmer_lemeshow(&p, &y, Binning::EqualWidth(10)).unwrap();
            if found.statistic == f64::MAX {
                continue; // the impossible happened; calzone lifts probabilities of 0 to 1e−6
            }
            assert_close(found.statistic, statistic, 1e-6, case);
            assert_eq!(found.degrees as u64, golden["bins"].as_u64().unwrap(), "{case}");
            let p_value = golden["p_df=bins(external validation)"].as_f64().unwrap();
            assert!((found.p_value - p_value).abs() < 1e-6, "{case}: {} {p_value}", found.p_value);
            compared += 1;
        }
    }
    assert!(compared >= 8, "{compared} compared");
}

#[test]
fn venn_abers_gives_the_pairs_of_venn_abers() {
    let (samples, expected) = (samples(), expected());
    let grid: Vec<f64> = (0..21).map(|i| 0.01 + 0.98 * f64::from(i) / 20.0).collect();
    let mut compared = 0;
    for (case, metrics) in object(&expected["probability"]) {
        let golden = &metrics["venn_abers.grid"];
        if golden["p0"].is_null() {
            continue;
        }
        let of = &samples["probability"][case];
        let fitted = VennAbers::fit(&finite(&of["p"]), &bits(&of["y"])).unwrap();
        let (low, high, merged) = (finite(&golden["p0"]), finite(&golden["p1"]), finite(&golden["p"]));
        for (place, &x) in grid.iter().enumerate() {
            let found = fitted.predict(x).unwrap();
            assert!((found.low - low[place]).abs() < 1e-9, "{case} {x}: {found:?} {}", low[place]);
            assert!((found.high - high[place]).abs() < 1e-9, "{case} {x}: {found:?} {}", high[place]);
            assert!((found.merged() - merged[place]).abs() < 1e-9, "{case} {x}");
            compared += 1;
        }
    }
    assert!(compared >= 100, "{compared} compared");
}

#[test]
fn performance_without_outcomes_is_that_of_nannyml() {
    let (samples, expected) = (samples(), expected());
    let mut generator = Generator::from_seed(1);
    for (case, metrics) in object(&expected["probability"]) {
        let golden = &metrics["nannyml.cbpe"];
        let p = finite(&samples["probability"][case]["p"]);
        if let Some(auc) = golden["roc_auc"].as_f64() {
            let found = estimate(Metric::Auc, &p, None, &mut generator).unwrap();
            // NannyML does not average over ties and rounds its counts to five places.
            let tolerance = if case == "ties_11_levels" || case == "with_0_and_1" { 2e-2 } else { 1e-4 };
            assert!((found.value - auc).abs() < tolerance, "{case}: {} {auc}", found.value);
        }
        if let Some(accuracy) = golden["accuracy"].as_f64() {
            let found = estimate(Metric::Accuracy(0.5), &p, None, &mut generator).unwrap();
            assert!((found.value - accuracy).abs() < 1e-9, "{case}: {} {accuracy}", found.value);
        }
    }
}

#[test]
fn the_parts_of_the_brier_score_add_up() {
    let samples = samples();
    for (case, of) in object(&samples["probability"]) {
        let (p, y) = (finite(&of["p"]), bits(&of["y"]));
        let parts = brier_decomposition(&p, &y, Binning::EqualMass(10)).unwrap();
        let sum = parts.reliability - parts.resolution + parts.uncertainty + parts.within;
        assert_close(sum, brier(&p, &y).unwrap(), 1e-12, case);
        assert!(parts.within.abs() < 0.05, "{case}: {parts:?}");
    }
}
