//! Streaming detectors find what river's find, value by value.

use serde_json::Value;
use statistics::Generator;
use statistics::sequential::Direction;
use statistics::sequential::detectors::{Adwin, Ddm, Eddm, HddmA, HddmW, Kswin, PageHinkley, Signal};

use super::{bits, expected, finite, object, samples};

fn stream(case: &str) -> Vec<f64> {
    let samples = samples();
    match &samples["stream"][case] {
        Value::Null => finite(&samples["numeric_stream"][case]),
        coded => bits(coded).into_iter().map(|bit| f64::from(u8::from(bit))).collect(),
    }
}

/// The places of drift and of warnings.
fn found(stream: &[f64], mut observe: impl FnMut(f64) -> Signal) -> (Vec<usize>, Vec<usize>) {
    let (mut drift, mut warnings) = (vec![], vec![]);
    for (place, &x) in stream.iter().enumerate() {
        match observe(x) {
            Signal::Drift => drift.push(place),
            Signal::Warning => warnings.push(place),
            Signal::Stable => {}
        }
    }
    (drift, warnings)
}

fn assert_found(name: &str, mut detector: impl FnMut(&str, &[f64]) -> (Vec<usize>, Vec<usize>)) {
    let mut compared = 0;
    for (case, metrics) in object(&expected()["stream"]) {
        let golden = &metrics[name];
        if golden.is_null() {
            continue;
        }
        let (drift, warnings) = detector(case, &stream(case));
        assert_eq!(Value::from(drift), golden["detections"], "{name} on {case}");
        // river's EDDM leaves its warning up at the moment of drift.
        if let (Some(count), false) = (golden["n_warnings"].as_u64(), name.ends_with("EDDM")) {
            assert_eq!(warnings.len() as u64, count, "{name} on {case}");
        }
        compared += 1;
    }
    assert!(compared >= 2, "{name}: {compared} compared");
}

#[test]
fn adwin_cuts_where_rivers_does() {
    let run = |delta: f64, clock: u64| {
        move |_: &str, stream: &[f64]| {
            let mut adwin = Adwin::new(delta, clock).unwrap();
            found(stream, |x| adwin.observe(x).unwrap())
        }
    };
    assert_found("river.ADWIN(default)", run(0.002, 32));
    assert_found("river.ADWIN(delta=0.01,clock=1)", run(0.01, 1));
}

#[test]
fn page_hinkley_alarms_where_rivers_does() {
    let run = |delta, threshold, forgetting, direction| {
        move |_: &str, stream: &[f64]| {
            let mut test = PageHinkley::new(delta, threshold, forgetting, direction).unwrap();
            found(stream, |x| test.observe(x).unwrap())
        }
    };
    assert_found("river.PageHinkley(default)", run(0.005, 50.0, 1.0 - 0.0001, Direction::Both));
    assert_found(
        "river.PageHinkley(delta=0.1,threshold=20,alpha=1,up)",
        run(0.1, 20.0, 1.0, Direction::Rise),
    );
}

#[test]
fn kswin_alarms_where_rivers_does_when_it_need_not_draw() {
    let name =
        "river.KSWIN(alpha=0.005,window=60,stat=30) deterministic since the sample is the whole older half";
    assert_found(name, |_, stream| {
        let mut kswin = Kswin::new(0.005, 60, 30).unwrap();
        let mut generator = Generator::from_seed(1);
        found(stream, |x| kswin.observe(x, &mut generator).unwrap())
    });
}

#[test]
fn detectors_of_errors_alarm_and_warn_where_rivers_do() {
    assert_found("river.DDM", |_, stream| {
        let mut ddm = Ddm::default();
        found(stream, |x| ddm.observe(x == 1.0))
    });
    assert_found("river.HDDM_A", |_, stream| {
        let mut hddm = HddmA::default();
        found(stream, |x| hddm.observe(x).unwrap())
    });
    assert_found("river.HDDM_W", |_, stream| {
        let mut hddm = HddmW::default();
        found(stream, |x| hddm.observe(x).unwrap())
    });
    assert_found("river.EDDM", |_, stream| {
        let mut eddm = Eddm::default();
        found(stream, |x| eddm.observe(x == 1.0))
    });
}
