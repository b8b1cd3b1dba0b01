//! What must hold for any input of the two-sample tests, detectors, calibration measures and predictors.

use proptest::prelude::*;
use statistics::calibration::{
    Binning, ace, brier_decomposition, ece, hosmer_lemeshow, mce, smooth_ece, smooth_ece_at,
};
use statistics::conformal::SplitConformal;
use statistics::drift::{
    Reconstruction, Test, anderson_darling, cramer_von_mises, energy_distance, epps_singleton, g_test,
    kullback_leibler, l_infinity, mann_whitney, mmd_linear, two_proportions,
};
use statistics::estimated::{Metric, estimate};
use statistics::sequential::detectors::{Adwin, Cusum, Ddm, Eddm, HddmA, HddmW, Kswin, PageHinkley};
use statistics::sequential::{Addis, ConformalMartingale, Direction, LordPlusPlus, Saffron, bh, by, holm};
use statistics::{Error, Generator, VennAbers};

type TwoSample = fn(&[f64], &[f64]) -> Result<Test, Error>;
const RANK_TESTS: [TwoSample; 3] = [mann_whitney, cramer_von_mises, anderson_darling];

/// Few distinct values, so that ties are common.
fn values() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec((-8i8..8).prop_map(|v| f64::from(v) / 4.0), 5..60)
}

fn any_values() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(prop::num::f64::ANY, 0..40)
}

fn forecasts() -> impl Strategy<Value = (Vec<f64>, Vec<bool>)> {
    prop::collection::vec((0u8..=20, any::<bool>()), 1..60)
        .prop_map(|rows| rows.into_iter().map(|(p, y)| (f64::from(p) / 20.0, y)).unzip())
}

fn reversed<T: Clone>(values: &[T]) -> Vec<T> {
    values.iter().rev().cloned().collect()
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-9 * one.abs().max(other.abs()).max(1e-12)
}

fn sound(test: &Test) -> bool {
    test.statistic.is_finite() && (0.0..=1.0).contains(&test.p_value)
}

