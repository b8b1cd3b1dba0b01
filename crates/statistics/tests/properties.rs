//! What must hold for any input: order of rows, exchange of sides, change of unit.

use proptest::prelude::*;
use statistics::calibration::{Binning, ece, reliability};
use statistics::calibrators::{Calibrator, Method};
use statistics::drift::{
    chi_square, effective_sample_size, hellinger, jensen_shannon, ks, psi_q10, range_exceedance,
    total_variation, wasserstein,
};
use statistics::ranking::{auc, average_precision};
use statistics::sequential::{bh, e_bh, e_from_p};

/// Few distinct values, so that ties are common.
fn values() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec((-8i8..8).prop_map(|v| f64::from(v) / 4.0), 1..60)
}

fn any_values() -> impl Strategy<Value = Vec<f64>> {
    let any = prop::num::f64::ANY.prop_map(|v| if v.is_nan() { 0.0 } else { v });
    prop::collection::vec(any, 1..40)
}

fn counts() -> impl Strategy<Value = (Vec<u64>, Vec<u64>)> {
    prop::collection::vec((0u64..50, 0u64..50), 1..12)
        .prop_map(|pairs| pairs.into_iter().unzip())
        .prop_filter("both windows hold a row", |(r, c): &(Vec<u64>, Vec<u64>)| {
            r.iter().sum::<u64>() > 0 && c.iter().sum::<u64>() > 0
        })
}

fn forecasts() -> impl Strategy<Value = (Vec<f64>, Vec<bool>)> {
    prop::collection::vec((0u8..=20, any::<bool>()), 2..80)
        .prop_map(|rows| rows.into_iter().map(|(p, y)| (f64::from(p) / 20.0, y)).unzip())
        .prop_filter("both classes", |(_, y): &(Vec<f64>, Vec<bool>)| y.contains(&true) && y.contains(&false))
}

fn reversed<T: Clone>(values: &[T]) -> Vec<T> {
    values.iter().rev().cloned().collect()
}

