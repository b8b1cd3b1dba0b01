//! LightGBM's trees through our wrapper beside Python's: equal to the byte. Needs the feature `lightgbm`, and in
//! FORETIME_TEST_LIGHTGBM a Python that has `lightgbm`.
#![cfg(feature = "lightgbm")]

use std::path::Path;
use std::process::Command;

use boosting::lightgbm::{LightGbm, parameters};
use boosting::{Boosting, Error, Library, Recipe, Trees};
use domain::tabular::{Column, Table};
use serde_json::json;

/// A number in [0, 1) for each row and stream, the same on every run (SplitMix64).
fn noise(row: usize, stream: u64) -> f64 {
    let z = (row as u64 * 8 + stream + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 * (-53f64).exp2()
}

const CARRIERS: [&str; 5] = ["AA", "B6", "DL", "UA", "WN"];

/// The carrier's code, the delay (some missing) and one that says nothing; and what happened.
fn row(row: usize) -> ([f64; 3], f64) {
    let carrier = (noise(row, 2) * 5.0).floor();
    let delay = if row.is_multiple_of(17) { f64::NAN } else { noise(row, 1) };
    let risk = 0.1 + if delay > 0.5 { 0.5 } else { 0.0 } + if carrier == 1.0 { 0.25 } else { 0.0 };
    ([carrier, delay, noise(row, 4)], f64::from(u8::from(noise(row, 3) < risk)))
}

fn table(rows: std::ops::Range<usize>) -> (Table, Vec<f64>, Vec<f64>) {
    let drawn: Vec<_> = rows.clone().map(row).collect();
    let number = |at: usize| Column::Number(drawn.iter().map(|(x, _)| x[at]).collect());
    let carriers = drawn.iter().map(|(x, _)| Some(CARRIERS[x[0] as usize]));
    let columns = vec![
        ("delay".to_owned(), number(1)),
        ("carrier".to_owned(), Column::from_text(carriers)),
        ("noise".to_owned(), number(2)),
    ];
    let weights = rows.clone().map(|row| 0.5 + noise(row, 5)).collect();
    (Table::new(rows.len(), columns).unwrap(), drawn.iter().map(|(_, label)| *label).collect(), weights)
}

fn recipe() -> Recipe {
    let library = Library::Lightgbm;
    Recipe {
        library,
        iterations: 60,
        min_leaf_weight: 2.0,
        early_stopping_rounds: Some(8),
        ..Recipe::default()
    }
}

const TRAIN: usize = 3_000;
const ALL: usize = 4_000;

fn trained() -> LightGbm {
    let (train, labels, weights) = table(0..TRAIN);
    let (later, truth, judging) = table(TRAIN..ALL);
    LightGbm::train(&train, &labels, Some(&weights), Some((&later, &truth, Some(&judging))), &recipe())
        .unwrap()
}

fn floats(path: &Path) -> Vec<u64> {
    let bytes = std::fs::read(path).unwrap();
    bytes.chunks_exact(8).map(|eight| u64::from_ne_bytes(eight.try_into().unwrap())).collect()
}

#[test]
fn predictions_and_the_number_of_trees_are_those_of_pythons_lightgbm_to_the_byte() {
    let python =
        std::env::var("FORETIME_TEST_LIGHTGBM").expect("FORETIME_TEST_LIGHTGBM names a Python with lightgbm");
    let (model, folder) = (trained(), tempfile::tempdir().unwrap());
    let all = table(0..ALL);
    // columns in the order of their names: carrier, delay, noise
    let rows: Vec<[Option<f64>; 3]> =
        (0..ALL).map(|at| row(at).0.map(|x| (!x.is_nan()).then_some(x))).collect();
    let asked = json!({
        "rows": rows, "labels": all.1, "weights": all.2, "later": (0..ALL).map(|at| at >= TRAIN).collect::<Vec<_>>(),
        "parameters": parameters(&recipe(), &[0]), "iterations": 60, "patience": 8,
    });
    std::fs::write(folder.path().join("rows.json"), asked.to_string()).unwrap();
    std::fs::write(folder.path().join("model.txt"), model.text()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lightgbm_peer.py");
    let output = Command::new(python).args([Path::new(script), folder.path()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs: usize = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    assert_eq!(model.trees(), theirs, "early stopping keeps as many trees");
    let ours: Vec<u64> = model.predict(&all.0).unwrap().into_iter().map(f64::to_bits).collect();
    assert!(ours == floats(&folder.path().join("scores")), "Python trained other trees");
    assert!(ours == floats(&folder.path().join("scores_of_text")), "Python reads our text otherwise");
}

#[test]
fn a_model_repeats_itself_comes_back_from_its_file_and_an_altered_file_is_refused() {
    let (model, again, (all, ..)) = (trained(), trained(), table(0..ALL));
    assert_eq!(model.text(), again.text());
    let read = LightGbm::from_json(&model.to_json().unwrap()).unwrap();
    assert_eq!(read.predict(&all).unwrap(), model.predict(&all).unwrap());
    let importance = model.importance();
    assert_eq!(importance[0].0, "delay");
    assert!((importance.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-9);
    let text = model.to_json().unwrap();
    assert!(matches!(
        LightGbm::from_json(&text.replace("\"format\":1", "\"format\":7")),
        Err(Error::UnknownFormat { .. })
    ));
    let fewer = text.replacen("{\"name\":\"noise\",\"kind\":\"number\"}", "", 1).replace(",]", "]");
    assert!(LightGbm::from_json(&fewer).unwrap_err().to_string().contains("3 columns"));
}

#[test]
fn a_recipe_says_whose_trees_grow_and_a_file_whose_they_are() {
    let (train, labels, _) = table(0..TRAIN);
    let odds = |trees: &Trees| trees.predict(&train).unwrap();
    for library in [Library::Lightgbm, Library::Forust] {
        let recipe = Recipe { library, ..recipe() };
        let trees = Trees::train(&train, &labels, None, None, &recipe).unwrap();
        assert_eq!(matches!(trees, Trees::LightGbm(_)), library == Library::Lightgbm);
        let alone = match library {
            Library::Lightgbm => LightGbm::train(&train, &labels, None, None, &recipe).unwrap().to_json(),
            Library::Forust => Boosting::train(&train, &labels, None, None, &recipe).unwrap().to_json(),
        };
        assert_eq!(trees.to_json().unwrap(), alone.unwrap());
        let read = Trees::from_json(&trees.to_json().unwrap()).unwrap();
        assert_eq!((odds(&read), read.importance()), (odds(&trees), trees.importance()));
    }
}

#[test]
fn what_lightgbm_does_not_check_is_refused_before_it_is_asked() {
    let (train, labels, weights) = table(0..200);
    let refusal = |labels: &[f64], weights: Option<&[f64]>| {
        LightGbm::train(&train, labels, weights, None, &recipe()).unwrap_err()
    };
    let with = |values: &[f64], value: f64| {
        let mut values = values.to_vec();
        values[7] = value;
        values
    };
    assert!(matches!(refusal(&with(&labels, f64::NAN), None), Error::BadLabel { row: 7, .. }));
    assert!(matches!(refusal(&labels, Some(&with(&weights, -1.0))), Error::BadWeight { row: 7, .. }));
    assert!(matches!(refusal(&labels, Some(&with(&weights, f64::INFINITY))), Error::BadWeight { .. }));
    assert!(matches!(refusal(&labels, Some(&weights[1..])), Error::LengthMismatch { .. }));
    assert!(matches!(refusal(&vec![1.0; 200], None), Error::OneClass { label: 1 }));
    assert!(matches!(refusal(&labels[1..], None), Error::LengthMismatch { .. }));
    let narrow = Table::new(1, vec![("delay".into(), Column::Number(vec![0.5]))]).unwrap();
    assert!(matches!(trained().predict(&narrow), Err(Error::MissingColumn { .. })));
}