proptest! {
    #[test]
    fn rank_tests_are_blind_to_order_unit_and_sides(a in values(), b in values()) {
        for test in RANK_TESTS {
            let found = test(&a, &b).unwrap();
            prop_assert!(sound(&found), "{:?}", found);
            let turned = test(&reversed(&a), &reversed(&b)).unwrap();
            prop_assert!(close(found.p_value, turned.p_value));
            let exchanged = test(&b, &a).unwrap();
            prop_assert!(close(found.p_value, exchanged.p_value), "{:?} {:?}", found, exchanged);
            for unit in [2f64.powi(-900), 2f64.powi(900)] {
                let [a, b] = [&a, &b].map(|side| side.iter().map(|x| x * unit).collect::<Vec<_>>());
                prop_assert_eq!(test(&a, &b).unwrap(), found);
            }
        }
    }

    #[test]
    fn measures_of_shape_are_blind_to_order_and_sides(a in values(), b in values()) {
        let distance = energy_distance(&a, &b).unwrap();
        prop_assert!(close(distance, energy_distance(&reversed(&b), &reversed(&a)).unwrap()));
        prop_assert_eq!(energy_distance(&a, &reversed(&a)).unwrap(), 0.0);
        let found = epps_singleton(&a, &b).unwrap();
        prop_assert!(sound(&found), "{:?}", found);
        let turned = epps_singleton(&reversed(&b), &reversed(&a)).unwrap();
        prop_assert!((found.p_value - turned.p_value).abs() < 1e-4, "{:?} {:?}", found, turned);
    }

    #[test]
    fn no_numbers_at_all_make_a_test_panic_or_say_nan(a in any_values(), b in any_values()) {
        for test in RANK_TESTS.into_iter().chain([epps_singleton as TwoSample]) {
            if let Ok(found) = test(&a, &b) {
                prop_assert!(!found.statistic.is_nan() && (0.0..=1.0).contains(&found.p_value), "{:?}", found);
            }
        }
        if let Ok(distance) = energy_distance(&a, &b) {
            prop_assert!(distance >= 0.0 && distance.is_finite());
        }
    }

    #[test]
    fn category_measures_are_sound(pairs in prop::collection::vec((0u64..50, 0u64..50), 1..12)) {
        let (r, c): (Vec<u64>, Vec<u64>) = pairs.into_iter().unzip();
        let total = |counts: &[u64]| counts.iter().sum::<u64>();
        if total(&r) == 0 || total(&c) == 0 {
            prop_assert!(g_test(&r, &c).is_err());
            return Ok(());
        }
        let found = g_test(&r, &c).unwrap();
        prop_assert!(close(found.statistic, g_test(&c, &r).unwrap().statistic) && (0.0..=1.0).contains(&found.p_value));
        prop_assert!(g_test(&r, &r).unwrap().p_value > 1.0 - 1e-9);
        prop_assert!((0.0..=1.0).contains(&l_infinity(&r, &c).unwrap()));
        prop_assert!(kullback_leibler(&r, &c, 1e-4).unwrap() >= 0.0);
        prop_assert!(kullback_leibler(&r, &r, 1e-4).unwrap() < 1e-12);
        let share = two_proportions(r[0], total(&r), c[0], total(&c)).unwrap();
        let exchanged = two_proportions(c[0], total(&c), r[0], total(&r)).unwrap();
        prop_assert!(close(share.p_value, exchanged.p_value) && close(share.statistic, -exchanged.statistic));
    }

    #[test]
    fn rows_of_any_numbers_are_compared_or_refused(
        a in prop::collection::vec(prop::collection::vec(prop::num::f64::ANY, 2), 0..20),
        b in prop::collection::vec(prop::collection::vec(-1e3..1e3f64, 2), 0..20),
    ) {
        let mut generator = Generator::from_seed(1);
        if let Ok(found) = mmd_linear(&a, &b, &mut generator) {
            prop_assert!(!found.squared.is_nan() && (0.0..=1.0).contains(&found.p_value), "{:?}", found);
        }
        if let Ok(components) = Reconstruction::fit(&b, 0.65) {
            prop_assert!(components.error(&b).unwrap() >= 0.0);
        }
    }

    #[test]
    fn measures_of_calibration_are_sound_and_blind_to_order((p, y) in forecasts()) {
        let (turned_p, turned_y) = (reversed(&p), reversed(&y));
        for binning in [Binning::EqualWidth(10), Binning::EqualMass(5)] {
            let (mean, greatest) = (ace(&p, &y, binning).unwrap(), mce(&p, &y, binning).unwrap());
            prop_assert!(mean <= greatest + 1e-12 && ece(&p, &y, binning).unwrap() <= greatest + 1e-12);
            prop_assert!(close(mean, ace(&turned_p, &turned_y, binning).unwrap()));
            let parts = brier_decomposition(&p, &y, binning).unwrap();
            prop_assert!(parts.reliability >= 0.0 && parts.resolution >= 0.0 && parts.uncertainty >= 0.0);
            let test = hosmer_lemeshow(&p, &y, binning).unwrap();
            prop_assert!((0.0..=1.0).contains(&test.p_value) && test.statistic >= 0.0);
        }
        let smooth = smooth_ece_at(&p, &y, 0.1).unwrap();
        prop_assert!((0.0..=1.0 + 1e-9).contains(&smooth));
        prop_assert!(close(smooth, smooth_ece_at(&turned_p, &turned_y, 0.1).unwrap()));
        let found = smooth_ece(&p, &y).unwrap();
        prop_assert!((0.0..=1.0 + 1e-9).contains(&found.value) && found.width > 0.0);
    }

    #[test]
    fn predictors_with_guarantees_stay_within_bounds((p, y) in forecasts(), at in 0.0..=1.0f64) {
        let both = VennAbers::fit(&p, &y).unwrap().predict(at).unwrap();
        prop_assert!(both.low <= both.high + 1e-12 && (0.0..=1.0).contains(&both.low), "{:?}", both);
        prop_assert!((both.low..=both.high).contains(&both.merged()) || close(both.low, both.high));
        let conformal = SplitConformal::fit(&p, &y, 0.2).unwrap();
        let held = p.iter().zip(&y).filter(|&(&p, &label)| {
            let set = conformal.labels(p);
            if label { set.event } else { set.other }
        });
        prop_assert!(held.count() as f64 >= 0.8 * p.len() as f64 - 1e-9);
        let mut generator = Generator::from_seed(1);
        for metric in [Metric::Auc, Metric::Accuracy(0.5), Metric::Brier, Metric::LogLoss] {
            if let Ok(found) = estimate(metric, &p, None, &mut generator) {
                prop_assert!(found.band.contains(found.value) && found.value.is_finite(), "{:?}", found);
            }
        }
    }

    #[test]
    fn detectors_take_any_stream(stream in prop::collection::vec(prop::num::f64::ANY, 0..200)) {
        let mut generator = Generator::from_seed(1);
        let mut adwin = Adwin::new(0.002, 1).unwrap();
        let mut test = PageHinkley::new(0.005, 50.0, 0.9999, Direction::Both).unwrap();
        let mut kswin = Kswin::new(0.005, 20, 10).unwrap();
        let mut cusum = Cusum::new(0.0, 1.0, 0.5, 5.0).unwrap();
        let (mut a, mut w) = (HddmA::default(), HddmW::default());
        let (mut ddm, mut eddm) = (Ddm::default(), Eddm::default());
        let mut martingale = ConformalMartingale::default();
        for x in stream {
            let taken = [
                adwin.observe(x).is_ok(),
                test.observe(x).is_ok(),
                kswin.observe(x, &mut generator).is_ok(),
                cusum.observe(x).is_ok(),
            ];
            prop_assert_eq!(taken, [x.is_finite(); 4]);
            prop_assert_eq!(a.observe(x).is_ok(), (0.0..=1.0).contains(&x));
            prop_assert_eq!(w.observe(x).is_ok(), (0.0..=1.0).contains(&x));
            ddm.observe(x > 0.0);
            eddm.observe(x > 0.0);
            prop_assert_eq!(martingale.observe(x, &mut generator).is_ok(), !x.is_nan());
            prop_assert!(!martingale.log_wealth().is_nan());
        }
    }

    #[test]
    fn stricter_procedures_reject_no_more(p in prop::collection::vec(0.0..=1.0f64, 0..40)) {
        let (loose, dependent, family) = (bh(&p, 0.1).unwrap(), by(&p, 0.1).unwrap(), holm(&p, 0.1).unwrap());
        for test in 0..p.len() {
            prop_assert!(loose[test] || !dependent[test]);
            prop_assert!(loose[test] || !family[test]);
        }
        let mut lord = LordPlusPlus::new(0.05, 0.005).unwrap();
        let mut saffron = Saffron::new(0.05, 0.0125, 0.5).unwrap();
        let mut addis = Addis::new(0.05, 0.00625, 0.25, 0.5).unwrap();
        for p in p {
            let levels = [lord.level(), saffron.level(), addis.level()];
            prop_assert!(levels.iter().all(|level| (0.0..=1.0).contains(level)), "{:?}", levels);
            prop_assert_eq!(lord.test(p).unwrap(), p <= levels[0]);
            prop_assert_eq!(saffron.test(p).unwrap(), p <= levels[1]);
            prop_assert_eq!(addis.test(p).unwrap(), p <= levels[2]);
        }
    }
}