proptest! {
    #[test]
    fn the_ks_distance_is_symmetric_and_blind_to_order_and_unit(a in values(), b in values()) {
        let found = ks(&a, &b).unwrap();
        prop_assert_eq!(found, ks(&reversed(&a), &reversed(&b)).unwrap());
        prop_assert_eq!(found.distance, ks(&b, &a).unwrap().distance);
        for unit in [1e-300, 1e300] {
            let [a, b] = [&a, &b].map(|side| side.iter().map(|x| x * unit).collect::<Vec<_>>());
            let scaled = ks(&a, &b).unwrap();
            prop_assert_eq!(scaled.distance, found.distance);
            prop_assert_eq!(scaled.p_value(), found.p_value());
        }
        prop_assert_eq!(ks(&a, &a).unwrap().p_value(), 1.0);
    }

    #[test]
    fn any_numbers_at_all_have_a_distance_within_bounds(a in any_values(), b in any_values()) {
        let found = ks(&a, &b).unwrap();
        prop_assert!((0.0..=1.0).contains(&found.distance));
        prop_assert!((0.0..=1.0).contains(&found.p_value()));
        let interval = found.interval(0.95, a.len() as f64, b.len() as f64).unwrap();
        prop_assert!(interval.contains(found.distance));
        prop_assert!(psi_q10(&a, &b).unwrap() >= 0.0);
        if a.iter().chain(&b).all(|x| x.is_finite()) {
            prop_assert!(wasserstein(&a, &b).unwrap().is_finite());
            prop_assert!(effective_sample_size(&a).unwrap() >= 1.0);
        }
    }

    #[test]
    fn wasserstein_is_symmetric_and_grows_with_the_unit(a in values(), b in values()) {
        let found = wasserstein(&a, &b).unwrap();
        prop_assert!((found - wasserstein(&b, &a).unwrap()).abs() < 1e-12);
        let [a2, b2] = [&a, &b].map(|side| side.iter().map(|x| x * 2.0 + 1.0).collect::<Vec<_>>());
        prop_assert!((wasserstein(&a2, &b2).unwrap() - 2.0 * found).abs() < 1e-12);
        prop_assert_eq!(wasserstein(&a, &a).unwrap(), 0.0);
    }

    #[test]
    fn distances_of_counts_are_symmetric_bounded_and_blind_to_order((r, c) in counts()) {
        type Distance = fn(&[u64], &[u64]) -> f64;
        let distances: [Distance; 3] = [
            |r, c| total_variation(r, c).unwrap().distance,
            |r, c| jensen_shannon(r, c).unwrap(),
            |r, c| hellinger(r, c).unwrap(),
        ];
        for distance in distances {
            let found = distance(&r, &c);
            prop_assert!((0.0..=1.0).contains(&found));
            prop_assert!((found - distance(&c, &r)).abs() < 1e-9);
            prop_assert!((found - distance(&reversed(&r), &reversed(&c))).abs() < 1e-9);
            prop_assert_eq!(distance(&r, &r), 0.0);
        }
        let test = chi_square(&r, &c).unwrap();
        prop_assert!((0.0..=1.0).contains(&test.p_value));
        prop_assert!((test.statistic - chi_square(&c, &r).unwrap().statistic).abs() < 1e-9);
        let tv = total_variation(&r, &c).unwrap();
        prop_assert!(tv.interval(0.9, 50.0, 40.0).unwrap().contains(tv.distance));
    }

    #[test]
    fn rankings_are_blind_to_order_and_to_increasing_maps((p, y) in forecasts()) {
        let found = auc(&p, &y).unwrap();
        prop_assert_eq!(found, auc(&reversed(&p), &reversed(&y)).unwrap());
        let mapped: Vec<f64> = p.iter().map(|p| (p * 3.0).exp() * 1e200).collect();
        prop_assert_eq!(found, auc(&mapped, &y).unwrap());
        prop_assert!(found.interval.low <= found.value && found.value <= found.interval.high);
        let opposite: Vec<f64> = p.iter().map(|p| -p).collect();
        prop_assert!((found.value + auc(&opposite, &y).unwrap().value - 1.0).abs() < 1e-12);
        let precision = average_precision(&p, &y).unwrap();
        prop_assert!(precision > 0.0 && precision <= 1.0 + 1e-12);
    }

    #[test]
    fn calibration_bins_are_blind_to_order_and_hold_every_row((p, y) in forecasts(), bins in 1usize..20) {
        for binning in [Binning::EqualWidth(bins), Binning::EqualMass(bins)] {
            let error = ece(&p, &y, binning).unwrap();
            prop_assert!((error - ece(&reversed(&p), &reversed(&y), binning).unwrap()).abs() < 1e-12);
            let diagram = reliability(&p, &y, binning).unwrap();
            prop_assert_eq!(diagram.iter().map(|bin| bin.count).sum::<usize>(), p.len());
            let gap = |bin: &statistics::calibration::Bin| bin.count as f64 * (bin.rate - bin.forecast).abs();
            prop_assert!((diagram.iter().map(gap).sum::<f64>() / p.len() as f64 - error).abs() < 1e-12);
            prop_assert!(diagram.iter().all(|bin| bin.band.contains(bin.rate)));
        }
    }

    #[test]
    fn an_isotonic_map_never_falls_and_keeps_the_mean((p, y) in forecasts()) {
        let map = Calibrator::fit(Method::Isotonic, &p, &y).unwrap();
        let mut sorted = p.clone();
        sorted.sort_by(f64::total_cmp);
        prop_assert!(sorted.iter().map(|&p| map.apply(p)).is_sorted());
        let mean = p.iter().map(|&p| map.apply(p)).sum::<f64>() / p.len() as f64;
        let rate = y.iter().filter(|&&y| y).count() as f64 / y.len() as f64;
        prop_assert!((mean - rate).abs() < 1e-12);
    }

    #[test]
    fn discovery_control_rejects_more_with_more_evidence(p in prop::collection::vec(0.0f64..=1.0, 1..30)) {
        let rejected = bh(&p, 0.1).unwrap();
        for (i, j) in (0..p.len()).flat_map(|i| (0..p.len()).map(move |j| (i, j))) {
            prop_assert!(!(rejected[i] && p[j] <= p[i]) || rejected[j]);
        }
        let e: Vec<f64> = p.iter().map(|&p| e_from_p(p, 0.5).unwrap()).collect();
        // An e-value from a p-value is weaker evidence, so e-BH rejects no more.
        prop_assert!(e_bh(&e, 0.1).unwrap().iter().zip(&rejected).all(|(e, p)| !e || *p));
    }

    #[test]
    fn leaving_the_range_more_often_is_never_less_surprising(n in 1u64..500, m in 2u64..500, k in 0u64..500) {
        let k = k.min(m - 1);
        let more = range_exceedance(n, m, 0, k + 1).unwrap().p_above;
        prop_assert!(more <= range_exceedance(n, m, 0, k).unwrap().p_above);
    }
}
